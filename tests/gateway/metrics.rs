//! What `/metrics` counts, and who may read it.

use crate::house::{House, ask, ask_with};
use crate::support::engines;
use crate::support::upstream::Act;
use serde_json::json;
use std::time::{Duration, Instant};

impl House {
    /// The page, as a program on this machine reads it.
    pub fn metrics(&self) -> String {
        let page = self.get("", "/metrics");
        assert_eq!(page.status, 200, "{page:?}");
        page.body
    }

    /// Waits until the page has this line: what a call leaves behind is counted just after its answer.
    pub fn comes_to_count(&self, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.metrics().lines().any(|found| found == line) {
            assert!(Instant::now() < deadline, "{line} is not in:\n{}", self.metrics());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

const CHAT: &str = r#"route="/chat/completions""#;

#[test]
fn calls_charges_and_commits_are_counted() {
    for engine in engines() {
        let house = House::start(engine);
        house.comes_to_count(&format!(r#"keyhouse_calls_total{{{CHAT},status="2xx"}} 0"#));
        let answer = house.chat(&ask("echo"));
        assert_eq!(house.chat(&ask_with("echo", json!({"stream": true}))).status, 200);
        assert_eq!(house.chat(&ask("unknown-model")).status, 404);
        assert_eq!(answer.status, 200);
        house.comes_to_count(&format!(r#"keyhouse_calls_total{{{CHAT},status="2xx"}} 2"#));
        house.comes_to_count(&format!(r#"keyhouse_calls_total{{{CHAT},status="4xx"}} 1"#));
        house.comes_to_count(&format!("keyhouse_call_seconds_count{{{CHAT}}} 2"));
        house.comes_to_count(&format!("keyhouse_first_byte_seconds_count{{{CHAT}}} 2"));
        house.comes_to_count(r#"keyhouse_charges_total{outcome="complete"} 2"#);
        house.comes_to_count(&format!("keyhouse_settled_micros_total {}", house.used_micros()));
        house.comes_to_count("keyhouse_open_streams 0");
        house.comes_to_count("keyhouse_ledger_waiting 0");
        let page = house.metrics();
        assert!(page.contains(concat!(r#"keyhouse_instance_info{version=""#, env!("CARGO_PKG_VERSION"))));
        assert!(page.contains("keyhouse_ledger_commit_seconds_count 4"), "{page}");
        assert!(page.contains("keyhouse_database_wait_seconds_bucket"), "{page}");
        assert!(!page.contains("unknown-model") && !page.contains("ada"), "{page}");
    }
}

#[test]
fn an_open_stream_is_counted_until_its_caller_leaves() {
    for engine in engines() {
        let (house, _upstream) = House::with_upstream(engine, Act::Hang);
        house.seed.model("slow", crate::house::PRICE, 1_000, &[house.seed.echo("slow", 200)]);
        let body = ask_with("slow", json!({"stream": true})).to_string();
        let stream = house.post(&house.key.secret, body).send().expect("an answer");
        house.comes_to_count("keyhouse_open_streams 1");
        drop(stream);
        house.comes_to_count("keyhouse_open_streams 0");
        house.comes_to_count(r#"keyhouse_charges_total{outcome="hung_up"} 1"#);
    }
}

#[test]
fn only_those_near_by_may_read_it() {
    for engine in engines() {
        let house = House::start(engine);
        // The house trusts a proxy on this machine.
        for (header, value, status) in [
            ("x-forwarded-for", "192.168.7.1", 200),
            ("x-forwarded-for", "203.0.113.7", 404),
            ("x-forwarded-for", "192.168.7.1, 203.0.113.7", 404),
            ("x-forwarded-for", "unknown", 404),
            ("forwarded", "for=192.168.7.1", 404),
            ("x-real-ip", "127.0.0.1", 404),
        ] {
            let request = house.http.get(format!("{}/metrics", house.url)).header(header, value);
            let answer = request.send().expect("an answer");
            assert_eq!(answer.status(), status, "{header}: {value}");
            assert!(!answer.text().expect("text").contains("keyhouse_calls") || status == 200);
        }
    }
}
