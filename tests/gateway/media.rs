//! Images and sound: priced by what is made or heard, and by tokens where the upstream says so.

use crate::house::House;
use crate::support::engines;
use crate::support::upstream::Act;
use keyhouse::domain::price::Price;
use serde_json::json;
use std::time::Duration;

#[test]
fn an_image_costs_its_price_and_its_tokens() {
    for engine in engines() {
        let price = Price { per_image_micros: 40_000, ..Price::FREE };
        let made = json!({"created": 1, "data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}]});
        let (house, upstream) = House::with_priced(engine, price, Act::json(200, made.to_string()));
        let body = json!({"model": "m", "prompt": "a house", "n": 2, "size": "1024x1024"});
        let answer = house.call("/images/generations", &body);
        assert_eq!((answer.json(), answer.header("x-keyhouse-credits")), (made, Some("0.080000")));
        assert_eq!(
            (upstream.asked()[0].path.as_str(), &upstream.asked()[0].json()["size"]),
            ("/v1/images/generations", &json!("1024x1024"))
        );
        let charge = house.charge();
        assert_eq!((charge.images, charge.usage_source.as_deref()), (Some(2), Some("upstream")));
        assert_eq!((charge.held_micros, charge.output_tokens), (80_000, Some(0)));

        let by_token = Price { input_micros: 1_000_000, output_micros: 2_000_000, ..Price::FREE };
        let id = house.seed.openai("again", &upstream.url, "sk-x");
        house.seed.model("tokens", by_token, 6_240, &[id]);
        let usage =
            json!({"input_tokens": 5, "output_tokens": 272, "input_tokens_details": {"text_tokens": 5}});
        upstream.set(Act::json(200, json!({"data": [{}], "usage": usage}).to_string()));
        house.call("/images/generations", &json!({"model": "tokens", "prompt": "a house"}));
        assert_eq!(house.used_micros(), 80_000 + 5 + 2 * 272);
        for n in [json!(0), json!(11), json!("2")] {
            let answer = house.call("/images/generations", &json!({"model": "m", "prompt": "a", "n": n}));
            assert_eq!(answer.json()["error"]["param"], "n");
        }
        let echo = house.call("/images/generations", &json!({"model": "echo", "prompt": "a"}));
        assert_eq!(echo.json()["error"]["param"], "model");
        house.is_sound();
    }
}

#[test]
fn partial_images_stream_and_the_last_one_waits_for_its_charge() {
    for engine in engines() {
        let price = Price { per_image_micros: 7, ..Price::FREE };
        let events = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\
            \"b64_json\":\"AAAA\"}\n\nevent: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\
            \"b64_json\":\"BBBB\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}\n\n";
        let (house, upstream) = House::with_priced(engine, price, Act::events(events));
        let body = json!({"model": "m", "prompt": "a", "stream": true, "partial_images": 1});
        assert_eq!(house.call("/images/generations", &body).body, events);
        assert_eq!(house.used_micros(), 7);
        let bytes = events.as_bytes().to_vec();
        let cut_at = Some(events.find("event: image_generation.completed").expect("there"));
        upstream.set(Act::Events { bytes, piece_bytes: 40, pause: Duration::ZERO, cut_at });
        assert!(house.call("/images/generations", &body).body.contains("upstream_broke_off"));
        assert_eq!(house.used_micros(), 7);
        house.is_sound();
    }
}

#[test]
fn a_sound_that_is_words_is_none() {
    for engine in engines() {
        let price = Price { per_character_micros: 10, ..Price::FREE };
        for content_type in ["application/json", "text/html; charset=utf-8"] {
            let body = br#"{"error":{"message":"boom at 127.0.0.1"}}"#.to_vec();
            let (house, _upstream) = House::with_priced(engine, price, Act::Bytes { content_type, body });
            let answer = house.call("/audio/speech", &json!({"model": "m", "input": "hello", "voice": "v"}));
            assert_eq!(answer.refusal(), (503, "upstream_unavailable".into()));
            assert_eq!(house.used_micros(), 0);
        }
    }
}

#[test]
fn speech_costs_its_characters() {
    for engine in engines() {
        let price = Price { per_character_micros: 15_000_000, per_request_micros: 3, ..Price::FREE };
        let sound: Vec<u8> =
            (0..200_000u32).map(|number| u8::try_from(number % 251).expect("small")).collect();
        let act = Act::Bytes { content_type: "audio/mpeg", body: sound.clone() };
        let (house, upstream) = House::with_priced(engine, price, act);
        let body = json!({"model": "m", "voice": "alloy", "input": "Häuser 🏠"});
        let request =
            house.http.post(format!("{}/v1/audio/speech", house.url)).bearer_auth(&house.key.secret);
        let response = request.json(&body).send().expect("answered");
        assert_eq!(response.headers()["content-type"], "audio/mpeg");
        assert!(response.headers().contains_key("x-keyhouse-credits-remaining"));
        assert_eq!(response.bytes().expect("whole"), sound);
        // No waiting: whoever has the whole sound has been charged.
        assert_eq!(house.used_micros(), 8 * 15 + 3);
        let charge = house.charge();
        assert_eq!((charge.characters, charge.usage_source.as_deref()), (Some(8), Some("upstream")));
        upstream.set(Act::Half { content_type: "audio/mpeg", body: "x".repeat(100_000) });
        let request =
            house.http.post(format!("{}/v1/audio/speech", house.url)).bearer_auth(&house.key.secret);
        let broken = request.json(&body).send().expect("begun");
        assert!(broken.bytes().is_err(), "half a sound must not look whole");
        assert_eq!(house.charges(&house.key)[0].outcome.as_deref(), Some("cut"));
        house.is_sound();
    }
}
