//! One-time sign-in links: `/welcome`.

use super::support::{House, PASSWORD, Person, engines};
use keyhouse::clock::now_ms;
use keyhouse::domain::sign_in_link::{LIFETIME_MS, SignInToken};
use keyhouse::domain::user::UserName;
use keyhouse::store::audit::Actor;
use keyhouse::store::sign_in_links;
use keyhouse::store::users::{self, NewUser};
use reqwest::StatusCode;

const OTHER_PASSWORD: &str = "marble ferry quiet anthem";

/// A user who has no password yet.
fn add_invited(house: &House, name: &str) -> i64 {
    let new = NewUser { name: UserName::parse(name).expect("a name"), password_hash: None, is_admin: false };
    house.with(|c| users::create(c, &new, &Actor::cli(), now_ms()))
}

/// A link made so long ago.
fn link_of_age(house: &House, user_id: i64, age_ms: i64) -> String {
    let token = SignInToken::generate();
    house.with(|c| sign_in_links::create(c, user_id, &token.digest(), &Actor::cli(), now_ms() - age_ms));
    token.expose().to_owned()
}

fn link(house: &House, user_id: i64) -> String {
    link_of_age(house, user_id, 0)
}

fn set_password(person: &Person, token: &str, password: &str) -> super::support::Answer {
    person.post("/welcome", &[("token", token), ("password", password)])
}

#[test]
fn a_link_sets_the_password_once_and_signs_in() {
    for engine in engines() {
        let house = House::start(engine);
        let id = add_invited(&house, "ada");
        let token = link(&house, id);
        let ada = house.anon();
        let path = format!("/welcome?token={token}");
        for _ in 0..2 {
            let page = ada.get(&path);
            assert_eq!(page.status, StatusCode::OK, "looking uses nothing up");
            assert!(page.body.contains("Welcome, ada"), "{}", page.body);
        }
        let refused = set_password(&ada, &token, "short");
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains("id=\"password-error\""), "{}", refused.body);

        let answer = set_password(&ada, &token, PASSWORD);
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/keys"));
        assert!(ada.is_signed_in());
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::SEE_OTHER);
        assert!(house.audit().contains(&"ada user.sign_in_link_used".to_owned()));
        assert_eq!(house.anon().get(&path).status, StatusCode::NOT_FOUND);
        assert_eq!(set_password(&house.anon(), &token, OTHER_PASSWORD).status, StatusCode::NOT_FOUND);
        assert_eq!(house.anon().sign_in("ada", PASSWORD).status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn wrong_used_replaced_and_old_links_answer_alike() {
    for engine in engines() {
        let house = House::start(engine);
        let (ada, bob, eve) =
            (add_invited(&house, "ada"), add_invited(&house, "bob"), add_invited(&house, "eve"));
        let used = link(&house, ada);
        assert_eq!(set_password(&house.anon(), &used, PASSWORD).status, StatusCode::SEE_OTHER);
        let replaced = link(&house, ada);
        let newer = link(&house, ada);
        let old = link_of_age(&house, bob, LIFETIME_MS);
        let of_disabled = link(&house, eve);
        house.with(|c| users::set_enabled(c, eve, false, &Actor::cli(), now_ms()));
        let never_made = SignInToken::generate().expose().to_owned();
        let mut pages = Vec::new();
        for token in [used, replaced, old, of_disabled, never_made, String::new(), "x".into(), "<b>".into()] {
            let shown = house.anon().get(&format!("/welcome?token={token}"));
            let sent = set_password(&house.anon(), &token, PASSWORD);
            for answer in [shown, sent] {
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{token}");
                assert!(answer.header("set-cookie").is_empty(), "{token}");
                pages.push(answer.body);
            }
        }
        assert!(pages[0].contains("Ask an admin for a new one"), "{}", pages[0]);
        assert!(pages.iter().all(|page| *page == pages[0]));
        assert_eq!(house.anon().get(&format!("/welcome?token={newer}")).status, StatusCode::OK);
    }
}

#[test]
fn a_link_ends_the_other_sessions_of_its_user_alone() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        let bob = house.user("bob");
        let id = house.with(|c| users::find_by_name(c, "ada")).id;
        let token = link(&house, id);
        assert!(ada.is_signed_in(), "a link that is not used changes nothing");
        let elsewhere = house.anon();
        assert_eq!(set_password(&elsewhere, &token, OTHER_PASSWORD).status, StatusCode::SEE_OTHER);
        assert!(!ada.is_signed_in());
        assert!(bob.is_signed_in() && elsewhere.is_signed_in());
    }
}

#[test]
fn who_has_no_password_cannot_sign_in_with_any() {
    for engine in engines() {
        let house = House::start(engine);
        add_invited(&house, "ada");
        for password in ["", " ", PASSWORD] {
            let answer = house.anon().sign_in("ada", password);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{password:?}");
        }
        let bob = house.user("bob");
        let id = house.with(|c| users::find_by_name(c, "bob")).id;
        house.with(|c| {
            users::reset_password(c, id, &SignInToken::generate().digest(), &Actor::cli(), now_ms())
        });
        assert!(!bob.is_signed_in());
        assert_eq!(house.anon().sign_in("bob", PASSWORD).status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[test]
fn of_two_who_use_a_link_at_once_one_succeeds() {
    for engine in engines() {
        let house = House::start(engine);
        let id = add_invited(&house, "ada");
        let token = link(&house, id);
        let mut statuses = std::thread::scope(|scope| {
            let attempts: Vec<_> = [PASSWORD, OTHER_PASSWORD]
                .into_iter()
                .map(|password| {
                    let (person, token) = (house.anon(), &token);
                    scope.spawn(move || set_password(&person, token, password).status.as_u16())
                })
                .collect();
            attempts.into_iter().map(|attempt| attempt.join().expect("answered")).collect::<Vec<_>>()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 404]);
    }
}

#[test]
fn guessing_links_is_slowed_down_like_guessing_passwords() {
    for engine in engines() {
        let house = House::start(engine);
        let statuses: Vec<StatusCode> =
            (0..31).map(|_| house.anon().get("/welcome?token=wrong").status).collect();
        assert!(statuses[..30].iter().all(|status| *status == StatusCode::NOT_FOUND), "{statuses:?}");
        assert_eq!(statuses[30], StatusCode::TOO_MANY_REQUESTS);
        let refused = set_password(&house.anon(), "wrong", PASSWORD);
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.header("retry-after").parse::<u64>().is_ok());
    }
}
