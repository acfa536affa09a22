//! A stream on its way to the caller: events (or bytes) leave as they come, one at a time asked for by who reads them,
//! and the last word (`[DONE]`, `message_stop`, or the end) is held back until the charge is committed.

use super::body::joined;
use super::call::Ids;
use super::client::{Answer, AnswerBody};
use super::error::GatewayError;
use super::meter::Seen;
use super::responses::Memory;
use super::settle::OpenCall;
use super::sse::{Event, Events};
use crate::ledger::Outcome;
use actix_web::web::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::Value;
use std::convert::Infallible;
use std::io;

/// What it takes to go on; dropped with the caller's connection, and with it the upstream's.
struct Relaying {
    body: AnswerBody,
    events: Events,
    open: Box<OpenCall>,
    ids: Ids,
    /// Boxed: few have one.
    memory: Option<Box<Memory>>,
    /// Whether the caller asked for the event that has nothing but usage.
    show_usage: bool,
    ended: bool,
}

/// How far a batch of events goes.
enum Reached {
    /// More may come.
    Open,
    /// The last event came: its bytes are held back here.
    Done(Bytes),
    /// The same, and it says that the upstream failed.
    Failed(Bytes),
    /// What came is not to be understood.
    Broken,
}

/// The body for the caller.
pub fn relay(
    answer: Answer,
    open: Box<OpenCall>,
    ids: Ids,
    show_usage: bool,
    memory: Option<Memory>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let (body, events, memory) = (answer.body, Events::default(), memory.map(Box::new));
    // Boxed, or all of it would move with every piece.
    let relaying = Box::new(Relaying { body, events, open, ids, memory, show_usage, ended: false });
    stream::unfold(relaying, |mut relaying| async move {
        let piece = relaying.next_piece().await?;
        Some((Ok(piece), relaying))
    })
}

impl Relaying {
    /// The next bytes for the caller; `None` when all was said.
    async fn next_piece(&mut self) -> Option<Bytes> {
        while !self.ended {
            let chunk = self.body.next().await;
            let mut out = Bytes::new();
            // What comes once at the end is boxed, or each open stream would have the room for it all along.
            match chunk {
                Some(Ok(chunk)) => {
                    self.events.push(chunk);
                    match self.take_events(&mut out) {
                        Reached::Open if out.is_empty() => continue,
                        Reached::Open => {}
                        Reached::Done(done) => Box::pin(self.finish(done, &mut out)).await,
                        Reached::Failed(failed) => Box::pin(self.fail(&failed, &mut out)).await,
                        Reached::Broken => Box::pin(self.cut(&mut out)).await,
                    }
                }
                // Not every upstream says [DONE]; one that gave a finish reason has ended all the same.
                None if self.open.meter.has_finished() => {
                    let rest = self.events.rest();
                    Box::pin(self.finish(rest, &mut out)).await;
                }
                Some(Err(_)) | None => Box::pin(self.cut(&mut out)).await,
            }
            return Some(out);
        }
        None
    }

    /// Moves whole events to the caller's bytes, as they are, and counts them.
    fn take_events(&mut self, out: &mut Bytes) -> Reached {
        loop {
            let event = match self.events.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return Reached::Open,
                Err(_) => return Reached::Broken,
            };
            match self.read(&event) {
                Seen::Done => return Reached::Done(event.raw),
                Seen::Failed => return Reached::Failed(event.raw),
                Seen::UsageOnly if !self.show_usage => {}
                Seen::Error => return Reached::Broken,
                Seen::Part | Seen::UsageOnly => append(out, event.raw),
            }
        }
    }

    fn read(&mut self, event: &Event) -> Seen {
        event.data().map_or(Seen::Part, |data| self.open.meter.read_event(&data))
    }

    /// Settles, then lets the last word go.
    async fn finish(&mut self, last: Bytes, out: &mut Bytes) {
        self.ended = true;
        // Meanwhile the upstream's connection is read to its end, if that comes: only then can it be used again.
        let read_out = async {
            while let Some(Ok(_)) = self.body.next().await {}
            std::future::pending::<Infallible>().await
        };
        let settled = tokio::select! {
            biased;
            settled = self.open.settle(Outcome::Complete) => settled,
            never = read_out => match never {},
        };
        match settled {
            Ok(_) => {
                if let Some(memory) = self.memory.take() {
                    memory.keep(&self.open).await;
                }
                append(out, last);
            }
            Err(error) => self.say(&GatewayError::from(error), out),
        }
    }

    /// Settles for what was produced and passes on that the upstream failed, in its own event.
    async fn fail(&mut self, last: &[u8], out: &mut Bytes) {
        self.ended = true;
        match (self.open.settle_cut().await, reworded(last)) {
            (Ok(_), Some(event)) => append(out, event.into()),
            (Ok(_), None) => self.say(&GatewayError::StreamBrokeOff, out),
            (Err(error), _) => self.say(&GatewayError::from(error), out),
        }
    }

    /// Settles for what was produced and tells the caller that there will be no more: never a false `[DONE]`.
    async fn cut(&mut self, out: &mut Bytes) {
        self.ended = true;
        if self.open.settle_cut().await.is_err() {
            tracing::warn!("the charge of a stream that broke off has to wait");
        }
        self.say(&GatewayError::StreamBrokeOff, out);
    }

    /// An error event, as the route's SDKs understand it.
    fn say(&self, error: &GatewayError, out: &mut Bytes) {
        append(out, error.event(self.ids.endpoint, self.ids.request_id).into());
    }
}

/// An event that comes alone, as most do, leaves in the bytes that it came in.
fn append(out: &mut Bytes, event: Bytes) {
    *out = joined(std::mem::take(out), event);
}

/// `response.failed` with words of ours: the upstream's may tell where it is.
fn reworded(event: &[u8]) -> Option<String> {
    let event = Event { raw: Bytes::copy_from_slice(event) };
    let mut failed: Value = serde_json::from_slice(&event.data()?).ok()?;
    let error = failed.pointer_mut("/response/error")?.as_object_mut()?;
    error.insert("message".into(), "The upstream failed to make this response. Try again.".into());
    Some(format!("event: response.failed\ndata: {failed}\n\n"))
}

/// What is neither JSON nor events: pieces leave as they come, but for the last, which waits for the commit.
struct RelayingBytes {
    body: AnswerBody,
    open: Box<OpenCall>,
    /// The piece that is held back.
    held: Bytes,
    ended: bool,
}

/// The body for the caller; it breaks off where the upstream's does.
pub fn relay_bytes(answer: Answer, open: Box<OpenCall>) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let relaying = Box::new(RelayingBytes { body: answer.body, open, held: Bytes::new(), ended: false });
    stream::unfold(relaying, |mut relaying| async move {
        let piece = relaying.next_piece().await?;
        Some((piece, relaying))
    })
}

impl RelayingBytes {
    async fn next_piece(&mut self) -> Option<Result<Bytes, io::Error>> {
        while !self.ended {
            match self.body.next().await {
                Some(Ok(piece)) => {
                    self.open.meter.read_bytes(piece.len());
                    let before = std::mem::replace(&mut self.held, piece);
                    if !before.is_empty() {
                        return Some(Ok(before));
                    }
                }
                Some(Err(_)) => {
                    self.ended = true;
                    let settled = self.open.settle_cut().await;
                    tracing::warn!(settled = settled.is_ok(), "an upstream's answer broke off");
                    return Some(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                None => {
                    self.ended = true;
                    let settled = self.open.settle(Outcome::Complete).await;
                    let last = std::mem::take(&mut self.held);
                    return Some(settled.map(|_| last).map_err(|_| io::ErrorKind::ConnectionAborted.into()));
                }
            }
        }
        None
    }
}
