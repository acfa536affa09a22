//! Moments as pages show them: for machines, for people, and how far away.

use crate::domain::expiry::{relative, rfc3339};

/// A moment: for machines, for people without JavaScript, and how far away.
pub struct Moment {
    /// UTC.
    pub rfc3339: String,
    /// `2027-01-31 10:00 UTC`; the page's script puts it in the reader's zone.
    pub utc: String,
    /// `in 3 days`.
    pub relative: String,
    /// Already over.
    pub is_past: bool,
}

impl Moment {
    /// Of a time as seen now.
    pub fn of(at_ms: i64, now_ms: i64) -> Self {
        Self {
            rfc3339: rfc3339(at_ms),
            utc: format!("{} UTC", minutes_utc(at_ms).replacen('T', " ", 1)),
            relative: relative(at_ms, now_ms),
            is_past: at_ms <= now_ms,
        }
    }
}

/// `2027-01-31T10:00` in UTC: what a `datetime-local` input holds.
pub fn minutes_utc(at_ms: i64) -> String {
    rfc3339(at_ms).chars().take(16).collect()
}
