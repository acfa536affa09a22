//! Child processes, each on the core it is given, gone with their value.

use anyhow::{Context, bail};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server under test has this core to itself,
pub const SERVER_CORE: &str = "0";
/// and the load and the upstream have the other.
pub const LOAD_CORE: &str = "1";
/// For what is more than one process, such as a database beside Keyhouse.
pub const ANY_CORE: &str = "0,1";

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// A running program.
pub struct Process(Child);

impl Process {
    /// Starts `program` on these cores, with so many files that it may open.
    pub fn start(cores: &str, program: &str, arguments: &[String], log: Stdio) -> anyhow::Result<Self> {
        let mut command = on_cores(cores, program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Self(command.spawn().with_context(|| format!("starting {program}"))?))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it takes connections.
    pub fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.0.try_wait()? {
                bail!("the server for {address} ended: {status}");
            }
            if began.elapsed() > START_PATIENCE {
                bail!("nothing listens on {address}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // Asked first, so that it takes its children along.
        drop(Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status());
        let began = Instant::now();
        while !matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
            if began.elapsed() > STOP_PATIENCE {
                drop(self.0.kill());
                drop(self.0.wait());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A command that runs on these cores and may open many files. `taskset` and `prlimit` become the program itself.
pub fn on_cores(cores: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores, "prlimit", &format!("--nofile={0}:{0}", files_max()), program]);
    command
}

/// As many files as a process may ever open here, at most what ten thousand streams through a server need.
pub fn files_max() -> u64 {
    const WANTED: u64 = 32_768;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    hard.unwrap_or(1024).min(WANTED)
}

/// A port of this machine that nothing listens on.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
