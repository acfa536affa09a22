//! The All keys page by HTTP: an admin finds, switches and deletes anybody's key, and never sees a secret.

use super::keys::{link, make_key, names, only_key, secret_in, seed};
use super::support::{engines, send};
use super::users::house_with_admin;
use keyhouse::clock::now_ms;
use keyhouse::store::audit::Actor;
use keyhouse::store::{DatabaseUrl, keys, users};
use reqwest::StatusCode;

#[test]
fn an_admin_switches_and_deletes_anybodys_key_and_reveals_none() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        let (key, secret) = make_key(&house, &ada, "laptop");
        let call =
            || send(house.anon().http.get(format!("{}/v1/key", house.url)).bearer_auth(&secret)).status;
        let page = admin.get("/all-keys");
        assert_eq!(names(&page.body), ["laptop"]);
        assert!(page.body.contains(&format!("sk-kh…{}", key.last4)) && page.body.contains(">ada</a>"));
        assert_eq!(secret_in(&page.body), None);

        for path in ["/keys", "/all-keys"] {
            for action in ["copy", "reveal"] {
                let answer = admin.post(&format!("{path}/{}/{action}", key.id), &[]);
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path} {action}");
                assert_eq!(secret_in(&answer.body), None);
            }
        }
        for path in ["", "/edit"] {
            assert_eq!(admin.get(&format!("/keys/{}{path}", key.id)).status, StatusCode::NOT_FOUND);
        }

        let path = format!("/all-keys/{}/enabled", key.id);
        let off = send(admin.form(&path, &[("enabled", "false")]).header("hx-request", "true"));
        assert!(off.body.contains("aria-checked=\"false\"") && off.body.contains("Disabled"), "{}", off.body);
        assert_eq!(call(), StatusCode::UNAUTHORIZED);
        assert_eq!(admin.post(&path, &[("enabled", "true")]).location(), "/all-keys");
        assert_eq!(call(), StatusCode::OK);
        let question = admin.get(&format!("/all-keys/{}/delete", key.id)).body;
        assert!(question.contains("Delete “laptop” of ada?"));
        assert_eq!(admin.post(&format!("/all-keys/{}/delete", key.id), &[]).location(), "/all-keys");
        assert_eq!(call(), StatusCode::UNAUTHORIZED);
        for act in ["root key.disable", "root key.enable", "root key.delete"] {
            assert!(house.audit().contains(&act.to_owned()), "{act}");
        }
        assert!(admin.get("/all-keys").body.contains("No API keys yet"));
        for id in ["0", "99999999999", "x"] {
            assert_eq!(admin.get(&format!("/all-keys/{id}/delete")).status, StatusCode::NOT_FOUND, "{id}");
        }
    }
}

#[test]
fn what_is_done_at_the_page_of_a_user_shows_on_it() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        let keys: Vec<i64> = (0..2).map(|n| make_key(&house, &ada, &format!("k{n}")).0.id).collect();
        let id = house.with(|c| users::find_by_name(c, "ada")).id;
        let post = |path: &str, fields: &[(&str, &str)], at: &str| {
            let current = admin.url(&format!("/users/{at}"));
            let request = admin.form(path, fields).header("hx-request", "true");
            let answer = send(request.header("hx-current-url", current));
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            answer.body
        };
        let is_whole = |body: &str| body.contains("<div id=\"person\" hx-swap-oob=\"true\">");
        for (key, at, left) in
            [(keys[0], id.to_string(), "1"), (keys[1], format!("{id}/grants?after=NTow"), "0")]
        {
            let body = post(&format!("/all-keys/{key}/delete"), &[], &at);
            assert!(is_whole(&body), "{at}: {body}");
            assert!(body.contains(&format!("<dt>Keys</dt><dd class=\"number\">{left}</dd>")), "{at}: {body}");
            let body = post(&format!("/users/{id}/admin"), &[("admin", "true")], &at);
            assert!(is_whole(&body), "{at}: {body}");
        }
        assert!(!is_whole(&post(&format!("/users/{id}/admin"), &[("admin", "true")], &format!("{id}0"))));
    }
}

#[test]
fn for_others_there_is_no_such_page() {
    for engine in engines() {
        let (house, _) = house_with_admin(engine);
        let (ada, bob) = (house.user("ada"), house.user("bob"));
        let (key, _) = make_key(&house, &ada, "laptop");
        assert_eq!(bob.get("/all-keys").status, StatusCode::NOT_FOUND);
        for person in [&ada, &bob] {
            for act in ["enabled", "delete"] {
                let path = format!("/all-keys/{}/{act}", key.id);
                assert_eq!(
                    person.post(&path, &[("enabled", "false")]).status,
                    StatusCode::NOT_FOUND,
                    "{act}"
                );
            }
        }
        assert!(only_key(&house, "ada").enabled);
    }
}

#[test]
fn keys_are_found_by_name_owner_and_status() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let (ada, bob) = (house.user("ada"), house.user("bob"));
        make_key(&house, &ada, "Laptop 100%");
        make_key(&house, &ada, "Größe");
        let (off, _) = make_key(&house, &bob, "server of the ada team");
        house.with(|c| keys::set_enabled(c, off.user_id, off.id, false, &Actor::cli(), now_ms()));
        let found = |query: &str| names(&admin.htmx_get(&format!("/all-keys?{query}")).body);
        assert_eq!(found("q=LAPTOP"), ["Laptop 100%"]);
        assert_eq!(found("q=100%25"), ["Laptop 100%"]);
        assert_eq!(found("q=ada&sort=name"), ["Größe", "Laptop 100%", "server of the ada team"]);
        assert_eq!(found("q=bob"), ["server of the ada team"]);
        assert_eq!(found("q=GR%C3%96SSE"), Vec::<String>::new());
        assert_eq!(found("q=GR%C3%96%C3%9FE"), ["Größe"]);
        assert_eq!(found("status=disabled"), ["server of the ada team"]);
        assert_eq!(found("status=active&sort=created"), ["Laptop 100%", "Größe"]);
        assert_eq!(found("status=expired"), Vec::<String>::new());
        let ada = house.with(|c| users::find_by_name(c, "ada")).id;
        assert_eq!(found(&format!("user={ada}")).len(), 2);
        assert!(admin.get(&format!("/all-keys?user={ada}")).body.contains("Only of ada"));
        for nonsense in ["after=garbage", "sort=used&status=x&user=x", "before=%00"] {
            assert_eq!(found(nonsense).len(), 3, "{nonsense}");
        }
    }
}

#[test]
fn every_key_is_on_one_page_in_every_order() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        seed(&house, "root", 120);
        for order in ["", "created", "name", "-name"] {
            let (mut seen, mut page) = (Vec::new(), admin.htmx_get(&format!("/all-keys?sort={order}")));
            loop {
                seen.extend(names(&page.body));
                match link(&page.body, "next-page") {
                    Some(next) => page = admin.htmx_get(&next),
                    None => break,
                }
            }
            let mut sorted = seen.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!((seen.len(), sorted.len()), (120, 120), "{order}");
            let before = link(&page.body, "previous-page").expect("a page before");
            assert_eq!(names(&admin.htmx_get(&before).body), seen[50..100], "{order}");
        }
    }
}

#[test]
fn many_keys_are_listed_at_once() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        seed(&house, "root", 30_000);
        // The planner knows how many there are, as it would after a while.
        if let DatabaseUrl::Postgres(_) = house.store.url() {
            use diesel::connection::SimpleConnection;
            house.with(|c| Ok(c.batch_execute("ANALYZE")?));
        }
        for query in ["", "sort=name", "q=key+0", "q=root&sort=-name", "status=disabled", "q=nothing"] {
            let mut times: Vec<_> = (0..5)
                .map(|_| {
                    let begun = std::time::Instant::now();
                    assert_eq!(admin.htmx_get(&format!("/all-keys?{query}")).status, StatusCode::OK);
                    begun.elapsed()
                })
                .collect();
            times.sort();
            println!("{engine:?} /all-keys?{query}: median {:?}", times[2]);
            assert!(times[0].as_millis() < 1_500, "{query}: {times:?}");
        }
    }
}
