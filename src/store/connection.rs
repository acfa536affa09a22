//! Connections: SQLite or PostgreSQL chosen by the URL's scheme, pooled, with the settings every one of them needs.

use crate::error::Error;
use crate::metrics::{Histogram, SHORT_S};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// One connection to whichever engine the URL names.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// One file.
    Sqlite(SqliteConnection),
    /// A server.
    Postgres(PgConnection),
}

/// Longest wait for a free connection; beyond it the database counts as away.
const POOL_WAIT: Duration = Duration::from_secs(1);
/// Longest wait, all in all, of those who ask promptly.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Longest that opening a new SQLite file waits for others who open it at the same moment.
const WAL_WAIT: Duration = Duration::from_secs(5);
/// Readers do not block each other in WAL; writers wait their turn in the engine.
const SQLITE_POOL_SIZE: u32 = 4;
const POSTGRES_POOL_SIZE: u32 = 10;
/// So that a connection that comes free is taken at once; more would wait for one, each with its stack and its heap.
const THREADS_A_CONNECTION: usize = 2;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number, the same in every release: instances that start together migrate one after the other.
const MIGRATION_LOCK: i64 = 0x6b65_7968_6f75_7365; // "keyhouse"

/// Where the data lives: `sqlite:FILE` or `postgres://…`. Its `Debug` and `Display` hide a password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite:keyhouse.db`
    Sqlite(PathBuf),
    /// `postgres://user:password@host/database`
    Postgres(String),
}

impl std::str::FromStr for DatabaseUrl {
    type Err = String;

    /// Only the two known schemes: an unknown one never becomes a SQLite file.
    fn from_str(raw: &str) -> Result<Self, String> {
        if let Some(path) = raw.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('?') || path == ":memory:" {
                return Err("name a file, such as sqlite:keyhouse.db".into());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if raw.starts_with("postgres://") || raw.starts_with("postgresql://") {
            return Ok(Self::Postgres(raw.to_owned()));
        }
        Err("use sqlite:FILE or postgres://USER@HOST/DATABASE".into())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => match url::Url::parse(url) {
                Ok(url) => write!(f, "postgres://{}{}", url.host_str().unwrap_or("(socket)"), url.path()),
                Err(_) => f.write_str("postgres://…"),
            },
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl DatabaseUrl {
    /// Opens one connection with its settings.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the engine cannot be reached.
    pub fn connect(&self) -> Result<AnyConnection, Error> {
        let unavailable = |error: &dyn fmt::Display| Error::Unavailable(error.to_string());
        match self {
            Self::Sqlite(path) => {
                let path = path.to_str().ok_or_else(|| unavailable(&"the path is not UTF-8"))?;
                // Made for its owner alone, whatever the umask; SQLite gives its other files the same mode.
                let owners = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
                owners.map_err(|error| unavailable(&error))?;
                let mut connection = SqliteConnection::establish(path).map_err(|e| unavailable(&e))?;
                set_up_sqlite(&mut connection).map_err(|e| unavailable(&e))?;
                Ok(AnyConnection::Sqlite(connection))
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::establish(&bounded(url)).map_err(|e| unavailable(&e))?;
                connection
                    .batch_execute(
                        // Compiling a query takes longer than any query here.
                        "SET jit = off; SET default_transaction_isolation = 'read committed'; \
                         SET synchronous_commit = on; SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
                         SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = warning;",
                    )
                    .map_err(|e| unavailable(&e))?;
                Ok(AnyConnection::Postgres(connection))
            }
        }
    }
}

fn set_up_sqlite(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute("PRAGMA busy_timeout = 5000")?;
    // A new file turns to WAL once, and whoever meets another process at that moment is sent away at once, whatever
    // the timeout.
    let begun = Instant::now();
    while let Err(error) = connection.batch_execute("PRAGMA journal_mode = WAL") {
        if begun.elapsed() > WAL_WAIT || !error.to_string().contains("locked") {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // FULL: a commit is on the disk before it is answered.
    connection.batch_execute(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY; \
         PRAGMA wal_autocheckpoint = 4000;",
    )
}

/// The URL with a connect timeout and keepalives, unless it sets its own: a dead server is noticed, not waited for.
fn bounded(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in
        [("connect_timeout", "2"), ("tcp_user_timeout", "3000"), ("application_name", "keyhouse")]
    {
        if !url.contains(&format!("{name}=")) {
            let separator = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{separator}{name}={value}"));
        }
    }
    url
}

impl AnyConnection {
    /// Runs `work` in one transaction that may write: it takes SQLite's write lock at its beginning, so that two
    /// writers wait for each other instead of failing half-way.
    ///
    /// # Errors
    /// What `work` gives, rolled back; or the engine's.
    pub fn write<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        match self {
            Self::Sqlite(connection) => connection.batch_execute("BEGIN IMMEDIATE")?,
            Self::Postgres(connection) => connection.batch_execute("BEGIN")?,
        }
        let done = work(self).and_then(|value| {
            self.batch_execute("COMMIT")?;
            Ok(value)
        });
        if done.is_err() {
            // The connection is dropped by the pool if this fails too; the engine then rolls back by itself.
            if let Err(error) = self.batch_execute("ROLLBACK") {
                tracing::debug!(%error, "rollback after an error");
            }
        }
        done
    }

    /// Runs `work`, which only reads, over one snapshot: all it asks is answered as of one moment, and no writer waits.
    ///
    /// # Errors
    /// What `work` gives; or the engine's.
    pub fn snapshot<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.batch_execute(match self {
            // A deferred transaction reads one snapshot of the WAL.
            Self::Sqlite(_) => "BEGIN DEFERRED",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })?;
        let done = work(self);
        // A connection on which this fails is broken, and the pool drops it.
        self.batch_execute("ROLLBACK")?;
        done
    }

    /// The engine's present moment where several machines share it, else this machine's.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn now_ms(&mut self) -> Result<i64, Error> {
        match self {
            Self::Sqlite(_) => Ok(crate::clock::now_ms()),
            Self::Postgres(connection) => Ok(ServerClock.get_result(connection)?),
        }
    }

    /// Asks the engine for anything at all.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ping(&mut self) -> Result<(), Error> {
        Ok(self.batch_execute("SELECT 1")?)
    }

    /// Applies the migrations this binary carries and the database lacks, one process at a time.
    /// Gives the versions applied.
    ///
    /// # Errors
    /// When the database was made by a newer release, or a migration fails.
    pub fn migrate(&mut self) -> Result<Vec<String>, Error> {
        let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::Internal(error.to_string());
        match self {
            Self::Sqlite(connection) => connection.immediate_transaction(|connection| {
                refuse_newer(connection, SQLITE_MIGRATIONS)?;
                let applied = connection.run_pending_migrations(SQLITE_MIGRATIONS).map_err(internal)?;
                Ok(applied.iter().map(ToString::to_string).collect())
            }),
            Self::Postgres(connection) => {
                connection.batch_execute(&format!(
                    "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK})"
                ))?;
                let applied = refuse_newer(connection, POSTGRES_MIGRATIONS).and_then(|()| {
                    let applied = connection.run_pending_migrations(POSTGRES_MIGRATIONS).map_err(internal)?;
                    Ok(applied.iter().map(ToString::to_string).collect())
                });
                connection.batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})"))?;
                applied
            }
        }
    }
}

/// PostgreSQL's clock in milliseconds. A query of its own, since diesel prepares `sql("…")` anew every time.
#[derive(diesel::query_builder::QueryId)]
struct ServerClock;

impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for ServerClock {
    fn walk_ast<'b>(
        &'b self,
        mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint");
        Ok(())
    }
}

impl diesel::query_builder::Query for ServerClock {
    type SqlType = diesel::sql_types::BigInt;
}

impl RunQueryDsl<PgConnection> for ServerClock {}

/// A number that is another as soon as another connection has committed, asked inside a transaction that writes.
///
/// # Errors
/// When the engine does not answer.
pub fn data_version(connection: &mut SqliteConnection) -> Result<i64, Error> {
    Ok(DataVersion.get_result(connection)?)
}

/// SQLite's own count of what other connections have changed (<https://sqlite.org/pragma.html#pragma_data_version>).
#[derive(diesel::query_builder::QueryId)]
struct DataVersion;

impl diesel::query_builder::QueryFragment<diesel::sqlite::Sqlite> for DataVersion {
    fn walk_ast<'b>(
        &'b self,
        mut out: diesel::query_builder::AstPass<'_, 'b, diesel::sqlite::Sqlite>,
    ) -> QueryResult<()> {
        out.push_sql("PRAGMA data_version");
        Ok(())
    }
}

impl diesel::query_builder::Query for DataVersion {
    type SqlType = diesel::sql_types::BigInt;
}

impl RunQueryDsl<SqliteConnection> for DataVersion {}

fn refuse_newer<DB: diesel::backend::Backend>(
    connection: &mut impl MigrationHarness<DB>,
    known: EmbeddedMigrations,
) -> Result<(), Error> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::Internal(error.to_string());
    let known = diesel::migration::MigrationSource::<DB>::migrations(&known).map_err(internal)?;
    let newest_known = known.iter().map(|migration| migration.name().version().as_owned()).max();
    let newest_applied = connection.applied_migrations().map_err(internal)?.into_iter().max();
    if newest_applied > newest_known {
        return Err(Error::Internal(
            "this database was made by a newer release of Keyhouse; run that release or restore a backup"
                .into(),
        ));
    }
    Ok(())
}

/// Makes and checks pooled connections.
struct Manager(DatabaseUrl);

impl r2d2::ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = Error;

    fn connect(&self) -> Result<AnyConnection, Error> {
        self.0.connect()
    }

    fn is_valid(&self, connection: &mut AnyConnection) -> Result<(), Error> {
        match connection {
            AnyConnection::Sqlite(_) => Ok(()),
            AnyConnection::Postgres(connection) => Ok(connection.batch_execute("SELECT 1")?),
        }
    }

    fn has_broken(&self, connection: &mut AnyConnection) -> bool {
        use diesel::r2d2::R2D2Connection;
        std::thread::panicking() || connection.is_broken()
    }
}

/// The pool: how everything but the ledger's writer reaches the database.
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
        url.connect()?.migrate()?;
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
    pub fn with<T>(&self, work: impl FnOnce(&mut AnyConnection) -> Result<T, Error>) -> Result<T, Error> {
        self.with_since(Instant::now(), work)
    }

    /// As [`Store::with`], for who has waited since.
    fn with_since<T>(
        &self,
        began: Instant,
        work: impl FnOnce(&mut AnyConnection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let connection = self.pool.get();
        self.waits.observe(began.elapsed());
        let mut connection = connection.map_err(|error| Error::Unavailable(error.to_string()))?;
        work(&mut connection)
    }

    /// As [`Store::run`], for callers who are promised a quick answer: a database that accepts the question and then
    /// says nothing counts as away after a second. A question that was not asked by then is never asked.
    ///
    /// # Errors
    /// As [`Store::with`]; [`Error::Unavailable`] when no answer comes in time.
    pub async fn run_promptly<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut AnyConnection) -> Result<T, Error> + Send + 'static,
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
        work: impl FnOnce(&mut AnyConnection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.begin(work).await?.await.map_err(ended_early)?
    }

    /// Begins `work` when it is its turn; as long as for a connection is waited for that.
    async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut AnyConnection) -> Result<T, Error> + Send + 'static,
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

    #[test]
    fn an_unknown_scheme_never_becomes_a_file() {
        for raw in ["", "keyhouse.db", "mysql://x/y", "sqlite:", "Postgres://x", "sqlite:a.db?mode=memory"] {
            assert!(raw.parse::<DatabaseUrl>().is_err(), "{raw}");
        }
        assert_eq!("sqlite:a/b.db".parse(), Ok(DatabaseUrl::Sqlite("a/b.db".into())));
        let url: DatabaseUrl = "postgres://ada:secret@db.example/keyhouse".parse().expect("valid");
        assert_eq!(format!("{url:?}"), "postgres://db.example/keyhouse");
    }
}
