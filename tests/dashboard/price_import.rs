//! Importing a price list over HTTP: bring, look, apply; and what is not what it seems.

use super::models::{admin, call, caller, seed};
use super::support::{Answer, House, Person, engines, send};
use keyhouse::domain::price::Price;
use keyhouse::store::{models, routes};
use reqwest::StatusCode;
use serde_json::json;

/// In the format of the real one.
const LIST: &str = include_str!("../support/prices.json");

fn bring(person: &Person, text: &str) -> Answer {
    send_form(
        person,
        &format!(
            "Content-Disposition: form-data; name=\"file\"; filename=\"p.json\"\r\nContent-Type: application/json\r\n\r\n{text}"
        ),
    )
}

fn send_form(person: &Person, part: &str) -> Answer {
    let body = format!("--b0undary\r\n{part}\r\n--b0undary--\r\n");
    let request = person.http.post(person.url("/models/import")).body(body);
    send(request.header("content-type", "multipart/form-data; boundary=b0undary"))
}

/// The hidden field by which a plan is recognised.
fn seen(body: &str) -> String {
    let part = body.split("name=\"seen\" value=\"").nth(1).expect("a plan");
    part.split('"').next().expect("a value").to_owned()
}

/// What a browser would send for the ticks of the page.
fn ticks(body: &str) -> Vec<String> {
    let boxes = body.split("name=\"tick\" value=\"").skip(1);
    let ticked = boxes.filter(|part| part.split('>').next().is_some_and(|tag| tag.contains("checked")));
    ticked.filter_map(|part| part.split('"').next().map(str::to_owned)).collect()
}

fn apply(person: &Person, upstream: &str, provider: &str, seen: &str, ticks: &[String]) -> Answer {
    let mut form =
        vec![("upstream", upstream), ("provider", provider), ("mode", ""), ("rate", "2"), ("seen", seen)];
    form.extend(ticks.iter().map(|tick| ("tick", tick.as_str())));
    person.post("/models/import/preview", &form)
}

fn preview_url(upstream: &str, provider: &str) -> String {
    format!("/models/import/preview?upstream={upstream}&provider={provider}&mode=&rate=2")
}

#[test]
fn a_list_becomes_models_and_prices_in_one_go() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let echo = seed(&house).echo("echo", 0);
        let other = seed(&house).echo("other", 0);
        let upstream = echo.to_string();
        let old = Price { input_micros: 1, output_micros: 1, ..Price::FREE };
        seed(&house).model("acme-large", old, 7, &[echo]);
        seed(&house).model("acme/mini", old, 7, &[other]);
        let same = Price { input_micros: 40_000, output_micros: 0, ..Price::FREE };
        seed(&house).model("acme-embed", same, 7, &[echo]);

        assert_eq!(admin.get("/models/import/preview").location(), "/models/import");
        let brought = bring(&admin, LIST);
        assert_eq!((brought.status, brought.location()), (StatusCode::SEE_OTHER, "/models/import/preview"));
        assert!(admin.get("/models/import").body.contains("go on with it"));
        let filters = admin.get("/models/import/preview").body;
        assert!(
            filters.contains("acme (8)") && filters.contains("zeta (1)") && !filters.contains("sample_spec"),
            "{filters}"
        );

        let preview = admin.get(&preview_url(&upstream, "acme"));
        assert_eq!(preview.status, StatusCode::OK);
        for part in [
            "3 new, 2 price changes, 1 unchanged, 2 skipped",
            "no route for video_generation",
            "It would cost nothing",
            "Other upstreams serve it",
            "input_cost_per_token_batches",
        ] {
            assert!(preview.body.contains(part), "{part}: {}", preview.body);
        }
        // Ticked are acme-large, acme-paint and acme-small: not the free one, nor the one served elsewhere.
        let ticks = ticks(&preview.body);
        assert_eq!(ticks.len(), 3, "{ticks:?}");
        let applied = apply(&admin, &upstream, "acme", &seen(&preview.body), &ticks);
        assert_eq!((applied.status, applied.location()), (StatusCode::SEE_OTHER, "/models"), "{applied:?}");
        assert!(admin.get("/models").body.contains("Made 2 models, set 1 price"));

        let offer = |name: &str| house.with(|c| models::find_offer(c, name));
        let small = offer("acme-small");
        // 1.5e-07 and 6E-7 dollars a token, at two credits a dollar.
        assert_eq!((small.price.input_micros, small.price.output_micros), (300_000, 1_200_000));
        assert_eq!((small.price.cached_input_micros, small.model.max_output_tokens), (Some(150_000), 16_384));
        assert_eq!(offer("acme-paint").price.per_image_micros, 80_000);
        let large = offer("acme-large");
        assert_eq!(
            (large.price.version, large.price.input_micros, large.model.max_output_tokens),
            (2, 5_000_000, 7)
        );
        assert_eq!(offer("acme/mini").price.version, 1);
        assert_eq!(call(&house, &key, "acme-small").0, 200);
        let names = house.with(|c| routes::names_of(c, &[small.model.id]));
        assert_eq!((names[0].upstream.as_str(), names[0].upstream_model.as_str()), ("echo", "acme-small"));
        let again = admin.get(&preview_url(&upstream, "acme")).body;
        assert!(again.contains("1 new, 1 price change, 4 unchanged"), "{again}");
    }
}

#[test]
fn what_is_applied_is_what_was_seen() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let echo = seed(&house).echo("echo", 0);
        let upstream = echo.to_string();
        bring(&admin, LIST);
        let preview = admin.get(&preview_url(&upstream, "acme")).body;
        let (fingerprint, ticks) = (seen(&preview), ticks(&preview));
        for forged in ["", "x", &"0".repeat(32)] {
            let answer = apply(&admin, &upstream, "acme", forged, &ticks);
            assert_eq!(answer.status, StatusCode::CONFLICT, "{forged}");
        }
        // Another choice than the one that was seen.
        assert_eq!(apply(&admin, &upstream, "zeta", &fingerprint, &ticks).status, StatusCode::CONFLICT);
        // Somebody makes one of the models meanwhile.
        seed(&house).model("acme-small", Price::FREE, 7, &[echo]);
        let conflict = apply(&admin, &upstream, "acme", &fingerprint, &ticks);
        assert_eq!(conflict.status, StatusCode::CONFLICT);
        assert!(
            conflict.body.contains("nothing was done") && conflict.body.contains("price change"),
            "{conflict:?}"
        );
        assert_eq!(house.with(models::list).len(), 1);
        let nothing = apply(&admin, &upstream, "acme", &seen(&conflict.body), &[]);
        assert_eq!(nothing.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(nothing.body.contains("Nothing is ticked"));
        let nonsense = ["-1", "99999", "x", "18446744073709551616"].map(str::to_owned);
        assert_eq!(
            apply(&admin, &upstream, "acme", &seen(&conflict.body), &nonsense).status,
            StatusCode::UNPROCESSABLE_ENTITY
        );

        // A list belongs to who brought it.
        house.add_user("second", true);
        let second = house.anon();
        second.sign_in("second", super::support::PASSWORD);
        assert_eq!(second.get("/models/import/preview").location(), "/models/import");
        assert_eq!(
            apply(&second, &upstream, "acme", &seen(&conflict.body), &ticks).location(),
            "/models/import"
        );
    }
}

#[test]
fn what_is_no_list_is_refused_and_says_why() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        for (text, said) in [
            ("", "Choose a file"),
            ("not JSON", "line 1, column"),
            ("[1, 2]", "a JSON object is expected"),
            ("{}", "names no model"),
            ("{\"sample_spec\": {}}", "names no model"),
            ("\u{0}\u{fffd}", "line 1"),
        ] {
            let answer = bring(&admin, text);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
            assert!(
                answer.body.contains(said) && answer.body.contains("list-error"),
                "{text}: {}",
                answer.body
            );
        }
        let pasted = send_form(&admin, "Content-Disposition: form-data; name=\"text\"\r\n\r\n{broken");
        assert!(pasted.body.contains("{broken</textarea>"), "{pasted:?}");
        let good = send_form(&admin, &format!("Content-Disposition: form-data; name=\"text\"\r\n\r\n{LIST}"));
        assert_eq!(good.status, StatusCode::SEE_OTHER);
        for (kind, body) in [
            ("application/x-www-form-urlencoded", "text={}"),
            ("multipart/form-data", "x"),
            ("multipart/form-data; boundary=b", "--b\r\nhalf"),
        ] {
            let request =
                admin.http.post(admin.url("/models/import")).body(body).header("content-type", kind);
            assert_eq!(send(request).status, StatusCode::UNPROCESSABLE_ENTITY, "{kind}");
        }
        let echo = seed(&house).echo("echo", 0);
        for query in [
            format!("upstream={echo}&rate=0"),
            format!("upstream={echo}&rate=1e3"),
            format!("upstream={echo}&rate=-1"),
        ] {
            let answer = admin.get(&format!("/models/import/preview?{query}"));
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
            assert!(answer.body.contains("rate-error"), "{query}");
        }
        let nobody = admin.get("/models/import/preview?upstream=77&rate=1");
        assert!(nobody.body.contains("upstream-error"), "{nobody:?}");
    }
}

#[test]
fn a_list_of_megabytes_is_taken_and_one_beyond_the_bound_is_not() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let echo = seed(&house).echo("echo", 0);
        let model = json!({
            "litellm_provider": "big", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "source": "x".repeat(1_000),
        });
        let many: serde_json::Map<_, _> =
            (0..4_000).map(|n| (format!("big-{n:04}"), model.clone())).collect();
        let text = serde_json::Value::Object(many).to_string();
        assert!(text.len() > 4_000_000);
        assert_eq!(bring(&admin, &text).status, StatusCode::SEE_OTHER);
        let all = admin.get(&preview_url(&echo.to_string(), ""));
        assert_eq!(all.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(all.body.contains("These are 4000 models"), "{}", all.body);
        let beyond = bring(&admin, &" ".repeat(17 << 20));
        assert_eq!(beyond.status, StatusCode::PAYLOAD_TOO_LARGE);
        // Other forms keep their bound.
        let other = admin.post("/models/new", &[("name", &"x".repeat(300_000))]);
        assert_eq!(other.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
