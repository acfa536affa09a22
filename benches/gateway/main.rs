//! What a call costs through Keyhouse, measured beside the upstream alone, nginx, and a framework that says hello:
//!
//! ```text
//! make bench                       everything; about an hour, and half an hour more to build what is measured
//! make bench PART=json             one part, or several: PART="json stream"
//! KEYHOUSE_BIN=… make bench …      another build of keyhouse
//! cargo bench --bench gateway -- compare json target/release/keyhouse …      builds side by side
//! ```
//!
//! All on this machine: the server under test on one core, the load and the upstream on the other, in rounds that go
//! through all servers. The figure to trust is CPU time per call, which other work on the machine leaves alone.

mod answer;
mod big;
mod cluster;
mod commits;
mod cpu;
mod hello;
mod load;
mod open;
mod parts;
mod process;
mod report;
mod seed;
mod servers;
mod upstream;

use anyhow::bail;
use std::net::SocketAddr;

fn main() -> anyhow::Result<()> {
    // Cargo adds a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["upstream", address] => Ok(one_thread()?.block_on(upstream::serve(address.parse()?))?),
        ["hello", address] => Ok(hello::serve(address.parse::<SocketAddr>()?)?),
        ["commits"] => commits::serve(),
        ["open"] => one_thread()?.block_on(open::serve()),
        ["train"] => parts::train::run(),
        ["compare", rest @ ..] => parts::compare::run(rest),
        ["load"] => one_thread()?.block_on(load::serve()),
        [] => parts::run(&parts::ALL.map(|(name, _)| name)),
        names => match names.iter().find(|name| !parts::ALL.iter().any(|(known, _)| known == *name)) {
            Some(unknown) => {
                bail!("no part {unknown}; there are {}", parts::ALL.map(|(name, _)| name).join(", "))
            }
            None => parts::run(names),
        },
    }
}

fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
