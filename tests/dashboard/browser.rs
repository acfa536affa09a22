//! The API Keys page in a real Chromium, clicked through as a person does.

use super::keys::{furnish, keys_of, only_key, seed};
use super::support::browser::{Browser, DESKTOP, Kind, PHONE, browse};
use super::support::{Engine, House, engines};
use keyhouse::clock::now_ms;
use keyhouse::domain::secret::KeySecret;
use serde_json::json;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn house(engine: Engine) -> House {
    let house = House::start(engine);
    furnish(&house);
    house.add_user("ada", false);
    house
}

/// Makes a key by the dialog, closes it, and gives the secret it showed.
async fn create(browser: &Browser, name: &str) -> String {
    browser.click("#create-key").await;
    browser.fill("#dialog [name=name]", name).await;
    browser.click("#dialog button[type=submit]").await;
    let secret = browser.value("#created-secret").await;
    assert!(KeySecret::parse(&secret).is_some(), "{secret}");
    browser.click("#dialog .dialog-footer [data-close-dialog]").await;
    browser.gone("#dialog").await;
    secret
}

async fn names(browser: &Browser) -> Vec<String> {
    let names = browser
        .script("return [...document.querySelectorAll('.row-title')].map((label) => label.textContent)")
        .await;
    serde_json::from_value(names).expect("names")
}

#[test]
fn a_key_lives_its_whole_life_without_a_page_load() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser.allow_clipboard().await;
            browser.sign_in("ada").await;
            browser.script("window.untouched = true").await;
            browser.reads("#key-list", "No API keys yet").await;

            // A refusal first: the focus goes to the field, what was typed stays.
            browser.click("#create-first-key").await;
            browser.focus_is_on("key-form-name").await;
            browser.fill("#key-form-limit", "1,5").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#name-error", "The name is missing.").await;
            browser.focus_is_on("key-form-name").await;
            assert_eq!(browser.value("#key-form-limit").await, "1,5");
            browser.fill("#key-form-name", "Web shop").await;
            browser.fill("#key-form-limit", "2.5").await;
            browser.click("[data-add-line]").await;
            browser.click("#dialog button[type=submit]").await;

            // The key, its Copy, and its row.
            let secret = browser.value("#created-secret").await;
            browser.reads("#snippet-curl", &secret).await;
            browser.click("[data-copy-from=created-secret]").await;
            browser.reads("#toasts", "Copied the key").await;
            assert_eq!(browser.clipboard().await, secret);
            browser.click("label[for=tab-python]").await;
            browser.reads("#snippet-python", "from openai import OpenAI").await;
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            browser.focus_is_on("create-key").await;
            assert_eq!(names(&browser).await, ["Web shop"]);
            browser.reads("tbody tr", "0 of 2.5").await;
            browser.reads("tbody tr", "127.0.0.1").await;
            let page = browser.driver.source().await.expect("HTML");
            assert!(!page.contains(&secret), "a closed dialog keeps no secret");

            // Copy, reveal, hide.
            let id = only_key(&house, "ada").id;
            browser.script("return navigator.clipboard.writeText('something else')").await;
            browser.click(&format!("#copy-{id}")).await;
            browser.reads("#toasts", "Copied the key “Web shop”").await;
            assert_eq!(browser.clipboard().await, secret);
            browser.click(&format!("#reveal-{id}")).await;
            browser.reads(".key-whole", &secret).await;
            browser.focus_is_on(&format!("reveal-{id}")).await;
            browser.click(&format!("#reveal-{id}")).await;
            browser.gone(".key-whole").await;

            // The switch, there and back.
            browser.click(&format!("#switch-{id}")).await;
            browser.reads(&format!("#key-{id}"), "Disabled").await;
            assert!(!only_key(&house, "ada").enabled);
            browser.focus_is_on(&format!("switch-{id}")).await;
            browser.click(&format!("#switch-{id}")).await;
            browser.reads(&format!("#key-{id}"), "Active").await;

            // Edit.
            browser.click(&format!("#edit-{id}")).await;
            browser.fill("#key-form-name", "Book shop").await;
            browser.click("#dialog [name=unlimited]").await;
            browser.click("#dialog button[type=submit]").await;
            browser.gone("#dialog").await;
            browser.reads(&format!("#key-{id}"), "Book shop").await;
            browser.reads(&format!("#key-{id}"), "Unlimited").await;
            browser.focus_is_on(&format!("edit-{id}")).await;

            // Delete: Escape keeps it, the button does not.
            browser.click(&format!("#delete-{id}")).await;
            browser.reads("#dialog", "Delete “Book shop”?").await;
            browser.reads("#dialog", "cannot be undone").await;
            let escape = thirtyfour::Key::Escape + "";
            browser.find("#dialog").await.send_keys(escape).await.expect("a key press");
            browser.gone("#dialog").await;
            browser.click(&format!("#delete-{id}")).await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#key-list", "No API keys yet").await;
            browser.gone("#dialog").await;
            assert!(keys_of(&house, "ada").is_empty());
            assert_eq!(browser.script("return window.untouched").await, json!(true), "no page was loaded");
        });
        let acts = house.audit();
        for act in ["key.create", "key.copy", "key.reveal", "key.disable", "key.update", "key.delete"] {
            assert!(acts.contains(&format!("ada {act}")), "{act} is missing in {acts:?}");
        }
    }
}

#[test]
fn everything_works_without_javascript() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, Kind { javascript: false, ..DESKTOP }, async |browser| {
            browser.sign_in("ada").await;
            browser.reads("#key-list", "No API keys yet").await;
            browser.click("#create-key").await;
            browser.reads(".whole-page", "The time is in UTC").await;
            browser.fill("[name=credit_limit]", "3").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#name-error", "The name is missing.").await;
            browser.reads("#credit_limit-error", "Untick Unlimited Credits").await;
            browser.fill("[name=name]", "Plain").await;
            browser.click("[name=unlimited]").await;
            browser.click(".whole-page button[type=submit]").await;
            let secret = browser.value("#created-secret").await;
            assert!(KeySecret::parse(&secret).is_some(), "{secret}");
            browser.click(".dialog-footer a").await;
            browser.reads("tbody tr", "0 of 3").await;
            let id = only_key(&house, "ada").id;
            for action in ["copy", "reveal"] {
                browser.click(&format!("#{action}-{id}")).await;
                assert_eq!(browser.value("#shown-secret").await, secret);
                browser.click(".dialog-footer a").await;
                browser.find("tbody tr").await;
            }
            browser.click(&format!("#switch-{id}")).await;
            browser.reads("tbody tr", "Disabled").await;
            browser.click(&format!("#edit-{id}")).await;
            browser.fill("[name=name]", "Still plain").await;
            browser.click("[name=enabled]").await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("tbody tr", "Still plain").await;
            browser.reads("tbody tr", "Active").await;
            browser.fill("#key-search", "nothing like it").await;
            browser.click(".filter-apply").await;
            browser.reads("#key-list", "No key matches").await;
            browser.click("#key-list a").await;
            browser.click(&format!("#delete-{id}")).await;
            browser.click(".whole-page button[type=submit]").await;
            browser.reads("#key-list", "No API keys yet").await;
        });
    }
}

#[test]
fn the_second_editor_is_told_and_decides() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            create(&browser, "shared").await;
            let id = only_key(&house, "ada").id;
            browser.click(&format!("#edit-{id}")).await;
            browser.fill("#key-form-name", "first tab").await;
            let first = browser.driver.window().await.expect("a window");
            let second = browser.driver.new_tab().await.expect("a tab");
            browser.driver.switch_to_window(second).await.expect("the other tab");
            browser.open("/keys").await;
            browser.click(&format!("#edit-{id}")).await;
            browser.fill("#key-form-name", "second tab").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads(&format!("#key-{id}"), "second tab").await;

            browser.driver.switch_to_window(first).await.expect("the first tab");
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#key-conflict", "Somebody else changed this key").await;
            browser.reads("#key-conflict", "second tab").await;
            browser.focus_is_on("key-conflict").await;
            assert_eq!(browser.value("#key-form-name").await, "first tab");
            assert_eq!(only_key(&house, "ada").name, "second tab");
            browser.click("#dialog button[type=submit]").await;
            browser.gone("#dialog").await;
            browser.reads(&format!("#key-{id}"), "first tab").await;
            assert_eq!(only_key(&house, "ada").name, "first tab");
        });
    }
}

#[test]
fn a_session_that_ends_under_a_form_loses_nothing_that_was_typed() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            browser.click("#create-key").await;
            browser.fill("#key-form-name", "typed at length").await;
            browser.driver.delete_all_cookies().await.expect("no session");
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#toasts", "Your session ended.").await;
            assert_eq!(browser.value("#dialog #key-form-name").await, "typed at length");
            let form = browser.driver.window().await.expect("a window");
            let tab = browser.driver.new_tab().await.expect("a tab");
            browser.driver.switch_to_window(tab).await.expect("the other tab");
            browser.sign_in("ada").await;
            browser.driver.switch_to_window(form).await.expect("the form");
            browser.click("#dialog button[type=submit]").await;
            browser.find("#dialog #created-secret").await;
            assert_eq!(only_key(&house, "ada").name, "typed at length");
        });
    }
}

#[test]
fn searching_sorting_and_paging_live_in_the_url() {
    for engine in engines() {
        let house = house(engine);
        seed(&house, "ada", 120);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            let newest = names(&browser).await;
            assert_eq!(newest.len(), 50);
            browser.click("#next-page").await;
            browser.becomes("return document.querySelector('#previous-page') !== null", json!(true)).await;
            assert!(browser.path().await.starts_with("/keys?after="));
            browser.focus_is_on("next-page").await;
            browser.click("#next-page").await;
            browser.becomes("return document.querySelector('#next-page') === null", json!(true)).await;
            browser.focus_is_on("previous-page").await;
            browser.driver.back().await.expect("back");
            browser.becomes("return document.querySelector('#next-page') !== null", json!(true)).await;
            browser.driver.back().await.expect("back");
            browser.becomes("return document.querySelector('#previous-page') === null", json!(true)).await;
            assert_eq!(names(&browser).await, newest);

            browser.click("#sort-1").await;
            browser.becomes("return location.search", json!("?sort=name")).await;
            browser.reads("th[aria-sort=ascending]", "NAME").await;
            assert_eq!(browser.value("#key-order").await, "name", "the menu follows");
            browser.click("#sort-1").await;
            browser
                .becomes("return document.querySelector('.row-title').textContent", json!("key 00119"))
                .await;

            browser.fill("#key-search", "KEY 0011").await;
            browser.becomes("return document.querySelectorAll('tbody tr').length", json!(10)).await;
            browser.focus_is_on("key-search").await;
            assert_eq!(browser.path().await, "/keys?q=KEY+0011&sort=-name");
            browser.script("document.querySelector('#key-status').value = 'disabled'; document.querySelector('#key-status').dispatchEvent(new Event('change', { bubbles: true }))").await;
            browser.reads("#key-list", "No key matches").await;
            browser.driver.refresh().await.expect("reloaded");
            browser.reads("#key-list", "No key matches").await;
            assert_eq!(browser.value("#key-search").await, "KEY 0011");
            assert_eq!(browser.value("#key-status").await, "disabled");
        });
    }
}

#[test]
fn nothing_scrolls_sideways_on_a_phone() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, PHONE, async |browser| {
            browser.sign_in("ada").await;
            browser.assert_no_sideways_scroll("the empty list").await;
            browser.click("#create-key").await;
            browser.fill("#key-form-name", &format!("W{}", "w".repeat(99))).await;
            let networks =
                "2001:db8:1111:2222:3333:4444:5555:0/112\n10.0.0.0/8\n192.0.2.1\n192.0.2.2\n192.0.2.3";
            browser.fill("#key-form-ips", networks).await;
            browser.fill("#key-form-patterns", &format!("m{}*", "o".repeat(120))).await;
            browser.click("[data-days='365']").await;
            browser.assert_no_sideways_scroll("the form").await;
            browser.click("#dialog button[type=submit]").await;
            browser.find("#created-secret").await;
            browser.assert_no_sideways_scroll("the new key").await;
            let sizes = "const dialog = document.querySelector('#dialog .dialog-body'); return dialog.scrollWidth - dialog.clientWidth";
            browser.becomes(sizes, json!(0)).await;
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            browser.reads("tbody tr", "and 3 more").await;
            browser.assert_no_sideways_scroll("the list").await;
            let id = only_key(&house, "ada").id;
            browser.click(&format!("#reveal-{id}")).await;
            browser.find(".key-whole").await;
            browser.assert_no_sideways_scroll("a revealed key").await;
            browser.click(&format!("#delete-{id}")).await;
            browser.find("#dialog form").await;
            browser.becomes(sizes, json!(0)).await;
        });
    }
}

#[test]
fn copying_works_where_browsers_offer_no_clipboard() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, Kind { by_name: true, ..DESKTOP }, async |browser| {
            browser.sign_in("ada").await;
            assert_eq!(browser.script("return navigator.clipboard === undefined").await, json!(true));
            let secret = create(&browser, "over plain HTTP").await;
            let id = only_key(&house, "ada").id;
            browser.click(&format!("#copy-{id}")).await;
            browser.reads("#toasts", "Copied the key “over plain HTTP”").await;
            let paste = thirtyfour::Key::Control + "v";
            browser.find("#key-search").await.send_keys(paste).await.expect("a key press");
            assert_eq!(browser.value("#key-search").await, secret);
            browser.fill("#key-search", "").await;
            browser.find(&format!("#copy-{id}")).await;

            // And where copying is refused altogether, the key is shown, selected.
            browser.script("document.execCommand = () => false").await;
            browser.click(&format!("#copy-{id}")).await;
            assert_eq!(browser.value("#dialog #shown-secret").await, secret);
            let selected =
                "const field = document.activeElement; return field.selectionEnd - field.selectionStart";
            browser.becomes(selected, json!(secret.len())).await;
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            browser.focus_is_on(&format!("copy-{id}")).await;
        });
    }
}

#[test]
fn dates_are_in_the_zone_of_their_reader() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser
                .devtools("Emulation.setTimezoneOverride", json!({ "timezoneId": "Australia/Adelaide" }))
                .await;
            browser.sign_in("ada").await;
            browser.click("#create-key").await;
            browser.reads("#expires-hint", "Australia/Adelaide").await;
            browser.fill("#key-form-name", "dated").await;
            browser.click("[data-days='7']").await;
            browser.click("#dialog button[type=submit]").await;
            browser.find("#created-secret").await;
            let key = only_key(&house, "ada");
            let distance_ms = key.expires_at_ms.expect("a date") - now_ms();
            assert!((7 * DAY_MS - distance_ms).abs() < 10 * 60_000, "{distance_ms}");
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;

            // A moment with seconds, left alone, stays that moment; typed anew, it is meant in the reader's zone.
            let exact_ms = key.expires_at_ms.expect("a date") + 12_345;
            super::keys::set_expiry(&house, key.id, exact_ms);
            browser.open("/keys").await;
            browser.click(&format!("#edit-{}", key.id)).await;
            browser.fill("#key-form-name", "renamed").await;
            browser.click("#dialog button[type=submit]").await;
            browser.gone("#dialog").await;
            browser.reads("tbody tr", "renamed").await;
            assert_eq!(only_key(&house, "ada").expires_at_ms, Some(exact_ms));
            browser.click(&format!("#edit-{}", key.id)).await;
            browser.find("#key-form-expires").await;
            browser
            .script("const field = document.querySelector('#key-form-expires'); field.value = '2099-06-01T12:00'; field.dispatchEvent(new Event('input', { bubbles: true }))")
            .await;
            browser.click("#dialog button[type=submit]").await;
            browser.gone("#dialog").await;
            browser.reads("tbody tr", "Jun 1, 2099").await;
            // 2099-06-01T02:30:00Z
            assert_eq!(only_key(&house, "ada").expires_at_ms, Some(4_083_964_200_000));
        });
    }
}

#[test]
fn what_takes_a_moment_shows_that_it_is_on_its_way() {
    let house = house(Engine::Sqlite);
    browse(&house, DESKTOP, async |browser| {
        browser.sign_in("ada").await;
        let bar = "return getComputedStyle(document.body, '::before').animationName";
        assert_eq!(browser.script(bar).await, json!("none"));
        browser.devtools("Network.enable", json!({})).await;
        let slow =
            json!({ "offline": false, "latency": 2000, "downloadThroughput": -1, "uploadThroughput": -1 });
        browser.devtools("Network.emulateNetworkConditions", slow).await;
        browser.click("#create-key").await;
        browser.becomes(bar, json!("on-its-way")).await;
        let busy = "return document.getElementById('dialog').ariaBusy";
        assert_eq!(browser.script(busy).await, json!("true"));
        browser.find("#key-form-name").await;
        browser.becomes(bar, json!("none")).await;
        browser.becomes(busy, serde_json::Value::Null).await;
    });
}
