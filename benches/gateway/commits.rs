//! What a durable commit takes by itself, on the disk and the core of the server, at the pace of a quiet caller.

use super::load::{Measured, Order};
use diesel::connection::SimpleConnection;
use hdrhistogram::Histogram;
use keyhouse::store::DatabaseUrl;
use std::io::Read;
use std::time::{Duration, Instant};

/// Commits one row at the order's rate, and prints how long that took.
pub fn serve() -> anyhow::Result<()> {
    let mut order = String::new();
    std::io::stdin().read_to_string(&mut order)?;
    let order: Order = serde_json::from_str(&order)?;
    let file = order.keys.with_file_name("commits.db");
    // With the settings of Keyhouse's own connections.
    let mut connection = DatabaseUrl::Sqlite(file).connect()?;
    connection
        .batch_execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT")?;
    let mut times = Histogram::<u64>::new_with_bounds(1_000, 600_000_000_000, 3)?;
    let interval = Duration::from_secs_f64(order.rate.map_or(0.0, |rate| 1.0 / rate));
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < order.measured_s {
        std::thread::sleep(interval);
        let committing = Instant::now();
        connection.batch_execute(
            "INSERT INTO t (text) VALUES ('as long as a charge is, more or less, in bytes')",
        )?;
        times.saturating_record(u64::try_from(committing.elapsed().as_nanos())?);
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    let measured = Measured {
        requests: times.len(),
        seconds: began.elapsed().as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        ..Measured::default()
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
