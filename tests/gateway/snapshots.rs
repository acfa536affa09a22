//! What is remembered from one call to the next decides nothing by itself: whatever changes, the next call knows.

use crate::house::{House, PRICE, ask, ask_with};
use crate::support::engines;
use crate::support::upstream::{Act, Upstream, completion};
use keyhouse::clock::now_ms;
use keyhouse::domain::credits::Credits;
use keyhouse::domain::group;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::{Multiplier, Price};
use keyhouse::error::Error;
use keyhouse::store::audit::Actor;
use keyhouse::store::upstreams::{self, SecretEdit, Settings};
use keyhouse::store::{Connection, grants, groups, keys, models, prices, routes, users};
use serde_json::json;

fn good() -> Act {
    Act::json(200, completion("hi", &json!({"prompt_tokens": 5, "completion_tokens": 1})))
}

fn change(house: &House, work: impl FnOnce(&mut Connection, &Actor, i64) -> Result<(), Error>) {
    house.seed.store.with(|c| work(c, &Actor::cli(), now_ms())).expect("it is changed");
}

#[test]
fn an_upstream_that_is_changed_is_called_as_it_is_from_the_next_call_on() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, good());
        let id = house.seed.store.with(|c| Ok(upstreams::find_by_name(c, "fake")?.id)).expect("there");
        assert_eq!(house.chat(&ask("m")).status, 200);
        assert_eq!(house.chat(&ask("m")).status, 200);

        let sealed = house.seed.vault.seal_upstream(id, "sk-another").expect("sealed");
        change(&house, |c, actor, now| upstreams::set_secret(c, id, Some(&sealed), actor, now));
        assert_eq!(house.chat(&ask("m")).status, 200);
        assert_eq!(upstream.asked()[2].header("authorization"), Some("Bearer sk-another"));

        change(&house, |c, actor, now| upstreams::set_enabled(c, id, false, actor, now));
        assert_eq!(house.chat(&ask("m")).refusal(), (503, "upstream_unavailable".into()));
        change(&house, |c, actor, now| upstreams::set_enabled(c, id, true, actor, now));
        assert_eq!(house.chat(&ask("m")).status, 200);

        let elsewhere = Settings {
            name: "fake",
            base_url: &format!("{}/deeper", upstream.url),
            pace_ms: 0,
            allow_private: true,
        };
        change(&house, |c, actor, now| upstreams::edit(c, id, &elsewhere, SecretEdit::Keep, actor, now));
        assert_eq!(house.chat(&ask("m")).status, 200);
        assert!(upstream.asked().last().is_some_and(|asked| asked.path.contains("/deeper/")));

        let private = Settings { name: "fake", base_url: &upstream.url, pace_ms: 0, allow_private: false };
        change(&house, |c, actor, now| upstreams::edit(c, id, &private, SecretEdit::Keep, actor, now));
        let asked = upstream.asked().len();
        assert_eq!(house.chat(&ask("m")).refusal(), (503, "upstream_unavailable".into()));
        assert_eq!(upstream.asked().len(), asked, "an address that is no longer allowed is not contacted");
        house.is_sound();
    }
}

#[test]
fn who_was_refused_for_lack_of_credits_is_served_once_there_are_some() {
    for engine in engines() {
        let house = House::start(engine);
        let user_id = house.seed.user("poor", "0");
        let key = house.seed.key(user_id, &KeyDraft::default());
        for _ in 0..2 {
            let refused = (429, "account_credits_exhausted".into());
            assert_eq!(house.chat_with(&key, &ask("echo")).refusal(), refused);
        }
        let some = Credits::parse("1").expect("credits");
        change(&house, |c, actor, now| grants::grant(c, user_id, some, "", actor, now).map(|_| ()));
        assert_eq!(house.chat_with(&key, &ask("echo")).status, 200);
        let back = Credits::from_micros(
            -house.seed.store.with(|c| users::find(c, user_id)).expect("there").balance_micros,
        );
        change(&house, |c, actor, now| grants::grant(c, user_id, back, "", actor, now).map(|_| ()));
        assert_eq!(house.chat_with(&key, &ask("echo")).refusal(), (429, "account_credits_exhausted".into()));
        house.is_sound();
    }
}

#[test]
fn an_answer_is_cut_to_what_is_affordable_now_and_not_to_what_was() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, good());
        let user_id = house.seed.user("thrifty", "1");
        let key = house.seed.key(user_id, &KeyDraft::default());
        let unbounded = ask_with("m", json!({"max_tokens": null}));
        let imposed = |call: usize| upstream.asked()[call].json()["max_completion_tokens"].as_i64();
        assert_eq!(house.chat_with(&key, &unbounded).status, 200);
        assert_eq!(imposed(0), Some(1_000), "the model's maximum");
        // Leaves 600 micro-credits: less than the model's maximum costs, which the first call could afford.
        let balance = house.seed.store.with(|c| users::find(c, user_id)).expect("there").balance_micros;
        let taken = Credits::from_micros(600 - balance);
        change(&house, |c, actor, now| grants::grant(c, user_id, taken, "", actor, now).map(|_| ()));
        assert_eq!(house.chat_with(&key, &unbounded).status, 200);
        assert!(imposed(1).is_some_and(|tokens| (1..300).contains(&tokens)), "{:?}", imposed(1));
        house.is_sound();
    }
}

#[test]
fn every_price_is_the_one_of_the_moment_of_the_call() {
    for engine in engines() {
        let (house, _upstream) = House::with_upstream(engine, good());
        assert_eq!(house.chat(&ask("m")).header("x-keyhouse-credits"), Some("0.000007"));
        let id = house.seed.store.with(|c| Ok(models::find_by_name(c, "m")?.id)).expect("there");
        let dearer = Price { input_micros: 10_000_000, ..PRICE };
        change(&house, |c, actor, now| prices::set(c, id, &dearer, None, actor, now));
        assert_eq!(house.chat(&ask("m")).header("x-keyhouse-credits"), Some("0.000052"));
        let group = house.seed.store.with(|c| groups::find_by_name(c, group::DEFAULT)).expect("there");
        let double = Multiplier::parse("2").expect("a multiplier");
        change(&house, |c, actor, now| {
            groups::change(c, group.id, None, &[groups::Change::Multiplier(double)], actor, now)
        });
        assert_eq!(house.chat(&ask("m")).header("x-keyhouse-credits"), Some("0.000104"));
        house.is_sound();
    }
}

#[test]
fn a_key_and_its_owner_are_refused_on_the_next_call_and_admitted_on_the_one_after_they_return() {
    for engine in engines() {
        let house = House::start(engine);
        let key = &house.key;
        let status = || house.chat(&ask("echo")).status;
        for _ in 0..3 {
            assert_eq!(status(), 200);
            change(&house, |c, actor, now| keys::set_enabled(c, key.user_id, key.id, false, actor, now));
            assert_eq!(status(), 401);
            change(&house, |c, actor, now| keys::set_enabled(c, key.user_id, key.id, true, actor, now));
            assert_eq!(status(), 200);
            change(&house, |c, actor, now| users::set_enabled(c, key.user_id, false, actor, now));
            assert_eq!(status(), 401);
            change(&house, |c, actor, now| users::set_enabled(c, key.user_id, true, actor, now));
        }
        change(&house, |c, actor, now| keys::delete(c, key.user_id, key.id, actor, now));
        assert_eq!(house.chat(&ask("echo")).refusal(), (401, "invalid_api_key".into()));
        house.is_sound();
    }
}

#[test]
fn a_route_that_is_added_or_removed_counts_at_once() {
    for engine in engines() {
        let (house, first) = House::with_upstream(engine, good());
        assert_eq!(house.chat(&ask("m")).status, 200);
        let second = Upstream::start(good());
        let id = house.seed.openai("second", &second.url, "sk-second");
        let (model, fake) = house
            .seed
            .store
            .with(|c| Ok((models::find_by_name(c, "m")?, upstreams::find_by_name(c, "fake")?.id)))
            .expect("there");
        let route = routes::Settings { upstream_model: Some("theirs"), priority: Some(-1), weight: None };
        change(&house, |c, actor, now| routes::set(c, &model, id, &route, actor, now));
        assert_eq!(house.chat(&ask("m")).status, 200);
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
        change(&house, |c, actor, now| routes::remove(c, model.id, id, actor, now));
        change(&house, |c, actor, now| routes::remove(c, model.id, fake, actor, now));
        assert_eq!(house.chat(&ask("m")).refusal(), (503, "upstream_unavailable".into()));
    }
}

#[test]
fn a_model_that_is_deleted_is_not_found_from_the_next_call_on_and_a_new_one_of_its_name_is() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, good());
        assert_eq!(house.chat(&ask("m")).status, 200);
        let model = house.seed.store.with(|c| models::find_by_name(c, "m")).expect("there");
        change(&house, |c, actor, now| models::set_max_output(c, model.id, 77, actor, now));
        assert_eq!(house.chat(&ask_with("m", json!({"max_tokens": null}))).status, 200);
        assert_eq!(upstream.asked()[1].json()["max_completion_tokens"], 77);
        change(&house, |c, actor, now| models::delete(c, model.id, actor, now));
        for _ in 0..2 {
            assert_eq!(house.chat(&ask("m")).refusal(), (404, "model_not_found".into()));
        }
        let id = house.seed.store.with(|c| Ok(upstreams::find_by_name(c, "fake")?.id)).expect("there");
        house.seed.model("m", Price { input_micros: 10_000_000, ..PRICE }, 50, &[id]);
        assert_eq!(house.chat(&ask("m")).header("x-keyhouse-credits"), Some("0.000052"));
        house.is_sound();
    }
}
