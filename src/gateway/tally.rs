//! How calls to upstreams end, by the hour: counted in memory where attempts end (`breaker`), stored here every few
//! seconds. A crash loses what was counted since.

use super::breaker::Breakers;
use crate::clock::now_ms;
use crate::domain::expiry::DAY_MS;
use crate::store::upstream_hours::{self, UpstreamHour};
use crate::store::{Connection, Store};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// Hours are kept so long.
const KEPT_MS: i64 = 90 * DAY_MS;

/// Stores what was counted every few seconds, and now and then forgets old hours.
pub(super) async fn keep(breakers: Breakers, store: Store) {
    let mut swept = None;
    loop {
        tokio::time::sleep(EVERY).await;
        store_now(&breakers, &store).await;
        if swept.is_none_or(|at: Instant| at.elapsed() > SWEEP_EVERY) {
            swept = Some(Instant::now());
            let sweep = |connection: &mut Connection| upstream_hours::sweep(connection, now_ms() - KEPT_MS);
            if let Err(error) = store.run(sweep).await {
                tracing::warn!(%error, "old hours of upstreams are not forgotten");
            }
        }
    }
}

/// Stores what was counted; what cannot be stored waits for the next time.
pub(super) async fn store_now(breakers: &Breakers, store: &Store) {
    let hours = breakers.take_tallies();
    if hours.is_empty() {
        return;
    }
    let taken = hours.clone();
    match store.run(move |connection| Ok(add(connection, &hours))).await {
        Ok(left) => breakers.give_back(&left),
        Err(error) => {
            tracing::warn!(%error, "how upstreams fare is not stored");
            breakers.give_back(&taken);
        }
    }
}

/// Adds hour by hour and gives those that could not be added.
fn add(connection: &mut Connection, hours: &[UpstreamHour]) -> Vec<UpstreamHour> {
    for (done, hour) in hours.iter().enumerate() {
        if let Err(error) = upstream_hours::add(connection, hour) {
            tracing::warn!(%error, "how upstreams fare is not stored");
            return hours[done..].to_vec();
        }
    }
    Vec::new()
}
