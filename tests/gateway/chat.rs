//! What a call costs, to the micro-credit.

use crate::house::{House, PRICE, ask, ask_with};
use crate::support::engines;
use crate::support::upstream::{Act, completion, completion_events};
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use serde_json::{Value, json};

fn tokens(usage: &Value) -> (i64, i64) {
    let count = |name: &str| usage[name].as_i64().expect("a count");
    (count("prompt_tokens"), count("completion_tokens"))
}

#[test]
fn a_call_costs_exactly_its_price() {
    for engine in engines() {
        let house = House::start(engine);
        let answer = house.chat(&ask("echo"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        assert!(body["choices"][0]["message"]["content"].as_str().expect("text").contains("Hello, house!"));
        let (input, output) = tokens(&body["usage"]);
        let cost_micros = input + 2 * output;
        assert_eq!(house.used_micros(), cost_micros);
        assert_eq!(answer.header("x-keyhouse-credits"), Some(format!("0.{cost_micros:06}").as_str()));
        let charge = house.charge();
        assert_eq!(answer.header("x-request-id"), Some(charge.id.to_string().as_str()));
        assert_eq!((charge.state.as_str(), charge.settled_micros), ("settled", cost_micros));
        assert_eq!(
            (charge.outcome.as_deref(), charge.usage_source.as_deref()),
            (Some("complete"), Some("upstream"))
        );
        assert_eq!((charge.input_tokens, charge.output_tokens), (Some(input), Some(output)));
        assert_eq!((charge.status, charge.model.as_str()), (Some(200), "echo"));
        house.is_sound();
    }
}

#[test]
fn a_stream_costs_what_its_json_would() {
    for engine in engines() {
        let house = House::start(engine);
        let usage = house.chat(&ask("echo")).json()["usage"].clone();
        let before = house.used_micros();
        let answer = house.chat(&ask_with("echo", json!({"stream": true})));
        // No waiting: whoever has the whole stream has been charged.
        assert_eq!(house.used_micros(), 2 * before);
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
        let (input, output) = tokens(&usage);
        assert_eq!(before, input + 2 * output);
        house.is_sound();
    }
}

#[test]
fn every_answer_of_n_is_charged() {
    for engine in engines() {
        let house = House::start(engine);
        let answer = house.chat(&ask_with("echo", json!({"n": 3, "max_tokens": 4}))).json();
        assert_eq!(answer["choices"].as_array().map(Vec::len), Some(3));
        assert_eq!(answer["choices"][2]["finish_reason"], "length");
        assert_eq!(tokens(&answer["usage"]).1, 12);
        assert_eq!(house.used_micros(), tokens(&answer["usage"]).0 + 24);
    }
}

#[test]
fn cached_input_and_the_groups_multiplier_count() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}});
        let (house, _upstream) = House::with_upstream(engine, Act::json(200, completion("hi", &usage)));
        house.seed.group("dear", "1.5");
        let key = house.seed.key_in_group(house.key.user_id, "dear", &KeyDraft::default());
        // (6 × 1 + 4 × 0.5 + 5 × 2) × 1.5
        assert_eq!(house.chat_with(&key, &ask("m")).header("x-keyhouse-credits"), Some("0.000027"));
        assert_eq!(house.key_row(&key).credits_used_micros, 27);
        house.is_sound();
    }
}

#[test]
fn a_price_per_request_is_charged_once() {
    for engine in engines() {
        let house = House::start(engine);
        let echo = house.seed.echo("echo-2", 0);
        let price = Price { per_request_micros: 250, ..Price::default() };
        house.seed.model("flat", price, 100, &[echo]);
        house.chat(&ask_with("flat", json!({"n": 2})));
        assert_eq!(house.used_micros(), 250);
    }
}

#[test]
fn an_explicit_zero_costs_zero() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 0, "completion_tokens": 0});
        let (house, _upstream) = House::with_upstream(engine, Act::json(200, completion("free", &usage)));
        assert_eq!(house.chat(&ask("m")).header("x-keyhouse-credits"), Some("0.000000"));
        let charge = house.charge();
        assert_eq!((charge.state.as_str(), charge.settled_micros), ("settled", 0));
        assert_eq!(charge.usage_source.as_deref(), Some("upstream"));
    }
}

#[test]
fn missing_and_absurd_usage_is_estimated_and_marked() {
    for engine in engines() {
        for usage in [
            json!(null),
            json!({"prompt_tokens": -5, "completion_tokens": 1}),
            json!({"prompt_tokens": 1, "completion_tokens": 1e18}),
        ] {
            let (house, upstream) =
                House::with_upstream(engine, Act::json(200, completion("12345678", &usage)));
            let body = ask("m").to_string();
            let answer = house.chat(&ask("m"));
            assert_eq!(answer.status, 200);
            let charge = house.charge();
            let input = i64::try_from(body.len().div_ceil(4)).expect("small");
            assert_eq!((charge.input_tokens, charge.output_tokens), (Some(input), Some(2)), "{usage}");
            assert_eq!(charge.usage_source.as_deref(), Some("estimated"));
            assert_eq!(house.used_micros(), input + 4);
            upstream.set(Act::events(completion_events(&["1234", "5678"], Some(usage))));
            house.chat(&ask_with("m", json!({"stream": true})));
            assert_eq!(house.charges(&house.key)[0].usage_source.as_deref(), Some("estimated"));
            house.is_sound();
        }
    }
}

#[test]
fn no_call_costs_more_than_was_held() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 900_000, "completion_tokens": 900_000});
        let (house, _upstream) = House::with_upstream(engine, Act::json(200, completion("hi", &usage)));
        house.chat(&ask("m"));
        let charge = house.charge();
        let body_bytes = i64::try_from(ask("m").to_string().len()).expect("small");
        assert_eq!((charge.held_micros, charge.settled_micros), (body_bytes + 100, body_bytes + 100));
        house.is_sound();
    }
}

#[test]
fn a_key_with_credit_for_one_call_passes_exactly_one_of_sixteen() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 500, "completion_tokens": 50});
        let (house, upstream) = House::with_upstream(engine, Act::json(200, completion("hi", &usage)));
        // Held: the body's bytes and 50 output tokens at 2; the upstream reports more, so all of it is charged.
        let held_micros = ask("m").to_string().len() + 100;
        let limit = format!("0.{held_micros:06}");
        let key = house
            .seed
            .key(house.key.user_id, &KeyDraft { credit_limit: Some(&limit), ..KeyDraft::default() });
        let outcomes: Vec<(u16, Option<String>)> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        let answer = house.chat_with(&key, &ask("m"));
                        (answer.status, answer.json()["error"]["code"].as_str().map(str::to_owned))
                    })
                })
                .collect();
            calls.into_iter().map(|call| call.join().expect("no panic")).collect()
        });
        let passed = outcomes.iter().filter(|(status, _)| *status == 200).count();
        let refused = outcomes
            .iter()
            .filter(|(status, code)| *status == 429 && code.as_deref() == Some("key_limit_reached"));
        assert_eq!((passed, refused.count(), upstream.asked().len()), (1, 15, 1), "{outcomes:?}");
        assert_eq!(house.key_row(&key).credits_used_micros, i64::try_from(held_micros).expect("small"));
        house.is_sound();
    }
}

#[test]
fn without_a_bound_the_upstream_is_given_what_was_held_for() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 1});
        let (house, upstream) = House::with_upstream(engine, Act::json(200, completion("hi", &usage)));
        let body = ask_with("m", json!({"max_tokens": null}));
        let bytes = i64::try_from(body.to_string().len()).expect("small");
        assert_eq!(house.chat(&body).status, 200);
        assert_eq!(upstream.asked()[0].json()["max_completion_tokens"], 1_000);
        assert_eq!(house.charge().held_micros, bytes + 2_000);
        // Ten tokens more than the input is all that this key can pay for.
        let limit = format!("0.{:06}", bytes + 21);
        let poor = house
            .seed
            .key(house.key.user_id, &KeyDraft { credit_limit: Some(&limit), ..KeyDraft::default() });
        assert_eq!(house.chat_with(&poor, &body).status, 200);
        let sent = upstream.asked()[1].json();
        assert_eq!((&sent["max_completion_tokens"], sent.get("max_tokens")), (&json!(10), None));
    }
}

#[test]
fn an_exact_count_lets_through_what_bytes_would_refuse() {
    for engine in engines() {
        let house = House::start(engine);
        let long = "extraordinarily ".repeat(200);
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": long}], "max_tokens": 5});
        // 201 tokens and 3 for the message, 5 output tokens at 2: less than a tenth of the bytes.
        let key = |limit| {
            house.seed.key(house.key.user_id, &KeyDraft { credit_limit: Some(limit), ..KeyDraft::default() })
        };
        assert_eq!(house.chat_with(&key("0.000214"), &body).status, 200);
        let refused = house.chat_with(&key("0.000213"), &body);
        assert_eq!(refused.refusal(), (429, "key_limit_reached".into()));
    }
}

#[test]
fn unknown_fields_pass_and_the_callers_headers_do_not() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 1});
        let (house, upstream) = House::with_upstream(engine, Act::json(200, completion("hi", &usage)));
        let body =
            ask_with("m", json!({"tools": [{"type": "function"}], "seed": 7, "x_new": {"a": [1, 2.50]}}));
        let request = house.post(&house.key.secret, body.to_string());
        let request = request.header("openai-organization", "evil").header("host", "evil.example");
        assert_eq!(request.send().expect("answered").status(), 200);
        let asked = &upstream.asked()[0];
        let mut expected = body;
        expected["model"] = json!("theirs");
        assert_eq!(asked.json(), expected);
        assert_eq!(asked.path, "/v1/chat/completions");
        assert_eq!(asked.header("authorization"), Some("Bearer sk-upstream-secret"));
        assert_eq!(asked.header("openai-organization"), None);
        assert!(upstream.url.contains(asked.header("host").expect("a host")));
        assert!(asked.header("user-agent").expect("named").starts_with("keyhouse/"));
    }
}

#[test]
fn the_second_header_for_keys_works_too() {
    for engine in engines() {
        let house = House::start(engine);
        let url = format!("{}/v1/chat/completions", house.url);
        let request =
            house.http.post(url).header("x-api-key", &house.key.secret).body(ask("echo").to_string());
        assert_eq!(request.send().expect("answered").status(), 200);
        assert!(house.used_micros() > PRICE.per_request_micros);
    }
}
