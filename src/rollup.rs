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
/// A clock that goes further than it should by so much is believed when it has said so for so long.
const LEAP: Duration = Duration::from_secs(60 * 60);
const DOUBT: Duration = Duration::from_secs(10 * 60);
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
        let mut roller = Roller {
            url: store.url().clone(),
            connection: None,
            step_charges: STEP_CHARGES_MIN,
            clock: Believed::default(),
        };
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
    clock: Believed,
}

/// The engine's clock as far as it is believed. What is closed stays closed: one that leaps ahead and comes back would have
/// all that is resolved until it gets there again wait to be summed up. So a leap is believed when it has stayed for a while.
#[derive(Default)]
struct Believed {
    /// When it was asked, and what it said.
    last: Option<(Instant, i64)>,
    doubted_since: Option<Instant>,
}

impl Believed {
    fn believes(&mut self, now: Instant, said_ms: i64) -> bool {
        let leaps = self.last.is_some_and(|(asked, before_ms)| {
            let passed = now.saturating_duration_since(asked) + LEAP;
            said_ms.saturating_sub(before_ms) > i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
        });
        if leaps && now.saturating_duration_since(*self.doubted_since.get_or_insert(now)) < DOUBT {
            return false;
        }
        (self.last, self.doubted_since) = (Some((now, said_ms)), None);
        true
    }
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
        let said_ms = self.connection()?.now_ms()?;
        let doubted = self.clock.doubted_since.is_some();
        if !self.clock.believes(Instant::now(), said_ms) {
            if !doubted {
                tracing::warn!("the clock leapt ahead; usage is summed up when it stays there or comes back");
            }
            return Ok(Ok(()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

    #[test]
    fn a_clock_that_leaps_and_comes_back_closes_nothing_ahead() {
        let (mut clock, begun) = (Believed::default(), Instant::now());
        let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        assert!(clock.believes(at(0), YEAR_MS));
        assert!(clock.believes(at(1), YEAR_MS + 60_000));
        assert!(!clock.believes(at(2), 10 * YEAR_MS));
        assert!(clock.believes(at(3), YEAR_MS + 180_000), "it is back");
        assert!(clock.believes(at(4), YEAR_MS - 60_000), "and may step back");
    }

    #[test]
    fn a_clock_that_leapt_and_stays_is_believed() {
        let (mut clock, begun) = (Believed::default(), Instant::now());
        let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        assert!(clock.believes(at(0), 0));
        assert!(!clock.believes(at(1), YEAR_MS) && !clock.believes(at(10), YEAR_MS + 540_000));
        assert!(clock.believes(at(11), YEAR_MS + 600_000));
        assert!(clock.believes(at(90), YEAR_MS + 89 * 60_000), "nothing was asked for a while");
    }
}
