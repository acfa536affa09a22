//! Where the data lives: the database, the data directory, the master key; and opening them for a command.

use super::failure::Failure;
use super::output::Output;
use crate::clock;
use crate::error::Error;
use crate::store::{Connection, DatabaseUrl, Store, instances, keys, second_factors, upstreams};
use crate::vault::Vault;
use clap::Args;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The options that say where the data lives.
#[derive(Debug, Clone, Args)]
pub(super) struct DataOptions {
    /// sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE [default: sqlite:DIR/keyhouse.db]
    // It may hold a password: never shown in help, and judged by us, because clap would quote it.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "KEYHOUSE_DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub database_url: Option<String>,
    /// Directory of the database and the master key
    #[arg(long, global = true, value_name = "DIR", env = "KEYHOUSE_DATA_DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// The key that opens stored secrets; made if there is none [default: DIR/master.key]
    #[arg(long, global = true, value_name = "FILE", env = "KEYHOUSE_MASTER_KEY_FILE")]
    pub master_key_file: Option<PathBuf>,
}

impl DataOptions {
    /// Everything in one directory.
    pub fn in_directory(data_dir: &Path) -> Self {
        Self { database_url: None, data_dir: data_dir.to_owned(), master_key_file: None }
    }

    /// The database, checked.
    pub fn database_url(&self) -> Result<DatabaseUrl, Failure> {
        match &self.database_url {
            None => Ok(DatabaseUrl::Sqlite(self.data_dir.join("keyhouse.db"))),
            Some(url) => url.parse().map_err(|why: String| Failure::Usage(format!("--database-url: {why}."))),
        }
    }

    pub fn master_key_file(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master.key"))
    }

    /// Makes the data directory, for its owner alone, if there is none.
    pub fn make_data_dir(&self) -> Result<(), Failure> {
        if self.data_dir.as_os_str().is_empty() || self.data_dir.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir).map_err(|error| {
            let directory = self.data_dir.display();
            Failure::Failed(format!("The directory {directory} cannot be made: {error}. Check --data-dir."))
        })
    }

    /// Opens the database, migrating it.
    pub fn open_store(&self) -> Result<Store, Failure> {
        let url = self.database_url()?;
        Store::open(&url).map_err(|error| match error {
            Error::Unavailable(why) => Failure::Failed(format!(
                "The database {url} is not available: {}. Check --database-url and --data-dir.",
                why.lines().next().unwrap_or_default()
            )),
            other => other.into(),
        })
    }

    /// Opens the master key, and proves that it is the one the stored secrets were sealed under and servers that run work
    /// with. Makes one only for a database that knows none yet: a second master key would seal what the first cannot open.
    pub fn open_vault(&self, store: &Store) -> Result<Vault, Failure> {
        let path = self.master_key_file();
        let (key, upstream, factor) = store.with(|connection| {
            let key = keys::any_ciphertext(connection)?;
            let upstream = upstreams::any_ciphertext(connection)?;
            Ok((key, upstream, second_factors::any_ciphertext(connection)?))
        })?;
        let is_other = |master_key: &str| {
            store.with(|connection| instances::has_other_master_key(connection, master_key))
        };
        if !path.exists() && (key.is_some() || upstream.is_some() || factor.is_some() || is_other("")?) {
            return Err(Failure::Failed(format!(
                "There is no master key at {}, but the database {} is used with one already. \
                 Say where it is with --master-key-file.",
                path.display(),
                store.url()
            )));
        }
        let vault = Vault::open_or_create(&path)?;
        let opens_key =
            key.is_none_or(|(user_id, digest, sealed)| vault.open_key(user_id, &digest, &sealed).is_ok());
        let opens_upstream = upstream.is_none_or(|(id, sealed)| vault.open_upstream(id, &sealed).is_ok());
        let opens_factor =
            factor.is_none_or(|(user_id, sealed)| vault.open_second_factor(user_id, &sealed).is_ok());
        if !(opens_key && opens_upstream && opens_factor) {
            return Err(Failure::Failed(format!(
                "The master key {} does not open the secrets in the database {}. \
                 Give the one they were sealed under with --master-key-file.",
                path.display(),
                store.url()
            )));
        }
        if is_other(&vault.fingerprint())? {
            return Err(Failure::Failed(format!(
                "The master key {} is not the one that a server on the database {} works with. \
                 Give a copy of that one with --master-key-file, or stop the server and try again in {} seconds.",
                path.display(),
                store.url(),
                instances::SILENCE_MAX.as_secs()
            )));
        }
        Ok(vault)
    }
}

/// What a command works with: an open database, and where its answer goes.
pub(super) struct Context<'a> {
    data: &'a DataOptions,
    store: Store,
    /// Where the answer goes.
    pub output: Output,
}

impl<'a> Context<'a> {
    /// Opens the database. Only a command that `begins` something makes one where there is none: to all others an empty one
    /// would answer that all is well.
    pub fn open(data: &'a DataOptions, output: Output, begins: bool) -> Result<Self, Failure> {
        if let DatabaseUrl::Sqlite(path) = data.database_url()?
            && !begins
            && !path.exists()
        {
            return Err(Failure::Failed(format!(
                "There is no database at {}. Check --data-dir and --database-url; `keyhouse serve` makes a new one.",
                path.display()
            )));
        }
        Ok(Self { data, store: data.open_store()?, output })
    }

    /// Opens the master key.
    pub fn open_vault(&self) -> Result<Vault, Failure> {
        self.data.open_vault(&self.store)
    }

    /// Runs `work` with a connection and the present moment.
    pub fn with<T>(&self, work: impl FnOnce(&mut Connection, i64) -> Result<T, Error>) -> Result<T, Error> {
        self.store.with(|connection| work(connection, clock::now_ms()))
    }
}
