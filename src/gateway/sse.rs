//! Server-sent events, cut out of bytes as they come: split anywhere, any line ending, bounded memory.
//! Gives each event's own bytes beside its data, so that what is relayed is what was sent.

use super::body::append;
use bytes::Bytes;
use memchr::memchr2;
use std::borrow::Cow;

/// Largest event that is relayed; a stream with a larger one counts as broken. An image in base64 fits: the largest
/// that OpenAI's models make, 1536 × 1024 in PNG, is some megabytes.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// An event larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLarge;

/// One event with the blank line that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// As received.
    pub raw: Bytes,
}

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub struct Events {
    /// What came and is not cut yet: of an event that came whole, the very bytes that were received.
    buffer: Bytes,
    /// Where the line that is not complete yet begins; lines before it were seen.
    line_start: usize,
    /// Up to where that line was looked through: a long one that comes in crumbs is not read again for each.
    searched: usize,
    /// Whether the bytes before `line_start` hold anything but blank lines.
    begun: bool,
}

impl Events {
    /// Takes what came.
    pub fn push(&mut self, chunk: Bytes) {
        append(&mut self.buffer, chunk);
    }

    /// The next whole event, if it is there.
    ///
    /// # Errors
    /// [`EventTooLarge`]; the stream cannot be read on.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        while let Some((more, with_ending)) = first_line(&self.buffer[self.searched..]) {
            let line_bytes = self.searched + more - self.line_start;
            self.searched += with_ending;
            self.line_start = self.searched;
            if line_bytes > 0 {
                self.begun = true;
            } else if self.begun {
                return self.cut().map(Some);
            }
        }
        // A CR at the very end is looked at again, with what follows it.
        self.searched = self.buffer.len() - usize::from(self.buffer.ends_with(b"\r"));
        if self.buffer.len() > EVENT_BYTES_MAX { Err(EventTooLarge) } else { Ok(None) }
    }

    fn cut(&mut self) -> Result<Event, EventTooLarge> {
        let raw = self.buffer.split_to(self.line_start);
        (self.line_start, self.searched, self.begun) = (0, 0, false);
        if raw.len() > EVENT_BYTES_MAX { Err(EventTooLarge) } else { Ok(Event { raw }) }
    }

    /// What is left when the stream has ended: an event whose blank line never came.
    pub fn rest(&mut self) -> Bytes {
        (self.line_start, self.searched, self.begun) = (0, 0, false);
        std::mem::take(&mut self.buffer)
    }
}

/// Length of the first line without and with its ending: LF, CR LF, or CR. A CR at the very end waits for what follows.
fn first_line(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = memchr2(b'\n', b'\r', bytes)?;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\n', _) => Some((end, end + 1)),
        (_, Some(b'\n')) => Some((end, end + 2)),
        (_, Some(_)) => Some((end, end + 1)),
        (_, None) => None,
    }
}

impl Event {
    /// Its `data` lines, joined; `None` for comments and events without data.
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut rest = self.raw.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.raw);
        let mut data: Option<Cow<'_, [u8]>> = None;
        while let Some((line_bytes, with_ending)) = first_line(rest).or_else(|| last_line(rest)) {
            if let Some(value) = data_of(&rest[..line_bytes]) {
                data = Some(match data {
                    None => Cow::Borrowed(value),
                    Some(before) => {
                        let mut joined = before.into_owned();
                        joined.push(b'\n');
                        joined.extend_from_slice(value);
                        Cow::Owned(joined)
                    }
                });
            }
            rest = &rest[with_ending..];
        }
        data
    }
}

/// A line that ends with a lone CR, or with nothing.
fn last_line(bytes: &[u8]) -> Option<(usize, usize)> {
    let content = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    (!bytes.is_empty()).then_some((content.len(), bytes.len()))
}

fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data")?;
    if value.is_empty() {
        return Some(value);
    }
    let value = value.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> (Vec<Event>, Bytes) {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for chunk in chunks {
            events.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = events.next_event().expect("small") {
                found.push(event);
            }
        }
        (found, events.rest())
    }

    fn data(stream: &[u8]) -> Vec<Option<String>> {
        let text = |data: Cow<'_, [u8]>| String::from_utf8_lossy(&data).into_owned();
        read(&[stream]).0.iter().map(|event| event.data().map(text)).collect()
    }

    #[test]
    fn events_have_lines_comments_and_any_line_ending() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(data(b"data: a\n\ndata:b\r\n\r\ndata: c\r\rx"), [some("a"), some("b"), some("c")]);
        assert_eq!(data(b": keep-alive\n\nevent: x\ndata: 1\ndata:  2\ndata\n\n"), [None, some("1\n 2\n")]);
        assert_eq!(data("\u{FEFF}data: \u{1F600}\n\n".as_bytes()), [some("\u{1F600}")]);
        assert_eq!(data(b"\n\n\ndata: late\n\n"), [some("late")]);
        assert_eq!(data(b"database: 1\n\n"), [None]);
    }

    #[test]
    fn an_event_without_its_blank_line_is_left_over() {
        let (events, rest) = read(&[b"data: a\n\ndata: b\n"]);
        assert_eq!((events.len(), &rest[..]), (1, &b"data: b\n"[..]));
    }

    #[test]
    fn a_line_of_ten_megabytes_is_read_and_one_without_end_refused_with_bounded_memory() {
        let mut events = Events::default();
        events.push(vec![b'x'; 10 << 20].into());
        assert_eq!(events.next_event(), Ok(None));
        events.push("\n\n".into());
        assert!(matches!(events.next_event(), Ok(Some(event)) if event.raw.len() == (10 << 20) + 2));
        let mut fed = 0;
        while events.next_event() == Ok(None) {
            events.push(vec![b'x'; 64 << 10].into());
            fed += 64 << 10;
        }
        assert!(fed <= EVENT_BYTES_MAX + (64 << 10));
    }

    #[test]
    fn a_line_that_comes_in_crumbs_is_read_once() {
        let mut events = Events::default();
        for _ in 0..1 << 20 {
            events.push("x".into());
            assert_eq!(events.next_event(), Ok(None));
        }
        events.push("\r".into());
        assert_eq!(events.next_event(), Ok(None));
        events.push("\n\r\n".into());
        assert!(matches!(events.next_event(), Ok(Some(_))));
    }

    #[test]
    fn an_event_of_a_million_lines_is_joined_in_one_go() {
        let raw = Bytes::from("data: x\n".repeat(1 << 20) + "\n");
        assert!(matches!(Event { raw }.data(), Some(data) if data.len() == (2 << 20) - 1));
    }

    proptest! {
        #[test]
        fn splits_change_nothing(
            pieces in proptest::collection::vec("(data: ?[a-zé]{0,6}|: c|event: e|)(\n|\r\n|\r)", 0..30),
            offsets in proptest::collection::vec(0usize..400, 0..20),
        ) {
            let stream = pieces.concat().into_bytes();
            let mut cuts: Vec<usize> = offsets.into_iter().filter(|at| *at <= stream.len()).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let (whole, split) = (read(&[&stream]), read(&chunks));
            prop_assert_eq!(&whole, &split);
            let mut joined: Vec<u8> = split.0.iter().flat_map(|event| event.raw.to_vec()).collect();
            joined.extend_from_slice(&split.1);
            prop_assert_eq!(joined, stream);
        }

        #[test]
        fn no_bytes_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            for event in read(&chunks).0 {
                event.data();
            }
        }
    }
}
