//! Chat streams at 64 connections: paced as a model paces them, and as fast as they come.

use super::{Line, data_folder, interleave, order};
use crate::load::{Measured, Order};
use crate::report::Report;
use crate::seed::Dataset;
use crate::servers::Server;

const CONNECTIONS: usize = 64;
const KEYS: usize = 1_000;
const PACE_MS: u64 = 5;
/// Of nginx, in CPU time.
const CPU_FACTOR: f64 = 1.4;
/// More than straight, between two chunks.
const GAP_ADDED_MS: f64 = 1.0;

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let data = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    let nginx = Server::nginx(&upstream, &data_folder().join("nginx"))?;
    let keyhouse = Server::keyhouse(&data)?;
    for pace_ms in [PACE_MS, 0] {
        let work = match pace_ms {
            0 => "20 chunks as fast as they come",
            _ => "20 chunks, one each 5 ms",
        };
        let order = Order { keys: data.secrets.clone(), stream: true, pace_ms, ..order(CONNECTIONS) };
        let mut lines =
            [&upstream, &nginx, &keyhouse].map(|server| Line::new(&server.name, server, order.clone()));
        interleave(report, work, &mut lines)?;
        let head = [
            &format!("{work}, 64 connections"),
            "streams/s",
            "CPU µs a stream",
            "first chunk p50 ms",
            "gap p50 ms",
            "gap p99 ms",
        ];
        report.table(&head, lines.iter().map(cells).collect());
        if pace_ms > 0 {
            set_goals(report, &lines);
        }
    }
    Ok(())
}

fn cells(line: &Line<'_>) -> Vec<String> {
    vec![
        line.name.clone(),
        line.spread(Measured::per_second),
        line.spread(Measured::cpu_us),
        line.spread(|measured| measured.first_event_p50_us / 1e3),
        line.spread(|measured| measured.gap_p50_us / 1e3),
        line.spread(|measured| measured.gap_p99_us / 1e3),
    ]
}

fn set_goals(report: &mut Report, [straight, nginx, keyhouse]: &[Line<'_>; 3]) {
    let work = "chat SSE, 64 connections, a chunk each 5 ms";
    let cpu = keyhouse.median(Measured::cpu_us) / nginx.median(Measured::cpu_us);
    report.at_most(&format!("{work}: CPU a stream"), cpu, CPU_FACTOR, " × nginx");
    let gap = |line: &Line<'_>| line.median(|measured| measured.gap_p99_us / 1e3);
    let added = gap(keyhouse) - gap(straight);
    report.at_most(&format!("{work}: gap p99 over straight"), added, GAP_ADDED_MS, " ms");
}
