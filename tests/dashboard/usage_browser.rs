//! The Usage page in a real Chromium, and the days of Audit.

use super::support::browser::{DESKTOP, Kind, browse};
use super::support::{House, engines};
use serde_json::json;

/// What a keyboard types into a date of en-US.
const FROM: &str = "01022026";
const TO: &str = "03042026";

#[test]
fn two_days_are_typed_in_peace_and_applied_by_enter_or_the_button() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("ada", false);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/usage").await;
            browser.script("window.untouched = true").await;
            browser.gone("#usage-apply").await;
            browser.find("#usage-range").await.send_keys("Between").await.expect("a choice");
            browser.find("#usage-apply").await;
            browser.focus_is_on("usage-range").await;
            browser.script("window.field = document.querySelector('#usage-from')").await;
            let asked = "return performance.getEntriesByType('resource').filter((it) => it.name.includes('/usage?')).length";
            let before = browser.script(asked).await;
            browser.find("#usage-from").await.send_keys(FROM).await.expect("a day");
            browser.find("#usage-to").await.send_keys(TO).await.expect("a day");
            assert_eq!(browser.value("#usage-from").await, "2026-01-02");
            assert_eq!(browser.value("#usage-to").await, "2026-03-04");
            browser.focus_is_on("usage-to").await;
            assert_eq!(browser.script("return window.field.isConnected").await, json!(true));
            assert_eq!(browser.script(asked).await, before, "nothing is asked for while it is typed");

            let enter = thirtyfour::Key::Enter + "";
            browser.find("#usage-to").await.send_keys(enter).await.expect("a key press");
            let between = "?range=between&from=2026-01-02&to=2026-03-04";
            browser.becomes("return location.search", json!(between)).await;
            browser.focus_is_on("usage-to").await;
            browser.find("#usage-from").await.send_keys("02").await.expect("a month");
            browser.click("#usage-apply").await;
            browser.becomes("return location.search", json!(between.replace("01-02", "02-02"))).await;
            browser.focus_is_on("usage-apply").await;

            // Any other choice applies by itself, and takes the days along that stand there.
            browser.find("#usage-from").await.send_keys("01").await.expect("a month");
            browser.find("#usage-by").await.send_keys("Stacked by key").await.expect("a choice");
            browser.becomes("return location.search", json!(format!("{between}&by=key"))).await;
            browser.find("#usage-range").await.send_keys("7").await.expect("a choice");
            browser.becomes("return location.search", json!("?range=7d&by=key")).await;
            browser.gone("#usage-apply").await;
            assert_eq!(browser.script("return window.untouched").await, json!(true), "no page was loaded");

            // A day to come is in nobody's way, and one without its month leaves the other.
            browser.open(&format!("/usage{between}")).await;
            browser.find("#usage-to").await.send_keys("03042099").await.expect("a day");
            browser.find("#usage-by").await.send_keys("Stacked by key").await.expect("a choice");
            let later = "?range=between&from=2026-01-02&to=2099-03-04&by=key";
            browser.becomes("return location.search", json!(later)).await;
            let typed = browser.find("#usage-from").await;
            typed.send_keys(thirtyfour::Key::Delete + "").await.expect("a key press");
            assert_eq!(browser.value("#usage-from").await, "");
            browser.click("#usage-apply").await;
            let last_30_days = "?range=between&from=2099-02-03&to=2099-03-04&by=key";
            browser.becomes("return location.search", json!(last_30_days)).await;
            assert_eq!(browser.value("#usage-from").await, "2099-02-03");
        });
        browse(&house, Kind { javascript: false, ..DESKTOP }, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/usage?range=between").await;
            browser.find("#usage-range").await.send_keys("Between").await.expect("a choice");
            browser.find("#usage-from").await.send_keys(FROM).await.expect("a day");
            browser.find("#usage-to").await.send_keys(TO).await.expect("a day");
            browser.click("#usage-apply").await;
            browser.find("#usage-list").await;
            assert!(browser.path().await.contains("range=between&from=2026-01-02&to=2026-03-04"));
            browser.gone("#usage-cut").await;
            browser.open("/usage?range=between&from=2020-01-01&to=2026-03-04").await;
            browser.reads("#usage-cut", "At most 366 days are shown.").await;
            assert_eq!(browser.value("#usage-from").await, "2025-03-04");
        });
    }
}

#[test]
fn the_days_of_audit_are_typed_in_peace_and_applied_by_enter_or_the_button() {
    for engine in engines() {
        let house = House::start(engine);
        house.add_user("root", true);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("root").await;
            browser.open("/audit").await;
            let asked = "return performance.getEntriesByType('resource').filter((it) => it.name.includes('/audit?')).length";
            browser.find("#audit-from").await.send_keys(FROM).await.expect("a day");
            browser.find("#audit-until").await.send_keys(TO).await.expect("a day");
            assert_eq!(browser.value("#audit-until").await, "2026-03-04");
            assert_eq!(browser.script(asked).await, json!(0), "nothing is asked for while it is typed");
            browser.click("#audit-apply").await;
            let days = "?from=2026-01-02&until=2026-03-04";
            browser.becomes("return location.search", json!(days)).await;
            browser.find("#audit-from").await.send_keys("02").await.expect("a month");
            let enter = thirtyfour::Key::Enter + "";
            browser.find("#audit-from").await.send_keys(enter).await.expect("a key press");
            browser.becomes("return location.search", json!(days.replace("01-02", "02-02"))).await;
            // Any menu applies by itself.
            browser.find("#audit-kind").await.send_keys("Users").await.expect("a choice");
            let narrower = format!("?kind=user&{}", days[1..].replace("01-02", "02-02"));
            browser.becomes("return location.search", json!(narrower)).await;
            // Also while a day has no month.
            let typed = browser.find("#audit-from").await;
            typed.send_keys(thirtyfour::Key::Delete + "").await.expect("a key press");
            browser.find("#audit-kind").await.send_keys("Keys").await.expect("a choice");
            browser.becomes("return location.search", json!("?kind=key&until=2026-03-04")).await;
        });
    }
}
