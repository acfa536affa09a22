//! A circuit breaker per upstream: after failures in a row it is left alone for a while, then tried by one call.
//! `Circuit` is pure, with the time given; `Breakers` keeps one per upstream in this process's memory, with the rest
//! that an upstream asked for, and counts how calls end: for `/metrics`, and by the hour until `tally` stores that.

use super::client::UpstreamError;
use super::figures::{UpstreamFigures, Upstreams};
use crate::clock::now_ms;
use crate::domain::health::{End, Now, State, Tally, hour_of};
use crate::store::upstream_hours::UpstreamHour;
use crate::store::upstreams::Upstream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

    /// The answer begins. That alone does not undo failures, or an upstream that always breaks off would never be
    /// left alone; but others may follow the call that probed.
    fn answer(&mut self) {
        if let Self::HalfOpen { .. } = self {
            *self = Self::Closed { failures: FAILURES_MAX - 1 };
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

    fn state(self) -> State {
        match self {
            Self::Closed { failures } => State::Closed { failures },
            Self::HalfOpen { .. } => State::HalfOpen,
            Self::Open { .. } => State::Open,
        }
    }

    /// The call ended without a verdict: its caller left.
    fn abandon(&mut self) {
        if let Self::HalfOpen { probing } = self {
            *probing = false;
        }
    }
}

/// What is known of one upstream.
struct Health {
    circuit: Circuit,
    /// When it asked to be left alone, and until when.
    rests: Option<(Instant, Instant)>,
    /// By which it is counted.
    name: String,
    figures: UpstreamFigures,
    /// Not stored yet: by the beginning of their hour, the present one last.
    tallies: Vec<(i64, Tally)>,
}

impl Health {
    fn count(&mut self, end: End) {
        let hour_ms = hour_of(now_ms());
        match self.tallies.last_mut() {
            Some((hour, tally)) if *hour == hour_ms => tally.count(end),
            _ => {
                let mut tally = Tally::default();
                tally.count(end);
                self.tallies.push((hour_ms, tally));
            }
        }
    }
}

/// The health of all upstreams, by id; shared by all workers. As many entries as there were upstreams.
#[derive(Clone)]
pub struct Breakers(Arc<Kept>);

struct Kept {
    healths: Mutex<HashMap<i64, Health>>,
    figures: Upstreams,
}

impl Breakers {
    /// Nothing is known yet; `figures` will count.
    pub fn new(figures: Upstreams) -> Self {
        Self(Arc::new(Kept { healths: Mutex::default(), figures }))
    }

    /// Lets a call through to an upstream, or not.
    pub fn admit(&self, upstream: &Upstream) -> Option<Attempt> {
        let mut healths = self.lock();
        let health = healths.entry(upstream.id).or_insert_with(|| Health {
            circuit: Circuit::Closed { failures: 0 },
            rests: None,
            name: upstream.name.clone(),
            figures: self.0.figures.of(upstream.id, &upstream.name),
            tallies: Vec::new(),
        });
        if health.name != upstream.name {
            self.0.figures.forget(upstream.id, &health.name);
            health.figures = self.0.figures.of(upstream.id, &upstream.name);
            health.name.clone_from(&upstream.name);
        }
        let admitted = health.circuit.admit(Instant::now());
        health.figures.set(health.circuit.state());
        let began = Instant::now();
        admitted.then(|| Attempt {
            breakers: self.clone(),
            upstream_id: upstream.id,
            judged: false,
            began,
            latency: None,
        })
    }

    /// What is known of an upstream at this moment.
    pub fn now(&self, upstream_id: i64) -> Now {
        let state = self.lock().get(&upstream_id).map(|health| health.circuit.state());
        Now { state, rest: self.rest(upstream_id) }
    }

    /// Takes what was counted since the last time.
    pub fn take_tallies(&self) -> Vec<UpstreamHour> {
        let mut healths = self.lock();
        let hours = healths.iter_mut().flat_map(|(id, health)| {
            health.tallies.drain(..).map(|(hour_ms, tally)| UpstreamHour { hour_ms, upstream_id: *id, tally })
        });
        hours.collect()
    }

    /// What was counted and not taken yet.
    pub fn tallies(&self) -> Vec<UpstreamHour> {
        let healths = self.lock();
        let hours = healths.iter().flat_map(|(id, health)| {
            let hour = |(hour_ms, tally): &(i64, Tally)| UpstreamHour {
                hour_ms: *hour_ms,
                upstream_id: *id,
                tally: *tally,
            };
            health.tallies.iter().map(hour)
        });
        hours.collect()
    }

    /// Gives back what was taken and could not be stored.
    pub fn give_back(&self, hours: &[UpstreamHour]) {
        let mut healths = self.lock();
        for hour in hours {
            let Some(health) = healths.get_mut(&hour.upstream_id) else { continue };
            match health.tallies.iter_mut().find(|(hour_ms, _)| *hour_ms == hour.hour_ms) {
                Some((_, tally)) => *tally += hour.tally,
                None => health.tallies.insert(0, (hour.hour_ms, hour.tally)),
            }
        }
    }

    /// How long an upstream still wants to be left alone.
    pub fn rest(&self, upstream_id: i64) -> Option<Duration> {
        let (_, until) = self.lock().get(&upstream_id)?.rests?;
        Some(until.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Health>> {
        // A panic between two assignments of Copy values cannot leave them half-changed.
        self.0.healths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, upstream_id: i64, act: impl FnOnce(&mut Health)) {
        if let Some(health) = self.lock().get_mut(&upstream_id) {
            act(health);
            health.figures.set(health.circuit.state());
        }
    }
}

/// How a call to an upstream failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Without an answer, or before its end.
    Error(UpstreamError),
    /// With a status that says so.
    Status,
    /// It does not like our secret.
    Secret,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(UpstreamError::Unreachable) => Self::Unreachable,
            Failure::Error(UpstreamError::TimedOut) => Self::TimedOut,
            Failure::Error(UpstreamError::BrokeOff | UpstreamError::TooLarge | UpstreamError::NoAnswer) => {
                Self::BrokeOff
            }
            Failure::Error(UpstreamError::Unusable | UpstreamError::Private) => Self::Unusable,
            Failure::Status => Self::BadStatus,
            Failure::Secret => Self::BadSecret,
        }
    }
}

/// A call that was let through; says how it went, or by being dropped that nobody knows.
pub struct Attempt {
    breakers: Breakers,
    upstream_id: i64,
    judged: bool,
    began: Instant,
    /// Until the answer began.
    latency: Option<Duration>,
}

impl Attempt {
    /// An answer begins to come.
    pub fn answered(&mut self) {
        self.latency = Some(self.began.elapsed());
        self.breakers.with(self.upstream_id, |health| health.circuit.answer());
    }

    /// The upstream answers.
    pub fn succeeded(self) {
        let latency = self.latency.unwrap_or_else(|| self.began.elapsed());
        self.works(End::Answered(latency));
    }

    /// The upstream answers that it has too much to do: busy is not broken.
    pub fn busy(self) {
        self.works(End::Busy);
    }

    fn works(mut self, end: End) {
        self.judged = true;
        let began = self.began;
        self.breakers.with(self.upstream_id, |health| {
            // A call that was under way when it asked says nothing of what comes behind.
            if matches!(end, End::Answered(_)) && health.rests.is_some_and(|(asked, _)| asked < began) {
                health.rests = None;
            }
            health.circuit.succeed();
            health.figures.succeeded();
            health.count(end);
        });
    }

    /// The upstream wants to be left alone for so long.
    pub fn rests(&self, rest: Option<Duration>) {
        if let Some(rest) = rest {
            let now = Instant::now();
            self.breakers.with(self.upstream_id, |health| health.rests = Some((now, now + rest)));
        }
    }

    /// The upstream could not be reached, did not answer in time, or failed.
    pub fn failed(mut self, failure: Failure) {
        self.judged = true;
        let upstream_id = self.upstream_id;
        self.breakers.with(upstream_id, |health| {
            let before = health.circuit;
            health.circuit.fail(Instant::now());
            health.figures.failed(failure);
            health.count(failure.into());
            if health.circuit != before && matches!(health.circuit, Circuit::Open { .. }) {
                health.figures.opened();
                tracing::warn!(
                    upstream.id = upstream_id,
                    "an upstream keeps failing; leaving it alone for a while"
                );
            }
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.judged {
            self.breakers.with(self.upstream_id, |health| health.circuit.abandon());
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

    fn upstream(id: i64) -> Upstream {
        Upstream {
            id,
            name: format!("upstream-{id}"),
            dialect: "openai".into(),
            base_url: "https://api.example.com/v1".into(),
            pace_ms: 0,
            enabled: true,
            allow_private: false,
            created_at_ms: 0,
        }
    }

    #[test]
    fn a_dropped_attempt_is_no_verdict() {
        let breakers = Breakers::new(Upstreams::default());
        let (one, other) = (upstream(1), upstream(2));
        for _ in 0..FAILURES_MAX * 2 {
            drop(breakers.admit(&one));
        }
        for _ in 0..FAILURES_MAX {
            breakers.admit(&one).expect("closed").failed(Failure::Status);
        }
        assert!(breakers.admit(&one).is_none());
        assert!(breakers.admit(&other).is_some());
    }

    #[test]
    fn answers_that_always_break_off_open_it_and_whole_ones_do_not() {
        let breakers = Breakers::new(Upstreams::default());
        let (one, other) = (upstream(1), upstream(2));
        for _ in 0..FAILURES_MAX {
            let mut attempt = breakers.admit(&one).expect("closed");
            attempt.answered();
            attempt.failed(Failure::Error(UpstreamError::BrokeOff));
            let mut attempt = breakers.admit(&other).expect("closed");
            attempt.answered();
            attempt.succeeded();
        }
        assert!(breakers.admit(&one).is_none());
        assert!(breakers.admit(&other).is_some());
    }

    #[test]
    fn what_is_counted_is_taken_once_and_may_be_given_back() {
        let breakers = Breakers::new(Upstreams::default());
        let one = upstream(1);
        breakers.admit(&one).expect("closed").succeeded();
        breakers.admit(&one).expect("closed").busy();
        breakers.admit(&one).expect("closed").failed(Failure::Secret);
        drop(breakers.admit(&one));
        let taken = breakers.take_tallies();
        let sum = |hours: &[UpstreamHour]| {
            let mut sum = Tally::default();
            hours.iter().for_each(|hour| sum += hour.tally);
            (sum.answered, sum.busy, sum.bad_secret)
        };
        assert_eq!(sum(&taken), (1, 1, 1));
        assert!(breakers.take_tallies().is_empty());
        breakers.admit(&one).expect("closed").succeeded();
        breakers.give_back(&taken);
        assert_eq!(sum(&breakers.tallies()), (2, 1, 1));
        assert_eq!(breakers.now(1).state, Some(State::Closed { failures: 0 }));
        assert_eq!(breakers.now(2).state, None);
    }

    #[test]
    fn a_probe_that_is_answered_lets_others_follow_and_one_that_breaks_off_ends_that() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + COOL_DOWN;
        assert!(circuit.admit(later));
        circuit.answer();
        assert!(circuit.admit(later));
        circuit.fail(later);
        assert!(!circuit.admit(later));
    }

    #[test]
    fn a_rest_is_kept_as_long_as_asked() {
        let breakers = Breakers::new(Upstreams::default());
        breakers.admit(&upstream(1)).expect("closed").rests(Some(Duration::from_secs(60)));
        assert!(breakers.rest(1).is_some_and(|rest| rest > Duration::from_secs(50)));
        breakers.admit(&upstream(1)).expect("closed").busy();
        assert!(breakers.rest(1).is_some());
        breakers.admit(&upstream(1)).expect("closed").rests(Some(Duration::ZERO));
        assert_eq!((breakers.rest(1), breakers.rest(2)), (None, None));
    }

    #[test]
    fn an_upstream_that_answers_again_rests_no_longer() {
        let breakers = Breakers::new(Upstreams::default());
        let under_way = breakers.admit(&upstream(1)).expect("closed");
        breakers.admit(&upstream(1)).expect("closed").rests(Some(Duration::from_secs(60)));
        under_way.succeeded();
        assert!(breakers.rest(1).is_some(), "it began before");
        std::thread::sleep(Duration::from_millis(1));
        breakers.admit(&upstream(1)).expect("closed").succeeded();
        assert_eq!(breakers.rest(1), None);
    }
}
