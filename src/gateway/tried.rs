//! What a call learns from tries that came to nothing: whether and when to try again, and what to say in the end.

use super::breaker::Failure;
use super::client::UpstreamError;
use super::error::GatewayError;
use super::relay::{Refusal, Relayed};
use crate::store::models::Route;
use std::sync::Arc;
use std::time::Duration;

/// Nobody waits longer than this to try again.
const RETRY_REST_MAX: Duration = Duration::from_secs(1);

/// A try that came to nothing.
pub struct Failing {
    /// `None`: busy is not broken.
    pub failure: Option<Failure>,
    /// All there is to say if nobody else answers: the upstream's 429.
    pub refusal: Option<Refusal>,
    /// How long the upstream wants to be left alone.
    pub rest: Option<Duration>,
    /// Likely to go well a moment later, and safe: the upstream says that it did nothing, or the connection broke.
    pub passing: bool,
}

impl From<UpstreamError> for Failing {
    fn from(error: UpstreamError) -> Self {
        let passing = error == UpstreamError::BrokeOff;
        Self { failure: Some(Failure::Error(error)), refusal: None, rest: None, passing }
    }
}

/// What is known after some tries.
#[derive(Default)]
pub struct Tried {
    /// Whether any upstream was called.
    pub any: bool,
    refusal: Option<Refusal>,
    /// The first whose failure may have passed, and how long it wants to be left alone.
    pub again: Option<(Arc<Route>, Duration)>,
    /// The shortest rest that an upstream asks for.
    rest: Option<Duration>,
}

impl Tried {
    /// Notes a try that came to nothing.
    pub fn learn(&mut self, route: Arc<Route>, failing: Failing) {
        let rest = failing.rest.unwrap_or_default();
        if failing.passing && self.again.is_none() && rest <= RETRY_REST_MAX {
            self.again = Some((route, rest));
        }
        self.refusal = failing.refusal.or(self.refusal.take());
        self.rest_of(failing.rest);
    }

    /// Notes a rest that an upstream asks for.
    pub fn rest_of(&mut self, rest: Option<Duration>) {
        self.rest = [self.rest, rest].into_iter().flatten().min();
    }

    /// What to say when nobody answers.
    ///
    /// # Errors
    /// When not even an upstream's refusal can be passed on.
    pub fn nobody(self) -> Result<Relayed, GatewayError> {
        match (self.refusal, self.rest) {
            (Some(refusal), _) => Ok(Relayed::Refusal(refusal)),
            (None, Some(rest)) => Err(GatewayError::UpstreamsRest { retry_after_s: seconds(rest) }),
            (None, None) => Err(GatewayError::UpstreamUnavailable),
        }
    }
}

/// Rounded up, and never 0: that would invite to hammer.
fn seconds(rest: Duration) -> u64 {
    rest.as_secs() + u64::from(rest.subsec_nanos() > 0 || rest.is_zero())
}
