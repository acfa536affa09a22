//! What the ledger counts of itself, for `/metrics`.

use super::{Outcome, Resolution, Resolved};
use crate::metrics::{Counter, Family, Gauge, Histogram, Registry, SHORT_S};
use std::time::Duration;

/// Commands of one transaction, at most `BATCH_MAX`.
const BATCH_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

type OutcomeLabel = [(&'static str, &'static str); 1];

/// Counted since the start of this instance; clones count the same.
#[derive(Clone)]
pub struct Figures {
    /// Commands sent and not yet taken by the writer.
    pub(super) waiting: Gauge,
    batch: Histogram,
    commit: Histogram,
    settled_micros: Counter,
    charges: Family<OutcomeLabel, Counter>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            waiting: Gauge::default(),
            batch: Histogram::new(BATCH_BOUNDS),
            commit: Histogram::new(SHORT_S),
            settled_micros: Counter::default(),
            charges: Family::default(),
        }
    }
}

impl Figures {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "ledger_waiting",
            "Commands that wait for the ledger's writer",
            self.waiting.clone(),
        );
        registry.register("ledger_batch_commands", "Commands committed together", self.batch.clone());
        registry.register("ledger_commit_seconds", "How long a commit took", self.commit.clone());
        registry.register(
            "settled_micros",
            "Micro-credits charged: a millionth of a credit each",
            self.settled_micros.clone(),
        );
        registry.register("charges", "Charges resolved, by how the call ended", self.charges.clone());
    }

    /// Notes a commit.
    pub(super) fn committed(&self, commands: usize, took: Duration) {
        self.batch.observe_count(commands);
        self.commit.observe(took);
    }

    /// Notes a charge that was resolved just now; only the writer's thread does.
    pub(super) fn resolved(&self, resolution: &Resolution, resolved: Resolved) {
        let Resolved::Now { settled_micros, .. } = resolved else { return };
        let outcome: Outcome = resolution.outcome;
        self.charges.get_or_create(&[("outcome", outcome.as_str())]).inc();
        self.settled_micros.inc_by(u64::try_from(settled_micros).unwrap_or(0));
    }
}
