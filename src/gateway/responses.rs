//! Stored responses: remembered by who made them and where, and found again by their own account alone.

use super::call::{self, Ids};
use super::client::Payload;
use super::endpoint::Endpoint;
use super::error::GatewayError;
use super::hold::Asking;
use super::json::{Object, from_bytes, quoted, read};
use super::meter::Meter;
use super::relay::{Errand, Relayed};
use super::settle::OpenCall;
use super::{Gateway, admit, authenticate};
use crate::clock::now_ms;
use crate::config::Reach;
use crate::domain::price::{Multiplier, Price};
use crate::domain::response::ResponseId;
use crate::domain::usage::Usage;
use crate::store::Store;
use crate::store::models::{self, Route};
use crate::store::responses::{self, StoredResponse};
use crate::vault::Vault;
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use http::{HeaderMap, Method};
use std::sync::Arc;

/// As long as OpenAI keeps them.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Old ones forgotten at a time; one of so many that are made does it.
const SWEEP_BATCH: i64 = 256;
const SWEEP_ONE_IN: u8 = 32;
/// Parameters of a query that are passed on, and the longest value.
const QUERY: [&str; 6] = ["include", "include[]", "limit", "order", "after", "before"];
const QUERY_VALUE_BYTES_MAX: usize = 256;

/// Remembers the response of a call.
pub struct Memory {
    /// Where.
    pub store: Store,
    /// Whose.
    pub user_id: i64,
    /// Public name of its model.
    pub model: String,
}

impl Memory {
    /// Once the response is charged and before its last word leaves. What cannot be remembered is only lost to those who
    /// would ask for it again.
    pub async fn keep(self, open: &OpenCall) {
        let (id, upstream_id) = (open.meter.response_id().and_then(ResponseId::parse), open.upstream_id());
        let (Some(id), Some(upstream_id)) = (id, upstream_id) else { return };
        let (usage, _) = open.meter.usage();
        let new = StoredResponse {
            user_id: self.user_id,
            response_id: id.as_str().to_owned(),
            upstream_id,
            model: self.model,
            tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            created_at_ms: now_ms(),
        };
        let sweeps = rand::random::<u8>().is_multiple_of(SWEEP_ONE_IN);
        let kept = self.store.run_promptly(move |connection| {
            responses::create(connection, &new)?;
            if sweeps {
                responses::sweep(connection, new.created_at_ms - KEPT_MS, SWEEP_BATCH)?;
            }
            Ok(())
        });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "a response cannot be remembered");
        }
    }
}

/// What may be done with a stored response; free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// `GET /v1/responses/{id}`
    Show,
    /// `DELETE /v1/responses/{id}`
    Delete,
    /// `POST /v1/responses/{id}/cancel`
    Cancel,
    /// `GET /v1/responses/{id}/input_items`
    InputItems,
}

impl Deed {
    fn of(request: &HttpRequest) -> Self {
        match (request.method().as_str(), request.path().rsplit('/').next()) {
            ("DELETE", _) => Self::Delete,
            (_, Some("cancel")) => Self::Cancel,
            (_, Some("input_items")) => Self::InputItems,
            _ => Self::Show,
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Show | Self::InputItems => Method::GET,
            Self::Delete => Method::DELETE,
            Self::Cancel => Method::POST,
        }
    }

    fn path(self, id: &ResponseId, query: &str) -> String {
        let behind = match self {
            Self::Show | Self::Delete => "",
            Self::Cancel => "/cancel",
            Self::InputItems => "/input_items",
        };
        format!("{}/{}{behind}{query}", Endpoint::Responses.path(), id.as_str())
    }
}

/// Asks the upstream that made a response.
///
/// # Errors
/// Those of a key that may not be used; 404 for a response of another account as for none.
pub async fn stored(
    request: HttpRequest,
    id: web::Path<String>,
    gateway: web::Data<Gateway>,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, GatewayError> {
    let asking = call::asking(&request, &reach)?;
    let deed = Deed::of(&request);
    let (response, route) = look_up(&store, &asking, ResponseId::parse(&id)).await?;
    let id = ResponseId::parse(&response.response_id).ok_or(GatewayError::Internal)?;
    let ids = Ids { endpoint: Endpoint::Responses, request_id: asking.charge_id };
    let errand = Errand {
        method: deed.method(),
        ids,
        path: &deed.path(&id, &query(request.query_string())),
        headers: HeaderMap::new(),
        stream: false,
        payload_for: &|_| Payload::Nothing,
    };
    let relay = gateway.relay(&vault);
    let mut open = free_call();
    match relay.call(vec![Arc::new(route)], &errand, &mut open).await? {
        Relayed::Whole { status, body } => {
            let answered = call::whole(status, body, open, ids, None).await?;
            if deed == Deed::Delete {
                let user_id = response.user_id;
                store.run_promptly(move |connection| responses::delete(connection, user_id, &id)).await?;
            }
            Ok(answered)
        }
        // Nobody asked for events.
        Relayed::Answer(_) => Err(GatewayError::UpstreamUnavailable),
        Relayed::Refusal(refusal) => Ok(call::refused(refusal)),
    }
}

fn free_call() -> Box<OpenCall> {
    let meter = Meter::new(Endpoint::Responses, Usage::NONE, Usage::NONE, &Price::FREE);
    OpenCall::open(None, Multiplier::ONE, meter)
}

/// The response, if it is of the key's account and the key may use its model, and the way to who made it.
async fn look_up(
    store: &Store,
    asking: &Asking,
    id: Option<ResponseId>,
) -> Result<(StoredResponse, Route), GatewayError> {
    let digest = asking.digest;
    let looked = store.run_promptly(move |connection| {
        let Some((policy, now_ms)) = authenticate::find(connection, &digest)? else { return Ok(None) };
        let find = |id: ResponseId| responses::find(connection, policy.snapshot.owner.id, &id);
        let response = id.map(find).transpose()?.flatten();
        let route = match &response {
            Some(response) => models::route_to(connection, response.upstream_id)?,
            None => None,
        };
        Ok(Some((policy, now_ms, response, route)))
    });
    let (policy, now_ms, response, route) = looked.await?.ok_or(GatewayError::UnknownKey)?;
    admit::admit_key(&policy, admit::Caller { address: asking.address, now_ms })?;
    let response = response.ok_or(GatewayError::ResponseNotFound)?;
    admit::admit_model(&policy, &response.model)?;
    Ok((response, route.ok_or(GatewayError::UpstreamUnavailable)?))
}

/// A failed response, which says so in words of ours: the upstream's may tell where it is. `None`: it is no such response.
pub fn reworded(response: &[u8]) -> Option<String> {
    let fields: Object = from_bytes(response).ok()?;
    let error: Object = fields.get("error").and_then(read)?;
    let message = quoted("The upstream failed to make this response. Try again.");
    Some(fields.with("error", &error.with("message", &message)))
}

/// Whether an event of a failed response says that it is the upstream's own failure, and not the request's.
pub fn is_servers_fault(event: &[u8]) -> bool {
    let says = || {
        let response: Object = from_bytes::<Object>(event).ok()?.get("response").and_then(read)?;
        let error: Object = response.get("error").and_then(read)?;
        Some(error.get("code")?.get() == r#""server_error""#)
    };
    says().unwrap_or(false)
}

/// An event with such a response.
pub fn reworded_event(data: &[u8]) -> Option<String> {
    let fields: Object = from_bytes(data).ok()?;
    let response = reworded(fields.get("response")?.get().as_bytes())?;
    Some(format!("event: response.failed\ndata: {}\n\n", fields.with("response", &response)))
}

/// What of a query is passed on, written anew.
fn query(raw: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let known = url::form_urlencoded::parse(raw.as_bytes())
        .filter(|(name, value)| QUERY.contains(&&**name) && value.len() <= QUERY_VALUE_BYTES_MAX);
    let query = query.extend_pairs(known.take(16)).finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_response_says_so_in_words_of_ours() {
        let failed = r#"{"id":"r","status":"failed","error":{"code":"server_error","message":"boom 10.0.0.7"},"usage":{"a":1.0}}"#;
        let expected =
            failed.replace("boom 10.0.0.7", "The upstream failed to make this response. Try again.");
        assert_eq!(reworded(failed.as_bytes()).as_deref(), Some(&*expected));
        let event = reworded_event(format!(r#"{{"type":"response.failed","response":{failed}}}"#).as_bytes());
        let data = format!(r#"{{"type":"response.failed","response":{expected}}}"#);
        assert_eq!(event, Some(format!("event: response.failed\ndata: {data}\n\n")));
        assert_eq!(reworded(br#"{ "id":"r", "error":null }"#), None);
    }

    #[test]
    fn of_a_query_only_what_is_known_is_passed_on() {
        assert_eq!(query("limit=5&include[]=a%26b&secret=x&stream=true"), "?limit=5&include%5B%5D=a%26b");
        assert_eq!(query(&format!("after={}", "x".repeat(257))), "");
        assert_eq!(query(""), "");
    }
}
