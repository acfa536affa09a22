//! What the gateway knows of upstreams and can do with them, as a handle for those who show it: the two do not see each
//! other, and app.rs hands this over.

use crate::domain::health::Now;
use crate::store::upstream_hours::UpstreamHour;
use crate::store::upstreams::Upstream;
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// What came of calling an upstream for its own sake.
#[derive(Debug, Clone)]
pub struct Probe {
    /// It answers as an upstream of its dialect does.
    pub works: bool,
    /// Of its answer, if there was one.
    pub status: Option<u16>,
    /// Until the answer was there.
    pub latency: Duration,
    /// In a line; without the secret.
    pub answer: String,
}

type NowOf = dyn Fn(i64) -> Now + Send + Sync;
type Pending = dyn Fn() -> Vec<UpstreamHour> + Send + Sync;
type Test = dyn Fn(Upstream, Option<String>) -> LocalBoxFuture<'static, Probe> + Send + Sync;

/// The handle.
#[derive(Clone)]
pub struct UpstreamWatch {
    now: Arc<NowOf>,
    pending: Arc<Pending>,
    test: Arc<Test>,
}

impl UpstreamWatch {
    /// Of whoever knows.
    pub fn new(
        now: impl Fn(i64) -> Now + Send + Sync + 'static,
        pending: impl Fn() -> Vec<UpstreamHour> + Send + Sync + 'static,
        test: impl Fn(Upstream, Option<String>) -> LocalBoxFuture<'static, Probe> + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), pending: Arc::new(pending), test: Arc::new(test) }
    }

    /// What this server knows of an upstream at this moment.
    pub fn now(&self, upstream_id: i64) -> Now {
        (self.now)(upstream_id)
    }

    /// What this server counted and has not stored yet.
    pub fn pending(&self) -> Vec<UpstreamHour> {
        (self.pending)()
    }

    /// Really calls an upstream with its secret. Takes seconds if it is slow.
    pub async fn test(&self, upstream: Upstream, secret: Option<String>) -> Probe {
        (self.test)(upstream, secret).await
    }
}
