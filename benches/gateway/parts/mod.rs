//! The parts, and what they share: rounds that go through all servers, side by side.

pub mod compare;
mod hot;
mod json;
mod latency;
mod memory;
mod pages;
mod postgres;
mod size;
mod start;
mod stream;
pub mod train;

use super::big;
use super::load::{Measured, Order};
use super::process::{LOAD_CORE, on_cores};
use super::report::{self, Report};
use super::servers::{Server, own_program};
use anyhow::{Context, ensure};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

/// A part by its name, in the order of a whole run.
pub type Part = fn(&mut Report) -> anyhow::Result<()>;
pub const ALL: [(&str, Part); 9] = [
    ("json", json::run),
    ("stream", stream::run),
    ("latency", latency::run),
    ("hot", hot::run),
    ("postgres", postgres::run),
    ("size", size::run),
    ("start", start::run),
    ("pages", pages::run),
    ("memory", memory::run),
];

/// Of every server in every round.
const ROUNDS: usize = 5;
const WARM_UP_S: f64 = 1.0;
const MEASURED_S: f64 = 4.0;

/// Runs the parts of these names.
pub fn run(names: &[&str]) -> anyhow::Result<()> {
    let done = run_each(names);
    big::remove();
    done
}

fn run_each(names: &[&str]) -> anyhow::Result<()> {
    for (name, part) in ALL.iter().filter(|(name, _)| names.contains(name)) {
        eprintln!("{name}");
        let mut report = Report::new(name);
        let done = part(&mut report).with_context(|| format!("the part {name}"));
        // Gone with the part: some of it is large.
        drop(std::fs::remove_dir_all(data_folder()));
        done?;
        report.save()?;
    }
    Ok(())
}

/// On the disk of the build, since one in memory has no durable commits.
fn data_folder() -> PathBuf {
    report::folder().join("data")
}

/// Closed loop of chat JSON; parts change what differs.
fn order(connections: usize) -> Order {
    Order {
        addresses: Vec::new(),
        connections,
        keys: PathBuf::new(),
        keys_in_use: 0,
        stream: false,
        pace_ms: 0,
        rate: None,
        warm_up_s: WARM_UP_S,
        measured_s: MEASURED_S,
        each_key_once: false,
        servers: Vec::new(),
        others: Vec::new(),
    }
}

/// One share of one round, by a process of its own on the load's core.
fn measure(server: &Server, order: &Order) -> anyhow::Result<Measured> {
    let order = Order {
        addresses: if order.stream { server.stream_addresses.clone() } else { server.addresses.clone() },
        servers: server.processes.clone(),
        others: server.others.clone(),
        ..order.clone()
    };
    child("load", LOAD_CORE, &order).with_context(|| format!("the load on {}", server.name))
}

/// Has this program play a part, on a core.
fn child(role: &str, core: &str, order: &Order) -> anyhow::Result<Measured> {
    let mut command = on_cores(core, &own_program()?);
    let mut child =
        command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting it")?;
    child.stdin.take().context("its stdin")?.write_all(&serde_json::to_vec(order)?)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "it failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A server with what is asked of it, and what came of each round.
struct Line<'a> {
    name: String,
    server: &'a Server,
    order: Order,
    rounds: Vec<Measured>,
}

impl<'a> Line<'a> {
    fn new(name: impl Into<String>, server: &'a Server, order: Order) -> Self {
        Self { name: name.into(), server, order, rounds: Vec::new() }
    }

    fn median(&self, figure: impl Fn(&Measured) -> f64) -> f64 {
        report::median(self.rounds.iter().map(figure))
    }

    fn spread(&self, figure: impl Fn(&Measured) -> f64) -> String {
        report::spread(self.rounds.iter().map(figure))
    }
}

/// A B C A B C …, so that a change of the machine's mood meets all alike.
fn interleave(report: &mut Report, work: &str, lines: &mut [Line<'_>]) -> anyhow::Result<()> {
    for round in 1..=ROUNDS {
        for line in &mut *lines {
            measure_line(report, work, line, round)?;
        }
    }
    Ok(())
}

fn measure_line(report: &mut Report, work: &str, line: &mut Line<'_>, round: usize) -> anyhow::Result<()> {
    let measured = measure(line.server, &line.order)?;
    eprintln!(
        "  {work}, round {round}, {}: {:.0}/s, CPU {:.1} µs, p50 {:.2} ms, p99 {:.2} ms",
        line.name,
        measured.per_second(),
        measured.cpu_us(),
        measured.p50_us / 1e3,
        measured.p99_us / 1e3
    );
    report.round(work, &line.name, round, &measured);
    line.rounds.push(measured);
    Ok(())
}

/// What is said of calls.
const CALL_HEAD: [&str; 4] = ["calls/s", "CPU µs a call", "p50 ms", "p99 ms"];

fn call_cells(line: &Line<'_>) -> Vec<String> {
    vec![
        line.name.clone(),
        line.spread(Measured::per_second),
        line.spread(Measured::cpu_us),
        line.spread(|measured| measured.p50_us / 1e3),
        line.spread(|measured| measured.p99_us / 1e3),
    ]
}
