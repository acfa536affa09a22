//! What one call used, as metered: tokens, images, sound, characters.

/// More tokens than any model produces in one call; a report beyond it is refused as absurd.
pub const TOKENS_MAX: i64 = 1_000_000_000;

/// What one call used, or the most it can use. What was read from or written to the upstream's cache is part of the
/// input, never beside it; reasoning is part of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Those of the input that the upstream read from its cache.
    pub cached_input_tokens: i64,
    /// Those of the input that the upstream wrote to its cache.
    pub cache_write_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Those of the output that nobody sees; recorded, not priced apart.
    pub reasoning_tokens: i64,
    /// Images made.
    pub images: i64,
    /// Sound heard, in milliseconds.
    pub audio_ms: i64,
    /// Characters spoken.
    pub characters: i64,
}

impl Usage {
    /// Nothing.
    pub const NONE: Self = Self {
        input_tokens: 0,
        cached_input_tokens: 0,
        cache_write_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
        images: 0,
        audio_ms: 0,
        characters: 0,
    };

    /// Checks counts reported from outside: none negative or absurd, each part within its whole. Reasoning costs
    /// nothing of its own, so that a contradiction about it only cuts it short.
    pub fn checked(self) -> Option<Self> {
        let counts = [
            self.input_tokens,
            self.cached_input_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.images,
            self.audio_ms,
            self.characters,
        ];
        let sane = counts.iter().all(|count| (0..=TOKENS_MAX).contains(count))
            && self.cached_input_tokens + self.cache_write_tokens <= self.input_tokens;
        let reasoning_tokens = self.reasoning_tokens.clamp(0, self.output_tokens.max(0));
        sane.then_some(Self { reasoning_tokens, ..self })
    }
}

/// Who counted what a charge is for.
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
        let usage = |input_tokens, cached_input_tokens, cache_write_tokens, output_tokens| {
            Usage { input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, ..Usage::default() }
                .checked()
        };
        assert!(usage(10, 4, 6, 0).is_some());
        for (input, cached, written, output) in [
            (-1, 0, 0, 0),
            (0, 0, 0, -1),
            (3, 4, 0, 0),
            (3, 2, 2, 0),
            (i64::MAX, 0, 0, 0),
            (1, i64::MAX, i64::MAX, 0),
            (1, 0, 0, TOKENS_MAX + 1),
        ] {
            assert_eq!(usage(input, cached, written, output), None);
        }
    }

    #[test]
    fn reasoning_is_never_more_than_the_output() {
        let usage = Usage { output_tokens: 5, reasoning_tokens: 9, ..Usage::default() };
        assert_eq!(usage.checked().map(|usage| usage.reasoning_tokens), Some(5));
    }
}
