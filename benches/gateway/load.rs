//! The load generator: so many connections, each with one call at a time, on one thread. Any answer but a good one ends
//! the run. It marks the servers' CPU time at both ends of the measured time itself, so that both mean the same calls.

use super::answer::Reader;
use super::cpu::Mark;
use super::upstream::{CHUNKS, JSON_BYTES, MODEL_PREFIX};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Of each secret in the file of keys, with the end of its line.
pub const SECRET_LINE_BYTES: usize = 52;
/// Longest that a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child process is told to do, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Connections are spread over them.
    pub addresses: Vec<SocketAddr>,
    pub connections: usize,
    pub keys: PathBuf,
    /// Of the keys in the file, the first so many; 0: all.
    pub keys_in_use: usize,
    pub stream: bool,
    /// Milliseconds between the chunks of a stream.
    pub pace_ms: u64,
    /// Calls a second of each connection; `None`: as fast as answers come.
    pub rate: Option<f64>,
    pub warm_up_s: f64,
    pub measured_s: f64,
    /// Calls every key once instead, and measures all of it; no more begin when the measured time is over.
    pub each_key_once: bool,
    /// Whose CPU time is taken: the servers under test,
    pub servers: Vec<u32>,
    /// and those behind them, such as a database's.
    pub others: Vec<u32>,
}

/// What came of it. Times are microseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Measured {
    pub requests: u64,
    pub seconds: f64,
    pub server_cpu_us: f64,
    pub others_cpu_us: f64,
    pub own_cpu_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub first_event_p50_us: f64,
    pub gap_p50_us: f64,
    pub gap_p99_us: f64,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    pub fn cpu_us(&self) -> f64 {
        self.server_cpu_us / self.requests as f64
    }

    pub fn others_cpu_us(&self) -> f64 {
        self.others_cpu_us / self.requests as f64
    }
}

/// What the connections share.
struct Shared {
    order: Order,
    secrets: Vec<u8>,
    keys: usize,
    next_key: Cell<usize>,
    recording: Cell<bool>,
    stopping: Cell<bool>,
    requests: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
    first_event: RefCell<Histogram<u64>>,
    gap: RefCell<Histogram<u64>>,
}

/// Runs an order read from stdin and prints what came of it.
pub async fn serve() -> anyhow::Result<()> {
    let mut order = String::new();
    std::io::stdin().read_to_string(&mut order)?;
    let measured = run(serde_json::from_str(&order)?).await?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

async fn run(order: Order) -> anyhow::Result<Measured> {
    let shared = Rc::new(Shared::new(order)?);
    let mut calls = JoinSet::new();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let order = &shared.order;
            for number in 0..order.connections {
                let address = order.addresses[number % order.addresses.len()];
                let stream = TcpStream::connect(address).await.context("connecting")?;
                stream.set_nodelay(true)?;
                calls.spawn_local(connection(shared.clone(), stream));
            }
            if !order.each_key_once {
                pass(&mut calls, Duration::from_secs_f64(order.warm_up_s)).await?;
            }
            let (own, servers, others) =
                (Mark::take(&[std::process::id()]), Mark::take(&order.servers), Mark::take(&order.others));
            let began = Instant::now();
            shared.recording.set(true);
            if order.each_key_once {
                let ended = async {
                    while let Some(ended) = calls.join_next().await {
                        ended??;
                    }
                    anyhow::Ok(())
                };
                let most = Duration::from_secs_f64(order.measured_s);
                tokio::time::timeout(most, ended).await.unwrap_or(Ok(()))?;
            } else {
                pass(&mut calls, Duration::from_secs_f64(order.measured_s)).await?;
            }
            shared.recording.set(false);
            let seconds = began.elapsed().as_secs_f64();
            let cpu = (own.passed_us(), servers.passed_us(), others.passed_us());
            shared.stopping.set(true);
            while let Some(ended) = calls.join_next().await {
                ended??;
            }
            Ok(shared.measured(seconds, cpu))
        })
        .await
}

/// Lets time pass, unless a connection fails.
async fn pass(calls: &mut JoinSet<anyhow::Result<()>>, time: Duration) -> anyhow::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        Some(ended) = calls.join_next() => {
            ended??;
            anyhow::bail!("a connection ended too early")
        }
    }
}

/// One call after the other.
async fn connection(shared: Rc<Shared>, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut caller = Caller::new(shared.clone());
    let interval = shared.order.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let mut due = Instant::now();
    while !shared.stopping.get() {
        let Some(key) = shared.choose_key() else { break };
        if let Some(interval) = interval {
            due += interval;
            tokio::time::sleep_until(due.into()).await;
        }
        // A timer wakes up late by itself; only what an earlier answer delayed counts as waiting.
        let late = interval.filter(|interval| due.elapsed() > *interval);
        let began = if late.is_some() { due } else { Instant::now() };
        tokio::time::timeout(PATIENCE, caller.call(&mut stream, key, began)).await.context("no answer")??;
    }
    Ok(())
}

/// A call, as it goes over the wire.
pub fn request(order: &Order, secret: &str) -> Vec<u8> {
    let stream = if order.stream { r#","stream":true"# } else { "" };
    let body = format!(
        r#"{{"model":"{MODEL_PREFIX}{}","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"Tell me in a few sentences what makes a good house."}}],"max_tokens":200,"temperature":0.7{stream}}}"#,
        order.pace_ms
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         accept: application/json\r\nuser-agent: bench/1\r\ncontent-length: {}\r\n\
         authorization: Bearer {secret}\r\n\r\n{body}",
        order.addresses[0],
        body.len()
    )
    .into_bytes()
}

/// A connection's memory.
struct Caller {
    shared: Rc<Shared>,
    reader: Reader,
    request: Vec<u8>,
    secret_at: usize,
}

impl Caller {
    fn new(shared: Rc<Shared>) -> Self {
        let secret = "-".repeat(SECRET_LINE_BYTES - 1);
        let request = request(&shared.order, &secret);
        let secret_at = request.windows(secret.len()).position(|part| part == secret.as_bytes()).unwrap_or(0);
        Self { shared, reader: Reader::default(), request, secret_at }
    }

    async fn call(&mut self, stream: &mut TcpStream, key: usize, began: Instant) -> anyhow::Result<()> {
        use tokio::io::AsyncWriteExt;
        let secret = self.shared.secret(key);
        self.request[self.secret_at..self.secret_at + secret.len()].copy_from_slice(secret);
        stream.write_all(&self.request).await?;
        let shared = &self.shared;
        let (mut events, mut last) = (0, began);
        let status = self
            .reader
            .read(stream, |new, came| {
                shared.saw_events(events, new, came - last);
                (events, last) = (events + new, came);
            })
            .await?;
        let elapsed = began.elapsed();
        let body = &self.reader.body;
        let whole = match shared.order.stream {
            true => events == CHUNKS as usize + 1 && body.ends_with(b"data: [DONE]\n\n"),
            false => body.len() >= JSON_BYTES / 2 && body.starts_with(b"{"),
        };
        ensure!(status == 200 && whole, "status {status}: {}", String::from_utf8_lossy(body));
        if shared.recording.get() {
            shared.requests.set(shared.requests.get() + 1);
            record(&shared.latency, elapsed);
        }
        Ok(())
    }
}

impl Shared {
    fn new(order: Order) -> anyhow::Result<Self> {
        let secrets = std::fs::read(&order.keys).context("reading the keys")?;
        let stored = secrets.len() / SECRET_LINE_BYTES;
        ensure!(stored > 0 && order.keys_in_use <= stored, "{stored} keys in {}", order.keys.display());
        let histogram = || Histogram::new_with_bounds(1_000, 600_000_000_000, 3).map(RefCell::new);
        Ok(Self {
            keys: if order.keys_in_use == 0 { stored } else { order.keys_in_use },
            order,
            secrets,
            next_key: Cell::new(0),
            recording: Cell::new(false),
            stopping: Cell::new(false),
            requests: Cell::new(0),
            latency: histogram()?,
            first_event: histogram()?,
            gap: histogram()?,
        })
    }

    fn secret(&self, key: usize) -> &[u8] {
        &self.secrets[key * SECRET_LINE_BYTES..(key + 1) * SECRET_LINE_BYTES - 1]
    }

    /// Any, or the next one while there is one.
    fn choose_key(&self) -> Option<usize> {
        if !self.order.each_key_once {
            return Some(rand::rng().random_range(0..self.keys));
        }
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        (key < self.keys).then_some(key)
    }

    /// A read brought `new` events after `before`: the first of them after this wait, the others with it.
    fn saw_events(&self, before: usize, new: usize, wait: Duration) {
        if !self.recording.get() {
            return;
        }
        let first = if before == 0 { &self.first_event } else { &self.gap };
        record(first, wait);
        for _ in 1..new {
            record(&self.gap, Duration::ZERO);
        }
    }

    fn measured(&self, seconds: f64, (own, servers, others): (f64, f64, f64)) -> Measured {
        let at = |histogram: &RefCell<Histogram<u64>>, quantile| {
            histogram.borrow().value_at_quantile(quantile) as f64 / 1e3
        };
        Measured {
            requests: self.requests.get(),
            seconds,
            server_cpu_us: servers,
            others_cpu_us: others,
            own_cpu_us: own,
            p50_us: at(&self.latency, 0.5),
            p99_us: at(&self.latency, 0.99),
            first_event_p50_us: at(&self.first_event, 0.5),
            gap_p50_us: at(&self.gap, 0.5),
            gap_p99_us: at(&self.gap, 0.99),
        }
    }
}

fn record(histogram: &RefCell<Histogram<u64>>, time: Duration) {
    histogram.borrow_mut().saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}
