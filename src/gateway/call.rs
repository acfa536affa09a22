//! The whole way of a metered call, whichever its route.

use super::client::{Answer, Payload};
use super::endpoint::Endpoint;
use super::error::GatewayError;
use super::figures::RouteFigures;
use super::hold::{self, Asking, Held};
use super::relay::{Errand, Refusal, Relay, Relayed};
use super::request::JsonRequest;
use super::settle::OpenCall;
use super::{Gateway, authenticate, body, count, stream};
use crate::config::Reach;
use crate::domain::credits::Credits;
use crate::ledger::{Ledger, Outcome};
use crate::request_id::RequestId;
use crate::store::Store;
use crate::vault::Vault;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use http::{HeaderMap, Method};

/// Largest JSON answer that is read from an upstream.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Answers a call of the route it is registered for, whole or as events.
///
/// # Errors
/// The error table of `/v1`.
pub async fn answer(
    request: HttpRequest,
    payload: web::Payload,
    gateway: web::Data<Gateway>,
    store: web::Data<Store>,
    ledger: web::Data<Ledger>,
    vault: web::Data<Vault>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, GatewayError> {
    let endpoint = *request.app_data::<Endpoint>().ok_or(GatewayError::Internal)?;
    let asking = asking(&request, &reach)?;
    if body::is_large(&request) {
        hold::admit_key(&store, &asking).await?;
    }
    let body = body::read(&request, payload).await?;
    let json = match JsonRequest::parse(endpoint, &body) {
        Ok(json) => json,
        // Only a key that may be used learns what is wrong with its request.
        Err(error) => return hold::admit_key(&store, &asking).await.and(Err(error)),
    };
    let wish = &json.wish;
    let held = hold::hold(&store, &ledger, &asking, wish, count::countable(&json)).await?;
    let Held { mut open, routes, imposed_max } = held;
    if let Some(figures) = request.app_data::<RouteFigures>() {
        open.counted_in(figures.clone());
    }
    let relay = Relay { client: &gateway.client, breakers: &gateway.breakers, vault: &vault };
    let errand = Errand {
        method: Method::POST,
        endpoint,
        path: endpoint.path(),
        headers: HeaderMap::new(),
        stream: wish.stream,
        payload_for: &|upstream_model| Payload::Json(json.for_upstream(upstream_model, imposed_max)),
    };
    let relayed = relay.call(routes, &errand, &mut open).await;
    match relayed {
        Ok(Relayed::Answer(answer)) if answer.is_events() => Ok(events(answer, open, wish.show_usage)),
        Ok(Relayed::Answer(answer)) => whole(answer, open).await,
        Ok(Relayed::Refusal(refusal)) => {
            open.release().await;
            Ok(refused(refusal))
        }
        Err(error) => {
            open.release().await;
            Err(error)
        }
    }
}

/// Who asks, by headers and address.
///
/// # Errors
/// When no key is presented that could be one of ours.
pub(super) fn asking(request: &HttpRequest, reach: &Reach) -> Result<Asking, GatewayError> {
    let digest = authenticate::presented_key(request.headers())?;
    let id = request.extensions().get::<RequestId>().copied().ok_or(GatewayError::Internal)?;
    Ok(Asking { digest, address: reach.client_address(request), charge_id: id.0 })
}

/// A JSON answer: read whole, metered, and given only after its charge is committed.
async fn whole(mut answer: Answer, mut open: OpenCall) -> Result<HttpResponse, GatewayError> {
    let status = StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::OK);
    let body = answer.whole(ANSWER_BYTES_MAX).await;
    let body = match body {
        Ok(body) if open.meter.read_whole(&body) => body,
        // Nothing of it reached the caller, so nothing is charged.
        Ok(_) => return Err(spoiled(open, "an upstream's answer is not one").await),
        Err(_) => return Err(spoiled(open, "an upstream's answer broke off").await),
    };
    open.answering(status);
    let charged_micros = open.settle(Outcome::Complete).await?;
    let mut response = HttpResponse::build(status);
    response.content_type("application/json");
    if let Some(micros) = charged_micros {
        response.insert_header(("x-keyhouse-credits", Credits::from_micros(micros).to_string()));
    }
    Ok(response.body(body))
}

async fn spoiled(mut open: OpenCall, what: &'static str) -> GatewayError {
    tracing::warn!("{what}");
    open.release().await;
    GatewayError::UpstreamUnavailable
}

fn events(answer: Answer, mut open: OpenCall, show_usage: bool) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::OK);
    open.answering(status);
    open.streaming();
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        // Tells nginx in front of this server not to collect the stream.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::relay(answer, open, show_usage))
}

/// The upstream's own 4xx.
fn refused(refusal: Refusal) -> HttpResponse {
    let mut response = HttpResponse::build(refusal.status);
    if let Some(value) = refusal.retry_after.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
        response.insert_header((RETRY_AFTER, value));
    }
    response.content_type("application/json").body(refusal.body)
}
