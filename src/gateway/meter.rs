//! What a call used: read from what the upstream says, or, where it says nothing usable, estimated from what it
//! produced and marked so.

use super::content::estimate_text;
use crate::domain::usage::{Usage, UsageSource};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

/// Counts along with one answer, whole or in events.
#[derive(Debug, Clone)]
pub struct Meter {
    /// What the input is taken for if nobody says.
    input_estimate: i64,
    /// No answer can have more.
    output_max: i64,
    /// The last usable report.
    reported: Option<Usage>,
    /// Bytes of text in the answer so far, and those since the last report.
    produced_bytes: usize,
    unreported_bytes: usize,
    finished: bool,
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
    /// The end.
    Done,
}

/// The parts of an answer, or of an event of one, that matter here.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Meter {
    /// For a call whose input and output are estimated and bounded so.
    pub fn new(input_estimate: i64, output_max: i64) -> Self {
        Self {
            input_estimate,
            output_max,
            reported: None,
            produced_bytes: 0,
            unreported_bytes: 0,
            finished: false,
        }
    }

    /// Reads a whole answer. `false`: it is no answer at all.
    pub fn read_whole(&mut self, body: &[u8]) -> bool {
        let Ok(parts) = serde_json::from_slice::<Parts<'_>>(body) else { return false };
        if parts.error.is_some() && parts.choices.is_none() {
            return false;
        }
        self.take(&parts);
        true
    }

    /// Reads the data of one event.
    pub fn read_event(&mut self, data: &[u8]) -> Seen {
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return Seen::Done;
        }
        let Ok(parts) = serde_json::from_slice::<Parts<'_>>(data) else {
            // Nobody knows what it is; the caller gets it, so it counts.
            self.produce(data.len());
            return Seen::Part;
        };
        self.take(&parts);
        let no_choices = parts.choices.is_none_or(|choices| is_empty_array(choices.get()));
        match (parts.error, parts.usage) {
            (Some(_), _) => Seen::Error,
            (None, Some(_)) if no_choices => {
                self.finished = true;
                Seen::UsageOnly
            }
            _ => Seen::Part,
        }
    }

    fn take(&mut self, parts: &Parts<'_>) {
        if let Some(choices) = parts.choices {
            let mut text = Text::default();
            let mut reader = serde_json::Deserializer::from_str(choices.get());
            match Walk(&mut text).deserialize(&mut reader) {
                Ok(()) => self.produce(text.bytes),
                Err(_) => self.produce(choices.get().len()),
            }
            self.finished |= text.finished;
        }
        if let Some(usage) = parts.usage.and_then(|usage| parse_usage(usage.get())) {
            self.reported = Some(usage);
            self.unreported_bytes = 0;
        }
    }

    fn produce(&mut self, bytes: usize) {
        self.produced_bytes += bytes;
        self.unreported_bytes += bytes;
    }

    /// Whether anything was produced or reported: an upstream that failed before costs nothing.
    pub fn has_begun(&self) -> bool {
        self.produced_bytes > 0 || self.reported.is_some_and(|usage| usage.output_tokens > 0)
    }

    /// Whether the upstream brought the answer to its end, by a finish reason or a last report.
    pub fn has_finished(&self) -> bool {
        self.finished
    }

    /// What was used so far, and who says so.
    pub fn usage(&self) -> (Usage, UsageSource) {
        let output_estimate = estimate_text(self.produced_bytes).min(self.output_max);
        match self.reported {
            Some(usage) if self.unreported_bytes == 0 => (usage, UsageSource::Upstream),
            // A report that more text followed: its input stands, its output is too little.
            Some(usage) => {
                let output_tokens = usage.output_tokens.max(output_estimate);
                (Usage { output_tokens, ..usage }, UsageSource::Estimated)
            }
            None => {
                let usage = Usage {
                    input_tokens: self.input_estimate,
                    cached_input_tokens: 0,
                    output_tokens: output_estimate,
                };
                (usage, UsageSource::Estimated)
            }
        }
    }
}

fn is_empty_array(json: &str) -> bool {
    json.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.trim().is_empty())
}

/// A report in OpenAI's shape; `None` unless both counts are there and sane.
fn parse_usage(json: &str) -> Option<Usage> {
    let usage: Value = serde_json::from_str(json).ok()?;
    let input_tokens = usage.get("prompt_tokens")?.as_i64()?;
    let output_tokens = usage.get("completion_tokens")?.as_i64()?;
    let cached = match usage.pointer("/prompt_tokens_details/cached_tokens") {
        None | Some(Value::Null) => 0,
        Some(cached) => cached.as_i64()?,
    };
    Usage::checked(input_tokens, cached, output_tokens)
}

/// What `choices` hold.
#[derive(Default)]
struct Text {
    bytes: usize,
    finished: bool,
}

/// The keys of an answer that are not its text.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    FinishReason,
    Role,
    Type,
    Id,
    Object,
    Logprobs,
    #[serde(other)]
    Other,
}

/// Adds up the strings of an answer, but for those that are not produced token by token.
struct Walk<'a>(&'a mut Text);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::FinishReason => self.0.finished |= map.next_value::<Option<IgnoredAny>>()?.is_some(),
                Key::Role | Key::Type | Key::Id | Key::Object | Key::Logprobs => {
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Other => map.next_value_seed(Walk(self.0))?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.bytes += text.len();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DELTA: &[u8] = br#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"12345678"},"finish_reason":null}],"usage":null}"#;
    const USAGE: &[u8] = br#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}"#;

    fn tokens(meter: &Meter) -> (i64, i64, i64, UsageSource) {
        let (usage, source) = meter.usage();
        (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, source)
    }

    #[test]
    fn a_stream_is_charged_as_its_last_event_says() {
        let mut meter = Meter::new(100, 1_000);
        assert_eq!(meter.read_event(DELTA), Seen::Part);
        assert_eq!(tokens(&meter), (100, 0, 2, UsageSource::Estimated));
        assert_eq!(meter.read_event(USAGE), Seen::UsageOnly);
        assert_eq!(tokens(&meter), (9, 3, 4, UsageSource::Upstream));
        assert_eq!(meter.read_event(b" [DONE] "), Seen::Done);
        assert!(meter.has_begun() && meter.has_finished());
    }

    #[test]
    fn a_report_that_text_followed_is_a_lower_bound() {
        let mut meter = Meter::new(100, 1_000);
        meter.read_event(USAGE);
        for _ in 0..10 {
            meter.read_event(DELTA);
        }
        assert_eq!(tokens(&meter), (9, 3, 20, UsageSource::Estimated));
    }

    #[test]
    fn an_explicit_zero_is_a_report() {
        let mut meter = Meter::new(100, 1_000);
        assert!(meter.read_whole(
            br#"{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#
        ));
        assert_eq!(tokens(&meter), (0, 0, 0, UsageSource::Upstream));
    }

    #[test]
    fn unusable_reports_are_estimated_within_the_bound() {
        for usage in [
            "null",
            "{}",
            "7",
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1,"completion_tokens":-1}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1e30}"#,
            r#"{"prompt_tokens":1,"completion_tokens":"3"}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
        ] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"12345678"}}}}],"usage":{usage}}}"#);
            let mut meter = Meter::new(100, 1);
            assert!(meter.read_whole(body.as_bytes()));
            assert_eq!(tokens(&meter), (100, 0, 1, UsageSource::Estimated), "{usage}");
        }
    }

    #[test]
    fn tool_calls_count_and_log_probabilities_do_not() {
        let mut meter = Meter::new(0, 1_000);
        meter.read_event(
            br#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1234","type":"function","function":{"name":"f\u00e9","arguments":"{}12"}}]},"logprobs":{"content":[{"token":"xxxxxxxx"}]}}]}"#,
        );
        assert_eq!(meter.produced_bytes, 7);
    }

    #[test]
    fn what_is_no_answer_is_known() {
        for body in ["", "<html>", "[]", "{\"error\":{}}", "\u{0}"] {
            assert!(!Meter::new(0, 0).read_whole(body.as_bytes()), "{body}");
        }
        assert_eq!(Meter::new(0, 9).read_event(br#"{"error":{"message":"x"}}"#), Seen::Error);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_nor_exceed_the_bound(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut meter = Meter::new(5, 7);
            meter.read_event(&data);
            meter.read_whole(&data);
            prop_assert!(meter.usage().0.output_tokens <= 7);
        }
    }
}
