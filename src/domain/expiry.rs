//! Moments in time as people type and read them: expiry dates in, RFC 3339 out.
//! A moment is UTC milliseconds since 1970 (`…_at_ms`); the clock itself is read elsewhere.

use super::Invalid;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// Milliseconds in a day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The last moment anyone may type: the end of the year 9999.
const EXPIRES_AT_MS_MAX: i64 = 253_402_300_799_999;

/// Parses an expiry date; blank means never.
///
/// Understands `2027-01-31` (through the end of that day, UTC), `2027-01-31T12:00` (UTC) and RFC 3339
/// with an offset. A moment in the past is refused, unless it is `unchanged`: the stored one, edited along.
///
/// # Errors
/// When it is none of those, in the past, or after the year 9999.
pub fn parse_expiry(raw: &str, now_ms: i64, unchanged: Option<i64>) -> Result<Option<i64>, Invalid> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Ok(None);
    }
    let at_ms = parse_moment(raw).ok_or(Invalid::new(
        "Enter a date such as 2027-01-31, or 2027-01-31T12:00:00Z; leave it blank for a permanent key.",
    ))?;
    if at_ms > EXPIRES_AT_MS_MAX {
        return Err(Invalid::new("Enter a date before the year 10000."));
    }
    if at_ms <= now_ms && unchanged != Some(at_ms) {
        return Err(Invalid::new("Enter a date in the future."));
    }
    Ok(Some(at_ms))
}

/// The beginning of a UTC day written `2027-01-31`, between 1970 and the year 9999.
pub fn day_at(raw: &str) -> Option<i64> {
    let day =
        Date::parse(raw.get(..10).filter(|_| raw.len() == 10)?, format_description!("[year]-[month]-[day]"));
    day.ok().map(|day| to_ms(day.midnight().assume_utc())).filter(|at_ms| *at_ms >= 0)
}

fn parse_moment(raw: &str) -> Option<i64> {
    if raw.len() > 40 {
        return None;
    }
    if let Ok(day) = Date::parse(raw, format_description!("[year]-[month]-[day]")) {
        return Some(to_ms(day.midnight().assume_utc()) + DAY_MS);
    }
    for format in [
        format_description!("[year]-[month]-[day]T[hour]:[minute]"),
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]"),
    ] {
        if let Ok(moment) = PrimitiveDateTime::parse(raw, format) {
            return Some(to_ms(moment.assume_utc()));
        }
    }
    OffsetDateTime::parse(raw, &Rfc3339).ok().map(to_ms)
}

fn to_ms(moment: OffsetDateTime) -> i64 {
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// A moment as RFC 3339 in UTC with milliseconds only where they are not zero; the form of every contract.
pub fn rfc3339(at_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| at_ms.to_string())
}

/// How far `at_ms` lies from `now_ms`, in the largest whole unit: `in 3 days`, `2 hours ago`, `just now`.
pub fn relative(at_ms: i64, now_ms: i64) -> String {
    let distance_s = at_ms.saturating_sub(now_ms).unsigned_abs() / 1000;
    let (count, unit) = match distance_s {
        0..60 => {
            return if at_ms > now_ms { "in under a minute".into() } else { "just now".into() };
        }
        60..3_600 => (distance_s / 60, "minute"),
        3_600..86_400 => (distance_s / 3_600, "hour"),
        86_400..5_184_000 => (distance_s / 86_400, "day"),
        5_184_000..63_072_000 => (distance_s / 2_592_000, "month"),
        _ => (distance_s / 31_536_000, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if at_ms > now_ms { format!("in {count} {unit}{plural}") } else { format!("{count} {unit}{plural} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000; // 2026-09-21T14:13:20Z

    #[test]
    fn blank_is_permanent() {
        assert_eq!(parse_expiry("  ", NOW_MS, None), Ok(None));
    }

    #[test]
    fn a_day_lasts_to_its_end() {
        let at = parse_expiry("2026-09-21", NOW_MS, None).expect("today").expect("a date");
        assert_eq!(rfc3339(at), "2026-09-22T00:00:00Z");
    }

    #[test]
    fn offsets_and_local_forms_are_understood() {
        let at = |raw| parse_expiry(raw, NOW_MS, None).expect(raw).expect(raw);
        assert_eq!(at("2027-01-31T12:00:00+02:00"), at("2027-01-31T10:00"));
        assert_eq!(at("2027-01-31T10:00:00Z"), at("2027-01-31T10:00"));
        assert_eq!(rfc3339(at("2027-01-31T10:00:00.250Z")), "2027-01-31T10:00:00.25Z");
    }

    #[test]
    fn the_past_is_refused_unless_it_was_there_before() {
        assert!(parse_expiry("2020-01-01", NOW_MS, None).is_err());
        let stored = parse_moment("2020-01-01");
        assert_eq!(parse_expiry("2020-01-01", NOW_MS, stored), Ok(stored));
    }

    #[test]
    fn nonsense_is_refused() {
        for raw in
            ["tomorrow", "2027-02-30", "31.01.2027", "2027-13-01", "99999-01-01", "0", &"9".repeat(1_000_000)]
        {
            assert!(parse_expiry(raw, NOW_MS, None).is_err());
        }
    }

    #[test]
    fn distances_read_as_people_say_them() {
        assert_eq!(relative(NOW_MS + 3 * DAY_MS, NOW_MS), "in 3 days");
        assert_eq!(relative(NOW_MS - 7_200_000, NOW_MS), "2 hours ago");
        assert_eq!(relative(NOW_MS - 61_000, NOW_MS), "1 minute ago");
        assert_eq!(relative(NOW_MS, NOW_MS), "just now");
    }
}
