//! A real Chromium, driven by ChromeDriver: what a person clicks and sees.

use super::{House, PASSWORD};
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thirtyfour::prelude::*;

/// Nothing on these pages takes so long; a busy machine may.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(30);

/// What kind of browser.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub width: u32,
    pub height: u32,
    pub javascript: bool,
    /// By a name that is not `localhost`: to a browser, plain HTTP is then no secure context.
    pub by_name: bool,
}

pub const DESKTOP: Kind = Kind { width: 1440, height: 900, javascript: true, by_name: false };
pub const PHONE: Kind = Kind { width: 360, height: 740, ..DESKTOP };

/// Maps to this machine inside the browser.
const NAME: &str = "keys.test";

/// Starts a browser, lets `act` use it, and ends it, also when `act` panics.
pub fn browse<F: Future<Output = ()>>(house: &House, kind: Kind, act: impl FnOnce(Browser) -> F) {
    browse_at(&house.url, kind, act);
}

/// The same, for a house of which nothing is known but its URL.
pub fn browse_at<F: Future<Output = ()>>(url: &str, kind: Kind, act: impl FnOnce(Browser) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut chromedriver = ChromeDriver::start();
    let profile = tempfile::tempdir().expect("a temporary folder");
    let house_url = if kind.by_name { url.replace("127.0.0.1", NAME) } else { url.to_owned() };
    let acted = runtime.block_on(async {
        let driver = WebDriver::new(&chromedriver.url, capabilities(kind, profile.path()))
            .await
            .expect("Chromium starts");
        let browser = Browser { driver: driver.clone(), house_url };
        browser.set_size(kind.width, kind.height).await;
        let acted = AssertUnwindSafe(act(browser)).catch_unwind().await;
        driver.quit().await.expect("Chromium ends");
        acted
    });
    chromedriver.stop();
    if let Err(panic) = acted {
        resume_unwind(panic);
    }
}

fn capabilities(kind: Kind, profile: &std::path::Path) -> Capabilities {
    let mut arguments: Vec<String> = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--lang=en-US",
        // Else a click goes to where an element was before the page had scrolled to it.
        "--force-prefers-reduced-motion",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    arguments.push(format!("--host-resolver-rules=MAP {NAME} 127.0.0.1"));
    let javascript = if kind.javascript { 1 } else { 2 };
    let options = json!({
        "args": arguments,
        "prefs": { "profile.managed_default_content_settings.javascript": javascript },
    });
    let mut capabilities = Capabilities::new();
    capabilities.set("browserName", "chrome").expect("JSON");
    capabilities.set("goog:chromeOptions", options).expect("JSON");
    capabilities
}

/// However unlucky with its ports, no oftener.
const STARTS_MAX: usize = 20;

/// ChromeDriver on a port that it chose itself.
struct ChromeDriver {
    process: Child,
    url: String,
}

impl ChromeDriver {
    /// It chooses a port that is free on IPv6 and gives up where IPv4 has that one taken ("IPv4 port not available"), as a
    /// server of another test may have: then it is started again.
    fn start() -> Self {
        (0..STARTS_MAX).find_map(|_| Self::start_once()).expect("chromedriver finds a free port")
    }

    /// `None` when it ended without naming its port.
    fn start_once() -> Option<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed: see `make test`");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let port: Option<u16> = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let Some(port) = port else {
            process.wait().expect("it has ended");
            return None;
        };
        Some(Self { process, url: format!("http://127.0.0.1:{port}") })
    }

    fn stop(&mut self) {
        // Its browser has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A person at the browser.
pub struct Browser {
    pub driver: WebDriver,
    house_url: String,
}

impl Browser {
    pub async fn open(&self, path: &str) {
        self.driver.goto(format!("{}{path}", self.house_url)).await.expect("the page opens");
    }

    pub async fn sign_in(&self, name: &str) {
        self.sign_in_with(name, PASSWORD).await;
    }

    /// Whoever was signed in before is not any more.
    pub async fn sign_in_as(&self, name: &str, password: &str) {
        self.driver.delete_all_cookies().await.expect("no cookies");
        self.sign_in_with(name, password).await;
    }

    pub async fn sign_in_with(&self, name: &str, password: &str) {
        self.open("/sign-in").await;
        self.fill("#name", name).await;
        self.fill("#password", password).await;
        self.click("form button[type=submit]").await;
        self.find("#key-list").await;
    }

    /// The first element that can be seen, as soon as there is one.
    pub async fn find(&self, css: &str) -> WebElement {
        let begun = Instant::now();
        loop {
            for element in self.driver.find_all(By::Css(css)).await.expect("a selector") {
                if element.is_displayed().await.unwrap_or(false) {
                    return element;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{css} was never seen on\n{}", self.body().await);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until no element of `css` can be seen.
    pub async fn gone(&self, css: &str) {
        let begun = Instant::now();
        while self.sees(css).await {
            assert!(begun.elapsed() < PATIENCE, "{css} stayed");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn sees(&self, css: &str) -> bool {
        for element in self.driver.find_all(By::Css(css)).await.expect("a selector") {
            if element.is_displayed().await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    async fn body(&self) -> String {
        match self.driver.find(By::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Clicks; once more if the element was replaced or covered just then.
    pub async fn click(&self, css: &str) {
        let begun = Instant::now();
        while let Err(error) = self.find(css).await.click().await {
            assert!(begun.elapsed() < PATIENCE, "{css} cannot be clicked: {error}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Replaces what stands in a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        // By the keyboard: WebDriver's own way to clear a field tells the page nothing of it.
        let all = thirtyfour::Key::Control + "a";
        field.send_keys(all).await.expect("a selection");
        field.send_keys(thirtyfour::Key::Backspace + "").await.expect("an empty field");
        field.send_keys(text).await.expect("a filled field");
    }

    pub async fn value(&self, css: &str) -> String {
        self.find(css).await.prop("value").await.expect("a property").unwrap_or_default()
    }

    /// Waits until the text of `css` contains `part`.
    pub async fn reads(&self, css: &str, part: &str) {
        let begun = Instant::now();
        loop {
            let text = self.find(css).await.text().await.unwrap_or_default();
            if text.contains(part) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{css} never read {part:?} but {text:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a script that gives a value.
    pub async fn script(&self, script: &str) -> Value {
        self.driver.execute(script, Vec::new()).await.expect("a script").json().clone()
    }

    /// Waits until a script gives `expected`.
    pub async fn becomes(&self, script: &str, expected: Value) {
        let begun = Instant::now();
        loop {
            let value = self.script(script).await;
            if value == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{script} never gave {expected} but {value}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the element with the focus has this id.
    pub async fn focus_is_on(&self, id: &str) {
        self.becomes("return document.activeElement.id", json!(id)).await;
    }

    pub async fn path(&self) -> String {
        let url = self.driver.current_url().await.expect("a URL");
        url[url::Position::BeforePath..].to_owned()
    }

    /// Asks Chromium itself.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(command, parameters).await.expect("DevTools answer")
    }

    pub async fn set_size(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Lets pages use the clipboard, as a person would when asked.
    pub async fn allow_clipboard(&self) {
        let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.devtools("Browser.grantPermissions", permissions).await;
    }

    pub async fn clipboard(&self) -> String {
        let script =
            "const [done] = arguments; navigator.clipboard.readText().then(done, (e) => done(String(e)))";
        let text = self.driver.execute_async(script, Vec::new()).await.expect("a script");
        text.json().as_str().expect("text").to_owned()
    }

    /// As the switch in the navigation would: `light` or `dark`, from the next page on.
    pub async fn set_theme(&self, theme: &str) {
        self.script(&format!("localStorage.setItem('theme', '{theme}')")).await;
    }

    /// A picture of the whole page, however long.
    pub async fn picture(&self) -> Vec<u8> {
        // Else the page is laid out beside a scrollbar that the picture does not have.
        self.devtools("Emulation.setScrollbarsHidden", json!({ "hidden": true })).await;
        let picture = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.devtools("Page.captureScreenshot", picture).await;
        let data = answer["data"].as_str().expect("a picture");
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).expect("base64")
    }

    /// A page wider than the window must be pushed about to be read.
    pub async fn assert_no_sideways_scroll(&self, what: &str) {
        let sizes = self
            .script("return [document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]")
            .await;
        assert_eq!(sizes[0], sizes[1], "{what}");
    }
}
