//! A PostgreSQL server of the bench's own, as durable as one is out of the box, gone with its value.

use super::process::free_address;
use anyhow::{Context, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Running.
pub struct Cluster {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    port: u16,
}

impl Cluster {
    pub fn start() -> anyhow::Result<Self> {
        // Not under this folder: the server refuses to run as root, and another user may not come in here.
        let folder = tempfile::Builder::new().prefix("keyhouse-bench").tempdir_in("/var/tmp")?;
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status()?;
            ensure!(owned.success(), "there is no user named postgres");
        }
        let cluster = Self { folder, binaries: binaries()?, port: free_address()?.port() };
        let (data, log) = (cluster.path("data"), cluster.path("log"));
        cluster.run("initdb", &format!("-D '{data}' -A trust -U postgres"))?;
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c shared_buffers=512MB",
            cluster.port,
            cluster.folder.path().display()
        );
        cluster.run("pg_ctl", &format!("-D '{data}' -o '{options}' -l '{log}' -w start"))?;
        Ok(cluster)
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The parent of its processes.
    pub fn process(&self) -> anyhow::Result<u32> {
        let file = Command::new("cat").arg(self.path("data/postmaster.pid")).output()?;
        let text = String::from_utf8(file.stdout)?;
        Ok(text.lines().next().context("a process id")?.trim().parse()?)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn run(&self, program: &str, arguments: &str) -> anyhow::Result<()> {
        let line = format!("'{}' {arguments} >/dev/null 2>&1", self.binaries.join(program).display());
        let mut command = match is_root() {
            true => Command::new("su"),
            false => Command::new("sh"),
        };
        if is_root() {
            command.args(["postgres", "-s", "/bin/sh"]);
        }
        let status = command.args(["-c", &line]).current_dir("/").status()?;
        ensure!(status.success(), "{program} failed; see {}", self.path("log"));
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.run("pg_ctl", &format!("-D '{}' -m immediate -w stop", self.path("data"))) {
            eprintln!("PostgreSQL stays behind: {error}");
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// Where Debian keeps the newest release, else wherever the shell finds them.
fn binaries() -> anyhow::Result<PathBuf> {
    let releases = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest =
        releases.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    newest
        .or_else(|| {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&paths).find(|folder| folder.join("initdb").exists())
        })
        .context("PostgreSQL's server is not here: run benches/setup.sh first")
}
