//! Data to measure on: one account, a model on the upstream, and as many keys as wanted, each with a credit limit, an
//! IP allowlist and a model restriction. The first key is made as anybody's is; the others are its copies, since
//! millions of them are made in SQL.

#[path = "../../tests/support/seed.rs"]
mod store_seed;

use super::load::SECRET_LINE_BYTES;
use super::upstream::MODEL_PREFIX;
use anyhow::Context;
use diesel::connection::SimpleConnection;
use keyhouse::clock::now_ms;
use keyhouse::domain::credits::Credits;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use keyhouse::domain::secret::KeySecret;
use keyhouse::domain::user::{NewPassword, UserName};
use keyhouse::password;
use keyhouse::store::audit::Actor;
use keyhouse::store::{Connection, DatabaseUrl, Store, grants, users};
use keyhouse::vault::Vault;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use store_seed::Seed;

/// Who owns everything, and may sign in.
pub const USER: &str = "ada";
/// With this.
pub const PASSWORD: &str = "copper lantern vivid stroll";
/// Milliseconds between two chunks, of which there is a model each.
pub const PACES_MS: [u64; 3] = [0, 5, 600_000];

/// More than any bench spends.
const GRANTED: &str = "1000000000";
const LIMIT: &str = "1000000";
const KEYS_PER_STATEMENT: usize = 500;
const STATEMENTS_PER_TRANSACTION: usize = 40;

/// A seeded database and how to use it.
pub struct Dataset {
    pub folder: PathBuf,
    pub url: DatabaseUrl,
    /// A line for each key.
    pub secrets: PathBuf,
    /// Parent of the database's own processes.
    pub database_process: Option<u32>,
    /// Which upstreams its servers trust, instead of those that the system does.
    pub certificate: Option<PathBuf>,
}

impl Dataset {
    /// A SQLite file in `folder`, with so many keys.
    pub fn sqlite(folder: &Path, upstream: SocketAddr, keys: usize) -> anyhow::Result<Self> {
        let url = DatabaseUrl::Sqlite(folder.join("keyhouse.db"));
        Self::fill(folder, url, None, &format!("http://{upstream}/v1"), keys)
    }

    /// The data in whatever database the URL names; secrets and the master key in `folder`.
    pub fn fill(
        folder: &Path,
        url: DatabaseUrl,
        database_process: Option<u32>,
        base_url: &str,
        keys: usize,
    ) -> anyhow::Result<Self> {
        // What another run left.
        drop(fs::remove_dir_all(folder));
        fs::create_dir_all(folder)?;
        let store = Store::open(&url)?;
        let vault = Vault::open_or_create(&folder.join("master.key"))?;
        let seed = Seed { store: store.clone(), vault };
        let user_id = user(&store, USER, PASSWORD)?;
        let upstream_id = seed.openai("bench", base_url, "sk-upstream-secret");
        for pace_ms in PACES_MS {
            model(&seed, &format!("{MODEL_PREFIX}{pace_ms}"), upstream_id)?;
        }
        let draft = KeyDraft {
            name: "bench",
            credit_limit: Some(LIMIT),
            models: "pace-*",
            ip_allowlist: "127.0.0.0/8\n::1",
            ..KeyDraft::default()
        };
        let first = seed.key(user_id, &draft);
        let (secrets, certificate) = (folder.join("secrets"), None);
        let data = Self { folder: folder.to_owned(), secrets, url, database_process, certificate };
        data.copy_keys(&first, keys)?;
        data.settle()?;
        Ok(data)
    }

    pub fn url_argument(&self) -> String {
        match &self.url {
            DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
            DatabaseUrl::Postgres(url) => url.clone(),
        }
    }

    /// What its servers say.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Of all keys `count`, evenly spread, as a file of their own.
    pub fn spread_keys(&self, count: usize) -> anyhow::Result<PathBuf> {
        let all = fs::read(&self.secrets)?;
        let lines = all.chunks_exact(SECRET_LINE_BYTES);
        let step = (lines.len() / count).max(1);
        let path = self.folder.join(format!("secrets-{count}"));
        fs::write(&path, lines.step_by(step).take(count).collect::<Vec<_>>().concat())?;
        Ok(path)
    }

    /// Makes the rest of the keys, and writes all secrets down.
    fn copy_keys(&self, first: &store_seed::SeededKey, keys: usize) -> anyhow::Result<()> {
        let mut connection = self.url.connect()?;
        let mut file = std::io::BufWriter::new(fs::File::create(&self.secrets)?);
        writeln!(file, "{}", first.secret)?;
        let mut missing = keys.saturating_sub(1);
        while missing > 0 {
            connection.batch_execute("BEGIN")?;
            for _ in 0..STATEMENTS_PER_TRANSACTION {
                let secrets: Vec<KeySecret> =
                    (0..missing.min(KEYS_PER_STATEMENT)).map(|_| KeySecret::generate()).collect();
                if secrets.is_empty() {
                    break;
                }
                connection.batch_execute(&copies(&connection, first.id, &secrets))?;
                for secret in &secrets {
                    writeln!(file, "{}", secret.expose())?;
                }
                missing -= secrets.len();
            }
            connection.batch_execute("COMMIT")?;
        }
        connection.batch_execute(
            "INSERT INTO key_credits (key_id) SELECT id FROM api_keys WHERE id NOT IN (SELECT key_id FROM key_credits)",
        )?;
        file.flush()?;
        let expected = (keys * SECRET_LINE_BYTES) as u64;
        anyhow::ensure!(fs::metadata(&self.secrets)?.len() == expected, "a secret has another length");
        Ok(())
    }

    /// Writes out what seeding left, so that no measured call waits for it.
    pub fn settle(&self) -> anyhow::Result<()> {
        let mut connection = self.url.connect()?;
        connection.batch_execute(match &self.url {
            DatabaseUrl::Sqlite(_) => "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize",
            DatabaseUrl::Postgres(_) => "CHECKPOINT; ANALYZE",
        })?;
        let synced = std::process::Command::new("sync").status().context("sync runs")?;
        anyhow::ensure!(synced.success(), "sync failed");
        Ok(())
    }
}

/// Statements that copy a key, under other secrets.
fn copies(connection: &Connection, first: i64, secrets: &[KeySecret]) -> String {
    let (before, after) = match connection {
        Connection::Sqlite(_) => ("X'", "'"),
        Connection::Postgres(_) => (r"'\x", "'::bytea"),
    };
    let mut sql = String::from(
        "INSERT INTO api_keys (user_id, group_id, name, digest, ciphertext, last4, credit_limit_micros, models, \
         ip_allowlist, created_at_ms) SELECT user_id, group_id, name, secret.column1, ciphertext, last4, \
         credit_limit_micros, models, ip_allowlist, created_at_ms FROM api_keys, (VALUES ",
    );
    for (index, secret) in secrets.iter().enumerate() {
        sql.push_str(if index == 0 { "(" } else { ", (" });
        sql.push_str(before);
        for byte in secret.digest().0 {
            write!(sql, "{byte:02x}").expect("a String takes everything");
        }
        sql.push_str(after);
        sql.push(')');
    }
    write!(sql, ") AS secret WHERE id = {first}").expect("a String takes everything");
    sql
}

/// Makes somebody rich who may sign in.
pub fn user(store: &Store, name: &str, password: &str) -> anyhow::Result<i64> {
    let password = NewPassword::parse(password, name).map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let new = users::NewUser {
        name: UserName::parse(name).map_err(|why| anyhow::anyhow!("{why:?}"))?,
        password_hash: Some(password::hash(&password)?),
        is_admin: true,
    };
    let granted = Credits::parse(GRANTED).map_err(|why| anyhow::anyhow!("{why:?}"))?;
    Ok(store.with(|c| {
        let id = users::create(c, &new, &Actor::cli(), now_ms())?;
        grants::grant(c, id, granted, "", &Actor::cli(), now_ms())?;
        Ok(id)
    })?)
}

/// A model that the upstream knows by the same name.
fn model(seed: &Seed, name: &str, upstream_id: i64) -> anyhow::Result<()> {
    use keyhouse::domain::models::ModelName;
    use keyhouse::store::models::{self, NewModel};
    let new = NewModel {
        name: &ModelName::parse(name).map_err(|why| anyhow::anyhow!("{why:?}"))?,
        max_output_tokens: 4096,
        price: Price { input_micros: 2_500_000, output_micros: 10_000_000, ..Price::FREE },
        routes: &[(upstream_id, name.to_owned())],
    };
    seed.store.with(|c| models::create(c, &new, &Actor::cli(), now_ms()))?;
    Ok(())
}
