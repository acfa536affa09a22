//! The pages whose lists grow: API Keys with ten thousand keys, Usage with ten million charges.

use crate::big;
use crate::process::free_address;
use crate::report::{self, Report};
use crate::seed::{Dataset, PASSWORD, USER};
use crate::servers::Server;
use anyhow::ensure;
use keyhouse::store::usage_rollup;
use reqwest::blocking::Client;
use std::time::{Duration, Instant};

/// Of each view.
const VISITS: usize = 50;
const VISITS_TO_WARM_UP: usize = 5;
const MOST_MS: f64 = 50.0;
const SUMS_PATIENCE: Duration = Duration::from_secs(120);

/// Who looks at what.
const VIEWS: [(&str, &str, &str); 10] = [
    ("API Keys, first page", big::OTHER_USER, "/keys"),
    ("API Keys, by name", big::OTHER_USER, "/keys?sort=name"),
    ("API Keys, by credits used", big::OTHER_USER, "/keys?sort=-used"),
    ("API Keys, search", big::OTHER_USER, "/keys?q=project+77"),
    ("API Keys, search that finds nothing", big::OTHER_USER, "/keys?q=no+such+key"),
    ("API Keys, disabled", big::OTHER_USER, "/keys?status=disabled"),
    ("API Keys, exhausted by name", big::OTHER_USER, "/keys?status=exhausted&sort=name"),
    ("Usage, first page", USER, "/usage"),
    ("Usage, 24 hours", USER, "/usage?range=24h"),
    ("Usage, 90 days", USER, "/usage?range=90d"),
];

pub fn run(report: &mut Report) -> anyhow::Result<()> {
    let data = big::open(free_address()?)?;
    let keyhouse = Server::keyhouse(&data)?;
    wait_for_sums(&data)?;
    let base = format!("http://{}", keyhouse.addresses[0]);
    let mut lines = Vec::new();
    let mut missing = Vec::new();
    for (name, user, path) in VIEWS {
        let http = sign_in(&base, user)?;
        let url = format!("{base}{path}");
        if http.get(&url).send()?.status() == 404 {
            missing.push(name);
            continue;
        }
        let mut times_ms = Vec::new();
        for visit in 0..VISITS_TO_WARM_UP + VISITS {
            let began = Instant::now();
            let answer = http.get(&url).send()?;
            ensure!(answer.status() == 200, "{path}: {}", answer.status());
            let page = answer.text()?;
            ensure!(page.contains("</html>"), "{path} is no page");
            if visit >= VISITS_TO_WARM_UP {
                times_ms.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        times_ms.sort_by(f64::total_cmp);
        lines.push(vec![name.to_owned(), report::spread(times_ms.iter().copied())]);
        report.at_most(name, report::median(times_ms.into_iter()), MOST_MS, " ms");
    }
    report.table(&["page", "ms"], lines);
    if !missing.is_empty() {
        report.note(format!("Not there yet: {}.", missing.join("; ")));
    }
    Ok(())
}

/// What parts before this one charged may not be summed up by hours and days yet, and then a page does that when asked.
fn wait_for_sums(data: &Dataset) -> anyhow::Result<()> {
    let mut connection = data.url.connect()?;
    let began = Instant::now();
    while usage_rollup::close(&mut connection)?.is_some() {
        ensure!(began.elapsed() < SUMS_PATIENCE, "usage is not summed up");
        std::thread::sleep(Duration::from_millis(200));
    }
    usage_rollup::merge(&mut connection, i64::MAX)?;
    Ok(())
}

pub(super) fn sign_in(base: &str, user: &str) -> anyhow::Result<Client> {
    let http = Client::builder().cookie_store(true).redirect(reqwest::redirect::Policy::none()).build()?;
    let body = format!("name={user}&password={}", PASSWORD.replace(' ', "+"));
    let form =
        http.post(format!("{base}/sign-in")).header("content-type", "application/x-www-form-urlencoded");
    let answer = form.body(body).send()?;
    ensure!(answer.status() == 303, "signing in: {}", answer.status());
    Ok(http)
}
