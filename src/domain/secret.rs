//! The secret of a key: `sk-kh` + 40 random base62 characters + 6 base62 characters of CRC-32.
//! Secrets are types that do not print themselves.

use rand::RngExt;
use sha2::{Digest, Sha256};
use std::fmt;

// Keys in the wild have this shape for ever: never change these four.
const PREFIX: &str = "sk-kh";
const RANDOM_CHARS: usize = 40;
const CHECKSUM_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A whole secret. Its `Debug` hides it; [`KeySecret::expose`] is the only way to the text.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// A new secret with 238 bits from the thread's cryptographic generator.
    pub fn generate() -> Self {
        let mut text = format!("{PREFIX}{}", random_base62(RANDOM_CHARS));
        text.push_str(&checksum(&text));
        Self(text)
    }

    /// Accepts only a string of the right length and alphabet whose checksum holds, so garbage costs no query.
    pub fn parse(raw: &str) -> Option<Self> {
        let right_shape = raw.len() == PREFIX.len() + RANDOM_CHARS + CHECKSUM_CHARS
            && raw.starts_with(PREFIX)
            && raw.bytes().skip(PREFIX.len()).all(|byte| byte.is_ascii_alphanumeric());
        if !right_shape {
            return None;
        }
        let (body, sum) = raw.split_at(PREFIX.len() + RANDOM_CHARS);
        (checksum(body) == sum).then(|| Self(raw.to_owned()))
    }

    /// The text itself: for its owner, or to encrypt it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the text: what the lookup column holds. 238 random bits need no slow hash.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The last four characters, kept beside the digest so that people can tell keys apart.
    pub fn last4(&self) -> &str {
        &self.0[self.0.len() - 4..]
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

/// SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// A key as lists show it: `sk-kh…abcd`.
pub fn masked(last4: &str) -> String {
    format!("{PREFIX}…{last4}")
}

/// So many characters from the thread's cryptographic generator, 5.95 bits each.
pub(super) fn random_base62(chars: usize) -> String {
    let mut rng = rand::rng();
    (0..chars).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generated_secret_has_the_published_shape() {
        let secret = KeySecret::generate();
        assert_eq!(secret.expose().len(), 51);
        assert_eq!(KeySecret::parse(secret.expose()), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), "KeySecret(…)");
        assert!(masked(secret.last4()).starts_with("sk-kh…"));
    }

    /// Keys already handed out must parse for ever. The figure was computed with Python's zlib.
    #[test]
    fn the_format_never_changes() {
        assert_eq!(checksum("sk-kh0123456789"), "01pMBy");
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(position in 5usize..51, replacement in 0usize..62) {
            let secret = KeySecret::generate();
            let mut bytes = secret.expose().as_bytes().to_vec();
            prop_assume!(bytes[position] != ALPHABET[replacement]);
            bytes[position] = ALPHABET[replacement];
            let text = String::from_utf8(bytes).expect("ASCII");
            prop_assert!(KeySecret::parse(&text).is_none());
        }

        #[test]
        fn garbage_never_parses_and_never_panics(raw in "\\PC{0,60}") {
            prop_assert!(KeySecret::parse(&raw).is_none());
        }
    }
}
