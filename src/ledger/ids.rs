//! Charge ids: 63 bits that rise with time, so that the newest charge is the last row of the table and its indexes.

use std::sync::atomic::{AtomicI64, Ordering};

/// 2026-01-01T00:00:00Z; 41 bits of milliseconds from here last until 2095.
const EPOCH_MS: i64 = 1_767_225_600_000;
const INSTANCE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;

/// Makes ids: milliseconds, then the instance, then a sequence within the millisecond.
pub struct ChargeIds {
    instance: i64,
    /// Milliseconds and sequence of the last id, side by side.
    last: AtomicI64,
}

impl ChargeIds {
    /// For a registered instance; two alive at once differ in their last ten bits unless a thousand others were
    /// started between them, and then the primary key refuses the second charge.
    pub const fn new(instance_id: i64) -> Self {
        Self { instance: instance_id & ((1 << INSTANCE_BITS) - 1), last: AtomicI64::new(0) }
    }

    /// An id greater than all before it, also when the clock steps back or 4 096 are made in one millisecond.
    pub fn next(&self, now_ms: i64) -> i64 {
        let floor = (now_ms - EPOCH_MS).max(0) << SEQUENCE_BITS;
        let step = |last: i64| floor.max(last + 1);
        // fetch_update gives the previous value; the new one is the same step taken again.
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(step(last)))
            .unwrap_or_else(|last| last);
        let stamp = step(previous);
        let (milliseconds, sequence) = (stamp >> SEQUENCE_BITS, stamp & ((1 << SEQUENCE_BITS) - 1));
        milliseconds << (INSTANCE_BITS + SEQUENCE_BITS) | self.instance << SEQUENCE_BITS | sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_whatever_the_clock_does() {
        let ids = ChargeIds::new(1025);
        let mut last = 0;
        for now_ms in [EPOCH_MS + 5, EPOCH_MS + 5, EPOCH_MS + 1, 0, EPOCH_MS + 6] {
            for _ in 0..5000 {
                let id = ids.next(now_ms);
                assert!(id > last);
                last = id;
            }
        }
    }

    #[test]
    fn two_instances_never_share_an_id() {
        let (one, other) = (ChargeIds::new(1), ChargeIds::new(2));
        let of_one: std::collections::HashSet<i64> = (0..10_000).map(|_| one.next(EPOCH_MS + 1)).collect();
        assert!((0..10_000).all(|_| !of_one.contains(&other.next(EPOCH_MS + 1))));
    }
}
