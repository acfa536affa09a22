//! Testing an upstream: it is really called, and what came back is shown.

use super::PLACE;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::Admin;
use crate::store::{Store, upstreams};
use crate::upstream_watch::{Probe, UpstreamWatch};
use crate::vault::Vault;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use std::time::Duration;

/// What came of it.
#[derive(Template)]
#[template(path = "upstreams/tested.html")]
struct Tested {
    id: i64,
    name: String,
    works: bool,
    status: Option<u16>,
    latency_ms: u128,
    answer: String,
}

impl HtmlSafe for Tested {}

/// `POST /upstreams/{id}/test`
///
/// # Errors
/// Not found; the engine's.
pub async fn test(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let (id, actor) = (id.into_inner(), signed_in.actor());
    let (upstream, sealed) =
        store.run(move |connection| upstreams::take_for_test(connection, id, &actor, now_ms())).await?;
    let name = upstream.name.clone();
    let probe = match sealed.map(|sealed| vault.open_upstream(id, &sealed)).transpose() {
        Ok(secret) => watch.test(upstream, secret).await,
        Err(error) => {
            tracing::error!(upstream.id = id, %error, "an upstream's secret does not open");
            let answer = "Its stored secret does not open under this master key; store it again.".to_owned();
            Probe { works: false, status: None, latency: Duration::ZERO, answer }
        }
    };
    let Probe { works, status, latency, answer } = probe;
    let tested = Tested { id, name, works, status, latency_ms: latency.as_millis(), answer };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Test of an upstream", &tested))
}
