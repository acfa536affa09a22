//! Every refusal: status, code, and that nothing reached an upstream or was charged.

use crate::house::{House, ask, ask_with, read};
use crate::support::engines;
use keyhouse::clock::now_ms;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use keyhouse::domain::secret::KeySecret;
use keyhouse::store::audit::Actor;
use keyhouse::store::{keys, users};
use serde_json::json;
use std::io::Read;

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn what_is_no_key_is_refused() {
    for engine in engines() {
        let house = House::start(engine);
        let url = format!("{}/v1/chat/completions", house.url);
        let unknown = KeySecret::generate().expose().to_owned();
        let garbage = ["", "sk-kh", "' OR 1=1 --", "sk-khключ", &"x".repeat(50_000), &unknown];
        for key in garbage {
            let value = reqwest::header::HeaderValue::from_bytes(format!("Bearer {key}").as_bytes());
            let request = house.http.post(&url).header("authorization", value.expect("a header"));
            let answer = read(request.body(ask("echo").to_string()).send().expect("answered"));
            assert_eq!(answer.refusal(), refusal(401, "invalid_api_key"));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let none = read(house.http.post(&url).body("{").send().expect("answered"));
        assert_eq!(none.refusal(), refusal(401, "invalid_api_key"));
        let both = house.post(&house.key.secret, ask("echo").to_string()).header("x-api-key", unknown);
        assert_eq!(read(both.send().expect("answered")).refusal(), refusal(401, "invalid_api_key"));
        assert!(house.charges(&house.key).is_empty());
    }
}

#[test]
fn a_header_of_a_megabyte_is_no_server_error() {
    for engine in engines() {
        let house = House::start(engine);
        let request = house.post(&"x".repeat(1 << 20), ask("echo").to_string());
        // The server may hang up before it has read so much; if it answers, it is the caller's fault.
        if let Ok(answer) = request.send() {
            assert!(answer.status().is_client_error(), "{}", answer.status());
        }
        assert_eq!(house.chat(&ask("echo")).status, 200);
    }
}

#[test]
fn a_disabled_key_is_refused_on_the_next_call() {
    for engine in engines() {
        let house = House::start(engine);
        let switch = |enabled| {
            let (user_id, id) = (house.key.user_id, house.key.id);
            let switched = house
                .seed
                .store
                .with(|c| keys::set_enabled(c, user_id, id, enabled, &Actor::cli(), now_ms()));
            switched.expect("switched");
        };
        assert_eq!(house.chat(&ask("echo")).status, 200);
        switch(false);
        let answer = house.chat(&ask("echo"));
        assert_eq!(answer.refusal(), refusal(401, "key_disabled"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(house.get(&house.key.secret, "/v1/models").refusal(), refusal(401, "key_disabled"));
        switch(true);
        assert_eq!(house.chat(&ask("echo")).status, 200);
    }
}

#[test]
fn a_deleted_key_is_unknown_on_the_next_call() {
    for engine in engines() {
        let house = House::start(engine);
        assert_eq!(house.chat(&ask("echo")).status, 200);
        let (user_id, id) = (house.key.user_id, house.key.id);
        house.seed.store.with(|c| keys::delete(c, user_id, id, &Actor::cli(), now_ms())).expect("deleted");
        assert_eq!(house.chat(&ask("echo")).refusal(), refusal(401, "invalid_api_key"));
        assert_eq!(house.charges(&house.key).len(), 1);
    }
}

#[test]
fn a_disabled_owners_keys_are_refused() {
    for engine in engines() {
        let house = House::start(engine);
        let user_id = house.key.user_id;
        house
            .seed
            .store
            .with(|c| users::set_enabled(c, user_id, false, &Actor::cli(), now_ms()))
            .expect("disabled");
        assert_eq!(house.chat(&ask("echo")).refusal(), refusal(401, "key_disabled"));
    }
}

#[test]
fn an_expired_key_is_refused() {
    for engine in engines() {
        let house = House::start(engine);
        let key =
            house.seed.key(house.key.user_id, &KeyDraft { expires: "2020-01-01", ..KeyDraft::default() });
        assert_eq!(house.chat_with(&key, &ask("echo")).refusal(), refusal(401, "key_expired"));
        assert!(house.charges(&key).is_empty());
    }
}

#[test]
fn a_key_works_from_its_addresses_alone() {
    for engine in engines() {
        let house = House::start(engine);
        let draft = KeyDraft { ip_allowlist: "203.0.113.0/24", ..KeyDraft::default() };
        let key = house.seed.key(house.key.user_id, &draft);
        let from = |address: &str| {
            let request = house.post(&key.secret, ask("echo").to_string()).header("x-forwarded-for", address);
            read(request.send().expect("answered"))
        };
        assert_eq!(from("203.0.113.9").status, 200);
        // What a caller writes left of the nearest proxy's word counts for nothing.
        for elsewhere in ["203.0.114.1", "203.0.113.9, 198.51.100.1"] {
            let answer = from(elsewhere);
            assert_eq!(answer.refusal(), refusal(403, "ip_not_allowed"));
            assert!(!answer.body.contains("203.0.113"), "{answer:?}");
        }
    }
}

#[test]
fn a_restricted_key_does_not_learn_which_other_models_exist() {
    for engine in engines() {
        let house = House::start(engine);
        let key = house.seed.key(house.key.user_id, &KeyDraft { models: "gpt-*", ..KeyDraft::default() });
        for model in ["echo", "no-such-model"] {
            let refused = house.chat_with(&key, &ask(model));
            assert_eq!(refused.refusal(), refusal(403, "model_not_allowed"), "{model}");
        }
        assert_eq!(house.chat_with(&key, &ask("gpt-9")).refusal(), refusal(404, "model_not_found"));
        for strange in ["no-such-model", "", "a\0b", "' OR 1=1", &"x".repeat(100_000)] {
            assert_eq!(house.chat(&ask(strange)).refusal(), refusal(404, "model_not_found"));
        }
    }
}

#[test]
fn spent_credits_are_a_quota_error_that_is_not_retried() {
    for engine in engines() {
        let house = House::start(engine);
        let draft = KeyDraft { credit_limit: Some("0.000001"), ..KeyDraft::default() };
        let limited = house.seed.key(house.key.user_id, &draft);
        let poor_user = house.seed.user("poor", "0.000005");
        let poor = house.seed.key(poor_user, &KeyDraft::default());
        for (key, code) in [(&limited, "key_limit_reached"), (&poor, "account_credits_exhausted")] {
            for body in [ask("echo"), ask_with("echo", json!({"max_tokens": null}))] {
                let answer = house.chat_with(key, &body);
                assert_eq!(answer.refusal(), refusal(429, code));
                assert_eq!(answer.header("x-should-retry"), Some("false"));
                assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
            }
            assert!(house.charges(key).is_empty());
        }
        house.is_sound();
    }
}

#[test]
fn a_model_without_upstreams_is_unavailable() {
    for engine in engines() {
        let house = House::start(engine);
        house.seed.model("orphan", Price::default(), 10, &[]);
        let answer = house.chat(&ask("orphan"));
        assert_eq!(answer.refusal(), refusal(503, "upstream_unavailable"));
        assert!(answer.header("retry-after").is_some());
    }
}

#[test]
fn bad_bodies_are_told_what_is_wrong_and_cost_nothing() {
    for engine in engines() {
        let house = House::start(engine);
        let send = |body: String| read(house.post(&house.key.secret, body).send().expect("answered"));
        for body in ["", "{", "[]", "\0", "{\"model\":\"echo\"", "not json", "{\"a\":1}}"] {
            assert_eq!(send(body.into()).refusal(), refusal(400, "malformed_body"), "{body}");
        }
        for (field, value) in [
            ("max_tokens", json!(-1)),
            ("max_completion_tokens", json!(1e308)),
            ("n", json!(1_000)),
            ("stream", json!("yes")),
            ("messages", json!("hi")),
            ("model", json!(["echo"])),
            ("stream_options", json!(5)),
        ] {
            let answer = send(ask_with("echo", json!({field: value})).to_string());
            assert_eq!(answer.refusal(), refusal(400, "invalid_value"), "{field}");
            assert_eq!(answer.json()["error"]["param"], field);
        }
        let double = r#"{"model":"echo","messages":[],"max_tokens":1,"max_tokens":1000}"#;
        assert_eq!(send(double.into()).refusal(), refusal(400, "invalid_value"));
        assert!(house.charges(&house.key).is_empty());
    }
}

#[test]
fn a_body_of_a_hundred_megabytes_is_too_large() {
    for engine in engines() {
        let house = House::start(engine);
        let declared = house.post(&house.key.secret, vec![b' '; 100 << 20]);
        let streamed = reqwest::blocking::Body::new(std::io::repeat(b' ').take(100 << 20));
        for request in [declared, house.post(&house.key.secret, streamed)] {
            // The server does not wait for the rest, so the caller may notice the broken pipe first.
            if let Ok(answer) = request.send() {
                assert_eq!(read(answer).refusal(), refusal(413, "body_too_large"));
            }
        }
        assert_eq!(house.chat(&ask("echo")).status, 200);
    }
}

#[test]
fn other_routes_and_methods_are_refused_in_the_same_shape() {
    for engine in engines() {
        let house = House::start(engine);
        for path in ["/v1", "/v1/", "/v1/nothing", "/v1/chat", "/v1/chat/completions/", "/v1//models"] {
            assert_eq!(
                house.get(&house.key.secret, path).refusal(),
                refusal(404, "route_not_found"),
                "{path}"
            );
        }
        let answer = house.get(&house.key.secret, "/v1/chat/completions");
        assert_eq!(answer.refusal(), refusal(405, "method_not_allowed"));
        assert_eq!(answer.header("allow"), Some("POST"));
        for path in ["/v1/models", "/v1/models/echo"] {
            let request = house.http.delete(format!("{}{path}", house.url));
            assert_eq!(read(request.send().expect("answered")).refusal(), refusal(405, "method_not_allowed"));
        }
    }
}
