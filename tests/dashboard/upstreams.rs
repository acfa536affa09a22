//! The admins' Upstreams page over HTTP: making, changing, testing, deleting, and how they fare.

use super::models::{admin, call, caller, seed};
use super::support::upstream::{Act, Upstream, completion};
use super::support::{House, Person, engines};
use keyhouse::clock::now_ms;
use keyhouse::domain::health::{HOUR_MS, hour_of};
use keyhouse::domain::price::Price;
use keyhouse::store::audit;
use keyhouse::store::upstream_hours::{self, UpstreamHour};
use keyhouse::store::upstreams;
use reqwest::StatusCode;
use serde_json::json;
use std::time::{Duration, Instant};

const SECRET: &str = "sk-upstream-secret-7";

fn make(admin: &Person, name: &str, url: &str) -> String {
    let form = [
        ("name", name),
        ("dialect", "openai"),
        ("base_url", url),
        ("allow_private", "on"),
        ("secret", SECRET),
    ];
    let made = admin.post("/upstreams/new", &form);
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{made:?}");
    made.location().to_owned()
}

#[test]
fn an_upstream_is_made_changed_and_deleted_and_its_secret_never_comes_out() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        assert!(admin.get("/upstreams").body.contains("No upstreams yet"));
        let good = [("name", "local"), ("dialect", "openai"), ("base_url", "https://api.example.com/v1")];
        for (field, value, error) in [
            ("name", "", "name"),
            ("name", "a b", "name"),
            ("dialect", "klingon", "dialect"),
            ("base_url", "", "base_url"),
            ("base_url", "ftp://x/", "base_url"),
            ("base_url", "http://127.0.0.1/v1", "base_url"),
            ("base_url", "https://u:p@example.com/", "base_url"),
            ("secret", "two words", "secret"),
        ] {
            let mut form = vec![(field, value)];
            form.extend(good.iter().filter(|(name, _)| *name != field));
            let answer = admin.post("/upstreams/new", &form);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field} {value}");
            assert!(
                answer.body.contains(&format!("id=\"{error}-error\"")),
                "{field} {value}: {}",
                answer.body
            );
        }
        let pace = admin.post("/upstreams/new", &[("name", "e"), ("dialect", "echo"), ("pace_ms", "-1")]);
        assert!(pace.body.contains("id=\"pace_ms-error\""), "{pace:?}");

        let url = make(&admin, "local", "http://127.0.0.1:9/v1");
        let id: i64 = url.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
        let opened = |house: &House| {
            let sealed = house.with(|c| upstreams::secret_ciphertext(c, id));
            sealed.map(|sealed| house.vault.open_upstream(id, &sealed).expect("opens"))
        };
        assert_eq!(opened(&house).as_deref(), Some(SECRET));
        let edit = format!("{url}/edit");
        for page in ["/upstreams", &url, &edit] {
            let body = admin.get(page).body;
            assert!(body.contains("stored") && !body.contains(SECRET), "{page}: {body}");
        }
        // A blank secret keeps what is stored; a refused form does not give a typed one back.
        let near = [("allow_private", "on"), ("base_url", "http://127.0.0.1:9/v2")];
        let kept = [("name", "renamed"), near[0], near[1], ("secret", "")];
        assert_eq!(admin.post(&edit, &kept).status, StatusCode::SEE_OTHER);
        assert_eq!(opened(&house).as_deref(), Some(SECRET));
        let again = "Type the secret again; it was not saved.";
        for (path, known) in [(edit.as_str(), near), ("/upstreams/new", [("dialect", "openai"), near[1]])] {
            let typed = admin.post(path, &[("name", ""), known[0], known[1], ("secret", "sk-typed")]);
            assert_eq!(typed.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(typed.body.contains(again) && !typed.body.contains("sk-typed"), "{path}: {}", typed.body);
            let blank = admin.post(path, &[("name", ""), known[0], known[1]]);
            assert!(blank.body.contains("id=\"name-error\"") && !blank.body.contains(again), "{path}");
        }
        let replaced = [("name", "renamed"), ("base_url", "https://a.example/v1"), ("secret", "sk-new")];
        assert_eq!(admin.post(&edit, &replaced).status, StatusCode::SEE_OTHER);
        assert_eq!(opened(&house).as_deref(), Some("sk-new"));
        let removed = [("name", "renamed"), ("base_url", "https://a.example/v1"), ("remove_secret", "on")];
        assert_eq!(admin.post(&edit, &removed).status, StatusCode::SEE_OTHER);
        assert_eq!(opened(&house), None);

        seed(&house).echo("taken", 0);
        let taken = admin.post(&edit, &[("name", "taken"), ("base_url", "https://a.example/v1")]);
        assert!(taken.body.contains("id=\"name-error\""), "{taken:?}");
        let model = seed(&house).model("m", Price::FREE, 10, &[id]);
        let used = admin.post(&format!("{url}/delete"), &[]);
        assert_eq!(used.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            used.body.contains(&format!("/models/{model}")) && used.body.contains("cannot be deleted yet")
        );
        assert_eq!(admin.post(&format!("/models/{model}/delete"), &[]).status, StatusCode::SEE_OTHER);
        assert_eq!(admin.post(&format!("{url}/delete"), &[]).status, StatusCode::SEE_OTHER);
        for path in ["", "/edit", "/delete"] {
            assert_eq!(admin.get(&format!("{url}{path}")).status, StatusCode::NOT_FOUND, "{path}");
        }
        let acts = house.audit();
        for act in ["create", "edit", "set_secret", "unset_secret", "delete"] {
            assert!(acts.contains(&format!("root upstream.{act}")), "{act}: {acts:?}");
        }
    }
}

#[test]
fn a_stored_secret_never_follows_an_upstream_to_another_address() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let url = make(&admin, "local", "http://127.0.0.1:9/v1");
        let id: i64 = url.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
        let edit = format!("{url}/edit");
        for elsewhere in ["https://127.0.0.1:9/v1", "http://127.0.0.2:9/v1", "http://127.0.0.1:8/v1"] {
            let form = [("name", "moved"), ("base_url", elsewhere), ("allow_private", "on")];
            let refused = admin.post(&edit, &form);
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{elsewhere}");
            assert!(refused.body.contains("The address leads elsewhere now"), "{}", refused.body);
            let stored = house.with(|c| upstreams::find(c, id));
            assert_eq!((stored.name.as_str(), stored.base_url.as_str()), ("local", "http://127.0.0.1:9/v1"));
        }
        let taken = [("name", "taken"), ("base_url", "https://a.example/v1"), ("secret", "sk-new")];
        seed(&house).echo("taken", 0);
        assert_eq!(admin.post(&edit, &taken).status, StatusCode::UNPROCESSABLE_ENTITY);
        let sealed = house.with(|c| upstreams::secret_ciphertext(c, id)).expect("it stays");
        assert_eq!(house.vault.open_upstream(id, &sealed).expect("opens"), SECRET);

        let before = house.with(|c| audit::newest(c, 1))[0].id;
        let moved = [("name", "moved"), ("base_url", "https://a.example/v1"), ("secret", "sk-new")];
        assert_eq!(admin.post(&edit, &moved).status, StatusCode::SEE_OTHER);
        let removed = [("name", "moved"), ("base_url", "https://b.example/v1"), ("remove_secret", "on")];
        assert_eq!(admin.post(&edit, &removed).status, StatusCode::SEE_OTHER);
        let bare = [("name", "moved"), ("base_url", "https://c.example/v1")];
        assert_eq!(admin.post(&edit, &bare).status, StatusCode::SEE_OTHER);
        assert_eq!(admin.post(&format!("{url}/delete"), &[]).status, StatusCode::SEE_OTHER);
        let events = house.with(|c| audit::newest(c, 10));
        let written: Vec<(String, String)> = events
            .into_iter()
            .rev()
            .filter(|event| event.id > before)
            .map(|event| (event.action, event.subject))
            .collect();
        let wanted = [
            ("edit", " local → moved, http://127.0.0.1:9/v1 → https://a.example/v1"),
            ("set_secret", ""),
            ("edit", " https://a.example/v1 → https://b.example/v1"),
            ("unset_secret", ""),
            ("edit", " https://b.example/v1 → https://c.example/v1"),
            ("delete", " moved"),
        ];
        let wanted = wanted.map(|(act, what)| (format!("upstream.{act}"), format!("upstream {id}{what}")));
        assert_eq!(written, wanted);
    }
}

#[test]
fn a_test_really_calls_and_shows_what_came_back() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let upstream =
            Upstream::start(Act::json(200, json!({"data": [{"id": "one"}, {"id": "two"}]}).to_string()));
        let url = make(&admin, "local", &upstream.url);
        let test = || admin.post(&format!("{url}/test"), &[]);
        let works = test();
        assert!(
            works.body.contains("“local” works") && works.body.contains("It offers 2 models: one, two"),
            "{works:?}"
        );
        let asked = upstream.asked();
        assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/v1/models"));
        assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
        upstream
            .set(Act::json(401, json!({"error": {"message": format!("bad key {SECRET} <b>")}}).to_string()));
        let refused = test();
        assert!(
            refused.body.contains("does not work") && refused.body.contains("refuses its secret"),
            "{refused:?}"
        );
        assert!(!refused.body.contains(SECRET) && !refused.body.contains("<b>"));
        upstream.set(Act::Leave);
        assert!(test().body.contains("no answer"));
        assert_eq!(house.audit()[0], "root upstream.test");
        assert_eq!(admin.post("/upstreams/424242/test", &[]).status, StatusCode::NOT_FOUND);
    }
}

#[test]
fn out_of_rotation_no_call_goes_there() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let echo = seed(&house).echo("echo", 0);
        seed(&house).model("parrot", Price::FREE, 10, &[echo]);
        let switch = |enabled| admin.post(&format!("/upstreams/{echo}/enabled"), &[("enabled", enabled)]);
        assert_eq!(switch("false").status, StatusCode::SEE_OTHER);
        assert_eq!(call(&house, &key, "parrot").0, 503);
        assert!(admin.get("/upstreams").body.contains("Out of rotation"));
        assert!(admin.get("/models").body.contains("Out of rotation"));
        assert_eq!(switch("true").status, StatusCode::SEE_OTHER);
        assert_eq!(call(&house, &key, "parrot").0, 200);
        assert!(admin.get("/upstreams").body.contains("Healthy"));
    }
}

#[test]
fn how_an_upstream_fares_is_shown_at_once_and_kept() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 1});
        let upstream = Upstream::start(Act::json(200, completion("hi", &usage)));
        let id = seed(&house).openai("local", &upstream.url, SECRET);
        seed(&house).model("m", Price::FREE, 10, &[id]);
        let url = format!("/upstreams/{id}");
        assert!(admin.get(&url).body.contains("Not called yet"));
        assert_eq!(call(&house, &key, "m").0, 200);
        upstream.set(Act::json(500, "{}"));
        for _ in 0..5 {
            assert_eq!(call(&house, &key, "m").0, 503);
        }
        let page = admin.get(&url).body;
        assert!(page.contains("Left alone") && page.contains("5 server error"), "{page}");
        assert!(page.contains("aria-label=\"The last 24 hours: 1 answered, 5 failed (83.3 %)"), "{page}");

        // Stored after a while, added to what another server stored, and shown once all the same.
        let hour_ms = hour_of(now_ms());
        let stored = || house.with(|c| upstream_hours::since(c, hour_ms - HOUR_MS));
        let begun = Instant::now();
        while stored().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(40), "it was never stored");
            std::thread::sleep(Duration::from_millis(100));
        }
        let hours = stored();
        let sum = |hours: &[UpstreamHour]| {
            let tallies = hours.iter().map(|hour| (hour.tally.answered, hour.tally.bad_status));
            tallies.fold((0, 0), |sum, tally| (sum.0 + tally.0, sum.1 + tally.1))
        };
        assert_eq!(sum(&hours), (1, 5));
        assert!(admin.get(&url).body.contains("1 answered, 5 failed"));
        house.with(|c| upstream_hours::add(c, &hours[0]));
        assert_eq!(stored().len(), hours.len(), "it adds to the hour");
        assert!(sum(&stored()) > (1, 5));
        let old = UpstreamHour { hour_ms: hour_ms - 100 * 24 * HOUR_MS, ..hours[0] };
        house.with(|c| upstream_hours::add(c, &old));
        assert_eq!(house.with(|c| upstream_hours::sweep(c, hour_ms - 90 * 24 * HOUR_MS)), 1);
    }
}
