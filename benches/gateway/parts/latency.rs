//! One connection, a hundred calls a second: what a call takes when nobody else calls, beside what a durable commit
//! takes at the same pace on the same disk.

use super::{Line, ROUNDS, child, data_folder, measure_line, order};
use crate::load::{Measured, Order};
use crate::process::SERVER_CORE;
use crate::report::{self, Report};
use crate::seed::Dataset;
use crate::servers::Server;

const KEYS: usize = 1_000;
const RATE: f64 = 100.0;
const MEASURED_S: f64 = 10.0;
/// Over straight, besides two commits.
const ADDED_P50_MS: f64 = 0.3;
const ADDED_P99_MS: f64 = 2.0;

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let data = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    let nginx = Server::nginx(&upstream, &data_folder().join("nginx"))?;
    let keyhouse = Server::keyhouse(&data)?;
    let order = Order { keys: data.secrets.clone(), rate: Some(RATE), measured_s: MEASURED_S, ..order(1) };
    let work = "100 calls a second";
    let mut lines =
        [&upstream, &nginx, &keyhouse].map(|server| Line::new(&server.name, server, order.clone()));
    let mut commits = Vec::new();
    for round in 1..=ROUNDS {
        for line in &mut lines {
            measure_line(report, work, line, round)?;
        }
        let measured = child("commits", SERVER_CORE, &order)?;
        eprintln!(
            "  a durable commit: p50 {:.2} ms, p99 {:.2} ms",
            measured.p50_us / 1e3,
            measured.p99_us / 1e3
        );
        report.round(work, "a durable commit", round, &measured);
        commits.push(measured);
    }
    let p50 = |measured: &Measured| measured.p50_us / 1e3;
    let p99 = |measured: &Measured| measured.p99_us / 1e3;
    let spread = |figure: fn(&Measured) -> f64| report::spread(commits.iter().map(figure));
    let mut cells: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            vec![line.name.clone(), line.spread(p50), line.spread(p99), line.spread(Measured::cpu_us)]
        })
        .collect();
    cells.push(vec!["a durable commit (SQLite, FULL)".into(), spread(p50), spread(p99), "–".into()]);
    report.table(&["one connection, 100 calls/s", "p50 ms", "p99 ms", "CPU µs a call"], cells);
    let [straight, _, keyhouse] = &lines;
    let commit = |figure: fn(&Measured) -> f64| report::median(commits.iter().map(figure));
    let goal = "one connection, 100 calls/s: added over straight";
    for (name, figure, most) in
        [("p50", p50 as fn(&Measured) -> f64, ADDED_P50_MS), ("p99", p99, ADDED_P99_MS)]
    {
        let added = keyhouse.median(figure) - straight.median(figure);
        report.at_most(
            &format!("{goal}, {name} ({most} ms and two commits)"),
            added,
            most + 2.0 * commit(figure),
            " ms",
        );
    }
    Ok(())
}
