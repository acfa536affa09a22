//! The most a call can cost, which is what is held for it: a pure function of the request, the price and what key and
//! account can afford.

use super::error::GatewayError;
use crate::domain::price::{Multiplier, Price};
use crate::domain::usage::Usage;
use crate::store::keys::KeySnapshot;

/// What the amounts depend on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The model's newest.
    pub price: Price,
    /// The key's group's.
    pub multiplier: Multiplier,
    /// Most output tokens of one answer.
    pub output_max: i64,
    /// The bound on one answer that the upstream is held to already.
    pub asked_max: Option<i64>,
    /// The least that may be imposed on one answer.
    pub output_min: i64,
    /// How many answers; none where output is not counted in tokens.
    pub answers: i64,
}

/// What key and account have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// Of the key's limit; `None`: unlimited.
    pub key_micros: Option<i64>,
    /// Of the account's balance.
    pub account_micros: i64,
}

impl Funds {
    /// As of a snapshot; the hold decides by the rows as they are then.
    pub fn of(snapshot: &KeySnapshot) -> Self {
        let (key, owner) = (&snapshot.key, &snapshot.owner);
        let left = |total: i64, used: i64, held: i64| total.saturating_sub(used).saturating_sub(held).max(0);
        Self {
            key_micros: key
                .credit_limit_micros
                .map(|limit| left(limit, key.credits_used_micros, key.credits_held_micros)),
            account_micros: left(owner.balance_micros, owner.held_micros, 0),
        }
    }

    /// The lesser of the two.
    pub fn least(self) -> i64 {
        self.key_micros.map_or(self.account_micros, |key| key.min(self.account_micros))
    }

    /// Who refuses `micros`: the key first, as in the ledger.
    fn refusal(self, micros: i64) -> GatewayError {
        if self.key_micros.is_some_and(|key| micros > key) {
            GatewayError::KeyLimitReached
        } else {
            GatewayError::AccountCreditsExhausted
        }
    }
}

/// The most a call can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// All of it.
    pub held_micros: i64,
    /// The input's part; a price per request belongs to it.
    pub input_held_micros: i64,
    /// All that may be used, output tokens of all answers included.
    pub bound: Usage,
    /// The bound on one answer that the upstream is to be given, where the caller gave none.
    ///
    /// Always given then, not only where funds cut it: it is what was held for.
    pub imposed_max: Option<i64>,
    /// Whether funds allow less than the model could give.
    pub cut: bool,
}

impl Terms {
    /// The quote for a call of at most `bound`, its output tokens yet to be decided.
    ///
    /// # Errors
    /// When key or account cannot afford it: what the caller asked for, or without a bound of theirs, the least that an
    /// upstream takes.
    pub fn quote(&self, bound: Usage, funds: Funds) -> Result<Quote, GatewayError> {
        let with = |output_tokens| Usage { output_tokens, ..bound };
        let most = |output| self.price.most(with(output), self.multiplier).unwrap_or(i64::MAX);
        let each = if self.answers == 0 { 0 } else { self.each(bound, funds)? };
        let output_tokens = each.saturating_mul(self.answers);
        let input = Usage { images: 0, ..with(0) };
        let quote = Quote {
            held_micros: most(output_tokens),
            input_held_micros: self.price.most(input, self.multiplier).unwrap_or(i64::MAX),
            bound: with(output_tokens),
            imposed_max: (self.asked_max.is_none() && self.answers > 0).then_some(each),
            cut: self.answers > 0 && each < self.asked_max.unwrap_or(self.output_max),
        };
        if quote.held_micros > funds.least() {
            return Err(funds.refusal(quote.held_micros));
        }
        Ok(quote)
    }

    /// The output tokens of each answer.
    fn each(&self, bound: Usage, funds: Funds) -> Result<i64, GatewayError> {
        let wanted = self.asked_max.unwrap_or(self.output_max).saturating_mul(self.answers);
        let with = |output_tokens| Usage { output_tokens, ..bound };
        let most = |output| self.price.most(with(output), self.multiplier).unwrap_or(i64::MAX);
        let affordable = self.price.affordable_output(with(wanted), self.multiplier, funds.least());
        let affordable = affordable.unwrap_or(0);
        match self.asked_max {
            Some(_) if affordable < wanted => Err(funds.refusal(most(wanted))),
            Some(asked) => Ok(asked),
            None => {
                let each = affordable / self.answers;
                let least = self.output_min.min(self.output_max);
                let refused = || funds.refusal(most(least.saturating_mul(self.answers)));
                (each >= least).then_some(each).ok_or_else(refused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One micro-credit an input token, two an output token.
    const TERMS: Terms = Terms {
        price: Price {
            input_micros: 1_000_000,
            output_micros: 2_000_000,
            per_request_micros: 5,
            ..Price::FREE
        },
        multiplier: Multiplier::ONE,
        output_max: 100,
        output_min: 1,
        asked_max: None,
        answers: 1,
    };

    fn input(input_tokens: i64) -> Usage {
        Usage { input_tokens, ..Usage::NONE }
    }

    fn funds(key_micros: Option<i64>, account_micros: i64) -> Funds {
        Funds { key_micros, account_micros }
    }

    #[test]
    fn a_callers_bound_times_its_answers_is_held() {
        let terms = Terms { asked_max: Some(50), answers: 3, ..TERMS };
        let quote = terms.quote(input(10), funds(None, 1_000)).expect("affordable");
        assert_eq!((quote.held_micros, quote.input_held_micros), (10 + 300 + 5, 15));
        assert_eq!((quote.imposed_max, quote.cut), (None, false));
        assert_eq!(terms.quote(input(10), funds(None, 314)), Err(GatewayError::AccountCreditsExhausted));
        assert_eq!(terms.quote(input(10), funds(Some(314), 9_999)), Err(GatewayError::KeyLimitReached));
        assert_eq!(terms.quote(input(10), funds(Some(0), 0)), Err(GatewayError::KeyLimitReached));
    }

    #[test]
    fn without_a_bound_the_answer_is_cut_to_what_is_affordable() {
        let quote = TERMS.quote(input(10), funds(Some(36), 1_000)).expect("affordable");
        assert_eq!((quote.held_micros, quote.imposed_max, quote.cut), (35, Some(10), true));
        let whole = TERMS.quote(input(10), funds(Some(1_000), 1_000)).expect("affordable");
        assert_eq!((whole.held_micros, whole.imposed_max, whole.cut), (215, Some(100), false));
        let two = Terms { answers: 2, ..TERMS }.quote(input(10), funds(None, 21)).expect("affordable");
        assert_eq!((two.held_micros, two.imposed_max), (19, Some(1)));
    }

    #[test]
    fn not_even_one_token_is_a_refusal() {
        assert_eq!(TERMS.quote(input(10), funds(None, 16)), Err(GatewayError::AccountCreditsExhausted));
        assert_eq!(TERMS.quote(input(10), funds(Some(16), 99)), Err(GatewayError::KeyLimitReached));
        assert_eq!(
            Terms { answers: 2, ..TERMS }.quote(input(10), funds(None, 18)),
            Err(GatewayError::AccountCreditsExhausted)
        );
    }

    #[test]
    fn less_than_an_upstream_takes_is_not_imposed() {
        let terms = Terms { output_min: 16, ..TERMS };
        let quote = terms.quote(input(10), funds(None, 15 + 32)).expect("affordable");
        assert_eq!(quote.imposed_max, Some(16));
        assert_eq!(terms.quote(input(10), funds(None, 15 + 31)), Err(GatewayError::AccountCreditsExhausted));
    }

    #[test]
    fn what_has_no_tokens_to_bound_is_held_as_a_whole() {
        let price = Price { per_image_micros: 40, ..TERMS.price };
        let images = Usage { images: 2, ..input(10) };
        let none = Terms { price, answers: 0, ..TERMS };
        let quote = none.quote(images, funds(None, 95)).expect("affordable");
        // Images that nobody saw are not the input's part.
        assert_eq!((quote.held_micros, quote.input_held_micros, quote.imposed_max), (95, 15, None));
        assert_eq!(none.quote(images, funds(None, 94)), Err(GatewayError::AccountCreditsExhausted));
        let free = Terms { price: Price::FREE, answers: 0, ..TERMS };
        assert!(free.quote(images, funds(None, 0)).is_ok());
    }

    #[test]
    fn a_cost_beyond_counting_is_a_refusal() {
        let price = Price { output_micros: i64::MAX, ..TERMS.price };
        let terms = Terms { price, asked_max: Some(1_000_000_000), answers: 128, ..TERMS };
        assert!(terms.quote(input(1), funds(None, i64::MAX - 1)).is_err());
    }

    proptest! {
        #[test]
        fn a_quote_is_never_beyond_the_funds(
            tokens in 0i64..10_000, asked in proptest::option::of(1i64..10_000), answers in 1i64..=128,
            key in proptest::option::of(0i64..1_000_000), account in 0i64..1_000_000,
        ) {
            let terms = Terms { asked_max: asked, answers, ..TERMS };
            if let Ok(quote) = terms.quote(Usage { input_tokens: tokens, ..Usage::NONE }, funds(key, account)) {
                prop_assert!(quote.held_micros <= account && key.is_none_or(|key| quote.held_micros <= key));
                prop_assert!(quote.input_held_micros <= quote.held_micros);
                prop_assert!(quote.bound.output_tokens >= answers);
            }
        }
    }
}
