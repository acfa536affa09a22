//! From the start of the process to the moment it says it is ready.

use super::{ROUNDS, data_folder};
use crate::big;
use crate::process::{SERVER_CORE, free_address};
use crate::report::{self, Report};
use crate::seed::Dataset;
use crate::servers::{keyhouse_program, start_keyhouse};
use anyhow::ensure;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const EMPTY_S: f64 = 0.3;
const LARGE_S: f64 = 1.0;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    // Nobody calls it.
    let nowhere = free_address()?;
    let small = Dataset::sqlite(&data_folder().join("sqlite"), nowhere, 1)?;
    let big = big::open(nowhere)?;
    let mut lines = Vec::new();
    for (name, data, most_s) in
        [("an empty store", &small, EMPTY_S), ("1 000 000 keys, 10 000 000 charges", &big, LARGE_S)]
    {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(time_to_ready_s(data)?);
        }
        lines.push(vec![name.to_owned(), report::spread(times.iter().map(|seconds| seconds * 1e3))]);
        report.at_most(&format!("start on {name}"), report::median(times.into_iter()), most_s, " s");
    }
    report.table(&["start", "ms until ready"], lines);
    Ok(())
}

fn time_to_ready_s(data: &Dataset) -> anyhow::Result<f64> {
    let began = Instant::now();
    let (address, _process) = start_keyhouse(&keyhouse_program(), data, SERVER_CORE)?;
    while !is_ready(address) {
        ensure!(began.elapsed() < PATIENCE, "not ready; see {}", data.log().display());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(began.elapsed().as_secs_f64())
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
