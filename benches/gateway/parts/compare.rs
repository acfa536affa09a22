//! Builds of Keyhouse side by side, with nginx as the yardstick: in each round all of them in turn, so that what differs by a
//! few per cent can be told apart in a loud hour too. Writes no document.

use super::{Line, data_folder, measure_line, order};
use crate::cluster::Cluster;
use crate::load::{Measured, Order};
use crate::process::{ANY_CORE, SERVER_CORE};
use crate::report::Report;
use crate::seed::Dataset;
use crate::servers::Server;
use anyhow::{bail, ensure};
use keyhouse::store::DatabaseUrl;

const USAGE: &str = "say which work, and which builds: compare json target/release/keyhouse other/keyhouse";
const CONNECTIONS: usize = 64;
const KEYS: usize = 1_000;
const PACE_MS: u64 = 5;
/// Short ones and many: what the machine's mood is changes within seconds.
const ROUNDS: usize = 60;
const WARM_UP_S: f64 = 0.3;
const MEASURED_S: f64 = 0.7;

/// A kind of work (json, stream, postgres, or postgres2: two instances of each), then builds, paths of programs; the first of
/// them is what the others are compared with.
pub fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let [work, builds @ ..] = arguments else { bail!("{USAGE}") };
    ensure!(!builds.is_empty(), "{USAGE}");
    let done = run_all(work, builds);
    drop(std::fs::remove_dir_all(data_folder()));
    done
}

fn run_all(work: &str, builds: &[&str]) -> anyhow::Result<()> {
    let (instances, on_postgres, stream) = match work {
        "json" => (1, false, false),
        "stream" => (1, false, true),
        "postgres" => (1, true, false),
        "postgres2" => (2, true, false),
        _ => bail!("no work {work}; there are json, stream, postgres, postgres2"),
    };
    let upstream = Server::upstream()?;
    let base_url = format!("http://{}/v1", upstream.addresses[0]);
    // A database each: what one build writes is not what another one has to go through. They outlive the servers below.
    let mut clusters = Vec::new();
    let nginx = Server::nginx(&upstream, &data_folder().join("nginx"))?;
    // nginx asks for no key, and is shown those of the first build.
    let mut servers = vec![(nginx, data_folder().join("0/secrets"))];
    for (number, build) in builds.iter().enumerate() {
        let folder = data_folder().join(number.to_string());
        let (data, cores) = if on_postgres {
            let cluster = Cluster::start()?;
            let url = DatabaseUrl::Postgres(cluster.url());
            let data = Dataset::fill(&folder, url, Some(cluster.process()?), &base_url, KEYS)?;
            clusters.push(cluster);
            (data, ANY_CORE)
        } else {
            (Dataset::sqlite(&folder, upstream.addresses[0], KEYS)?, SERVER_CORE)
        };
        servers.push((Server::keyhouses(build, build, &data, instances, cores)?, data.secrets.clone()));
    }
    let pace_ms = if stream { PACE_MS } else { 0 };
    let (warm_up_s, measured_s) = (WARM_UP_S, MEASURED_S);
    let ordered = |keys| Order { keys, stream, pace_ms, warm_up_s, measured_s, ..order(CONNECTIONS) };
    let mut lines: Vec<Line<'_>> =
        servers.iter().map(|(server, keys)| Line::new(&server.name, server, ordered(keys.clone()))).collect();
    let mut report = Report::new("compare");
    for round in 1..=ROUNDS {
        for line in &mut lines {
            measure_line(&mut report, work, line, round)?;
        }
    }
    let (nginx, first) = (&lines[0], &lines[1]);
    println!("{work}: CPU µs a call, median [least–most]; ratios round by round: median ± standard error");
    for line in &lines {
        println!(
            "{}: {}; {} × nginx; {} × {}",
            line.name,
            line.spread(Measured::cpu_us),
            ratio(line, nginx),
            ratio(line, first),
            first.name
        );
    }
    Ok(())
}

/// Of the CPU times of two lines, round by round. The error is a median's, from how far the middle half of the rounds spreads, so
/// that a few bad rounds spoil neither: 1.25 × σ ÷ √rounds, where the middle half is 1.35 σ wide (normal distribution).
fn ratio(of: &Line<'_>, to: &Line<'_>) -> String {
    let rounds = of.rounds.iter().zip(&to.rounds);
    let mut ratios: Vec<f64> = rounds.map(|(of, to)| of.cpu_us() / to.cpu_us()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part: f64| ratios[(part * (ratios.len() - 1) as f64).round() as usize];
    let error = 1.25 * (at(0.75) - at(0.25)) / 1.35 / (ratios.len() as f64).sqrt();
    format!("{:.3} ± {error:.3}", at(0.5))
}
