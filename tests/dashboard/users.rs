//! The Users page by HTTP: lists, credits, and what an admin may do to whom.

use super::keys::{furnish, link, make_key, names, seed};
use super::second_factor::switch_on;
use super::support::{Answer, Engine, House, PASSWORD, Person, engines, send};
use keyhouse::clock::now_ms;
use keyhouse::domain::credits::Credits;
use keyhouse::domain::group;
use keyhouse::store::audit::Actor;
use keyhouse::store::users::{self, User};
use keyhouse::store::{DatabaseUrl, doctor, grants, groups, key_list, keys};
use reqwest::StatusCode;

/// A house with an admin who is signed in.
pub fn house_with_admin(engine: Engine) -> (House, Person) {
    let house = House::start(engine);
    furnish(&house);
    let admin = add_admin(&house, "root");
    (house, admin)
}

pub fn add_admin(house: &House, name: &str) -> Person {
    house.add_user(name, true);
    let person = house.anon();
    assert_eq!(person.sign_in(name, PASSWORD).status, StatusCode::SEE_OTHER);
    person
}

fn user(house: &House, name: &str) -> User {
    house.with(|connection| users::find_by_name(connection, name))
}

fn grant(house: &House, name: &str, credits: i64) {
    let id = user(house, name).id;
    let amount = Credits::from_micros(credits * 1_000_000);
    house.with(|c| grants::grant(c, id, amount, "", &Actor::cli(), now_ms()));
}

fn htmx_post(person: &Person, path: &str, fields: &[(&str, &str)]) -> Answer {
    send(person.form(path, fields).header("hx-request", "true"))
}

/// The address that a page shows as a link to be sent to somebody.
fn sign_in_path(html: &str) -> Option<String> {
    let (_, rest) = html.split_once("/welcome?token=")?;
    Some(format!("/welcome?token={}", rest.split('"').next()?))
}

#[test]
fn for_others_the_pages_of_admins_do_not_exist() {
    for engine in engines() {
        let (house, _) = house_with_admin(engine);
        let ada = house.user("ada");
        let id = user(&house, "root").id;
        for path in ["/users", "/users/new", "/all-keys", "/groups", "/groups/new", "/audit"] {
            assert_eq!(ada.get(path).status, StatusCode::NOT_FOUND, "{path}");
            assert!(house.anon().get(path).location().starts_with("/sign-in"), "{path}");
        }
        for path in ["", "/grant", "/grants", "/delete", "/reset-password"] {
            assert_eq!(ada.get(&format!("/users/{id}{path}")).status, StatusCode::NOT_FOUND, "{path}");
        }
        let fields = [("amount", "5"), ("enabled", "false"), ("admin", "false"), ("name", "mallory")];
        for path in ["/users/new", "/groups/new"] {
            assert_eq!(ada.post(path, &fields).status, StatusCode::NOT_FOUND, "{path}");
        }
        for act in ["grant", "enabled", "admin", "delete", "reset-password"] {
            assert_eq!(
                ada.post(&format!("/users/{id}/{act}"), &fields).status,
                StatusCode::NOT_FOUND,
                "{act}"
            );
        }
        let root = user(&house, "root");
        assert!(root.enabled && root.is_admin && root.balance_micros == 0);
        assert!(!ada.get("/keys").body.contains("href=\"/users\""));
    }
}

#[test]
fn a_new_user_comes_in_by_a_link_that_is_shown_once() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let answer = htmx_post(&admin, "/users/new", &[("name", "Ada"), ("credits", "2.5"), ("admin", "on")]);
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(names(&answer.body)[0], "ada", "the row comes along, on top");
        let path = sign_in_path(&answer.body).expect("a link");
        assert!(answer.body.contains(&format!("{}{path}", house.url)));
        assert!(answer.body.contains("It works once, until"));
        let ada = user(&house, "ada");
        assert_eq!((ada.is_admin, ada.balance_micros), (true, 2_500_000));
        assert!(!admin.get("/users").body.contains("/welcome?token"));
        let page = admin.get(&format!("/users/{}", ada.id)).body;
        assert!(page.contains("not used yet; works until") && !page.contains("/welcome?token"));
        assert!(page.contains("To begin with") && page.contains("+2.5"));

        let person = house.anon();
        let token = path.split_once('=').expect("a token").1;
        let welcomed = person.post("/welcome", &[("token", token), ("password", PASSWORD)]);
        assert_eq!(welcomed.status, StatusCode::SEE_OTHER);
        assert_eq!(person.get("/users").status, StatusCode::OK, "an admin");
        assert!(!admin.get(&format!("/users/{}", ada.id)).body.contains("not used yet"));
        for act in
            ["root user.create", "root user.grant", "root user.sign_in_link", "ada user.sign_in_link_used"]
        {
            assert!(house.audit().contains(&act.to_owned()), "{act}: {:?}", house.audit());
        }
    }
}

#[test]
fn what_is_typed_wrong_is_refused_beside_its_field() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.add_user("ada", false);
        grant(&house, "ada", 10);
        let cases = [
            ("/users/new".to_owned(), "name", "", "name-error"),
            ("/users/new".to_owned(), "name", "a b", "name-error"),
            ("/users/new".to_owned(), "name", "ADA", "name-error"),
            ("/users/new".to_owned(), "name", "ada#1", "name-error"),
            ("/users/new".to_owned(), "credits", "-1", "credits-error"),
            ("/users/new".to_owned(), "credits", "1e3", "credits-error"),
            (format!("/users/{ada}/grant"), "amount", "", "amount-error"),
            (format!("/users/{ada}/grant"), "amount", "0", "amount-error"),
            (format!("/users/{ada}/grant"), "amount", "1,5", "amount-error"),
            (format!("/users/{ada}/grant"), "amount", "-10.000001", "amount-error"),
            (format!("/users/{ada}/grant"), "amount", "1000000001", "amount-error"),
            (format!("/users/{ada}/grant"), "note", "a\u{0}b", "note-error"),
        ];
        for (path, field, value, error) in &cases {
            let mut fields = vec![(*field, *value)];
            for (other, kept) in [("name", "kept"), ("amount", "1"), ("note", "kept <b>")] {
                if *field != other {
                    fields.push((other, kept));
                }
            }
            let answer = htmx_post(&admin, path, &fields);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}={value}");
            assert!(answer.body.contains(&format!("id=\"{error}\"")), "{field}={value}: {}", answer.body);
        }
        let huge = htmx_post(&admin, &format!("/users/{ada}/grant"), &[("amount", &"9".repeat(100_000))]);
        assert_eq!(huge.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(user(&house, "ada").balance_micros, 10_000_000);
        assert_eq!(house.with(users::list).len(), 2);
    }
}

#[test]
fn credits_are_granted_and_taken_with_a_note() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.add_user("ada", false);
        let path = format!("/users/{ada}/grant");
        let form = admin.get(&path);
        assert!(form.body.contains("<!doctype html>") && form.body.contains("Balance now"));
        let granted = htmx_post(&admin, &path, &[("amount", "+25.5"), ("note", "March")]);
        assert_eq!(granted.status, StatusCode::OK);
        let toast = granted.header("hx-trigger");
        assert!(toast.contains("0 before, 25.5 now"), "{toast}");
        let taken = admin.post(&path, &[("amount", "-5"), ("note", "")]);
        assert_eq!(
            (taken.status, taken.location()),
            (StatusCode::SEE_OTHER, format!("/users/{ada}").as_str())
        );
        let page = admin.get(&format!("/users/{ada}")).body;
        assert!(page.contains("Took 5 credits from “ada”: 25.5 before, 20.5 now"), "{page}");
        assert!(page.contains("March") && page.contains("-5") && page.contains("+25.5"));
        let refused = htmx_post(&admin, &path, &[("amount", "-20.6")]);
        assert!(refused.body.contains("has only 20.500000 credits that no open call holds"));
        assert!(refused.body.contains("value=\"-20.6\""), "what was typed stays");
        grant(&house, "ada", 1);
        let page = admin.get(&format!("/users/{ada}")).body;
        assert!(page.contains(">the command line</td>") && page.contains(">root</td>"), "{page}");
        assert!(house.with(doctor::examine).breaches.is_empty());
    }
}

#[test]
fn a_disabled_user_and_their_keys_stop_and_resume() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        let (_, secret) = make_key(&house, &ada, "laptop");
        let id = user(&house, "ada").id;
        let call =
            || send(house.anon().http.get(format!("{}/v1/key", house.url)).bearer_auth(&secret)).status;
        assert_eq!(call(), StatusCode::OK);
        let off = htmx_post(&admin, &format!("/users/{id}/enabled"), &[("enabled", "false")]);
        assert!(off.body.contains("Disabled") && off.body.contains("hx-swap-oob"), "{}", off.body);
        assert_eq!(call(), StatusCode::UNAUTHORIZED);
        assert!(!ada.is_signed_in());
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::UNPROCESSABLE_ENTITY);
        let on = admin.post(&format!("/users/{id}/enabled"), &[("enabled", "true")]);
        assert_eq!(on.location(), format!("/users/{id}"));
        assert_eq!(call(), StatusCode::OK);
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn a_reset_password_ends_sessions_and_gives_a_link() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        let (_, secret) = make_key(&house, &ada, "laptop");
        let path = format!("/users/{}/reset-password", user(&house, "ada").id);
        assert!(admin.get(&path).body.contains("Reset the password of “ada”?"));
        assert!(ada.is_signed_in(), "looking changes nothing");
        let answer = htmx_post(&admin, &path, &[]);
        let link = sign_in_path(&answer.body).expect("a link");
        assert!(!ada.is_signed_in());
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(house.anon().get(&link).status, StatusCode::OK);
        let key = send(house.anon().http.get(format!("{}/v1/key", house.url)).bearer_auth(&secret));
        assert_eq!(key.status, StatusCode::OK, "keys go on working");
    }
}

#[test]
fn a_lost_second_factor_is_reset() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        let id = user(&house, "ada").id;
        let path = format!("/users/{id}/reset-second-factor");
        assert!(!admin.get(&format!("/users/{id}")).body.contains(&path), "there is none");
        switch_on(&house, &ada);
        let asked = house.anon().sign_in("ada", PASSWORD);
        assert!(asked.location().contains("code"), "{asked:?}");
        assert!(admin.get(&format!("/users/{id}")).body.contains(&path));
        assert!(admin.get(&path).body.contains("Make sure that it is they who ask."));
        assert_eq!(admin.post(&path, &[]).location(), format!("/users/{id}"));
        let person = house.anon();
        person.sign_in("ada", PASSWORD);
        assert!(person.is_signed_in());
        assert!(house.audit().contains(&"root user.reset_second_factor".to_owned()));
    }
}

#[test]
fn a_deleted_user_is_gone_everywhere_and_the_books_still_balance() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        grant(&house, "ada", 10);
        let (key, secret) = make_key(&house, &ada, "laptop");
        let id = user(&house, "ada").id;
        let question = admin.get(&format!("/users/{id}/delete")).body;
        assert!(
            question.contains("their key is deleted") && question.contains("the 10 credits"),
            "{question}"
        );
        let deleted = htmx_post(&admin, &format!("/users/{id}/delete"), &[]);
        assert!(deleted.header("hx-trigger").contains("Deleted"), "{deleted:?}");
        assert_eq!(names(&deleted.body), ["root"]);
        assert!(!ada.is_signed_in());
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(house.anon().sign_in(&format!("ada#{id}"), "").status, StatusCode::UNPROCESSABLE_ENTITY);
        let call = send(house.anon().http.get(format!("{}/v1/key", house.url)).bearer_auth(&secret));
        assert!(call.body.contains("invalid_api_key"), "{}", call.body);
        for path in ["", "/grant", "/delete", "/reset-password"] {
            assert_eq!(admin.get(&format!("/users/{id}{path}")).status, StatusCode::NOT_FOUND, "{path}");
        }
        for act in ["enabled", "admin", "delete", "reset-password", "grant"] {
            let answer = admin.post(&format!("/users/{id}/{act}"), &[("enabled", "true"), ("amount", "1")]);
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{act}");
        }
        assert_eq!(admin.get(&format!("/all-keys/{}/delete", key.id)).status, StatusCode::NOT_FOUND);
        // The name is free, and whoever has it next has nothing of the first.
        house.add_user("ada", false);
        let again = user(&house, "ada");
        assert!(again.id != id && again.balance_micros == 0);
        assert!(house.with(|c| key_list::by_id(c, Some(again.id), 0, 10)).is_empty());
        let diagnosis = house.with(doctor::examine);
        assert!(diagnosis.breaches.is_empty() && diagnosis.accounts == 3, "{diagnosis:?}");
    }
}

#[test]
fn no_key_is_made_for_a_user_who_is_being_deleted() {
    for engine in engines() {
        let house = House::start(engine);
        let group_id = house.with(|c| groups::find_by_name(c, group::DEFAULT)).id;
        for round in 0..10 {
            let user_id = house.add_user(&format!("user{round}"), false);
            std::thread::scope(|scope| {
                scope.spawn(|| house.with(|c| users::delete(c, user_id, &Actor::cli(), now_ms())));
                for _ in 0..2 {
                    scope.spawn(|| {
                        let secret = keyhouse::domain::secret::KeySecret::generate();
                        let draft = keyhouse::domain::key::KeyDraft { name: "late", ..Default::default() };
                        let settings = draft.parse(now_ms(), None).expect("valid");
                        let ciphertext = house.vault.seal_key(user_id, &secret).expect("sealed");
                        let new = keys::NewKey {
                            user_id,
                            group_id,
                            settings: &settings,
                            secret: &secret,
                            ciphertext: &ciphertext,
                        };
                        // Made in time, and deleted along; or too late, and not found.
                        let _ = house.store.with(|c| keys::create(c, &new, &Actor::cli(), now_ms()));
                    });
                }
            });
            assert!(house.with(|c| key_list::by_id(c, Some(user_id), 0, 10)).is_empty(), "round {round}");
        }
    }
}

#[test]
fn nobody_locks_themselves_out() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        add_admin(&house, "other");
        let me = user(&house, "root").id;
        for (act, fields) in [
            ("enabled", &[("enabled", "false")][..]),
            ("admin", &[("admin", "false")]),
            ("delete", &[]),
            ("reset-password", &[]),
        ] {
            let answer = admin.post(&format!("/users/{me}/{act}"), fields);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{act}");
            assert!(answer.body.contains("This is your own account."), "{act}: {}", answer.body);
        }
        assert!(admin.is_signed_in() && user(&house, "root").is_admin);
        let page = admin.get(&format!("/users/{me}")).body;
        assert!(page.contains("This is you."));
        assert!(page.contains("<a class=\"text-link\" href=\"/account/password\">"), "{page}");
    }
}

#[test]
fn of_two_admins_who_depose_each_other_at_once_one_remains() {
    for engine in engines() {
        let house = House::start(engine);
        let admins = ["one", "two"].map(|name| add_admin(&house, name));
        let ids = ["one", "two"].map(|name| user(&house, name).id);
        for round in 0..12 {
            let (act, field) = if round % 2 == 0 { ("admin", "admin") } else { ("enabled", "enabled") };
            let barrier = std::sync::Barrier::new(2);
            let statuses = std::thread::scope(|scope| {
                let posts = [(0, 1), (1, 0)].map(|(actor, victim): (usize, usize)| {
                    let (admin, id, barrier) = (&admins[actor], ids[victim], &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        admin.post(&format!("/users/{id}/{act}"), &[(field, "false")]).status
                    })
                });
                posts.map(|post| post.join().expect("answered"))
            });
            let left = house.with(users::list);
            let left: Vec<_> = left.iter().filter(|user| user.is_admin && user.enabled).collect();
            assert_eq!(left.len(), 1, "round {round}: {statuses:?}");
            // The other was told why, or was no admin any more when asked.
            let refused = |status: &StatusCode| {
                [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::NOT_FOUND].contains(status)
                    || (*status == StatusCode::SEE_OTHER && act == "enabled")
            };
            assert!(statuses.iter().any(refused), "round {round}: {statuses:?}");
            for (id, admin) in ids.iter().zip(&admins) {
                house.with(|c| users::set_enabled(c, *id, true, &Actor::cli(), now_ms()));
                house.with(|c| users::set_admin(c, *id, true, &Actor::cli(), now_ms()));
                if !admin.is_signed_in() {
                    let name = house.with(|c| users::find(c, *id)).name;
                    assert_eq!(admin.sign_in(&name, PASSWORD).status, StatusCode::SEE_OTHER);
                }
            }
        }
    }
}

/// Puts users into the table as a large house would have them.
fn seed_users(house: &House, count: i64) {
    use diesel::connection::SimpleConnection;
    let yes_no = match house.store.url() {
        DatabaseUrl::Sqlite(_) => ["0", "1"],
        DatabaseUrl::Postgres(_) => ["FALSE", "TRUE"],
    };
    let rows: Vec<String> = (0..count)
        .map(|n| {
            let enabled = yes_no[usize::from(n % 10 != 0)];
            format!("('user-{n:05}', '', {}, {enabled}, {}, {n})", yes_no[0], n * 7 % 1_000)
        })
        .collect();
    for rows in rows.chunks(1_000) {
        let insert = "INSERT INTO users (name, password_hash, is_admin, enabled, balance_micros, created_at_ms) VALUES";
        house.with(|c| Ok(c.batch_execute(&format!("{insert} {}", rows.join(",")))?));
    }
}

#[test]
fn ten_thousand_users_are_searched_sorted_and_paged() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        seed_users(&house, 10_000);
        seed(&house, "root", 1_000);
        for order in ["", "-name", "-created", "created", "-balance", "balance"] {
            let (mut seen, mut pages) = (Vec::new(), 0);
            let mut page = admin.htmx_get(&format!("/users?q=USER-001&sort={order}"));
            loop {
                seen.extend(names(&page.body));
                pages += 1;
                match link(&page.body, "next-page") {
                    Some(next) => page = admin.htmx_get(&next),
                    None => break,
                }
            }
            let mut sorted = seen.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!((seen.len(), sorted.len(), pages), (100, 100, 2), "{order}");
            let before = link(&page.body, "previous-page").expect("a page before");
            assert_eq!(names(&admin.htmx_get(&before).body), seen[..50], "{order}");
        }
        assert_eq!(names(&admin.htmx_get("/users?status=admins").body), ["root"]);
        assert!(names(&admin.htmx_get("/users?status=disabled").body).iter().all(|name| name.ends_with('0')));
        assert!(admin.htmx_get("/users?q=nobody").body.contains("No user matches"));
        for nonsense in ["after=garbage", "sort=%27&status=x", "before=%00", "&&==="] {
            assert_eq!(names(&admin.get(&format!("/users?{nonsense}")).body)[0], "root", "{nonsense}");
        }
        for query in ["", "q=user-0", "sort=-balance", "status=disabled", "q=nothing"] {
            let mut times: Vec<_> = (0..5)
                .map(|_| {
                    let begun = std::time::Instant::now();
                    assert_eq!(admin.htmx_get(&format!("/users?{query}")).status, StatusCode::OK);
                    begun.elapsed()
                })
                .collect();
            times.sort();
            println!("{engine:?} /users?{query}: median {:?}", times[2]);
            // Generous: an unoptimised build on a busy machine.
            assert!(times[0].as_millis() < 1_000, "{query}: {times:?}");
        }
    }
}
