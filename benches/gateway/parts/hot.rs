//! One key that everybody calls with, against a thousand keys.

use super::{CALL_HEAD, Line, call_cells, data_folder, interleave, order};
use crate::load::{Measured, Order};
use crate::report::Report;
use crate::seed::Dataset;
use crate::servers::Server;

const CONNECTIONS: usize = 256;
const KEYS: usize = 1_000;
/// Of a thousand keys.
const THROUGHPUT_FACTOR: f64 = 0.9;

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let data = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    let keyhouse = Server::keyhouse(&data)?;
    let order = |keys_in_use| Order { keys: data.secrets.clone(), keys_in_use, ..order(CONNECTIONS) };
    let mut lines = [
        Line::new("Keyhouse, 1 000 keys", &keyhouse, order(KEYS)),
        Line::new("Keyhouse, one hot key", &keyhouse, order(1)),
    ];
    interleave(report, "a hot key", &mut lines)?;
    report.table(
        &[&["chat JSON, 256 connections"], &CALL_HEAD[..]].concat(),
        lines.iter().map(call_cells).collect(),
    );
    let [many, hot] = &lines;
    let throughput = hot.median(Measured::per_second) / many.median(Measured::per_second);
    let work = "a hot key, 256 connections: throughput";
    report.at_least(work, throughput, THROUGHPUT_FACTOR, " × 1 000 keys");
    Ok(())
}
