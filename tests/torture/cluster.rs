//! A PostgreSQL server of a test's own, to be stopped, started and frozen.

use crate::site::free_port;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Gone with this value.
pub struct Cluster {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    port: u16,
    encrypted: bool,
}

impl Cluster {
    pub fn start() -> Self {
        Self::new(false)
    }

    /// One that takes connections by TLS alone, as `localhost`, with a certificate that it signed itself.
    pub fn start_encrypted() -> Self {
        Self::new(true)
    }

    fn new(encrypted: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if is_root() {
            // The server refuses to run as root.
            succeeds(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let cluster = Self { folder, binaries: binaries(), port: free_port(), encrypted };
        cluster.run("initdb", &format!("-D '{}' -A trust -U postgres", cluster.data()));
        if encrypted {
            cluster.encrypt();
        }
        cluster.begin();
        cluster
    }

    /// Of its one database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The same, by the name in the certificate, with this certificate to be trusted.
    pub fn verified_url(&self, trusted: &Path) -> String {
        let trusted = trusted.display();
        format!(
            "postgres://postgres@localhost:{}/postgres?sslmode=verify-full&sslrootcert={trusted}",
            self.port
        )
    }

    /// Of an encrypted one.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    fn encrypt(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = self.folder.path().join("server.key");
        std::fs::write(self.certificate(), made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        succeeds(Command::new("chmod").arg("600").arg(&key));
        // World-readable, so that Keyhouse, another user perhaps, can read the certificate.
        succeeds(Command::new("chmod").arg("755").arg(self.folder.path()));
        if is_root() {
            succeeds(Command::new("chown").arg("postgres").arg(&key));
        }
        let rules = self.folder.path().join("data/pg_hba.conf");
        std::fs::write(rules, "hostssl all all all trust\n").expect("written");
    }

    /// After a stop; returns when it takes connections.
    pub fn begin(&self) {
        // fsync off: the server is stopped here, not the machine.
        let folder = self.folder.path().display();
        let encryption = match self.encrypted {
            true => {
                format!("-c ssl=on -c ssl_cert_file={folder}/server.crt -c ssl_key_file={folder}/server.key")
            }
            false => String::new(),
        };
        let options = format!(
            "{encryption} -p {} -c listen_addresses=localhost -c unix_socket_directories={folder} -c fsync=off",
            self.port,
        );
        let log = self.folder.path().join("log");
        self.run("pg_ctl", &format!("-D '{}' -o '{options}' -l '{}' -w start", self.data(), log.display()));
    }

    /// As a crash would: no farewell to anybody.
    pub fn stop(&self) {
        self.run("pg_ctl", &format!("-D '{}' -m immediate -w stop", self.data()));
    }

    /// Keeps every process of it from running: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets them run again.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid_file =
            std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).expect("it runs");
        let parent = pid_file.lines().next().expect("a process id").to_owned();
        let children = Command::new("ps").args(["--ppid", &parent, "-o", "pid="]).output().expect("ps runs");
        let children = String::from_utf8(children.stdout).expect("text");
        let family = std::iter::once(parent.as_str()).chain(children.split_whitespace());
        // One that ended in between is as silent as one that is stopped.
        drop(Command::new("kill").arg(format!("-{signal}")).args(family).output().expect("kill runs"));
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &str) {
        // Not kept in a pipe: the server would inherit and hold it open.
        let line = format!("'{}' {arguments} >/dev/null 2>&1", self.binaries.join(program).display());
        if is_root() {
            succeeds(Command::new("su").args(["postgres", "-s", "/bin/sh", "-c", &line]));
        } else {
            succeeds(Command::new("sh").args(["-c", &line]));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.thaw();
        if !std::thread::panicking() {
            return self.stop();
        }
        // It may be stopped already.
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop())));
    }
}

pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}

pub fn succeeds(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian keeps the newest release, else wherever the shell finds them.
fn binaries() -> PathBuf {
    let releases = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest =
        releases.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    newest.unwrap_or_else(|| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).find(|folder| folder.join("initdb").exists());
        found.expect("initdb is installed")
    })
}
