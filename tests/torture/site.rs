//! A database with its master key, and the real binary's servers over it.

use crate::database::{Database, Engine};
use crate::seed::{Seed, SeededKey};
use crate::within;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use keyhouse::store::{DatabaseUrl, Store};
use keyhouse::vault::Vault;
use rand::RngExt;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One micro-credit an input token, two an output token.
pub const PRICE: Price =
    Price { input_micros: 1_000_000, cached_input_micros: None, output_micros: 2_000_000, ..Price::FREE };

/// Where servers run: a folder with the master key, and a database.
pub struct Site {
    pub seed: Seed,
    place: Place,
    _database: Option<Database>,
}

/// What the binary is told of a site.
pub struct Place {
    folder: PathBuf,
    url: String,
}

impl Site {
    /// With a database of its own.
    pub fn new(engine: Engine) -> Self {
        let database = Database::new(engine);
        let site = Self::over(database.folder.path(), Some(&database.url_argument()));
        Self { _database: Some(database), ..site }
    }

    /// Over a database that somebody else looks after; by default a SQLite file in the folder.
    pub fn over(folder: &Path, url: Option<&str>) -> Self {
        let url =
            url.map_or_else(|| format!("sqlite:{}", folder.join("keyhouse.db").display()), str::to_owned);
        Self { place: Place::new(folder, &url), seed: open(folder, &url), _database: None }
    }

    /// An account with plenty of credits, and this many of its keys, unlimited.
    pub fn keys(&self, count: usize) -> Vec<SeededKey> {
        let user_id = self.seed.user("ada", "1000000");
        (0..count).map(|_| self.seed.key(user_id, &KeyDraft::default())).collect()
    }

    /// A server that answers.
    pub fn serve(&self) -> Server {
        let mut server = self.place.spawn();
        server.is_ready();
        server
    }

    /// `keyhouse doctor --json` finds nothing; gives its document.
    pub fn is_sound(&self) -> serde_json::Value {
        let output = self.place.command(&["doctor", "--json"]).output().expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "the doctor complains: {text}{complaint}");
        let diagnosis: serde_json::Value = serde_json::from_str(&text).expect("one JSON document");
        assert_eq!(diagnosis["breaches"], serde_json::json!([]));
        diagnosis
    }
}

impl Place {
    pub fn new(folder: &Path, url: &str) -> Self {
        Self { folder: folder.to_owned(), url: url.to_owned() }
    }

    /// The binary, with this place's settings alone.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyhouse"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYHOUSE_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(&self.folder).env("KEYHOUSE_DATABASE_URL", &self.url);
        command.stdin(Stdio::null());
        command
    }

    /// A server that was just started.
    pub fn spawn(&self) -> Server {
        let port = free_port();
        let log = std::env::temp_dir().join(format!("keyhouse-torture-{}-{port}.log", std::process::id()));
        let mut command = self.command(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.stdout(Stdio::null());
        let mut server = Server { url: format!("http://127.0.0.1:{port}"), command, child: None, log };
        server.start();
        server
    }
}

fn open(folder: &Path, url: &str) -> Seed {
    let url: DatabaseUrl = url.parse().expect("a database URL");
    let store = Store::open(&url).expect("the store opens");
    Seed { store, vault: Vault::open_or_create(&folder.join("master.key")).expect("a master key") }
}

/// One that servers can come back to: below those that the system hands out.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A `keyhouse serve`, killed with this value.
pub struct Server {
    /// The same after every start.
    pub url: String,
    command: Command,
    child: Option<Child>,
    log: PathBuf,
}

impl Server {
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        self.command.stderr(log);
        self.child = Some(self.command.spawn().expect("the binary runs"));
    }

    /// Waits until it serves.
    pub fn is_ready(&mut self) {
        within(Duration::from_secs(60), "the server is ready", || {
            if let Some(status) = self.exited() {
                panic!("the server ended by itself ({status}): {}", self.said());
            }
            (self.readiness() == Some(200)).then_some(())
        });
    }

    /// Its exit status, once it has ended by itself.
    pub fn exited(&mut self) -> Option<i32> {
        let ended = self.child.as_mut().expect("started").try_wait().expect("a child");
        ended.map(|status| status.code().unwrap_or(-1))
    }

    /// What `/readyz` answers, if it does.
    pub fn readiness(&self) -> Option<u16> {
        let http =
            reqwest::blocking::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
        http.get(format!("{}/readyz", self.url)).send().ok().map(|answer| answer.status().as_u16())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// What stands in its log.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let said = self.said();
            let tail = said.char_indices().rev().nth(4_000).map_or(0, |(index, _)| index);
            eprintln!("--- the last words of {}:\n{}", self.url, &said[tail..]);
        }
        drop(std::fs::remove_file(&self.log));
    }
}
