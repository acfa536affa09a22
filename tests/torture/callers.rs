//! Callers that never tire: JSON calls, streams, and those who hang up; every call is written down.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Client;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Who calls whom.
#[derive(Clone)]
pub struct Plan {
    /// Of the servers; each call picks one.
    pub urls: Vec<String>,
    /// Of the keys; each call picks one.
    pub secrets: Vec<String>,
    pub model: &'static str,
    /// Calls at once.
    pub callers: usize,
}

/// One call, as its caller saw it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Sent along as the body's `user`, so that an upstream can tell calls apart.
    pub tag: String,
    pub started: Instant,
    pub ended: Instant,
    /// Of the answer's head, if one came.
    pub request_id: Option<i64>,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The answer came whole; a JSON answer says what it was charged.
    Whole { charged_micros: Option<i64> },
    /// Another status than 200.
    Refused(u16),
    /// The stream ended with an error event instead of `[DONE]`.
    Apologised,
    /// No answer, or not to its end.
    Broken,
    /// The caller left.
    HungUp,
}

/// A running load.
pub struct Load {
    calls: Arc<Mutex<Vec<Call>>>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    pub fn start(plan: Plan, dice: &mut StdRng) -> Self {
        let (calls, over) = (Arc::<Mutex<Vec<Call>>>::default(), Arc::new(AtomicBool::new(false)));
        let seeds: Vec<u64> = (0..plan.callers).map(|_| dice.random()).collect();
        let (book, end) = (calls.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let http = Client::builder().timeout(Duration::from_secs(60)).build().expect("a client");
                let callers: Vec<_> = seeds
                    .into_iter()
                    .enumerate()
                    .map(|(number, seed)| {
                        let caller = Caller { number, http: http.clone(), plan: plan.clone() };
                        tokio::spawn(caller.call_on(StdRng::seed_from_u64(seed), book.clone(), end.clone()))
                    })
                    .collect();
                for caller in callers {
                    caller.await.expect("no caller panics");
                }
            });
        });
        Self { calls, over, thread }
    }

    /// So far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("not poisoned").clone()
    }

    /// Whether a call that began after `moment` was answered whole.
    pub fn is_served_since(&self, moment: Instant) -> bool {
        let calls = self.calls.lock().expect("not poisoned");
        calls
            .iter()
            .rev()
            .take(1_000)
            .any(|call| call.started > moment && matches!(call.end, End::Whole { .. }))
    }

    /// Lets the calls under way end, and gives all.
    pub fn stop(self) -> Vec<Call> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no caller panics");
        std::mem::take(&mut *self.calls.lock().expect("not poisoned"))
    }
}

struct Caller {
    number: usize,
    http: Client,
    plan: Plan,
}

impl Caller {
    async fn call_on(self, mut dice: StdRng, book: Arc<Mutex<Vec<Call>>>, over: Arc<AtomicBool>) {
        for turn in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let tag = format!("{}-{turn}", self.number);
            let call = self.call(tag, &mut dice).await;
            let failed = matches!(call.end, End::Broken | End::Refused(_));
            book.lock().expect("not poisoned").push(call);
            if failed {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn call(&self, tag: String, dice: &mut StdRng) -> Call {
        let url = &self.plan.urls[dice.random_range(0..self.plan.urls.len())];
        let secret = &self.plan.secrets[dice.random_range(0..self.plan.secrets.len())];
        let stream: bool = dice.random();
        let body = json!({
            "model": self.plan.model, "stream": stream, "max_tokens": dice.random_range(4..20), "user": &tag,
            "messages": [{"role": "user", "content": "How many credits is an echo?"}],
        });
        let request = self.http.post(format!("{url}/v1/chat/completions")).bearer_auth(secret).json(&body);
        // One caller in six loses patience at some moment, often in the middle of the answer.
        let patience = match dice.random_range(0..6) {
            0 => Duration::from_millis(dice.random_range(1..200)),
            _ => Duration::from_secs(60),
        };
        let started = Instant::now();
        let mut request_id = None;
        let answered = tokio::time::timeout(patience, read(request, &mut request_id)).await;
        Call { tag, started, ended: Instant::now(), request_id, end: answered.unwrap_or(End::HungUp) }
    }
}

async fn read(request: reqwest::RequestBuilder, request_id: &mut Option<i64>) -> End {
    let Ok(response) = request.send().await else { return End::Broken };
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    *request_id = header("x-request-id").and_then(|id| id.parse().ok());
    let charged_micros = header("x-keyhouse-credits")
        .map(|text| keyhouse::domain::credits::Credits::parse(text).expect("credits").micros());
    let stream = header("content-type").is_some_and(|value| value.starts_with("text/event-stream"));
    let status = response.status().as_u16();
    let Ok(body) = response.text().await else { return End::Broken };
    match status {
        200 if stream && body.ends_with("data: [DONE]\n\n") => End::Whole { charged_micros: None },
        200 if stream && body.contains("\"error\"") => End::Apologised,
        200 if stream => End::Broken,
        200 => {
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "half a JSON answer: {body}");
            assert!(charged_micros.is_some(), "a JSON answer without its charge");
            End::Whole { charged_micros }
        }
        other => End::Refused(other),
    }
}
