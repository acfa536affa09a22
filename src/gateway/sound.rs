//! How long a sound of so many bytes is, before anybody has heard it.

use crate::domain::usage::Usage;

/// No codec in use makes a second of speech smaller: Opus begins at 6 kbit/s (RFC 6716, section 2).
const BYTES_PER_SECOND_MIN: u64 = 6_000 / 8;
/// What is typical: 64 kbit/s, at which podcasts and voice messages are made.
const BYTES_PER_SECOND_TYPICAL: u64 = 64_000 / 8;
/// Ten tokens a second (OpenAI's audio pricing).
const MS_PER_TOKEN: u64 = 100;

/// The most that a file of this length can be.
pub fn bound(bytes: u64) -> Usage {
    at(bytes, BYTES_PER_SECOND_MIN)
}

/// A guess.
pub fn estimate(bytes: u64) -> Usage {
    at(bytes, BYTES_PER_SECOND_TYPICAL)
}

fn at(bytes: u64, bytes_per_second: u64) -> Usage {
    let ms = bytes.saturating_mul(1_000).div_ceil(bytes_per_second);
    let clamped = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Usage { audio_ms: clamped(ms), input_tokens: clamped(ms.div_ceil(MS_PER_TOKEN)), ..Usage::NONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_longer_than_its_bound() {
        assert_eq!(bound(750), Usage { audio_ms: 1_000, input_tokens: 10, ..Usage::NONE });
        assert_eq!(estimate(8_001).audio_ms, 1_001);
        assert_eq!(bound(0), Usage::NONE);
    }
}
