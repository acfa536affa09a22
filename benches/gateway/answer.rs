//! Reading HTTP/1.1 by hand: heads, bodies of a known length, and chunked ones, with the moment each event came.

use std::io;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// More than any answer here has.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const HEADERS_MAX: usize = 64;

/// What a head says.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Of an answer; 0 of a request.
    pub status: u16,
    /// Its own bytes.
    pub length: usize,
    /// Of what follows; `None`: chunked.
    pub body_bytes: Option<usize>,
}

/// The head of a request or answer, if it has come whole.
pub fn head_of(received: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let (status, length) = if received.starts_with(b"HTTP/") {
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(received).map_err(io::Error::other)?;
        (answer.code.unwrap_or(0), parsed)
    } else {
        (0, httparse::Request::new(&mut headers).parse(received).map_err(io::Error::other)?)
    };
    let httparse::Status::Complete(length) = length else { return Ok(None) };
    let mut body_bytes = Some(0);
    for header in headers.iter().take_while(|header| !header.name.is_empty()) {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(io::Error::other)?;
            body_bytes = Some(text.trim().parse().map_err(io::Error::other)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body_bytes = None;
        }
    }
    Ok(Some(Head { status, length, body_bytes }))
}

/// One connection's incoming half, with its memory reused from answer to answer.
#[derive(Default)]
pub struct Reader {
    received: Vec<u8>,
    /// Of the last answer, without the chunks' frames.
    pub body: Vec<u8>,
}

impl Reader {
    /// Reads one answer and gives its status. `on_events` is told how many events a read brought, and when.
    pub async fn read(
        &mut self,
        stream: &mut TcpStream,
        mut on_events: impl FnMut(usize, Instant),
    ) -> io::Result<u16> {
        self.body.clear();
        let head = loop {
            if let Some(head) = head_of(&self.received)? {
                break head;
            }
            self.more(stream).await?;
        };
        self.received.drain(..head.length);
        let mut looked_at = 0;
        loop {
            let came = Instant::now();
            let done = match head.body_bytes {
                Some(length) => self.take(length),
                None => self.take_chunks()?,
            };
            let events = self.new_events(&mut looked_at);
            if events > 0 {
                on_events(events, came);
            }
            if done {
                return Ok(head.status);
            }
            self.more(stream).await?;
        }
    }

    async fn more(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let read = stream.read_buf(&mut self.received).await?;
        if read == 0 || self.received.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the connection was closed in the middle of an answer"));
        }
        Ok(())
    }

    /// Takes a body of a known length; whether it is whole.
    fn take(&mut self, length: usize) -> bool {
        let missing = length - self.body.len();
        let taken = missing.min(self.received.len());
        self.body.extend(self.received.drain(..taken));
        taken == missing
    }

    /// Takes the chunks that have come whole; whether the last one has.
    fn take_chunks(&mut self) -> io::Result<bool> {
        let mut rest = self.received.as_slice();
        let done = loop {
            let httparse::Status::Complete((start, length)) =
                httparse::parse_chunk_size(rest).map_err(|_| io::Error::other("a chunk without a size"))?
            else {
                break false;
            };
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let Some(data) = rest.get(start..start + length + 2) else { break false };
            self.body.extend_from_slice(&data[..length]);
            rest = &rest[start + length + 2..];
            if length == 0 {
                break true;
            }
        };
        let taken = self.received.len() - rest.len();
        self.received.drain(..taken);
        Ok(done)
    }

    /// Events that ended since the last look.
    fn new_events(&self, looked_at: &mut usize) -> usize {
        // An event's end may lie across two reads.
        let fresh = &self.body[looked_at.saturating_sub(1)..];
        *looked_at = self.body.len();
        fresh.windows(2).filter(|pair| pair == b"\n\n").count()
    }
}
