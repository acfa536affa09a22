//! Users and groups in a real Chromium, clicked through as an admin does.

use super::keys::furnish;
use super::models::seed;
use super::support::browser::{Browser, DESKTOP, Kind, PHONE, browse};
use super::support::{Engine, House, PASSWORD, engines};
use keyhouse::domain::key::KeyDraft;
use keyhouse::store::users;
use serde_json::json;

fn house(engine: Engine) -> House {
    let house = House::start(engine);
    furnish(&house);
    house.add_user("root", true);
    house
}

async fn create(browser: &Browser, name: &str, credits: &str) -> String {
    browser.click("#create-user").await;
    browser.fill("#form-name", name).await;
    browser.fill("#form-credits", credits).await;
    browser.click("form[action='/users/new'] button[type=submit]").await;
    browser.value("#sign-in-link").await
}

#[test]
fn an_admin_makes_grants_disables_and_deletes_a_user() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser.allow_clipboard().await;
            browser.sign_in("root").await;
            browser.open("/users").await;
            browser.script("window.untouched = true").await;

            // A refusal first: it stands beside its field.
            browser.click("#create-user").await;
            browser.focus_is_on("form-name").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#name-error", "Enter a name").await;
            browser.focus_is_on("form-name").await;
            browser.fill("#form-name", "ada").await;
            browser.click("#dialog button[type=submit]").await;
            let link = browser.value("#sign-in-link").await;
            browser.click("[data-copy-from=sign-in-link]").await;
            browser.reads("#toasts", "Copied the sign-in link").await;
            assert_eq!(browser.clipboard().await, link);
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            let id = house.with(|c| users::find_by_name(c, "ada")).id;
            browser.reads(&format!("#user-{id}"), "ada").await;

            // Credits, with the balance that they would leave.
            browser.click(&format!("#user-grant-{id}")).await;
            browser.fill("#form-amount", "-5").await;
            browser.reads("[data-balance-after]", "-5").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#amount-error", "has only 0.000000 credits").await;
            browser.fill("#form-amount", "1250.5").await;
            browser.reads("[data-balance-after]", "1\u{202F}250.5").await;
            browser.fill("#form-note", "March").await;
            browser.click("#dialog button[type=submit]").await;
            browser.gone("#dialog").await;
            browser.reads("#toasts", "0 before, 1\u{202F}250.5 now").await;
            browser.reads(&format!("#user-{id}"), "1\u{202F}250.5").await;
            browser.focus_is_on(&format!("user-grant-{id}")).await;

            // The switch, there and back.
            browser.click(&format!("#user-switch-{id}")).await;
            browser.reads(&format!("#user-{id}"), "Disabled").await;
            browser.focus_is_on(&format!("user-switch-{id}")).await;
            browser.click(&format!("#user-switch-{id}")).await;
            browser.reads(&format!("#user-{id}"), "Active").await;
            browser.fill("#user-search", "nobody").await;
            browser.reads("#user-list", "No user matches").await;
            assert_eq!(browser.path().await, "/users?q=nobody");
            assert_eq!(browser.script("return window.untouched").await, json!(true), "no page was loaded");

            // Their own page.
            browser.open(&format!("/users/{id}")).await;
            browser.reads("#grant-list", "March").await;
            browser.click("#person-admin").await;
            browser.reads("#person h1", "Admin").await;
            browser.focus_is_on("person-admin").await;
            browser.click("#person-admin").await;
            browser.reads("#person-admin", "Make an admin").await;
            browser.click("#person-reset").await;
            browser.click("#dialog button[type=submit]").await;
            assert_ne!(browser.value("#sign-in-link").await, link, "another link");
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            browser.click("#person-delete").await;
            browser.reads("#dialog", "Delete “ada”?").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#toasts", "Deleted “ada”").await;
            assert_eq!(browser.path().await, "/users");
        });
    }
}

#[test]
fn users_and_groups_are_managed_without_javascript() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, Kind { javascript: false, ..DESKTOP }, async |browser| {
            browser.sign_in("root").await;
            browser.open("/users").await;
            let link = create(&browser, "ada", "5").await;
            assert!(link.contains("/welcome?token="), "{link}");
            browser.click(".dialog-footer a").await;
            let id = house.with(|c| users::find_by_name(c, "ada")).id;
            browser.click(&format!("#user-switch-{id}")).await;
            browser.reads(&format!("#user-{id}"), "Disabled").await;
            browser.click(&format!("#user-open-{id}")).await;
            browser.click("#person-enabled").await;
            browser.reads("#person-enabled", "Disable").await;
            browser.click("#person-grant").await;
            browser.fill("#form-amount", "-2").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#toasts", "5 before, 3 now").await;
            browser.reads("#grant-list", "-2").await;
            let keys = [(); 2].map(|()| seed(&house).key(id, &KeyDraft::default()).id);
            browser.open(&format!("/users/{id}")).await;
            browser.click(&format!("#delete-{}", keys[0])).await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#toasts", "Deleted “test” of ada").await;
            assert_eq!(browser.path().await, format!("/users/{id}"));
            browser.open("/all-keys?q=ada").await;
            browser.click(&format!("#delete-{}", keys[1])).await;
            browser.click(".whole-page .dialog-footer a").await;
            browser.click(&format!("#delete-{}", keys[1])).await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#toasts", "Deleted “test” of ada").await;
            assert_eq!(browser.path().await, "/all-keys?q=ada");
            browser.open(&format!("/users/{id}")).await;
            browser.click("#person-delete").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#toasts", "Deleted “ada”").await;

            browser.open("/groups").await;
            browser.click("#create-group").await;
            browser.fill("#form-name", "gold").await;
            browser.fill("#form-multiplier", "0").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#multiplier-error", "between 0.0001 and 1000").await;
            browser.fill("#form-multiplier", "2.5").await;
            browser.click("[name=who][value=chosen]").await;
            browser.fill("#form-users", "root").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#group-list", "1 chosen user").await;
        });
    }
}

#[test]
fn a_new_user_comes_in_by_the_link() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("root").await;
            browser.open("/users").await;
            let link = create(&browser, "ada", "").await;
            browser.driver.delete_all_cookies().await.expect("signed out");
            browser.driver.goto(&link).await.expect("the page opens");
            browser.fill("#password", PASSWORD).await;
            browser.click("form button[type=submit]").await;
            browser.reads(".shell-name", "ada").await;
        });
    }
}

#[test]
fn pages_of_admins_do_not_scroll_sideways_on_a_phone() {
    for engine in engines() {
        let house = house(engine);
        let id = house.add_user(&format!("w{}", "w".repeat(63)), true);
        browse(&house, PHONE, async |browser| {
            browser.sign_in("root").await;
            for path in [
                "/users",
                "/users/new",
                "/groups",
                "/groups/new",
                "/all-keys",
                "/audit",
                "/audit?actor=nobody",
            ] {
                browser.open(path).await;
                browser.assert_no_sideways_scroll(path).await;
            }
            for part in ["", "/grant", "/delete", "/reset-password"] {
                let path = format!("/users/{id}{part}");
                browser.open(&path).await;
                browser.assert_no_sideways_scroll(&path).await;
            }
        });
    }
}
