//! The most a call can cost, which is what is held for it: a pure function of the request, the price and what key and
//! account can afford.

use super::error::GatewayError;
use crate::domain::price::{Multiplier, Price};
use crate::store::keys::KeySnapshot;

/// What the amounts depend on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The model's newest.
    pub price: Price,
    /// The key's group's.
    pub multiplier: Multiplier,
    /// Most output tokens of one answer of the model.
    pub output_max: i64,
    /// The caller's own bound on one answer.
    pub asked_max: Option<i64>,
    /// How many answers.
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

    fn least(self) -> i64 {
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
    /// Output tokens of all answers.
    pub output_tokens: i64,
    /// The bound on one answer that the upstream is to be given, where the caller gave none.
    ///
    /// Always given then, not only where funds cut it: it is what was held for. `max_completion_tokens` is the name
    /// that OpenAI's reasoning models insist on; `max_tokens` they refuse.
    pub imposed_max: Option<i64>,
    /// Whether funds allow less than the model could give.
    pub cut: bool,
}

impl Terms {
    /// The quote for a call of at most `input_tokens`.
    ///
    /// # Errors
    /// When key or account cannot afford it: what the caller asked for, or without a bound of theirs, one token an
    /// answer.
    pub fn quote(&self, input_tokens: i64, funds: Funds) -> Result<Quote, GatewayError> {
        let most = |output| self.price.most(input_tokens, output, self.multiplier).unwrap_or(i64::MAX);
        let wanted = self.asked_max.unwrap_or(self.output_max).saturating_mul(self.answers);
        let affordable =
            self.price.affordable_output(input_tokens, wanted, self.multiplier, funds.least()).unwrap_or(0);
        let each = match self.asked_max {
            Some(asked) if affordable < wanted => {
                return Err(funds.refusal(most(asked.saturating_mul(self.answers))));
            }
            Some(asked) => asked,
            None => affordable / self.answers,
        };
        if each == 0 {
            return Err(funds.refusal(most(self.answers)));
        }
        let output_tokens = each.saturating_mul(self.answers);
        let quote = Quote {
            held_micros: most(output_tokens),
            input_held_micros: most(0),
            output_tokens,
            imposed_max: self.asked_max.is_none().then_some(each),
            cut: each < self.asked_max.unwrap_or(self.output_max),
        };
        if quote.held_micros > funds.least() {
            return Err(funds.refusal(quote.held_micros));
        }
        Ok(quote)
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
            cached_input_micros: None,
            output_micros: 2_000_000,
            per_request_micros: 5,
        },
        multiplier: Multiplier::ONE,
        output_max: 100,
        asked_max: None,
        answers: 1,
    };

    fn funds(key_micros: Option<i64>, account_micros: i64) -> Funds {
        Funds { key_micros, account_micros }
    }

    #[test]
    fn a_callers_bound_times_its_answers_is_held() {
        let terms = Terms { asked_max: Some(50), answers: 3, ..TERMS };
        let quote = terms.quote(10, funds(None, 1_000)).expect("affordable");
        assert_eq!((quote.held_micros, quote.input_held_micros), (10 + 300 + 5, 15));
        assert_eq!((quote.imposed_max, quote.cut), (None, false));
        assert_eq!(terms.quote(10, funds(None, 314)), Err(GatewayError::AccountCreditsExhausted));
        assert_eq!(terms.quote(10, funds(Some(314), 9_999)), Err(GatewayError::KeyLimitReached));
        assert_eq!(terms.quote(10, funds(Some(0), 0)), Err(GatewayError::KeyLimitReached));
    }

    #[test]
    fn without_a_bound_the_answer_is_cut_to_what_is_affordable() {
        let quote = TERMS.quote(10, funds(Some(36), 1_000)).expect("affordable");
        assert_eq!((quote.held_micros, quote.imposed_max, quote.cut), (35, Some(10), true));
        let whole = TERMS.quote(10, funds(Some(1_000), 1_000)).expect("affordable");
        assert_eq!((whole.held_micros, whole.imposed_max, whole.cut), (215, Some(100), false));
        let two = Terms { answers: 2, ..TERMS }.quote(10, funds(None, 21)).expect("affordable");
        assert_eq!((two.held_micros, two.imposed_max), (19, Some(1)));
    }

    #[test]
    fn not_even_one_token_is_a_refusal() {
        assert_eq!(TERMS.quote(10, funds(None, 16)), Err(GatewayError::AccountCreditsExhausted));
        assert_eq!(TERMS.quote(10, funds(Some(16), 99)), Err(GatewayError::KeyLimitReached));
        assert_eq!(
            Terms { answers: 2, ..TERMS }.quote(10, funds(None, 18)),
            Err(GatewayError::AccountCreditsExhausted)
        );
    }

    #[test]
    fn a_cost_beyond_counting_is_a_refusal() {
        let price = Price { output_micros: i64::MAX, ..TERMS.price };
        let terms = Terms { price, asked_max: Some(1_000_000_000), answers: 128, ..TERMS };
        assert!(terms.quote(1, funds(None, i64::MAX - 1)).is_err());
    }

    proptest! {
        #[test]
        fn a_quote_is_never_beyond_the_funds(
            input in 0i64..10_000, asked in proptest::option::of(1i64..10_000), answers in 1i64..=128,
            key in proptest::option::of(0i64..1_000_000), account in 0i64..1_000_000,
        ) {
            let terms = Terms { asked_max: asked, answers, ..TERMS };
            if let Ok(quote) = terms.quote(input, funds(key, account)) {
                prop_assert!(quote.held_micros <= account && key.is_none_or(|key| quote.held_micros <= key));
                prop_assert!(quote.input_held_micros <= quote.held_micros);
                prop_assert!(quote.output_tokens >= answers);
            }
        }
    }
}
