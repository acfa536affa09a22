//! What every page looks like to those who do not see, or not well: axe-core finds nothing on any page, and nothing is wider
//! than its window.

mod demo;
#[path = "../support/mod.rs"]
mod support;

use demo::{Demo, OUTSIDE};
use serde_json::Value;
use support::browser::{Browser, DESKTOP, Kind, PHONE, browse_at};

/// Installed by `tests/setup.sh`.
const AXE: &str = "target/node/node_modules/axe-core/axe.min.js";
/// WCAG 2.2 AA, and what axe calls best practices.
const RUN: &str = "const done = arguments[arguments.length - 1]; \
    axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }) \
    .then((found) => done(found.violations.map((v) => [v.id, v.help, ...v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + ' ' + \
    (n.any[0]?.message ?? ''))])), (error) => done(String(error)))";
const WIDE: Kind = Kind { width: 2560, ..DESKTOP };

#[test]
fn axe_finds_nothing_on_any_page_by_day_or_night_on_a_phone_or_a_desk() {
    let demo = Demo::start();
    let tours = demo.tours();
    let axe = std::fs::read_to_string(AXE).expect("axe-core is installed: see `make test`");
    let mut found = Vec::new();
    for (kind, theme) in [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")] {
        browse_at(&demo.url, kind, async |browser| {
            browser.open("/sign-in").await;
            browser.set_theme(theme).await;
            let mut look = async |path: &str| {
                browser.open(path).await;
                let violations = examine(&browser, &axe).await;
                if !violations.is_empty() {
                    found.push(format!("{path} ({theme}, {} px): {violations:#?}", kind.width));
                }
                browser.assert_no_sideways_scroll(&format!("{path} at {} px", kind.width)).await;
            };
            for path in OUTSIDE {
                look(path).await;
            }
            for tour in &tours {
                browser.sign_in_as(&tour.login.name, &tour.login.password).await;
                for (_, path) in &tour.pages {
                    look(path).await;
                }
            }
        });
    }
    assert!(found.is_empty(), "{} pages:\n{}", found.len(), found.join("\n"));
}

#[test]
fn nothing_is_wider_than_a_large_screen() {
    let demo = Demo::start();
    let tours = demo.tours();
    browse_at(&demo.url, WIDE, async |browser| {
        for tour in &tours {
            browser.sign_in_as(&tour.login.name, &tour.login.password).await;
            for (_, path) in &tour.pages {
                browser.open(path).await;
                browser.assert_no_sideways_scroll(&format!("{path} at {} px", WIDE.width)).await;
            }
        }
    });
}

async fn examine(browser: &Browser, axe: &str) -> Vec<Value> {
    browser.script(axe).await;
    let found = browser.driver.execute_async(RUN, Vec::new()).await.expect("axe runs");
    match found.json() {
        Value::Array(violations) => violations.clone(),
        other => panic!("axe did not run: {other}"),
    }
}
