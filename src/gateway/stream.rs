//! A stream on its way to the caller: events leave as they come, one at a time asked for by who reads them, and the
//! last word (`[DONE]`, or the end) is held back until the charge is committed.

use super::client::{Answer, AnswerBody};
use super::error::GatewayError;
use super::meter::Seen;
use super::settle::OpenCall;
use super::sse::{Event, Events};
use crate::ledger::Outcome;
use actix_web::web::Bytes;
use bytes::BytesMut;
use futures_util::stream::{self, Fuse, Stream, StreamExt};
use std::convert::Infallible;

/// What it takes to go on; dropped with the caller's connection, and with it the upstream's.
struct Relaying {
    /// Fused: after the end it may be asked again.
    body: Fuse<AnswerBody>,
    events: Events,
    open: OpenCall,
    /// Whether the caller asked for the event that has nothing but usage.
    show_usage: bool,
    ended: bool,
}

/// How far a batch of events goes.
enum Reached {
    /// More may come.
    Open,
    /// `[DONE]` came: its bytes are held back here.
    Done(Bytes),
    /// What came is not to be understood.
    Broken,
}

/// The body for the caller.
pub fn relay(
    answer: Answer,
    open: OpenCall,
    show_usage: bool,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let relaying =
        Relaying { body: answer.body.fuse(), events: Events::default(), open, show_usage, ended: false };
    stream::unfold(relaying, |mut relaying| async move {
        let piece = relaying.next_piece().await?;
        Some((Ok(piece), relaying))
    })
}

impl Relaying {
    /// The next bytes for the caller; `None` when all was said.
    async fn next_piece(&mut self) -> Option<Bytes> {
        while !self.ended {
            let mut out = BytesMut::new();
            match self.body.next().await {
                Some(Ok(chunk)) => {
                    self.events.push(&chunk);
                    match self.take_events(&mut out) {
                        Reached::Open if out.is_empty() => continue,
                        Reached::Open => {}
                        Reached::Done(done) => self.finish(&done, &mut out).await,
                        Reached::Broken => self.cut(&mut out).await,
                    }
                }
                // Not every upstream says [DONE]; one that gave a finish reason has ended all the same.
                None if self.open.meter.has_finished() => {
                    let rest = self.events.rest();
                    self.finish(&rest, &mut out).await;
                }
                Some(Err(_)) | None => self.cut(&mut out).await,
            }
            return Some(out.freeze());
        }
        None
    }

    /// Moves whole events to the caller's bytes, as they are, and counts them.
    fn take_events(&mut self, out: &mut BytesMut) -> Reached {
        loop {
            let event = match self.events.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return Reached::Open,
                Err(_) => return Reached::Broken,
            };
            match self.read(&event) {
                Seen::Done => return Reached::Done(event.raw),
                Seen::UsageOnly if !self.show_usage => {}
                Seen::Error => return Reached::Broken,
                Seen::Part | Seen::UsageOnly => out.extend_from_slice(&event.raw),
            }
        }
    }

    fn read(&mut self, event: &Event) -> Seen {
        event.data().map_or(Seen::Part, |data| self.open.meter.read_event(&data))
    }

    /// Settles, then lets the last word go.
    async fn finish(&mut self, last: &[u8], out: &mut BytesMut) {
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
            Ok(_) => out.extend_from_slice(last),
            Err(error) => say(&GatewayError::from(error), out),
        }
    }

    /// Settles for what was produced and tells the caller that there will be no more: never a false `[DONE]`.
    async fn cut(&mut self, out: &mut BytesMut) {
        self.ended = true;
        if self.open.settle_cut().await.is_err() {
            tracing::warn!("the charge of a stream that broke off has to wait");
        }
        say(&GatewayError::StreamBrokeOff, out);
    }
}

/// An error event, as OpenAI's SDKs understand it.
fn say(error: &GatewayError, out: &mut BytesMut) {
    out.extend_from_slice(format!("data: {}\n\n", error.body()).as_bytes());
}
