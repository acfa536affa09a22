//! What a call costs: a price version, a group's multiplier, token counts → micro-credits, rounded up once.

use super::Invalid;
use super::credits::{Credits, MICROS_PER_CREDIT};
use super::usage::Usage;

/// Tokens that a token price is quoted for.
const TOKENS_PER_PRICE: i128 = 1_000_000;

/// One version of a model's price. All amounts in micro-credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// Per million input tokens.
    pub input_micros: i64,
    /// Per million input tokens the upstream read from its cache; `None`: as other input.
    pub cached_input_micros: Option<i64>,
    /// Per million output tokens.
    pub output_micros: i64,
    /// Per request, whatever its length.
    pub per_request_micros: i64,
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
    /// What `usage` costs, in micro-credits, rounded up once at the very end.
    ///
    /// # Errors
    /// [`Overflow`] when the amount leaves `i64`.
    pub fn cost(&self, usage: Usage, multiplier: Multiplier) -> Result<i64, Overflow> {
        let cached = i128::from(usage.cached_input_tokens);
        let uncached = i128::from(usage.input_tokens) - cached;
        let cached_price = self.cached_input_micros.unwrap_or(self.input_micros);
        self.rounded(
            uncached * i128::from(self.input_micros)
                + cached * i128::from(cached_price)
                + i128::from(usage.output_tokens) * i128::from(self.output_micros),
            multiplier,
        )
    }

    /// The most that `input_tokens` and `output_tokens` can cost, however much of the input is cached.
    ///
    /// # Errors
    /// [`Overflow`] when the amount leaves `i64`.
    pub fn most(
        &self,
        input_tokens: i64,
        output_tokens: i64,
        multiplier: Multiplier,
    ) -> Result<i64, Overflow> {
        self.rounded(
            i128::from(input_tokens) * i128::from(self.dearest_input_micros())
                + i128::from(output_tokens) * i128::from(self.output_micros),
            multiplier,
        )
    }

    /// How many output tokens `available_micros` pays for beside `input_tokens`, at most `tokens_max`.
    /// `None` when not even the input is affordable.
    pub fn affordable_output(
        &self,
        input_tokens: i64,
        tokens_max: i64,
        multiplier: Multiplier,
        available_micros: i64,
    ) -> Option<i64> {
        let fits = |output| matches!(self.most(input_tokens, output, multiplier), Ok(cost) if cost <= available_micros);
        if !fits(0) {
            return None;
        }
        if fits(tokens_max) {
            return Some(tokens_max);
        }
        // Cost rises with tokens: halve the range until the last affordable count stands.
        let (mut fits_at, mut too_many) = (0, tokens_max);
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
        self.cached_input_micros.map_or(self.input_micros, |cached| cached.max(self.input_micros))
    }

    /// (tokens × price per million + per request) × multiplier, in micro-credits, rounded up.
    fn rounded(&self, token_part: i128, multiplier: Multiplier) -> Result<i64, Overflow> {
        let per_request = i128::from(self.per_request_micros) * TOKENS_PER_PRICE;
        let divisor = TOKENS_PER_PRICE * i128::from(MICROS_PER_CREDIT);
        let product = token_part
            .checked_add(per_request)
            .and_then(|sum| sum.checked_mul(i128::from(multiplier.0)))
            .ok_or(Overflow)?;
        i64::try_from((product + divisor - 1) / divisor).map_err(|_| Overflow)
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
    };

    fn usage(input: i64, cached: i64, output: i64) -> Usage {
        Usage::checked(input, cached, output).expect("sane")
    }

    #[test]
    fn a_call_costs_tokens_times_price_times_multiplier() {
        // 600 × 2.5 + 400 × 1.25 + 50 × 10 + 100 = 2 600 micro-credits; × 1.5 = 3 900.
        let multiplier = Multiplier::parse("1.5").expect("valid");
        assert_eq!(PRICE.cost(usage(1000, 400, 50), multiplier), Ok(3_900));
    }

    #[test]
    fn a_fraction_of_a_micro_credit_is_rounded_up_once() {
        let price = Price { input_micros: 1, output_micros: 1, ..Price::default() };
        assert_eq!(price.cost(usage(1, 0, 1), Multiplier::ONE), Ok(1));
        assert_eq!(price.cost(usage(0, 0, 0), Multiplier::ONE), Ok(0));
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
        let dear = Price { output_micros: i64::MAX, ..Price::default() };
        assert_eq!(dear.most(0, i64::MAX, Multiplier(Multiplier::MAX)), Err(Overflow));
    }

    proptest! {
        #[test]
        fn what_is_held_covers_what_can_be_charged(
            input in 0i64..5_000_000, cached_share in 0i64..=100, output in 0i64..5_000_000,
            price_in in 0i64..100_000_000, cached in proptest::option::of(0i64..100_000_000),
            price_out in 0i64..100_000_000, per_request in 0i64..100_000_000, multiplier in Multiplier::MIN..=Multiplier::MAX,
        ) {
            let price = Price { input_micros: price_in, cached_input_micros: cached, output_micros: price_out, per_request_micros: per_request };
            let used = usage(input, input * cached_share / 100, output);
            let most = price.most(input, output, Multiplier(multiplier)).expect("small");
            prop_assert!(price.cost(used, Multiplier(multiplier)).expect("small") <= most);
        }

        #[test]
        fn the_affordable_output_is_the_largest(
            input in 0i64..100_000, output_max in 1i64..100_000, price_out in 0i64..100_000_000, available in 0i64..10_000_000,
        ) {
            let price = Price { output_micros: price_out, ..PRICE };
            let most = |output| price.most(input, output, Multiplier::ONE).expect("small");
            match price.affordable_output(input, output_max, Multiplier::ONE, available) {
                None => prop_assert!(most(0) > available),
                Some(output) => {
                    prop_assert!(most(output) <= available);
                    prop_assert!(output == output_max || most(output + 1) > available);
                }
            }
        }
    }
}
