//! How often and how soon a call may be tried again. Pure, but for one atomic: what further tries may still cost.

use actix_web::http::header::HttpDate;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// What a further try costs, in fifths of a try: so five calls pay for one, and tries add a fifth of load at most.
const COST: i64 = 5;
/// At the start, so that a server with few calls fails over too.
const RESERVE: i64 = 10 * COST;
/// Most that is saved up: what an upstream that breaks down under many calls at once may take.
const SAVINGS_MAX: i64 = 100 * COST;
/// An upstream that asks for a longer rest gets this.
const REST_MAX: Duration = Duration::from_secs(60);

/// What all calls of this process may spend on further tries, at the same upstream or the next.
#[derive(Debug)]
pub struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(RESERVE))
    }
}

impl Budget {
    /// Notes a call's first try.
    pub fn deposit(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
            (saved < SAVINGS_MAX).then_some(saved + 1)
        });
    }

    /// Pays for a further try, or says that there is nothing left to pay with.
    pub fn spend(&self) -> bool {
        let paid = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
            (saved >= COST).then_some(saved - COST)
        });
        paid.is_ok()
    }
}

/// The rest that a `Retry-After` asks for, in seconds or until a date, at most a minute; `None` if it is neither.
pub fn rest(retry_after: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(retry_after).ok()?.trim();
    let rest = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = SystemTime::from(text.parse::<HttpDate>().ok()?);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(rest.min(REST_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_tries_add_a_fifth_of_load_at_most() {
        let budget = Budget::default();
        let calls = 10_000;
        let further = (0..calls)
            .filter(|_| {
                budget.deposit();
                budget.spend()
            })
            .count();
        assert_eq!(further, calls / 5 + 10);
        assert!(!budget.spend());
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let budget = Budget::default();
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!((0..1_000).filter(|_| budget.spend()).count(), 100);
    }

    #[test]
    fn a_rest_is_asked_for_in_seconds_or_until_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |text: &str| rest(text.as_bytes(), now).map(|rest| rest.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("86400"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("Sat, 06 Nov 2094 08:49:37 GMT"), Some(60));
        for text in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
