//! Exact decimals from the text of JSON numbers, such as `1.5e-07`: no float comes between a price list and a price.

/// More digits than any price has; beyond them a product with a rate could leave `i128`.
const DIGITS_MAX: usize = 20;
/// Beyond it every amount is nothing or everything.
const EXPONENT_MAX: i32 = 400;

/// `mantissa × 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    mantissa: i128,
    exponent: i32,
}

/// Why a text is no decimal that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDecimal {
    /// Letters, a comma, nothing.
    #[error("is no number")]
    Shape,
    /// Less than nothing.
    #[error("is negative")]
    Negative,
    /// More digits than can be reckoned with.
    #[error("has too many digits")]
    TooLong,
    /// Beyond every amount.
    #[error("is too large")]
    TooLarge,
}

impl Decimal {
    /// Parses a number as JSON writes it: digits, a fraction, an exponent. Also within quotes.
    ///
    /// # Errors
    /// For anything else, and for negative numbers.
    pub fn parse(raw: &str) -> Result<Self, NoDecimal> {
        let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw).trim();
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_whole = !whole.is_empty() && (!number.contains('.') || !fraction.is_empty());
        if !is_whole || !all_digits(whole) || !all_digits(fraction) {
            return Err(NoDecimal::Shape);
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Ok(Self { mantissa: 0, exponent: 0 });
        }
        if is_negative {
            return Err(NoDecimal::Negative);
        }
        if significant.len() > DIGITS_MAX {
            return Err(NoDecimal::TooLong);
        }
        let dropped = digits.len() - digits.trim_end_matches('0').len();
        let shift = |count: usize| i32::try_from(count).map_err(|_| NoDecimal::TooLong);
        let exponent = exponent + shift(dropped)? - shift(fraction.len())?;
        Ok(Self { mantissa: significant.parse().map_err(|_| NoDecimal::Shape)?, exponent })
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// `self × factor × 10^power`, rounded to the nearest whole number; but what is more than nothing stays so.
    ///
    /// # Errors
    /// [`NoDecimal::TooLarge`] beyond `i64`.
    pub fn scaled(self, factor: i64, power: i32) -> Result<i64, NoDecimal> {
        let product = self.mantissa.checked_mul(i128::from(factor)).ok_or(NoDecimal::TooLarge)?;
        if product == 0 {
            return Ok(0);
        }
        let shift = self.exponent.saturating_add(power);
        let ten = |power: i32| u32::try_from(power).ok().and_then(|power| 10i128.checked_pow(power));
        let rounded = if shift >= 0 {
            ten(shift).and_then(|scale| product.checked_mul(scale)).ok_or(NoDecimal::TooLarge)?
        } else {
            // A divisor beyond i128 leaves nothing of any product.
            ten(-shift).map_or(0, |divisor| {
                product / divisor + i128::from(product % divisor >= divisor - divisor / 2)
            })
        };
        i64::try_from(rounded.max(1)).map_err(|_| NoDecimal::TooLarge)
    }

    /// As a whole number, if it is one.
    pub fn whole(self) -> Option<i64> {
        match u32::try_from(self.exponent) {
            Ok(power) => i64::try_from(self.mantissa.checked_mul(10i128.checked_pow(power)?)?).ok(),
            Err(_) => None,
        }
    }
}

fn parse_exponent(raw: &str) -> Result<i32, NoDecimal> {
    let digits = raw.strip_prefix(['+', '-']).unwrap_or(raw);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoDecimal::Shape);
    }
    let size = digits.parse::<i32>().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
    Ok(if raw.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Dollars per token to micro-credits per million tokens, at a credit per dollar.
    fn per_million(raw: &str) -> Result<i64, NoDecimal> {
        Decimal::parse(raw)?.scaled(1_000_000, 6)
    }

    #[test]
    fn prices_are_converted_exactly() {
        for (raw, micros) in [
            ("1.5e-07", 150_000),
            ("0.0000025", 2_500_000),
            ("2.5e-06", 2_500_000),
            ("3E-6", 3_000_000),
            ("3e-06", 3_000_000),
            ("1E-5", 10_000_000),
            ("\"0.1\"", 100_000_000_000),
            ("0.1", 100_000_000_000),
            ("0", 0),
            ("0.0", 0),
            ("-0.0", 0),
            ("0e308", 0),
            ("1e0", 1_000_000_000_000),
            ("1", 1_000_000_000_000),
            ("12E+1", 120_000_000_000_000),
            // What floats made of 4.286, of 0.15 and of 0.95.
            ("4.285999999999999e-06", 4_286_000),
            ("1.5000000000000002e-07", 150_000),
            ("9.499999999999999e-07", 950_000),
            // To the nearest; half goes up; never to nothing.
            ("1.4999e-12", 1),
            ("1.5e-12", 2),
            ("1e-30", 1),
            ("1e-400", 1),
        ] {
            assert_eq!(per_million(raw), Ok(micros), "{raw}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for (raw, why) in [
            ("-1", NoDecimal::Negative),
            ("-1e-9", NoDecimal::Negative),
            ("1e308", NoDecimal::TooLarge),
            ("1e99999999999999999999", NoDecimal::TooLarge),
            ("1e9", NoDecimal::TooLarge),
            ("0.123456789012345678901", NoDecimal::TooLong),
            ("", NoDecimal::Shape),
            ("\"\"", NoDecimal::Shape),
            ("null", NoDecimal::Shape),
            ("NaN", NoDecimal::Shape),
            ("Infinity", NoDecimal::Shape),
            ("1,5", NoDecimal::Shape),
            ("1.", NoDecimal::Shape),
            (".5", NoDecimal::Shape),
            ("1e", NoDecimal::Shape),
            ("1e+", NoDecimal::Shape),
            ("1e1.5", NoDecimal::Shape),
            ("--1", NoDecimal::Shape),
            ("+1", NoDecimal::Shape),
            ("0x10", NoDecimal::Shape),
            ("\"max tokens\"", NoDecimal::Shape),
        ] {
            assert_eq!(per_million(raw), Err(why), "{raw}");
        }
    }

    #[test]
    fn whole_numbers_are_read_in_every_spelling() {
        for (raw, whole) in
            [("8192", Some(8192)), ("8192.0", Some(8192)), ("1e3", Some(1000)), ("0.5", None), ("1e30", None)]
        {
            assert_eq!(Decimal::parse(raw).expect("a number").whole(), whole, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_price_is_the_same_price(micros in 1i64..1_000_000_000_000, shift in 0usize..12) {
            let plain = format!("{}.{:012}", micros / 1_000_000_000_000, micros % 1_000_000_000_000);
            let exponential = format!("{micros}{}e-{}", "0".repeat(shift.min(6)), 12 + shift.min(6));
            prop_assert_eq!(per_million(&plain), Ok(micros));
            prop_assert_eq!(per_million(&exponential), Ok(micros));
        }

        #[test]
        fn nothing_that_is_typed_breaks_it(raw in "[-+0-9.eE\"]{0,30}", factor in 0i64..i64::MAX, power in -500..500i32) {
            if let Ok(decimal) = Decimal::parse(&raw) {
                let _ = decimal.scaled(factor, power);
                let _ = decimal.whole();
            }
        }
    }
}
