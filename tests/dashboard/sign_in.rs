//! Signing in and out, the first admin, passwords: `/sign-in`, `/sign-out`, `/setup`, `/account/password`.

use super::support::{Answer, House, PASSWORD, Person, engines, send};
use diesel::connection::SimpleConnection;
use keyhouse::clock::now_ms;
use keyhouse::config::Reach;
use keyhouse::store::DatabaseUrl;
use keyhouse::store::audit::Actor;
use keyhouse::store::users;
use reqwest::StatusCode;

const OTHER_PASSWORD: &str = "marble ferry quiet anthem";

fn change_password(person: &Person, current: &str, new: &str) -> Answer {
    person.post("/account/password", &[("current_password", current), ("new_password", new)])
}

#[test]
fn a_person_signs_in_and_lands_on_the_keys() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let ada = house.anon();
        assert!(!ada.is_signed_in());
        let answer = ada.sign_in(" Ada ", PASSWORD);
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/keys"));
        assert!(ada.is_signed_in());
        assert_eq!(house.audit()[0], "ada session.sign_in");
        let again = ada.get("/sign-in");
        assert_eq!((again.status, again.location()), (StatusCode::SEE_OTHER, "/keys"));
    }
}

#[test]
fn a_wrong_password_an_unknown_name_and_a_disabled_account_answer_alike() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let bob = house.add_user("bob", false);
        house.with(|c| users::set_enabled(c, bob, false, &Actor::cli(), now_ms()));
        let answers =
            [("ada", OTHER_PASSWORD), ("eve", PASSWORD), ("bob", PASSWORD)].map(|(name, password)| {
                let answer = house.anon().sign_in(name, password);
                assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
                assert!(answer.header("set-cookie").is_empty());
                assert!(answer.body.contains("The name or the password is not right."));
                assert!(answer.body.contains(&format!("value=\"{name}\"")), "what was typed is kept");
                assert!(!answer.body.contains(password), "but never the password");
                answer.body.replace(name, "NAME")
            });
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0], answers[2]);
        let audit = house.audit();
        assert_eq!(audit[0], "bob session.sign_in_failed");
        assert_eq!(audit[1], "eve session.sign_in_failed");
        assert!(audit.iter().all(|event| !event.contains(OTHER_PASSWORD)));
    }
}

#[test]
fn empty_fields_are_named_beside_themselves() {
    for engine in engines() {
        let house = House::start(engine);
        let answer = house.anon().sign_in("", "");
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.body.contains("id=\"name-error\"") && answer.body.contains("id=\"password-error\""));
        assert!(answer.body.contains("aria-invalid=\"true\""));
        let answer = house.anon().post("/sign-in", &[]);
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[test]
fn hostile_names_and_passwords_are_refused_without_a_failure() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let megabyte = "x".repeat(1_000_000);
        let long = "y".repeat(100_000);
        for (name, password) in [
            ("ada\0", PASSWORD),
            ("ada", "\0"),
            ("' OR 1=1 --", "' OR 1=1 --"),
            ("<script>alert(1)</script>", "x"),
            (long.as_str(), "x"),
            ("ada", long.as_str()),
        ] {
            let answer = house.anon().sign_in(name, password);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name:.20}");
            assert!(!answer.body.contains("<script>alert"), "{name}");
        }
        for fields in
            [[("name", megabyte.as_str()), ("password", "x")], [("name", "a"), ("password", &megabyte)]]
        {
            let answer = house.anon().post("/sign-in", &fields);
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert!(answer.body.contains("href=\"/\""), "{}", answer.body);
        }
        let anon = house.anon();
        for (kind, body) in [
            ("application/json", "{}"),
            ("application/x-www-form-urlencoded", "name=%ff%fe&password=%00"),
            ("application/x-www-form-urlencoded", "name=a&name=b"),
            ("text/plain", ""),
        ] {
            let answer = send(anon.http.post(anon.url("/sign-in")).header("content-type", kind).body(body));
            assert!(answer.status.is_client_error(), "{kind} {body}: {answer:?}");
        }
    }
}

#[test]
fn a_body_without_an_announced_length_is_bounded_too() {
    for engine in engines() {
        let house = House::start(engine);
        let anon = house.anon();
        let endless = std::io::Read::take(std::io::repeat(b'x'), 1_000_000);
        let request = anon.http.post(anon.url("/sign-in")).body(reqwest::blocking::Body::new(endless));
        let sent = request.header("content-type", "application/x-www-form-urlencoded").send();
        // The server may answer and hang up before everything was sent.
        if let Ok(response) = sent {
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert_eq!(house.anon().get("/sign-in").status, StatusCode::OK);
    }
}

#[test]
fn the_cookie_is_closed_to_scripts_and_other_sites() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let answer = house.anon().sign_in("ada", PASSWORD);
        let cookie = answer.header("set-cookie");
        assert!(cookie.starts_with("keyhouse="), "{cookie}");
        for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1209600"] {
            assert!(cookie.contains(attribute), "{cookie} lacks {attribute}");
        }
        assert!(!cookie.contains("Secure") && !cookie.contains("Domain"), "{cookie}");
    }
}

#[test]
fn on_https_the_cookie_is_secure_and_bound_to_its_host() {
    for engine in engines() {
        let reach = Reach {
            public_url: Some("https://keys.example".parse().expect("a URL")),
            trusted_proxies: Vec::new(),
        };
        let house = House::start_with(engine, reach);
        house.add_user("ada", false);
        let answer = house.anon().sign_in("ada", PASSWORD);
        let cookie = answer.header("set-cookie");
        assert!(cookie.starts_with("__Host-keyhouse=") && cookie.contains("Secure"), "{cookie}");
    }
}

#[test]
fn a_cookie_that_was_tampered_with_is_no_session() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let answer = house.anon().sign_in("ada", PASSWORD);
        let cookie = answer.header("set-cookie").split(';').next().expect("a pair").to_owned();
        let ask = |cookie: &str| {
            let anon = house.anon();
            send(anon.http.get(anon.url("/account/password")).header("cookie", cookie)).status
        };
        assert_eq!(ask(&cookie), StatusCode::OK);
        let mut altered = cookie.clone();
        let last = altered.pop().expect("not empty");
        altered.push(if last == '0' { '1' } else { '0' });
        for wrong in [altered.as_str(), "keyhouse=", "keyhouse=x", "keyhouse=%00"] {
            assert_eq!(ask(wrong), StatusCode::SEE_OTHER, "{wrong}");
        }
    }
}

#[test]
fn the_database_does_not_hold_what_the_cookie_says() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let answer = house.anon().sign_in("ada", PASSWORD);
        let cookie = answer.header("set-cookie").split(';').next().expect("a pair");
        let key = &cookie[cookie.len() - 64..];
        assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cookie}");
        match house.store.url() {
            DatabaseUrl::Sqlite(path) => {
                for file in [path.clone(), path.with_extension("db-wal")] {
                    let bytes = std::fs::read(file).expect("the database's files");
                    assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()));
                }
            }
            DatabaseUrl::Postgres(_) => {
                // Fails where a row says it.
                let check =
                    format!("SELECT 1 / (count(*) = 0)::int FROM sessions s WHERE s::text LIKE '%{key}%'");
                house.store.with(|c| Ok(c.batch_execute(&check)?)).expect("no session says it");
            }
        }
    }
}

#[test]
fn signing_in_changes_the_session_and_ends_the_one_before() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let ada = house.anon();
        let first = ada.sign_in("ada", PASSWORD).header("set-cookie").to_owned();
        let second = ada.sign_in("ada", PASSWORD).header("set-cookie").to_owned();
        let pair = |cookie: &str| cookie.split(';').next().expect("a pair").to_owned();
        assert_ne!(pair(&first), pair(&second));
        let thief = house.anon();
        let request = thief.http.get(thief.url("/account/password")).header("cookie", pair(&first));
        assert_eq!(send(request).status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn signing_out_ends_the_session_even_for_who_kept_the_cookie() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let ada = house.anon();
        let cookie = ada.sign_in("ada", PASSWORD).header("set-cookie").to_owned();
        let answer = ada.post("/sign-out", &[]);
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/sign-in"));
        assert!(!ada.is_signed_in());
        assert_eq!(house.audit()[0], "ada session.sign_out");
        let kept = house.anon();
        let request = kept.http.get(kept.url("/account/password"));
        let answer = send(request.header("cookie", cookie.split(';').next().expect("a pair")));
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(ada.post("/sign-out", &[]).status, StatusCode::SEE_OTHER, "twice is no error");
    }
}

#[test]
fn changing_the_password_ends_the_other_sessions_and_keeps_this_one() {
    for engine in engines() {
        let house = House::start(engine);
        let here = house.user("ada");
        let elsewhere = house.anon();
        elsewhere.sign_in("ada", PASSWORD);
        let bob = house.user("bob");
        let answer = change_password(&here, PASSWORD, OTHER_PASSWORD);
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/account"));
        assert!(here.get("/account/password").body.contains("Password changed."));
        assert!(!here.get("/account/password").body.contains("Password changed."), "said once");
        assert!(here.is_signed_in() && bob.is_signed_in());
        assert!(!elsewhere.is_signed_in());
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(house.anon().sign_in("ada", OTHER_PASSWORD).status, StatusCode::SEE_OTHER);
        assert!(house.audit().contains(&"ada user.set_password".to_owned()));
    }
}

#[test]
fn a_password_is_changed_only_by_who_knows_it_and_to_a_good_one() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        for (current, new, field) in [
            ("wrong", OTHER_PASSWORD, "current_password"),
            (PASSWORD, "short", "new_password"),
            (PASSWORD, "passwordpassword", "new_password"),
            (PASSWORD, PASSWORD, "new_password"),
            (PASSWORD, "", "new_password"),
        ] {
            let answer = change_password(&ada, current, new);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
            assert!(answer.body.contains(&format!("id=\"{field}-error\"")), "{field}: {}", answer.body);
            assert!(!answer.body.contains(OTHER_PASSWORD));
        }
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn a_disabled_user_is_out_on_the_next_request() {
    for engine in engines() {
        let house = House::start(engine);
        let id = house.add_user("ada", false);
        let ada = house.anon();
        ada.sign_in("ada", PASSWORD);
        assert!(ada.is_signed_in());
        house.with(|c| users::set_enabled(c, id, false, &Actor::cli(), now_ms()));
        assert!(!ada.is_signed_in());
        house.with(|c| users::set_enabled(c, id, true, &Actor::cli(), now_ms()));
        assert!(!ada.is_signed_in(), "the session is gone, not asleep");
    }
}

#[test]
fn forms_of_other_sites_are_refused_and_change_nothing() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        let host = house.url.trim_start_matches("http://");
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", &format!("http://{host}.evil.example")),
        ] {
            let answer = send(ada.form("/sign-out", &[]).header(name, value));
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
            assert!(answer.body.contains("another website"), "{}", answer.body);
            assert!(ada.is_signed_in());
        }
        let own = send(ada.form("/sign-out", &[]).header("origin", &house.url));
        assert_eq!(own.status, StatusCode::SEE_OTHER);
        assert!(!ada.is_signed_in());
    }
}

#[test]
fn after_signing_in_people_come_to_the_page_they_wanted_and_never_to_another_site() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        let detour = house.anon().get("/account/password?a=b&c=d");
        assert_eq!(detour.location(), "/sign-in?next=%2Faccount%2Fpassword%3Fa%3Db%26c%3Dd");
        let form = house.anon().get(detour.location()).body;
        assert!(form.contains("name=\"next\" value=\"/account/password?a=b&#38;c=d\""), "{form}");
        for (next, landing) in [
            ("/account/password?a=b", "/account/password?a=b"),
            ("https://evil.example", "/keys"),
            ("//evil.example", "/keys"),
            ("/\\evil.example", "/keys"),
            ("/..//evil.example", "/keys"),
            ("javascript:alert(1)", "/keys"),
            ("", "/keys"),
        ] {
            let fields = [("name", "ada"), ("password", PASSWORD), ("next", next)];
            if next.contains("evil") {
                assert!(!house.anon().get(&format!("/sign-in?next={next}")).body.contains("evil"), "{next}");
            }
            let ada = house.anon();
            assert_eq!(ada.post("/sign-in", &fields).location(), landing, "{next}");
        }
    }
}

#[test]
fn guessing_is_slowed_down_for_everybody_who_guesses_that_name() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        for _ in 0..10 {
            assert_eq!(house.anon().sign_in("ada", "wrong").status, StatusCode::UNPROCESSABLE_ENTITY);
        }
        let answer = house.anon().sign_in("ADA", PASSWORD);
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=30).contains(&seconds)));
        assert!(answer.body.contains("Too many attempts. Try again in"), "{}", answer.body);
        assert!(answer.body.contains("value=\"ADA\"") && !answer.body.contains(PASSWORD));
        assert_eq!(house.anon().sign_in("bob", "wrong").status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[test]
fn the_first_admin_is_made_with_the_token_and_only_once() {
    for engine in engines() {
        let house = House::start(engine);
        let link = house.setup_link.clone().expect("a house without users has a link");
        let path = link.strip_prefix(&house.url).expect("it leads here");
        let token = path.strip_prefix("/setup?token=").expect("it has a token");
        assert_eq!(token.len(), 32);
        assert!(house.anon().get("/sign-in").body.contains("no users yet"));

        fn fields<'a>(token: &'a str, name: &'a str, password: &'a str) -> [(&'static str, &'a str); 3] {
            [("token", token), ("name", name), ("password", password)]
        }
        for wrong in ["", "x", &token[1..], &token.to_ascii_uppercase(), &format!("{token}x")] {
            assert_eq!(house.anon().get(&format!("/setup?token={wrong}")).status, StatusCode::NOT_FOUND);
            let answer = house.anon().post("/setup", &fields(wrong, "eve", PASSWORD));
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
        }
        assert_eq!(house.anon().get("/setup").status, StatusCode::NOT_FOUND);

        let ada = house.anon();
        assert_eq!(ada.get(path).status, StatusCode::OK);
        let refused = ada.post("/setup", &fields(token, "ada lovelace", "short"));
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains("id=\"name-error\"") && refused.body.contains("id=\"password-error\""));
        assert!(refused.body.contains("value=\"ada lovelace\""), "what was typed is kept");

        let answer = ada.post("/setup", &fields(token, "Ada", PASSWORD));
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/keys"));
        assert!(ada.is_signed_in());
        assert!(house.with(|c| users::find_by_name(c, "ada")).is_admin);

        assert_eq!(house.anon().get(path).status, StatusCode::NOT_FOUND);
        let late = house.anon().post("/setup", &fields(token, "eve", PASSWORD));
        assert_eq!(late.status, StatusCode::NOT_FOUND);
        assert_eq!(house.with(users::list).len(), 1);
        assert!(!house.anon().get("/sign-in").body.contains("no users yet"));
    }
}

#[test]
fn of_two_who_set_up_at_once_one_becomes_the_admin() {
    for engine in engines() {
        let house = House::start(engine);
        let link = house.setup_link.clone().expect("a link");
        let token = link.rsplit('=').next().expect("a token");
        let mut statuses = std::thread::scope(|scope| {
            let attempts: Vec<_> = ["ada", "eve"]
                .into_iter()
                .map(|name| {
                    let person = house.anon();
                    scope.spawn(move || {
                        let fields = [("token", token), ("name", name), ("password", PASSWORD)];
                        person.post("/setup", &fields).status.as_u16()
                    })
                })
                .collect();
            attempts.into_iter().map(|attempt| attempt.join().expect("answered")).collect::<Vec<_>>()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 404]);
        assert_eq!(house.with(users::list).len(), 1);
    }
}
