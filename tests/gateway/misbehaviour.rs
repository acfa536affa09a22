//! Streams cut at a thousand places, in each dialect: one charge each, by the written rule. What came whole is charged
//! as it says of itself; what did not, by its input and what was produced; what produced nothing costs nothing.

use crate::house::{Answer, House, PRICE, ask_with};
use crate::support::upstream::{Act, Upstream, completion_events};
use crate::support::{Engine, engines};
use crate::{messages, responses};
use keyhouse::domain::price::Multiplier;
use keyhouse::domain::usage::Usage;
use keyhouse::store::charges::{Charge, state};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::Duration;

/// Cuts in each dialect, on each engine.
const CUTS: usize = 340;
/// After so many failures in a row an upstream would be left alone; a whole answer between them keeps it in use.
const CUTS_IN_A_ROW: usize = 4;

struct Dialect {
    name: &'static str,
    start: fn(Engine) -> (House, Upstream),
    path: &'static str,
    body: Value,
    /// What the upstream sends.
    sent: String,
    /// What only a whole answer has.
    last_word: &'static str,
    /// In each event that produces something.
    produced: &'static str,
}

fn dialects() -> [Dialect; 3] {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 9});
    let response = responses::response("resp_1", "completed");
    [
        Dialect {
            name: "chat",
            start: |engine| House::with_upstream(engine, Act::Hang),
            path: "/chat/completions",
            body: ask_with("m", json!({"stream": true})),
            sent: completion_events(&["one", "zwei", "trois 🙂"], Some(usage)),
            last_word: "[DONE]",
            produced: "\"content\"",
        },
        Dialect {
            name: "responses",
            start: |engine| House::with_upstream(engine, Act::Hang),
            path: "/responses",
            body: responses::ask(json!({"stream": true})),
            sent: responses::events("response.completed", &response),
            last_word: "event: response.completed",
            produced: "output_text.delta",
        },
        Dialect {
            name: "messages",
            start: |engine| House::with_anthropic(engine, Act::Hang),
            path: "/messages",
            body: messages::say("claude", json!({"stream": true, "system": "x".repeat(200)})),
            sent: messages::events(&["one", "zwei", "trois 🙂"]),
            last_word: "event: message_stop",
            produced: "text_delta",
        },
    ]
}

#[test]
fn a_stream_cut_at_any_byte_leaves_one_charge_by_the_rule() {
    let seed: u64 =
        std::env::var("KEYHOUSE_SEED").map_or_else(|_| rand::random(), |s| s.parse().expect("a number"));
    eprintln!("KEYHOUSE_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for engine in engines() {
        for dialect in dialects() {
            let (house, upstream) = (dialect.start)(engine);
            for cut in 0..CUTS {
                if cut % CUTS_IN_A_ROW == 0 {
                    let answer = dialect.call(&house, &upstream, None);
                    dialect.is_whole(&answer, &newest(&house));
                }
                let cut_at = dice.random_range(0..dialect.sent.len());
                let before = house.used_micros();
                let answer = dialect.call(&house, &upstream, Some(cut_at));
                let charge = newest(&house);
                assert_eq!(Some(charge.id.to_string().as_str()), answer.header("x-request-id"));
                dialect.is_cut(&answer, &charge, cut_at);
                assert_eq!(house.used_micros() - before, charge.settled_micros, "charged once");
            }
            let made = CUTS + CUTS.div_ceil(CUTS_IN_A_ROW);
            assert_eq!(house.charges(&house.key).len(), made, "one charge a call");
            house.is_sound();
        }
    }
}

fn newest(house: &House) -> Charge {
    house.charges(&house.key).swap_remove(0)
}

impl Dialect {
    fn call(&self, house: &House, upstream: &Upstream, cut_at: Option<usize>) -> Answer {
        let bytes = self.sent.clone().into_bytes();
        upstream.set(Act::Events { bytes, piece_bytes: 50, pause: Duration::ZERO, cut_at });
        house.call(self.path, &self.body)
    }

    fn is_whole(&self, answer: &Answer, charge: &Charge) {
        assert!(answer.body.contains(self.last_word), "{}: {answer:?}", self.name);
        let outcome = (charge.state.as_str(), charge.outcome.as_deref(), charge.usage_source.as_deref());
        assert_eq!(outcome, (state::SETTLED, Some("complete"), Some("upstream")), "{}", self.name);
        self.is_priced(charge);
    }

    fn is_cut(&self, answer: &Answer, charge: &Charge, cut_at: usize) {
        let place = format!("{} cut at {cut_at}: {answer:?} {charge:?}", self.name);
        assert!(!answer.body.contains(self.last_word) && answer.body.contains("error"), "{place}");
        // Only events with their blank line have come.
        let came = self.sent.as_bytes()[..cut_at].windows(2).rposition(|pair| pair == b"\n\n");
        let came = &self.sent[..came.map_or(0, |at| at + 2)];
        if came.contains(self.produced) {
            assert_eq!(
                (charge.state.as_str(), charge.outcome.as_deref()),
                (state::SETTLED, Some("cut")),
                "{place}"
            );
            assert!(charge.output_tokens > Some(0), "{place}");
            self.is_priced(charge);
        } else {
            let outcome = (charge.state.as_str(), charge.outcome.as_deref(), charge.settled_micros);
            assert_eq!(outcome, (state::RELEASED, Some("failed"), 0), "{place}");
        }
    }

    /// What was settled is the price of the counts that were stored.
    fn is_priced(&self, charge: &Charge) {
        let usage = Usage {
            input_tokens: charge.input_tokens.unwrap_or_default(),
            cached_input_tokens: charge.cached_input_tokens.unwrap_or_default(),
            cache_write_tokens: charge.cache_write_tokens.unwrap_or_default(),
            output_tokens: charge.output_tokens.unwrap_or_default(),
            ..Usage::default()
        };
        let cost = PRICE.cost(usage, Multiplier::ONE).expect("small");
        assert!(cost > 0 && charge.settled_micros == cost, "{}: {cost} {charge:?}", self.name);
    }
}
