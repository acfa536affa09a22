//! What the gateway counts of its calls, for `/metrics`: by route and by class of status, nothing of who called.

use super::endpoint::Endpoint;
use crate::metrics::{CALL_S, Counter, Family, Gauge, Histogram, Registry};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
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
}

impl Default for Figures {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(CALL_S);
        Self {
            answers: Family::default(),
            first_byte: Family::new_with_constructor(histogram),
            duration: Family::new_with_constructor(histogram),
            open_streams: Gauge::default(),
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
    }

    /// Those of one route, looked up once: calls then touch atomics alone.
    pub fn of(&self, endpoint: Endpoint) -> RouteFigures {
        let route = ("route", endpoint.path());
        RouteFigures {
            answers: CLASSES.map(|class| self.answers.get_or_create_owned(&[route, ("status", class)])),
            first_byte: self.first_byte.get_or_create_owned(&[route]),
            duration: self.duration.get_or_create_owned(&[route]),
            open_streams: self.open_streams.clone(),
        }
    }
}

/// What is counted of one route.
#[derive(Clone)]
pub struct RouteFigures {
    answers: [Counter; CLASSES.len()],
    first_byte: Histogram,
    duration: Histogram,
    open_streams: Gauge,
}

impl RouteFigures {
    /// Around a route: counts how its calls were answered.
    ///
    /// # Errors
    /// Those of what it surrounds.
    pub async fn count<B: MessageBody>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<B>, Error> {
        let answered = next.call(request).await;
        let status = match &answered {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        self.answers[class.min(CLASSES.len() - 1)].inc();
        answered
    }

    /// Notes that an upstream's answer begins to come, so long after the hold.
    pub fn first_byte(&self, after: Duration) {
        self.first_byte.observe(after);
    }

    /// Notes a stream on its way, until the result is dropped.
    pub fn stream(&self) -> StreamFigure {
        self.open_streams.inc();
        StreamFigure(self.open_streams.clone())
    }

    /// Notes the end of a call, so long after the hold.
    pub fn ended(&self, after: Duration) {
        self.duration.observe(after);
    }
}

/// A stream that is open.
pub struct StreamFigure(Gauge);

impl Drop for StreamFigure {
    fn drop(&mut self) {
        self.0.dec();
    }
}
