//! What several pages say in the same words: prices, amounts as one would type them, counts, who granted credits.

use crate::domain::credits::Credits;
use crate::domain::price::{Multiplier, Price};
use crate::domain::usage::Usage;
use crate::store::audit::Actor;

/// `2.5 in, 10 out per 1M tokens + 0.01 per request`; `None` when it leaves every range.
pub fn price_in_words(price: Price, multiplier: Multiplier) -> Option<String> {
    let cost = |price: Price, usage| {
        price.cost(usage, multiplier).ok().map(|micros| Credits::from_micros(micros).for_people())
    };
    let per = Price { per_request_micros: 0, ..price };
    let (input, output) = (
        cost(per, Usage { input_tokens: 1_000_000, ..Usage::NONE })?,
        cost(per, Usage { output_tokens: 1_000_000, ..Usage::NONE })?,
    );
    let each = [
        (price.per_request_micros, cost(price, Usage::NONE)?, "request"),
        (price.per_image_micros, cost(per, Usage { images: 1, ..Usage::NONE })?, "image"),
        (
            price.per_audio_second_micros,
            cost(per, Usage { audio_ms: 1_000, ..Usage::NONE })?,
            "second of sound",
        ),
        (
            price.per_character_micros,
            cost(per, Usage { characters: 1_000_000, ..Usage::NONE })?,
            "1M characters",
        ),
    ];
    let mut parts = Vec::new();
    if (price.input_micros, price.output_micros) != (0, 0) {
        parts.push(format!("{input} in, {output} out per 1M tokens"));
    }
    let each = each.into_iter().filter(|(micros, ..)| *micros != 0);
    parts.extend(each.map(|(_, credits, what)| format!("{credits} per {what}")));
    if parts.is_empty() {
        parts.push("free".into());
    }
    Some(parts.join(" + "))
}

/// `12.5`: as one would type it.
pub fn plain(micros: i64) -> String {
    let exact = Credits::from_micros(micros).to_string();
    exact.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `12 000`
pub fn grouped(number: i64) -> String {
    Credits::from_micros(number.saturating_mul(1_000_000)).for_people()
}

/// `1 call`, `2 calls`, `12 000 calls`.
pub fn count(number: i64, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `the command line`, or a user's name.
pub fn granted_by(actor: String) -> String {
    if actor == Actor::cli().name { "the command line".into() } else { actor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_plural() {
        assert_eq!((count(1, "call"), count(0, "call")), ("1 call".to_owned(), "0 calls".to_owned()));
        assert_eq!(count(12_000, "call"), "12\u{202F}000 calls");
    }
}
