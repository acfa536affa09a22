//! What the writer commits together: commands, and beside each whoever waits for its answer.

use super::decide::{HoldRequest, Resolution, Resolved};
use super::locked::Locked;
use super::rows::Commands;
use super::{HoldError, LedgerError, OpenHold};
use tokio::sync::oneshot;

pub(super) type HoldAnswer = oneshot::Sender<Result<OpenHold, HoldError>>;
pub(super) type ResolutionAnswer = Option<oneshot::Sender<Result<Resolved, LedgerError>>>;

/// Commands taken together, apart from those who wait for the answers.
#[derive(Default)]
pub(super) struct Batch {
    pub holds: Vec<HoldRequest>,
    pub hold_answers: Vec<HoldAnswer>,
    pub resolutions: Vec<Resolution>,
    pub resolution_answers: Vec<ResolutionAnswer>,
}

impl Batch {
    /// Resolutions for whose end nobody waits any more.
    pub fn of(resolutions: impl IntoIterator<Item = Resolution>) -> Self {
        let mut batch = Self::default();
        resolutions.into_iter().for_each(|resolution| batch.resolve(resolution, None));
        batch
    }

    pub fn len(&self) -> usize {
        self.holds.len() + self.resolutions.len()
    }

    pub fn hold(&mut self, hold: HoldRequest, answer: HoldAnswer) {
        self.holds.push(hold);
        self.hold_answers.push(answer);
    }

    pub fn resolve(&mut self, resolution: Resolution, answer: ResolutionAnswer) {
        self.resolutions.push(resolution);
        self.resolution_answers.push(answer);
    }

    pub fn commands(&self) -> Commands<'_> {
        Commands { holds: &self.holds, resolutions: &self.resolutions }
    }

    /// What concerns these rows, and all else.
    pub fn part(self, locked: &Locked) -> (Self, Self) {
        let (mut concerned, mut others) = (Self::default(), Self::default());
        for (hold, answer) in self.holds.into_iter().zip(self.hold_answers) {
            let is_concerned =
                locked.user_ids.contains(&hold.user_id) || locked.key_ids.contains(&hold.key_id);
            let part = if is_concerned { &mut concerned } else { &mut others };
            part.hold(hold, answer);
        }
        for (resolution, answer) in self.resolutions.into_iter().zip(self.resolution_answers) {
            let is_concerned = locked.unresolvable.contains(&resolution.charge_id);
            let part = if is_concerned { &mut concerned } else { &mut others };
            part.resolve(resolution, answer);
        }
        (concerned, others)
    }

    /// Each command in a batch of its own, to find the one that spoils the rest.
    pub fn split(self) -> impl Iterator<Item = Self> {
        let holds = self.holds.into_iter().zip(self.hold_answers).map(|(hold, answer)| Self {
            holds: vec![hold],
            hold_answers: vec![answer],
            ..Self::default()
        });
        let resolutions =
            self.resolutions.into_iter().zip(self.resolution_answers).map(|(resolution, answer)| Self {
                resolutions: vec![resolution],
                resolution_answers: vec![answer],
                ..Self::default()
            });
        resolutions.chain(holds)
    }

    /// Tells everybody that the database is not available. Gives the resolutions, which nobody may forget.
    pub fn turn_away(self) -> Vec<Resolution> {
        for answer in self.hold_answers {
            drop(answer.send(Err(HoldError::Failed(LedgerError::Unavailable))));
        }
        for answer in self.resolution_answers.into_iter().flatten() {
            drop(answer.send(Err(LedgerError::Unavailable)));
        }
        self.resolutions
    }
}
