//! The last day of an upstream, hour by hour: as bars, answered upwards and failed downwards, and as words and numbers.

use crate::dashboard::words::{count, grouped};
use crate::domain::expiry::rfc3339;
use crate::domain::health::{HOUR_MS, Tally, hour_of};
use crate::store::upstream_hours::UpstreamHour;

/// Hours shown.
pub const HOURS: i64 = 24;
/// Of a bar, in units of the drawing.
const BAR_STEP: i64 = 8;
/// Highest bar upwards; failures have the same room downwards.
const BAR_MAX: i64 = 24;

/// One hour.
pub struct Hour {
    /// `2027-01-31T14:00:00Z`
    pub rfc3339: String,
    /// `14:00`
    pub clock: String,
    /// Answered, the 429s too.
    pub answered: i64,
    /// Failed.
    pub failed: i64,
    /// `2 timed out, 1 unreachable`
    pub failures: String,
    /// `350 ms`; blank when nothing was answered.
    pub latency: String,
    /// Of the drawing: where the bar stands.
    pub x: i64,
    /// Of the drawing: how high it is.
    pub up: i64,
    /// Of the drawing: where its top is.
    pub top: i64,
    /// Of the drawing: how far it hangs down.
    pub down: i64,
}

/// The last day.
pub struct Day {
    /// Oldest first; the present one last.
    pub hours: Vec<Hour>,
    /// Whether there was any call.
    pub is_silent: bool,
    /// `1 234 answered`
    pub answered: String,
    /// `12 failed (0.9 %)`; blank when none did.
    pub failed: String,
    /// `350 ms on average`; blank when nothing was answered.
    pub latency: String,
    /// `12 times busy`; blank when never.
    pub busy: String,
    /// `8 timed out, 4 unreachable`
    pub failures: String,
}

impl Day {
    /// The first hour of the day that ends now.
    pub fn since_ms(now_ms: i64) -> i64 {
        hour_of(now_ms) - (HOURS - 1) * HOUR_MS
    }

    /// Of one upstream, from the hours of all.
    pub fn of(upstream_id: i64, all: &[UpstreamHour], now_ms: i64) -> Self {
        let since_ms = Self::since_ms(now_ms);
        let tally_of = |hour_ms: i64| {
            let mut tally = Tally::default();
            let its = all.iter().filter(|hour| hour.upstream_id == upstream_id && hour.hour_ms == hour_ms);
            its.for_each(|hour| tally += hour.tally);
            tally
        };
        let tallies: Vec<(i64, Tally)> = (0..HOURS)
            .map(|index| since_ms + index * HOUR_MS)
            .map(|hour_ms| (hour_ms, tally_of(hour_ms)))
            .collect();
        let highest = tallies.iter().map(|(_, tally)| answered(tally).max(tally.failed())).max().unwrap_or(0);
        let hours =
            (0..).zip(&tallies).map(|(index, (hour_ms, tally))| hour(index, *hour_ms, tally, highest));
        let mut whole = Tally::default();
        tallies.iter().for_each(|(_, tally)| whole += *tally);
        Self {
            hours: hours.collect(),
            is_silent: highest == 0,
            answered: format!("{} answered", grouped(answered(&whole))),
            failed: failed(&whole),
            latency: whole.mean_latency_ms().map(|ms| format!("{ms} ms on average")).unwrap_or_default(),
            busy: if whole.busy > 0 { format!("busy {}", count(whole.busy, "time")) } else { String::new() },
            failures: failures(&whole),
        }
    }

    /// For those who do not see the bars.
    pub fn in_words(&self) -> String {
        let parts = [&self.answered, &self.failed, &self.busy, &self.latency];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        format!("The last 24 hours: {}.", if self.is_silent { "no calls".into() } else { parts.join(", ") })
    }
}

fn answered(tally: &Tally) -> i64 {
    tally.answered + tally.busy
}

fn failed(whole: &Tally) -> String {
    let failed = whole.failed();
    if failed == 0 {
        return String::new();
    }
    let per_mille = failed * 1000 / (failed + answered(whole)).max(1);
    format!("{} failed ({}.{} %)", grouped(failed), per_mille / 10, per_mille % 10)
}

fn failures(tally: &Tally) -> String {
    tally.failures().map(|(kind, number)| format!("{number} {kind}")).collect::<Vec<_>>().join(", ")
}

fn hour(index: i64, hour_ms: i64, tally: &Tally, highest: i64) -> Hour {
    // What happened at all is seen.
    let height = |number: i64| match number {
        0 => 0,
        number => (number * BAR_MAX / highest.max(1)).max(1),
    };
    let rfc3339 = rfc3339(hour_ms);
    let up = height(answered(tally));
    Hour {
        clock: rfc3339.chars().skip(11).take(5).collect(),
        rfc3339,
        answered: answered(tally),
        failed: tally.failed(),
        failures: failures(tally),
        latency: tally.mean_latency_ms().map(|ms| format!("{ms} ms")).unwrap_or_default(),
        x: index * BAR_STEP,
        up,
        top: BAR_MAX - up,
        down: height(tally.failed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000; // 2026-09-21T14:13:20Z

    #[test]
    fn a_day_is_24_hours_that_add_up() {
        let hour = |hours_ago: i64, upstream_id, answered, timed_out| UpstreamHour {
            hour_ms: hour_of(NOW_MS) - hours_ago * HOUR_MS,
            upstream_id,
            tally: Tally { answered, timed_out, latency_ms: answered * 100, ..Tally::default() },
        };
        let all = [
            hour(0, 1, 1000, 0),
            hour(0, 1, 1000, 0),
            hour(23, 1, 1, 9),
            hour(24, 1, 5, 5),
            hour(1, 2, 7, 7),
        ];
        let day = Day::of(1, &all, NOW_MS);
        assert_eq!((day.hours.len(), day.hours[23].clock.as_str()), (24, "14:00"));
        assert_eq!((day.hours[23].up, day.hours[23].down), (BAR_MAX, 0));
        assert_eq!((day.hours[0].up, day.hours[0].down), (1, 1), "what happened at all is seen");
        assert_eq!(
            day.in_words(),
            "The last 24 hours: 2\u{202F}001 answered, 9 failed (0.4 %), 100 ms on average."
        );
        assert_eq!(day.hours[0].failures, "9 timed out");
        assert_eq!(Day::of(3, &all, NOW_MS).in_words(), "The last 24 hours: no calls.");
    }
}
