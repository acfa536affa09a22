//! The actors of black-box tests: a house with the real app on a real port, and people who use it by HTTP.
#![allow(dead_code, reason = "each test crate uses its own part")]

pub mod browser;
pub mod crawl;
pub mod database;
pub mod seed;
pub mod upstream;

#[allow(unused_imports, reason = "each test crate uses its own part")]
pub use database::{Database, Engine, engines};

use actix_web::rt::System;
use keyhouse::app;
use keyhouse::clock::now_ms;
use keyhouse::config::Reach;
use keyhouse::dashboard::setup::SetupToken;
use keyhouse::dashboard::turnstile::Turnstile;
use keyhouse::domain::user::{NewPassword, UserName};
use keyhouse::gateway::Timeouts;
use keyhouse::ledger::Instance;
use keyhouse::password::{self, Hasher};
use keyhouse::store::audit::{self, Actor};
use keyhouse::store::users::{self, NewUser};
use keyhouse::store::{Connection, Store};
use keyhouse::vault::Vault;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::HeaderMap;
use std::net::TcpListener;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Good enough for every user of a test.
pub const PASSWORD: &str = "copper lantern vivid stroll";

/// A running server over its own database; it ends with this value.
pub struct House {
    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub url: String,
    pub store: Store,
    pub vault: Vault,
    pub hasher: Hasher,
    pub turnstile: Turnstile,
    /// Of a house that began without users.
    pub setup_link: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
    instance: Option<Instance>,
    database: Option<Database>,
}

impl House {
    /// As a person would start it at home: plain HTTP, no proxy.
    pub fn start(engine: Engine) -> Self {
        Self::start_with(engine, Reach { public_url: None, trusted_proxies: Vec::new() })
    }

    pub fn start_with(engine: Engine, reach: Reach) -> Self {
        Self::start_patient(engine, reach, Timeouts::default())
    }

    /// With this patience for upstreams.
    pub fn start_patient(engine: Engine, reach: Reach, upstream_timeouts: Timeouts) -> Self {
        Self::open(Database::new(engine), reach, upstream_timeouts)
    }

    /// Stops the server and starts another over the same database.
    pub fn restart(mut self) -> Self {
        self.stop();
        // What is left behind has no server to stop and no database to drop.
        let database = self.database.take().expect("a house has a database");
        Self::open(database, Reach { public_url: None, trusted_proxies: Vec::new() }, Timeouts::default())
    }

    fn open(database: Database, reach: Reach, upstream_timeouts: Timeouts) -> Self {
        let store = Store::open(&database.url).expect("the store opens");
        let vault = Vault::open_or_create(&database.path("master.key")).expect("a master key is made");
        let instance = Instance::start(&store, &vault.fingerprint()).expect("the ledger starts");
        let setup = SetupToken::of(&store, &vault).expect("the users are counted");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        let (hasher, turnstile) = (Hasher::default(), Turnstile::default());
        let house = app::House {
            store: store.clone(),
            vault: vault.clone(),
            ledger: instance.ledger().clone(),
            reach,
            setup: setup.clone(),
            hasher: hasher.clone(),
            turnstile: turnstile.clone(),
            upstream_timeouts,
        };
        let (stop, stopped) = oneshot::channel();
        let server = std::thread::spawn(move || {
            System::new().block_on(async move {
                tokio::select! {
                    served = app::serve(house, listener) => served.expect("the server runs"),
                    _ = stopped => (),
                }
            });
        });
        Self {
            setup_link: setup.link(&url),
            url,
            store,
            vault,
            hasher,
            turnstile,
            stop: Some(stop),
            server: Some(server),
            instance: Some(instance),
            database: Some(database),
        }
    }

    /// Stops the server: what is stored may be changed without it.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The server may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
        if let Some(instance) = self.instance.take() {
            instance.stop();
        }
    }

    /// Somebody who has not signed in.
    pub fn anon(&self) -> Person {
        visitor(&self.url)
    }

    /// Makes a user with [`PASSWORD`] and gives the row's id.
    pub fn add_user(&self, name: &str, is_admin: bool) -> i64 {
        let hash = password::hash(&NewPassword::parse(PASSWORD, name).expect("good enough")).expect("hashed");
        let new =
            NewUser { name: UserName::parse(name).expect("a name"), password_hash: Some(hash), is_admin };
        self.with(|connection| users::create(connection, &new, &Actor::cli(), now_ms()))
    }

    /// Makes a user who is signed in.
    pub fn user(&self, name: &str) -> Person {
        self.add_user(name, false);
        let person = self.anon();
        assert_eq!(person.sign_in(name, PASSWORD).status, StatusCode::SEE_OTHER);
        person
    }

    /// Asks or changes the database beside the server.
    pub fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, keyhouse::error::Error>) -> T {
        self.store.with(work).expect("the database does it")
    }

    /// The newest actions of the audit log, newest first, as `actor action`.
    pub fn audit(&self) -> Vec<String> {
        let events = self.with(|connection| audit::newest(connection, 100));
        events.into_iter().map(|event| format!("{} {}", event.actor, event.action)).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Somebody at this URL who has not signed in.
pub fn visitor(house_url: &str) -> Person {
    let http = Client::builder()
        .cookie_store(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("an HTTP client");
    Person { http, house_url: house_url.to_owned() }
}

/// A person with a browser that keeps cookies and follows nothing by itself.
pub struct Person {
    pub http: Client,
    house_url: String,
}

/// What came back, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub fn location(&self) -> &str {
        self.header("location")
    }
}

impl Person {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.house_url)
    }

    pub fn get(&self, path: &str) -> Answer {
        send(self.http.get(self.url(path)))
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        send(self.form(path, fields))
    }

    /// As htmx asks.
    pub fn htmx_get(&self, path: &str) -> Answer {
        send(self.http.get(self.url(path)).header("hx-request", "true"))
    }

    /// A form, to add headers to before it is sent.
    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self.http.post(self.url(path)).body(body.finish());
        request.header("content-type", "application/x-www-form-urlencoded")
    }

    pub fn sign_in(&self, name: &str, password: &str) -> Answer {
        self.post("/sign-in", &[("name", name), ("password", password)])
    }

    pub fn is_signed_in(&self) -> bool {
        let answer = self.get("/account/password");
        match answer.status {
            StatusCode::OK => true,
            StatusCode::SEE_OTHER => {
                assert!(answer.location().starts_with("/sign-in"), "{answer:?}");
                false
            }
            _ => panic!("{answer:?}"),
        }
    }
}

pub fn send(request: RequestBuilder) -> Answer {
    let response = request.send().expect("the house answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: response.text().expect("text") }
}
