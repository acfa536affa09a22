//! The pool of connections, and whose turn it is to use one: how everything but the ledger's writer reaches the database.
//! Every wait for a connection has an end.

use super::{Connection, DatabaseUrl};
use crate::error::Error;
use crate::metrics::{Histogram, SHORT_S};
use diesel::connection::SimpleConnection;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longest wait for a free connection; beyond it the database counts as away.
const POOL_WAIT: Duration = Duration::from_secs(1);
/// Longest wait, all in all, of those who ask promptly.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Readers do not block each other in WAL; writers wait their turn in the engine.
const SQLITE_POOL_SIZE: u32 = 4;
const POSTGRES_POOL_SIZE: u32 = 10;
/// So that a connection that comes free is taken at once; more would wait for one, each with its stack and its heap.
const THREADS_A_CONNECTION: usize = 2;

/// A connection of the pool.
struct Pooled {
    connection: Connection,
    /// It said that the database is not available. Another may fare better: SQLite's, opened while the file could not be
    /// written, can only read for ever.
    is_spent: bool,
}

/// Makes and checks pooled connections.
struct Manager(DatabaseUrl);

impl r2d2::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = Error;

    fn connect(&self) -> Result<Pooled, Error> {
        Ok(Pooled { connection: self.0.connect()?, is_spent: false })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), Error> {
        match &mut pooled.connection {
            Connection::Sqlite(_) => Ok(()),
            Connection::Postgres(connection) => Ok(connection.batch_execute("SELECT 1")?),
        }
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        use diesel::r2d2::R2D2Connection;
        pooled.is_spent || std::thread::panicking() || pooled.connection.is_broken()
    }
}

/// The pool.
#[derive(Clone)]
pub struct Store {
    pool: r2d2::Pool<Manager>,
    url: DatabaseUrl,
    waits: Histogram,
    /// One for each thread that asks.
    turns: Arc<Semaphore>,
}

impl Store {
    /// Opens the pool and applies pending migrations.
    ///
    /// # Errors
    /// When the database cannot be reached or was made by a newer release.
    pub fn open(url: &DatabaseUrl) -> Result<Self, Error> {
        url.migrate()?;
        let size = match url {
            DatabaseUrl::Sqlite(_) => SQLITE_POOL_SIZE,
            DatabaseUrl::Postgres(_) => POSTGRES_POOL_SIZE,
        };
        let pool = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .connection_timeout(POOL_WAIT)
            .error_handler(Box::new(LogOutage))
            .build_unchecked(Manager(url.clone()));
        let turns = Arc::new(Semaphore::new(THREADS_A_CONNECTION * size as usize));
        Ok(Self { pool, url: url.clone(), waits: Histogram::new(SHORT_S), turns })
    }

    /// Where the data lives.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// How long work waited for a connection of the pool.
    pub fn waits(&self) -> &Histogram {
        &self.waits
    }

    /// Runs `work` on a pooled connection, on the calling thread.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection is free in time; else what `work` gives.
    pub fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.with_since(Instant::now(), work)
    }

    /// As [`Store::with`], for who has waited since.
    fn with_since<T>(
        &self,
        began: Instant,
        work: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let pooled = self.pool.get();
        self.waits.observe(began.elapsed());
        let mut pooled = pooled.map_err(|error| Error::Unavailable(error.to_string()))?;
        let done = work(&mut pooled.connection);
        pooled.is_spent = matches!(done, Err(Error::Unavailable(_)));
        done
    }

    /// As [`Store::run`], for callers who are promised a quick answer: a database that accepts the question and then
    /// says nothing counts as away after a second. A question that was not asked by then is never asked.
    ///
    /// # Errors
    /// As [`Store::with`]; [`Error::Unavailable`] when no answer comes in time.
    pub async fn run_promptly<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let answer_by = tokio::time::Instant::now() + ANSWER_WAIT;
        let mut task = self.begin(work).await?;
        match tokio::time::timeout_at(answer_by, &mut task).await {
            Ok(ended) => ended.map_err(ended_early)?,
            Err(_) => {
                task.abort();
                Err(Error::Unavailable("it does not answer".into()))
            }
        }
    }

    /// Runs `work` on a pooled connection, on a thread that may block.
    ///
    /// # Errors
    /// As [`Store::with`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.begin(work).await?.await.map_err(ended_early)?
    }

    /// Begins `work` when it is its turn; as long as for a connection is waited for that.
    async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<JoinHandle<Result<T, Error>>, Error> {
        let began = Instant::now();
        let turn = tokio::time::timeout(POOL_WAIT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            self.waits.observe(began.elapsed());
            return Err(Error::Unavailable("all connections are busy".into()));
        };
        let store = self.clone();
        Ok(tokio::task::spawn_blocking(move || {
            let done = store.with_since(began, work);
            drop(turn);
            done
        }))
    }
}

fn ended_early(error: tokio::task::JoinError) -> Error {
    Error::Internal(format!("a database task ended early: {error}"))
}

#[derive(Debug)]
struct LogOutage;

impl r2d2::HandleError<Error> for LogOutage {
    fn handle_error(&self, error: Error) {
        tracing::warn!(%error, "no connection to the database");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes on so many connections at once.
    fn write_on(store: &Store, connections: u32) -> Result<(), Error> {
        if connections == 0 {
            return Ok(());
        }
        store.with(|connection| {
            connection.batch_execute("DELETE FROM sessions")?;
            write_on(store, connections - 1)
        })
    }

    #[test]
    fn a_connection_that_can_only_read_is_used_no_longer_once_a_write_failed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&DatabaseUrl::Sqlite(folder.path().join("keyhouse.db"))).expect("opened");
        // As one that was opened while the file could not be written.
        let refused = store.with(|connection| {
            connection.batch_execute("PRAGMA query_only = ON")?;
            Ok(connection.batch_execute("DELETE FROM sessions")?)
        });
        assert!(matches!(&refused, Err(Error::Unavailable(why)) if why.contains("readonly")), "{refused:?}");
        write_on(&store, SQLITE_POOL_SIZE).expect("every connection writes");
    }
}
