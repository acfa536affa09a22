//! The laws under torture: real servers killed, databases stopped and filled up, edits raced against calls.
//!
//! `KEYHOUSE_TORTURE_CYCLES` says how long: 6 by default, fit for every run; `make torture` sets 200.
//! `KEYHOUSE_TORTURE_SEED` repeats the random choices of a run that printed it (the machine's timing is its own).

mod audit;
mod callers;
mod cluster;
mod crashes;
#[path = "../support/database.rs"]
mod database;
mod edits;
mod encryption;
mod neighbours;
mod outages;
#[path = "../support/seed.rs"]
mod seed;
mod sessions;
mod site;
mod starts;
#[path = "../support/upstream.rs"]
mod upstream;

use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

const CYCLES: &str = "KEYHOUSE_TORTURE_CYCLES";
const SEED: &str = "KEYHOUSE_TORTURE_SEED";
/// What `make torture` runs.
const CYCLES_FULL: usize = 200;

/// How often a server is killed in each arrangement; other tests scale with it.
fn cycles() -> usize {
    std::env::var(CYCLES).map_or(6, |text| text.parse().expect("KEYHOUSE_TORTURE_CYCLES is a number"))
}

/// Random choices of the test `name`, repeatable by the seed that is printed.
fn dice(name: &str) -> StdRng {
    let seed: u64 = std::env::var(SEED)
        .map_or_else(|_| rand::random(), |text| text.parse().expect("KEYHOUSE_TORTURE_SEED is a number"));
    eprintln!("{name}: {SEED}={seed}, {CYCLES}={}", cycles());
    StdRng::seed_from_u64(seed)
}

/// Polls until `holds` gives something, or fails at the deadline.
fn within<T>(patience: Duration, what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
