//! An upstream that does as it is told, also wrong: plain HTTP/1.1 by hand, so that it can break every rule.
//! Remembers what it was asked.
#![allow(dead_code, reason = "each test crate uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers whole.
    Json { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Answers these bytes as events, in pieces of `piece_bytes` with a pause between; leaves rudely after `cut_at`.
    Events { bytes: Vec<u8>, piece_bytes: usize, pause: Duration, cut_at: Option<usize> },
    /// Answers these bytes, of this type.
    Bytes { content_type: &'static str, body: Vec<u8> },
    /// Promises a body and leaves in the middle of it.
    Half { content_type: &'static str, body: String },
    /// Reads the request and says nothing.
    Hang,
    /// Closes the connection at once.
    Leave,
}

impl Act {
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::Json { status, headers: Vec::new(), body: body.into() }
    }

    pub fn events(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Events { bytes: bytes.into(), piece_bytes: usize::MAX, pause: Duration::ZERO, cut_at: None }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}

struct State {
    act: Mutex<Act>,
    asked: Mutex<Vec<Asked>>,
    /// Bytes of event streams that went out.
    sent: AtomicUsize,
    /// Streams whose reader was gone before their end.
    left_alone: AtomicUsize,
    stopping: AtomicBool,
}

/// A running fake upstream; it ends with this value.
pub struct Upstream {
    /// To be stored as a base URL.
    pub url: String,
    address: std::net::SocketAddr,
    state: Arc<State>,
}

impl Upstream {
    pub fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let state = Arc::new(State {
            act: Mutex::new(act),
            asked: Mutex::default(),
            sent: AtomicUsize::new(0),
            left_alone: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let serving = state.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let state = serving.clone();
                if let Ok(connection) = connection {
                    std::thread::spawn(move || serve(&connection, &state));
                }
            }
        });
        Self { url: format!("http://{address}/v1"), address, state }
    }

    /// From now on.
    pub fn set(&self, act: Act) {
        *self.state.act.lock().expect("not poisoned") = act;
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().expect("not poisoned").clone()
    }

    pub fn sent(&self) -> usize {
        self.state.sent.load(Ordering::SeqCst)
    }

    pub fn left_alone(&self) -> usize {
        self.state.left_alone.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(connection: &TcpStream, state: &State) {
    let mut reader = BufReader::new(connection);
    while let Some(asked) = read_request(&mut reader) {
        state.asked.lock().expect("not poisoned").push(asked);
        let act = state.act.lock().expect("not poisoned").clone();
        let answered = answer(connection, &act, state);
        if answered.is_err() || matches!(act, Act::Leave | Act::Half { .. }) {
            break;
        }
    }
    // Whoever is gone need not be told.
    let _ = connection.shutdown(Shutdown::Both);
}

fn read_request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let bytes = length.map_or(Some(0), |(_, length)| length.parse().ok())?;
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn answer(mut connection: &TcpStream, act: &Act, state: &State) -> std::io::Result<()> {
    match act {
        Act::Json { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} So\r\ncontent-type: application/json\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
            connection.write_all(head.as_bytes())
        }
        Act::Bytes { content_type, body } => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
            );
            connection.write_all(&[head.as_bytes(), body].concat())
        }
        Act::Half { content_type, body } => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            connection.write_all((head + &body[..body.len() / 2]).as_bytes())
        }
        Act::Events { bytes, piece_bytes, pause, cut_at } => {
            let end = cut_at.unwrap_or(bytes.len()).min(bytes.len());
            let streamed = stream(connection, &bytes[..end], *piece_bytes, *pause, state);
            if streamed.is_err() {
                state.left_alone.fetch_add(1, Ordering::SeqCst);
            } else if cut_at.is_none() {
                connection.write_all(b"0\r\n\r\n")?;
            } else {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            streamed
        }
        Act::Hang => {
            // Until the other side has had enough.
            let gone = connection.read(&mut [0]);
            state.left_alone.fetch_add(1, Ordering::SeqCst);
            gone.map(drop)
        }
        Act::Leave => Ok(()),
    }
}

fn stream(
    mut connection: &TcpStream,
    bytes: &[u8],
    piece_bytes: usize,
    pause: Duration,
    state: &State,
) -> std::io::Result<()> {
    connection.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for piece in bytes.chunks(piece_bytes.min(64 << 10)) {
        connection.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        connection.write_all(piece)?;
        connection.write_all(b"\r\n")?;
        state.sent.fetch_add(piece.len(), Ordering::SeqCst);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    Ok(())
}

/// A chat answer with this usage, as JSON.
pub fn completion(text: &str, usage: &serde_json::Value) -> String {
    serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "theirs",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": usage,
    })
    .to_string()
}

/// The same as events: a delta for each of `texts`, the reason for the end, usage if any, `[DONE]`.
pub fn completion_events(texts: &[&str], usage: Option<serde_json::Value>) -> String {
    let chunk = |choices: serde_json::Value, usage: Option<&serde_json::Value>| {
        let chunk = serde_json::json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs",
            "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let mut events = String::new();
    for text in texts {
        let delta = serde_json::json!([{"index": 0, "delta": {"content": text}, "finish_reason": null}]);
        events.push_str(&chunk(delta, None));
    }
    events.push_str(&chunk(serde_json::json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), None));
    if let Some(usage) = usage {
        events.push_str(&chunk(serde_json::json!([]), Some(&usage)));
    }
    events + "data: [DONE]\n\n"
}
