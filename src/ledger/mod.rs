//! The only code that moves credits: hold → settle | release. Calls queue, one writer commits them in groups.
//! `decide` is pure and the same for both engines, `writer` commits, `recovery` resolves what a crash left open.

mod batch;
mod confirming;
pub mod decide;
mod figures;
mod ids;
mod known;
mod locked;
mod reading;
mod recovery;
mod rows;
mod statements;
mod writer;
mod writing;

pub use decide::{Amount, HoldRequest, Left, Outcome, Refusal, Resolution, Resolved};
pub use ids::ChargeIds;
pub use recovery::Instance;

use crate::error::Error;
use figures::Figures;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

/// Most calls that may wait for their hold at once; one more is turned away at the door.
pub const WAITING_HOLDS_MAX: usize = 4096;
/// Longest a call waits for the writer: beyond it the database counts as away.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Why the ledger gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Too many calls wait already.
    #[error("too many calls are waiting")]
    Busy,
    /// The database did not commit in time. A hold is undone, a resolution is repeated, by the writer itself.
    #[error("the database is not available")]
    Unavailable,
}

/// The handle that calls hold and settle through; cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Queue>);

struct Queue {
    sender: mpsc::Sender<Command>,
    waiting_holds: AtomicUsize,
    ids: ChargeIds,
    figures: Figures,
}

/// What the writer is asked to do, and whom it answers.
enum Command {
    Hold(HoldRequest, oneshot::Sender<Result<OpenHold, HoldError>>),
    Resolve(Resolution, Option<oneshot::Sender<Result<Resolved, LedgerError>>>),
    Stop,
}

/// Why a hold was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldError {
    /// The rows said no.
    Refused(Refusal),
    /// The rows could not be asked.
    Failed(LedgerError),
}

impl Ledger {
    /// A charge id that no other call of any instance gets; also the request id of the call.
    pub fn next_charge_id(&self) -> i64 {
        self.0.ids.next(crate::clock::now_ms())
    }

    /// What it counts of itself.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Holds credits for a call: durable when this returns, and only then may an upstream be contacted.
    ///
    /// # Errors
    /// [`HoldError::Refused`] by the rows as they are now; [`HoldError::Failed`] when they could not be asked.
    pub async fn hold(&self, request: HoldRequest) -> Result<OpenHold, HoldError> {
        let _place = Place::take(&self.0).ok_or(HoldError::Failed(LedgerError::Busy))?;
        let (answer, answered) = oneshot::channel();
        self.send(Command::Hold(request, answer));
        // If we stop waiting, the answer is dropped when it comes, and with it the hold: see OpenHold's Drop.
        match tokio::time::timeout(ANSWER_WAIT, answered).await {
            Ok(Ok(held)) => held,
            Ok(Err(_)) | Err(_) => Err(HoldError::Failed(LedgerError::Unavailable)),
        }
    }

    /// Resolves a charge by its id, whoever held it: for recovery and for ends that come late. A charge that is
    /// resolved already stays as it is.
    ///
    /// # Errors
    /// When the commit did not come in time; the writer goes on trying.
    pub async fn resolve(&self, resolution: Resolution) -> Result<Resolved, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Resolve(resolution, Some(answer)));
        match tokio::time::timeout(ANSWER_WAIT, answered).await {
            Ok(Ok(resolved)) => resolved,
            Ok(Err(_)) | Err(_) => Err(LedgerError::Unavailable),
        }
    }

    /// A dead writer drops the answer's other end, which the caller reads as "unavailable".
    fn send(&self, command: Command) {
        self.0.figures.waiting.inc();
        if self.0.sender.send(command).is_err() {
            self.0.figures.waiting.dec();
            tracing::error!("the ledger's writer has ended");
        }
    }
}

/// A place among the waiting holds, given back when dropped.
struct Place<'a>(&'a Queue);

impl<'a> Place<'a> {
    fn take(queue: &'a Queue) -> Option<Self> {
        let place = Self(queue);
        (queue.waiting_holds.fetch_add(1, Ordering::Relaxed) < WAITING_HOLDS_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting_holds.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Credits held for one call. Resolve it once; dropped unresolved, it is released: nothing was spent.
pub struct OpenHold {
    charge_id: i64,
    held_micros: i64,
    left: Left,
    ledger: Option<Ledger>,
}

impl OpenHold {
    /// Of the charge.
    pub fn charge_id(&self) -> i64 {
        self.charge_id
    }

    /// The most this call may cost.
    pub fn held_micros(&self) -> i64 {
        self.held_micros
    }

    /// What the key had left to spend beside it.
    pub fn left(&self) -> Left {
        self.left
    }

    /// Settles or releases, durably when this returns.
    ///
    /// # Errors
    /// When the commit did not come in time; the writer goes on trying, so the charge is not lost.
    pub async fn resolve(mut self, resolution: Resolution) -> Result<Resolved, LedgerError> {
        debug_assert_eq!(resolution.charge_id, self.charge_id);
        match self.ledger.take() {
            Some(ledger) => ledger.resolve(resolution).await,
            None => Err(LedgerError::Unavailable),
        }
    }

    /// As [`OpenHold::resolve`], for those who cannot wait (a dropped stream).
    pub fn resolve_later(mut self, resolution: Resolution) {
        debug_assert_eq!(resolution.charge_id, self.charge_id);
        if let Some(ledger) = self.ledger.take() {
            ledger.send(Command::Resolve(resolution, None));
        }
    }
}

impl Drop for OpenHold {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.send(Command::Resolve(Resolution::release(self.charge_id), None));
        }
    }
}

impl std::fmt::Debug for OpenHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenHold({}, {} micros)", self.charge_id, self.held_micros)
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
