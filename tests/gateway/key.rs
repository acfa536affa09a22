//! `GET /v1/key`, and what answers say of the credits that remain.

use crate::house::{House, ask, ask_with};
use crate::support::engines;
use keyhouse::clock::now_ms;
use keyhouse::domain::key::KeyDraft;
use keyhouse::store::audit::Actor;
use keyhouse::store::keys;
use serde_json::json;

#[test]
fn a_key_looks_at_itself() {
    for engine in engines() {
        let house = House::start(engine);
        house.seed.group("premium", "1.5");
        let draft = KeyDraft {
            credit_limit: Some("5"),
            models: "echo\ngpt-*",
            expires: "2099-01-02",
            ..KeyDraft::default()
        };
        let key = house.seed.key_in_group(house.key.user_id, "premium", &draft);
        let answer = house.chat_with(&key, &ask("echo"));
        let charged = answer.header("x-keyhouse-credits").expect("charged").to_owned();
        let view = house.get(&key.secret, "/v1/key").json();
        assert_eq!((&view["name"], &view["status"]), (&json!("test"), &json!("Active")));
        assert_eq!((&view["credit_limit"], &view["credits_used"]), (&json!("5.000000"), &json!(charged)));
        assert_eq!(view["credits_held"], "0.000000");
        let remaining = answer.header("x-keyhouse-credits-remaining").expect("said");
        assert_eq!(view["credits_remaining"], remaining);
        assert!(view["expires_at"].as_str().is_some_and(|at| at.starts_with("2099-01-0")), "{view}");
        assert_eq!(view["models"], json!(["echo", "gpt-*"]));
        assert_eq!(view["group"], json!({"name": "premium", "multiplier": "1.5"}));
        let account = view["account"]["credits_remaining"].as_str().expect("said");
        assert!(account.starts_with("9.99"), "{view}");
    }
}

#[test]
fn an_exhausted_key_looks_too_and_a_disabled_one_does_not() {
    for engine in engines() {
        let house = House::start(engine);
        let draft = KeyDraft { credit_limit: Some("0.000214"), ..KeyDraft::default() };
        let key = house.seed.key(house.key.user_id, &draft);
        while house.chat_with(&key, &ask("echo")).status == 200 {}
        let view = house.get(&key.secret, "/v1/key");
        assert_eq!(view.status, 200, "{view:?}");
        let set = |c: &mut _| keys::set_enabled(c, key.user_id, key.id, false, &Actor::cli(), now_ms());
        house.seed.store.with(set).expect("disabled");
        assert_eq!(house.get(&key.secret, "/v1/key").refusal(), (401, "key_disabled".into()));
        assert_eq!(house.get("sk-nothing", "/v1/key").refusal(), (401, "invalid_api_key".into()));
    }
}

#[test]
fn every_answer_says_what_remains() {
    for engine in engines() {
        let house = House::start(engine);
        let limited = KeyDraft { credit_limit: Some("1"), ..KeyDraft::default() };
        let key = house.seed.key(house.key.user_id, &limited);
        let answer = house.chat_with(&key, &ask("echo"));
        let used = house.key_row(&key).credits_used_micros;
        let micros = |answer: &crate::house::Answer| {
            let text = answer.header("x-keyhouse-credits-remaining").expect("said").replace('.', "");
            text.parse::<i64>().expect("a number")
        };
        assert_eq!(micros(&answer), 1_000_000 - used);
        // A stream says it as of its hold: less than what remains at its end.
        let stream = house.chat_with(&key, &ask_with("echo", json!({"stream": true})));
        let held_then = micros(&stream);
        let used = house.key_row(&key).credits_used_micros;
        assert!(held_then < 1_000_000 - used, "{held_then}");
        // Without a limit the account decides.
        let account = house.chat(&ask("echo"));
        let balance = house.get(&house.key.secret, "/v1/key").json()["account"]["credits_remaining"].clone();
        assert_eq!(account.header("x-keyhouse-credits-remaining"), balance.as_str());
    }
}
