//! A flood of wrong passwords: it waits in a short queue, and the gateway answers as if there were none.

use super::second_factor::sql;
use super::support::seed::Seed;
use super::support::{House, PASSWORD, engines};
use keyhouse::config::Reach;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use reqwest::StatusCode;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const PASSWORDS: usize = 10_000;
const AT_ONCE: usize = 200;

/// Behind a proxy that says whose passwords they are.
fn house(engine: super::support::Engine) -> House {
    let trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    House::start_with(engine, Reach { public_url: None, trusted_proxies })
}

fn key(house: &House) -> String {
    let seed = Seed { store: house.store.clone(), vault: house.vault.clone() };
    let user = seed.user("caller", "1000000");
    let echo = seed.echo("echo", 0);
    seed.model("parrot", Price { input_micros: 1, output_micros: 1, ..Price::default() }, 64, &[echo]);
    seed.key(user, &KeyDraft::default()).secret
}

#[test]
fn ten_thousand_wrong_passwords_leave_the_gateway_alone() {
    for engine in engines() {
        let house = house(engine);
        house.add_user("ada", false);
        let secret = key(&house);
        let (next, flooding) = (AtomicUsize::new(0), AtomicBool::new(true));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (statuses, calls) = runtime.block_on(async {
            let http = reqwest::Client::new();
            let flood = async {
                let guessers = (0..AT_ONCE).map(|_| guess(&http, &house.url, &next));
                let seen = futures_util::future::join_all(guessers).await;
                flooding.store(false, Ordering::Relaxed);
                seen.into_iter().flatten().fold(BTreeMap::new(), |mut counts, status: StatusCode| {
                    *counts.entry(status.as_u16()).or_insert(0_usize) += 1;
                    counts
                })
            };
            futures_util::join!(flood, call(&http, &house.url, &secret, &flooding))
        });
        assert_eq!(statuses.values().sum::<usize>(), PASSWORDS);
        assert!(statuses.keys().all(|status| [422, 503].contains(status)), "{statuses:?}");
        assert!(statuses.contains_key(&422) && statuses.contains_key(&503), "{statuses:?}");
        assert!(calls > 10, "{calls} calls beside the flood");
        assert_eq!(house.hasher.running_peak(), 1);
        assert!(house.turnstile.waiting_peak() <= 64, "{}", house.turnstile.waiting_peak());
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::SEE_OTHER, "it is over");
    }
}

/// Wrong passwords for other names from other addresses, one after the other.
async fn guess(http: &reqwest::Client, url: &str, next: &AtomicUsize) -> Vec<StatusCode> {
    let mut seen = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= PASSWORDS {
            return seen;
        }
        let request = http
            .post(format!("{url}/sign-in"))
            .header("x-forwarded-for", format!("10.{}.{}.7", n / 256, n % 256))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("name=user{n}&password=wrong"));
        seen.push(request.send().await.expect("the house answers").status());
    }
}

/// Calls until the flood is over; every call must succeed. Gives how many there were.
async fn call(http: &reqwest::Client, url: &str, secret: &str, flooding: &AtomicBool) -> usize {
    let body = json!({ "model": "parrot", "messages": [{ "role": "user", "content": "Hello" }] });
    let mut calls = 0;
    while flooding.load(Ordering::Relaxed) {
        let request = http.post(format!("{url}/v1/chat/completions")).bearer_auth(secret).json(&body);
        let answer = request.send().await.expect("the gateway answers");
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
        calls += 1;
    }
    calls
}

#[test]
fn whoever_is_refused_costs_the_same_work() {
    for engine in engines() {
        let house = house(engine);
        house.add_user("ada", false);
        house.add_user("disabled", false);
        house.add_user("invited", false);
        house.add_user("damaged", false);
        sql(&house, "UPDATE users SET enabled = (1 = 0) WHERE name = 'disabled'");
        sql(&house, "UPDATE users SET password_hash = '' WHERE name = 'invited'");
        sql(&house, "UPDATE users SET password_hash = 'x' WHERE name = 'damaged'");
        let long = "x".repeat(100_000);
        for (name, password) in [
            ("ada", "wrong"),
            ("nobody", PASSWORD),
            ("disabled", PASSWORD),
            ("invited", PASSWORD),
            ("invited", " "),
            ("damaged", PASSWORD),
            ("not a name", PASSWORD),
            ("ada", long.as_str()),
        ] {
            let before = house.hasher.hashed();
            let answer = house.anon().sign_in(name, password);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
            assert_eq!(house.hasher.hashed() - before, 1, "{name}: one hash, whatever is wrong");
        }
    }
}

#[test]
fn a_restart_gives_nobody_more_tries() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        for _ in 0..10 {
            house.anon().sign_in("ada", "wrong");
        }
        let house = house.restart();
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::TOO_MANY_REQUESTS);
        let before = house.hasher.hashed();
        house.anon().sign_in("ada", PASSWORD);
        assert_eq!(house.hasher.hashed(), before, "who is refused costs no hash");
        sql(&house, "UPDATE sign_in_throttles SET full_at_ms = full_at_ms - 30000");
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::SEE_OTHER);
    }
}
