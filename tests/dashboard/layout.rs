//! Pages with long names and large numbers, at the widths that are narrow for them; and pages without scripts.

use super::keys::{furnish, make_key};
use super::models::seed;
use super::support::browser::{Browser, DESKTOP, Kind, PHONE, browse};
use super::support::{House, engines};
use super::usage::Site;
use keyhouse::clock::now_ms;
use keyhouse::domain::charge::ChargeStatus;
use keyhouse::domain::price::Price;
use keyhouse::store::audit::Actor;
use keyhouse::store::past::PastCall;
use keyhouse::store::{keys, upstreams};
use serde_json::json;

/// Whether what is in each of these is cut off or sticks out.
async fn assert_room(browser: &Browser, css: &str, what: &str) {
    browser.find(css).await;
    let script = format!(
        "return [...document.querySelectorAll('{css}')].filter((it) => it.scrollWidth > it.clientWidth).length"
    );
    assert_eq!(browser.script(&script).await, json!(0), "{css} has no room: {what}");
}

#[test]
fn long_names_and_large_numbers_find_room_on_usage_and_overview() {
    for engine in engines() {
        let site = Site::new(engine);
        site.house.add_user("root", true);
        let (key, _) = make_key(&site.house, &site.ada, &"w".repeat(100));
        seed(&site.house).grant(site.ada_id, "9000000");
        let dear = 4_123_456_789_012;
        site.store(vec![PastCall {
            key_id: key.id,
            settled_micros: dear,
            held_micros: dear,
            ..site.call(0, "gpt-4o", ChargeStatus::Complete, 5)
        }]);
        browse(&site.house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            for width in [360, 768, 1024, 1440] {
                browser.set_size(width, 900).await;
                browser.open("/usage").await;
                browser.reads("#usage-key", &key.name).await;
                browser.assert_no_sideways_scroll(&format!("{width}")).await;
                browser.open("/usage?range=between&from=2026-10-10&to=2026-12-30").await;
                browser.find("#usage-to").await;
                browser.assert_no_sideways_scroll(&format!("{width}, between two days")).await;
            }
            browser.sign_in_as("root", super::support::PASSWORD).await;
            for width in [768, 1000, 1100] {
                browser.set_size(width, 900).await;
                browser.open("/overview").await;
                assert_room(&browser, ".overview-top .usage-receipt", &format!("{width}")).await;
            }
        });
    }
}

#[test]
fn long_names_of_users_find_room_at_their_keys_and_usage() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        house.add_user("root", true);
        let name = "w".repeat(64);
        let (key, _) = make_key(&house, &house.user(&name), "laptop");
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("root").await;
            for width in [360, 768, 1024, 1300, 1440] {
                browser.set_size(width, 900).await;
                for path in ["/all-keys".into(), format!("/users/{}", key.user_id)] {
                    browser.open(&path).await;
                    let row = format!(".data-table-box:has(#key-{})", key.id);
                    assert_room(&browser, &row, &format!("{path} at {width}")).await;
                }
                let path = format!("/usage?user={}", key.user_id);
                browser.open(&path).await;
                browser.assert_no_sideways_scroll(&format!("{path} at {width}")).await;
            }
        });
    }
}

#[test]
fn long_names_and_large_numbers_find_room_in_the_catalog() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("root", true);
        let name = "w".repeat(60);
        let seed = seed(&house);
        let upstream = seed.echo(&name, 0);
        let model = seed.model("parrot", Price { input_micros: 1, ..Price::FREE }, 100, &[upstream]);
        let key = super::models::caller(&house);
        assert_eq!(super::models::call(&house, &key, "parrot").0, 200);
        assert_eq!(house.with(|c| upstreams::find_by_name(c, &name)).id, upstream);
        browse(&house, PHONE, async |browser| {
            browser.sign_in("root").await;
            for width in [360, 768, 1024] {
                browser.set_size(width, 900).await;
                let path = format!("/upstreams/{upstream}");
                browser.open(&path).await;
                browser.assert_no_sideways_scroll(&format!("{path} at {width}")).await;
            }
            browser.set_size(PHONE.width, PHONE.height).await;
            browser.open(&format!("/models/{model}")).await;
            browser.click("[data-main-action]").await;
            browser.fill("#form-input", "987654321.123456").await;
            browser.click("#dialog [value=preview]").await;
            browser.reads("#price-preview", "At this price").await;
            assert_room(&browser, "#price-preview, #price-preview *, #dialog .dialog-body", "360").await;
        });
    }
}

#[test]
fn dialogs_have_room_on_a_phone() {
    for engine in engines() {
        let house = House::start(engine);
        furnish(&house);
        let (key, _) = make_key(&house, &house.user("ada"), "laptop");
        browse(&house, PHONE, async |browser| {
            browser.sign_in("ada").await;
            // The example price of the group that is chosen, whole.
            browser.click("#create-key").await;
            browser.reads(".key-example", "gpt-4o: 2.5 in, 10 out per 1M tokens").await;
            browser.find("#key-form-group").await.send_keys("premium").await.expect("a choice");
            browser.reads(".key-example", "gpt-4o: 5 in, 20 out per 1M tokens").await;

            // Two who edit the same key: what is in the way is read without a break in a word.
            browser.open("/keys").await;
            browser.click(&format!("#edit-{}", key.id)).await;
            browser.fill("#key-form-name", &"n".repeat(100)).await;
            browser.fill("#key-form-limit", "7").await;
            browser.click("[data-days='365']").await;
            house.with(|c| keys::set_enabled(c, key.user_id, key.id, false, &Actor::cli(), now_ms()));
            browser.click("#dialog button[type=submit]").await;
            browser.find("#key-conflict").await;
            let broken = "return [...document.querySelectorAll('.key-differences th')].filter((head) => { const words = document.createRange(); words.selectNodeContents(head); return words.getClientRects().length > 1 }).length";
            assert_eq!(browser.script(broken).await, json!(0));
            assert_room(&browser, "#dialog .dialog-body", "a conflict").await;

            browser.open("/account").await;
            browser.click("#second-factor-on").await;
            assert_room(&browser, "#app-secret, #dialog .dialog-body", "the secret").await;
            browser.allow_clipboard().await;
            browser.click("[data-copy-from=app-secret]").await;
            browser.reads("#toasts", "Copied the secret").await;
            let shown = browser.find("#app-secret").await.text().await.expect("text");
            assert_eq!(browser.clipboard().await, shown.replace(' ', ""));
        });
    }
}

#[test]
fn without_scripts_pages_are_dark_where_the_system_is() {
    let house = House::start(super::support::Engine::Sqlite);
    house.add_user("ada", false);
    let colours = |javascript: bool| {
        let mut seen = Vec::new();
        browse(&house, Kind { javascript, ..DESKTOP }, async |browser| {
            browser.sign_in("ada").await;
            for scheme in ["light", "dark"] {
                let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                browser.devtools("Emulation.setEmulatedMedia", feature).await;
                for path in ["/account", "/keys/new"] {
                    browser.open(path).await;
                    for css in ["body", "h2", ".card", ".shell-side", ".btn-primary"] {
                        let element = browser.find(css).await;
                        for property in ["color", "background-color", "border-color"] {
                            seen.push(element.css_value(property).await.expect("a style"));
                        }
                    }
                }
            }
        });
        seen
    };
    let (with, without) = (colours(true), colours(false));
    assert_eq!(without, with);
    let (light, dark) = with.split_at(with.len() / 2);
    assert_ne!(light, dark);
}

#[test]
fn without_scripts_no_card_is_empty_and_a_call_leads_back_to_its_list() {
    for engine in engines() {
        let site = Site::new(engine);
        site.store(vec![site.call(0, "gpt-4o", ChargeStatus::Complete, 5)]);
        browse(&site.house, Kind { javascript: false, ..DESKTOP }, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/usage?range=7d&model=gpt-4o").await;
            browser.find("#credits-title").await;
            browser.gone("#requests-title, #tokens-title").await;
            browser.click("[id^=charge-]").await;
            browser.click(".dialog-footer a").await;
            browser.find("#usage-list").await;
            assert_eq!(browser.path().await, "/usage?range=7d&model=gpt-4o");
        });
    }
}
