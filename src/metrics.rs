//! `/metrics`: what each part of the house counts, as Prometheus reads it, for those near by. The only file that
//! names the client library; each part counts its own and registers it here. No label comes from a caller.

use crate::config::Reach;
use actix_web::{HttpRequest, HttpResponse, web};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::registry::Registry;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of buckets for what should take no time: a commit, a wait for a connection.
pub const SHORT_S: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// Bounds of buckets for a call: models think for seconds, and answer for minutes.
pub const CALL_S: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// All that is counted, by all workers.
pub struct Metrics(Registry);

impl Metrics {
    /// Begins with what this instance is; `register` adds each part's own.
    pub fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("keyhouse");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("instance", "The release that runs", version);
        register(&mut registry);
        Self(registry)
    }
}

/// `GET /metrics`, to those on this machine or a private network; to others there is no such page.
pub async fn show(
    request: HttpRequest,
    metrics: web::Data<Metrics>,
    reach: web::Data<Reach>,
) -> HttpResponse {
    let mut text = String::new();
    if !reach.is_near(&request) {
        return HttpResponse::NotFound().body("There is no such page.\n");
    }
    match encode(&mut text, &metrics.0) {
        Ok(()) => HttpResponse::Ok()
            .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
            .insert_header(("cache-control", "no-store"))
            .body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// Counts how often something was how much. Atomics alone: the library's own takes a lock for each observation.
#[derive(Clone)]
pub struct Histogram(Arc<Buckets>);

struct Buckets {
    bounds: &'static [f64],
    /// One more than bounds: the last is for all beyond.
    counts: Vec<AtomicU64>,
    /// In millionths, since there is no atomic float.
    sum_millionths: AtomicU64,
}

impl Histogram {
    /// With a bucket up to each of `bounds`, which ascend, and one beyond.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self(Arc::new(Buckets { bounds, counts, sum_millionths: AtomicU64::default() }))
    }

    /// Notes how long something took.
    pub fn observe(&self, took: Duration) {
        self.add(took.as_secs_f64(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Notes how many there were.
    pub fn observe_count(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.add(f64::from(count), u64::from(count) * 1_000_000);
    }

    fn add(&self, value: f64, millionths: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_millionths.fetch_add(millionths, Ordering::Relaxed);
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Histogram(…)")
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(self.0.sum_millionths.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_observation_up_to_its_bound() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        for millis in [250, 500, 750, 4_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let metrics = Metrics::new(|registry| registry.register("wait", "Waiting", histogram));
        let mut text = String::new();
        encode(&mut text, &metrics.0).expect("text");
        for line in [
            r#"keyhouse_wait_bucket{le="0.5"} 2"#,
            r#"keyhouse_wait_bucket{le="1.0"} 3"#,
            r#"keyhouse_wait_bucket{le="+Inf"} 4"#,
            "keyhouse_wait_sum 5.5",
            "keyhouse_wait_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
