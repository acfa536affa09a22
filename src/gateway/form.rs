//! Forms (`multipart/form-data`): never held whole in memory. What comes is spooled, what Keyhouse acts upon is checked,
//! and what goes to an upstream is written anew, field by field, from the spool.

use super::client::{FormBody, Payload};
use super::endpoint::Endpoint;
use super::error::GatewayError;
use super::json::is_spelling;
use super::request;
use super::room::{Room, Taken};
use super::wish::Wish;
use crate::domain::usage::TOKENS_MAX;
use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::HttpRequest;
use actix_web::web::{Bytes, BytesMut, Payload as Incoming};
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::SpooledTempFile;

/// Largest form that is read.
pub const FORM_BYTES_MAX: usize = 100 << 20;
/// Up to here a form stays in memory; beyond it goes to a file without a name.
const MEMORY_BYTES_MAX: usize = 256 << 10;
const PIECE_BYTES: usize = 64 << 10;
const FIELDS_MAX: usize = 64;
/// Longest name of a field or a file, and longest value of a field that is acted upon.
const NAME_BYTES_MAX: usize = 512;
/// Longest pause between two pieces, and longest time for all of them.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
const FORM_TIMEOUT: Duration = Duration::from_secs(600);
/// Forms that may be on their way at once: together they take no more of the disk than this times the largest.
const FORMS_MAX: usize = 64;
/// Of one account.
const FORMS_EACH_MAX: usize = 16;
static PLACES: Room = Room::new(FORMS_MAX, FORMS_EACH_MAX);

/// A checked form.
pub struct Form {
    /// What matters of it.
    pub wish: Wish,
    parts: Vec<Part>,
    spool: Spool,
}

/// A field, and where in the spool its value is.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    start: u64,
    bytes: u64,
}

/// What was read of a form, shared by the tries to send it.
#[derive(Clone)]
struct Spool(Arc<Spooled>);

struct Spooled {
    file: Mutex<SpooledTempFile>,
    _place: Taken,
}

impl Spool {
    fn new(user_id: i64) -> Result<Self, GatewayError> {
        let place = PLACES.take(user_id, 1).ok_or(GatewayError::Busy)?;
        let file = Mutex::new(SpooledTempFile::new(MEMORY_BYTES_MAX));
        Ok(Self(Arc::new(Spooled { file, _place: place })))
    }

    /// On a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SpooledTempFile) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let spool = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            work(&mut spool.file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.map_err(io::Error::other)?
    }

    async fn append(&self, bytes: Bytes) -> Result<(), GatewayError> {
        self.with(move |file| file.write_all(&bytes)).await.map_err(|error| {
            tracing::error!(%error, "a form cannot be spooled");
            GatewayError::Internal
        })
    }

    async fn read(&self, start: u64, bytes: usize) -> io::Result<Bytes> {
        self.with(move |file| {
            file.seek(SeekFrom::Start(start))?;
            let mut piece = vec![0; bytes];
            file.read_exact(&mut piece)?;
            Ok(piece.into())
        })
        .await
    }
}

impl Form {
    /// Reads a form of an account to its end.
    ///
    /// # Errors
    /// When it is none, is too large or too slow, or one too many; says which field is wrong.
    pub async fn read(
        endpoint: Endpoint,
        request: &HttpRequest,
        incoming: Incoming,
        user_id: i64,
    ) -> Result<Self, GatewayError> {
        let spool = Spool::new(user_id)?;
        let mut reading = Reading { endpoint, spool, parts: Vec::new(), bytes: 0, values: BTreeMap::new() };
        let mut fields = Multipart::new(request.headers(), incoming);
        let read = async {
            while let Some(field) = in_time(fields.next()).await? {
                reading.take(field.map_err(|error| malformed(&error))?).await?;
            }
            Ok::<(), GatewayError>(())
        };
        tokio::time::timeout(FORM_TIMEOUT, read).await.map_err(|_| GatewayError::BodyTimeout)??;
        reading.finish()
    }

    /// The form for an upstream: the same fields in the same order, with its own name for the model.
    pub fn for_upstream(&self, upstream_model: &str) -> Payload {
        let boundary = format!("keyhouse-{:032x}", rand::random::<u128>());
        let mut segments = Vec::with_capacity(2 * self.parts.len() + 1);
        for part in &self.parts {
            let mut head = part.head(&boundary);
            if part.name == "model" {
                head.push_str(upstream_model);
                segments.push(Segment::Text(head));
            } else {
                segments.push(Segment::Text(head));
                segments.push(Segment::Spooled { start: part.start, bytes: part.bytes });
            }
            segments.push(Segment::Text("\r\n".into()));
        }
        segments.push(Segment::Text(format!("--{boundary}--\r\n")));
        let bytes = segments.iter().map(Segment::bytes).sum();
        let pieces = segments.into_iter().flat_map(Segment::pieces);
        let spool = self.spool.clone();
        let pieces = stream::iter(pieces).then(move |piece| {
            let spool = spool.clone();
            async move {
                match piece {
                    Segment::Text(text) => Ok(Bytes::from(text)),
                    Segment::Spooled { start, bytes } => {
                        spool.read(start, usize::try_from(bytes).unwrap_or(PIECE_BYTES)).await
                    }
                }
            }
        });
        let content_type = format!("multipart/form-data; boundary={boundary}");
        Payload::Form(FormBody { content_type, bytes, pieces: pieces.boxed() })
    }
}

/// A piece of the form that is sent.
enum Segment {
    Text(String),
    Spooled { start: u64, bytes: u64 },
}

impl Segment {
    fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Spooled { bytes, .. } => *bytes,
        }
    }

    /// None longer than is kept in memory at once.
    fn pieces(self) -> Vec<Self> {
        let Self::Spooled { start, bytes } = self else { return vec![self] };
        let step = PIECE_BYTES as u64;
        let piece = |offset| Self::Spooled { start: start + offset, bytes: step.min(bytes - offset) };
        (0..bytes).step_by(PIECE_BYTES).map(piece).collect()
    }
}

impl Part {
    /// Its boundary and headers: name, file name and type, and nothing else that the caller sent.
    fn head(&self, boundary: &str) -> String {
        let mut head =
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"", escaped(&self.name));
        if let Some(file_name) = &self.file_name {
            head.push_str(&format!("; filename=\"{}\"", escaped(file_name)));
        }
        if let Some(content_type) = &self.content_type {
            head.push_str(&format!("\r\ncontent-type: {content_type}"));
        }
        head + "\r\n\r\n"
    }
}

/// As browsers write names (WHATWG, "multipart/form-data encoding algorithm"); other control characters are left out.
fn escaped(name: &str) -> String {
    let escape = |c: char| match c {
        '"' => "%22".to_owned(),
        '\r' => "%0D".to_owned(),
        '\n' => "%0A".to_owned(),
        c if c.is_control() => String::new(),
        c => c.to_string(),
    };
    name.chars().map(escape).collect()
}

/// A form that is being read.
struct Reading {
    endpoint: Endpoint,
    spool: Spool,
    parts: Vec<Part>,
    bytes: u64,
    /// Of the fields that are acted upon.
    values: BTreeMap<&'static str, String>,
}

impl Reading {
    async fn take(&mut self, mut field: Field) -> Result<(), GatewayError> {
        let name = field.name().unwrap_or_default().to_owned();
        let disposition = field.content_disposition();
        let file_name = disposition.and_then(|disposition| disposition.get_filename()).map(str::to_owned);
        let content_type = field.content_type().map(ToString::to_string);
        let longest = [&name, file_name.as_ref().unwrap_or(&name), content_type.as_ref().unwrap_or(&name)];
        if name.is_empty() || longest.iter().any(|text| text.len() > NAME_BYTES_MAX) {
            return Err(GatewayError::Malformed(
                "Each field of the form must have a name of at most 512 bytes.".into(),
            ));
        }
        if self.parts.len() >= FIELDS_MAX {
            return Err(GatewayError::Malformed("The form has more than 64 fields.".into()));
        }
        let acted_upon = self.acted_upon(&name)?;
        let (start, mut value, mut pending) = (self.bytes, Vec::new(), BytesMut::new());
        while let Some(piece) = in_time(field.next()).await? {
            let piece = piece.map_err(|error| malformed(&error))?;
            self.bytes += piece.len() as u64;
            if self.bytes > FORM_BYTES_MAX as u64 {
                return Err(GatewayError::TooLarge { bytes_max: FORM_BYTES_MAX });
            }
            if acted_upon.is_some() && value.len() <= NAME_BYTES_MAX {
                value.extend_from_slice(&piece);
            }
            pending.extend_from_slice(&piece);
            if pending.len() >= PIECE_BYTES {
                self.spool.append(pending.split().freeze()).await?;
            }
        }
        if !pending.is_empty() {
            self.spool.append(pending.freeze()).await?;
        }
        if let Some(known) = acted_upon {
            let text = String::from_utf8(value).ok().filter(|text| text.len() <= NAME_BYTES_MAX);
            let text =
                text.ok_or_else(|| GatewayError::field(known, format!("`{known}` must be a short text.")))?;
            self.values.insert(known, text);
        }
        self.parts.push(Part { name, file_name, content_type, start, bytes: self.bytes - start });
        Ok(())
    }

    /// The field of this name that is acted upon; given once, and in no other spelling.
    fn acted_upon(&self, name: &str) -> Result<Option<&'static str>, GatewayError> {
        let known = self.endpoint.rules().acted_upon.iter().copied().filter(|known| *known != "prompt");
        let Some(known) = { known }.find(|known| is_spelling(known, name)) else { return Ok(None) };
        if known != name {
            return Err(GatewayError::field(known, format!("Write `{known}` in lower case.")));
        }
        if self.values.contains_key(known) {
            return Err(GatewayError::field(known, format!("`{known}` is given twice. Give it once.")));
        }
        Ok(Some(known))
    }

    fn finish(self) -> Result<Form, GatewayError> {
        let model = self.values.get("model").filter(|model| !model.is_empty());
        let model = model.ok_or(GatewayError::field("model", "`model` must be the name of a model."))?;
        if self.endpoint != Endpoint::ImageEdits
            && self.parts.iter().any(|part| is_spelling("url", &part.name))
        {
            let why = "How long a sound is that is given by its URL is not known here. Send it as `file`.";
            return Err(GatewayError::field("url", why));
        }
        // An upstream may take a field of that name for one, whether it has a file's name or not.
        let is_file = |part: &&Part| part.file_name.is_some() || is_spelling("file", &part.name);
        let files = self.parts.iter().filter(is_file);
        let file_bytes: u64 = files.clone().map(|part| part.bytes).sum();
        let text_bytes = usize::try_from(self.bytes - file_bytes).unwrap_or(usize::MAX);
        let mut wish = Wish::new(self.endpoint, model.clone(), text_bytes);
        wish.stream = match self.values.get("stream").map(String::as_str) {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(_) => return Err(GatewayError::field("stream", "`stream` must be true or false.")),
        };
        if self.endpoint == Endpoint::ImageEdits {
            wish.content.add_images(i64::try_from(files.count()).unwrap_or(i64::MAX));
            let (_, most) = self.endpoint.rules().answers.unwrap_or(("n", 1));
            let count = self.integer("n", most)?.unwrap_or(1);
            request::images(&mut wish, count, self.integer("partial_images", TOKENS_MAX));
        } else {
            if file_bytes == 0 {
                return Err(GatewayError::field("file", "`file` must be a sound."));
            }
            wish.sound_bytes = file_bytes;
        }
        Ok(Form { wish, parts: self.parts, spool: self.spool })
    }

    fn integer(&self, name: &'static str, max: i64) -> Result<Option<i64>, GatewayError> {
        let Some(value) = self.values.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let parsed = value.parse().ok().filter(|number| (1..=max).contains(number));
        parsed.map(Some).ok_or_else(|| {
            GatewayError::field(name, format!("`{name}` must be a whole number between 1 and {max}."))
        })
    }
}

async fn in_time<T>(next: impl Future<Output = T>) -> Result<T, GatewayError> {
    tokio::time::timeout(PIECE_TIMEOUT, next).await.map_err(|_| GatewayError::BodyTimeout)
}

fn malformed(error: &MultipartError) -> GatewayError {
    tracing::debug!(%error, "a form cannot be read");
    GatewayError::Malformed(
        "The body is not a form (multipart/form-data) that can be read to its end.".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let part = Part {
            name: "a\"; name=\"model".into(),
            file_name: Some("x\r\ncontent-type: evil\u{0}".into()),
            content_type: Some("audio/mpeg".into()),
            start: 0,
            bytes: 0,
        };
        let head = part.head("b");
        assert_eq!(head.matches("name=\"").count(), 2, "{head}");
        assert_eq!(head.lines().count(), 4, "{head}");
    }

    #[test]
    fn so_many_forms_and_no_more_are_on_their_way_at_once() {
        let of = |n: usize| i64::try_from(n / FORMS_EACH_MAX).expect("small");
        let forms: Vec<Spool> = (0..FORMS_MAX).map(|n| Spool::new(of(n)).expect("a place")).collect();
        assert!(matches!(Spool::new(99), Err(GatewayError::Busy)));
        let sending = forms[0].clone();
        drop(forms);
        let others: Vec<_> = (1..FORMS_MAX).map(|n| Spool::new(of(n)).expect("a place")).collect();
        assert!(Spool::new(99).is_err());
        drop((sending, others));
        assert!(Spool::new(99).is_ok());
    }

    #[test]
    fn a_long_value_is_read_in_small_pieces() {
        let bytes = 3 * PIECE_BYTES as u64 + 1;
        let pieces = Segment::Spooled { start: 5, bytes }.pieces();
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.iter().map(Segment::bytes).sum::<u64>(), bytes);
        assert!(Segment::Spooled { start: 5, bytes: 0 }.pieces().is_empty());
    }
}
