//! A store with a million keys and ten million charges against one with nothing but the keys in use.

use super::{CALL_HEAD, Line, call_cells, data_folder, interleave, order};
use crate::big;
use crate::load::{Measured, Order};
use crate::report::Report;
use crate::seed::Dataset;
use crate::servers::Server;

const CONNECTIONS: usize = 64;
const KEYS: usize = 1_000;
/// Of an empty store, in CPU time.
const CPU_FACTOR: f64 = 1.1;

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let small = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    let big = big::open(upstream.addresses[0])?;
    let spread_keys = big.spread_keys(KEYS)?;
    let on_small = Server::keyhouse(&small)?;
    let on_big = Server::keyhouse(&big)?;
    let order = |keys| Order { keys, ..order(CONNECTIONS) };
    let mut lines = [
        Line::new("an empty store, 1 000 keys in use", &on_small, order(small.secrets.clone())),
        Line::new("1 M keys and 10 M charges stored, 1 000 keys in use", &on_big, order(spread_keys)),
        Line::new("the same, all keys in use at random", &on_big, order(big.secrets.clone())),
    ];
    // Apart, since what either leaves to the background on the large store would count for the other.
    let (few, all) = lines.split_at_mut(2);
    interleave(report, "a large store", few)?;
    interleave(report, "a large store", all)?;
    report.table(
        &[&["chat JSON, 64 connections"], &CALL_HEAD[..]].concat(),
        lines.iter().map(call_cells).collect(),
    );
    let [small, large, _] = &lines;
    let cpu = large.median(Measured::cpu_us) / small.median(Measured::cpu_us);
    report.at_most(
        "1 000 000 keys, 10 000 000 charges stored: CPU a call",
        cpu,
        CPU_FACTOR,
        " × an empty store",
    );
    Ok(())
}
