//! `GET /v1/models`: what a key may use, and no more.

use crate::house::{House, PRICE, ask};
use crate::support::engines;
use keyhouse::domain::key::KeyDraft;

#[test]
fn a_key_lists_the_models_it_may_use() {
    for engine in engines() {
        let house = House::start(engine);
        for model in ["gpt-4o", "meta/llama-3:70b"] {
            house.seed.model(model, PRICE, 100, &[]);
        }
        let ids = |secret: &str| -> Vec<String> {
            let list = house.get(secret, "/v1/models").json();
            assert_eq!(list["object"], "list");
            let models = list["data"].as_array().expect("an array");
            assert!(models.iter().all(|model| model["object"] == "model" && model["created"].is_i64()));
            models.iter().map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!(ids(&house.key.secret), ["echo", "gpt-4o", "meta/llama-3:70b"]);
        let restricted = KeyDraft { models: "meta/*\nnone", ..KeyDraft::default() };
        let restricted = house.seed.key(house.key.user_id, &restricted);
        assert_eq!(ids(&restricted.secret), ["meta/llama-3:70b"]);

        let show = |secret: &str, id: &str| house.get(secret, &format!("/v1/models/{id}"));
        for id in ["meta/llama-3:70b", "meta%2Fllama-3:70b"] {
            assert_eq!(show(&restricted.secret, id).json()["id"], "meta/llama-3:70b", "{id}");
        }
        assert_eq!(show(&restricted.secret, "gpt-4o").refusal(), (403, "model_not_allowed".into()));
        assert_eq!(show(&restricted.secret, "nothing").refusal(), (403, "model_not_allowed".into()));
        assert_eq!(show(&house.key.secret, "nothing").refusal(), (404, "model_not_found".into()));
    }
}

#[test]
fn models_are_shown_to_keys_alone_exhausted_ones_too() {
    for engine in engines() {
        let house = House::start(engine);
        assert_eq!(house.get("sk-nothing", "/v1/models").refusal(), (401, "invalid_api_key".into()));
        let draft = KeyDraft { credit_limit: Some("0.000214"), ..KeyDraft::default() };
        let key = house.seed.key(house.key.user_id, &draft);
        while house.chat_with(&key, &ask("echo")).status == 200 {}
        assert_eq!(house.get(&key.secret, "/v1/models").status, 200);
    }
}
