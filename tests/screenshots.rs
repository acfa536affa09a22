//! A picture of every page of the demo, light and dark, wide and narrow, in `target/screenshots/`. For people to look at:
//! `make screenshots` runs it, no test does.

#[path = "looks/demo.rs"]
mod demo;
#[path = "support/mod.rs"]
mod support;

use demo::{Demo, OUTSIDE};
use std::fs;
use std::path::Path;
use support::browser::{DESKTOP, PHONE, browse_at};

fn main() {
    let demo = Demo::start();
    let tours = demo.tours();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    fs::create_dir_all(&folder).expect("a folder");
    for (kind, size) in [(DESKTOP, "wide"), (PHONE, "narrow")] {
        for theme in ["light", "dark"] {
            browse_at(&demo.url, kind, async |browser| {
                browser.open("/sign-in").await;
                browser.set_theme(theme).await;
                let take = async |name: &str, path: &str| {
                    browser.open(path).await;
                    let file = folder.join(format!("{}-{theme}-{size}.png", file_name(name)));
                    fs::write(&file, browser.picture().await).expect("written");
                    eprintln!("{}", file.display());
                };
                for path in OUTSIDE {
                    take(path.split('?').next().unwrap_or(path), path).await;
                }
                for tour in &tours {
                    browser.sign_in_as(&tour.login.name, &tour.login.password).await;
                    for (kind, path) in &tour.pages {
                        take(kind, path).await;
                    }
                }
            });
        }
    }
    eprintln!("All of them: {}", folder.display());
}

/// `/keys/{}/edit` is `keys-n-edit`.
fn file_name(kind: &str) -> String {
    kind.trim_matches('/').replace("{}", "n").replace('/', "-")
}
