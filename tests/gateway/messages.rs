//! Anthropic's dialect: its headers, events, errors and counts.

use crate::house::{Answer, House, PRICE, ask, eventually, read};
use crate::support::engines;
use crate::support::upstream::Act;
use keyhouse::domain::models::ModelName;
use keyhouse::store::audit::Actor;
use keyhouse::store::models;
use serde_json::{Value, json};
use std::io::Read;
use std::time::Duration;

pub fn say(model: &str, fields: Value) -> Value {
    let mut body =
        json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello, house!"}]});
    let Value::Object(fields) = fields else { panic!("an object") };
    body.as_object_mut().expect("an object").extend(fields);
    body
}

fn message(usage: &Value) -> String {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "theirs", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Hello!"}], "usage": usage,
    })
    .to_string()
}

fn event(payload: &Value) -> String {
    format!("event: {}\ndata: {payload}\n\n", payload["type"].as_str().expect("a type"))
}

/// As Anthropic sends it: most of the usage first, the output at the end.
pub fn events(texts: &[&str]) -> String {
    let usage = json!({
        "input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 1,
    });
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": usage}});
    let block =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let mut events = [event(&start), event(&block), event(&json!({"type": "ping"}))].concat();
    for text in texts {
        let delta = json!({"type": "text_delta", "text": text});
        events += &event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    }
    events += &event(&json!({"type": "content_block_stop", "index": 0}));
    let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
    events += &event(&json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}}));
    events += &event(&json!({"type": "message_stop"}));
    events
}

/// The last event's payload.
fn last(answer: &Answer) -> Value {
    let data = answer.body.trim_end().rsplit_once("data: ").expect("events").1;
    serde_json::from_str(data).expect("JSON")
}

fn refusal(answer: &Answer) -> (u16, String, String) {
    let body = answer.json();
    assert_eq!(body["type"], "error", "{answer:?}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
    let word = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (answer.status, word("type"), word("code"))
}

#[test]
fn a_message_is_sent_with_the_upstreams_secret_and_costs_each_token_once() {
    for engine in engines() {
        let usage = json!({
            "input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 7,
        });
        let (house, upstream) = House::with_anthropic(engine, Act::json(200, message(&usage)));
        let request = house.http.post(format!("{}/v1/messages", house.url));
        let request = request.header("x-api-key", &house.key.secret).header("anthropic-beta", "a-2025,b");
        let body = say("claude", json!({"system": "x".repeat(200), "metadata": {"user_id": "u"}}));
        let answer = read(request.json(&body).send().expect("answered"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["content"][0]["text"], "Hello!");
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
        // 3 + 20 at the full price, 100 at half, 7 × 2.
        assert_eq!(house.used_micros(), 23 + 50 + 14);
        assert_eq!(answer.header("x-keyhouse-credits"), Some("0.000087"));
        let charge = house.charge();
        assert_eq!((charge.input_tokens, charge.cached_input_tokens), (Some(123), Some(100)));
        assert_eq!((charge.cache_write_tokens, charge.output_tokens), (Some(20), Some(7)));
        let asked = &upstream.asked()[0];
        assert_eq!(
            (asked.path.as_str(), asked.header("x-api-key")),
            ("/v1/messages", Some("sk-ant-upstream"))
        );
        assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
        assert_eq!((asked.header("anthropic-beta"), asked.header("authorization")), (Some("a-2025,b"), None));
        assert_eq!(
            (&asked.json()["model"], &asked.json()["metadata"]),
            (&json!("theirs"), &json!({"user_id": "u"}))
        );
        house.is_sound();
    }
}

#[test]
fn its_events_pass_as_they_are_split_anywhere() {
    for engine in engines() {
        let sent = events(&["Hé", "llo"]).replace('\n', "\r\n");
        let (house, upstream) = House::with_anthropic(engine, Act::Hang);
        for piece_bytes in [1, 7, 10_000] {
            let bytes = sent.clone().into_bytes();
            upstream.set(Act::Events { bytes, piece_bytes, pause: Duration::ZERO, cut_at: None });
            let answer =
                house.call("/messages", &say("claude", json!({"stream": true, "system": "x".repeat(200)})));
            assert_eq!(answer.body, sent);
        }
        assert_eq!(house.used_micros(), 3 * (23 + 50 + 30));
        house.is_sound();
    }
}

#[test]
fn a_stream_that_dies_ends_with_its_kind_of_error_event() {
    for engine in engines() {
        let sent = events(&["12345678", "12345678"]);
        let cut_at = sent.find("content_block_stop").expect("there");
        let (house, upstream) = House::with_anthropic(engine, Act::Hang);
        let bytes = sent.clone().into_bytes();
        upstream.set(Act::Events { bytes, piece_bytes: 60, pause: Duration::ZERO, cut_at: Some(cut_at) });
        let body = say("claude", json!({"stream": true, "system": "x".repeat(200)}));
        let answer = house.call("/messages", &body);
        assert!(
            answer.body.contains("event: error\n") && !answer.body.contains("message_stop"),
            "{answer:?}"
        );
        assert_eq!(
            (&last(&answer)["type"], &last(&answer)["error"]["type"]),
            (&json!("error"), &json!("api_error"))
        );
        let charge = house.charge();
        assert_eq!(
            (charge.outcome.as_deref(), charge.usage_source.as_deref()),
            (Some("cut"), Some("estimated"))
        );
        // What the upstream said of the input stands; the output is what came of it.
        assert_eq!((charge.input_tokens, charge.output_tokens), (Some(123), Some(4)));
        house.is_sound();
    }
}

#[test]
fn a_caller_who_hangs_up_pays_for_what_was_produced_and_the_upstream_is_left() {
    for engine in engines() {
        let (house, upstream) = House::with_anthropic(engine, Act::Hang);
        let bytes = events(&["12345678"; 1_000]).into_bytes();
        upstream.set(Act::Events { bytes, piece_bytes: 200, pause: Duration::from_millis(5), cut_at: None });
        let request = house.http.post(format!("{}/v1/messages", house.url)).bearer_auth(&house.key.secret);
        let body = say("claude", json!({"stream": true, "system": "x".repeat(200)}));
        let mut response = request.json(&body).send().expect("answered");
        response.read_exact(&mut [0; 2_000]).expect("some events");
        drop(response);
        let charge = house.charge();
        assert_eq!((charge.outcome.as_deref(), charge.input_tokens), (Some("hung_up"), Some(123)));
        let output = charge.output_tokens.expect("counted");
        assert!((4..=50).contains(&output), "{charge:?}");
        assert_eq!(house.used_micros(), 23 + 50 + 2 * output);
        eventually("the upstream is left", || (upstream.left_alone() == 1).then_some(()));
        house.is_sound();
    }
}

#[test]
fn an_upstream_overloaded_before_it_wrote_anything_costs_nothing() {
    for engine in engines() {
        let overloaded =
            event(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
        let (start, _) = events(&[])
            .split_once("event: content")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("there");
        let (house, _upstream) = House::with_anthropic(engine, Act::events([start, overloaded].concat()));
        let answer = house.call("/messages", &say("claude", json!({"stream": true})));
        assert_eq!(last(&answer)["error"]["code"], "upstream_broke_off");
        assert_eq!((house.charge().state.as_str(), house.used_micros()), ("released", 0));
    }
}

#[test]
fn refusals_have_anthropics_shape() {
    for engine in engines() {
        let (house, upstream) = House::with_anthropic(engine, Act::Hang);
        let url = format!("{}/v1/messages", house.url);
        let none = read(house.http.post(&url).json(&say("claude", json!({}))).send().expect("answered"));
        assert_eq!(refusal(&none), (401, "authentication_error".into(), "invalid_api_key".into()));
        let call = |body: &Value| refusal(&house.call("/messages", body));
        let invalid = (400, "invalid_request_error".to_owned(), "invalid_value".to_owned());
        assert_eq!(call(&json!({"model": "claude", "messages": []})), invalid);
        assert_eq!(
            call(&say("nothing", json!({}))),
            (404, "not_found_error".into(), "model_not_found".into())
        );
        let dear = say("claude", json!({"max_tokens": 900_000_000}));
        assert_eq!(call(&dear), (429, "rate_limit_error".into(), "account_credits_exhausted".into()));
        assert_eq!(house.call("/messages", &dear).header("x-should-retry"), Some("false"));
        let wrong_method =
            read(house.http.get(&url).bearer_auth(&house.key.secret).send().expect("answered"));
        assert_eq!(refusal(&wrong_method).0, 405);
        assert!(upstream.asked().is_empty());
        // The upstream's own words pass as they are.
        let own = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too many"}});
        upstream.set(Act::json(400, own.to_string()));
        assert_eq!(house.call("/messages", &say("claude", json!({}))).json(), own);
        assert_eq!(house.used_micros(), 0);
        house.is_sound();
    }
}

#[test]
fn a_model_is_called_on_the_routes_of_its_dialect_alone() {
    for engine in engines() {
        let (house, upstream) = House::with_anthropic(engine, Act::Hang);
        let wrong = house.chat(&ask("claude"));
        assert_eq!(wrong.refusal(), (400, "invalid_value".into()));
        assert_eq!(wrong.json()["error"]["param"], "model");
        assert!(wrong.body.contains("/v1/messages"), "{wrong:?}");
        let openai = house.seed.openai("other", &upstream.url, "sk-x");
        house.seed.model("gpt", PRICE, 100, &[openai]);
        let wrong = house.call("/messages", &say("gpt", json!({})));
        assert!(wrong.status == 400 && wrong.body.contains("/v1/chat/completions"), "{wrong:?}");
        assert!(upstream.asked().is_empty() && house.charges(&house.key).is_empty());

        let anthropic = house.seed.anthropic("third", &upstream.url, "sk-y");
        let routes = [(openai, "a".to_owned()), (anthropic, "b".to_owned())];
        let name = ModelName::parse("mixed").expect("a name");
        let new = models::NewModel { name: &name, max_output_tokens: 1, price: PRICE, routes: &routes };
        let made = house.seed.store.with(|c| models::create(c, &new, &Actor::cli(), 0));
        assert!(made.is_err_and(|error| error.to_string().contains("dialects")));
    }
}

#[test]
fn counting_tokens_is_free_for_who_may_use_the_model() {
    for engine in engines() {
        let (house, upstream) = House::with_anthropic(engine, Act::json(200, r#"{"input_tokens":14}"#));
        let body = json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(house.call("/messages/count_tokens", &body).json(), json!({"input_tokens": 14}));
        assert_eq!(upstream.asked()[0].path, "/v1/messages/count_tokens");
        let echo =
            house.call("/messages/count_tokens", &json!({"model": "echo", "messages": body["messages"]}));
        assert_eq!(echo.json()["input_tokens"], 4);
        assert!(house.charges(&house.key).is_empty());
        let draft = keyhouse::domain::key::KeyDraft { models: "other", ..Default::default() };
        let restricted = house.seed.key(house.key.user_id, &draft);
        let refused = house.call_with(&restricted, "/messages/count_tokens", &body);
        assert_eq!(refusal(&refused), (403, "permission_error".into(), "model_not_allowed".into()));
        assert_eq!(upstream.asked().len(), 1);
    }
}

#[test]
fn the_echo_speaks_it_too_and_uses_tools() {
    for engine in engines() {
        let house = House::start(engine);
        let whole = house.call("/messages", &say("echo", json!({}))).json();
        assert!(whole["content"][0]["text"].as_str().is_some_and(|text| text.contains("Hello, house!")));
        let cost = house.used_micros();
        let usage = |name: &str| whole["usage"][name].as_i64().expect("a count");
        assert_eq!(cost, usage("input_tokens") + 2 * usage("output_tokens"));
        let stream = house.call("/messages", &say("echo", json!({"stream": true})));
        assert_eq!((last(&stream)["type"].as_str(), house.used_micros()), (Some("message_stop"), 2 * cost));
        let tools = json!([{"name": "f", "input_schema": {"type": "object", "required": ["x"],
            "properties": {"x": {"type": "string"}}}}]);
        let fields = json!({"tools": tools, "tool_choice": {"type": "any"}});
        let used = house.call("/messages", &say("echo", fields)).json();
        assert_eq!(
            (&used["content"][0]["input"], &used["stop_reason"]),
            (&json!({"x": "echo"}), &json!("tool_use"))
        );
        house.is_sound();
    }
}

#[test]
fn models_are_listed_in_the_shape_of_who_asks() {
    for engine in engines() {
        let house = House::start(engine);
        let get = |path: &str| {
            let request =
                house.http.get(format!("{}{path}", house.url)).header("anthropic-version", "2023-06-01");
            read(request.header("x-api-key", &house.key.secret).send().expect("answered"))
        };
        let list = get("/v1/models").json();
        assert_eq!(
            (&list["data"][0]["type"], &list["first_id"], &list["has_more"]),
            (&json!("model"), &json!("echo"), &json!(false))
        );
        assert_eq!(get("/v1/models/echo").json()["display_name"], "echo");
        assert_eq!(
            refusal(&get("/v1/models/nothing")),
            (404, "not_found_error".into(), "model_not_found".into())
        );
    }
}
