//! `/v1`: authenticate → admit → hold → relay → meter → settle, and the error bodies that SDKs understand.
//! A file per step; `call` is the way of every metered route, `endpoint` what differs between them.

mod admit;
mod anthropic;
mod authenticate;
mod begin;
mod body;
mod breaker;
pub mod call;
mod client;
mod content;
mod count;
mod echo;
mod endpoint;
pub mod error;
mod figures;
mod form;
mod hold;
mod json;
pub mod key;
mod meter;
pub mod models;
pub mod probe;
mod quote;
mod relay;
mod request;
pub mod responses;
mod retry;
mod room;
mod settle;
mod snapshots;
mod sound;
pub mod sse;
mod stream;
mod tally;
mod target;
mod tried;
mod wish;

pub use authenticate::presented_key;
pub use client::Timeouts;
pub use endpoint::Endpoint;

use crate::domain::upstream::Dialect;
use crate::request_id;
use crate::store::Store;
use crate::upstream_watch::UpstreamWatch;
use crate::vault::Vault;
use actix_web::{HttpRequest, HttpResponse};
use breaker::Breakers;
use call::Metered;
use client::{Client, Connectors};
use error::GatewayError;
use figures::{Figures, TryFigures};
use relay::Relay;
use retry::Budget;
use snapshots::Snapshots;
use std::sync::Arc;

/// What the workers share.
#[derive(Clone)]
pub struct Shared {
    connectors: Connectors,
    breakers: Breakers,
    budget: Arc<Budget>,
    snapshots: Snapshots,
    timeouts: Timeouts,
    /// What calls come to.
    pub figures: Figures,
}

impl Shared {
    /// Reads the system's certificates; no upstream is contacted yet.
    pub fn new(timeouts: Timeouts) -> Self {
        let figures = Figures::default();
        let breakers = Breakers::new(figures.upstreams.clone());
        let (budget, snapshots) = (Arc::default(), Snapshots::default());
        Self { connectors: Connectors::load(), breakers, budget, snapshots, timeouts, figures }
    }

    /// How upstreams fare, for those who show it.
    pub fn watch(&self) -> UpstreamWatch {
        let (now, pending, connectors) =
            (self.breakers.clone(), self.breakers.clone(), self.connectors.clone());
        UpstreamWatch::new(
            move |upstream_id| now.now(upstream_id),
            move || pending.tallies(),
            move |upstream, secret| {
                let connectors = connectors.clone();
                Box::pin(async move { probe::probe_by(&connectors, &upstream, secret.as_deref()).await })
            },
        )
    }

    /// Stores how calls to upstreams end, now and then, for as long as it is polled.
    pub async fn keep_tallies(&self, store: Store) {
        tally::keep(self.breakers.clone(), store).await;
    }

    /// Stores what is left of it, at the end.
    pub async fn store_tallies(&self, store: &Store) {
        tally::store_now(&self.breakers, store).await;
    }

    /// For one worker: connections of its own, circuit breakers and budget of all.
    pub fn for_worker(&self) -> Gateway {
        Gateway {
            client: Client::new(&self.connectors, self.timeouts),
            breakers: self.breakers.clone(),
            budget: self.budget.clone(),
            snapshots: self.snapshots.clone(),
            tries: self.figures.tries.clone(),
        }
    }
}

/// What calls of one worker go through.
pub struct Gateway {
    client: Client,
    breakers: Breakers,
    budget: Arc<Budget>,
    snapshots: Snapshots,
    tries: TryFigures,
}

impl Gateway {
    /// The way to upstreams, whose secrets `vault` opens.
    fn relay<'a>(&'a self, vault: &'a Vault) -> Relay<'a> {
        let Self { client, breakers, budget, tries, snapshots } = self;
        Relay { client, breakers, budget, tries, vault, snapshots }
    }
}

/// Anything else under `/v1`.
///
/// # Errors
/// Always.
pub async fn unknown_route() -> Result<HttpResponse, GatewayError> {
    Err(GatewayError::RouteNotFound)
}

/// A route that does not answer this method, but `allowed`.
pub async fn wrong_method(request: HttpRequest, allowed: &'static str) -> HttpResponse {
    let metered = request.app_data::<Metered>();
    let dialect = metered.map_or(Dialect::OpenAi, |metered| metered.endpoint.dialect());
    let response = GatewayError::MethodNotAllowed { allowed }.respond(dialect, request_id::of(&request));
    if let Some(metered) = metered {
        metered.figures.answered(response.status());
    }
    response
}
