//! What the gateway counts of its calls, for `/metrics`: by route and by class of status, nothing of who called.

use super::breaker::Failure;
use super::client::UpstreamError;
use super::endpoint::Endpoint;
use crate::domain::health::State;
use crate::metrics::{CALL_S, Counter, Family, Gauge, Histogram, Registry};
use actix_web::http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// By hundreds: the first is 1xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

type RouteLabel = [(&'static str, &'static str); 1];
type AnswerLabels = [(&'static str, &'static str); 2];

/// Counted since the start of this instance; clones count the same.
#[derive(Clone)]
pub struct Figures {
    answers: Family<AnswerLabels, Counter>,
    first_byte: Family<RouteLabel, Histogram, fn() -> Histogram>,
    duration: Family<RouteLabel, Histogram, fn() -> Histogram>,
    open_streams: Gauge,
    /// Of each upstream.
    pub upstreams: Upstreams,
    /// Of tries beyond a call's first.
    pub tries: TryFigures,
}

impl Default for Figures {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(CALL_S);
        Self {
            answers: Family::default(),
            first_byte: Family::new_with_constructor(histogram),
            duration: Family::new_with_constructor(histogram),
            open_streams: Gauge::default(),
            upstreams: Upstreams::default(),
            tries: TryFigures::default(),
        }
    }
}

impl Figures {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Calls answered, by route and class of status", self.answers.clone());
        registry.register(
            "first_byte_seconds",
            "From the hold to the first byte of an upstream's answer",
            self.first_byte.clone(),
        );
        registry.register(
            "call_seconds",
            "From the hold to the end of the call, its stream included",
            self.duration.clone(),
        );
        registry.register("open_streams", "Streams on their way to callers", self.open_streams.clone());
        self.upstreams.register(registry);
        self.tries.register(registry);
    }

    /// Those of one route, looked up once: calls then touch atomics alone.
    pub fn of(&self, endpoint: Endpoint) -> RouteFigures {
        let route = ("route", endpoint.path());
        RouteFigures(Arc::new(OfRoute {
            answers: CLASSES.map(|class| self.answers.get_or_create_owned(&[route, ("status", class)])),
            first_byte: self.first_byte.get_or_create_owned(&[route]),
            duration: self.duration.get_or_create_owned(&[route]),
            open_streams: self.open_streams.clone(),
        }))
    }
}

/// What is counted of one route.
#[derive(Clone)]
pub struct RouteFigures(Arc<OfRoute>);

struct OfRoute {
    answers: [Counter; CLASSES.len()],
    first_byte: Histogram,
    duration: Histogram,
    open_streams: Gauge,
}

impl RouteFigures {
    /// Notes how a call was answered.
    pub fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        self.0.answers[class.min(CLASSES.len() - 1)].inc();
    }

    /// Notes that an upstream's answer begins to come, so long after the hold.
    pub fn first_byte(&self, after: Duration) {
        self.0.first_byte.observe(after);
    }

    /// Notes a stream on its way, until the result is dropped.
    pub fn stream(&self) -> StreamFigure {
        self.0.open_streams.inc();
        StreamFigure(self.0.open_streams.clone())
    }

    /// Notes the end of a call, so long after the hold.
    pub fn ended(&self, after: Duration) {
        self.0.duration.observe(after);
    }
}

/// A stream that is open.
pub struct StreamFigure(Gauge);

impl Drop for StreamFigure {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How often calls were tried beyond their first time.
#[derive(Clone, Default)]
pub struct TryFigures {
    /// At another upstream.
    pub failovers: Counter,
    /// At the same upstream.
    pub retries: Counter,
    /// Not, since the budget was spent.
    pub denied: Counter,
}

impl TryFigures {
    fn register(&self, registry: &mut Registry) {
        registry.register("failovers", "Tries at another upstream", self.failovers.clone());
        registry.register("retries", "Second tries at the same upstream", self.retries.clone());
        registry.register(
            "retries_denied",
            "Tries that the retry budget did not pay for",
            self.denied.clone(),
        );
    }
}

type UpstreamLabels = [(&'static str, String); 2];
type ResultLabels = [(&'static str, String); 3];

/// Counted of upstreams, by id and name: as many as an admin made.
#[derive(Clone, Default)]
pub struct Upstreams {
    calls: Family<ResultLabels, Counter>,
    state: Family<UpstreamLabels, Gauge>,
    failures: Family<UpstreamLabels, Gauge>,
    openings: Family<UpstreamLabels, Counter>,
}

/// How calls to an upstream end: well, or by a [`Failure`].
const RESULTS: [&str; 7] =
    ["success", "unreachable", "timed_out", "broke_off", "bad_status", "bad_secret", "unusable"];

impl Upstreams {
    fn register(&self, registry: &mut Registry) {
        registry.register("upstream_calls", "Calls to an upstream, by result", self.calls.clone());
        registry.register(
            "upstream_state",
            "Circuit breaker: 0 closed, 1 half-open, 2 open",
            self.state.clone(),
        );
        registry.register(
            "upstream_failures_in_row",
            "Failures since the last success",
            self.failures.clone(),
        );
        registry.register(
            "upstream_breaker_openings",
            "How often an upstream began to be left alone",
            self.openings.clone(),
        );
    }

    /// Those of an upstream that has another name now are told no longer.
    pub fn forget(&self, id: i64, name: &str) {
        let labels = || [("upstream_id", id.to_string()), ("upstream", name.to_owned())];
        for result in RESULTS {
            let [id, name] = labels();
            self.calls.remove(&[id, name, ("result", result.to_owned())]);
        }
        self.state.remove(&labels());
        self.failures.remove(&labels());
        self.openings.remove(&labels());
    }

    /// Those of one upstream, looked up once.
    pub fn of(&self, id: i64, name: &str) -> UpstreamFigures {
        let labels = || [("upstream_id", id.to_string()), ("upstream", name.to_owned())];
        let with_result = |result: &str| {
            let [id, name] = labels();
            self.calls.get_or_create_owned(&[id, name, ("result", result.to_owned())])
        };
        UpstreamFigures {
            results: RESULTS.map(with_result),
            state: self.state.get_or_create_owned(&labels()),
            failures: self.failures.get_or_create_owned(&labels()),
            openings: self.openings.get_or_create_owned(&labels()),
        }
    }
}

/// What is counted of one upstream.
pub struct UpstreamFigures {
    results: [Counter; RESULTS.len()],
    state: Gauge,
    failures: Gauge,
    openings: Counter,
}

impl UpstreamFigures {
    /// Notes the state of its circuit breaker.
    pub fn set(&self, state: State) {
        let (number, failures) = match state {
            State::Closed { failures } => (0, Some(failures)),
            State::HalfOpen => (1, None),
            State::Open => (2, None),
        };
        self.state.set(number);
        if let Some(failures) = failures {
            self.failures.set(failures.into());
        }
    }

    /// Notes that it began to be left alone.
    pub fn opened(&self) {
        self.openings.inc();
    }

    /// Notes a call that it answered.
    pub fn succeeded(&self) {
        self.results[0].inc();
    }

    /// Notes a call that it failed.
    pub fn failed(&self, failure: Failure) {
        let result = match failure {
            Failure::Error(UpstreamError::Unreachable) => 1,
            Failure::Error(UpstreamError::TimedOut) => 2,
            Failure::Error(UpstreamError::BrokeOff | UpstreamError::TooLarge | UpstreamError::NoAnswer) => 3,
            Failure::Status => 4,
            Failure::Secret => 5,
            Failure::Error(UpstreamError::Unusable | UpstreamError::Private) => 6,
        };
        self.results[result].inc();
    }
}
