//! Instances: registering, heartbeats, and resolving what a dead one left held.

use super::figures::Figures;
use super::ids::ChargeIds;
use super::{Command, Ledger, Queue, Resolution, writer};
use crate::error::Error;
use crate::store::instances::{self, SILENCE_MAX};
use crate::store::{Connection, DatabaseUrl, Store, charges};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const HEARTBEAT_PAUSE: Duration = Duration::from_secs(3);
/// Whoever looked away for longer than this, because the database was away or they themselves stood still, cannot
/// tell the silence of others from their own.
const GLANCE_MAX: Duration = Duration::from_secs(5);
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
    /// Registers, starts the ledger's writer, and resolves what dead instances left held. `master_key` is the fingerprint of
    /// the one that this server works with.
    ///
    /// # Errors
    /// When the database is away, or (SQLite) another server uses the file, or works with another master key.
    pub fn start(store: &Store, master_key: &str) -> Result<Self, Error> {
        let only_server = match store.url() {
            DatabaseUrl::Sqlite(path) => Some(lock(path)?),
            DatabaseUrl::Postgres(_) => None,
        };
        let id = store.with(|connection| instances::register(connection, master_key))?;
        // Of two that start at once, one at least sees the other. The file's lock says as much as this.
        if only_server.is_none()
            && store.with(|connection| instances::has_other_master_key(connection, master_key))?
        {
            store.with(|connection| instances::remove(connection, id))?;
            return Err(Error::Internal(
                "another server works on this database with another master key; start this one with a copy of that key, \
                 or stop the other first"
                    .into(),
            ));
        }
        let (sender, commands) = mpsc::channel();
        let figures = Figures::default();
        let queue = Arc::new(Queue {
            sender,
            waiting_holds: AtomicUsize::new(0),
            ids: ChargeIds::new(id),
            figures: figures.clone(),
        });
        let started = |error: std::io::Error| Error::Internal(format!("cannot start a thread: {error}"));
        let writer = writer::start(store.url().clone(), id, commands, Arc::downgrade(&queue), figures)
            .map_err(started)?;
        let mut heart = Heart {
            id,
            master_key: master_key.to_owned(),
            url: store.url().clone(),
            connection: None,
            queue: Arc::downgrade(&queue),
            alone: only_server.is_some(),
            watch: Watch::default(),
        };
        heart.beat()?;
        let (stop_heart, stopped) = mpsc::channel();
        let heart = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || heart.run(&stopped))
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

/// One server a SQLite file, by whichever path it is reached: two writers would each believe to know what is held.
fn lock(database: &Path) -> Result<File, Error> {
    let resolved = database.canonicalize();
    let database = resolved.as_deref().unwrap_or(database);
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let failed = |error: &dyn std::fmt::Display| {
        Error::Internal(format!("cannot lock {}: {error}", Path::new(&path).display()))
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
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

/// Says that this server is alive, and looks after those that are not.
struct Heart {
    id: i64,
    master_key: String,
    url: DatabaseUrl,
    /// Its own: a heartbeat does not wait behind calls for a pooled one.
    connection: Option<Connection>,
    queue: Weak<Queue>,
    /// On SQLite: there is no living neighbour.
    alone: bool,
    watch: Watch,
}

impl Heart {
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(HEARTBEAT_PAUSE) {
            if let Err(error) = self.beat() {
                tracing::warn!(%error, "heartbeat failed");
            }
        }
    }

    fn beat(&mut self) -> Result<(), Error> {
        let Some(queue) = self.queue.upgrade() else { return Ok(()) };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.url.connect()?,
        };
        instances::heartbeat(&mut connection, self.id, &self.master_key)?;
        self.sweep(&mut connection, &Ledger(queue))?;
        // After a failure the connection's state is unknown: the next beat opens another.
        self.connection = Some(connection);
        Ok(())
    }

    /// Resolves every open hold whose instance is dead: at its input part, since nobody knows how far it came.
    fn sweep(&mut self, connection: &mut Connection, ledger: &Ledger) -> Result<(), Error> {
        let registered = instances::heartbeats(connection)?.into_iter().map(|(id, at_ms)| (id, Some(at_ms)));
        let holding = charges::holding_instances(connection)?.into_iter().map(|id| (id, None));
        // Those registered come last, and so count.
        let mut others: BTreeMap<i64, Option<i64>> = holding.chain(registered).collect();
        others.remove(&self.id);
        let dead = match self.alone {
            true => others.into_keys().collect(),
            false => self.watch.dead(&others, Instant::now()),
        };
        for instance_id in dead {
            let Swept { resolved, waiting } = resolve_all(connection, ledger, instance_id)?;
            if waiting > 0 {
                tracing::warn!(
                    instance.id = instance_id,
                    charges = waiting,
                    "holds of a dead instance must wait"
                );
                continue;
            }
            instances::remove(connection, instance_id)?;
            tracing::warn!(
                instance.id = instance_id,
                charges = resolved,
                "resolved the holds of a dead instance"
            );
        }
        Ok(())
    }
}

/// What this server has seen of the others' heartbeats, by its own clock. An instance is dead when its heartbeat
/// stood still while this server saw the database all the time; what the stored moments say does not matter, since
/// after an outage they are old for the living too.
#[derive(Default)]
struct Watch {
    looked: Option<Instant>,
    /// Heartbeat by instance (`None`: not registered), and since when it stands still.
    seen: BTreeMap<i64, (Option<i64>, Instant)>,
}

impl Watch {
    fn dead(&mut self, others: &BTreeMap<i64, Option<i64>>, now: Instant) -> Vec<i64> {
        if self.looked.is_none_or(|looked| now - looked > GLANCE_MAX) {
            self.seen.clear();
        }
        self.looked = Some(now);
        let since = |id: &i64, heartbeat: &Option<i64>| match self.seen.get(id) {
            Some((seen, since)) if seen == heartbeat => *since,
            _ => now,
        };
        self.seen = others.iter().map(|(id, beat)| (*id, (*beat, since(id, beat)))).collect();
        self.seen.iter().filter(|(_, (_, since))| now - *since >= SILENCE_MAX).map(|(id, _)| *id).collect()
    }
}

/// What became of the holds of a dead instance.
#[derive(Default)]
struct Swept {
    resolved: usize,
    /// The writer keeps them, and the next beat asks again.
    waiting: usize,
}

fn resolve_all(connection: &mut Connection, ledger: &Ledger, instance_id: i64) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut after_id = 0;
    loop {
        let open = charges::open_of_instance(connection, instance_id, after_id, SWEEP_BATCH)?;
        let Some(&last_id) = open.last() else { return Ok(swept) };
        after_id = last_id;
        let answers: Vec<_> = open
            .into_iter()
            .map(|charge_id| {
                let (answer, answered) = oneshot::channel();
                ledger.send(Command::Resolve(Resolution::interrupted(charge_id), Some(answer)));
                answered
            })
            .collect();
        for answered in answers {
            let answer = answered
                .blocking_recv()
                .map_err(|_| Error::Unavailable("the ledger's writer has ended".into()))?;
            match answer {
                Ok(_) => swept.resolved += 1,
                Err(_) => swept.waiting += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every three seconds, for this many seconds, at one neighbour that beats until `last_beat_s`.
    fn look(watch: &mut Watch, start: Instant, seconds: std::ops::Range<u64>, last_beat_s: u64) -> Vec<u64> {
        let looks = seconds.step_by(3);
        let found_dead = looks.filter(|second| {
            let beat = i64::try_from((*second).min(last_beat_s)).expect("small");
            let others = BTreeMap::from([(7, Some(beat))]);
            watch.dead(&others, start + Duration::from_secs(*second)) == [7]
        });
        found_dead.collect()
    }

    #[test]
    fn whoever_beats_is_alive_and_whoever_stops_is_dead_after_the_silence() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(look(&mut watch, start, 0..60, 60).is_empty());
        assert_eq!(look(&mut watch, start, 60..90, 62).first(), Some(&78));
    }

    #[test]
    fn the_silence_of_an_outage_is_no_death() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(look(&mut watch, start, 0..30, 30).is_empty());
        // Away for half a minute, nobody could beat; at the first look the neighbour has not beaten again yet.
        assert!(look(&mut watch, start, 60..63, 27).is_empty());
        assert!(look(&mut watch, start, 63..90, 90).is_empty());
    }

    #[test]
    fn holds_of_nobody_registered_are_swept_after_the_same_silence() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let unregistered = BTreeMap::from([(9, None)]);
        let dead = |watch: &mut Watch, second| watch.dead(&unregistered, start + Duration::from_secs(second));
        assert!((0..15).step_by(3).all(|second| dead(&mut watch, second).is_empty()));
        assert_eq!(dead(&mut watch, 15), [9]);
    }
}
