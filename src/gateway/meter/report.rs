//! What upstreams report of a call's usage, in each of the shapes they really send. What is negative, absurd or
//! contradictory counts as not reported.

use crate::domain::usage::{TOKENS_MAX, Usage};
use serde_json::Value;

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

impl Report {
    /// Takes over what a `usage` object says.
    ///
    /// # Errors
    /// [`Unusable`]; what was there before stays.
    pub fn read(&mut self, usage: &Value, counting: Counting) -> Result<(), Unusable> {
        let at = |paths: &[&str]| count(usage, paths);
        let (input, cached, written) = match counting {
            Counting::Inclusive => (
                at(&["prompt_tokens", "input_tokens"])?,
                at(&["prompt_tokens_details/cached_tokens", "input_tokens_details/cached_tokens"])?,
                at(&["prompt_tokens_details/cache_write_tokens", "input_tokens_details/cache_write_tokens"])?,
            ),
            Counting::Exclusive => (
                at(&["input_tokens"])?,
                at(&["cache_read_input_tokens"])?,
                at(&["cache_creation_input_tokens"])?,
            ),
        };
        let output = at(&["completion_tokens", "output_tokens"])?;
        let reasoning =
            at(&["completion_tokens_details/reasoning_tokens", "output_tokens_details/reasoning_tokens"])?;
        let audio_ms = usage.get("seconds").and_then(milliseconds);
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
    pub fn read_total(&mut self, usage: &Value) {
        let total = || count(usage, &["total_tokens"]).ok().flatten();
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

/// The first of these paths that is there.
fn count(usage: &Value, paths: &[&str]) -> Result<Option<i64>, Unusable> {
    let at = |path: &&str| path.split('/').try_fold(usage, |value, name| value.get(name));
    let found = paths.iter().filter_map(at).find(|value| !value.is_null());
    let Some(value) = found else { return Ok(None) };
    value.as_i64().filter(|count| (0..=TOKENS_MAX).contains(count)).map(Some).ok_or(Unusable)
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

    fn tokens(usage: &Value, counting: Counting) -> Option<Usage> {
        let mut report = Report::default();
        report.read(usage, counting).ok()?;
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
        report.read(&start, Counting::Exclusive).expect("usable");
        report.read(&json!({"output_tokens": 40}), Counting::Exclusive).expect("usable");
        report
            .read(&json!({"output_tokens": 50, "input_tokens": null}), Counting::Exclusive)
            .expect("usable");
        let usage = report.tokens(Counting::Exclusive, true).expect("usable");
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (12, 9, 50));
        assert_eq!(report.read(&json!({"output_tokens": -1}), Counting::Exclusive), Err(Unusable));
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
