//! Models and upstreams in a real Chromium, clicked through as an admin does.

use super::models::seed;
use super::support::browser::{Browser, DESKTOP, Kind, PHONE, browse};
use super::support::upstream::{Act, Upstream};
use super::support::{Engine, House, engines};
use keyhouse::store::models;
use serde_json::json;
use std::io::Write;

const LIST: &str = include_str!("../support/prices.json");

fn house(engine: Engine) -> House {
    let house = House::start(engine);
    house.add_user("root", true);
    seed(&house).echo("echo", 0);
    house
}

async fn choose(browser: &Browser, css: &str, value: &str) {
    browser.find(css).await;
    browser.script(&format!("document.querySelector('{css}').value = '{value}'")).await;
}

#[test]
fn a_model_is_made_with_a_route_and_priced_after_a_preview() {
    for engine in engines() {
        let house = house(engine);
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("root").await;
            browser.open("/models").await;
            browser.click("#create-model").await;
            browser.focus_is_on("form-name").await;
            browser.fill("#form-name", "parrot").await;
            browser.fill("#form-input", "1,5").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#input-error", "plain number").await;
            browser.focus_is_on("form-input").await;
            assert_eq!(browser.value("#form-name").await, "parrot");
            browser.fill("#form-input", "1.5").await;
            browser.fill("#form-output", "3").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("h1", "parrot").await;
            browser.reads("#toasts", "Created “parrot”").await;
            browser.reads("main", "1.5 in, 3 out per 1M tokens").await;

            browser.click("[data-main-action]").await;
            browser.fill("#form-input", "2").await;
            browser.click("#dialog [value=preview]").await;
            browser.reads("#price-preview", "no calls in the last 30 days").await;
            browser.focus_is_on("price-preview").await;
            browser.click("#dialog [value=set]").await;
            browser.reads("#toasts", "“parrot” has a new price").await;
            browser.reads("main", "2 in, 3 out per 1M tokens").await;

            browser.click("[id^=hide-]").await;
            browser.reads("main", "Calls to it work as before").await;
            browser.click("[id^=delete-]").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#model-list", "No models yet").await;
        });
    }
}

#[test]
fn a_price_list_is_imported_after_a_preview_with_and_without_javascript() {
    for engine in engines() {
        for javascript in [true, false] {
            let house = house(engine);
            let mut file = tempfile::NamedTempFile::with_suffix(".json").expect("a file");
            file.write_all(LIST.as_bytes()).expect("written");
            browse(&house, Kind { javascript, ..DESKTOP }, async |browser| {
                browser.sign_in("root").await;
                browser.open("/models/import").await;
                let path = file.path().to_str().expect("a path");
                browser.find("#form-file").await.send_keys(path).await.expect("a file is chosen");
                browser.click("main button[type=submit]").await;
                browser.reads("main", "the 9 models of the list").await;
                let provider = browser.find("#form-provider").await;
                provider.send_keys("acme").await.expect("chosen");
                browser.click("main form[method=get] button").await;
                browser.reads("#import-summary", "6 new").await;
                browser.click("#import-plan .card-header button").await;
                browser.reads("#toasts", "Made 5 models, set 0 prices").await;
            });
            let names: Vec<String> =
                house.with(models::list).into_iter().map(|(model, _)| model.name).collect();
            assert_eq!(names, ["acme-embed", "acme-large", "acme-paint", "acme-small", "acme/mini"]);
        }
    }
}

#[test]
fn an_upstream_is_made_tested_and_switched() {
    for engine in engines() {
        let house = house(engine);
        let upstream = Upstream::start(Act::json(200, json!({"data": [{"id": "one"}]}).to_string()));
        browse(&house, DESKTOP, async |browser| {
            browser.sign_in("root").await;
            browser.open("/upstreams").await;
            browser.click("#create-upstream").await;
            browser.fill("#form-name", "local").await;
            browser.fill("#form-base_url", &upstream.url).await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("#base_url-error", "allow private addresses").await;
            browser.click("#dialog [name=allow_private]").await;
            browser.fill("#form-secret", "sk-secret").await;
            browser.click("#dialog button[type=submit]").await;
            browser.reads("h1", "local").await;
            browser.click("[id^=test-]").await;
            browser.reads("#test-answer", "It offers 1 models: one").await;
            browser.click("#dialog .btn-primary").await;
            browser.gone("#dialog").await;
            browser.open("/upstreams").await;
            browser.click("tr:last-child .switch").await;
            browser.reads("tbody tr:last-child", "Out of rotation").await;
            browser.becomes("return document.activeElement.className", json!("switch")).await;
            // The echo has a pace and nothing else.
            browser.click("#create-upstream").await;
            browser.find("#form-base_url").await;
            choose(&browser, "#form-dialect", "echo").await;
            browser.find("#form-pace_ms").await;
            browser.gone("#form-base_url").await;
        });
    }
}

#[test]
fn the_catalog_does_not_scroll_sideways_on_a_phone() {
    for engine in engines() {
        let house = house(engine);
        let echo = house.with(|c| keyhouse::store::upstreams::find_by_name(c, "echo")).id;
        let long = format!("vendor/{}", "m".repeat(120));
        let id = seed(&house).model(&long, keyhouse::domain::price::Price::FREE, 10, &[echo]);
        browse(&house, PHONE, async |browser| {
            browser.sign_in("root").await;
            for path in [
                "/models",
                "/upstreams",
                "/models/import",
                &format!("/models/{id}"),
                &format!("/upstreams/{echo}"),
            ] {
                browser.open(path).await;
                browser.assert_no_sideways_scroll(path).await;
            }
            for path in
                [format!("/models/{id}/price"), format!("/models/{id}/delete"), "/upstreams/new".into()]
            {
                browser.open(&path).await;
                browser.assert_no_sideways_scroll(&path).await;
            }
        });
    }
}
