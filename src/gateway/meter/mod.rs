//! What a call used: read from what the upstream says, or, where it says nothing usable, estimated from what it
//! produced and marked so.

mod report;
mod text;

use super::content::estimate_text;
use super::endpoint::Endpoint;
use super::json::{each, from_bytes, object, read};
use crate::domain::price::Price;
use crate::domain::usage::{Usage, UsageSource};
use report::{Counting, Report, Said};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use text::Text;

/// Counts along with one answer, whole or in events.
#[derive(Debug, Clone)]
pub struct Meter {
    endpoint: Endpoint,
    /// What the input is taken for if nobody says: its tokens, and how long it sounds.
    input_estimate: i64,
    audio_estimate_ms: i64,
    /// No answer can have more.
    bound: Usage,
    /// Whether tokens, and seconds of sound, cost anything.
    tokens_cost: bool,
    sound_costs: bool,
    /// Apart, since most streams get their first report with their last event.
    reports: Option<Box<Reports>>,
    /// Bytes of text in the answer so far, and those since the last report.
    produced_bytes: usize,
    unreported_bytes: usize,
    images: i64,
    finished: bool,
    has_error: bool,
    is_refused: bool,
    response_id: Option<String>,
}

/// What the upstream has reported.
#[derive(Debug, Clone, Default)]
struct Reports {
    /// Added up.
    sum: Report,
    /// The tokens, as of the last time that they were usable.
    tokens: Option<Usage>,
}

/// What an event of a stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Part of the answer.
    Part,
    /// Usage and nothing else: for those who asked for it.
    UsageOnly,
    /// The upstream says that it failed.
    Error,
    /// The upstream says that the request was wrong.
    Refused,
    /// The end.
    Done,
    /// The end, and in it that the upstream failed.
    Failed,
}

/// The parts of an answer, or of an event of one, that matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parts<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// Of chat and completions.
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    /// Of a response; of an event of one.
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    /// Of a message; of an event of one.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    /// Images, or embeddings.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// Of a transcript.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    duration: Option<&'a RawValue>,
    /// A piece of a sound.
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    /// Of a ranking.
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

/// The `meta` of a ranking.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Billed<'a> {
    #[serde(borrow)]
    billed_units: Option<&'a RawValue>,
}

impl Meter {
    /// For a call whose use is estimated and bounded so.
    pub fn new(endpoint: Endpoint, estimate: Usage, bound: Usage, price: &Price) -> Self {
        Self {
            endpoint,
            input_estimate: estimate.input_tokens,
            audio_estimate_ms: estimate.audio_ms,
            bound,
            tokens_cost: price.input_micros > 0 || price.output_micros > 0,
            sound_costs: price.per_audio_second_micros > 0,
            reports: None,
            produced_bytes: 0,
            unreported_bytes: 0,
            images: 0,
            finished: false,
            has_error: false,
            is_refused: false,
            response_id: None,
        }
    }

    /// Reads a whole answer. `false`: it is no answer at all.
    pub fn read_whole(&mut self, body: &[u8]) -> bool {
        let parts = from_bytes::<Parts<'_>>(body).ok();
        // An array would be read as a list of fields.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let Some(parts) = parts.filter(|_| is_object) else { return self.read_text(body) };
        let text = parts.text.filter(|_| self.endpoint.answers_with_text());
        // What this route answers with. Some failures come with a usage of nothing, or no choices.
        let (answer, is_always_there) = match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => {
                (parts.choices.filter(|choices| !is_empty_array(choices.get())), true)
            }
            Endpoint::Messages => (parts.content, true),
            Endpoint::Responses => (parts.output, false),
            _ => (parts.data.or(text), false),
        };
        // A model may say nothing and have read all the same (Gemini's, whose `choices` are null then).
        let has_read = || {
            let mut meter = self.clone();
            meter.take_usage(&parts);
            meter.reported().is_some_and(|usage| usage.input_tokens > 0)
        };
        let is_none = match parts.error {
            Some(error) => {
                self.is_refused = failed(error) == Seen::Refused;
                true
            }
            None => is_always_there && !has_read(),
        };
        if answer.is_none() && is_none {
            return false;
        }
        self.has_error = parts.error.is_some();
        self.take_id(parts.id);
        self.take_usage(&parts);
        let produced = match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => parts.choices,
            Endpoint::Responses => parts.output,
            Endpoint::Messages => parts.content,
            Endpoint::Transcriptions | Endpoint::Translations => text,
            _ => None,
        };
        // What is counted already need not be estimated.
        if self.reported().is_none() {
            self.take_text(produced);
        }
        if matches!(self.endpoint, Endpoint::ImageGenerations | Endpoint::ImageEdits) {
            self.images += elements(parts.data);
        }
        true
    }

    /// Transcripts may come as plain text.
    fn read_text(&mut self, body: &[u8]) -> bool {
        let is_text = std::str::from_utf8(body).is_ok() && !body.trim_ascii_start().starts_with(b"<");
        if self.endpoint.answers_with_text() && is_text {
            self.produce(body.len());
            return true;
        }
        false
    }

    /// Reads the data of one event.
    pub fn read_event(&mut self, data: &[u8]) -> Seen {
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return Seen::Done;
        }
        let Ok(parts) = from_bytes::<Parts<'_>>(data) else {
            // Nobody knows what it is; the caller gets it, so it counts.
            self.produce(data.len());
            return Seen::Part;
        };
        match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => self.read_choices(&parts),
            _ => self.read_typed(&parts, data),
        }
    }

    fn read_choices(&mut self, parts: &Parts<'_>) -> Seen {
        self.take_text(parts.choices);
        self.take_usage(parts);
        let no_choices = parts.choices.is_none_or(|choices| is_empty_array(choices.get()));
        match (parts.error, parts.usage) {
            (Some(error), _) => failed(error),
            (None, Some(_)) if no_choices => {
                self.finished = true;
                Seen::UsageOnly
            }
            _ => Seen::Part,
        }
    }

    /// Events that say by `type` what they are.
    fn read_typed(&mut self, parts: &Parts<'_>, data: &[u8]) -> Seen {
        let kind = parts.r#type.as_deref().unwrap_or_default();
        if parts.error.is_some() || kind == "error" {
            // Of a response it is the event itself that says why.
            let said = parts.error.or_else(|| from_bytes(data).ok());
            return said.map_or(Seen::Error, failed);
        }
        for part in [parts.content_block, parts.delta, parts.audio] {
            self.take_text(part);
        }
        self.take_usage(parts);
        // What begins or ends an answer carries it whole, usage included.
        for inner in [parts.response, parts.message].into_iter().flatten() {
            if let Some(inner) = object::<Parts<'_>>(inner) {
                self.take_id(inner.id);
                self.take_usage(&inner);
            }
        }
        match kind {
            "message_stop"
            | "response.completed"
            | "response.incomplete"
            | "speech.audio.done"
            | "transcript.text.done" => Seen::Done,
            "response.failed" => Seen::Failed,
            "image_generation.completed" | "image_edit.completed" => {
                self.images += 1;
                self.finished = true;
                if self.images >= self.bound.images { Seen::Done } else { Seen::Part }
            }
            _ => Seen::Part,
        }
    }

    fn take_text(&mut self, part: Option<&RawValue>) {
        if let Some(part) = part {
            let text = Text::of(part);
            self.produce(text.bytes);
            self.finished |= text.finished;
        }
    }

    /// Only a response is asked for again by its id.
    fn take_id(&mut self, id: Option<&RawValue>) {
        let id = id.filter(|_| self.endpoint == Endpoint::Responses).and_then(read);
        self.response_id = id.or(self.response_id.take());
    }

    fn take_usage(&mut self, parts: &Parts<'_>) {
        let billed = || parts.meta.and_then(object::<Billed<'_>>)?.billed_units;
        let seconds = parts.duration.and_then(read);
        let usage = parts.usage.or_else(billed).and_then(object::<Said<'_>>);
        if seconds.is_none() && usage.is_none() {
            return;
        }
        let (counting, has_output) = (self.counting(), self.endpoint.has_output());
        let Reports { sum, tokens } = &mut **self.reports.get_or_insert_default();
        if let Some(seconds) = seconds {
            sum.read_duration(&seconds);
        }
        let Some(usage) = usage.filter(|usage| sum.read(usage, counting).is_ok()) else { return };
        if !has_output {
            sum.read_total(&usage);
        }
        if let Some(usable) = sum.tokens(counting, has_output) {
            *tokens = Some(usable);
            self.unreported_bytes = 0;
        }
    }

    /// The tokens that the upstream reported, if it did.
    fn reported(&self) -> Option<Usage> {
        self.reports.as_ref()?.tokens
    }

    fn counting(&self) -> Counting {
        if self.endpoint == Endpoint::Messages { Counting::Exclusive } else { Counting::Inclusive }
    }

    fn produce(&mut self, bytes: usize) {
        self.produced_bytes += bytes;
        self.unreported_bytes += bytes;
    }

    /// Notes bytes of an answer that is neither JSON nor events.
    pub fn read_bytes(&mut self, bytes: usize) {
        self.produce(bytes);
    }

    /// Whether anything was produced or reported: an upstream that failed before costs nothing. (A message begins with
    /// a report of its input.)
    pub fn has_begun(&self) -> bool {
        let reported = self.reported().is_some_and(|usage| usage.output_tokens > 0);
        self.produced_bytes > 0 || self.images > 0 || (reported && self.endpoint != Endpoint::Messages)
    }

    /// Whether the upstream brought the answer to its end, by a finish reason or a last report.
    pub fn has_finished(&self) -> bool {
        self.finished
    }

    /// Whether an answer that came whole says that something failed.
    pub fn has_error(&self) -> bool {
        self.has_error
    }

    /// Whether what came whole, and was no answer, says that the request was wrong.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// What the upstream calls the answer.
    pub fn response_id(&self) -> Option<&str> {
        self.response_id.as_deref()
    }

    /// What was used so far, and who says so.
    pub fn usage(&self) -> (Usage, UsageSource) {
        let output_estimate = self.output_estimate();
        let (tokens, mut source) = match self.reported() {
            Some(usage) if self.unreported_bytes == 0 => (usage, UsageSource::Upstream),
            // A report that more text followed: its input stands, its output is too little.
            Some(usage) => {
                let output_tokens = usage.output_tokens.max(output_estimate);
                (Usage { output_tokens, ..usage }, UsageSource::Estimated)
            }
            // Priced by something else, which is counted: nobody need guess at tokens.
            None if self.endpoint.is_media() && !self.tokens_cost => (Usage::NONE, UsageSource::Upstream),
            None => {
                let input_tokens = self.input_estimate;
                let estimated = Usage { input_tokens, output_tokens: output_estimate, ..Usage::NONE };
                (estimated, UsageSource::Estimated)
            }
        };
        let heard = self.reports.as_ref().and_then(|reports| reports.sum.audio_ms());
        let audio_ms = heard.unwrap_or_else(|| {
            if self.sound_costs && self.bound.audio_ms > 0 {
                source = UsageSource::Estimated;
                return self.audio_estimate_ms;
            }
            0
        });
        let images = self.images.min(self.bound.images);
        (Usage { images, audio_ms, characters: self.bound.characters, ..tokens }, source)
    }

    fn output_estimate(&self) -> i64 {
        let estimate = match self.endpoint {
            Endpoint::ImageGenerations | Endpoint::ImageEdits => {
                self.bound.output_tokens / self.bound.images.max(1) * self.images
            }
            // OpenAI's pricing page: gpt-4o-mini-tts makes 20 tokens a second, in which some 15 characters are said.
            Endpoint::Speech => self.bound.characters * 4 / 3,
            _ => estimate_text(self.produced_bytes),
        };
        estimate.min(self.bound.output_tokens)
    }
}

/// Whether an error is the upstream's or the caller's, whom it tells so where it did not by its status.
fn failed(error: &RawValue) -> Seen {
    #[derive(Deserialize)]
    struct Reason<'a> {
        #[serde(borrow, default)]
        r#type: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        code: Option<&'a RawValue>,
    }
    let Some(Reason { r#type: kind, code }) = object(error) else { return Seen::Error };
    let is_bad = kind.is_some_and(|kind| matches!(&*kind, "invalid_request_error" | "BadRequestError"));
    let code = code.map_or("", |code| code.get().trim_matches('"'));
    let is_bad = is_bad || code.starts_with("invalid_") || code == "context_length_exceeded";
    match is_bad || matches!(code, "400" | "404" | "413" | "415" | "422") {
        true => Seen::Refused,
        false => Seen::Error,
    }
}

fn elements(array: Option<&RawValue>) -> i64 {
    let mut elements = 0;
    array.map(|array| each(array, |_| elements += 1));
    elements
}

fn is_empty_array(json: &str) -> bool {
    json.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.trim().is_empty())
}

#[cfg(test)]
mod tests;
