//! The second factor: switched on and off on the Account page, asked for at sign-in and before keys are shown.

use super::keys::{furnish, make_key};
use super::support::browser::{Browser, DESKTOP, Kind, PHONE, browse};
use super::support::{Answer, House, PASSWORD, Person, engines, send};
use diesel::connection::SimpleConnection;
use keyhouse::clock::now_ms;
use keyhouse::store::audit::Actor;
use keyhouse::store::users;
use reqwest::StatusCode;
use serde_json::json;
use totp_rs::{Builder, Secret, Totp};

/// The app on a person's phone.
pub struct App(Totp);

impl App {
    /// From the secret that the set-up dialog shows.
    pub fn scan(page: &str) -> Self {
        let secret = between(page, "data-copy-text=\"", "\"");
        Self::of(&secret)
    }

    pub fn of(base32: &str) -> Self {
        let secret = Secret::try_from_base32(base32).expect("base32");
        let totp = Builder::new().with_secret(secret).with_account_name("ada").build();
        Self(totp.expect("a TOTP"))
    }

    pub fn code(&self) -> String {
        self.at(0)
    }

    /// What it shows so many half minutes from now.
    fn at(&self, steps: i64) -> String {
        let seconds = u64::try_from(now_ms() / 1000 + steps * 30).expect("a time");
        self.0.generate(seconds).to_string()
    }

    /// Six digits that the app does not show about now.
    fn wrong_code(&self) -> String {
        let shown: Vec<String> = (-2..=2).map(|steps| self.at(steps)).collect();
        let mut digits = (0..10).map(|digit| digit.to_string().repeat(6));
        digits.find(|code| !shown.contains(code)).expect("a code that is not shown")
    }
}

fn between(text: &str, start: &str, end: &str) -> String {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start} in {text}"));
    rest.split_once(end).expect("an end").0.to_owned()
}

/// As if half a minute had passed: a code that was used may be used again.
pub fn forget_steps(house: &House) {
    sql(house, "UPDATE second_factors SET last_step = 0");
}

/// As if an hour had passed since the last code.
pub fn age_sessions(house: &House) {
    sql(house, "UPDATE sessions SET confirmed_at_ms = confirmed_at_ms - 3600001");
}

pub fn sql(house: &House, statement: &str) {
    house.with(|c| Ok(c.batch_execute(statement)?));
}

/// Switches it on and gives the app and the recovery codes.
pub fn switch_on(house: &House, person: &Person) -> (App, Vec<String>) {
    let app = App::scan(&person.post("/account/second-factor", &[]).body);
    let shown = person.post("/account/second-factor/confirm", &[("code", &app.code())]);
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.body);
    forget_steps(house);
    (app, codes_of(&shown.body))
}

fn codes_of(page: &str) -> Vec<String> {
    between(page, "id=\"recovery-codes\" tabindex=\"0\">", "</pre>").lines().map(str::to_owned).collect()
}

fn give_code(person: &Person, code: &str) -> Answer {
    person.post("/sign-in/code", &[("code", code)])
}

/// Somebody whose password was right and whose code is awaited.
fn at_the_code(house: &House, name: &str) -> Person {
    let person = house.anon();
    let answer = person.sign_in(name, PASSWORD);
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/sign-in/code"), "{answer:?}");
    person
}

#[test]
fn it_is_pending_until_its_first_code() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        let dialog = ada.post("/account/second-factor", &[]).body;
        assert!(dialog.contains("src=\"data:image/png;base64,iVBOR"), "{dialog}");
        assert!(dialog.contains("href=\"otpauth://totp/Keyhouse:ada?secret="), "{dialog}");
        let app = App::scan(&dialog);
        assert_eq!(house.anon().sign_in("ada", PASSWORD).location(), "/keys", "nothing is asked for yet");

        for wrong in ["", "12345", &app.wrong_code(), "abcd-efgh-jkmn-pqrs"] {
            let answer = ada.post("/account/second-factor/confirm", &[("code", wrong)]);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
            assert!(answer.body.contains("id=\"code-error\""), "{}", answer.body);
            assert_eq!(App::scan(&answer.body).code(), app.code(), "the secret stays");
        }
        assert!(!ada.get("/account").body.contains("recovery codes are left"));

        let shown = ada.post("/account/second-factor/confirm", &[("code", &app.code())]);
        assert_eq!(codes_of(&shown.body).len(), 10, "{}", shown.body);
        assert!(ada.get("/account").body.contains("10 recovery codes are left"));
        assert!(!ada.get("/account").body.contains(&codes_of(&shown.body)[0]), "shown once");
        assert_eq!(ada.post("/account/second-factor", &[]).status, StatusCode::CONFLICT);
        let again = ada.post("/account/second-factor/confirm", &[("code", &app.code())]);
        assert_eq!(again.status, StatusCode::CONFLICT);
        assert!(house.audit().contains(&"ada user.second_factor_on".to_owned()));
        at_the_code(&house, "ada");
    }
}

#[test]
fn between_password_and_code_nobody_is_signed_in() {
    for engine in engines() {
        let house = House::start(engine);
        let first = house.user("ada");
        let (app, _) = switch_on(&house, &first);
        let ada = at_the_code(&house, "ada");
        assert!(!ada.is_signed_in());
        for path in ["/keys", "/account", "/keys/new"] {
            assert!(ada.get(path).location().starts_with("/sign-in?"), "{path}");
        }
        assert!(!first.get("/account").body.contains("end-others"), "nor in the list of sessions");
        let refused = give_code(&ada, &app.wrong_code());
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains("This code is not right."), "{}", refused.body);
        assert!(!ada.is_signed_in());
        let answer = give_code(&ada, &app.code());
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/keys"));
        assert!(ada.is_signed_in());
        let audit = house.audit();
        assert_eq!(audit[..2], ["ada session.sign_in", "ada session.second_factor_failed"]);
        assert_eq!(house.anon().get("/sign-in/code").location(), "/sign-in");
        assert_eq!(give_code(&house.anon(), &app.code()).location(), "/sign-in");
    }
}

#[test]
fn after_the_code_people_come_to_the_page_they_wanted() {
    for engine in engines() {
        let house = House::start(engine);
        let (app, _) = switch_on(&house, &house.user("ada"));
        let ada = house.anon();
        let fields = [("name", "ada"), ("password", PASSWORD), ("next", "/account?after=9")];
        assert_eq!(ada.post("/sign-in", &fields).location(), "/sign-in/code");
        assert_eq!(give_code(&ada, &app.code()).location(), "/account?after=9");
    }
}

#[test]
fn a_code_and_a_recovery_code_work_once() {
    for engine in engines() {
        let house = House::start(engine);
        let (app, codes) = switch_on(&house, &house.user("ada"));
        let code = app.code();
        assert_eq!(give_code(&at_the_code(&house, "ada"), &code).status, StatusCode::SEE_OTHER);
        assert_eq!(give_code(&at_the_code(&house, "ada"), &code).status, StatusCode::UNPROCESSABLE_ENTITY);

        let typed = codes[3].replace('-', " ").to_uppercase();
        let ada = at_the_code(&house, "ada");
        assert_eq!(give_code(&ada, &typed).status, StatusCode::SEE_OTHER);
        assert!(ada.get("/account").body.contains("9 recovery codes are left"));
        let again = give_code(&at_the_code(&house, "ada"), &codes[3]);
        assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(house.audit().contains(&"ada user.recovery_code_used".to_owned()));

        let (_, of_bob) = switch_on(&house, &house.user("bob"));
        assert_eq!(
            give_code(&at_the_code(&house, "ada"), &of_bob[0]).status,
            StatusCode::UNPROCESSABLE_ENTITY
        );

        let renewed = ada.post("/account/second-factor/codes", &[("code", &codes[4])]);
        let newer = codes_of(&renewed.body);
        assert_eq!(newer.len(), 10);
        let old = give_code(&at_the_code(&house, "ada"), &codes[5]);
        assert_eq!(old.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(give_code(&at_the_code(&house, "ada"), &newer[0]).status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn guessing_codes_ends_the_attempt_and_then_all_attempts() {
    for engine in engines() {
        let house = House::start(engine);
        let (app, _) = switch_on(&house, &house.user("ada"));
        let wrong = app.wrong_code();
        let mut ada = house.anon();
        ada.post("/sign-in", &[("name", "ada"), ("password", PASSWORD), ("next", "/usage?range=7d")]);
        for _ in 0..4 {
            assert_eq!(give_code(&ada, &wrong).status, StatusCode::UNPROCESSABLE_ENTITY);
        }
        let fifth = give_code(&ada, &wrong);
        let again = "/sign-in?next=%2Fusage%3Frange%3D7d&again=wrong-codes";
        assert_eq!((fifth.status, fifth.location()), (StatusCode::SEE_OTHER, again));
        let page = ada.get(again).body;
        assert!(page.contains("Too many wrong codes. Enter your password again."), "{page}");
        assert!(page.contains("name=\"next\" value=\"/usage?range=7d\""), "{page}");
        assert_eq!(give_code(&ada, &app.code()).location(), "/sign-in", "the password comes first again");
        for _ in 0..5 {
            ada = at_the_code(&house, "ada");
            give_code(&ada, &wrong);
        }
        let refused = give_code(&ada, &app.code());
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 60));
        assert!(refused.body.contains("Too many attempts. Try again in"), "{}", refused.body);
    }
}

#[test]
fn a_code_that_comes_too_late_says_so_and_keeps_the_way() {
    for engine in engines() {
        let house = House::start(engine);
        let (app, _) = switch_on(&house, &house.user("ada"));
        let ada = house.anon();
        ada.post("/sign-in", &[("name", "ada"), ("password", PASSWORD), ("next", "/account")]);
        // As if it had been long ago.
        sql(&house, r#"UPDATE sessions SET state = replace(state, 'since_ms\":', 'since_ms\":-')"#);
        let late = "/sign-in?next=%2Faccount&again=late";
        assert_eq!(give_code(&ada, &app.code()).location(), late);
        assert_eq!(ada.get("/sign-in/code").location(), late);
        assert!(ada.get(late).body.contains("That took too long. Enter your password again."));
        assert!(!ada.is_signed_in());
    }
}

#[test]
fn what_ends_sessions_ends_the_wait_for_a_code_too() {
    for engine in engines() {
        let house = House::start(engine);
        let first = house.user("ada");
        let (app, _) = switch_on(&house, &first);
        let id = house.with(|c| users::find_by_name(c, "ada")).id;
        let waiting = at_the_code(&house, "ada");
        let fields = [("current_password", PASSWORD), ("new_password", "marble ferry quiet anthem")];
        assert_eq!(first.post("/account/password", &fields).status, StatusCode::SEE_OTHER);
        assert_eq!(give_code(&waiting, &app.code()).location(), "/sign-in");

        let waiting = house.anon();
        waiting.sign_in("ada", "marble ferry quiet anthem");
        assert_eq!(waiting.get("/sign-in/code").status, StatusCode::OK);
        house.with(|c| users::set_enabled(c, id, false, &Actor::cli(), now_ms()));
        assert_eq!(give_code(&waiting, &app.code()).location(), "/sign-in");
    }
}

#[test]
fn it_is_switched_off_by_a_code_or_the_password_and_nothing_less() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        let off = |typed: &str| ada.post("/account/second-factor/off", &[("code", typed)]);
        let (app, codes) = switch_on(&house, &ada);
        for wrong in ["", "wrong", &app.wrong_code(), "abcd-efgh-jkmn-pqrs"] {
            let answer = off(wrong);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
            assert!(answer.body.contains("id=\"code-error\""), "{}", answer.body);
        }
        assert_eq!(off(&app.code()).location(), "/account");
        assert_eq!(off(&codes[0]).status, StatusCode::UNPROCESSABLE_ENTITY, "it is off");
        assert_eq!(house.anon().sign_in("ada", PASSWORD).location(), "/keys");
        let (_, codes) = switch_on(&house, &ada);
        assert_eq!(off(&codes[9]).location(), "/account");
        switch_on(&house, &ada);
        at_the_code(&house, "ada");
        assert_eq!(off(PASSWORD).location(), "/account");
        assert_eq!(house.anon().sign_in("ada", PASSWORD).location(), "/keys");

        switch_on(&house, &ada);
        sql(&house, "DELETE FROM sign_in_throttles");
        at_the_code(&house, "ada");
        let id = house.with(|c| users::find_by_name(c, "ada")).id;
        house.with(|c| users::reset_second_factor(c, id, &Actor::cli(), now_ms()));
        assert_eq!(house.anon().sign_in("ada", PASSWORD).location(), "/keys", "an admin can reset it");
        assert!(house.audit().contains(&"cli user.reset_second_factor".to_owned()));
    }
}

#[test]
fn a_password_that_looks_like_a_recovery_code_switches_it_off_and_costs_no_try_of_a_code() {
    for engine in engines() {
        let house = House::start(engine);
        let first = house.user("ada");
        let password = "mvqk-73bx-rwhn-c4dt";
        let fields = [("current_password", PASSWORD), ("new_password", password)];
        assert_eq!(first.post("/account/password", &fields).status, StatusCode::SEE_OTHER);
        let ada = house.anon();
        ada.sign_in("ada", password);
        let off = |typed: &str| ada.post("/account/second-factor/off", &[("code", typed)]);
        switch_on(&house, &ada);
        let failures =
            || house.audit().iter().filter(|event| event.ends_with("session.second_factor_failed")).count();
        assert_eq!(off(&password.replace('-', " ")).status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(failures(), 1, "neither a code nor the password");
        assert_eq!(off(password).location(), "/account");
        assert_eq!(failures(), 1);

        // Where no password is looked at any more, a right code still is.
        let (_, codes) = switch_on(&house, &ada);
        for _ in 0..10 {
            house.anon().sign_in("ada", "wrong");
        }
        assert_eq!(off(&codes[3]).location(), "/account");
    }
}

#[test]
fn after_an_hour_a_key_is_shown_only_for_a_code() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        let ada = house.user("ada");
        let id = make_key(&house, &ada, "laptop").0.id;
        let (copy, reveal) = (format!("/keys/{id}/copy"), format!("/keys/{id}/reveal"));
        age_sessions(&house);
        assert!(ada.post(&copy, &[]).body.contains("id=\"shown-secret\""), "who has none is never asked");
        let (app, _) = switch_on(&house, &ada);
        assert!(ada.post(&copy, &[]).body.contains("id=\"shown-secret\""), "a code was given just now");

        age_sessions(&house);
        for path in [&copy, &reveal] {
            let page = ada.post(path, &[]);
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.body.contains(&format!("id=\"confirm-form\" method=\"post\" action=\"{path}\"")));
            assert!(!page.body.contains("shown-secret"), "{}", page.body);
            let wrong = ada.post(path, &[("code", &app.wrong_code())]);
            assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(wrong.body.contains("id=\"code-error\"") && !wrong.body.contains("shown-secret"));
        }
        let asked = send(ada.form(&reveal, &[]).header("hx-request", "true"));
        assert_eq!((asked.header("hx-retarget"), asked.header("hx-reswap")), ("#dialog", "innerHTML"));
        assert!(asked.body.contains(&format!("hx-target=\"#key-secret-{id}\"")), "{}", asked.body);
        let events = house.audit();
        let shown = events.iter().filter(|event| event.contains("key.copy") || event.contains("key.reveal"));
        assert_eq!(shown.count(), 2, "{events:?}");

        let page = ada.post(&reveal, &[("code", &app.code())]);
        assert!(page.body.contains("id=\"shown-secret\""), "{}", page.body);
        assert!(ada.post(&copy, &[]).body.contains("id=\"shown-secret\""), "and not again for an hour");

        let (bobs_app, _) = switch_on(&house, &house.user("bob"));
        let bob = at_the_code(&house, "bob");
        give_code(&bob, &bobs_app.code());
        forget_steps(&house);
        age_sessions(&house);
        for code in [None, Some(bobs_app.code())] {
            let fields: Vec<(&str, &str)> = code.iter().map(|code| ("code", code.as_str())).collect();
            assert_eq!(
                bob.post(&reveal, &fields).status,
                StatusCode::NOT_FOUND,
                "another's key is not there"
            );
        }
    }
}

/// Switches it on by the dialog; gives the app and the recovery codes.
async fn switch_on_in(browser: &Browser) -> (App, Vec<String>) {
    browser.open("/account").await;
    browser.click("#second-factor-on").await;
    let secret = browser.find("#app-secret").await.attr("data-copy-text").await.expect("an attribute");
    let app = App::of(&secret.expect("a secret"));
    browser.focus_is_on("code").await;
    browser.fill("#code", &app.wrong_code()).await;
    browser.click("#dialog .btn-primary").await;
    browser.reads("#code-error", "This code is not right.").await;
    browser.fill("#code", &app.code()).await;
    browser.click("#dialog .btn-primary").await;
    let shown = browser.find("#recovery-codes").await.text().await.expect("text");
    browser.focus_is_on("recovery-codes").await;
    (app, shown.lines().map(str::to_owned).collect())
}

#[test]
fn a_person_switches_it_on_and_signs_in_with_it() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        browse(&house, DESKTOP, async |browser| {
            browser.allow_clipboard().await;
            browser.sign_in("ada").await;
            let (app, codes) = switch_on_in(&browser).await;
            assert_eq!(codes.len(), 10, "{codes:?}");
            browser.click("[data-copy-from=recovery-codes]").await;
            browser.reads("#toasts", "Copied the recovery codes").await;
            assert_eq!(browser.clipboard().await, codes.join("\n"));
            let file = "return decodeURIComponent(document.querySelector('#download-codes').href)";
            let file = browser.script(file).await;
            assert!(file.as_str().is_some_and(|text| codes.iter().all(|code| text.contains(code))), "{file}");
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            browser.reads("#second-factor", "10 recovery codes are left").await;
            browser.gone("#nudge").await;

            forget_steps(&house);
            browser.click(".shell-person form button").await;
            browser.fill("#name", "ada").await;
            browser.fill("#password", PASSWORD).await;
            browser.click("form button[type=submit]").await;
            browser.focus_is_on("code").await;
            browser.fill("#code", &app.wrong_code()).await;
            browser.click("form .btn-primary").await;
            browser.reads("#code-error", "This code is not right.").await;
            browser.fill("#code", &app.code()).await;
            browser.click("form .btn-primary").await;
            browser.find("#key-list").await;

            browser.click(".shell-person form button").await;
            browser.fill("#name", "ada").await;
            browser.fill("#password", PASSWORD).await;
            browser.click("form button[type=submit]").await;
            browser.fill("#code", &codes[0]).await;
            browser.click("form .btn-primary").await;
            browser.find("#key-list").await;

            browser.open("/account").await;
            browser.reads("#second-factor", "9 recovery codes are left").await;
            browser.click("#new-codes").await;
            browser.fill("#code", &codes[1]).await;
            browser.click("#dialog .btn-primary").await;
            browser.reads("#dialog-title", "Your new recovery codes").await;
            browser.focus_is_on("recovery-codes").await;
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.click("#second-factor-off").await;
            browser.fill("#code", PASSWORD).await;
            browser.click("#dialog .btn-danger").await;
            browser.gone("#dialog").await;
            browser.reads("#toasts", "Two-factor sign-in is off.").await;
            browser.find("#second-factor-on").await;
        });
    }
}

#[test]
fn a_key_is_copied_and_revealed_in_one_go_after_the_code() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        let (key, secret) = make_key(&house, &house.user("ada"), "laptop");
        let (copy, reveal) = (format!("#copy-{}", key.id), format!("#reveal-{}", key.id));
        browse(&house, DESKTOP, async |browser| {
            browser.allow_clipboard().await;
            browser.sign_in("ada").await;
            let (app, _) = switch_on_in(&browser).await;
            browser.open("/keys").await;
            browser.script("window.untouched = true").await;

            forget_steps(&house);
            age_sessions(&house);
            browser.click(&reveal).await;
            browser.reads("#dialog-title", "Is it you?").await;
            browser.focus_is_on("code").await;
            browser.fill("#code", "1").await;
            browser.click("#dialog .btn-primary").await;
            browser.reads("#code-error", "Enter the 6 digits").await;
            browser.fill("#code", &app.code()).await;
            browser.click("#dialog .btn-primary").await;
            browser.gone("#dialog").await;
            browser.reads(".key-whole", &secret).await;
            browser.focus_is_on(&reveal[1..]).await;
            browser.click(&reveal).await;
            browser.gone(".key-whole").await;
            browser.click(&reveal).await;
            browser.reads(".key-whole", &secret).await;
            browser.click(&reveal).await;
            browser.gone(".key-whole").await;

            forget_steps(&house);
            age_sessions(&house);
            browser.script("return navigator.clipboard.writeText('something else')").await;
            browser.click(&copy).await;
            browser.reads("#dialog-title", "Is it you?").await;
            browser.fill("#code", &app.wrong_code()).await;
            browser.click("#dialog .btn-primary").await;
            browser.reads("#code-error", "This code is not right.").await;
            assert_eq!(browser.clipboard().await, "something else");
            browser.fill("#code", &app.code()).await;
            browser.click("#dialog .btn-primary").await;
            browser.reads("#toasts", "Copied the key “laptop”").await;
            browser.gone("#dialog").await;
            assert_eq!(browser.clipboard().await, secret);
            browser.focus_is_on(&copy[1..]).await;
            assert_eq!(browser.script("return window.untouched").await, json!(true), "no page was loaded");
        });
    }
}

#[test]
fn without_javascript_the_code_is_a_page_on_the_way_to_the_key() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        let (key, secret) = make_key(&house, &house.user("ada"), "laptop");
        browse(&house, Kind { javascript: false, ..PHONE }, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/account").await;
            browser.click("#nudge-set-up").await;
            let secret_of_app = browser.find("#app-secret").await.attr("data-copy-text").await;
            let app = App::of(&secret_of_app.expect("an attribute").expect("a secret"));
            browser.fill("#code", &app.code()).await;
            browser.click(".whole-page .btn-primary").await;
            browser.find("#recovery-codes").await;
            forget_steps(&house);
            age_sessions(&house);
            browser.open("/keys").await;
            browser.click(&format!("#copy-{}", key.id)).await;
            browser.fill("#code", &app.code()).await;
            browser.click(".whole-page .btn-primary").await;
            assert_eq!(browser.value("#shown-secret").await, secret);
            browser.assert_no_sideways_scroll("the key").await;
        });
    }
}
