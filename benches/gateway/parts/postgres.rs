//! The same over PostgreSQL, by one instance and by two, against SQLite. Here the servers share both cores.

use super::{CALL_HEAD, Line, call_cells, data_folder, interleave, order};
use crate::cluster::Cluster;
use crate::load::{Measured, Order};
use crate::process::ANY_CORE;
use crate::report::Report;
use crate::seed::Dataset;
use crate::servers::{Server, keyhouse_program};
use keyhouse::store::DatabaseUrl;

const CONNECTIONS: usize = 64;
const KEYS: usize = 1_000;
/// Of nginx, in Keyhouse's own CPU time,
const CPU_FACTOR: f64 = 3.0;
/// and of SQLite.
const P99_FACTOR: f64 = 2.0;

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let sqlite = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    let cluster = Cluster::start()?;
    let url = DatabaseUrl::Postgres(cluster.url());
    let folder = data_folder().join("postgres");
    let base_url = format!("http://{}/v1", upstream.addresses[0]);
    let postgres = Dataset::fill(&folder, url, Some(cluster.process()?), &base_url, KEYS)?;
    let nginx = Server::nginx(&upstream, &data_folder().join("nginx"))?;
    let build = keyhouse_program();
    let on_sqlite = Server::keyhouses("Keyhouse, SQLite", &build, &sqlite, 1, ANY_CORE)?;
    let one = Server::keyhouses("Keyhouse, PostgreSQL, one instance", &build, &postgres, 1, ANY_CORE)?;
    let two = Server::keyhouses("Keyhouse, PostgreSQL, two instances", &build, &postgres, 2, ANY_CORE)?;
    let mut lines =
        [line(&nginx, &sqlite), line(&on_sqlite, &sqlite), line(&one, &postgres), line(&two, &postgres)];
    interleave(report, "PostgreSQL", &mut lines)?;
    let head = [&["chat JSON, 64 connections, 1 000 keys"], &CALL_HEAD[..], &["PostgreSQL's CPU µs a call"]]
        .concat();
    let cells = |line: &Line<'_>| {
        let others =
            if line.server.others.is_empty() { "–".into() } else { line.spread(Measured::others_cpu_us) };
        [call_cells(line), vec![others]].concat()
    };
    report.table(&head, lines.iter().map(cells).collect());
    let [nginx, on_sqlite, one, two] = &lines;
    for (line, name) in [(one, "one instance"), (two, "two instances")] {
        let work = format!("PostgreSQL, {name}");
        let cpu = line.median(Measured::cpu_us) / nginx.median(Measured::cpu_us);
        report.at_most(&format!("{work}: CPU of Keyhouse a call"), cpu, CPU_FACTOR, " × nginx");
        let p99 = |line: &Line<'_>| line.median(|measured| measured.p99_us);
        report.at_most(&format!("{work}: p99"), p99(line) / p99(on_sqlite), P99_FACTOR, " × SQLite");
    }
    Ok(())
}

fn line<'a>(server: &'a Server, data: &Dataset) -> Line<'a> {
    Line::new(&server.name, server, Order { keys: data.secrets.clone(), ..order(CONNECTIONS) })
}
