//! The whole way of a metered call, whichever its route.

use super::client::{Answer, Payload};
use super::endpoint::Endpoint;
use super::error::GatewayError;
use super::figures::RouteFigures;
use super::form::Form;
use super::hold::{self, Asking, Books, Held};
use super::relay::{Errand, Refusal, Relayed};
use super::request::JsonRequest;
use super::responses::Memory;
use super::settle::{OpenCall, Settled};
use super::wish::Wish;
use super::{Gateway, anthropic, authenticate, body, count, stream};
use crate::config::Reach;
use crate::domain::credits::Credits;
use crate::domain::upstream::Dialect;
use crate::ledger::{Ledger, Left, Outcome};
use crate::request_id::RequestId;
use crate::store::Store;
use crate::vault::Vault;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use http::Method;

/// Largest JSON answer that is read from an upstream.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What the call was charged, and what is left to spend.
const CREDITS: HeaderName = HeaderName::from_static("x-keyhouse-credits");
const CREDITS_REMAINING: HeaderName = HeaderName::from_static("x-keyhouse-credits-remaining");

/// What calls are made through.
pub struct Means {
    gateway: web::Data<Gateway>,
    store: web::Data<Store>,
    ledger: web::Data<Ledger>,
    vault: web::Data<Vault>,
}

/// Of a call: which route, and which request.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// The route.
    pub endpoint: Endpoint,
    /// Of the request, and so of its charge.
    pub request_id: i64,
}

/// Answers a call of the route it is registered for, whole, as events or as bytes; a refusal in the route's dialect.
///
/// # Errors
/// Only when the route is registered for none.
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
    let request_id = request_id(&request)?;
    let means = Means { gateway, store, ledger, vault };
    let answered = means.answer(&request, payload, &reach, Ids { endpoint, request_id }).await;
    let mut response = answered.unwrap_or_else(|error| error.respond(endpoint.dialect(), request_id));
    if let Some(figures) = request.app_data::<RouteFigures>() {
        figures.answered(response.status());
    }
    if endpoint.dialect() == Dialect::Anthropic {
        // Where Anthropic's SDKs look for it.
        response.headers_mut().insert(anthropic::REQUEST_ID, HeaderValue::from(request_id));
    }
    Ok(response)
}

impl Means {
    async fn answer(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        reach: &Reach,
        ids: Ids,
    ) -> Result<HttpResponse, GatewayError> {
        let asking = asking(request, reach)?;
        if body::is_large(request) {
            hold::admit_key(&self.store, &asking).await?;
        }
        if ids.endpoint.is_form() {
            // Rarer than JSON, and larger.
            return Box::pin(self.answer_form(request, payload, &asking, ids)).await;
        }
        let body = body::read(request, payload).await?;
        let json = match JsonRequest::parse(ids.endpoint, &body) {
            Ok(json) => json,
            // Only a key that may be used learns what is wrong with its request.
            Err(error) => return hold::admit_key(&self.store, &asking).await.and(Err(error)),
        };
        let held = match ids.endpoint {
            Endpoint::CountTokens => hold::free(&self.store, &asking, &json.wish).await?,
            _ => {
                let countable = count::countable(&json);
                self.books().hold(&asking, &json.wish, countable).await?
            }
        };
        let imposed_max = held.imposed_max;
        let payload_for = |model: &str| Payload::Json(json.for_upstream(model, imposed_max));
        self.relay(request, ids, &json.wish, held, &payload_for).await
    }

    async fn answer_form(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        asking: &Asking,
        ids: Ids,
    ) -> Result<HttpResponse, GatewayError> {
        let form = match Form::read(ids.endpoint, request, payload).await {
            Ok(form) => form,
            Err(error) => return hold::admit_key(&self.store, asking).await.and(Err(error)),
        };
        let held = self.books().hold(asking, &form.wish, None).await?;
        self.relay(request, ids, &form.wish, held, &|model| form.for_upstream(model)).await
    }

    fn books(&self) -> Books<'_> {
        Books { snapshots: &self.gateway.snapshots, store: &self.store, ledger: &self.ledger }
    }

    /// From a committed hold to the answer.
    async fn relay(
        &self,
        request: &HttpRequest,
        ids: Ids,
        wish: &Wish,
        held: Held,
        payload_for: &dyn Fn(&str) -> Payload,
    ) -> Result<HttpResponse, GatewayError> {
        let Held { mut open, routes, user_id, .. } = held;
        if let Some(figures) = request.app_data::<RouteFigures>() {
            open.counted_in(figures.clone());
        }
        let headers = match ids.endpoint.dialect() {
            Dialect::Anthropic => anthropic::headers(request.headers()),
            Dialect::OpenAi | Dialect::Echo => Ok(http::HeaderMap::new()),
        };
        let relayed = match headers {
            Ok(headers) => {
                let (endpoint, path) = (ids.endpoint, ids.endpoint.path());
                let errand = Errand {
                    method: Method::POST,
                    endpoint,
                    path,
                    headers,
                    stream: wish.stream,
                    payload_for,
                };
                self.gateway.relay(&self.vault).call(routes, &errand, &mut open).await
            }
            Err(error) => Err(error),
        };
        let memory =
            wish.store.then(|| Memory { store: (**self.store).clone(), user_id, model: wish.model.clone() });
        match relayed {
            Ok(Relayed::Answer(answer)) if answer.is_events() => {
                Ok(events(answer, open, ids, wish.show_usage, memory))
            }
            Ok(Relayed::Answer(answer)) if ids.endpoint == Endpoint::Speech => Ok(bytes(answer, open)),
            Ok(Relayed::Answer(answer)) => whole(answer, open, ids, memory).await,
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
}

/// The id that the request was given.
///
/// # Errors
/// When it was given none.
pub(super) fn request_id(request: &HttpRequest) -> Result<i64, GatewayError> {
    request.extensions().get::<RequestId>().map(|id| id.0).ok_or(GatewayError::Internal)
}

/// Who asks, by headers and address.
///
/// # Errors
/// When no key is presented that could be one of ours.
pub(super) fn asking(request: &HttpRequest, reach: &Reach) -> Result<Asking, GatewayError> {
    let digest = authenticate::presented_key(request.headers())?;
    Ok(Asking { digest, address: reach.client_address(request), charge_id: request_id(request)? })
}

/// An answer that is read whole, metered, and given only after its charge is committed.
///
/// # Errors
/// When it is none, or its charge cannot be committed.
pub(super) async fn whole(
    mut answer: Answer,
    mut open: Box<OpenCall>,
    ids: Ids,
    memory: Option<Memory>,
) -> Result<HttpResponse, GatewayError> {
    let status = status_of(&answer);
    let body = answer.whole(ANSWER_BYTES_MAX).await;
    let body = match body {
        Ok(body) if open.meter.read_whole(&body) => body,
        // Nothing of it reached the caller, so nothing is charged.
        Ok(_) => return Err(spoiled(open, "an upstream's answer is not one").await),
        Err(_) => return Err(spoiled(open, "an upstream's answer broke off").await),
    };
    open.answering(status);
    let settled = open.settle(Outcome::Complete).await?;
    if let Some(memory) = memory {
        memory.keep(&open).await;
    }
    let mut response = HttpResponse::build(status);
    let is_text = ids.endpoint.answers_with_text() && !body.trim_ascii_start().starts_with(b"{");
    response.content_type(if is_text { "text/plain; charset=utf-8" } else { "application/json" });
    if let Some(Settled { charged_micros, left }) = settled {
        response.insert_header((CREDITS, Credits::from_micros(charged_micros).to_string()));
        say_left(&mut response, Some(left));
    }
    Ok(response.body(body))
}

async fn spoiled(mut open: Box<OpenCall>, what: &'static str) -> GatewayError {
    tracing::warn!("{what}");
    open.release().await;
    GatewayError::UpstreamUnavailable
}

fn events(
    answer: Answer,
    mut open: Box<OpenCall>,
    ids: Ids,
    show_usage: bool,
    memory: Option<Memory>,
) -> HttpResponse {
    let status = status_of(&answer);
    open.answering(status);
    open.streaming();
    let mut response = HttpResponse::build(status);
    say_left(&mut response, open.left());
    response
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        // Tells nginx in front of this server not to collect the stream.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::relay(answer, open, ids, show_usage, memory))
}

/// A sound, as it is made.
fn bytes(answer: Answer, mut open: Box<OpenCall>) -> HttpResponse {
    let status = status_of(&answer);
    open.answering(status);
    open.streaming();
    let mut response = HttpResponse::build(status);
    say_left(&mut response, open.left());
    let said = answer.content_type.to_str().unwrap_or_default();
    let content_type = if said.starts_with("audio/") { said } else { "application/octet-stream" };
    response
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::relay_bytes(answer, open))
}

fn status_of(answer: &Answer) -> StatusCode {
    StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::OK)
}

fn say_left(response: &mut HttpResponseBuilder, left: Option<Left>) {
    if let Some(Left(micros)) = left {
        response.insert_header((CREDITS_REMAINING, Credits::from_micros(micros).to_string()));
    }
}

/// The upstream's own 4xx.
pub(super) fn refused(refusal: Refusal) -> HttpResponse {
    let mut response = HttpResponse::build(refusal.status);
    if let Some(value) = refusal.retry_after.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
        response.insert_header((RETRY_AFTER, value));
    }
    response.content_type("application/json").body(refusal.body)
}
