//! Whether an upstream's answer is one: decided before anything of it reaches the caller, so that another may still be asked.

use super::body::append;
use super::client::{Answer, AnswerBody, UpstreamError};
use super::endpoint::Endpoint;
use super::json::Name;
use super::meter::{Meter, Seen};
use super::settle::OpenCall;
use super::sse::{Event, Events};
use bytes::Bytes;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Largest JSON answer that is read from an upstream.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long, and for how much, the first event of a stream that says something is waited for behind the first piece.
const FIRST_EVENT_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_EVENT_BYTES: usize = 64 << 10;

/// Waits for as much of an answer as it takes to know that it is one: all of it where it is given whole, else what it begins
/// with. Until then nothing of it has reached the caller, and somebody else may still answer.
///
/// # Errors
/// When it is none, or does not come.
pub async fn begun(
    answer: &mut Answer,
    endpoint: Endpoint,
    open: &mut OpenCall,
) -> Result<Option<Bytes>, UpstreamError> {
    if answer.is_events() {
        first_event(&mut answer.body, &open.meter).await?;
        return Ok(None);
    }
    if endpoint != Endpoint::Speech {
        let body = answer.whole(ANSWER_BYTES_MAX).await?;
        return if open.meter.read_whole(&body) { Ok(Some(body)) } else { Err(UpstreamError::NoAnswer) };
    }
    if answer.is_text() {
        return Err(UpstreamError::NoAnswer);
    }
    let first = answer.body.next().await.ok_or(UpstreamError::BrokeOff)??;
    answer.body.put_back(first);
    Ok(None)
}

/// Waits for the first event that says something. Who says for a while that there will be one is not waited for any longer:
/// the caller hears it too.
///
/// # Errors
/// When it says that the upstream failed, or there is none.
async fn first_event(body: &mut AnswerBody, meter: &Meter) -> Result<(), UpstreamError> {
    let (mut events, mut came) = (Events::default(), Bytes::new());
    let mut piece = Some(body.next().await.ok_or(UpstreamError::BrokeOff)??);
    let until = Instant::now() + FIRST_EVENT_PATIENCE;
    let mut seen = None;
    while let Some(bytes) = piece {
        events.push(bytes.clone());
        append(&mut came, bytes);
        while seen.is_none()
            && let Ok(Some(event)) = events.next_event()
        {
            seen = said(&event, meter);
        }
        if seen.is_some() || came.len() > FIRST_EVENT_BYTES {
            break;
        }
        piece = match timeout_at(until, body.next()).await {
            Ok(next) => next.transpose()?,
            Err(_) => {
                seen = Some(Seen::Part);
                None
            }
        };
        if piece.is_none() {
            seen = seen.or_else(|| said(&Event { raw: events.rest() }, meter));
        }
    }
    match seen {
        Some(Seen::Error | Seen::Failed) => Err(UpstreamError::NoAnswer),
        None if came.len() <= FIRST_EVENT_BYTES => Err(UpstreamError::NoAnswer),
        _ => {
            body.put_back(came);
            Ok(())
        }
    }
}

/// What an event says, if anything: neither a comment nor a ping does.
fn said(event: &Event, meter: &Meter) -> Option<Seen> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        r#type: Name<'a>,
    }
    let data = event.data()?;
    let is_ping =
        serde_json::from_slice::<Kind<'_>>(&data).is_ok_and(|Kind { r#type: Name(kind) }| kind == "ping");
    (!is_ping).then(|| meter.clone().read_event(&data))
}
