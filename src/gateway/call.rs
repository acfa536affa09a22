//! The whole way of a metered call, whichever its route.

use super::client::{Answer, Payload, SHOULD_RETRY};
use super::endpoint::Endpoint;
use super::error::GatewayError;
use super::figures::RouteFigures;
use super::form::Form;
use super::hold::{self, Asking, Books, Held};
use super::relay::{Errand, Refusal, Relayed, status_of};
use super::request::JsonRequest;
use super::responses::{self, Memory};
use super::settle::{OpenCall, Settled};
use super::wish::Wish;
use super::{Gateway, anthropic, authenticate, body, count, stream};
use crate::config::Reach;
use crate::domain::credits::Credits;
use crate::domain::upstream::Dialect;
use crate::ledger::{Ledger, Left, Outcome};
use crate::request_id::{self, REQUEST_ID};
use crate::store::Store;
use crate::vault::Vault;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::http::{ConnectionType, StatusCode, Version};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use http::Method;

/// What the call was charged, and what is left to spend.
const CREDITS: HeaderName = HeaderName::from_static("x-keyhouse-credits");
const CREDITS_REMAINING: HeaderName = HeaderName::from_static("x-keyhouse-credits-remaining");

/// What calls are made through, by one worker.
#[derive(Clone)]
pub struct Means {
    /// The way to upstreams.
    pub gateway: web::Data<Gateway>,
    /// The database.
    pub store: web::Data<Store>,
    /// Credits.
    pub ledger: web::Data<Ledger>,
    /// The master key.
    pub vault: web::Data<Vault>,
    /// How this server is reached.
    pub reach: web::Data<Reach>,
}

/// A route whose calls are metered. Lies beside it in actix's router, where a call finds all of it by one look.
pub struct Metered {
    /// Which.
    pub endpoint: Endpoint,
    /// What is counted of it.
    pub figures: RouteFigures,
    /// What its calls are made through.
    pub means: Means,
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
/// Only when the route is registered without its [`Metered`].
pub async fn answer(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, GatewayError> {
    let metered = request.app_data::<Metered>().ok_or(GatewayError::Internal)?;
    let (endpoint, request_id) = (metered.endpoint, metered.means.ledger.next_charge_id());
    let answered = metered.answer(&request, payload, request_id).await;
    let mut response = answered.unwrap_or_else(|error| error.respond(endpoint.dialect(), request_id));
    metered.figures.answered(response.status());
    if request.version() == Version::HTTP_10 && matches!(response.body().size(), BodySize::Stream) {
        // Knows no chunks: the answer ends with the connection.
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(request_id));
    if endpoint.dialect() == Dialect::Anthropic {
        // Where Anthropic's SDKs look for it.
        response.headers_mut().insert(anthropic::REQUEST_ID, HeaderValue::from(request_id));
    }
    Ok(response)
}

impl Metered {
    async fn answer(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        request_id: i64,
    ) -> Result<HttpResponse, GatewayError> {
        let Means { store, reach, .. } = &self.means;
        let asking = asking_as(request, reach, request_id)?;
        if self.endpoint.is_form() {
            // Rarer than JSON, and larger.
            return Box::pin(self.answer_form(request, payload, &asking)).await;
        }
        let user_id = match body::is_large(request) {
            true => Some(hold::admit_key(store, &asking).await?),
            false => None,
        };
        let body = body::read(request, payload, user_id).await?;
        let json = match JsonRequest::parse(self.endpoint, &body.bytes) {
            Ok(json) => json,
            // Only a key that may be used learns what is wrong with its request.
            Err(error) => return hold::admit_key(store, &asking).await.and(Err(error)),
        };
        let held = match self.endpoint {
            Endpoint::CountTokens => hold::free(store, &asking, &json.wish).await?,
            _ => {
                let countable = count::countable(&json);
                self.books().hold(&asking, &json.wish, countable).await?
            }
        };
        let imposed_max = held.imposed_max;
        let payload_for = |model: &str| Payload::Json(json.for_upstream(model, imposed_max));
        self.relay(request, &asking, &json.wish, held, &payload_for).await
    }

    async fn answer_form(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        asking: &Asking,
    ) -> Result<HttpResponse, GatewayError> {
        // It takes one of few places while it is read.
        let user_id = hold::admit_key(&self.means.store, asking).await?;
        let form = Form::read(self.endpoint, request, payload, user_id).await?;
        let held = self.books().hold(asking, &form.wish, None).await?;
        self.relay(request, asking, &form.wish, held, &|model| form.for_upstream(model)).await
    }

    fn books(&self) -> Books<'_> {
        let Means { gateway, store, ledger, .. } = &self.means;
        Books { snapshots: &gateway.snapshots, store, ledger }
    }

    /// From a committed hold to the answer.
    async fn relay(
        &self,
        request: &HttpRequest,
        asking: &Asking,
        wish: &Wish,
        held: Held,
        payload_for: &dyn Fn(&str) -> Payload,
    ) -> Result<HttpResponse, GatewayError> {
        let endpoint = self.endpoint;
        let Means { gateway, store, vault, .. } = &self.means;
        let Held { mut open, routes, user_id, .. } = held;
        open.counted_in(self.figures.clone());
        let headers = match endpoint.dialect() {
            Dialect::Anthropic => anthropic::headers(request.headers()),
            Dialect::OpenAi | Dialect::Echo => Ok(http::HeaderMap::new()),
        };
        let ids = Ids { endpoint, request_id: asking.charge_id };
        let relayed = match headers {
            Ok(headers) => {
                let (method, path, stream) = (Method::POST, endpoint.path(), wish.stream);
                let errand = Errand { method, ids, path, headers, stream, payload_for };
                gateway.relay(vault).call(routes, &errand, &mut open).await
            }
            Err(error) => Err(error),
        };
        let memory =
            wish.store.then(|| Memory { store: Store::clone(store), user_id, model: wish.model.clone() });
        match relayed {
            Ok(Relayed::Whole { status, body }) => whole(status, body, open, ids, memory).await,
            Ok(Relayed::Answer(answer)) if answer.is_events() => {
                Ok(events(answer, open, ids, wish.show_usage, memory))
            }
            Ok(Relayed::Answer(answer)) => Ok(bytes(answer, open)),
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

/// Who asks, by headers and address.
///
/// # Errors
/// When no key is presented that could be one of ours.
pub(super) fn asking(request: &HttpRequest, reach: &Reach) -> Result<Asking, GatewayError> {
    asking_as(request, reach, request_id::of(request))
}

fn asking_as(request: &HttpRequest, reach: &Reach, charge_id: i64) -> Result<Asking, GatewayError> {
    let digest = authenticate::presented_key(request.headers())?;
    Ok(Asking { digest, address: reach.client_address(request), charge_id })
}

/// An answer that came whole, given only after its charge is committed.
///
/// # Errors
/// When its charge cannot be committed.
pub(super) async fn whole(
    status: StatusCode,
    body: Bytes,
    mut open: Box<OpenCall>,
    ids: Ids,
    memory: Option<Memory>,
) -> Result<HttpResponse, GatewayError> {
    open.answering(status);
    let reworded = if open.meter.has_error() { responses::reworded(&body) } else { None };
    let body = reworded.map_or(body, Bytes::from);
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

fn say_left(response: &mut HttpResponseBuilder, left: Option<Left>) {
    if let Some(Left(micros)) = left {
        response.insert_header((CREDITS_REMAINING, Credits::from_micros(micros).to_string()));
    }
}

/// The upstream's own 4xx.
pub(super) fn refused(refusal: Refusal) -> HttpResponse {
    let mut response = HttpResponse::build(refusal.status);
    for (name, value) in
        [(RETRY_AFTER.as_str(), refusal.retry_after), (SHOULD_RETRY.as_str(), refusal.should_retry)]
    {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            response.insert_header((name, value));
        }
    }
    response.content_type("application/json").body(refusal.body)
}
