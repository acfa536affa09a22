//! What a call costs: a price version, a group's multiplier, what was used → micro-credits, rounded up once.

use super::credits::{Credits, MICROS_PER_CREDIT};
use super::usage::Usage;
use super::{FieldErrors, Invalid};

/// Tokens, or characters, that a price is quoted for.
const TOKENS_PER_PRICE: i128 = 1_000_000;
const MS_PER_SECOND: i128 = 1_000;

/// One version of a model's price. All amounts in micro-credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// Per million input tokens.
    pub input_micros: i64,
    /// Per million input tokens the upstream read from its cache; `None`: as other input.
    pub cached_input_micros: Option<i64>,
    /// Per million input tokens the upstream wrote to its cache; `None`: as other input.
    pub cache_write_micros: Option<i64>,
    /// Per million output tokens.
    pub output_micros: i64,
    /// Per request, whatever its length.
    pub per_request_micros: i64,
    /// Per image made.
    pub per_image_micros: i64,
    /// Per second of sound heard.
    pub per_audio_second_micros: i64,
    /// Per million characters spoken.
    pub per_character_micros: i64,
}

/// A price as a form has it: decimal credits, each field by its name there. Blank is nothing, or for the two of the cache
/// the same as other input.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "see Price")]
pub struct PriceDraft<'a> {
    pub input: &'a str,
    pub cached_input: &'a str,
    pub cache_write: &'a str,
    pub output: &'a str,
    pub per_request: &'a str,
    pub per_image: &'a str,
    pub per_audio_second: &'a str,
    pub per_character: &'a str,
}

impl PriceDraft<'_> {
    /// Checks each field. A model that is free has to be said to be: a zero somewhere.
    ///
    /// # Errors
    /// Every refused field.
    pub fn parse(&self) -> Result<Price, FieldErrors> {
        let mut errors = FieldErrors::default();
        let mut typed = |field, raw: &str| match raw.trim() {
            "" => None,
            raw => errors.take(field, Credits::parse(raw)).map(Credits::micros),
        };
        let (input, cached) = (typed("input", self.input), typed("cached_input", self.cached_input));
        let (written, output) = (typed("cache_write", self.cache_write), typed("output", self.output));
        let (request, image) = (typed("per_request", self.per_request), typed("per_image", self.per_image));
        let second = typed("per_audio_second", self.per_audio_second);
        let character = typed("per_character", self.per_character);
        if errors.is_empty() && [input, output, request, image, second, character].iter().all(Option::is_none)
        {
            errors.add("input", Invalid::new("Enter a price; 0 if calls shall cost nothing."));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Price {
            input_micros: input.unwrap_or(0),
            cached_input_micros: cached,
            cache_write_micros: written,
            output_micros: output.unwrap_or(0),
            per_request_micros: request.unwrap_or(0),
            per_image_micros: image.unwrap_or(0),
            per_audio_second_micros: second.unwrap_or(0),
            per_character_micros: character.unwrap_or(0),
        })
    }
}

/// A group's price factor in millionths: ×1.5 is 1 500 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Multiplier(i64);

impl Multiplier {
    /// Prices as they are.
    pub const ONE: Self = Self(MICROS_PER_CREDIT);
    const MIN: i64 = 100; // 0.0001
    const MAX: i64 = 1_000 * MICROS_PER_CREDIT;

    /// From stored millionths.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// In millionths.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Parses a decimal between 0.0001 and 1000.
    ///
    /// # Errors
    /// When it is no plain decimal, or outside that range.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let micros =
            Credits::parse(raw).map_err(|_| Invalid::new("Enter a multiplier such as 1 or 0.85."))?.micros();
        if (Self::MIN..=Self::MAX).contains(&micros) {
            return Ok(Self(micros));
        }
        Err(Invalid::new("Enter a multiplier between 0.0001 and 1000."))
    }
}

/// `1`, `1.5`, `0.0001`.
impl std::fmt::Display for Multiplier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exact = Credits::from_micros(self.0).to_string();
        f.write_str(exact.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The product of counts, prices and multiplier left `i64`: no account could pay it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cost exceeds every possible balance")]
pub struct Overflow;

impl Price {
    /// Costs nothing.
    pub const FREE: Self = Self {
        input_micros: 0,
        cached_input_micros: None,
        cache_write_micros: None,
        output_micros: 0,
        per_request_micros: 0,
        per_image_micros: 0,
        per_audio_second_micros: 0,
        per_character_micros: 0,
    };

    /// What `usage` costs, in micro-credits, rounded up once at the very end.
    ///
    /// # Errors
    /// [`Overflow`] when the amount leaves `i64`.
    pub fn cost(&self, usage: Usage, multiplier: Multiplier) -> Result<i64, Overflow> {
        let (cached, written) = (usage.cached_input_tokens, usage.cache_write_tokens);
        let input = [
            (usage.input_tokens - cached - written, self.input_micros),
            (cached, self.cached_input_micros.unwrap_or(self.input_micros)),
            (written, self.cache_write_micros.unwrap_or(self.input_micros)),
        ];
        self.rounded(input, usage, multiplier)
    }

    /// The most that a call can cost which uses no more than `bound`, however much of its input is cached.
    ///
    /// # Errors
    /// [`Overflow`] when the amount leaves `i64`.
    pub fn most(&self, bound: Usage, multiplier: Multiplier) -> Result<i64, Overflow> {
        self.rounded([(bound.input_tokens, self.dearest_input_micros())], bound, multiplier)
    }

    /// How many output tokens `available_micros` pays for beside the rest of `bound`, at most those of `bound`.
    /// `None` when not even the rest is affordable.
    pub fn affordable_output(
        &self,
        bound: Usage,
        multiplier: Multiplier,
        available_micros: i64,
    ) -> Option<i64> {
        let fits = |output_tokens| matches!(self.most(Usage { output_tokens, ..bound }, multiplier), Ok(cost) if cost <= available_micros);
        if fits(bound.output_tokens) {
            return Some(bound.output_tokens);
        }
        if !fits(0) {
            return None;
        }
        // Cost rises with tokens: halve the range until the last affordable count stands.
        let (mut fits_at, mut too_many) = (0, bound.output_tokens);
        while too_many - fits_at > 1 {
            let middle = fits_at + (too_many - fits_at) / 2;
            if fits(middle) {
                fits_at = middle;
            } else {
                too_many = middle;
            }
        }
        Some(fits_at)
    }

    fn dearest_input_micros(&self) -> i64 {
        let cached = self.cached_input_micros.unwrap_or(self.input_micros);
        let written = self.cache_write_micros.unwrap_or(self.input_micros);
        self.input_micros.max(cached).max(written)
    }

    /// (tokens and characters × price per million + seconds, images and the request × price each) × multiplier, in
    /// micro-credits, rounded up.
    fn rounded<const N: usize>(
        &self,
        input: [(i64, i64); N],
        usage: Usage,
        multiplier: Multiplier,
    ) -> Result<i64, Overflow> {
        let seconds_scale = TOKENS_PER_PRICE / MS_PER_SECOND;
        let others = [
            (usage.output_tokens, self.output_micros, 1),
            (usage.characters, self.per_character_micros, 1),
            (usage.audio_ms, self.per_audio_second_micros, seconds_scale),
            (usage.images, self.per_image_micros, TOKENS_PER_PRICE),
            (1, self.per_request_micros, TOKENS_PER_PRICE),
        ];
        let input = input.into_iter().map(|(count, micros)| (count, micros, 1));
        let product = input
            .chain(others)
            // Most are nothing, and multiplying 128 bits with care is dear.
            .filter(|(count, micros, _)| *count != 0 && *micros != 0)
            .try_fold(0i128, |sum, (count, micros, scale)| {
                let part = (i128::from(count) * i128::from(micros)).checked_mul(scale)?;
                sum.checked_add(part)
            })
            .and_then(|sum| sum.checked_mul(i128::from(multiplier.0)))
            .ok_or(Overflow)?;
        let divisor = TOKENS_PER_PRICE * i128::from(MICROS_PER_CREDIT);
        let rounded_up = product.checked_add(divisor - 1).ok_or(Overflow)? / divisor;
        i64::try_from(rounded_up).map_err(|_| Overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRICE: Price = Price {
        input_micros: 2_500_000,
        cached_input_micros: Some(1_250_000),
        output_micros: 10_000_000,
        per_request_micros: 100,
        ..Price::FREE
    };

    fn usage(input_tokens: i64, cached_input_tokens: i64, output_tokens: i64) -> Usage {
        Usage { input_tokens, cached_input_tokens, output_tokens, ..Usage::NONE }.checked().expect("sane")
    }

    #[test]
    fn a_call_costs_tokens_times_price_times_multiplier() {
        // 600 × 2.5 + 400 × 1.25 + 50 × 10 + 100 = 2 600 micro-credits; × 1.5 = 3 900.
        let multiplier = Multiplier::parse("1.5").expect("valid");
        assert_eq!(PRICE.cost(usage(1000, 400, 50), multiplier), Ok(3_900));
    }

    #[test]
    fn what_is_written_to_the_cache_has_its_own_price() {
        let price = Price { cache_write_micros: Some(3_125_000), ..PRICE };
        let used = Usage { cache_write_tokens: 80, ..usage(1000, 400, 0) };
        // 520 × 2.5 + 400 × 1.25 + 80 × 3.125 + 100.
        assert_eq!(price.cost(used, Multiplier::ONE), Ok(2_150));
        assert_eq!(PRICE.cost(used, Multiplier::ONE), Ok(600 * 25 / 10 + 500 + 100));
    }

    #[test]
    fn images_sound_and_characters_are_priced_each() {
        let price = Price {
            per_image_micros: 40_000,
            per_audio_second_micros: 100,
            per_character_micros: 15_000_000,
            ..Price::FREE
        };
        let used = Usage { images: 2, audio_ms: 1_234, characters: 10, ..Usage::NONE };
        // 80 000 + 123.4 + 150.
        assert_eq!(price.cost(used, Multiplier::ONE), Ok(80_274));
    }

    #[test]
    fn a_fraction_of_a_micro_credit_is_rounded_up_once() {
        let price = Price {
            input_micros: 1,
            output_micros: 1,
            per_audio_second_micros: 1,
            per_character_micros: 1,
            ..Price::FREE
        };
        let used = Usage { audio_ms: 1, characters: 1, ..usage(1, 0, 1) };
        assert_eq!(price.cost(used, Multiplier::ONE), Ok(1));
        assert_eq!(price.cost(Usage::NONE, Multiplier::ONE), Ok(0));
    }

    #[test]
    fn multipliers_have_bounds() {
        for raw in ["0", "0.00009", "1000.1", "-1", "NaN", "x"] {
            assert!(Multiplier::parse(raw).is_err(), "{raw}");
        }
        assert_eq!(Multiplier::parse("0.8500").expect("valid").to_string(), "0.85");
        assert_eq!(Multiplier::parse("1000").expect("valid").to_string(), "1000");
    }

    #[test]
    fn overflow_is_an_error_not_a_bargain() {
        let dear = Price {
            input_micros: i64::MAX,
            output_micros: i64::MAX,
            per_request_micros: i64::MAX,
            per_image_micros: i64::MAX,
            per_audio_second_micros: i64::MAX,
            per_character_micros: i64::MAX,
            ..Price::FREE
        };
        let everything = Usage {
            input_tokens: i64::MAX,
            output_tokens: i64::MAX,
            images: i64::MAX,
            audio_ms: i64::MAX,
            characters: i64::MAX,
            ..Usage::NONE
        };
        assert_eq!(dear.most(everything, Multiplier(Multiplier::MAX)), Err(Overflow));
        let output = Usage { output_tokens: i64::MAX, ..Usage::NONE };
        assert_eq!(dear.most(output, Multiplier(Multiplier::MAX)), Err(Overflow));
    }

    fn any_price() -> impl Strategy<Value = Price> {
        let micros = || 0i64..100_000_000;
        let maybe = || proptest::option::of(0i64..100_000_000);
        (micros(), maybe(), maybe(), micros(), micros(), micros(), micros(), micros()).prop_map(
            |(input, cached, written, output, request, image, second, character)| Price {
                input_micros: input,
                cached_input_micros: cached,
                cache_write_micros: written,
                output_micros: output,
                per_request_micros: request,
                per_image_micros: image,
                per_audio_second_micros: second,
                per_character_micros: character,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_held_covers_what_can_be_charged(
            price in any_price(), multiplier in Multiplier::MIN..=Multiplier::MAX,
            input in 0i64..5_000_000, cached_share in 0i64..=50, written_share in 0i64..=50,
            output in 0i64..5_000_000, images in 0i64..=10, audio_ms in 0i64..100_000_000, characters in 0i64..1_000_000,
            used_share in 0i64..=100,
        ) {
            let bound = Usage { input_tokens: input, output_tokens: output, images, audio_ms, characters, ..Usage::NONE };
            let share = |count: i64| count * used_share / 100;
            let used = Usage {
                input_tokens: share(input),
                cached_input_tokens: share(input) * cached_share / 100,
                cache_write_tokens: share(input) * written_share / 100,
                output_tokens: share(output),
                reasoning_tokens: share(output),
                images: share(images),
                audio_ms: share(audio_ms),
                characters: share(characters),
            }
            .checked()
            .expect("sane");
            let most = price.most(bound, Multiplier(multiplier)).expect("small");
            prop_assert!(price.cost(used, Multiplier(multiplier)).expect("small") <= most);
        }

        #[test]
        fn the_affordable_output_is_the_largest(
            price in any_price(), input in 0i64..100_000, output_max in 1i64..100_000, available in 0i64..1_000_000_000,
        ) {
            let bound = Usage { input_tokens: input, output_tokens: output_max, ..Usage::NONE };
            let most = |output_tokens| price.most(Usage { output_tokens, ..bound }, Multiplier::ONE).expect("small");
            match price.affordable_output(bound, Multiplier::ONE, available) {
                None => prop_assert!(most(0) > available),
                Some(output) => {
                    prop_assert!(most(output) <= available);
                    prop_assert!(output == output_max || most(output + 1) > available);
                }
            }
        }
    }
}
