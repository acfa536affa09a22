//! Chat JSON at 64 connections with a thousand keys: what a call costs when many come.

use super::{CALL_HEAD, Line, call_cells, data_folder, interleave, order};
use crate::load::{Measured, Order};
use crate::report::Report;
use crate::seed::Dataset;
use crate::servers::Server;

const CONNECTIONS: usize = 64;
const KEYS: usize = 1_000;
/// Of nginx, in CPU time and in calls a second.
const CPU_FACTOR: f64 = 2.5;
const THROUGHPUT_FACTOR: f64 = 0.4;

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let data = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    let hello = Server::hello()?;
    let nginx = Server::nginx(&upstream, &data_folder().join("nginx"))?;
    let keyhouse = Server::keyhouse(&data)?;
    let order = Order { keys: data.secrets.clone(), ..order(CONNECTIONS) };
    let mut lines =
        [&upstream, &hello, &nginx, &keyhouse].map(|server| Line::new(&server.name, server, order.clone()));
    interleave(report, "chat JSON", &mut lines)?;
    let head = [&["chat JSON, 64 connections, 1 000 keys"], &CALL_HEAD[..]].concat();
    report.table(&head, lines.iter().map(call_cells).collect());
    let [_, _, nginx, keyhouse] = &lines;
    let work = "chat JSON, 64 connections, 1 000 keys";
    let cpu = keyhouse.median(Measured::cpu_us) / nginx.median(Measured::cpu_us);
    report.at_most(&format!("{work}: CPU a call"), cpu, CPU_FACTOR, " × nginx");
    let throughput = keyhouse.median(Measured::per_second) / nginx.median(Measured::per_second);
    report.at_least(&format!("{work}: throughput"), throughput, THROUGHPUT_FACTOR, " × nginx");
    Ok(())
}
