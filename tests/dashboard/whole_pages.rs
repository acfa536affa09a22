//! Dialogs that are opened as pages of their own, with JavaScript: from a bookmark, in a new tab.

use super::keys::{furnish, keys_of, make_key};
use super::support::browser::{DESKTOP, browse};
use super::support::{House, engines};
use keyhouse::store::users;
use serde_json::json;

#[test]
fn a_key_is_made_changed_and_deleted_on_pages_of_their_own() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        house.add_user("ada", false);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/keys/new").await;
            browser.click(".dialog-footer [data-close-dialog]").await;
            browser.reads("#key-list", "No API keys yet").await;
            browser.open("/keys/new").await;
            browser.click(".dialog-header [data-close-dialog]").await;
            browser.find("#key-list").await;

            // What the scripts help with, helps here too; a refusal stands on the page and not over it.
            browser.open("/keys/new").await;
            browser.click("[data-days='30']").await;
            assert_ne!(browser.value("#key-form-expires").await, "");
            browser.click(".whole-page button[type=submit]").await;
            browser.reads(".whole-page #name-error", "The name is missing.").await;
            assert_eq!(browser.script("return document.querySelector('#dialog').open").await, json!(false));
            browser.fill("#key-form-name", "bookmarked").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.find(".whole-page #created-secret").await;
            browser.find("[data-copy-from=created-secret]").await;
            browser.click(".dialog-footer [data-close-dialog]").await;
            browser.reads("#key-list", "bookmarked").await;
            let keys = keys_of(&house, "ada");
            assert_eq!(keys.len(), 1);
            assert!(keys[0].expires_at_ms.is_some());

            browser.open(&format!("/keys/{}/edit", keys[0].id)).await;
            browser.fill("#key-form-name", "renamed").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#key-list", "renamed").await;
            browser.find("#toasts [data-toast=success]").await;
            assert_eq!(browser.path().await, "/keys");
            browser.open(&format!("/keys/{}/delete", keys[0].id)).await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#key-list", "No API keys yet").await;
            assert!(keys_of(&house, "ada").is_empty());
        });
    }
}

#[test]
fn an_admin_s_forms_are_sent_once_and_left() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        let (key, _) = make_key(&house, &house.user("ada"), "laptop");
        house.add_user("root", true);
        let ada = house.with(|c| users::find_by_name(c, "ada")).id;
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("root").await;
            browser.open(&format!("/users/{ada}/grant")).await;
            browser.fill("#form-amount", "5").await;
            browser.reads("[data-balance-after]", "5").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#toasts", "0 before, 5 now").await;
            browser.gone("#form-amount").await;
            assert_eq!(browser.path().await, format!("/users/{ada}"));

            browser.open("/groups/new").await;
            browser.fill("#form-name", "gold").await;
            browser.fill("#form-multiplier", "2").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#group-list", "gold").await;
            assert_eq!(browser.path().await, "/groups");

            browser.open(&format!("/all-keys/{}/delete", key.id)).await;
            browser.click(".whole-page button[type=submit]").await;
            browser.find("#toasts [data-toast=success]").await;
            assert!(browser.path().await.starts_with("/all-keys"));
            assert!(keys_of(&house, "ada").is_empty());
        });
        assert_eq!(house.with(|c| users::find(c, ada)).balance_micros, 5_000_000);
    }
}
