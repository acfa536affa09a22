//! The upstream that everything is measured against: HTTP/1.1 by hand on one thread, so that it costs little beside
//! what is measured. It answers 600 bytes of chat JSON, or 20 chunks of a stream; the model's name says how fast.

use super::answer::{Head, head_of};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Of every JSON answer.
pub const JSON_BYTES: usize = 600;
/// Of every stream, besides one with the usage for those who ask for it, and the last word.
pub const CHUNKS: u32 = 20;
/// What its models' names begin with; the rest is the pause between two chunks, in milliseconds.
pub const MODEL_PREFIX: &str = "pace-";

const REQUEST_BYTES_MAX: usize = 64 * 1024;
const USAGE: &str = r#""usage":{"prompt_tokens":31,"completion_tokens":20,"total_tokens":51}"#;

/// Serves until the process ends.
pub async fn serve(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A caller who goes away is nobody's failure.
        tokio::spawn(async move { drop(converse(stream).await) });
    }
}

/// Answers one request after the other.
async fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    let (json, events) = (json_answer(), Events::new());
    let mut received = Vec::with_capacity(4096);
    loop {
        let request_bytes = loop {
            if let Some(Head { length, body_bytes, .. }) = head_of(&received)? {
                let whole = length + body_bytes.unwrap_or(0);
                if received.len() >= whole {
                    break whole;
                }
            }
            if received.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let request = String::from_utf8_lossy(&received[..request_bytes]);
        if request.contains(r#""stream":true"#) {
            let with_usage = request.contains(r#""include_usage":true"#);
            events.send(&mut stream, pause_of(&request), with_usage).await?;
        } else {
            stream.write_all(&json).await?;
        }
        received.drain(..request_bytes);
    }
}

/// What the model's name says.
fn pause_of(request: &str) -> Duration {
    let digits = request.split_once(MODEL_PREFIX).map_or("", |(_, rest)| rest);
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    Duration::from_millis(digits.parse().unwrap_or(0))
}

/// The body of a JSON answer: exactly [`JSON_BYTES`].
pub fn json_body() -> String {
    let with = |words: &str| {
        format!(
            r#"{{"id":"chatcmpl-Bench0123456789","object":"chat.completion","created":1760000000,"model":"pace-0","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],{USAGE},"service_tier":"default"}}"#
        )
    };
    let words = "A house is a place to live in. ".repeat(JSON_BYTES);
    with(&words[..JSON_BYTES - with("").len()])
}

fn json_answer() -> Vec<u8> {
    let body = json_body();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A stream's pieces, each as it goes over the wire.
struct Events {
    head: Vec<u8>,
    chunk: Vec<u8>,
    usage: Vec<u8>,
    end: Vec<u8>,
}

impl Events {
    fn new() -> Self {
        let start = r#"data: {"id":"chatcmpl-Bench0123456789","object":"chat.completion.chunk","created":1760000000,"model":"pace-0","#;
        let chunk = |rest: &str| {
            let event = format!("{start}{rest}}}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len())
        };
        let last = "data: [DONE]\n\n";
        Self {
            head: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec(),
            chunk: chunk(r#""choices":[{"index":0,"delta":{"content":" house"},"finish_reason":null}]"#)
                .into_bytes(),
            usage: chunk(&format!(r#""choices":[],{USAGE}"#)).into_bytes(),
            end: format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).into_bytes(),
        }
    }

    async fn send(&self, stream: &mut TcpStream, pause: Duration, with_usage: bool) -> std::io::Result<()> {
        stream.write_all(&self.head).await?;
        let began = tokio::time::Instant::now();
        for chunk in 0..CHUNKS {
            if chunk > 0 && !pause.is_zero() {
                // By the clock: what a timer oversleeps does not add up.
                tokio::time::sleep_until(began + pause * chunk).await;
            }
            stream.write_all(&self.chunk).await?;
        }
        if with_usage {
            stream.write_all(&self.usage).await?;
        }
        stream.write_all(&self.end).await
    }
}
