//! What must not creep: statements in the database a call, heap allocations a call, heap bytes an idle connection.
//! Counted in this process, whose client and upstream take nothing from the heap; each has a ceiling a little above
//! what it was when it was last lowered, and prints what it is.

mod support;

use diesel::connection::{InstrumentationEvent, set_default_instrumentation};
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Duration;
use support::seed::Seed;
use support::{Engine, House, engines};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Also BEGIN and COMMIT count.
static STATEMENTS: AtomicUsize = AtomicUsize::new(0);
/// One at a time: they count what the whole process does.
static TURN: Mutex<()> = Mutex::new(());

const CALLS: usize = 100;
const CALLS_TO_WARM_UP: usize = 20;
const CALLERS: usize = 32;
const CONNECTIONS: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// (engine, by one caller, by many at once); how many calls share a transaction is up to the machine.
const STATEMENTS_MAX: [(Engine, f64, f64); 2] = [(Engine::Sqlite, 12.5, 6.0), (Engine::Postgres, 2.5, 0.8)];
const ALLOCATIONS_MAX: f64 = 102.0;
const STREAM_ALLOCATIONS_MAX: f64 = 130.0;
const IDLE_BYTES_MAX: f64 = 19_500.0;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;
const EVENT: &str = r#"data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" house"}}]}"#;
const LAST_EVENTS: [&str; 2] = [
    r#"data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":20,"total_tokens":29}}"#,
    "data: [DONE]",
];
const CHUNKS: usize = 20;

#[test]
fn statements_a_call_do_not_creep() {
    let _turn = turn();
    set_default_instrumentation(|| Some(Box::new(count))).expect("diesel takes it");
    for engine in engines() {
        let house = Called::start(engine);
        let (_, alone_max, together_max) =
            STATEMENTS_MAX.into_iter().find(|(of, ..)| *of == engine).expect("each engine has its ceiling");
        let mut caller = house.caller(false);
        caller.calls(CALLS_TO_WARM_UP);
        let before = STATEMENTS.load(Ordering::Relaxed);
        caller.calls(CALLS);
        let alone = STATEMENTS.load(Ordering::Relaxed) - before;
        check(&format!("statements a call, {engine:?}, one caller"), alone, CALLS, alone_max);

        let ready = Barrier::new(CALLERS + 1);
        let before = std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let mut caller = house.caller(false);
                    caller.calls(1);
                    ready.wait();
                    caller.calls(CALLS);
                });
            }
            ready.wait();
            STATEMENTS.load(Ordering::Relaxed)
        });
        let together = STATEMENTS.load(Ordering::Relaxed) - before;
        let name = format!("statements a call, {engine:?}, {CALLERS} callers");
        check(&name, together, CALLS * CALLERS, together_max);
    }
}

#[test]
fn heap_allocations_a_call_do_not_creep() {
    let _turn = turn();
    let house = Called::start(Engine::Sqlite);
    for (name, stream, most) in
        [("JSON", false, ALLOCATIONS_MAX), ("a stream of 20 chunks", true, STREAM_ALLOCATIONS_MAX)]
    {
        let mut caller = house.caller(stream);
        caller.calls(CALLS_TO_WARM_UP);
        let heap = Region::new(HEAP);
        caller.calls(CALLS);
        let Stats { allocations, reallocations, .. } = heap.change();
        check(&format!("heap allocations a call, {name}"), allocations + reallocations, CALLS, most);
    }
}

#[test]
fn bytes_an_idle_connection_do_not_creep() {
    let _turn = turn();
    let house = Called::start(Engine::Sqlite);
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for part in [100, CONNECTIONS] {
        let heap = Region::new(HEAP);
        let opened = part - connections.len();
        while connections.len() < part {
            let mut stream = TcpStream::connect(house.address).expect("it listens");
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: house\r\n\r\n").expect("it reads");
            read_answer(&mut stream);
            connections.push(stream);
        }
        let Stats { bytes_allocated, bytes_deallocated, .. } = heap.change();
        // The first ones bring about what all share.
        if part == CONNECTIONS {
            check(
                "heap bytes an idle connection",
                bytes_allocated - bytes_deallocated,
                opened,
                IDLE_BYTES_MAX,
            );
        }
    }
}

/// Others' panics are theirs.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(event: InstrumentationEvent<'_>) {
    if let InstrumentationEvent::StartQuery { .. } = event {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
    }
}

fn check(what: &str, counted: usize, over: usize, most: f64) {
    let each = counted as f64 / over as f64;
    eprintln!("{what}: {each:.2} (at most {most})");
    assert!(each <= most, "{what}: {each:.2}, more than {most}");
}

/// A house whose key has a limit, an allowlist and a model restriction, and an upstream behind it.
struct Called {
    address: SocketAddr,
    secret: String,
    _house: House,
}

impl Called {
    fn start(engine: Engine) -> Self {
        let house = House::start(engine);
        let seed = Seed { store: house.store.clone(), vault: house.vault.clone() };
        let user_id = seed.user("ada", "1000000");
        let draft = KeyDraft {
            credit_limit: Some("100000"),
            models: "m*",
            ip_allowlist: "127.0.0.0/8\n::1",
            ..KeyDraft::default()
        };
        let key = seed.key(user_id, &draft);
        let upstream = seed.openai("fake", &format!("http://{}/v1", start_upstream()), "sk-upstream-secret");
        let price = Price { input_micros: 1_000_000, output_micros: 2_000_000, ..Price::FREE };
        seed.model("m", price, 1_000, &[upstream]);
        let address = house.url.trim_start_matches("http://").parse().expect("an address");
        Self { address, secret: key.secret, _house: house }
    }

    fn caller(&self, stream: bool) -> Caller {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"Hello, house!"}}],"max_tokens":50,"stream":{stream}}}"#
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: house\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.secret,
            body.len()
        );
        let connection = TcpStream::connect(self.address).expect("it listens");
        connection.set_nodelay(true).expect("an option of every socket");
        connection.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
        Caller { connection, request }
    }
}

/// Calls, one after the other, on one connection.
struct Caller {
    connection: TcpStream,
    request: String,
}

impl Caller {
    fn calls(&mut self, calls: usize) {
        for _ in 0..calls {
            self.connection.write_all(self.request.as_bytes()).expect("it reads");
            read_answer(&mut self.connection);
        }
    }
}

/// Reads a good answer to its end, on the stack.
fn read_answer(connection: &mut TcpStream) {
    let (mut buffer, mut length) = ([0; 16 * 1024], 0);
    loop {
        let read = connection.read(&mut buffer[length..]).expect("it answers");
        assert!(read > 0, "it closed the connection");
        length += read;
        let text = std::str::from_utf8(&buffer[..length]).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        if is_whole(text) {
            return;
        }
    }
}

/// A head, and the body that it announces.
fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    match head.split_once("content-length: ").map(|(_, rest)| rest.lines().next().unwrap_or_default()) {
        Some(length) => body.len() >= length.parse::<usize>().expect("a number"),
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// An upstream that takes nothing from the heap once a connection is there.
fn start_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.expect("a connection");
            std::thread::spawn(move || converse(connection));
        }
    });
    address
}

fn converse(mut connection: TcpStream) {
    connection.set_nodelay(true).expect("an option of every socket");
    let (json, stream) = (json_pieces(), stream_pieces());
    let (mut buffer, mut length) = ([0; 16 * 1024], 0);
    loop {
        // The house's pool closes when the house ends.
        let Ok(read @ 1..) = connection.read(&mut buffer[length..]) else { return };
        length += read;
        let request = std::str::from_utf8(&buffer[..length]).expect("ASCII");
        if is_whole(request) {
            let pieces = if request.contains("\"stream\":true") { &stream } else { &json };
            for piece in pieces {
                connection.write_all(piece.as_bytes()).expect("the house reads");
            }
            length = 0;
        }
    }
}

fn json_pieces() -> Vec<String> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    vec![format!("{head} {}\r\n\r\n{ANSWER}", ANSWER.len())]
}

fn stream_pieces() -> Vec<String> {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let events = std::iter::repeat_n(EVENT, CHUNKS).chain(LAST_EVENTS);
    let chunks = events.map(|event| format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2));
    std::iter::once(head).chain(chunks).chain(["0\r\n\r\n".to_owned()]).collect()
}
