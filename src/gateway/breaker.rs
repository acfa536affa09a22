//! A circuit breaker per upstream: after failures in a row it is left alone for a while, then tried by one call.
//! `Circuit` is pure, with the time given; `Breakers` keeps one per upstream in this process's memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open a circuit.
const FAILURES_MAX: u32 = 5;
/// How long an upstream is left alone before one call tries it.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// The state of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circuit {
    Closed { failures: u32 },
    Open { since: Instant },
    HalfOpen { probing: bool },
}

impl Circuit {
    /// Whether a call may go through at `now`; from a half-open circuit only one at a time may.
    fn admit(&mut self, now: Instant) -> bool {
        match *self {
            Self::Closed { .. } => true,
            Self::Open { since } if now.duration_since(since) < COOL_DOWN => false,
            Self::HalfOpen { probing: true } => false,
            Self::Open { .. } | Self::HalfOpen { probing: false } => {
                *self = Self::HalfOpen { probing: true };
                true
            }
        }
    }

    fn succeed(&mut self) {
        *self = Self::Closed { failures: 0 };
    }

    fn fail(&mut self, now: Instant) {
        *self = match *self {
            Self::Closed { failures } if failures + 1 < FAILURES_MAX => {
                Self::Closed { failures: failures + 1 }
            }
            // Calls admitted before it opened may still fail: that must not prolong it for ever.
            Self::Open { since } => Self::Open { since },
            Self::Closed { .. } | Self::HalfOpen { .. } => Self::Open { since: now },
        };
    }

    /// The call ended without a verdict: its caller left.
    fn abandon(&mut self) {
        if let Self::HalfOpen { probing } = self {
            *probing = false;
        }
    }
}

/// The circuits of all upstreams, by id; shared by all workers. As many entries as there were upstreams.
#[derive(Clone, Default)]
pub struct Breakers(Arc<Mutex<HashMap<i64, Circuit>>>);

impl Breakers {
    /// Lets a call through to an upstream, or not.
    pub fn admit(&self, upstream_id: i64) -> Option<Attempt> {
        self.with(upstream_id, |circuit| circuit.admit(Instant::now())).then(|| Attempt {
            breakers: self.clone(),
            upstream_id,
            judged: false,
        })
    }

    fn with<T>(&self, upstream_id: i64, act: impl FnOnce(&mut Circuit) -> T) -> T {
        // A panic between two assignments of a Copy value cannot leave it half-changed.
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(circuits.entry(upstream_id).or_insert(Circuit::Closed { failures: 0 }))
    }
}

/// A call that was let through; says how it went, or by being dropped that nobody knows.
pub struct Attempt {
    breakers: Breakers,
    upstream_id: i64,
    judged: bool,
}

impl Attempt {
    /// The upstream answers.
    pub fn succeeded(mut self) {
        self.judged = true;
        self.breakers.with(self.upstream_id, Circuit::succeed);
    }

    /// The upstream could not be reached, did not answer in time, or failed.
    pub fn failed(mut self) {
        self.judged = true;
        let opened = self.breakers.with(self.upstream_id, |circuit| {
            let before = *circuit;
            circuit.fail(Instant::now());
            *circuit != before && matches!(circuit, Circuit::Open { .. })
        });
        if opened {
            tracing::warn!(
                upstream.id = self.upstream_id,
                "an upstream keeps failing; leaving it alone for a while"
            );
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.judged {
            self.breakers.with(self.upstream_id, Circuit::abandon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::Closed { failures: 0 };
        for _ in 0..FAILURES_MAX {
            assert!(circuit.admit(now));
            circuit.fail(now);
        }
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        assert!(!opened(now).admit(now));
        let mut circuit = Circuit::Closed { failures: FAILURES_MAX - 1 };
        circuit.succeed();
        circuit.fail(now);
        assert!(circuit.admit(now));
    }

    #[test]
    fn after_the_cool_down_one_call_probes() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + COOL_DOWN;
        assert!(circuit.admit(later));
        assert!(!circuit.admit(later));
        circuit.fail(later);
        assert!(!circuit.admit(later));
        assert!(circuit.admit(later + COOL_DOWN));
        circuit.succeed();
        assert!(circuit.admit(later + COOL_DOWN));
        assert!(circuit.admit(later + COOL_DOWN));
    }

    #[test]
    fn a_probe_whose_caller_left_makes_room_for_the_next() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + COOL_DOWN;
        assert!(circuit.admit(later));
        circuit.abandon();
        assert!(circuit.admit(later));
    }

    #[test]
    fn a_late_failure_does_not_prolong_an_open_circuit() {
        let now = Instant::now();
        let mut circuit = opened(now);
        circuit.fail(now + COOL_DOWN / 2);
        assert!(circuit.admit(now + COOL_DOWN));
    }

    #[test]
    fn a_dropped_attempt_is_no_verdict() {
        let breakers = Breakers::default();
        for _ in 0..FAILURES_MAX * 2 {
            drop(breakers.admit(1));
        }
        for _ in 0..FAILURES_MAX {
            breakers.admit(1).expect("closed").failed();
        }
        assert!(breakers.admit(1).is_none());
        assert!(breakers.admit(2).is_some());
    }
}
