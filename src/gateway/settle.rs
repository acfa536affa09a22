//! The open call: what is held, what was used so far, and the promise that its charge is resolved exactly once,
//! however the call ends. Dropped, it settles for what was produced, since then its caller has left.

use super::figures::{RouteFigures, StreamFigure};
use super::meter::Meter;
use crate::domain::price::Multiplier;
use crate::ledger::{Amount, LedgerError, Left, OpenHold, Outcome, Resolution, Resolved};
use crate::store::models::Offer;
use actix_web::http::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a settled call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Charged, in micro-credits.
    pub charged_micros: i64,
    /// To spend afterwards.
    pub left: Left,
}

/// A call whose hold is committed and not resolved yet.
pub struct OpenCall {
    /// With what it is priced by; `None` once resolved, and for a call that is free.
    hold: Option<(OpenHold, Arc<Offer>)>,
    multiplier: Multiplier,
    /// Counts along with the answer.
    pub meter: Meter,
    started: Instant,
    upstream_id: Option<i64>,
    status: Option<u16>,
    first_byte_ms: Option<i64>,
    figures: Option<RouteFigures>,
    stream: Option<StreamFigure>,
}

impl OpenCall {
    /// Takes over a hold; without one the call is free.
    pub fn open(hold: Option<(OpenHold, Arc<Offer>)>, multiplier: Multiplier, meter: Meter) -> Box<Self> {
        Box::new(Self {
            hold,
            multiplier,
            meter,
            started: Instant::now(),
            upstream_id: None,
            status: None,
            first_byte_ms: None,
            figures: None,
            stream: None,
        })
    }

    /// Counts this call among those of its route.
    pub fn counted_in(&mut self, figures: RouteFigures) {
        self.figures = Some(figures);
    }

    /// Notes that the answer leaves as a stream, open as long as this call.
    pub fn streaming(&mut self) {
        self.stream = self.figures.as_ref().map(RouteFigures::stream);
    }

    /// Notes that an upstream is about to be contacted: from here on, leaving costs the input.
    pub fn contacting(&mut self, upstream_id: i64) {
        self.upstream_id = Some(upstream_id);
    }

    /// Notes that nothing came of the upstream contacted last.
    pub fn failed_there(&mut self) {
        self.upstream_id = None;
    }

    /// How long ago it was held.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes when the answer began to come.
    pub fn first_byte(&mut self, after: Duration) {
        self.first_byte_ms = i64::try_from(after.as_millis()).ok();
        if let Some(figures) = &self.figures {
            figures.first_byte(after);
        }
    }

    /// Notes that the caller is answered with `status` from here on.
    pub fn answering(&mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
    }

    /// What the key has left to spend beside what is held for this call.
    pub fn left(&self) -> Option<Left> {
        self.hold.as_ref().map(|(hold, _)| hold.left())
    }

    /// Who serves it.
    pub fn upstream_id(&self) -> Option<i64> {
        self.upstream_id
    }

    /// Charges what was used, durably when this returns; nothing for a call that is free.
    ///
    /// # Errors
    /// When the commit did not come in time (the ledger goes on trying), or somebody else resolved the charge.
    pub async fn settle(&mut self, outcome: Outcome) -> Result<Option<Settled>, LedgerError> {
        let Some((hold, offer)) = self.hold.take() else { return Ok(None) };
        let resolution = self.settlement(&hold, &offer, outcome);
        match hold.resolve(resolution).await? {
            Resolved::Now { settled_micros, left } => {
                Ok(Some(Settled { charged_micros: settled_micros, left }))
            }
            // Taken for dead, this server lost the charge to a neighbour, who settled the input part: a caller who
            // is not charged for the whole answer does not get the whole answer.
            Resolved::Before | Resolved::Unknown => {
                tracing::error!("a charge had been resolved by somebody else");
                Err(LedgerError::Unavailable)
            }
        }
    }

    /// Charges what was produced by an upstream that broke off, or nothing if it had not begun.
    ///
    /// # Errors
    /// As [`OpenCall::settle`].
    pub async fn settle_cut(&mut self) -> Result<Option<Settled>, LedgerError> {
        if self.meter.has_begun() {
            self.settle(Outcome::Cut).await
        } else {
            self.release().await;
            Ok(None)
        }
    }

    /// Charges nothing: no upstream produced anything. The ledger repeats a release that does not go through at once.
    pub async fn release(&mut self) {
        let Some((hold, _)) = self.hold.take() else { return };
        let resolution = Resolution {
            upstream_id: self.upstream_id,
            status: self.status,
            first_byte_ms: self.first_byte_ms,
            ..Resolution::release(hold.charge_id())
        };
        if let Err(error) = hold.resolve(resolution).await {
            tracing::warn!(%error, "a release has to wait");
        }
    }

    fn settlement(&self, hold: &OpenHold, offer: &Offer, outcome: Outcome) -> Resolution {
        let (usage, source) = self.meter.usage();
        // More than i64 holds is more than was held; the ledger settles at most that.
        let cost_micros = offer.price.price().cost(usage, self.multiplier).unwrap_or(i64::MAX);
        if cost_micros > hold.held_micros() {
            // An upstream's own tools read what nobody here has seen; or it reports nonsense.
            let charge_id = hold.charge_id();
            tracing::warn!(
                charge.id = charge_id,
                ?usage,
                "an upstream reports more than was held; the hold is charged"
            );
        }
        Resolution {
            charge_id: hold.charge_id(),
            amount: Amount::Settle(cost_micros.min(hold.held_micros())),
            outcome,
            usage: Some((usage, source)),
            upstream_id: self.upstream_id,
            status: self.status,
            first_byte_ms: self.first_byte_ms,
        }
    }
}

impl Drop for OpenCall {
    /// The caller has left. Before an upstream was contacted that costs nothing; then the input, which nobody has counted yet
    /// and so is estimated, and what was produced.
    fn drop(&mut self) {
        if let Some(figures) = &self.figures {
            figures.ended(self.started.elapsed());
        }
        let Some((hold, offer)) = self.hold.take() else { return };
        let resolution = match self.upstream_id {
            None => Resolution { outcome: Outcome::HungUp, ..Resolution::release(hold.charge_id()) },
            Some(_) => self.settlement(&hold, &offer, Outcome::HungUp),
        };
        hold.resolve_later(resolution);
    }
}
