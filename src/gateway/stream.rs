//! A stream on its way to the caller: events (or bytes) leave as they come, one at a time asked for by who reads them,
//! and the last word (`[DONE]`, `message_stop`, or the end) is held back until the charge is committed.

use super::body::append;
use super::call::Ids;
use super::client::{Answer, AnswerBody, UpstreamError};
use super::error::GatewayError;
use super::meter::Seen;
use super::responses::{Memory, is_servers_fault, reworded_event};
use super::settle::OpenCall;
use super::sse::{Event, Events};
use crate::ledger::Outcome;
use actix_web::web::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, Stream};
use serde::de::IgnoredAny;
use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll, ready};

/// A stream on its way.
enum Stage {
    /// Boxed, or all of it would move with every piece.
    Open(Box<Relaying>),
    /// The last word is to come, when the charge is committed.
    Ending(LocalBoxFuture<'static, Bytes>),
    /// All was said.
    Ended,
}

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
}

/// Why a stream ends.
enum End {
    /// The last event came: its bytes are held back here.
    Done(Bytes),
    /// The same, and it says that the upstream failed.
    Failed(Bytes),
    /// It broke off, or what came is not to be understood; or it says that it failed.
    Broken,
    /// It says that the request was wrong.
    Refused,
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
    let mut stage = Stage::Open(Box::new(Relaying { body, events, open, ids, memory, show_usage }));
    stream::poll_fn(move |context| stage.poll_next(context).map(|piece| piece.map(Ok)))
}

impl Stage {
    /// The next bytes for the caller.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Self::Open(relaying) = self {
            let (out, end) = ready!(relaying.poll_events(context));
            let Some(end) = end else { return Poll::Ready(Some(out)) };
            if let Self::Open(relaying) = std::mem::replace(self, Self::Ended) {
                *self = Self::Ending(Box::pin(relaying.end(end, out)));
            }
        }
        let Self::Ending(last) = self else { return Poll::Ready(None) };
        let last = ready!(last.as_mut().poll(context));
        *self = Self::Ended;
        Poll::Ready(Some(last))
    }
}

impl Relaying {
    /// What has come for the caller, and why there will be no more, if so.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<(Bytes, Option<End>)> {
        loop {
            let mut out = Bytes::new();
            let end = match ready!(self.body.poll_next(context)) {
                Some(Ok(chunk)) => {
                    self.events.push(chunk);
                    self.take_events(&mut out)
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "a stream cannot be passed on");
                    Some(End::Broken)
                }
                None => Some(self.ended()),
            };
            if end.is_some() || !out.is_empty() {
                return Poll::Ready((out, end));
            }
        }
    }

    /// Moves whole events to the caller's bytes, as they are, and counts them.
    fn take_events(&mut self, out: &mut Bytes) -> Option<End> {
        loop {
            let event = match self.events.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return None,
                Err(_) => return Some(End::Broken),
            };
            match self.read(&event) {
                Seen::Done => return Some(End::Done(event.raw)),
                Seen::Failed => return Some(End::Failed(event.raw)),
                Seen::UsageOnly if !self.show_usage => {}
                Seen::Error => return Some(End::Broken),
                Seen::Refused => return Some(End::Refused),
                Seen::Part | Seen::UsageOnly => append(out, event.raw),
            }
        }
    }

    /// Not every upstream says [DONE]; one that gave a finish reason has ended all the same. Nor do all end their last event
    /// with a blank line; of one that broke off in it nobody hears.
    fn ended(&mut self) -> End {
        let last = Event { raw: self.events.rest() };
        let is_json = |data: &[u8]| serde_json::from_slice::<IgnoredAny>(data).is_ok();
        let is_whole = last.data().is_some_and(|data| &*data == b"[DONE]" || is_json(&data));
        let seen = if is_whole { self.read(&last) } else { Seen::Part };
        let has_ended = seen == Seen::Done || self.open.meter.has_finished();
        match seen {
            Seen::Failed => End::Failed(last.raw),
            Seen::Refused => End::Refused,
            Seen::Done | Seen::Part | Seen::UsageOnly if has_ended => {
                let is_shown = is_whole && (seen != Seen::UsageOnly || self.show_usage);
                End::Done(if is_shown { last.raw } else { Bytes::new() })
            }
            _ => End::Broken,
        }
    }

    /// The last bytes for the caller, behind `out`.
    async fn end(mut self: Box<Self>, end: End, mut out: Bytes) -> Bytes {
        match end {
            End::Done(last) => self.finish(last, &mut out).await,
            End::Failed(last) => {
                if (Event { raw: last.clone() }).data().is_some_and(|data| is_servers_fault(&data)) {
                    self.body.lost(UpstreamError::BrokeOff);
                }
                self.fail(last, &mut out).await;
            }
            End::Broken => {
                self.body.lost(UpstreamError::BrokeOff);
                self.cut(&mut out).await;
            }
            End::Refused => self.cut(&mut out).await,
        }
        out
    }

    fn read(&mut self, event: &Event) -> Seen {
        event.data().map_or(Seen::Part, |data| self.open.meter.read_event(&data))
    }

    /// Settles, then lets the last word go.
    async fn finish(&mut self, last: Bytes, out: &mut Bytes) {
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
    async fn fail(&mut self, last: Bytes, out: &mut Bytes) {
        let event = Event { raw: last }.data().and_then(|data| reworded_event(&data));
        match (self.open.settle_cut().await, event) {
            (Ok(_), Some(event)) => append(out, event.into()),
            (Ok(_), None) => self.say(&GatewayError::StreamBrokeOff, out),
            (Err(error), _) => self.say(&GatewayError::from(error), out),
        }
    }

    /// Settles for what was produced and tells the caller that there will be no more: never a false `[DONE]`.
    async fn cut(&mut self, out: &mut Bytes) {
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
                Some(Err(error)) => {
                    self.ended = true;
                    let settled = self.open.settle_cut().await;
                    tracing::warn!(%error, settled = settled.is_ok(), "a sound cannot be passed on");
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
