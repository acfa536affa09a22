//! The one writer: takes all that is waiting, commits it in one transaction, then answers.
//! What could not be committed is answered as unavailable; resolutions are kept and tried again until they hold, at once
//! when the database is back, and every few seconds where it is there and refuses them, or keeps what they move locked.

use super::batch::Batch;
use super::decide::Resolution;
use super::figures::Figures;
use super::known::Known;
use super::locked::{LOCK_TIMEOUT, Locked};
use super::rows::{Answers, commit, fence};
use super::{Command, HoldError, Ledger, OpenHold, Queue};
use crate::error::Error;
use crate::store::{Connection, DatabaseUrl};
use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most commands of one transaction: enough to share a disk flush among, few enough to answer soon.
const BATCH_MAX: usize = 512;
/// Behind a batch of so many commands, more are likely to be on their way.
const BUSY: usize = 4;
/// A batch of fewer waits for them where other instances move the same credits: each commit keeps those waiting.
const ENOUGH: usize = 32;
/// So long, once (docs/performance.md has what that gave).
const COMPANY_WAIT: Duration = Duration::from_micros(800);
/// Pause before what failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Before resolutions are that were refused alone. Others go on meanwhile.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Starts the writer on a thread of its own; it ends at [`Command::Stop`], with nothing left waiting.
pub(super) fn start(
    url: DatabaseUrl,
    instance_id: i64,
    commands: Receiver<Command>,
    queue: Weak<Queue>,
    figures: Figures,
) -> std::io::Result<JoinHandle<()>> {
    let writer = Writer {
        url,
        instance_id,
        queue,
        figures,
        connection: None,
        known: Known::default(),
        last_backend: None,
        unsettled: Vec::new(),
        refused: BTreeMap::new(),
        refused_until: Instant::now(),
        locked: Locked::default(),
        last_len: 0,
        stopping: false,
    };
    std::thread::Builder::new().name("ledger".into()).spawn(move || writer.run(&commands))
}

struct Writer {
    url: DatabaseUrl,
    instance_id: i64,
    /// To give each hold the handle it is resolved through.
    queue: Weak<Queue>,
    figures: Figures,
    connection: Option<Connection>,
    /// As that connection's last batches left them.
    known: Known,
    /// Of the last PostgreSQL connection, until its end is certain.
    last_backend: Option<i32>,
    /// Resolutions that wait for the database to return; as many at most as there are open holds.
    unsettled: Vec<Resolution>,
    /// Those that were refused alone by a database that answers, by charge, and until when they rest; likewise bounded,
    /// however often one that is dead is asked to be resolved.
    refused: BTreeMap<i64, Resolution>,
    refused_until: Instant,
    /// What somebody else kept locked when it was asked for last.
    locked: Locked,
    /// Of the last batch that was gathered.
    last_len: usize,
    stopping: bool,
}

/// How trying a batch ended, with a database that answers.
enum Commit {
    Done(Answers),
    /// Nothing is written: it moves what somebody else keeps locked.
    Locked(Locked),
}

impl Writer {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let batch = self.gather(commands);
            let is_last = self.stopping && batch.len() == 0;
            if self.catch_up() {
                self.process(batch);
                self.try_refused();
            } else {
                self.turn_away(batch);
            }
            if self.stopping && !self.unsettled.is_empty() {
                tracing::error!(
                    charges = self.unsettled.len(),
                    "stopped while the database is away; the next start resolves these charges"
                );
                return;
            }
            if is_last {
                if !self.refused.is_empty() {
                    let charges = self.refused.len();
                    tracing::error!(
                        charges,
                        "stopped before the database took them; the next start resolves these charges"
                    );
                }
                return;
            }
        }
    }

    /// Waits for a command, then takes all that is there.
    fn gather(&mut self, commands: &Receiver<Command>) -> Batch {
        let mut batch = Batch::default();
        let first = if self.stopping {
            Err(RecvTimeoutError::Timeout)
        } else if !self.unsettled.is_empty() {
            commands.recv_timeout(RETRY_PAUSE)
        } else if !self.refused.is_empty() {
            commands.recv_timeout(self.refused_until.saturating_duration_since(Instant::now()))
        } else {
            commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match first {
            Ok(command) => self.take(command, &mut batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.stopping = true,
        }
        let mut waits = self.known.is_shared && self.last_len >= BUSY;
        let mut taken = 0;
        while batch.len() < BATCH_MAX {
            match commands.try_recv() {
                Ok(command) => self.take(command, &mut batch),
                Err(TryRecvError::Empty) if waits && batch.len() < ENOUGH => {
                    waits = false;
                    std::thread::sleep(COMPANY_WAIT);
                }
                // Where cores are few, those who have more to ask may be waiting for this thread to let them.
                Err(TryRecvError::Empty) if batch.len() > taken => {
                    taken = batch.len();
                    std::thread::yield_now();
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.last_len = batch.len();
        batch
    }

    /// Commits what waited for the database. While that fails, nothing new is tried: what was never tried needs no
    /// undoing, and so an outage, however long, leaves no more to catch up on than was open when it began.
    fn catch_up(&mut self) -> bool {
        let mut waiting = std::mem::take(&mut self.unsettled).into_iter();
        while self.unsettled.is_empty() {
            let batch = Batch::of(waiting.by_ref().take(BATCH_MAX));
            if batch.len() == 0 {
                return true;
            }
            self.process(batch);
        }
        self.unsettled.extend(waiting);
        false
    }

    /// Tries again, each alone, what was refused alone, and is not locked still.
    fn try_refused(&mut self) {
        if self.refused.is_empty() || (Instant::now() < self.refused_until && !self.stopping) {
            return;
        }
        let refused = std::mem::take(&mut self.refused);
        let Some((connection, batch)) = self.begin(Batch::of(refused.into_values())) else { return };
        self.connection = Some(connection);
        let mut waiting = batch.resolutions.into_iter();
        // Once the database is away, it is asked for the others no more.
        while self.unsettled.is_empty()
            && let Some(resolution) = waiting.next()
        {
            self.process(Batch::of([resolution]));
        }
        self.unsettled.extend(waiting);
    }

    fn take(&mut self, command: Command, batch: &mut Batch) {
        self.figures.waiting.dec();
        match command {
            // A caller who gave up waiting gets no hold.
            Command::Hold(_, answer) if answer.is_closed() => {}
            Command::Hold(hold, answer) => batch.hold(hold, answer),
            Command::Resolve(resolution, answer) => batch.resolve(resolution, answer),
            Command::Stop => self.stopping = true,
        }
    }

    /// A connection, and what of the batch can be tried by it: not what is locked still. `None`: the database is away, and all
    /// is turned away.
    fn begin(&mut self, batch: Batch) -> Option<(Connection, Batch)> {
        let begun = self.connect().and_then(|mut connection| {
            let locked = match self.locked.is_empty() {
                true => None,
                false => Some(Locked::look(&mut connection, batch.commands(), Some(&self.locked))?),
            };
            Ok((connection, locked))
        });
        match begun {
            Ok((connection, None)) => Some((connection, batch)),
            Ok((connection, Some(locked))) => Some((connection, self.put_aside(batch, locked))),
            Err(error) => {
                tracing::warn!(%error, commands = batch.len(), "the ledger cannot reach the database");
                self.turn_away(batch);
                None
            }
        }
    }

    fn process(&mut self, batch: Batch) {
        if batch.len() == 0 {
            return;
        }
        let Some((connection, batch)) = self.begin(batch) else { return };
        if batch.len() == 0 {
            self.connection = Some(connection);
            return;
        }
        match self.commit(connection, &batch) {
            Ok(Commit::Done(answers)) => self.answer(batch, answers),
            Ok(Commit::Locked(mut locked)) => {
                tracing::warn!(
                    users = ?locked.user_ids, keys = ?locked.key_ids, charges = ?locked.charge_ids,
                    "somebody keeps these rows locked in the database, and what concerns them waits or is turned away \
                     until that ends; pg_stat_activity shows who has a transaction open"
                );
                locked.append(std::mem::take(&mut self.locked));
                let others = self.put_aside(batch, locked);
                self.process(others);
            }
            Err(Error::Unavailable(reason)) => {
                tracing::warn!(%reason, commands = batch.len(), "the ledger cannot commit");
                self.give_up(batch);
            }
            Err(error) if batch.len() > 1 => {
                tracing::error!(%error, commands = batch.len(), "a batch failed; trying its commands one by one");
                batch.split().for_each(|single| self.process(single));
            }
            Err(error) => {
                let holds = batch.holds.iter().map(|hold| hold.charge_id);
                let charge_id = holds.chain(batch.resolutions.iter().map(|end| end.charge_id)).next();
                tracing::error!(%error, charge.id = charge_id, "a ledger command failed");
                self.refuse(batch);
            }
        }
    }

    fn commit(&mut self, mut connection: Connection, batch: &Batch) -> Result<Commit, Error> {
        let began = Instant::now();
        match commit(&mut connection, self.instance_id, &mut self.known, batch.commands()) {
            Ok(answers) => {
                self.figures.committed(batch.len(), began.elapsed());
                self.connection = Some(connection);
                Ok(Commit::Done(answers))
            }
            // After a failure the connection's state is unknown: the next batch opens another. Whatever it said, and in
            // whichever language, a connection that is dead means that the database went away.
            Err(Error::Internal(said)) if connection.ping().is_err() => Err(Error::Unavailable(said)),
            // So quickly it was not for a lock.
            Err(error) if began.elapsed() < LOCK_TIMEOUT => Err(error),
            // A connection that lives has refused, so that nothing is written; it may have waited for a lock in vain.
            Err(error) => match Locked::look(&mut connection, batch.commands(), None) {
                Ok(locked) if !locked.is_empty() => {
                    self.connection = Some(connection);
                    Ok(Commit::Locked(locked))
                }
                _ => Err(error),
            },
        }
    }

    /// Turns away what concerns locked rows, without trying it, and remembers them. Gives all else.
    fn put_aside(&mut self, batch: Batch, locked: Locked) -> Batch {
        let (concerned, others) = batch.part(&locked);
        if locked.is_empty() {
            tracing::warn!("what was locked in the database is no longer");
        }
        self.locked = locked;
        if concerned.len() > 0 {
            self.refuse(concerned);
        }
        others
    }

    /// The connection there is; else opens one, once whatever the last one had under way is certainly over, so that
    /// what is looked up now is what stays: a commit whose outcome was unknown is committed or will never be.
    fn connect(&mut self) -> Result<Connection, Error> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let mut connection = self.url.connect()?;
        self.known.forget();
        self.last_backend = fence(&mut connection, self.instance_id, self.last_backend)?;
        Ok(connection)
    }

    fn answer(&self, batch: Batch, answers: Answers) {
        for ((hold, answer), outcome) in batch.holds.iter().zip(batch.hold_answers).zip(answers.holds) {
            let outcome = outcome.map_err(HoldError::Refused).map(|left| OpenHold {
                charge_id: hold.charge_id,
                held_micros: hold.held_micros,
                left,
                ledger: self.queue.upgrade().map(Ledger),
            });
            // Nobody there any more: the hold comes back, is dropped, and so released.
            drop(answer.send(outcome));
        }
        for (resolution, resolved) in batch.resolutions.iter().zip(&answers.resolutions) {
            self.figures.resolved(resolution, *resolved);
        }
        for (answer, resolved) in batch.resolution_answers.into_iter().zip(answers.resolutions) {
            if let Some(answer) = answer {
                drop(answer.send(Ok(resolved)));
            }
        }
    }

    /// The database went away in the middle. The undoing of each hold waits for its return, since a commit that
    /// reported an error may have happened.
    fn give_up(&mut self, batch: Batch) {
        self.unsettled.extend(batch.holds.iter().map(|hold| Resolution::release(hold.charge_id)));
        self.turn_away(batch);
    }

    /// The database is away, and nothing of this was tried. Resolutions wait for its return.
    fn turn_away(&mut self, batch: Batch) {
        self.unsettled.extend(batch.turn_away());
    }

    /// Tried alone and refused, by the rows themselves or for a reason that passes and is not known for one; or what it moves
    /// is locked. A hold is turned away; a resolution is never given up, or what it holds would be held until the next start.
    fn refuse(&mut self, batch: Batch) {
        // Those that wait already are not kept waiting by one that comes to them.
        if self.refused.is_empty() {
            self.refused_until = Instant::now() + REFUSED_PAUSE;
        }
        for resolution in batch.turn_away() {
            self.refused.entry(resolution.charge_id).or_insert(resolution);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::LedgerError;
    use crate::ledger::decide::HoldRequest;
    use tokio::sync::oneshot;

    /// Nobody listens there.
    const AWAY: &str = "postgres://keyhouse@127.0.0.1:1/keyhouse";

    fn hold(charge_id: i64) -> HoldRequest {
        HoldRequest {
            charge_id,
            key_id: 1,
            key_revision: 1,
            user_id: 1,
            user_revision: 1,
            group_id: 1,
            group_revision: 1,
            model_id: 1,
            model_revision: 1,
            held_micros: 1,
            input_held_micros: 1,
            price_id: 1,
            multiplier_micros: 1_000_000,
            key_name: String::new(),
            model: String::new(),
        }
    }

    #[test]
    fn calls_turned_away_during_an_outage_leave_nothing_to_catch_up_on() {
        let mut writer = Writer {
            url: AWAY.parse().expect("a URL"),
            instance_id: 1,
            queue: Weak::new(),
            figures: Figures::default(),
            connection: None,
            known: Known::default(),
            last_backend: None,
            unsettled: vec![Resolution::release(1)],
            refused: BTreeMap::new(),
            refused_until: Instant::now(),
            locked: Locked::default(),
            last_len: 0,
            stopping: true,
        };
        assert!(!writer.catch_up());
        for charge_id in 2..100 {
            let (answer, mut answered) = oneshot::channel();
            let batch =
                Batch { holds: vec![hold(charge_id)], hold_answers: vec![answer], ..Batch::default() };
            writer.process(batch);
            let refused = answered.try_recv().expect("answered at once");
            assert_eq!(refused.map(drop), Err(HoldError::Failed(LedgerError::Unavailable)));
        }
        assert_eq!(writer.unsettled, [Resolution::release(1)]);
    }
}
