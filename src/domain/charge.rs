//! How a metered call stands, in the words that people read and URLs carry.

use super::credits::Credits;
use super::price::{Multiplier, Overflow, Price};
use super::usage::Usage;

/// Where a charge stands: under way, or how its call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeStatus {
    /// Under way: its credits are held.
    Open,
    /// Answered whole.
    Complete,
    /// The caller left before the end.
    HungUp,
    /// The upstream broke off after it had begun.
    Cut,
    /// Keyhouse itself stopped in the middle.
    Interrupted,
    /// Nothing was produced.
    Failed,
}

impl ChargeStatus {
    /// Every one, in the order of menus.
    pub const ALL: [Self; 6] =
        [Self::Complete, Self::HungUp, Self::Cut, Self::Interrupted, Self::Failed, Self::Open];

    /// The word that is stored as a charge's outcome; an open one has none yet.
    pub const fn outcome(self) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::Complete => Some("complete"),
            Self::HungUp => Some("hung_up"),
            Self::Cut => Some("cut"),
            Self::Interrupted => Some("interrupted"),
            Self::Failed => Some("failed"),
        }
    }

    /// Of a stored outcome.
    pub fn of(outcome: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|status| status.outcome() == outcome).unwrap_or(Self::Failed)
    }

    /// The word in URLs and exports.
    pub const fn word(self) -> &'static str {
        match self.outcome() {
            Some(outcome) => outcome,
            None => "open",
        }
    }

    /// Reads [`ChargeStatus::word`].
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == raw)
    }

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Complete => "Complete",
            Self::HungUp => "Hung up",
            Self::Cut => "Cut off",
            Self::Interrupted => "Interrupted",
            Self::Failed => "Failed",
        }
    }

    /// In a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Open => {
                "The call is under way: its credits are held, and what it did not need is given back at its end."
            }
            Self::Complete => "The call was answered whole.",
            Self::HungUp => "The caller left before the end, and pays for what was produced until then.",
            Self::Cut => "The provider broke off after it had begun; what it had produced is charged.",
            Self::Interrupted => {
                "Keyhouse itself was stopped in the middle of the call, so that nobody knows how far it came: the input alone is charged."
            }
            Self::Failed => "Nothing was produced, so nothing is charged.",
        }
    }
}

/// One line of what a call cost: so many of these, at this price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostLine {
    /// What was used.
    pub what: &'static str,
    /// How many of `unit`: a thousandth where it is seconds.
    pub count: i64,
    /// What the price is quoted for.
    pub unit: CostUnit,
    /// Micro-credits per unit.
    pub price_micros: i64,
}

/// What a price is quoted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostUnit {
    /// A million tokens or characters.
    Million,
    /// A second; counts are milliseconds.
    Second,
    /// One.
    Each,
}

impl CostUnit {
    const fn per_unit(self) -> i128 {
        match self {
            Self::Million => 1_000_000,
            Self::Second => 1_000,
            Self::Each => 1,
        }
    }
}

/// Digits behind the point of a credit in an exact amount: six of micro-credits, six of a price per million.
const LINE_DIGITS: usize = 12;
const MULTIPLIER_DIGITS: usize = 6;

impl CostLine {
    /// Count × price, exact, in millionths of a micro-credit.
    fn product(&self) -> i128 {
        i128::from(self.count) * i128::from(self.price_micros) * (1_000_000 / self.unit.per_unit())
    }

    /// Count × price in credits, exact: `0.0000025`.
    pub fn amount(&self) -> String {
        decimal(self.product(), LINE_DIGITS)
    }

    /// The count as people say it: seconds with their fraction.
    pub fn counted(&self) -> String {
        match self.unit {
            CostUnit::Second => decimal(i128::from(self.count), 3),
            _ => self.count.to_string(),
        }
    }
}

/// Why a call cost what it did, by the rule of [`Price::cost`]: the same products, summed, multiplied, rounded up once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What the price asks for; lines of nothing at no price are left out.
    pub lines: Vec<CostLine>,
    /// Of the lines, exact, in credits.
    pub sum: String,
    /// Of the group.
    pub multiplier: Multiplier,
    /// Sum × multiplier, exact, in credits.
    pub product: String,
    /// The same, rounded up to a whole micro-credit.
    pub cost: Credits,
}

impl Receipt {
    /// Of a call that used `usage`.
    ///
    /// # Errors
    /// [`Overflow`] when the amount leaves `i64`.
    pub fn of(price: &Price, usage: Usage, multiplier: Multiplier) -> Result<Self, Overflow> {
        let cost = Credits::from_micros(price.cost(usage, multiplier)?);
        let lines = lines(price, usage);
        let sum = lines.iter().map(CostLine::product).try_fold(0i128, i128::checked_add).ok_or(Overflow)?;
        let product = sum.checked_mul(i128::from(multiplier.micros())).ok_or(Overflow)?;
        Ok(Self {
            lines,
            sum: decimal(sum, LINE_DIGITS),
            multiplier,
            product: decimal(product, LINE_DIGITS + MULTIPLIER_DIGITS),
            cost,
        })
    }
}

fn lines(price: &Price, usage: Usage) -> Vec<CostLine> {
    let (cached, written) = (usage.cached_input_tokens, usage.cache_write_tokens);
    let line = |what, count, unit, price_micros| CostLine { what, count, unit, price_micros };
    let lines = [
        line("Input tokens", usage.input_tokens - cached - written, CostUnit::Million, price.input_micros),
        line(
            "Input tokens read from the cache",
            cached,
            CostUnit::Million,
            price.cached_input_micros.unwrap_or(price.input_micros),
        ),
        line(
            "Input tokens written to the cache",
            written,
            CostUnit::Million,
            price.cache_write_micros.unwrap_or(price.input_micros),
        ),
        line("Output tokens", usage.output_tokens, CostUnit::Million, price.output_micros),
        line("Characters", usage.characters, CostUnit::Million, price.per_character_micros),
        line("Seconds of sound", usage.audio_ms, CostUnit::Second, price.per_audio_second_micros),
        line("Images", usage.images, CostUnit::Each, price.per_image_micros),
        line("The request", 1, CostUnit::Each, price.per_request_micros),
    ];
    let asked = |line: &CostLine| match line.what {
        "The request" => line.price_micros > 0,
        "Input tokens" | "Output tokens" => line.count > 0 || line.price_micros > 0,
        _ => line.count > 0,
    };
    lines.into_iter().filter(asked).collect()
}

/// `value` / 10^`digits`, exact, without trailing zeros.
fn decimal(value: i128, digits: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let text = format!("{:0>width$}", value.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_receipt_shows_each_product_and_rounds_once() {
        let price = Price {
            input_micros: 2_500_000,
            cached_input_micros: Some(1_250_000),
            output_micros: 10_000_000,
            per_audio_second_micros: 100,
            ..Price::FREE
        };
        let usage = Usage {
            input_tokens: 1_001,
            cached_input_tokens: 400,
            output_tokens: 50,
            audio_ms: 1_234,
            ..Usage::NONE
        };
        let receipt = Receipt::of(&price, usage, Multiplier::from_micros(1_500_000)).expect("small");
        let shown: Vec<_> = receipt.lines.iter().map(|line| (line.counted(), line.amount())).collect();
        let expected = [("601", "0.0015025"), ("400", "0.0005"), ("50", "0.0005"), ("1.234", "0.0001234")];
        assert_eq!(shown, expected.map(|(count, amount)| (count.to_owned(), amount.to_owned())));
        assert_eq!(receipt.sum, "0.0026259");
        assert_eq!(receipt.product, "0.00393885");
        assert_eq!(receipt.cost.micros(), 3_939);
    }

    #[test]
    fn what_costs_nothing_and_was_not_used_is_left_out() {
        let receipt = Receipt::of(&Price::FREE, Usage::NONE, Multiplier::ONE).expect("small");
        assert_eq!((receipt.lines, receipt.cost), (Vec::new(), Credits::ZERO));
    }

    #[test]
    fn every_word_is_read_again() {
        for status in ChargeStatus::ALL {
            assert_eq!(ChargeStatus::parse(status.word()), Some(status));
            assert_eq!(ChargeStatus::of(status.outcome()), status);
        }
        assert_eq!(ChargeStatus::parse("Complete"), None);
    }

    /// A decimal of credits in units of 10^-18.
    fn parse(text: &str) -> i128 {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{fraction:0<18}").parse().expect("digits")
    }

    proptest! {
        #[test]
        fn the_lines_add_up_to_the_cost(
            prices in proptest::array::uniform6(0i64..50_000_000), counts in proptest::array::uniform6(0i64..2_000_000),
            cached_share in 0i64..=100, multiplier in 100i64..1_000_000_000,
        ) {
            let price = Price {
                input_micros: prices[0], cached_input_micros: Some(prices[1]), output_micros: prices[2],
                per_request_micros: prices[3], per_audio_second_micros: prices[4], per_image_micros: prices[5],
                ..Price::FREE
            };
            let usage = Usage {
                input_tokens: counts[0], cached_input_tokens: counts[0] * cached_share / 100, output_tokens: counts[1],
                audio_ms: counts[2], images: counts[3] % 10, characters: counts[4], ..Usage::NONE
            };
            let multiplier = Multiplier::from_micros(multiplier);
            let receipt = Receipt::of(&price, usage, multiplier).expect("small");
            let summed: i128 = receipt.lines.iter().map(|line| parse(&line.amount())).sum();
            prop_assert_eq!(summed, parse(&receipt.sum));
            prop_assert_eq!(summed * i128::from(multiplier.micros()), parse(&receipt.product) * 1_000_000);
            let micro = 1_000_000_000_000i128;
            prop_assert_eq!((parse(&receipt.product) + micro - 1) / micro, i128::from(receipt.cost.micros()));
        }
    }
}
