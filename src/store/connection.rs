//! Connections: SQLite or PostgreSQL chosen by the URL's scheme, with the settings every one of them needs.

use super::ask;
use crate::error::Error;
use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::migration::{MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One connection to whichever engine the URL names.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// One file.
    Sqlite(SqliteConnection),
    /// A server.
    Postgres(PgConnection),
}

/// Longest that opening a new SQLite file waits for others who open it at the same moment.
const WAL_WAIT: Duration = Duration::from_secs(5);

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
        let unavailable = |error: &dyn fmt::Display| Error::Unavailable(self.hidden_in(error.to_string()));
        match self {
            Self::Sqlite(path) => {
                let path = path.to_str().ok_or_else(|| unavailable(&"the path is not UTF-8"))?;
                // Made for its owner alone, whatever the umask; SQLite gives its other files the same mode. One that is there
                // is not even opened: closing it would drop every lock that this process has on it, and whoever believes
                // that nobody uses the file deletes the log beside it (<https://sqlite.org/howtocorrupt.html>, 2.2).
                let new = || File::options().write(true).mode(0o600).to_owned();
                match new().create_new(true).open(path) {
                    // A link that leads to no file yet.
                    Err(error)
                        if error.kind() == io::ErrorKind::AlreadyExists && !Path::new(path).exists() =>
                    {
                        drop(
                            new()
                                .create(true)
                                .truncate(false)
                                .open(path)
                                .map_err(|error| unavailable(&error))?,
                        );
                    }
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unavailable(&error))?,
                    _ => {}
                }
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

    /// Brings the database up to this release, before anybody else opens it. Gives the versions applied.
    ///
    /// # Errors
    /// As [`DatabaseUrl::connect`] and [`AnyConnection::migrate`]; when SQLite's file has a second name.
    pub fn migrate(&self) -> Result<Vec<String>, Error> {
        self.refuse_second_name()?;
        self.connect()?.migrate()
    }

    /// SQLite keeps its log beside a name: who comes to the file by another sees and writes something else
    /// (<https://sqlite.org/howtocorrupt.html>, 2.5).
    ///
    /// # Errors
    /// When SQLite's file has a second name.
    pub fn refuse_second_name(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(path) if path.metadata().is_ok_and(|file| file.nlink() > 1) => {
                Err(Error::Internal(format!(
                    "the database file {} has another name too, a hard link; remove one of the two names, \
                     or put a copy in its place",
                    path.display()
                )))
            }
            _ => Ok(()),
        }
    }

    /// What a server says, or that there is none. What libpq says of a URL that it cannot read quotes it, password and all.
    fn hidden_in(&self, said: String) -> String {
        let is_of_server = ["connection to server", "could not translate host name"];
        match self {
            // With a second @, what is taken for a host may be the end of a password.
            Self::Postgres(url)
                if url.matches('@').count() > 1 || !is_of_server.iter().any(|begin| said.starts_with(begin)) =>
            {
                "its URL cannot be read: check its parts and parameters, and write signs in a name or a password as %XX, \
                 such as %2F for / and %40 for @"
                    .to_owned()
            }
            _ => said,
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

/// The URL with timeouts for connecting and for what was sent, unless it sets its own: a dead server is noticed, not
/// waited for.
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
            Self::Sqlite(connection) => drop(Kept::<BEGIN>.execute(connection)?),
            Self::Postgres(connection) => connection.batch_execute("BEGIN")?,
        }
        let done = work(self).and_then(|value| {
            match self {
                Self::Sqlite(connection) => drop(Kept::<COMMIT>.execute(connection)?),
                Self::Postgres(connection) => connection.batch_execute("COMMIT")?,
            }
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
            Self::Postgres(connection) => Ok(Kept::<SERVER_CLOCK>.get_result(connection)?),
        }
    }

    /// Asks the engine for anything at all.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ping(&mut self) -> Result<(), Error> {
        Ok(self.batch_execute("SELECT 1")?)
    }

    /// Applies the migrations this binary carries and the database lacks, one process at a time. Writes nothing where none
    /// is lacking: what only reads works on a database that cannot be written. Gives the versions applied.
    ///
    /// # Errors
    /// When the database was made by a newer release, or a migration fails.
    pub fn migrate(&mut self) -> Result<Vec<String>, Error> {
        if self.is_up_to_date()? {
            return Ok(Vec::new());
        }
        self.migrate_up_to(None)
    }

    /// Applies what is lacking up to this version, that included; all of it where none is given.
    ///
    /// # Errors
    /// As [`AnyConnection::migrate`].
    pub fn migrate_up_to(&mut self, last: Option<&str>) -> Result<Vec<String>, Error> {
        match self {
            Self::Sqlite(connection) => {
                connection.immediate_transaction(|connection| apply(connection, SQLITE_MIGRATIONS, last))
            }
            Self::Postgres(connection) => {
                connection.batch_execute(&format!(
                    "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK})"
                ))?;
                let applied = apply(connection, POSTGRES_MIGRATIONS, last);
                connection.batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})"))?;
                applied
            }
        }
    }

    /// The newest migration that is applied, by its version.
    ///
    /// # Errors
    /// When there is none, or the engine does not answer.
    pub fn schema_version(&mut self) -> Result<String, Error> {
        let newest: Applied =
            ask!(self, get_result, "SELECT max(version) AS version FROM __diesel_schema_migrations")?;
        Ok(newest.version)
    }

    /// Whether exactly the migrations that this binary carries are applied. A database that cannot be asked says why when it
    /// is migrated.
    fn is_up_to_date(&mut self) -> Result<bool, Error> {
        let asked: QueryResult<Vec<Applied>> =
            ask!(self, load, "SELECT version FROM __diesel_schema_migrations");
        let Ok(applied) = asked else { return Ok(false) };
        let applied: BTreeSet<String> = applied.into_iter().map(|migration| migration.version).collect();
        let known = match self {
            Self::Sqlite(_) => versions::<Sqlite>(&SQLITE_MIGRATIONS)?,
            Self::Postgres(_) => versions::<Pg>(&POSTGRES_MIGRATIONS)?,
        };
        Ok(applied == known.iter().map(ToString::to_string).collect())
    }
}

/// A row of diesel's own table.
#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Begins a transaction that writes, on SQLite.
const BEGIN: usize = 0;
/// Makes it durable.
const COMMIT: usize = 1;
/// SQLite's own count of what other connections have changed (<https://sqlite.org/pragma.html#pragma_data_version>).
const DATA_VERSION: usize = 2;
/// PostgreSQL's clock in milliseconds.
const SERVER_CLOCK: usize = 3;

/// The texts, by the numbers above.
const TEXTS: [&str; 4] = [
    "BEGIN IMMEDIATE",
    "COMMIT",
    "PRAGMA data_version",
    "SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint",
];

/// What is said so often that it stays prepared; `batch_execute` and `sql("…")` are prepared anew every time. Gives a number,
/// if anything.
struct Kept<const TEXT: usize>;

impl<DB: Backend, const TEXT: usize> QueryFragment<DB> for Kept<TEXT> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(TEXTS[TEXT]);
        Ok(())
    }
}

impl<const TEXT: usize> QueryId for Kept<TEXT> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const TEXT: usize> Query for Kept<TEXT> {
    type SqlType = BigInt;
}

impl<C, const TEXT: usize> RunQueryDsl<C> for Kept<TEXT> {}

/// A number that is another as soon as another connection has committed, asked inside a transaction that writes.
///
/// # Errors
/// When the engine does not answer.
pub fn data_version(connection: &mut SqliteConnection) -> Result<i64, Error> {
    Ok(Kept::<DATA_VERSION>.get_result(connection)?)
}

fn versions<DB: Backend>(known: &EmbeddedMigrations) -> Result<Vec<MigrationVersion<'static>>, Error> {
    let known =
        MigrationSource::<DB>::migrations(known).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(known.iter().map(|migration| migration.name().version().as_owned()).collect())
}

/// Applies what the database lacks of the `known` up to the `last`, in their order. Gives the versions applied.
fn apply<DB: Backend>(
    connection: &mut impl MigrationHarness<DB>,
    known: EmbeddedMigrations,
    last: Option<&str>,
) -> Result<Vec<String>, Error> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::Internal(error.to_string());
    let newest_known = versions::<DB>(&known)?.into_iter().max();
    let newest_applied = connection.applied_migrations().map_err(internal)?.into_iter().max();
    if newest_applied > newest_known {
        return Err(Error::Internal(
            "this database was made by a newer release of Keyhouse; run that release or restore a backup"
                .into(),
        ));
    }
    let pending = connection.pending_migrations(known).map_err(internal)?;
    let is_wanted = |version: &str| last.is_none_or(|last| version <= last);
    let mut applied = Vec::new();
    for migration in pending.iter().take_while(|it| is_wanted(&it.name().version().to_string())) {
        applied.push(connection.run_migration(migration.as_ref()).map_err(internal)?.to_string());
    }
    Ok(applied)
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

    /// Without it another program that closes the file as the last who uses it, as it believes, deletes the log under us.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_second_connection_leaves_the_first_ones_lock_on_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyhouse.db");
        let url = DatabaseUrl::Sqlite(path.clone());
        let connections = [url.connect(), url.connect()].map(|made| made.expect("a connection"));
        let inode = std::fs::metadata(&path).expect("a file").ino();
        let ours = format!(" {} ", std::process::id());
        let locks = std::fs::read_to_string("/proc/locks").expect("the system's list");
        assert!(
            locks.lines().any(|line| line.contains(&ours) && line.contains(&format!(":{inode} "))),
            "no lock on {inode}: {locks}"
        );
        drop(connections);
    }
}
