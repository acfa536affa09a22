//! What upstreams report of a call's usage, in each of the shapes they really send. What is negative, absurd or
//! contradictory counts as not reported.

use crate::domain::usage::{TOKENS_MAX, Usage};
use crate::gateway::json::{object, read};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// What is reported so far; a later value replaces an earlier one, a missing one does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    input: Option<i64>,
    cached: Option<i64>,
    written: Option<i64>,
    output: Option<i64>,
    reasoning: Option<i64>,
    audio_ms: Option<i64>,
}

/// A number was there and cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable;

/// How a report counts its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// OpenAI's: the input includes what was read from the cache and written to it.
    Inclusive,
    /// Anthropic's: `input_tokens` is the rest beside both.
    Exclusive,
}

/// A `usage` object, its numbers unread: what nobody asks for may be anything. (Its names are of all dialects; of two
/// that say the same, the first that is given counts.)
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Said<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    seconds: Option<&'a RawValue>,
}

/// The `…_details` of a [`Said`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

impl<'a> Details<'a> {
    /// Of what is no object there are none.
    fn of(details: Option<&'a RawValue>) -> Self {
        details.and_then(object).unwrap_or_default()
    }
}

impl Report {
    /// Takes over what a `usage` object says.
    ///
    /// # Errors
    /// [`Unusable`]; what was there before stays.
    pub fn read(&mut self, usage: &Said<'_>, counting: Counting) -> Result<(), Unusable> {
        let (input, cached, written) = match counting {
            Counting::Inclusive => {
                let first = Details::of(usage.prompt_tokens_details);
                let second = Details::of(usage.input_tokens_details);
                (
                    count(usage.prompt_tokens.or(usage.input_tokens))?,
                    count(first.cached_tokens.or(second.cached_tokens))?,
                    count(first.cache_write_tokens.or(second.cache_write_tokens))?,
                )
            }
            Counting::Exclusive => (
                count(usage.input_tokens)?,
                count(usage.cache_read_input_tokens)?,
                count(usage.cache_creation_input_tokens)?,
            ),
        };
        let output = count(usage.completion_tokens.or(usage.output_tokens))?;
        let first = Details::of(usage.completion_tokens_details);
        let second = Details::of(usage.output_tokens_details);
        let reasoning = count(first.reasoning_tokens.or(second.reasoning_tokens))?;
        let audio_ms = usage.seconds.and_then(read).and_then(|seconds| milliseconds(&seconds));
        *self = Self {
            input: input.or(self.input),
            cached: cached.or(self.cached),
            written: written.or(self.written),
            output: output.or(self.output),
            reasoning: reasoning.or(self.reasoning),
            audio_ms: audio_ms.or(self.audio_ms),
        };
        Ok(())
    }

    /// Takes a total for the input, of a call that has no output and of which nothing else is said.
    pub fn read_total(&mut self, usage: &Said<'_>) {
        let total = || count(usage.total_tokens).ok().flatten();
        self.input = self.input.or_else(total);
    }

    /// Takes over how long a sound is, in seconds, as a number or written as a text.
    pub fn read_duration(&mut self, seconds: &Value) {
        self.audio_ms = self.audio_ms.or_else(|| milliseconds(seconds));
    }

    /// The tokens, if they are known and sane: input always, output where there is any.
    pub fn tokens(&self, counting: Counting, has_output: bool) -> Option<Usage> {
        let (cached, written) = (self.cached.unwrap_or(0), self.written.unwrap_or(0));
        let beside = match counting {
            Counting::Inclusive => 0,
            Counting::Exclusive => cached + written,
        };
        Usage {
            input_tokens: self.input? + beside,
            cached_input_tokens: cached,
            cache_write_tokens: written,
            output_tokens: if has_output { self.output? } else { self.output.unwrap_or(0) },
            reasoning_tokens: self.reasoning.unwrap_or(0),
            ..Usage::NONE
        }
        .checked()
    }

    /// The length of the sound, if it is known.
    pub fn audio_ms(&self) -> Option<i64> {
        self.audio_ms
    }
}

/// A whole number, if it is given.
fn count(said: Option<&RawValue>) -> Result<Option<i64>, Unusable> {
    let Some(said) = said else { return Ok(None) };
    said.get().parse().ok().filter(|count| (0..=TOKENS_MAX).contains(count)).map(Some).ok_or(Unusable)
}

/// Rounded up; `None` for what is no length of time.
fn milliseconds(seconds: &Value) -> Option<i64> {
    let seconds = match seconds {
        Value::String(text) => text.parse().ok()?,
        other => other.as_f64()?,
    };
    // A millionth off, or what is 8.47 would be a little more.
    let ms = (seconds * 1_000.0 - 1e-6).ceil();
    // Compared as a float, since every one within is a whole number that fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "bounded just before")]
    (0.0..=TOKENS_MAX as f64).contains(&ms).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(report: &mut Report, usage: &Value, counting: Counting) -> Result<(), Unusable> {
        let usage = usage.to_string();
        report.read(&serde_json::from_str(&usage).map_err(|_| Unusable)?, counting)
    }

    fn tokens(usage: &Value, counting: Counting) -> Option<Usage> {
        let mut report = Report::default();
        read(&mut report, usage, counting).ok()?;
        report.tokens(counting, true)
    }

    #[test]
    fn openais_two_shapes_say_the_same() {
        let expected = Usage {
            input_tokens: 10,
            cached_input_tokens: 4,
            output_tokens: 7,
            reasoning_tokens: 5,
            ..Usage::NONE
        };
        let chat = json!({
            "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 5},
        });
        let responses = json!({
            "input_tokens": 10, "output_tokens": 7, "total_tokens": 17,
            "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 5},
        });
        assert_eq!(tokens(&chat, Counting::Inclusive), Some(expected));
        assert_eq!(tokens(&responses, Counting::Inclusive), Some(expected));
    }

    #[test]
    fn anthropics_input_is_beside_what_its_cache_read_and_wrote() {
        let usage = json!({
            "input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0},
        });
        let usage = tokens(&usage, Counting::Exclusive).expect("usable");
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens), (123, 100, 20));
    }

    #[test]
    fn later_values_replace_earlier_ones_and_missing_ones_do_not() {
        let mut report = Report::default();
        let start = json!({"input_tokens": 3, "cache_read_input_tokens": 9, "output_tokens": 1});
        read(&mut report, &start, Counting::Exclusive).expect("usable");
        read(&mut report, &json!({"output_tokens": 40}), Counting::Exclusive).expect("usable");
        read(&mut report, &json!({"output_tokens": 50, "input_tokens": null}), Counting::Exclusive)
            .expect("usable");
        let usage = report.tokens(Counting::Exclusive, true).expect("usable");
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (12, 9, 50));
        assert_eq!(read(&mut report, &json!({"output_tokens": -1}), Counting::Exclusive), Err(Unusable));
        assert_eq!(report.tokens(Counting::Exclusive, true), Some(usage));
    }

    #[test]
    fn lengths_of_sound_are_rounded_up_to_the_millisecond() {
        let ms = |seconds: Value| {
            let mut report = Report::default();
            report.read_duration(&seconds);
            report.audio_ms()
        };
        assert_eq!(ms(json!(9)), Some(9_000));
        assert_eq!(ms(json!(8.4701)), Some(8_471));
        assert_eq!(ms(json!("8.470000")), Some(8_470));
        for none in [json!(-1), json!("NaN"), json!("inf"), json!(1e300), json!(null), json!("x")] {
            assert_eq!(ms(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn what_cannot_be_a_count_is_no_report() {
        for usage in [
            json!({}),
            json!(7),
            json!({"prompt_tokens": -1, "completion_tokens": 1}),
            json!({"prompt_tokens": 1, "completion_tokens": 1e30}),
            json!({"prompt_tokens": 1, "completion_tokens": "3"}),
            json!({"prompt_tokens": 1}),
            json!({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}),
        ] {
            assert_eq!(tokens(&usage, Counting::Inclusive), None, "{usage}");
        }
    }
}
