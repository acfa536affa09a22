//! From what a list says of a model to a price: which costs count for which mode, and how dollars become credits.

use super::Listed;
use crate::domain::credits::{CREDITS_MAX, Credits};
use crate::domain::decimal::{Decimal, NoDecimal};
use crate::domain::price::Price;
use crate::domain::usage::TOKENS_MAX;

/// Where the list says nothing.
const MAX_OUTPUT_DEFAULT: i64 = 4096;
/// A price is for a million tokens, a cost for one.
const PER_MILLION: i32 = 6;

/// The costs of one model, in dollars, and the rate.
struct Costs<'a> {
    listed: &'a Listed,
    rate: Credits,
}

impl Costs<'_> {
    /// The dearest of these in micro-credits, times ten to the `power`; `None`: the list has none of them.
    fn dearest(&self, fields: &[&str], power: i32) -> Result<Option<i64>, String> {
        let mut dearest = None;
        for field in fields {
            let Some(raw) = self.listed.costs.get(*field) else { continue };
            let micros = Decimal::parse(raw).and_then(|cost| cost.scaled(self.rate.micros(), power));
            let micros = micros.map_err(|why| format!("{field} {why}."))?;
            if micros > CREDITS_MAX.micros() {
                return Err(format!("{field} {}.", NoDecimal::TooLarge));
            }
            dearest = dearest.max(Some(micros));
        }
        Ok(dearest)
    }

    /// Of tokens or characters.
    fn per_million(&self, fields: &[&str]) -> Result<Option<i64>, String> {
        self.dearest(fields, PER_MILLION)
    }

    /// Input tokens, with those of the cache, and output tokens.
    fn tokens(&self, fields: &Fields) -> Result<Option<Price>, String> {
        let (input, output) = (self.per_million(fields.input)?, self.per_million(fields.output)?);
        if input.is_none() && output.is_none() {
            return Ok(None);
        }
        Ok(Some(Price {
            input_micros: input.unwrap_or(0),
            cached_input_micros: self.per_million(fields.cached)?,
            cache_write_micros: self.per_million(&["cache_creation_input_token_cost"])?,
            output_micros: output.unwrap_or(0),
            ..Price::FREE
        }))
    }
}

/// Which costs count for a mode; of several, the dearest. What else a list says of such a model is left out.
struct Fields {
    input: &'static [&'static str],
    cached: &'static [&'static str],
    output: &'static [&'static str],
    /// Beside tokens, or in place of them.
    others: &'static [&'static str],
}

const TEXT: Fields = Fields {
    input: &["input_cost_per_token"],
    cached: &["cache_read_input_token_cost"],
    output: &["output_cost_per_token"],
    others: &["cache_creation_input_token_cost"],
};
/// Images are the dearer kind of token.
const IMAGE: Fields = Fields {
    input: &["input_cost_per_token", "input_cost_per_image_token"],
    cached: &["cache_read_input_token_cost", "cache_read_input_image_token_cost"],
    output: &["output_cost_per_token", "output_cost_per_image_token"],
    others: &["cache_creation_input_token_cost", "output_cost_per_image", "input_cost_per_image"],
};
/// Sound is the dearer kind of token.
const SOUND: Fields = Fields {
    input: &["input_cost_per_token", "input_cost_per_audio_token"],
    cached: &["cache_read_input_token_cost", "cache_read_input_audio_token_cost"],
    output: &["output_cost_per_token"],
    others: &["cache_creation_input_token_cost", "input_cost_per_second", "output_cost_per_second"],
};
const SPEECH: Fields = Fields { input: &[], cached: &[], output: &[], others: &["input_cost_per_character"] };

impl Fields {
    /// `None` for a mode that Keyhouse has no route for.
    fn of(mode: &str) -> Option<&'static Self> {
        match mode {
            "chat" | "completion" | "responses" | "embedding" | "moderation" | "rerank" => Some(&TEXT),
            "image_generation" | "image_edit" => Some(&IMAGE),
            "audio_speech" => Some(&SPEECH),
            "audio_transcription" => Some(&SOUND),
            _ => None,
        }
    }

    fn count(&self, field: &str) -> bool {
        [self.input, self.cached, self.output, self.others].iter().any(|fields| fields.contains(&field))
    }
}

impl Listed {
    /// Its price in credits.
    ///
    /// # Errors
    /// Says why there is none that Keyhouse could charge by.
    pub fn price(&self, rate: Credits) -> Result<Price, String> {
        let Some(fields) = Fields::of(&self.mode) else {
            return Err(match self.mode.as_str() {
                "" => "It does not say what it is for (mode).".into(),
                mode => format!("Keyhouse has no route for {mode}."),
            });
        };
        let costs = Costs { listed: self, rate };
        let price = match self.mode.as_str() {
            "chat" | "completion" | "responses" => {
                for field in fields.input.iter().chain(fields.output) {
                    if !self.costs.contains_key(*field) {
                        return Err(format!("It names no {field}."));
                    }
                }
                costs.tokens(fields)?
            }
            "image_generation" | "image_edit" if self.name.contains("-x-") => {
                return Err("It is the price of one size of a model, and no model.".into());
            }
            "image_generation" | "image_edit" => image(&costs)?,
            "audio_speech" => costs
                .per_million(SPEECH.others)?
                .map(|micros| Price { per_character_micros: micros, ..Price::FREE }),
            "audio_transcription" => sound(&costs)?,
            _ => costs.tokens(fields)?,
        };
        let price = price.ok_or("It has no price of a kind that Keyhouse counts.")?;
        let left_out = self.left_out();
        if is_free(&price) && !left_out.is_empty() {
            return Err(format!(
                "Its price is of a kind that Keyhouse does not count: {}.",
                left_out.join(", ")
            ));
        }
        Ok(price)
    }

    /// Prices that are more than nothing, and that [`Listed::price`] leaves out.
    pub fn left_out(&self) -> Vec<String> {
        let counts = |field: &str| Fields::of(&self.mode).is_some_and(|fields| fields.count(field));
        let is_zero = |raw: &str| Decimal::parse(raw).is_ok_and(Decimal::is_zero);
        let unused = self.costs.iter().filter(|(field, raw)| !counts(field) && !is_zero(raw));
        unused.map(|(field, _)| field).chain(&self.others).cloned().collect()
    }

    /// Most output tokens of one answer.
    pub fn max_output_tokens(&self) -> i64 {
        let listed = self.max_output.as_deref().and_then(|raw| Decimal::parse(raw).ok()?.whole());
        listed.filter(|tokens| *tokens > 0).map_or(MAX_OUTPUT_DEFAULT, |tokens| tokens.min(TOKENS_MAX))
    }
}

/// Per image, or per token where the list has that.
fn image(costs: &Costs<'_>) -> Result<Option<Price>, String> {
    let tokens = costs.tokens(&IMAGE)?;
    let each = match costs.dearest(&["output_cost_per_image"], 0)? {
        None => costs.dearest(&["input_cost_per_image"], 0)?,
        each => each,
    };
    Ok(match (tokens, each) {
        (None, None) => None,
        // Both would charge an image twice: tokens are what it is made of.
        (Some(tokens), _) if tokens.output_micros > 0 => Some(tokens),
        (tokens, each) => {
            Some(Price { per_image_micros: each.unwrap_or(0), ..tokens.unwrap_or(Price::FREE) })
        }
    })
}

/// Per token where the list has that, else per second.
fn sound(costs: &Costs<'_>) -> Result<Option<Price>, String> {
    let tokens = costs.tokens(&SOUND)?.filter(|price| !is_free(price));
    if tokens.is_some() {
        return Ok(tokens);
    }
    let second = costs.dearest(&["input_cost_per_second", "output_cost_per_second"], 0)?;
    Ok(second.map(|micros| Price { per_audio_second_micros: micros, ..Price::FREE }))
}

/// Whether every call costs nothing.
pub(super) fn is_free(price: &Price) -> bool {
    let Price { input_micros, cached_input_micros, cache_write_micros, output_micros, .. } = *price;
    let Price { per_request_micros, per_image_micros, per_audio_second_micros, per_character_micros, .. } =
        *price;
    let tokens =
        [input_micros, cached_input_micros.unwrap_or(0), cache_write_micros.unwrap_or(0), output_micros];
    let others = [per_request_micros, per_image_micros, per_audio_second_micros, per_character_micros];
    tokens.into_iter().chain(others).all(|micros| micros == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::price_list::parse;
    use serde_json::{Value, json};

    const RATE: Credits = Credits::from_micros(1_000_000);

    fn listed(entry: Value) -> Listed {
        parse(&json!({ "m": entry }).to_string()).expect("a list").remove(0)
    }

    fn price(entry: Value) -> Result<Price, String> {
        listed(entry).price(RATE)
    }

    #[test]
    fn tokens_become_credits_per_million() {
        let entry = listed(json!({
            "mode": "chat", "input_cost_per_token": 2.5e-6, "output_cost_per_token": 0.00001,
            "cache_read_input_token_cost": 1.25e-6, "cache_creation_input_token_cost": 3.125e-6,
            "input_cost_per_token_batches": 1.25e-6, "output_cost_per_token_flex": 0.0, "max_tokens": 16384,
        }));
        let expected = Price {
            input_micros: 2_500_000,
            cached_input_micros: Some(1_250_000),
            cache_write_micros: Some(3_125_000),
            output_micros: 10_000_000,
            ..Price::FREE
        };
        assert_eq!(entry.price(RATE), Ok(expected));
        assert_eq!(entry.left_out(), ["input_cost_per_token_batches"]);
        assert_eq!(entry.max_output_tokens(), 16384);
        let dear = entry.price(Credits::from_micros(1_500_000)).expect("a price");
        assert_eq!((dear.input_micros, dear.output_micros), (3_750_000, 15_000_000));
    }

    #[test]
    fn images_sound_and_speech_are_priced_as_they_are_counted() {
        let image = price(json!({"mode": "image_generation", "output_cost_per_image": 0.04}));
        assert_eq!(image, Ok(Price { per_image_micros: 40_000, ..Price::FREE }));
        let older = price(json!({"mode": "image_generation", "input_cost_per_image": 0.04}));
        assert_eq!(older, Ok(Price { per_image_micros: 40_000, ..Price::FREE }));
        let tokens = price(json!({
            "mode": "image_generation", "input_cost_per_token": 5e-6, "input_cost_per_image_token": 1e-5,
            "output_cost_per_image_token": 4e-5, "output_cost_per_image": 0.04,
        }));
        let expected = Price { input_micros: 10_000_000, output_micros: 40_000_000, ..Price::FREE };
        assert_eq!(tokens, Ok(expected));
        let second = price(json!({
            "mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0,
        }));
        assert_eq!(second, Ok(Price { per_audio_second_micros: 100, ..Price::FREE }));
        let speech = price(json!({"mode": "audio_speech", "input_cost_per_character": 1.5e-5}));
        assert_eq!(speech, Ok(Price { per_character_micros: 15_000_000, ..Price::FREE }));
        let size = json!({ "1024-x-1024/m": {"mode": "image_generation", "output_cost_per_image": 0.04} });
        assert!(parse(&size.to_string()).expect("a list")[0].price(RATE).is_err());
    }

    #[test]
    fn prices_that_do_not_count_for_a_mode_are_named() {
        let chat = listed(json!({
            "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "input_cost_per_audio_token": 4e-5, "input_cost_per_image": 0.0, "search_context_cost_per_query": {"low": 0.01},
        }));
        assert_eq!(chat.left_out(), ["input_cost_per_audio_token", "search_context_cost_per_query"]);
    }

    #[test]
    fn what_cannot_be_charged_is_refused_and_says_why() {
        for (entry, why) in [
            (
                json!({"mode": "video_generation", "output_cost_per_second": 0.1}),
                "no route for video_generation",
            ),
            (json!({"input_cost_per_token": 1e-6}), "mode"),
            (json!({"mode": "chat", "input_cost_per_token": 1e-6}), "no output_cost_per_token"),
            (json!({"mode": "chat", "input_cost_per_token": -1, "output_cost_per_token": 0}), "is negative"),
            (
                json!({"mode": "chat", "input_cost_per_token": 1e9, "output_cost_per_token": 0}),
                "is too large",
            ),
            (
                json!({"mode": "chat", "input_cost_per_token": 1001, "output_cost_per_token": 0}),
                "is too large",
            ),
            (
                json!({"mode": "chat", "input_cost_per_token": "much", "output_cost_per_token": 0}),
                "is no number",
            ),
            (
                json!({"mode": "chat", "input_cost_per_token": [1], "output_cost_per_token": 0}),
                "is no number",
            ),
            (json!({"mode": "audio_speech", "output_cost_per_audio_token": 1e-5}), "no price of a kind"),
            (
                json!({"mode": "rerank", "input_cost_per_token": 0.0, "input_cost_per_query": 0.002}),
                "input_cost_per_query",
            ),
        ] {
            let refused = price(entry.clone()).expect_err("refused");
            assert!(refused.contains(why), "{entry}: {refused}");
        }
        let free = price(json!({"mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0}));
        assert_eq!(free, Ok(Price::FREE));
    }

    #[test]
    fn a_maximum_that_is_none_gives_way_to_the_default() {
        for (max, expected) in [
            (json!("max output tokens"), 4096),
            (json!(0), 4096),
            (json!(8192.0), 8192),
            (json!("64000"), 64000),
            (json!(1e300), 4096),
            (json!(null), 4096),
        ] {
            let listed = listed(json!({"mode": "chat", "max_output_tokens": max}));
            assert_eq!(listed.max_output_tokens(), expected, "{max}");
        }
    }
}
