//! The Account page: credits and their history, the nudge, and the sessions signed in now.

use super::second_factor::sql;
use super::support::browser::{DESKTOP, PHONE, browse};
use super::support::{House, PASSWORD, Person, engines, send};
use keyhouse::clock::now_ms;
use keyhouse::domain::credits::Credits;
use keyhouse::store::audit::Actor;
use keyhouse::store::{grants, sessions, users};
use reqwest::StatusCode;
use serde_json::json;

const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0";

fn grant(house: &House, name: &str, credits: &str, note: &str, by: &str) {
    let amount = Credits::parse_signed(credits).expect("credits");
    let actor = Actor { name: by.to_owned(), client_ip: None };
    house.with(|c| {
        let id = users::find_by_name(c, name)?.id;
        grants::grant(c, id, amount, note, &actor, now_ms())
    });
}

/// Signs in with a browser that says it is this.
fn sign_in_with(house: &House, name: &str, user_agent: &str) -> Person {
    let person = house.anon();
    let form = person.form("/sign-in", &[("name", name), ("password", PASSWORD)]);
    assert_eq!(send(form.header("user-agent", user_agent)).status, StatusCode::SEE_OTHER);
    person
}

fn rows(house: &House, name: &str) -> Vec<sessions::Session> {
    house.with(|c| {
        let id = users::find_by_name(c, name)?.id;
        sessions::list(c, id, 100, now_ms())
    })
}

/// The paths of the buttons that end a session, this one's first.
fn ends(page: &str) -> Vec<String> {
    let parts = page.split("<form method=\"post\" action=\"/account/sessions/").skip(1);
    let ids = parts.filter_map(|part| part.split_once("/end\"")).map(|(id, _)| id);
    ids.filter(|id| !id.contains('"')).map(|id| format!("/account/sessions/{id}/end")).collect()
}

#[test]
fn credits_are_shown_with_where_they_came_from_page_by_page() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        assert!(ada.get("/account").body.contains("Nobody has added credits"));
        for n in 1..=12 {
            grant(&house, "ada", "10", &format!("gift {n}."), "root");
        }
        grant(&house, "ada", "-20.5", "", "cli");
        house.user("bob");
        grant(&house, "bob", "7", "not for ada", "root");
        sql(&house, "UPDATE users SET held_micros = 1500000 WHERE name = 'ada'");

        let page = ada.get("/account").body;
        for (id, credits) in
            [("credits-available", "98"), ("credits-held", "1.5"), ("credits-balance", "99.5")]
        {
            assert!(page.contains(&format!("id=\"{id}\">{credits}<")), "{id}: {page}");
        }
        assert!(page.contains(">-20.5<") && page.contains("the command line"), "{page}");
        assert!(page.contains(">+10<") && page.contains("gift 12.") && page.contains("gift 4."), "{page}");
        assert!(!page.contains("gift 3.") && !page.contains("not for ada"), "{page}");
        let (_, rest) = page.split_once("id=\"older-grants\" class=\"btn\" href=\"").expect("older ones");
        let older = ada.get(rest.split('"').next().expect("a URL")).body;
        assert!(older.contains("gift 3.") && older.contains("gift 1."), "{older}");
        assert!(!older.contains("gift 4.") && !older.contains("id=\"older-grants\""), "{older}");
        let (_, rest) = older.split_once("id=\"newer-grants\" class=\"btn\" href=\"").expect("newer ones");
        let newer = ada.get(rest.split('"').next().expect("a URL")).body;
        assert!(newer.contains("gift 12.") && newer.contains("gift 4."), "{newer}");
        assert!(ada.get("/account?after=0").body.contains("There is nothing here."));
        assert!(ada.get("/account?after=x").status.is_client_error());
    }
}

#[test]
fn the_nudge_goes_when_it_is_dismissed() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        assert!(ada.get("/account").body.contains("id=\"nudge\""));
        assert_eq!(ada.post("/account/nudge", &[]).location(), "/account");
        assert!(!ada.get("/account").body.contains("id=\"nudge\""));
        assert!(ada.is_signed_in());
    }
}

#[test]
fn a_session_says_where_it_is_used_and_ends_on_its_next_request() {
    for engine in engines() {
        let house = House::start(engine);
        let here = house.user("ada");
        let elsewhere = sign_in_with(&house, "ada", FIREFOX);
        house.user("bob");
        let page = here.get("/account").body;
        assert!(page.contains("Firefox on Windows") && page.contains("127.0.0.1"), "{page}");
        let paths = ends(&page);
        assert_eq!(paths.len(), 2, "hers alone: {page}");
        assert!(elsewhere.is_signed_in());
        assert_eq!(here.post(&paths[1], &[]).location(), "/account");
        assert!(!elsewhere.is_signed_in());
        assert!(here.is_signed_in());
        assert!(house.audit().contains(&"ada session.end".to_owned()));
        assert_eq!(here.post(&paths[1], &[]).status, StatusCode::NOT_FOUND, "it has ended already");

        let ended = here.post(&paths[0], &[]);
        assert_eq!((ended.status, ended.location()), (StatusCode::SEE_OTHER, "/sign-in"));
        assert!(!here.is_signed_in());
        assert!(rows(&house, "ada").is_empty());
    }
}

#[test]
fn the_sessions_of_somebody_else_are_not_there() {
    for engine in engines() {
        let house = House::start(engine);
        let (ada, bob) = (house.user("ada"), house.user("bob"));
        let path = ends(&ada.get("/account").body).remove(0);
        assert_eq!(bob.post(&path, &[]).status, StatusCode::NOT_FOUND);
        assert_eq!(bob.post("/account/sessions/0/end", &[]).status, StatusCode::NOT_FOUND);
        assert!(ada.is_signed_in());
        assert_eq!(bob.post("/account/sessions/end-others", &[]).location(), "/account");
        assert!(ada.is_signed_in() && bob.is_signed_in());
    }
}

#[test]
fn all_other_sessions_end_at_once() {
    for engine in engines() {
        let house = House::start(engine);
        let here = house.user("ada");
        let others = [FIREFOX, "curl/8", ""].map(|user_agent| sign_in_with(&house, "ada", user_agent));
        let answer = send(here.form("/account/sessions/end-others", &[]).header("hx-request", "true"));
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.header("hx-trigger").contains("3 other sessions were ended."), "{answer:?}");
        assert_eq!(ends(&answer.body).len(), 1, "{}", answer.body);
        assert!(here.is_signed_in());
        assert!(others.iter().all(|other| !other.is_signed_in()));
    }
}

#[test]
fn when_a_session_was_last_seen_is_written_down_every_few_minutes() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        let seen = || rows(&house, "ada")[0].last_seen_at_ms;
        let minutes_ago = |minutes: i64| {
            sql(&house, &format!("UPDATE sessions SET last_seen_at_ms = {}", now_ms() - minutes * 60_000));
            seen()
        };
        let lately = minutes_ago(4);
        ada.get("/keys");
        assert_eq!(seen(), lately);
        let long_ago = minutes_ago(6);
        ada.get("/keys");
        assert!(seen() > long_ago + 5 * 60_000);
    }
}

#[test]
fn what_a_browser_says_it_is_cannot_do_harm() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let hostile = format!("<script>alert(1)</script>\"'{}", "x".repeat(5_000));
        let ada = sign_in_with(&house, "ada", &hostile);
        assert_eq!(rows(&house, "ada")[0].user_agent.chars().count(), 300);
        assert!(!ada.get("/account").body.contains("<script>alert"));
    }
}

#[test]
fn nothing_of_the_account_is_shown_to_who_is_not_signed_in() {
    for engine in engines() {
        let house = House::start(engine);
        let anon = house.anon();
        assert_eq!(anon.get("/account").location(), "/sign-in?next=%2Faccount");
        for path in ["/account/nudge", "/account/second-factor", "/account/sessions/end-others"] {
            assert_eq!(anon.post(path, &[]).location(), "/sign-in", "{path}");
        }
    }
}

#[test]
fn a_person_ends_another_session_without_a_page_load() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let elsewhere = sign_in_with(&house, "ada", FIREFOX);
        sign_in_with(&house, "ada", "curl/8");
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/account").await;
            browser.script("window.untouched = true").await;
            browser.reads("#this-session", "Chrome on Linux").await;
            browser.reads("#account-sessions", "Firefox on Windows").await;
            browser.click("tr[data-device=\"Firefox on Windows\"] .end-session").await;
            browser.gone("tr[data-device=\"Firefox on Windows\"]").await;
            browser.reads("#toasts", "The session was ended.").await;
            browser.focus_is_on("account-sessions").await;
            assert!(rows(&house, "ada").iter().all(|session| session.user_agent != FIREFOX));
            browser.click("#end-others").await;
            browser.gone("#end-others").await;
            browser.click("#nudge-dismiss").await;
            browser.gone("#nudge").await;
            assert_eq!(browser.script("return window.untouched").await, json!(true), "no page was loaded");
            browser.open("/account").await;
            browser.gone("#nudge").await;
            browser.click("#this-session button").await;
            browser.find("#password").await;
            assert_eq!(browser.path().await, "/sign-in");
        });
        assert!(!elsewhere.is_signed_in());
    }
}

#[test]
fn the_account_fits_a_phone() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        for n in 0..11 {
            grant(&house, "ada", "1000000", &format!("{n}{}", "w".repeat(190)), "root");
        }
        browse(&house, PHONE, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/account").await;
            browser.assert_no_sideways_scroll("the account").await;
            browser.click("#older-grants").await;
            browser.find("#newer-grants").await;
            assert!(browser.path().await.starts_with("/account?after="));
            browser.click("#second-factor-on").await;
            browser.find("#app-secret").await;
            let sizes = "const dialog = document.querySelector('#dialog .dialog-body'); return dialog.scrollWidth - dialog.clientWidth";
            browser.becomes(sizes, json!(0)).await;
        });
    }
}
