//! The token of a one-time sign-in link: 43 random base62 characters, of which the database keeps a digest alone.

use super::secret::random_base62;
use sha2::{Digest, Sha256};
use std::fmt;

const CHARS: usize = 43; // 256 bits
/// How long a link may be used.
pub const LIFETIME_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// A token. Its `Debug` hides it; [`SignInToken::expose`] is the only way to the text.
#[derive(Clone, PartialEq, Eq)]
pub struct SignInToken(String);

impl SignInToken {
    /// A new one from the thread's cryptographic generator.
    pub fn generate() -> Self {
        Self(random_base62(CHARS))
    }

    /// Accepts only a text of the right length and alphabet, so that garbage costs no query.
    pub fn parse(raw: &str) -> Option<Self> {
        let right_shape = raw.len() == CHARS && raw.bytes().all(|byte| byte.is_ascii_alphanumeric());
        right_shape.then(|| Self(raw.to_owned()))
    }

    /// The text itself: for the link.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The link to give to the person, on the server of `base_url`.
    pub fn link(&self, base_url: &str) -> String {
        format!("{}/welcome?token={}", base_url.trim_end_matches('/'), self.0)
    }

    /// SHA-256 of the text: what the database holds. 256 random bits need no slow hash.
    pub fn digest(&self) -> LinkDigest {
        LinkDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for SignInToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInToken(…)")
    }
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkDigest(pub [u8; 32]);

impl fmt::Debug for LinkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_does_not_print_itself() {
        let token = SignInToken::generate();
        assert_ne!(token, SignInToken::generate());
        assert_eq!(SignInToken::parse(token.expose()), Some(token.clone()));
        assert_eq!(format!("{token:?} {:?}", token.digest()), "SignInToken(…) LinkDigest(…)");
        assert_eq!(
            token.link("https://keys.test/"),
            format!("https://keys.test/welcome?token={}", token.expose())
        );
        for raw in ["", "x", &token.expose()[1..], &format!("{}x", token.expose()), &"ü".repeat(CHARS)] {
            assert_eq!(SignInToken::parse(raw), None, "{raw}");
        }
    }
}
