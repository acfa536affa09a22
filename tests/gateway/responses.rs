//! Responses: what they cost, and that one goes back to who made it and to nobody else.

use crate::house::{House, PRICE};
use crate::support::engines;
use crate::support::upstream::{Act, Upstream};
use keyhouse::clock::now_ms;
use keyhouse::domain::key::KeyDraft;
use keyhouse::store::responses;
use serde_json::{Value, json};
use std::time::Duration;

pub fn response(id: &str, status: &str) -> Value {
    json!({
        "id": id, "object": "response", "status": status, "error": null, "model": "theirs",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello!"}]}],
        "usage": {
            "input_tokens": 40, "input_tokens_details": {"cached_tokens": 10},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 49,
        },
    })
}

pub fn events(last: &str, response: &Value) -> String {
    let event =
        |payload: Value| format!("event: {}\ndata: {payload}\n\n", payload["type"].as_str().expect("a type"));
    let created = json!({"id": response["id"], "usage": null, "error": null, "output": []});
    [
        event(json!({"type": "response.created", "response": created})),
        event(json!({"type": "response.output_text.delta", "delta": "12345678"})),
        event(json!({"type": "response.output_text.done", "text": "12345678"})),
        event(json!({"type": last, "response": response})),
    ]
    .concat()
}

pub fn ask(fields: Value) -> Value {
    let mut body =
        json!({"model": "m", "input": "Hello there, house of many keys!", "max_output_tokens": 50});
    let Value::Object(fields) = fields else { panic!("an object") };
    body.as_object_mut().expect("an object").extend(fields);
    body
}

#[test]
fn a_response_costs_what_its_usage_says_whole_or_in_events() {
    for engine in engines() {
        let done = response("resp_1", "completed");
        let (house, upstream) = House::with_upstream(engine, Act::json(200, done.to_string()));
        assert_eq!(house.call("/responses", &ask(json!({"x": [1.0e2]}))).json(), done);
        assert_eq!(upstream.asked()[0].path, "/v1/responses");
        let charge = house.charge();
        assert_eq!((charge.input_tokens, charge.cached_input_tokens), (Some(40), Some(10)));
        assert_eq!((charge.output_tokens, charge.reasoning_tokens), (Some(9), Some(4)));
        assert_eq!(house.used_micros(), 30 + 5 + 18);
        let sent = events("response.completed", &done);
        for piece_bytes in [1, 9, 10_000] {
            let bytes = sent.clone().into_bytes();
            upstream.set(Act::Events { bytes, piece_bytes, pause: Duration::ZERO, cut_at: None });
            assert_eq!(house.call("/responses", &ask(json!({"stream": true}))).body, sent);
        }
        upstream.set(Act::events(events("response.incomplete", &done)));
        assert!(house.call("/responses", &ask(json!({"stream": true}))).body.contains("response.incomplete"));
        assert_eq!(house.used_micros(), 5 * 53);
        assert!(!upstream.asked()[1].body.contains("stream_options"));
        house.is_sound();
    }
}

#[test]
fn an_unbounded_response_is_bounded() {
    for engine in engines() {
        let (house, upstream) =
            House::with_upstream(engine, Act::json(200, response("resp_1", "completed").to_string()));
        assert_eq!(
            house
                .call("/responses", &json!({"model": "m", "input": [{"role": "user", "content": "hi"}]}))
                .status,
            200
        );
        assert_eq!(upstream.asked()[0].json()["max_output_tokens"], 1_000);
    }
}

#[test]
fn a_failed_response_ends_as_one_and_says_nothing_of_the_upstream() {
    for engine in engines() {
        let mut failed = response("resp_1", "failed");
        failed["usage"] = Value::Null;
        failed["error"] = json!({"code": "server_error", "message": "at 10.0.0.7: sk-upstream-secret"});
        let (house, upstream) = House::with_upstream(engine, Act::events(events("response.failed", &failed)));
        let answer = house.call("/responses", &ask(json!({"stream": true})));
        assert!(answer.body.contains("event: response.failed") && answer.body.contains("server_error"));
        assert!(!answer.body.contains("10.0.0.7") && !answer.body.contains("sk-upstream-secret"));
        // What was produced before is charged, as far as anybody knows.
        assert_eq!((house.charge().outcome.as_deref(), house.charge().output_tokens), (Some("cut"), Some(2)));
        let sent = events("response.completed", &response("resp_1", "completed"));
        let cut_at = Some(sent.find("event: response.completed").expect("there"));
        let bytes = sent.into_bytes();
        upstream.set(Act::Events { bytes, piece_bytes: 99, pause: Duration::ZERO, cut_at });
        let answer = house.call("/responses", &ask(json!({"stream": true})));
        let last: Value =
            serde_json::from_str(answer.body.trim_end().rsplit_once("data: ").expect("events").1)
                .expect("JSON");
        assert_eq!((&last["type"], &last["error"]["code"]), (&json!("error"), &json!("upstream_broke_off")));
        house.is_sound();
    }
}

#[test]
fn what_cannot_be_bounded_is_refused_before_anybody_is_asked() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, Act::Hang);
        for (field, value) in [
            ("background", json!(true)),
            ("conversation", json!({"id": "conv_1"})),
            ("prompt", json!({"id": "pmpt_1"})),
            ("input", json!([{"type": "item_reference", "id": "msg_1"}])),
        ] {
            let answer = house.call("/responses", &ask(json!({field: value})));
            assert_eq!(answer.refusal(), (400, "invalid_value".into()), "{field}");
            assert_eq!(answer.json()["error"]["param"], field);
        }
        let unknown = house.call("/responses", &ask(json!({"previous_response_id": "resp_nobody"})));
        assert_eq!(unknown.refusal(), (400, "previous_response_not_found".into()));
        assert!(upstream.asked().is_empty() && house.charges(&house.key).is_empty());
    }
}

#[test]
fn a_response_goes_back_to_who_made_it_and_to_no_other_account() {
    for engine in engines() {
        let (house, first) =
            House::with_upstream(engine, Act::json(200, response("resp_1", "completed").to_string()));
        let second = Upstream::start(Act::Hang);
        let (fake, other) = (
            house.seed.openai("a", &first.url, "sk-upstream-secret"),
            house.seed.openai("b", &second.url, "sk-b"),
        );
        house.seed.model("two", PRICE, 100, &[fake, other]);
        assert_eq!(house.call("/responses", &ask(json!({"model": "two"}))).status, 200);
        let before = house.used_micros();

        let sibling = house.seed.key(house.key.user_id, &KeyDraft::default());
        first.set(Act::json(200, r#"{"id":"resp_1","object":"response","error":null}"#));
        assert_eq!(
            house.get(&sibling.secret, "/v1/responses/resp_1?include[]=a&secret=b").json()["id"],
            "resp_1"
        );
        let asked = first.asked().pop().expect("asked");
        assert_eq!(
            (asked.method.as_str(), asked.path.as_str()),
            ("GET", "/v1/responses/resp_1?include%5B%5D=a")
        );
        assert_eq!(asked.header("authorization"), Some("Bearer sk-upstream-secret"));
        house.get(&sibling.secret, "/v1/responses/resp_1/input_items?limit=5");
        assert_eq!(first.asked().pop().expect("asked").path, "/v1/responses/resp_1/input_items?limit=5");
        assert_eq!(house.call("/responses/resp_1/cancel", &json!({})).status, 200);
        let asked = first.asked().pop().expect("asked");
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/responses/resp_1/cancel"));

        let bob = house.seed.user("bob", "10");
        let stranger = house.seed.key(bob, &KeyDraft::default());
        let count = first.asked().len();
        for id in ["resp_1", "resp_2", "..%2Fmodels", "a%20b", &"x".repeat(200)] {
            let answer = house.get(&stranger.secret, &format!("/v1/responses/{id}"));
            assert_eq!(answer.refusal(), (404, "response_not_found".into()), "{id}");
        }
        let continued = ask(json!({"model": "two", "previous_response_id": "resp_1"}));
        assert_eq!(
            house.call_with(&stranger, "/responses", &continued).refusal(),
            (400, "previous_response_not_found".into())
        );
        let restricted =
            house.seed.key(house.key.user_id, &KeyDraft { models: "echo", ..KeyDraft::default() });
        assert_eq!(
            house.get(&restricted.secret, "/v1/responses/resp_1").refusal(),
            (403, "model_not_allowed".into())
        );
        assert_eq!((first.asked().len(), second.asked().len(), house.used_micros()), (count, 0, before));

        let url = format!("{}/v1/responses/resp_1", house.url);
        let gone = house.http.delete(&url).bearer_auth(&house.key.secret).send().expect("answered");
        assert_eq!(
            (gone.status().as_u16(), first.asked().pop().expect("asked").method.as_str()),
            (200, "DELETE")
        );
        assert_eq!(
            house.get(&house.key.secret, "/v1/responses/resp_1").refusal(),
            (404, "response_not_found".into())
        );
        house.is_sound();
    }
}

#[test]
fn whoever_continues_a_response_pays_for_its_context() {
    for engine in engines() {
        let (house, upstream) =
            House::with_upstream(engine, Act::json(200, response("resp_1", "completed").to_string()));
        house.call("/responses", &ask(json!({})));
        let plain = house.charge().held_micros;
        let continued = ask(json!({"previous_response_id": "resp_1"}));
        let longer =
            i64::try_from(continued.to_string().len() - ask(json!({})).to_string().len()).expect("small");
        upstream.set(Act::json(200, response("resp_2", "completed").to_string()));
        assert_eq!(house.call("/responses", &continued).status, 200);
        // The 49 tokens that the first came to are input of the second.
        assert_eq!(house.charges(&house.key)[0].held_micros, plain + longer + 49);
        assert_eq!(upstream.asked()[1].json()["previous_response_id"], "resp_1");
        upstream.set(Act::json(200, response("resp_3", "completed").to_string()));
        house.call("/responses", &ask(json!({"store": false})));
        assert_eq!(
            house.get(&house.key.secret, "/v1/responses/resp_3").refusal(),
            (404, "response_not_found".into())
        );
        // Of a stream one can ask again as soon as its last event is there.
        upstream.set(Act::events(events("response.completed", &response("resp_4", "completed"))));
        house.call("/responses", &ask(json!({"stream": true})));
        upstream.set(Act::json(200, r#"{"id":"resp_4"}"#));
        assert_eq!(house.get(&house.key.secret, "/v1/responses/resp_4").status, 200);
        house.is_sound();
    }
}

#[test]
fn old_responses_are_forgotten_in_batches() {
    for engine in engines() {
        let house = House::start(engine);
        let add = |id: &str, created_at_ms| {
            let new = responses::StoredResponse {
                user_id: house.key.user_id,
                response_id: id.into(),
                upstream_id: 1,
                model: "m".into(),
                tokens: 1,
                created_at_ms,
            };
            house.seed.store.with(|c| responses::create(c, &new)).expect("made");
        };
        (0..5).for_each(|number| add(&format!("old_{number}"), 1_000 + number));
        add("new", now_ms());
        let sweep = || house.seed.store.with(|c| responses::sweep(c, 500_000, 3)).expect("swept");
        assert_eq!([sweep(), sweep(), sweep()], [3, 2, 0]);
        let id = keyhouse::domain::response::ResponseId::parse("new").expect("an id");
        let kept = house.seed.store.with(|c| responses::find(c, house.key.user_id, &id)).expect("looked");
        assert!(kept.is_some());
    }
}

#[test]
fn the_echo_speaks_it_too_and_keeps_nothing() {
    for engine in engines() {
        let house = House::start(engine);
        let body = ask(json!({"model": "echo"}));
        let whole = house.call("/responses", &body).json();
        let cost = house.used_micros();
        let usage = |name: &str| whole["usage"][name].as_i64().expect("a count");
        assert_eq!(cost, usage("input_tokens") + 2 * usage("output_tokens"));
        let stream = house.call("/responses", &ask(json!({"model": "echo", "stream": true})));
        assert!(
            stream.body.contains("event: response.completed") && house.used_micros() == 2 * cost,
            "{stream:?}"
        );
        let path = format!("/v1/responses/{}", whole["id"].as_str().expect("an id"));
        assert_eq!(house.get(&house.key.secret, &path).status, 404);
    }
}
