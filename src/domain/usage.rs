//! Token counts of one call, as metered.

/// More tokens than any model produces in one call; a report beyond it is refused as absurd.
pub const TOKENS_MAX: i64 = 1_000_000_000;

/// What one call used. `cached_input` is part of `input`, never beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Those of the input that the upstream read from its cache.
    pub cached_input_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
}

impl Usage {
    /// Checks counts reported from outside: none negative or absurd, the cached part within the input.
    pub fn checked(input_tokens: i64, cached_input_tokens: i64, output_tokens: i64) -> Option<Self> {
        let sane = |tokens| (0..=TOKENS_MAX).contains(&tokens);
        (sane(input_tokens) && sane(output_tokens) && (0..=input_tokens).contains(&cached_input_tokens))
            .then_some(Self { input_tokens, cached_input_tokens, output_tokens })
    }
}

/// Who counted the tokens of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageSource {
    /// The upstream said so.
    Upstream,
    /// The upstream said nothing usable; Keyhouse estimated from what it relayed.
    Estimated,
}

impl UsageSource {
    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Estimated => "estimated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_absurd_and_contradictory_counts_are_refused() {
        assert!(Usage::checked(10, 4, 0).is_some());
        for (input, cached, output) in
            [(-1, 0, 0), (0, 0, -1), (3, 4, 0), (i64::MAX, 0, 0), (1, 0, TOKENS_MAX + 1)]
        {
            assert_eq!(Usage::checked(input, cached, output), None);
        }
    }
}
