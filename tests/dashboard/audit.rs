//! The Audit page by HTTP, and that what is written down stays as it was written.

use super::keys::{create, link, make_key, only_key};
use super::support::{PASSWORD, engines};
use super::users::house_with_admin;
use diesel::connection::SimpleConnection;
use keyhouse::clock::now_ms;
use keyhouse::store::audit::{self, Actor};
use keyhouse::store::users;
use reqwest::StatusCode;

/// The codes of the actions on a page, in their order.
fn codes(html: &str) -> Vec<String> {
    let rows = html.split("<code class=\"audit-code\">").skip(1);
    rows.filter_map(|row| Some(row.split('<').next()?.to_owned())).collect()
}

#[test]
fn every_act_of_people_is_written_down_with_its_address() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        make_key(&house, &ada, "laptop");
        let key = only_key(&house, "ada").id;
        for (path, fields) in [
            ("copy", &[][..]),
            ("reveal", &[]),
            ("enabled", &[("enabled", "false")]),
            ("edit", &[("name", "renamed"), ("unlimited", "on"), ("revision", "2")]),
            ("delete", &[]),
        ] {
            assert!(!ada.post(&format!("/keys/{key}/{path}"), fields).status.is_client_error(), "{path}");
        }
        let new_password = "quite another set of words";
        let fields = [("current_password", PASSWORD), ("new_password", new_password)];
        assert_eq!(ada.post("/account/password", &fields).status, StatusCode::SEE_OTHER);
        ada.sign_in("ada", "wrong");
        ada.post("/sign-out", &[]);
        let id = house.with(|c| users::find_by_name(c, "ada")).id;
        for (act, fields) in [
            ("grant", &[("amount", "5")][..]),
            ("admin", &[("admin", "true")]),
            ("admin", &[("admin", "false")]),
            ("enabled", &[("enabled", "false")]),
            ("enabled", &[("enabled", "true")]),
            ("reset-password", &[]),
            ("delete", &[]),
        ] {
            let answer = admin.post(&format!("/users/{id}/{act}"), fields);
            assert!(answer.status.is_redirection() || answer.status.is_success(), "{act} {answer:?}");
        }
        let events = house.with(|c| keyhouse::store::audit::newest(c, 100));
        let acts: Vec<String> = events
            .iter()
            .filter(|event| event.client_ip.as_deref() == Some("127.0.0.1"))
            .map(|event| format!("{} {}", event.actor, event.action))
            .collect();
        for act in [
            "ada session.sign_in",
            "ada session.sign_in_failed",
            "ada session.sign_out",
            "ada user.set_password",
            "ada key.create",
            "ada key.copy",
            "ada key.reveal",
            "ada key.disable",
            "ada key.update",
            "ada key.delete",
            "root user.grant",
            "root user.make_admin",
            "root user.unmake_admin",
            "root user.disable",
            "root user.enable",
            "root user.reset_password",
            "root user.sign_in_link",
            "root user.delete",
        ] {
            assert!(acts.contains(&act.to_owned()), "{act} is missing in {acts:?}");
        }
        // What is gone is still named.
        let page = admin.get("/audit").body;
        assert!(page.contains("Deleted a user") && page.contains(&format!("ada#{id}")), "{page}");
        assert!(!page.contains(&format!("href=\"/users/{id}\"")));
        let deleted = events.iter().find(|event| event.action == "key.delete").expect("it was deleted");
        assert_eq!(deleted.subject, format!("key {key} renamed"));
    }
}

#[test]
fn events_are_found_by_actor_action_subject_and_day() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        create(&house, &ada, true, &[("name", "one")]);
        let id = house.with(|c| users::find_by_name(c, "ada")).id;
        admin.post(&format!("/users/{id}/grant"), &[("amount", "5")]);
        let found = |query: &str| codes(&admin.htmx_get(&format!("/audit?{query}")).body);
        assert_eq!(found("actor=ADA"), ["key.create", "session.sign_in"]);
        assert_eq!(found("action=user.grant"), ["user.grant"]);
        assert_eq!(found("kind=key"), ["key.create"]);
        assert_eq!(found(&format!("kind=user&id={id}")), ["user.grant", "user.create"]);
        assert_eq!(found(&format!("kind=user&id={id}0")), Vec::<String>::new());
        assert_eq!(found("action=nothing.such"), Vec::<String>::new());
        let key = only_key(&house, "ada").id;
        house.with(|c| {
            for subject in [format!("model {key}"), format!("group {key} a → b"), format!("key {key}0")] {
                audit::record(c, &Actor::cli(), "test.it", &subject, now_ms())?;
            }
            audit::record(c, &Actor::cli(), "test.it", &format!("user 900 {key}"), now_ms())
        });
        let of_number = found(&format!("id={key}"));
        assert_eq!(of_number[..3], ["test.it", "test.it", "key.create"], "{of_number:?}");
        assert_eq!(found(&format!("actor=ada&id={key}")), ["key.create"]);
        assert!(found("from=2020-01-01").len() > 5);
        assert_eq!(found("until=2020-01-01"), Vec::<String>::new());
        assert_eq!(found("from=2999-01-01"), Vec::<String>::new());
        let all = found("");
        for nonsense in ["from=yesterday", "kind=%00&id=x", "after=garbage", "until=2020-99-99", "&&=="] {
            assert_eq!(found(nonsense), all, "{nonsense}");
        }
        let page = admin.get(&format!("/audit?kind=user&id={id}&action=user.grant")).body;
        assert!(page.contains("Granted or took credits") && page.contains(&format!("href=\"/users/{id}\"")));
        assert!(page.contains("5.000000") && page.contains("127.0.0.1"));
        assert!(admin.get("/audit?actor=cli").body.contains("Command line"));
    }
}

#[test]
fn every_event_is_on_one_page() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let rows: Vec<String> = (0..120).map(|n| format!("({n}, 'ada', 'test.{n}', 'key {n}')")).collect();
        let insert = "INSERT INTO audit_events (at_ms, actor, action, subject) VALUES";
        house.with(|c| Ok(c.batch_execute(&format!("{insert} {}", rows.join(",")))?));
        let (mut seen, mut page) = (Vec::new(), admin.htmx_get("/audit?actor=ada"));
        loop {
            seen.extend(codes(&page.body));
            match link(&page.body, "next-page") {
                Some(next) => page = admin.htmx_get(&next),
                None => break,
            }
        }
        let wanted: Vec<String> = (0..120).rev().map(|n| format!("test.{n}")).collect();
        assert_eq!(seen, wanted);
        let before = link(&page.body, "previous-page").expect("a page before");
        assert_eq!(codes(&admin.htmx_get(&before).body), seen[50..100]);
    }
}

#[test]
fn the_database_refuses_to_change_what_was_written_down() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let id = house.add_user("ada", false);
        admin.post(&format!("/users/{id}/grant"), &[("amount", "5")]);
        let before = house.audit();
        for statement in [
            "UPDATE audit_events SET actor = 'nobody'",
            "DELETE FROM audit_events",
            "UPDATE grants SET amount_micros = 1",
            "DELETE FROM grants",
        ] {
            let refused = house.store.with(|c| Ok(c.batch_execute(statement)?)).expect_err(statement);
            assert!(refused.to_string().contains("append-only"), "{refused}");
        }
        assert_eq!(house.audit(), before);
    }
}

/// Every code in quotes, such as `"key.reveal"`, in the sources under a folder.
fn codes_in_sources(folder: &str, codes: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            codes_in_sources(path.to_str().expect("text"), codes);
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("text");
        let kinds = ["user", "key", "group", "model", "upstream", "session"];
        codes.extend(source.split('"').filter_map(|text| {
            let (kind, act) = text.split_once('.')?;
            let is_code = kinds.contains(&kind)
                && !act.is_empty()
                && act.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            is_code.then(|| text.to_owned())
        }));
    }
}

#[test]
fn every_action_that_is_written_down_has_words() {
    for engine in engines() {
        let (_house, admin) = house_with_admin(engine);
        let page = admin.get("/audit").body;
        let mut codes = std::collections::BTreeSet::new();
        for folder in ["store", "dashboard", "cli"] {
            codes_in_sources(&format!("{}/src/{folder}", env!("CARGO_MANIFEST_DIR")), &mut codes);
        }
        assert!(codes.len() > 40, "{codes:?}");
        for code in codes {
            assert!(page.contains(&format!("value=\"{code}\"")), "{code} has no words");
        }
    }
}
