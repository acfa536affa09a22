//! The second factor: a code of six digits that an authenticator app makes anew every half minute (TOTP, RFC 6238),
//! or one of ten recovery codes. Secrets are types that do not print themselves.

use super::Invalid;
use rand::RngExt;
use sha2::{Digest, Sha256};
use std::fmt;
use totp_rs::{Builder, Secret, Totp};

/// How long a session may copy and reveal keys after a code.
pub const CONFIRMED_MS: i64 = 60 * 60 * 1000;
/// How many recovery codes there are at first.
pub const RECOVERY_CODES: usize = 10;

/// Named in the app.
const ISSUER: &str = "Keyhouse";
const DIGITS: usize = 6;
const SECRET_BYTES: usize = 20; // RFC 4226's advice
/// Without what is easily misread; 32 of them are 5 bits each.
const ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
const RECOVERY_CHARS: usize = 16;
const RECOVERY_PART: usize = 4;
/// Nobody types more, with all the spaces there may be.
const TYPED_BYTES_MAX: usize = 64;

/// What an app and the house share.
pub struct TotpSecret([u8; SECRET_BYTES]);

impl TotpSecret {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The secret of its base32 text.
    pub fn parse(base32: &str) -> Option<Self> {
        let secret = Secret::try_from_base32(base32).ok()?;
        secret.as_bytes().try_into().ok().map(Self)
    }

    /// Base32, as apps take it.
    pub fn expose(&self) -> String {
        Secret::from(self.0).to_base32()
    }

    /// In groups of four, to be typed.
    pub fn for_people(&self) -> String {
        in_parts(&self.expose(), " ")
    }

    /// The link that apps on the same device open.
    pub fn url(&self, user_name: &str) -> Option<String> {
        self.totp(user_name)?.to_url().ok()
    }

    /// The same as a picture that apps on another device scan: PNG in base64.
    pub fn qr_base64(&self, user_name: &str) -> Option<String> {
        self.totp(user_name)?.to_qr_base64().ok()
    }

    /// The half minute since 1970 that a code of six digits belongs to: this one, the one before or the next, for
    /// clocks that differ. `None`: it is wrong.
    pub fn step_of(&self, digits: &str, now_ms: i64) -> Option<i64> {
        let now_s = u64::try_from(now_ms / 1000).ok()?;
        self.totp("check")?.check(digits, now_s).and_then(|step| i64::try_from(step).ok())
    }

    fn totp(&self, user_name: &str) -> Option<Totp> {
        Builder::new().with_secret(self.0).with_account_name(user_name).with_issuer(Some(ISSUER)).build().ok()
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

/// What was typed where a code is asked for.
#[derive(Debug)]
pub enum Code {
    /// Six digits of the app.
    App(String),
    /// A recovery code.
    Recovery(RecoveryCode),
}

impl Code {
    /// Reads a code, with or without spaces and dashes.
    ///
    /// # Errors
    /// When it is neither six digits nor a recovery code.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        const NEITHER: Invalid = Invalid::new("Enter the 6 digits of your app, or a recovery code.");
        if raw.len() > TYPED_BYTES_MAX {
            return Err(NEITHER);
        }
        let typed: String =
            raw.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if typed.len() == DIGITS && typed.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::App(typed));
        }
        let is_recovery = typed.len() == RECOVERY_CHARS && typed.bytes().all(|byte| ALPHABET.contains(&byte));
        if is_recovery { Ok(Self::Recovery(RecoveryCode(typed))) } else { Err(NEITHER) }
    }
}

/// A code for who has lost the app; works once. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(String);

impl RecoveryCode {
    /// A new one, of 80 bits.
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        let chars = (0..RECOVERY_CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
        Self(chars.collect())
    }

    /// As people keep it: `abcd-efgh-jkmn-pqrs`.
    pub fn expose(&self) -> String {
        in_parts(&self.0, "-")
    }

    /// SHA-256 of the text, bound to its user: what the database holds. 80 random bits need no slow hash.
    pub fn digest(&self, user_id: i64) -> [u8; 32] {
        Sha256::digest(format!("{user_id}/{}", self.0)).into()
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

fn in_parts(text: &str, separator: &str) -> String {
    let parts: Vec<String> = text
        .as_bytes()
        .chunks(RECOVERY_PART)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    parts.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the last six digits of its eight.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = TotpSecret(*b"12345678901234567890");
        for (seconds, digits) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let step = seconds / 30;
            for (late_s, found) in
                [(0, Some(step)), (30, Some(step)), (-30, Some(step)), (90, None), (-90, None)]
            {
                assert_eq!(secret.step_of(digits, (seconds + late_s) * 1000), found, "{digits} {late_s}");
            }
        }
        for wrong in ["", "28708", "2870822", "28708a", "+87082", "٢٨٧٠٨٢"] {
            assert_eq!(secret.step_of(wrong, 59_000), None, "{wrong}");
        }
        assert_eq!(secret.step_of("287082", -60_000), None);
    }

    #[test]
    fn a_secret_is_read_back_and_never_printed() {
        let secret = TotpSecret::generate();
        let again = TotpSecret::parse(&secret.expose()).expect("base32");
        assert_eq!(again.0, secret.0);
        assert_eq!(format!("{secret:?} {:?}", RecoveryCode::generate()), "TotpSecret(…) RecoveryCode(…)");
        let url = secret.url("ada@example.org").expect("a link");
        assert!(url.starts_with("otpauth://totp/Keyhouse:ada%40example.org?secret="), "{url}");
        assert!(url.contains("issuer=Keyhouse"), "{url}");
        assert!(secret.qr_base64("ada").is_some_and(|png| png.starts_with("iVBOR")));
        assert_eq!(secret.for_people().replace(' ', ""), secret.expose());
        assert!(TotpSecret::parse("").is_none() && TotpSecret::parse("AAAA").is_none());
    }

    #[test]
    fn either_kind_of_code_is_read_however_it_is_typed() {
        assert!(matches!(Code::parse(" 123 456\n"), Ok(Code::App(digits)) if digits == "123456"));
        let code = RecoveryCode::generate();
        assert_eq!(code.expose().len(), RECOVERY_CHARS + 3);
        for typed in [code.expose(), code.expose().to_uppercase(), code.expose().replace('-', " ")] {
            assert!(matches!(Code::parse(&typed), Ok(Code::Recovery(read)) if read == code), "{typed}");
        }
        for wrong in ["", "12345", "1234567", "abcd-efgh-jkmn-pqr0", "١٢٣٤٥٦", &"1".repeat(1_000_000)] {
            assert!(Code::parse(wrong).is_err(), "{wrong:.20}");
        }
        assert_ne!(code.digest(1), code.digest(2));
    }
}
