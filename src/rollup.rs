//! The thread that keeps the usage rollups close behind the charges: with its own connection, in short steps, apart
//! from the ledger's writer. What it has not come to yet, `store::usage` adds up when asked.

use crate::error::Error;
use crate::store::usage_rollup::{self, Closing, Rolled};
use crate::store::{Connection, DatabaseUrl, Store};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between rounds; also how much there is to add up when somebody asks.
const PAUSE: Duration = Duration::from_secs(15);
/// Between looks at transactions that are not over yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A step that takes longer keeps the ledger's writer waiting on SQLite: the next one is shorter.
const STEP_MAX: Duration = Duration::from_millis(20);
const STEP_CHARGES_MIN: i64 = 1_000;
const STEP_CHARGES_MAX: i64 = 50_000;
/// Rows that are merged in one transaction: a few milliseconds.
const MERGED_TOGETHER: i64 = 500;

/// The running thread; it ends with this value.
pub struct Rollup {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rollup {
    /// Starts it over the same database.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(store: &Store) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut roller =
            Roller { url: store.url().clone(), connection: None, step_charges: STEP_CHARGES_MIN };
        let thread = std::thread::Builder::new().name("rollup".into()).spawn(move || roller.run(&stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Rollup {
    fn drop(&mut self) {
        self.stop.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the usage rollups had panicked");
        }
    }
}

struct Roller {
    url: DatabaseUrl,
    connection: Option<Connection>,
    /// As many as took about [`STEP_MAX`] lately.
    step_charges: i64,
}

/// Told to stop.
struct Stopped;

impl Roller {
    fn run(&mut self, stopped: &mpsc::Receiver<()>) {
        let mut complained = false;
        loop {
            match self.round(stopped) {
                Ok(Ok(())) => complained = false,
                Ok(Err(Stopped)) => return,
                Err(error) => {
                    // The connection's state is unknown: the next round opens another.
                    self.connection = None;
                    if !complained {
                        tracing::warn!(%error, "usage is not summed up for now");
                    }
                    complained = true;
                }
            }
            if pause(stopped, PAUSE).is_err() {
                return;
            }
        }
    }

    /// Sums up what was resolved until now.
    fn round(&mut self, stopped: &mpsc::Receiver<()>) -> Result<Result<(), Stopped>, Error> {
        if let Some(closing) = usage_rollup::close(self.connection()?)? {
            while !usage_rollup::is_closed(self.connection()?, closing)? {
                if pause(stopped, LOOK_AGAIN).is_err() {
                    return Ok(Err(Stopped));
                }
            }
            while let Some(took) = self.step(closing)? {
                // As long as it took, the database is left to others.
                if pause(stopped, took).is_err() {
                    return Ok(Err(Stopped));
                }
            }
        }
        loop {
            let began = Instant::now();
            if !usage_rollup::merge(self.connection()?, MERGED_TOGETHER)? {
                break;
            }
            if pause(stopped, began.elapsed()).is_err() {
                return Ok(Err(Stopped));
            }
        }
        while usage_rollup::prune(self.connection()?)? {
            if pause(stopped, STEP_MAX).is_err() {
                return Ok(Err(Stopped));
            }
        }
        Ok(Ok(()))
    }

    /// As many charges as are summed up together; how long that took if there is more to do.
    fn step(&mut self, closing: Closing) -> Result<Option<Duration>, Error> {
        let charges = self.step_charges;
        let began = Instant::now();
        let (rolled, kept_waiting) = usage_rollup::roll(self.connection()?, closing, charges)?;
        if kept_waiting > STEP_MAX {
            self.step_charges = (charges / 2).max(STEP_CHARGES_MIN);
        } else if kept_waiting < STEP_MAX / 2 {
            self.step_charges = (charges * 3 / 2).min(STEP_CHARGES_MAX);
        }
        Ok((rolled == Rolled::Some).then_some(began.elapsed()))
    }

    fn connection(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.url.connect()?,
        };
        Ok(self.connection.insert(connection))
    }
}

fn pause(stopped: &mpsc::Receiver<()>, time: Duration) -> Result<(), Stopped> {
    match stopped.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        _ => Err(Stopped),
    }
}
