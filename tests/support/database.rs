//! A fresh database per test, on each engine the run offers.
#![allow(dead_code, reason = "each test crate uses its own part")]

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use keyhouse::store::DatabaseUrl;
use std::path::PathBuf;

/// Which engine a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Names the server that tests may make databases on; `make test` starts one and sets it.
const POSTGRES_URL: &str = "KEYHOUSE_TEST_POSTGRES_URL";

/// Every engine this run can test: PostgreSQL only where a server is named.
pub fn engines() -> Vec<Engine> {
    match std::env::var(POSTGRES_URL) {
        Ok(_) => vec![Engine::Sqlite, Engine::Postgres],
        Err(_) => vec![Engine::Sqlite],
    }
}

/// An empty database that is gone with this value.
pub struct Database {
    pub url: DatabaseUrl,
    /// Of SQLite's file, and for whatever else a test keeps.
    pub folder: tempfile::TempDir,
    created: Option<(String, String)>,
}

impl Database {
    pub fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        match engine {
            Engine::Sqlite => {
                Self { url: DatabaseUrl::Sqlite(folder.path().join("keyhouse.db")), folder, created: None }
            }
            Engine::Postgres => {
                let server = std::env::var(POSTGRES_URL).expect("engines() offered PostgreSQL");
                let name = format!("keyhouse_test_{:016x}", rand::random::<u64>());
                let mut connection = PgConnection::establish(&server).expect("the test server answers");
                connection.batch_execute(&format!("CREATE DATABASE {name}")).expect("a database is made");
                let (base, _) = server.rsplit_once('/').expect("the URL names a database");
                Self {
                    url: DatabaseUrl::Postgres(format!("{base}/{name}")),
                    folder,
                    created: Some((server, name)),
                }
            }
        }
    }

    /// As the command line takes it.
    pub fn url_argument(&self) -> String {
        match &self.url {
            DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
            DatabaseUrl::Postgres(url) => url.clone(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some((server, name)) = &self.created else { return };
        let dropped = PgConnection::establish(server).map_err(|error| error.to_string()).and_then(|mut c| {
            c.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                .map_err(|e| e.to_string())
        });
        if let Err(error) = dropped {
            eprintln!("the test database {name} stays behind: {error}");
        }
    }
}
