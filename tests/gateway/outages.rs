//! The database stops committing: nothing goes through unmetered, and nothing is lost when it returns.

use crate::house::{House, ask, ask_with, eventually};
use crate::support::upstream::{Act, completion, completion_events};
use crate::support::{Engine, engines};
use diesel::connection::SimpleConnection;
use keyhouse::ledger::{Instance, Resolution, Resolved};
use keyhouse::store::{Connection, Store};
use serde_json::json;
use std::io::Read;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keeps everybody else from writing charges, until it is let go.
struct Outage {
    end: Sender<()>,
    holder: JoinHandle<()>,
}

impl Outage {
    fn begin(engine: Engine, store: &Store) -> Self {
        let store = store.clone();
        let (end, ended) = channel();
        let (begun, has_begun) = channel();
        let holder = std::thread::spawn(move || {
            let held = store.with(|connection| {
                connection.write(|connection: &mut Connection| {
                    // SQLite's write lock is taken by the transaction itself.
                    if engine == Engine::Postgres {
                        connection.batch_execute("LOCK TABLE charges IN EXCLUSIVE MODE")?;
                    }
                    begun.send(()).expect("somebody waits");
                    ended.recv().expect("it is ended");
                    Ok(())
                })
            });
            held.expect("locked");
        });
        has_begun.recv().expect("it begins");
        Self { end, holder }
    }

    fn end(self) {
        self.end.send(()).expect("it is still on");
        self.holder.join().expect("no panic");
    }
}

#[test]
fn while_the_database_is_away_no_call_goes_through() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 1});
        let (house, upstream) = House::with_upstream(engine, Act::json(200, completion("hi", &usage)));
        let outage = Outage::begin(engine, &house.seed.store);
        let started = Instant::now();
        let answer = house.chat(&ask("m"));
        assert_eq!(answer.refusal(), (503, "database_unavailable".into()));
        assert!(answer.header("retry-after").is_some());
        assert!(started.elapsed() < Duration::from_secs(3));
        assert!(upstream.asked().is_empty());
        outage.end();
        eventually("calls go through again", || (house.chat(&ask("m")).status == 200).then_some(()));
        assert_eq!(house.used_micros(), 7);
        house.is_sound();
    }
}

#[test]
fn a_server_that_was_taken_for_dead_gives_no_whole_answer_for_half_a_charge() {
    for engine in engines().into_iter().filter(|engine| *engine == Engine::Postgres) {
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 2});
        let sent = completion_events(&["a", "b"], Some(usage));
        let act = Act::Events {
            piece_bytes: sent.len() / 2,
            bytes: sent.into_bytes(),
            pause: Duration::from_secs(1),
            cut_at: None,
        };
        let (house, _upstream) = House::with_upstream(engine, act);
        let body = ask_with("m", json!({"stream": true})).to_string();
        let mut response = house.post(&house.key.secret, body).send().expect("answered");
        let id = response.headers()["x-request-id"].to_str().expect("ASCII").parse().expect("a number");
        let neighbour =
            Instance::start(&house.seed.store, &house.seed.vault.fingerprint()).expect("a neighbour starts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let resolved = runtime.block_on(neighbour.ledger().resolve(Resolution::interrupted(id)));
        assert!(matches!(resolved, Ok(Resolved::Now { .. })), "{resolved:?}");
        let mut whole = String::new();
        response.read_to_string(&mut whole).expect("the rest");
        assert!(whole.contains("database_unavailable") && !whole.contains("[DONE]"), "{whole}");
        assert_eq!(house.charge().outcome.as_deref(), Some("interrupted"));
        neighbour.stop();
        house.is_sound();
    }
}

#[test]
fn a_stream_whose_charge_cannot_be_committed_has_no_done_and_is_charged_later() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 2});
        let sent = completion_events(&["a", "b"], Some(usage));
        let act = Act::Events {
            piece_bytes: sent.len() / 2,
            bytes: sent.into_bytes(),
            pause: Duration::from_secs(1),
            cut_at: None,
        };
        let (house, _upstream) = House::with_upstream(engine, act);
        let body = ask_with("m", json!({"stream": true})).to_string();
        let mut response = house.post(&house.key.secret, body).send().expect("answered");
        let mut first = [0; 10];
        response.read_exact(&mut first).expect("the first chunk");
        let outage = Outage::begin(engine, &house.seed.store);
        let mut rest = String::new();
        response.read_to_string(&mut rest).expect("the rest");
        assert!(rest.contains("database_unavailable") && !rest.contains("[DONE]"), "{rest}");
        outage.end();
        let charge = house.charge();
        assert_eq!((charge.state.as_str(), charge.settled_micros), ("settled", 9));
        house.is_sound();
    }
}
