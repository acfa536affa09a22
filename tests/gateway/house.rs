//! A house with an account of 10 credits, a key and a price list, and a program that calls it.

use crate::support::seed::{Seed, SeededKey};
use crate::support::upstream::{Act, Upstream};
use crate::support::{self, Engine};
use keyhouse::config::Reach;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::network::parse_cidr;
use keyhouse::domain::price::Price;
use keyhouse::gateway::Timeouts;
use keyhouse::store::charges::{self, Charge};
use keyhouse::store::keys::Key;
use keyhouse::store::{doctor, keys};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One micro-credit an input token, half of that if cached, two an output token.
pub const PRICE: Price = Price {
    input_micros: 1_000_000,
    cached_input_micros: Some(500_000),
    output_micros: 2_000_000,
    ..Price::FREE
};

/// Short enough to wait for in a test, long enough not to strike by accident.
const TIMEOUTS: Timeouts = Timeouts {
    first_byte_stream: Duration::from_secs(2),
    first_byte_json: Duration::from_secs(2),
    idle: Duration::from_secs(2),
};

/// A running server over its own database; it ends with this value.
pub struct House {
    pub url: String,
    pub seed: Seed,
    /// Unlimited, of an account with 10 credits.
    pub key: SeededKey,
    pub http: Client,
    _server: support::House,
}

impl House {
    /// With the model `echo` on the built-in upstream.
    pub fn start(engine: Engine) -> Self {
        // So that tests can come from anywhere, by X-Forwarded-For.
        let trusted_proxies = vec![parse_cidr("127.0.0.1").expect("an address")];
        let server =
            support::House::start_patient(engine, Reach { public_url: None, trusted_proxies }, TIMEOUTS);
        let seed = Seed { store: server.store.clone(), vault: server.vault.clone() };
        let user_id = seed.user("ada", "10");
        let key = seed.key(user_id, &KeyDraft::default());
        let echo = seed.echo("echo", 0);
        seed.model("echo", PRICE, 1_000, &[echo]);
        let http = Client::builder().build().expect("an HTTP client");
        Self { url: server.url.clone(), seed, key, http, _server: server }
    }

    /// As [`House::start`], with the model `m` on a fake upstream.
    pub fn with_upstream(engine: Engine, act: Act) -> (Self, Upstream) {
        let house = Self::start(engine);
        let upstream = Upstream::start(act);
        let id = house.seed.openai("fake", &upstream.url, "sk-upstream-secret");
        house.seed.model("m", PRICE, 1_000, &[id]);
        (house, upstream)
    }

    /// As [`House::start`], with the model `m` at this price on a fake upstream.
    pub fn with_priced(engine: Engine, price: Price, act: Act) -> (Self, Upstream) {
        let house = Self::start(engine);
        let upstream = Upstream::start(act);
        let id = house.seed.openai("fake", &upstream.url, "sk-upstream-secret");
        house.seed.model("m", price, 1_000, &[id]);
        (house, upstream)
    }

    /// As [`House::start`], with the model `claude` on a fake upstream of Anthropic's dialect.
    pub fn with_anthropic(engine: Engine, act: Act) -> (Self, Upstream) {
        let house = Self::start(engine);
        let upstream = Upstream::start(act);
        let id = house.seed.anthropic("fake", &upstream.url, "sk-ant-upstream");
        house.seed.model("claude", PRICE, 1_000, &[id]);
        (house, upstream)
    }

    /// A call of any route with the house's key.
    pub fn call(&self, path: &str, body: &Value) -> Answer {
        self.call_with(&self.key, path, body)
    }

    pub fn call_with(&self, key: &SeededKey, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}/v1{path}", self.url)).bearer_auth(&key.secret);
        read(request.json(body).send().expect("the house answers"))
    }

    pub fn post(&self, secret: &str, body: impl Into<reqwest::blocking::Body>) -> RequestBuilder {
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).body(body);
        request.bearer_auth(secret).header("content-type", "application/json")
    }

    /// A chat call with the house's key.
    pub fn chat(&self, body: &Value) -> Answer {
        self.chat_with(&self.key, body)
    }

    pub fn chat_with(&self, key: &SeededKey, body: &Value) -> Answer {
        read(self.post(&key.secret, body.to_string()).send().expect("the house answers"))
    }

    pub fn get(&self, secret: &str, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(secret);
        read(request.send().expect("the house answers"))
    }

    pub fn key_row(&self, key: &SeededKey) -> Key {
        self.seed.store.with(|c| Ok(keys::find(c, key.user_id, key.id)?.0)).expect("the key is there")
    }

    pub fn used_micros(&self) -> i64 {
        self.key_row(&self.key).credits_used_micros
    }

    pub fn charges(&self, key: &SeededKey) -> Vec<Charge> {
        self.seed.store.with(|c| charges::newest_of_key(c, key.user_id, key.id, 1_000)).expect("charges")
    }

    /// The one charge of the house's key, once it is resolved.
    pub fn charge(&self) -> Charge {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let charges = self.charges(&self.key);
            if let [charge] = charges.as_slice()
                && charge.state != charges::state::HELD
            {
                return charge.clone();
            }
            assert!(Instant::now() < deadline, "no one resolved charge: {charges:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The laws hold, and nothing is held any more.
    pub fn is_sound(&self) {
        let diagnosis = self.seed.store.with(doctor::examine).expect("the doctor looks");
        assert_eq!((diagnosis.breaches, diagnosis.open_holds), (Vec::new(), 0));
    }
}

/// What came back, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// Status and error code; proves the shape on the way.
    pub fn refusal(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{self:?}");
        assert!(error["type"].is_string() && error.get("param").is_some(), "{self:?}");
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        (self.status, error["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The payloads of a stream.
    pub fn events(&self) -> Vec<String> {
        self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

pub fn read(response: Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().expect("a body");
    Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// A small chat body.
pub fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello, house!"}], "max_tokens": 50})
}

/// With more fields, or other ones.
pub fn ask_with(model: &str, fields: Value) -> Value {
    let mut body = ask(model);
    let Value::Object(fields) = fields else { panic!("an object") };
    body.as_object_mut().expect("an object").extend(fields);
    body
}

/// Polls until `holds` gives something, or fails after ten seconds.
pub fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
