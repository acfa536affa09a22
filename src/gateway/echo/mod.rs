//! The built-in upstream: answers by itself, deterministically, in the bytes that OpenAI and Anthropic would send, so
//! that the same meter reads them. For demos, tests and trying out a key. Its counts are honest by `words`' rule.

mod chat;
mod messages;
mod plain;
mod responses;
mod words;

pub use chat::input_tokens;

use super::client::{Answer, Payload, UpstreamError};
use super::endpoint::Endpoint;
use super::error::{anthropic_body, error_body};
use crate::domain::upstream::Dialect;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// A JSON answer comes after the time its stream would take, but no later than this.
const JSON_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The events of a stream, by their number; made one by one, since many long answers at once would be a lot to keep.
type Events = Box<dyn Fn(usize) -> Option<String>>;

/// How a request is answered.
enum Play {
    /// At once, after the time that so many steps take.
    Whole { body: Value, steps: usize },
    /// Step by step.
    Events(Events),
}

/// Answers a request, `pace` apart from event to event.
///
/// # Errors
/// Never in practice; in the type of every upstream's answer.
pub async fn answer(endpoint: Endpoint, payload: &Payload, pace: Duration) -> Result<Answer, UpstreamError> {
    let Payload::Json(body) = payload else {
        return Ok(refusal(endpoint, StatusCode::NOT_FOUND, "The echo keeps nothing that it said."));
    };
    let play = match endpoint {
        Endpoint::ChatCompletions => parse(body).map(|request: chat::Request| request.play()),
        Endpoint::Completions => parse(body).and_then(|request: plain::Completion| request.play()),
        Endpoint::Responses => parse(body).map(|request: responses::Request| request.play()),
        Endpoint::Messages => parse(body).map(|request: messages::Request| request.play()),
        Endpoint::CountTokens => parse(body).map(|request: messages::Request| request.count()),
        Endpoint::Embeddings => parse(body).and_then(|request: plain::Embedding| request.play()),
        Endpoint::Moderations => parse(body).and_then(|request: plain::Moderation| request.play()),
        _ => Err("The echo makes text alone.".to_owned()),
    };
    match play {
        Ok(Play::Whole { body, steps }) => {
            let steps = u32::try_from(steps).unwrap_or(u32::MAX);
            tokio::time::sleep(pace.saturating_mul(steps).min(JSON_PAUSE_MAX)).await;
            Ok(whole(StatusCode::OK, body.to_string()))
        }
        Ok(Play::Events(events)) => Ok(paced(events, pace)),
        Err(why) => Ok(refusal(endpoint, StatusCode::BAD_REQUEST, &why)),
    }
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body)
        .map_err(|error| format!("The request is not one I can read, at column {}.", error.column()))
}

fn paced(events: Events, pace: Duration) -> Answer {
    let paced = stream::unfold((events, 0), move |(events, step)| async move {
        let event = events(step)?;
        if step > 0 && !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        Some((Bytes::from(event), (events, step + 1)))
    });
    Answer::new(StatusCode::OK, "text/event-stream", paced.boxed_local())
}

fn whole(status: StatusCode, body: String) -> Answer {
    Answer::new(status, "application/json", stream::iter([Bytes::from(body)]).boxed_local())
}

fn refusal(endpoint: Endpoint, status: StatusCode, why: &str) -> Answer {
    let body = match endpoint.dialect() {
        Dialect::Anthropic => {
            let code = actix_web::http::StatusCode::from_u16(status.as_u16()).unwrap_or_default();
            anthropic_body(code, why, "invalid_value", 0)
        }
        _ => error_body(why, "invalid_request_error", None, "invalid_value"),
    };
    whole(status, body)
}

/// An event with its name, which is also the `type` of its payload.
fn named(payload: &Value) -> String {
    format!("event: {}\ndata: {payload}\n\n", payload["type"].as_str().unwrap_or_default())
}

/// An id as providers make them.
fn id(prefix: &str) -> String {
    format!("{prefix}{:024x}", rand::random::<u128>() >> 32)
}
