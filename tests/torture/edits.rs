//! An edit made on one server bites on the other: of the calls sent after the editor got the answer, none is admitted.

use crate::database::{Engine, engines};
use crate::seed::SeededKey;
use crate::site::{PRICE, Site};
use crate::{CYCLES_FULL, cycles, within};
use keyhouse::clock::now_ms;
use keyhouse::domain::credits::Credits;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::user::{NewPassword, UserName};
use keyhouse::password;
use keyhouse::store::audit::Actor;
use keyhouse::store::keys::{self, Key, KeyEdit};
use keyhouse::store::{grants, users};
use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PASSWORD: &str = "copper lantern vivid stroll";
/// Calls at once on the other server.
const CALLERS: usize = 16;
/// Calls that are tried after one edit, before it is taken back.
const TRIES_PER_EDIT: u64 = 40;

#[test]
fn after_an_edit_on_one_server_no_call_is_admitted_by_the_other() {
    if !engines().contains(&Engine::Postgres) {
        return eprintln!("edits: skipped, no PostgreSQL is named");
    }
    let site = Site::new(Engine::Postgres);
    let echo = site.seed.echo("echo", 0);
    site.seed.model("parrot", PRICE, 1_000, &[echo]);
    let (one, other) = (site.serve(), site.serve());
    let mut editor = Editor::sign_in(&site, &one.url);
    let gate = Arc::new(Gate::before(&editor.key));
    let callers = gate.clone().callers(other.url.clone());
    // 10 000 tries of each at full length.
    let tries = u64::try_from(cycles() * 10_000 / CYCLES_FULL).expect("a small number").max(1_000);
    type Edit = fn(&mut Editor, &Gate);
    let kinds: [(&str, Edit, Edit); 8] = [
        ("disabled", |editor, _| editor.switch("false"), |editor, _| editor.switch("true")),
        ("limit lowered", |editor, _| editor.save(&[("credit_limit", "0.000001")]), Editor::restore),
        ("other addresses only", |editor, _| editor.save(&[("ip_allowlist", "10.0.0.0/8")]), Editor::restore),
        ("other models only", |editor, _| editor.save(&[("patterns", "owl-*")]), Editor::restore),
        ("expiry passing", |editor, _| editor.let_expire(), Editor::restore),
        ("deleted", |editor, _| editor.delete(), Editor::replace),
        ("owner disabled", |editor, _| editor.let_in(false), |editor, _| editor.let_in(true)),
        // Last: nobody is signed in any more.
        ("owner deleted", |editor, _| editor.leave(), Editor::replace_owner),
    ];
    for (name, bite, undo) in kinds {
        let begun = Instant::now();
        let (mut tried, mut edits) = (0, 0);
        while tried < tries {
            gate.admits();
            bite(&mut editor, &gate);
            gate.shut();
            within(Duration::from_secs(60), name, || {
                (gate.tries.load(Ordering::SeqCst) >= TRIES_PER_EDIT).then_some(())
            });
            tried += gate.open(name);
            undo(&mut editor, &gate);
            edits += 1;
        }
        eprintln!("{name}: {tried} tries after {edits} edits, none admitted ({:?})", begun.elapsed());
    }
    gate.over.store(true, Ordering::SeqCst);
    callers.join().expect("no caller panics");
    site.is_sound();
}

/// Whether calls that begin now must be refused, and what became of them.
struct Gate {
    /// Odd: an edit has bitten, and is not being taken back yet.
    window: AtomicU64,
    /// Calls that began and ended within the window.
    tries: AtomicU64,
    /// Calls that were answered while no edit bit.
    admitted: AtomicU64,
    /// What should not be.
    slipped: Mutex<Vec<String>>,
    secret: Mutex<String>,
    over: AtomicBool,
}

impl Gate {
    fn before(key: &SeededKey) -> Self {
        Self {
            window: AtomicU64::new(0),
            tries: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            slipped: Mutex::default(),
            secret: Mutex::new(key.secret.clone()),
            over: AtomicBool::new(false),
        }
    }

    /// Waits until calls come through: else nothing would be proven by their refusal.
    fn admits(&self) {
        let before = self.admitted.load(Ordering::SeqCst);
        within(Duration::from_secs(30), "a call is admitted", || {
            (self.admitted.load(Ordering::SeqCst) >= before + 4).then_some(())
        });
    }

    fn shut(&self) {
        self.tries.store(0, Ordering::SeqCst);
        self.window.fetch_add(1, Ordering::SeqCst);
    }

    /// Gives the tries since it was shut, none of which was admitted.
    fn open(&self, edit: &str) -> u64 {
        self.window.fetch_add(1, Ordering::SeqCst);
        let slipped = self.slipped.lock().expect("not poisoned");
        assert!(slipped.is_empty(), "{edit}: {slipped:?}");
        self.tries.load(Ordering::SeqCst)
    }

    fn callers(self: Arc<Self>, url: String) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let http = reqwest::Client::new();
                let callers: Vec<_> = (0..CALLERS)
                    .map(|_| tokio::spawn(self.clone().call_on(http.clone(), url.clone())))
                    .collect();
                for caller in callers {
                    caller.await.expect("no caller panics");
                }
            });
        })
    }

    async fn call_on(self: Arc<Self>, http: reqwest::Client, url: String) {
        let body = json!({
            "model": "parrot", "max_tokens": 4, "messages": [{"role": "user", "content": "Who may come in?"}],
        });
        while !self.over.load(Ordering::SeqCst) {
            let began_in = self.window.load(Ordering::SeqCst);
            let secret = self.secret.lock().expect("not poisoned").clone();
            let request = http.post(format!("{url}/v1/chat/completions")).bearer_auth(secret).json(&body);
            let answer = request.send().await.expect("an answer");
            let status = answer.status().as_u16();
            let said = answer.text().await.expect("text");
            let ended_in = self.window.load(Ordering::SeqCst);
            let is_try = began_in == ended_in && began_in % 2 == 1;
            match status {
                200 if is_try => self.slipped.lock().expect("not poisoned").push(said),
                200 if began_in.is_multiple_of(2) => drop(self.admitted.fetch_add(1, Ordering::SeqCst)),
                401 | 403 | 429 if is_try => drop(self.tries.fetch_add(1, Ordering::SeqCst)),
                200 | 401 | 403 | 429 => {}
                // The edits of a row in use make it stale; deciding anew has an end, and then the server is busy.
                503 if said.contains("server_busy") => {}
                other => self.slipped.lock().expect("not poisoned").push(format!("{other}: {said}")),
            }
        }
    }
}

/// A person with a browser at the first server.
pub struct Editor {
    http: Client,
    /// Of the server they talk to; a cookie is good for every port of a host.
    pub url: String,
    site_seed: crate::seed::Seed,
    key: SeededKey,
}

impl Editor {
    pub fn sign_in(site: &Site, url: &str) -> Self {
        let seed = site.seed.clone();
        let hash =
            password::hash(&NewPassword::parse(PASSWORD, "ada").expect("good enough")).expect("hashed");
        let new = users::NewUser {
            name: UserName::parse("ada").expect("valid"),
            password_hash: Some(hash),
            is_admin: false,
        };
        let user_id = seed.store.with(|c| {
            let id = users::create(c, &new, &Actor::cli(), now_ms())?;
            grants::grant(c, id, Credits::from_micros(1_000_000_000), "", &Actor::cli(), now_ms())?;
            Ok(id)
        });
        let key = seed.key(user_id.expect("a user"), &KeyDraft::default());
        let http = Client::builder().cookie_store(true).redirect(reqwest::redirect::Policy::none()).build();
        let editor = Self { http: http.expect("a client"), url: url.to_owned(), site_seed: seed, key };
        assert_eq!(editor.enter(), StatusCode::SEE_OTHER);
        editor
    }

    /// Sends the sign-in form.
    pub fn enter(&self) -> StatusCode {
        self.post("/sign-in", &[("name", "ada"), ("password", PASSWORD)])
    }

    pub fn user_id(&self) -> i64 {
        self.key.user_id
    }

    pub fn get(&self, path: &str) -> StatusCode {
        self.http.get(format!("{}{path}", self.url)).send().expect("the server answers").status()
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> StatusCode {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self.http.post(format!("{}{path}", self.url)).body(body.finish());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send().expect("the server answers").status()
    }

    fn stored(&self) -> Key {
        let found = self.site_seed.store.with(|c| keys::find(c, self.key.user_id, self.key.id));
        found.expect("the key is there").0
    }

    fn switch(&self, enabled: &str) {
        let status = self.post(&format!("/keys/{}/enabled", self.key.id), &[("enabled", enabled)]);
        assert_eq!(status, StatusCode::SEE_OTHER);
    }

    /// Saves the edit form: as it was at first, but for `fields`.
    fn save(&self, fields: &[(&str, &str)]) {
        let revision = self.stored().revision.to_string();
        let mut all = vec![("name", "test"), ("enabled", "on"), ("revision", revision.as_str())];
        if !fields.iter().any(|(name, _)| *name == "credit_limit") {
            all.push(("unlimited", "on"));
        }
        all.extend(fields);
        assert_eq!(self.post(&format!("/keys/{}/edit", self.key.id), &all), StatusCode::SEE_OTHER);
    }

    fn restore(&mut self, _: &Gate) {
        self.save(&[]);
    }

    /// Sets the expiry a moment ahead, and waits until the database's clock has passed it.
    fn let_expire(&self) {
        let stored = self.stored();
        let clock = || self.site_seed.store.with(keyhouse::store::Connection::now_ms).expect("the time");
        let at_ms = clock() + 40;
        let mut settings = KeyDraft { name: "test", ..KeyDraft::default() }.parse(0, None).expect("valid");
        settings.expires_at_ms = Some(at_ms);
        let edit = KeyEdit { revision: stored.revision, settings: &settings, enabled: true };
        let saved = self
            .site_seed
            .store
            .with(|c| keys::update(c, self.key.user_id, self.key.id, &edit, &Actor::cli(), now_ms()));
        saved.expect("saved");
        within(Duration::from_secs(5), "the expiry passes", || (clock() >= at_ms).then_some(()));
    }

    fn delete(&self) {
        assert_eq!(self.post(&format!("/keys/{}/delete", self.key.id), &[]), StatusCode::SEE_OTHER);
    }

    /// Makes another key in place of the deleted one.
    fn replace(&mut self, gate: &Gate) {
        self.key = self.site_seed.key(self.key.user_id, &KeyDraft::default());
        *gate.secret.lock().expect("not poisoned") = self.key.secret.clone();
    }

    /// Disables or enables the account, as an admin.
    fn let_in(&self, enabled: bool) {
        let change = self
            .site_seed
            .store
            .with(|c| users::set_enabled(c, self.key.user_id, enabled, &Actor::cli(), now_ms()));
        change.expect("changed");
    }

    /// Deletes the account, as an admin.
    fn leave(&self) {
        let gone = self.site_seed.store.with(|c| users::delete(c, self.key.user_id, &Actor::cli(), now_ms()));
        gone.expect("deleted");
    }

    /// Makes another account with a key in place of the deleted one.
    fn replace_owner(&mut self, gate: &Gate) {
        self.key.user_id = self.site_seed.user("ada", "1000");
        self.replace(gate);
    }
}
