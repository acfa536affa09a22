//! How often somebody may try: an allowance that a try uses up and time fills again (GCRA, the "leaky bucket" of
//! telephone networks). One moment is all there is to remember of each.

/// An allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Tries at once, when it is full.
    pub burst: u32,
    /// In which one try grows back.
    pub pause_ms: i64,
}

impl Allowance {
    /// Counts a try, where the allowance will be full again at `full_at_ms` (`None`: it is). Gives when it will be
    /// full after this try.
    ///
    /// # Errors
    /// How long to wait until a try is there, in milliseconds.
    pub fn count(self, full_at_ms: Option<i64>, now_ms: i64) -> Result<i64, i64> {
        let whole_ms = self.pause_ms.saturating_mul(i64::from(self.burst));
        let latest_ms = now_ms.saturating_add(whole_ms);
        // Never further away than an empty allowance takes: a clock that was set back must not lock people out.
        let full_at_ms = full_at_ms.unwrap_or(now_ms).clamp(now_ms, latest_ms).saturating_add(self.pause_ms);
        match full_at_ms - latest_ms {
            ..=0 => Ok(full_at_ms),
            wait_ms => Err(wait_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance { burst: 3, pause_ms: 1_000 };

    #[test]
    fn a_burst_passes_and_then_one_try_a_pause() {
        let mut full_at_ms = None;
        for _ in 0..3 {
            full_at_ms = Some(ALLOWANCE.count(full_at_ms, 10_000).expect("within the burst"));
        }
        assert_eq!(ALLOWANCE.count(full_at_ms, 10_000), Err(1_000));
        assert_eq!(ALLOWANCE.count(full_at_ms, 10_999), Err(1));
        let later = ALLOWANCE.count(full_at_ms, 11_000).expect("one grew back");
        assert_eq!(ALLOWANCE.count(Some(later), 11_000), Err(1_000));
        assert_eq!(ALLOWANCE.count(Some(later), 1_000_000), Ok(1_001_000), "full again");
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_a_pause() {
        assert_eq!(ALLOWANCE.count(Some(i64::MAX), 0), Err(1_000));
        assert_eq!(ALLOWANCE.count(Some(i64::MIN), 0), Ok(1_000));
        assert!(ALLOWANCE.count(Some(i64::MAX), i64::MAX).is_ok());
    }
}
