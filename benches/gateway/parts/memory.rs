//! What Keyhouse has in memory: idle, after a million keys have called, and with ten thousand streams open.

use super::{data_folder, measure, order};
use crate::big;
use crate::cpu::resident_mb;
use crate::load::Order;
use crate::process::{LOAD_CORE, files_max, on_cores};
use crate::report::{self, Report};
use crate::seed::Dataset;
use crate::servers::{Server, own_program};
use anyhow::Context;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

const IDLE_MB: f64 = 30.0;
const MILLION_MB: f64 = 300.0;
const STREAMS_MB: f64 = 300.0;
const STREAMS: usize = 10_000;
/// What a server opens besides its streams.
const OTHER_FILES: u64 = 300;
const CONNECTIONS: usize = 256;
/// However slow, no longer.
const MILLION_S_MAX: f64 = 900.0;
const SETTLING: Duration = Duration::from_secs(3);

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let data = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], 1)?;
    let keyhouse = Server::keyhouse(&data)?;
    let idle = resident(&keyhouse)?;
    let streams = STREAMS.min(usize::try_from((files_max() - OTHER_FILES) / 2)?);
    let load = Holding::open(&keyhouse, streams, data.secrets.clone())?;
    let streaming = resident(&keyhouse)?;
    drop(load);
    drop(keyhouse);
    let (keys, million) = after_a_million(report, &upstream)?;
    let open = format!("{} open streams", report::short(streams as f64));
    let called = format!("after {} distinct keys", report::short(keys as f64));
    report.table(
        &["memory", "resident MB"],
        [("idle", idle), (&*open, streaming), (&*called, million)]
            .map(|(name, size)| vec![name.to_owned(), report::short(size)])
            .to_vec(),
    );
    if streams < STREAMS {
        report.note("As many streams as this machine's limit of open files allows: each takes two.");
    }
    report.at_most("memory, idle", idle, IDLE_MB, " MB");
    report.at_most(&format!("memory, {called}"), million, MILLION_MB, " MB");
    report.at_most(&format!("memory, {open}"), streaming, STREAMS_MB, " MB");
    Ok(())
}

/// How many keys called, and what is in memory then.
fn after_a_million(report: &mut Report, upstream: &Server) -> anyhow::Result<(u64, f64)> {
    let big = big::open(upstream.addresses[0])?;
    let keyhouse = Server::keyhouse(&big)?;
    let order = Order {
        keys: big.secrets.clone(),
        each_key_once: true,
        measured_s: MILLION_S_MAX,
        ..order(CONNECTIONS)
    };
    eprintln!("  calling with a million keys, each once …");
    let measured = measure(&keyhouse, &order)?;
    eprintln!("  {:.0}/s, CPU {:.1} µs", measured.per_second(), measured.cpu_us());
    report.round("a million keys, each once", "Keyhouse", 1, &measured);
    Ok((measured.requests, resident(&keyhouse)?))
}

/// Once it has come to rest.
fn resident(server: &Server) -> anyhow::Result<f64> {
    std::thread::sleep(SETTLING);
    resident_mb(server.processes[0]).context("its memory")
}

/// A load that holds streams open.
struct Holding(Child);

impl Holding {
    fn open(server: &Server, streams: usize, keys: PathBuf) -> anyhow::Result<Self> {
        eprintln!("  opening {streams} streams …");
        let order = Order {
            addresses: server.addresses.clone(),
            keys,
            stream: true,
            pace_ms: 600_000,
            ..order(streams)
        };
        let mut command = on_cores(LOAD_CORE, &own_program()?);
        let mut load = Self(command.arg("open").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        load.0.stdin.take().context("its stdin")?.write_all(&serde_json::to_vec(&order)?)?;
        let mut said = String::new();
        BufReader::new(load.0.stdout.take().context("its stdout")?).read_line(&mut said)?;
        anyhow::ensure!(said.trim() == streams.to_string(), "the streams did not open");
        Ok(load)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
