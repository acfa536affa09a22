//! Completions, embeddings, moderations and rankings: what is sent on, what they cost.

use crate::house::{House, PRICE};
use crate::support::engines;
use crate::support::upstream::Act;
use keyhouse::domain::price::Price;
use serde_json::json;

#[test]
fn a_completion_costs_all_of_its_candidates() {
    for engine in engines() {
        let house = House::start(engine);
        let body =
            json!({"model": "echo", "prompt": ["Hello", "house"], "max_tokens": 5, "n": 2, "best_of": 3});
        let answer = house.call("/completions", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["choices"].as_array().map(Vec::len), Some(4));
        let charge = house.charge();
        assert_eq!((charge.input_tokens, charge.output_tokens), (Some(2), Some(2 * 3 * 5)));
        assert_eq!(house.used_micros(), 2 + 2 * 30);
        assert!(charge.held_micros >= charge.settled_micros);
        house.is_sound();
    }
}

#[test]
fn a_completion_streams_and_hides_usage_that_nobody_asked_for() {
    for engine in engines() {
        let house = House::start(engine);
        let answer = house.call("/completions", &json!({"model": "echo", "prompt": "hi", "stream": true}));
        assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
        assert!(!answer.body.contains("prompt_tokens"));
        // OpenAI's default of 16 tokens, whatever the model could give.
        assert_eq!(house.charge().output_tokens, Some(16));
        house.is_sound();
    }
}

#[test]
fn an_unbounded_completion_is_bounded_as_openai_would() {
    for engine in engines() {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 4});
        let done =
            json!({"id": "cmpl-1", "choices": [{"text": "a", "finish_reason": "stop"}], "usage": usage});
        let (house, upstream) = House::with_upstream(engine, Act::json(200, done.to_string()));
        assert_eq!(house.call("/completions", &json!({"model": "m", "prompt": "hi"})).status, 200);
        let asked = &upstream.asked()[0];
        assert_eq!((asked.path.as_str(), &asked.json()["max_tokens"]), ("/v1/completions", &json!(16)));
        assert_eq!(house.used_micros(), 3 + 2 * 4);
    }
}

#[test]
fn embeddings_cost_their_input() {
    for engine in engines() {
        let house = House::start(engine);
        let body = json!({"model": "echo", "input": ["Hello, house!", "again"]});
        let answer = house.call("/embeddings", &body);
        let vector: Vec<f64> =
            serde_json::from_value(answer.json()["data"][0]["embedding"].clone()).expect("numbers");
        assert!((vector.iter().map(|number| number * number).sum::<f64>() - 1.0).abs() < 1e-5);
        assert_eq!(house.used_micros(), 4 + 1);
        assert_eq!(house.charge().usage_source.as_deref(), Some("upstream"));
        for input in [json!(7), json!(null), json!({"a": 1})] {
            let answer = house.call("/embeddings", &json!({"model": "echo", "input": input}));
            assert_eq!(answer.refusal(), (400, "invalid_value".into()));
            assert_eq!(answer.json()["error"]["param"], "input");
        }
        assert_eq!(house.call("/embeddings", &json!({"model": "echo", "input": [1, 2, 3]})).status, 200);
        assert_eq!(house.used_micros(), 5 + 3);
        house.is_sound();
    }
}

#[test]
fn moderations_have_a_default_model_and_their_input_is_estimated() {
    for engine in engines() {
        let house = House::start(engine);
        let echo = house.seed.echo("second", 0);
        house.seed.model("omni-moderation-latest", PRICE, 10, &[echo]);
        let body = json!({"input": "I am very cross."});
        let answer = house.call("/moderations", &body);
        assert_eq!(answer.json()["results"][0]["flagged"], false, "{answer:?}");
        let charge = house.charge();
        assert_eq!(
            (charge.model.as_str(), charge.usage_source.as_deref()),
            ("omni-moderation-latest", Some("estimated"))
        );
        let estimate = i64::try_from(body.to_string().len().div_ceil(4)).expect("small");
        assert_eq!(house.used_micros(), estimate);
        house.is_sound();
    }
}

#[test]
fn a_ranking_is_counted_as_its_provider_says() {
    for engine in engines() {
        let price = Price { input_micros: 1_000_000, per_request_micros: 50, ..Price::FREE };
        let (house, upstream) = House::with_priced(engine, price, Act::Hang);
        let body = json!({"model": "m", "query": "who?", "documents": ["me", {"text": "you"}], "top_n": 1});
        for (usage, micros) in [
            (json!({"usage": {"total_tokens": 31}}), 81),
            (json!({"meta": {"billed_units": {"input_tokens": 7}}}), 57),
            (json!({"usage": {"prompt_tokens": 5, "total_tokens": 5}}), 55),
        ] {
            let mut answer = json!({"results": [{"index": 0, "relevance_score": 0.9}]});
            answer.as_object_mut().expect("an object").extend(usage.as_object().expect("an object").clone());
            upstream.set(Act::json(200, answer.to_string()));
            let before = house.used_micros();
            assert_eq!(house.call("/rerank", &body).json()["results"][0]["index"], 0);
            assert_eq!(house.used_micros() - before, micros, "{usage}");
        }
        assert_eq!(upstream.asked()[0].json()["top_n"], 1);
        assert_eq!(upstream.asked()[0].path, "/v1/rerank");
        let refused = house.call("/rerank", &json!({"model": "echo", "query": "a", "documents": ["b"]}));
        assert_eq!(refused.refusal(), (400, "invalid_value".into()));
        assert_eq!(refused.json()["error"]["param"], "model");
        house.is_sound();
    }
}
