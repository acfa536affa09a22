//! Instances: registering, heartbeats, and resolving what a dead one left held.

use super::ids::ChargeIds;
use super::{Command, Ledger, Queue, Resolution, writer};
use crate::error::Error;
use crate::store::{DatabaseUrl, Store, charges, instances};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

const HEARTBEAT_PAUSE: Duration = Duration::from_secs(5);
/// An instance that missed this many milliseconds of heartbeats is dead; its holds are resolved within a minute.
const SILENCE_MS_MAX: i64 = 30_000;
/// Holds resolved at a time.
const SWEEP_BATCH: i64 = 256;

/// This server among those that share the database.
pub struct Instance {
    id: i64,
    ledger: Ledger,
    store: Store,
    writer: JoinHandle<()>,
    heart: JoinHandle<()>,
    stop_heart: mpsc::Sender<()>,
    /// Held while this process lives; the system lets go of it however the process ends.
    _only_server: Option<File>,
}

impl Instance {
    /// Registers, starts the ledger's writer, and resolves what dead instances left held.
    ///
    /// # Errors
    /// When the database is away, or (SQLite) another server uses the file.
    pub fn start(store: &Store) -> Result<Self, Error> {
        let only_server = match store.url() {
            DatabaseUrl::Sqlite(path) => Some(lock(path)?),
            DatabaseUrl::Postgres(_) => None,
        };
        let id = store.with(instances::register)?;
        let (sender, commands) = mpsc::channel();
        let queue = Arc::new(Queue { sender, waiting_holds: AtomicUsize::new(0), ids: ChargeIds::new(id) });
        let started = |error: std::io::Error| Error::Internal(format!("cannot start a thread: {error}"));
        let writer =
            writer::start(store.url().clone(), id, commands, Arc::downgrade(&queue)).map_err(started)?;
        let alone = only_server.is_some();
        sweep(store, &queue, id, alone)?;
        let (stop_heart, stopped) = mpsc::channel();
        let (heart_store, heart_queue) = (store.clone(), Arc::downgrade(&queue));
        let heart = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || beat(&heart_store, &heart_queue, id, alone, &stopped))
            .map_err(started)?;
        Ok(Self {
            id,
            ledger: Ledger(queue),
            store: store.clone(),
            writer,
            heart,
            stop_heart,
            _only_server: only_server,
        })
    }

    /// What calls hold and settle through.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Commits what still waits and signs off. Calls made afterwards are refused.
    pub fn stop(self) {
        drop(self.stop_heart);
        self.ledger.send(Command::Stop);
        for thread in [self.heart, self.writer] {
            if thread.join().is_err() {
                tracing::error!("a thread of the ledger had panicked");
            }
        }
        if let Err(error) = self.store.with(|connection| instances::remove(connection, self.id)) {
            tracing::warn!(%error, "could not sign off; the others will notice the silence");
        }
    }
}

/// One server a SQLite file: two writers would each believe to know what is held.
fn lock(database: &Path) -> Result<File, Error> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let failed = |error: &dyn std::fmt::Display| {
        Error::Internal(format!("cannot lock {}: {error}", Path::new(&path).display()))
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Internal(format!(
            "another server already uses {}; stop it first, or use PostgreSQL for several",
            database.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

fn beat(store: &Store, queue: &Weak<Queue>, id: i64, alone: bool, stopped: &mpsc::Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(HEARTBEAT_PAUSE) {
        let Some(queue) = queue.upgrade() else { return };
        let beaten = store
            .with(|connection| instances::heartbeat(connection, id))
            .and_then(|()| sweep(store, &queue, id, alone));
        if let Err(error) = beaten {
            tracing::warn!(%error, "heartbeat failed");
        }
    }
}

/// Resolves every open hold whose instance is not alive: at its input part, since nobody knows how far it came.
fn sweep(store: &Store, queue: &Arc<Queue>, own_id: i64, alone: bool) -> Result<(), Error> {
    let dead = store.with(|connection| {
        let holding = charges::holding_instances(connection)?;
        let alive = if alone { Vec::new() } else { instances::alive(connection, SILENCE_MS_MAX)? };
        Ok(holding.into_iter().filter(|id| *id != own_id && !alive.contains(id)).collect::<Vec<_>>())
    })?;
    for instance_id in dead {
        let resolved = resolve_all(store, &Ledger(queue.clone()), instance_id)?;
        store.with(|connection| instances::remove(connection, instance_id))?;
        tracing::warn!(
            instance.id = instance_id,
            charges = resolved,
            "resolved the holds of a dead instance"
        );
    }
    Ok(())
}

fn resolve_all(store: &Store, ledger: &Ledger, instance_id: i64) -> Result<usize, Error> {
    let mut resolved = 0;
    loop {
        let open =
            store.with(|connection| charges::open_of_instance(connection, instance_id, SWEEP_BATCH))?;
        if open.is_empty() {
            return Ok(resolved);
        }
        let answers: Vec<_> = open
            .into_iter()
            .map(|charge_id| {
                let (answer, answered) = oneshot::channel();
                ledger.send(Command::Resolve(Resolution::interrupted(charge_id), Some(answer)));
                answered
            })
            .collect();
        for answered in answers {
            answered
                .blocking_recv()
                .map_err(|_| Error::Unavailable("the ledger's writer has ended".into()))??;
            resolved += 1;
        }
    }
}
