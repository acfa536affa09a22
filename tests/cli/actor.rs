//! Somebody at a terminal, in a folder of their own, with a database of their own.

use crate::database::{Database, Engine};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const PASSWORD: &str = "copper lantern vivid stroll";

pub struct Operator {
    pub database: Database,
}

impl Operator {
    pub fn new(engine: Engine) -> Self {
        let operator = Self::at_a_new_place(engine);
        assert_eq!(operator.run(&["migrate"]).status, 0);
        operator
    }

    /// Where nothing is yet.
    pub fn at_a_new_place(engine: Engine) -> Self {
        Self { database: Database::new(engine) }
    }

    /// Where the data lives.
    pub fn folder(&self) -> &std::path::Path {
        self.database.folder.path()
    }

    /// The binary, in the operator's folder, with nothing of ours in the environment but the database.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = bare_command(args);
        command.current_dir(self.database.folder.path());
        command.env("KEYHOUSE_DATABASE_URL", self.database.url_argument());
        command
    }

    pub fn run(&self, args: &[&str]) -> Answer {
        answer(self.command(args), "")
    }

    pub fn run_with(&self, args: &[&str], stdin: &str) -> Answer {
        answer(self.command(args), stdin)
    }

    /// What a command that must succeed prints as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_with(args, "")
    }

    pub fn json_with(&self, args: &[&str], stdin: &str) -> Value {
        let answer = self.run_with(&[args, &["--json"]].concat(), stdin);
        assert_eq!(answer.status, 0, "{args:?}: {answer:?}");
        serde_json::from_str(&answer.stdout).expect("one JSON document")
    }

    pub fn create_user(&self, name: &str) -> Value {
        self.json_with(&["user", "create", name, "--password-stdin"], PASSWORD)
    }

    /// A user with credits, a model on the echo upstream, and a key; gives the key.
    pub fn furnish(&self) -> Value {
        self.create_user("ada");
        self.json(&["user", "grant", "ada", "10"]);
        self.json(&["upstream", "create", "echo", "--dialect", "echo"]);
        self.json(&["model", "create", "parrot", "--upstream", "echo", "--input", "100", "--output", "200"]);
        self.json(&["key", "create", "--user", "ada", "--name", "laptop"])
    }

    /// Rows of servers that were killed long ago.
    pub fn instances_that_died(&self, count: usize) {
        let mut connection = self.database.url.connect().expect("connected");
        for _ in 0..count {
            let text = "INSERT INTO instances (started_at_ms, heartbeat_at_ms) VALUES (1, 1)";
            diesel::connection::SimpleConnection::batch_execute(&mut connection, text).expect("written");
        }
    }

    /// A server that is ready to be asked.
    pub fn serve(&self, args: &[&str]) -> Server {
        Server::start(self.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
    }
}

pub fn bare_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyhouse"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYHOUSE_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("it ended by itself"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

pub fn answer(mut command: Command, stdin: &str) -> Answer {
    let mut child = command.spawn().expect("the binary runs");
    // It may end without reading all of it.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("it ends").into()
}

/// `keyhouse serve` or `keyhouse demo`; ended with this value.
pub struct Server {
    /// Such as `http://127.0.0.1:40123`.
    pub url: String,
    pub stdout: BufReader<ChildStdout>,
    pub stderr: BufReader<ChildStderr>,
    child: Child,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut seen = String::new();
        let url = loop {
            let start = seen.len();
            assert_ne!(stderr.read_line(&mut seen).expect("text"), 0, "it ended: {seen}");
            if let Some(url) = seen[start..].trim().strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        Self { url, stdout, stderr, child }
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::blocking::get(format!("{}{path}", self.url)).expect("an answer");
        (response.status().as_u16(), response.text().expect("text"))
    }

    /// Asks the model and gives status and body.
    pub fn chat(&self, secret: &str, model: &str) -> (u16, Value) {
        let body =
            serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Hello there"}]});
        let request = reqwest::blocking::Client::new().post(format!("{}/v1/chat/completions", self.url));
        let response = request.bearer_auth(secret).json(&body).send().expect("an answer");
        (response.status().as_u16(), response.json().expect("JSON"))
    }

    pub fn line_of_stderr(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("text");
        line
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as a service manager does.
    pub fn signal(&self) {
        let sent = Command::new("kill").arg(self.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Asks it to end, waits, and gives its exit status.
    pub fn terminate(mut self) -> i32 {
        self.signal();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().expect("it ended by itself");
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
