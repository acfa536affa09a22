//! What Keyhouse is run through between its two compilations (benches/dist.sh), so that the compiler sees what is done often:
//! answers and streams, many callers and one, upstreams in the clear and by TLS, SQLite and PostgreSQL, pages. Measures
//! nothing.

use super::pages::sign_in;
use super::{data_folder, measure, order};
use crate::cluster::Cluster;
use crate::load::Order;
use crate::seed::{Dataset, PACES_MS, USER};
use crate::servers::Server;
use anyhow::ensure;
use keyhouse::store::DatabaseUrl;

const CONNECTIONS: usize = 64;
const KEYS: usize = 1_000;
/// Of each kind of load.
const SECONDS: f64 = 3.0;
/// Of a caller who is alone.
const CALLS_PER_SECOND: f64 = 100.0;
/// Of each page.
const VISITS: usize = 20;

/// Pages that people come to.
const PAGES: [&str; 15] = [
    "/keys",
    "/keys?sort=name",
    "/keys?q=bench",
    "/keys?status=active",
    "/keys/new",
    "/usage",
    "/usage?range=24h",
    "/usage?range=90d&by=key",
    "/overview",
    "/account",
    "/users",
    "/all-keys",
    "/models",
    "/upstreams",
    "/audit",
];

/// Runs Keyhouse through all of it.
pub fn run() -> anyhow::Result<()> {
    let done = run_each();
    drop(std::fs::remove_dir_all(data_folder()));
    done
}

fn run_each() -> anyhow::Result<()> {
    let upstream = Server::upstream()?;
    let sqlite = Dataset::sqlite(&data_folder().join("sqlite"), upstream.addresses[0], KEYS)?;
    load("SQLite", &sqlite)?;
    let cluster = Cluster::start()?;
    let url = DatabaseUrl::Postgres(cluster.url());
    let base_url = format!("http://{}/v1", upstream.addresses[0]);
    let folder = data_folder().join("postgres");
    load("PostgreSQL", &Dataset::fill(&folder, url, Some(cluster.process()?), &base_url, KEYS)?)?;
    for (name, http2) in [("TLS", false), ("TLS and HTTP/2", true)] {
        let (encrypted, certificate) = Server::encrypted(&upstream, &data_folder().join("nginx"), http2)?;
        let base_url = format!("https://localhost:{}/v1", encrypted.addresses[0].port());
        let folder = data_folder().join("encrypted");
        let url = DatabaseUrl::Sqlite(folder.join("keyhouse.db"));
        let data = Dataset::fill(&folder, url, None, &base_url, KEYS)?;
        load(name, &Dataset { certificate: Some(certificate), ..data })?;
    }
    Ok(())
}

fn load(name: &str, data: &Dataset) -> anyhow::Result<()> {
    let keyhouse = Server::keyhouse(data)?;
    let order = Order { keys: data.secrets.clone(), measured_s: SECONDS, ..order(CONNECTIONS) };
    let [fast, paced, _] = PACES_MS;
    let orders = [
        order.clone(),
        Order { stream: true, pace_ms: paced, ..order.clone() },
        Order { stream: true, pace_ms: fast, ..order.clone() },
        Order { connections: 1, rate: Some(CALLS_PER_SECOND), ..order },
    ];
    for order in &orders {
        let measured = measure(&keyhouse, order)?;
        eprintln!("  {name}: {} calls", measured.requests);
    }
    visit(&format!("http://{}", keyhouse.addresses[0]))
}

fn visit(base: &str) -> anyhow::Result<()> {
    let http = sign_in(base, USER)?;
    for path in PAGES {
        for _ in 0..VISITS {
            let answer = http.get(format!("{base}{path}")).send()?;
            ensure!(answer.status() == 200, "{path}: {}", answer.status());
            answer.text()?;
        }
    }
    Ok(())
}
