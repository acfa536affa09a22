//! Credits: money as an integer of micro-credits. Never a float.
//! Parsing and printing of decimal credits; sums saturate nowhere, they are bounded at the edge.

use super::Invalid;
use std::fmt;

/// Micro-credits in one credit.
pub const MICROS_PER_CREDIT: i64 = 1_000_000;

/// The largest amount anyone may type: a billion credits. Nine thousand such amounts still fit `i64`.
pub const CREDITS_MAX: Credits = Credits(1_000_000_000 * MICROS_PER_CREDIT);

/// An amount of credits, in micro-credits. May be negative only where a grant takes credits back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(i64);

impl Credits {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From micro-credits.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// In micro-credits.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Parses a decimal such as `12`, `0.5` or `1.250000`: digits, a point, at most six decimals.
    ///
    /// # Errors
    /// For signs, exponents, separators, more than six decimals, and more than [`CREDITS_MAX`].
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid =
            Invalid::new("Enter a plain number such as 10 or 2.5, with a point and at most six decimals.");
        let raw = raw.trim();
        if raw.starts_with('-') {
            return Err(Invalid::new("Enter a number that is not negative."));
        }
        let (whole, fraction) = match raw.split_once('.') {
            Some((_, "")) => return Err(SHAPE),
            Some((whole, fraction)) => (whole, fraction),
            None => (raw, ""),
        };
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
            return Err(SHAPE);
        }
        let too_much = || Invalid::new("Enter at most 1000000000 credits.");
        let whole: i64 = whole.parse().map_err(|_| too_much())?;
        let micros: i64 = format!("{fraction:0<6}").parse().map_err(|_| SHAPE)?;
        let total = whole
            .checked_mul(MICROS_PER_CREDIT)
            .and_then(|whole| whole.checked_add(micros))
            .ok_or_else(too_much)?;
        if total > CREDITS_MAX.0 {
            return Err(too_much());
        }
        Ok(Self(total))
    }

    /// Parses like [`Credits::parse`], with an optional leading `-` or `+`.
    ///
    /// # Errors
    /// As [`Credits::parse`].
    pub fn parse_signed(raw: &str) -> Result<Self, Invalid> {
        let raw = raw.trim();
        if let Some(positive) = raw.strip_prefix('-') {
            return Self::parse(positive).map(|credits| Self(-credits.0));
        }
        Self::parse(raw.strip_prefix('+').unwrap_or(raw))
    }

    /// For people: no trailing zeros, thousands grouped by a thin space: `1 250.5`.
    pub fn for_people(self) -> String {
        let exact = self.to_string();
        let (whole, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
        let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
        let mut text = String::from(sign);
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push('\u{202F}');
            }
            text.push(digit);
        }
        let fraction = fraction.trim_end_matches('0');
        if !fraction.is_empty() {
            text.push('.');
            text.push_str(fraction);
        }
        text
    }
}

/// Exact, with six decimals: `1.250000`. The form of every contract.
impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digit by digit from the end: `write!` takes several times as long, and every answer says two of these.
        const POINT: usize = 14;
        let mut text = *b"00000000000000.000000";
        let mut start = POINT - 1;
        let mut rest = self.0.unsigned_abs();
        for at in (1..text.len()).rev().filter(|at| *at != POINT) {
            if rest == 0 {
                break;
            }
            text[at] += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            start = start.min(at);
        }
        if self.0 < 0 {
            start -= 1;
            text[start] = b'-';
        }
        f.write_str(std::str::from_utf8(&text[start..]).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_become_exact_micro_credits() {
        for (raw, micros) in
            [("0", 0), ("1", 1_000_000), ("0.000001", 1), (" 2.5 ", 2_500_000), ("1000000000", CREDITS_MAX.0)]
        {
            assert_eq!(Credits::parse(raw), Ok(Credits(micros)), "{raw}");
        }
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused() {
        for raw in [
            "",
            "-1",
            "+1",
            "1,5",
            "1.",
            ".5",
            "1e3",
            "1e308",
            "NaN",
            "inf",
            "0x10",
            "1.0000001",
            "1000000000.000001",
            "99999999999999999999",
            "１",
            "1 000",
        ] {
            assert!(Credits::parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn people_read_grouped_digits_without_trailing_zeros() {
        assert_eq!(Credits(1_250_500_000).for_people(), "1\u{202F}250.5");
        assert_eq!(Credits(-1).for_people(), "-0.000001");
        assert_eq!(Credits(0).for_people(), "0");
    }

    proptest! {
        #[test]
        fn every_amount_is_printed_with_six_decimals(
            micros in prop_oneof![any::<i64>(), -2_000_000..2_000_000i64, Just(i64::MIN), Just(i64::MAX)],
        ) {
            let exact = i128::from(micros).unsigned_abs();
            let sign = if micros < 0 { "-" } else { "" };
            let expected = format!("{sign}{}.{:06}", exact / 1_000_000, exact % 1_000_000);
            prop_assert_eq!(Credits(micros).to_string(), expected);
        }

        #[test]
        fn printing_and_parsing_return_the_same_amount(micros in 0..=CREDITS_MAX.0) {
            prop_assert_eq!(Credits::parse(&Credits(micros).to_string()), Ok(Credits(micros)));
        }
    }
}
