//! How an upstream fares: the state of its circuit breaker, and what is counted of its calls.

use std::ops::AddAssign;
use std::time::Duration;

/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 60 * 60 * 1000;

/// The beginning of the hour of a moment.
pub const fn hour_of(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(HOUR_MS)
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls go through; so many failed in a row.
    Closed {
        /// In a row.
        failures: u32,
    },
    /// One call tries whether it is back.
    HalfOpen,
    /// Left alone.
    Open,
}

/// What a server knows of an upstream at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Of the circuit breaker; `None`: not called since the server began.
    pub state: Option<State>,
    /// How long it still wants to be left alone.
    pub rest: Option<Duration>,
}

/// How a call to an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an answer that began after so long.
    Answered(Duration),
    /// With a 429.
    Busy,
    /// No connection was made.
    Unreachable,
    /// Nothing came in time.
    TimedOut,
    /// In the middle of the answer.
    BrokeOff,
    /// With a status that says that it failed.
    BadStatus,
    /// It does not like our secret.
    BadSecret,
    /// What is stored of it is no use.
    Unusable,
}

/// How many calls ended in each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "see End")]
pub struct Tally {
    pub answered: i64,
    pub busy: i64,
    pub unreachable: i64,
    pub timed_out: i64,
    pub broke_off: i64,
    pub bad_status: i64,
    pub bad_secret: i64,
    pub unusable: i64,
    /// Sum over those answered.
    pub latency_ms: i64,
}

impl Tally {
    /// Counts one call.
    pub fn count(&mut self, end: End) {
        let counter = match end {
            End::Answered(latency) => {
                self.latency_ms += i64::try_from(latency.as_millis()).unwrap_or(0);
                &mut self.answered
            }
            End::Busy => &mut self.busy,
            End::Unreachable => &mut self.unreachable,
            End::TimedOut => &mut self.timed_out,
            End::BrokeOff => &mut self.broke_off,
            End::BadStatus => &mut self.bad_status,
            End::BadSecret => &mut self.bad_secret,
            End::Unusable => &mut self.unusable,
        };
        *counter += 1;
    }

    /// Each kind of failure in words, with its count; those that happened.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, i64)> {
        [
            ("unreachable", self.unreachable),
            ("timed out", self.timed_out),
            ("broke off", self.broke_off),
            ("server error", self.bad_status),
            ("refused our secret", self.bad_secret),
            ("wrongly set up", self.unusable),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }

    /// Of any kind. Being busy is none.
    pub fn failed(&self) -> i64 {
        self.failures().map(|(_, count)| count).sum()
    }

    /// Until the answer began, on average.
    pub fn mean_latency_ms(&self) -> Option<i64> {
        (self.answered > 0).then(|| self.latency_ms / self.answered)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.busy += other.busy;
        self.unreachable += other.unreachable;
        self.timed_out += other.timed_out;
        self.broke_off += other.broke_off;
        self.bad_status += other.bad_status;
        self.bad_secret += other.bad_secret;
        self.unusable += other.unusable;
        self.latency_ms += other.latency_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up() {
        let mut tally = Tally::default();
        for end in [
            End::Answered(Duration::from_millis(100)),
            End::Answered(Duration::from_millis(301)),
            End::Busy,
            End::TimedOut,
            End::BadSecret,
            End::BadSecret,
        ] {
            tally.count(end);
        }
        let mut twice = tally;
        twice += tally;
        assert_eq!((twice.answered, twice.busy, twice.failed()), (4, 2, 6));
        assert_eq!(twice.mean_latency_ms(), Some(200));
        assert_eq!(tally.failures().collect::<Vec<_>>(), [("timed out", 1), ("refused our secret", 2)]);
        assert_eq!(Tally::default().mean_latency_ms(), None);
    }

    #[test]
    fn an_hour_begins_when_it_begins() {
        assert_eq!((hour_of(0), hour_of(HOUR_MS - 1), hour_of(HOUR_MS)), (0, 0, HOUR_MS));
    }
}
