//! What belongs to one person does not exist for another: every address that one is led to, with every id in it, is
//! tried by others.

use super::support::crawl::{self, Verb};
use super::support::seed::Seed;
use super::support::{House, PASSWORD, Person, engines, send};
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use keyhouse::store::{keys, users};
use reqwest::StatusCode;
use std::collections::BTreeMap;

type Addresses = BTreeMap<(Verb, String), String>;

/// Somebody with a key that has been used, credits, and two sessions.
fn settle_in(house: &House, name: &str) -> Person {
    let seed = Seed { store: house.store.clone(), vault: house.vault.clone() };
    let person = house.user(name);
    let second = house.anon();
    assert_eq!(second.sign_in(name, PASSWORD).status, StatusCode::SEE_OTHER);
    let id = house.with(|connection| Ok(users::find_by_name(connection, name)?.id));
    seed.grant(id, "10");
    let key = seed.key(id, &KeyDraft::default());
    let called = person
        .http
        .post(person.url("/v1/chat/completions"))
        .bearer_auth(&key.secret)
        .header("content-type", "application/json")
        .body(r#"{"model":"echo","messages":[{"role":"user","content":"hello"}],"max_tokens":5}"#);
    assert_eq!(send(called).status, StatusCode::OK);
    person
}

fn furnished(engine: super::support::Engine) -> House {
    let house = House::start(engine);
    let seed = Seed { store: house.store.clone(), vault: house.vault.clone() };
    let echo = seed.echo("echo", 0);
    seed.model(
        "echo",
        Price { input_micros: 1_000_000, output_micros: 1_000_000, ..Price::FREE },
        100,
        &[echo],
    );
    seed.group("premium", "2");
    house
}

fn try_it(person: &Person, verb: Verb, path: &str) -> (StatusCode, String) {
    let answer = match verb {
        Verb::Get => person.get(path),
        Verb::Post => person.post(path, &[("enabled", "false"), ("revision", "1")]),
    };
    (answer.status, answer.body)
}

fn with_ids(addresses: &Addresses) -> Vec<(Verb, &String)> {
    let with_ids = addresses.iter().filter(|((_, kind), _)| kind.contains("{}"));
    with_ids.map(|((verb, _), path)| (*verb, path)).collect()
}

#[test]
fn nothing_that_one_person_has_can_be_reached_by_another() {
    for engine in engines() {
        let house = furnished(engine);
        let (ada, eve) = (settle_in(&house, "ada"), settle_in(&house, "eve"));
        let hers = crawl::addresses(&ada);
        let reachable = with_ids(&hers);
        // Keys, charges and sessions at the least, or the crawl has lost its way.
        for part in ["/keys/", "/usage/", "/account/sessions/"] {
            assert!(reachable.iter().any(|(_, path)| path.starts_with(part)), "{part}: {hers:#?}");
        }
        let audit = house.audit();
        for (verb, path) in &reachable {
            let (status, body) = try_it(&eve, *verb, path);
            // A filter by somebody else's id is an empty page; an object of somebody else's is none.
            assert_eq!(status, StatusCode::NOT_FOUND, "{verb:?} {path}: {body}");
            let (of_nobody, nothing) = try_it(&eve, *verb, &path.replace(|c: char| c.is_ascii_digit(), "9"));
            assert_eq!((of_nobody, words(&nothing)), (status, words(&body)), "{path} tells that it exists");
        }
        assert_eq!(house.audit(), audit, "nothing was done");
        assert!(ada.is_signed_in());
        let name = "ada";
        let left = house.with(|connection| {
            let id = users::find_by_name(connection, name)?.id;
            keyhouse::store::key_list::by_id(connection, Some(id), 0, 10)
        });
        assert!(left.len() == 1 && left[0].0.enabled, "her key is as it was");
        assert!(house.with(|connection| keys::owner(connection, left[0].0.id)) == left[0].0.user_id);
    }
}

#[test]
fn what_only_admins_have_does_not_exist_for_others() {
    for engine in engines() {
        let house = furnished(engine);
        let eve = settle_in(&house, "eve");
        house.add_user("root", true);
        let root = house.anon();
        assert_eq!(root.sign_in("root", PASSWORD).status, StatusCode::SEE_OTHER);
        let (everybodys, admins) = (crawl::addresses(&eve), crawl::addresses(&root));
        let admins_alone: Vec<_> = admins.iter().filter(|(kind, _)| !everybodys.contains_key(kind)).collect();
        for part in ["/users", "/groups", "/models", "/upstreams", "/overview", "/audit", "/all-keys"] {
            assert!(admins_alone.iter().any(|((_, kind), _)| kind == part), "{part}: {admins:#?}");
        }
        assert!(admins_alone.iter().filter(|((verb, _), _)| *verb == Verb::Post).count() > 10, "{admins:#?}");
        let audit = house.audit();
        for ((verb, _), path) in &admins_alone {
            let (status, body) = try_it(&eve, *verb, path);
            assert_eq!(status, StatusCode::NOT_FOUND, "{verb:?} {path}: {body}");
            let stranger = house.anon();
            let (status, _) = try_it(&stranger, *verb, path);
            assert_eq!(status, StatusCode::SEE_OTHER, "{verb:?} {path} without a session");
        }
        assert_eq!(house.audit(), audit, "nothing was done");
    }
}

/// Every address to which admins alone post, with some id, as the app lists them.
fn posts_of_admins() -> Vec<String> {
    let (_, routes) = include_str!("../../src/app.rs").split_once("fn people_routes").expect("their routes");
    let posts = routes.split(".route(\"").skip(1).filter(|route| route.contains("web::post()"));
    let paths = posts.filter_map(|route| Some(route.split_once('"')?.0));
    paths.map(|path| path.replace("{upstream_id}", "1").replace("{id}", "1")).collect()
}

#[test]
fn whatever_is_posted_an_address_of_admins_looks_to_others_like_none() {
    for engine in engines() {
        let house = furnished(engine);
        let (eve, stranger) = (house.user("eve"), house.anon());
        let form = "application/x-www-form-urlencoded";
        let twice = "name=a&name=b&amount=1&amount=2&act=a&act=b";
        let paths = posts_of_admins();
        assert!(paths.len() > 20, "{paths:?}");
        for (content_type, body) in [("text/plain", ""), (form, ""), (form, twice), (form, "%ff=%ff")] {
            let post = |person: &Person, path: &str| {
                let request = person.http.post(person.url(path)).header("content-type", content_type);
                send(request.body(body))
            };
            let missing = post(&eve, "/nowhere");
            for path in &paths {
                let answer = post(&eve, path);
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path} {content_type} {body}");
                assert_eq!(words(&answer.body), words(&missing.body), "{path} {content_type} {body}");
                let status = post(&stranger, path).status;
                assert_eq!(status, StatusCode::SEE_OTHER, "{path} {content_type} {body}");
            }
        }
    }
}

#[test]
fn an_admin_sees_every_key_and_reveals_none() {
    for engine in engines() {
        let house = furnished(engine);
        let _ada = settle_in(&house, "ada");
        house.add_user("root", true);
        let root = house.anon();
        assert_eq!(root.sign_in("root", PASSWORD).status, StatusCode::SEE_OTHER);
        let key =
            house.with(|connection| keyhouse::store::key_list::by_id(connection, None, 0, 10)).remove(0).0;
        assert!(root.get("/all-keys").body.contains(&key.last4));
        for deed in ["reveal", "copy"] {
            for part in ["keys", "all-keys"] {
                let answer = root.post(&format!("/{part}/{}/{deed}", key.id), &[]);
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{part} {deed}");
            }
        }
    }
}

/// The page without what differs from request to request.
fn words(html: &str) -> String {
    html.chars().filter(|c| !c.is_ascii_digit()).collect()
}
