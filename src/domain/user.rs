//! Users: their names, and which passwords are good enough.

use super::Invalid;
use std::fmt;

const PASSWORD_CHARS_MIN: usize = 12;
/// Longest a password may be: Argon2 reads it all, and a megabyte of password is an attack, not a password.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// zxcvbn's estimate, 0 to 4; below 2 a password falls to fewer than a million guesses (its README's scale).
const PASSWORD_SCORE_MIN: u8 = 2;

/// A login name: lower case, 2 to 64 of letters, digits and `. _ - @`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName(String);

impl UserName {
    /// Folds to lower case, so that `Ada` and `ada` are one account.
    ///
    /// # Errors
    /// When it is too short, too long, or has other characters.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let raw = raw.trim();
        let good = (2..=64).contains(&raw.len())
            && raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
        if good {
            return Ok(Self(raw.to_ascii_lowercase()));
        }
        Err(Invalid::new("Enter a name of 2 to 64 letters, digits, or . _ - @."))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the row of a user is called once they are deleted: as no login can be.
pub fn deleted_name(name: &str, id: i64) -> String {
    format!("{name}#{id}")
}

/// A row's name as people read it: that of a deleted user, `ada#12`, is `ada (deleted)`.
pub fn shown_name(stored: String) -> String {
    match stored.split_once('#') {
        Some((name, _)) => format!("{name} (deleted)"),
        None => stored,
    }
}

/// A password good enough to be set. Its `Debug` hides it.
pub struct NewPassword(String);

impl NewPassword {
    /// Checks length and guessability; the user's own name counts as guessable.
    ///
    /// # Errors
    /// When it is shorter than 12 characters, very long, common, or easily guessed.
    pub fn parse(raw: &str, user_name: &str) -> Result<Self, Invalid> {
        if raw.len() > PASSWORD_BYTES_MAX {
            return Err(Invalid::new("Choose a password of at most 1024 bytes."));
        }
        if raw.chars().count() < PASSWORD_CHARS_MIN {
            return Err(Invalid::new("Choose a password of at least 12 characters."));
        }
        // zxcvbn itself looks at the first hundred characters only.
        let strength = zxcvbn::zxcvbn(raw, &[user_name, "keyhouse"]);
        if u8::from(strength.score()) < PASSWORD_SCORE_MIN {
            return Err(Invalid::new(
                "This password is common or easily guessed. A few unrelated words make a good one.",
            ));
        }
        Ok(Self(raw.to_owned()))
    }

    /// The text, to hash it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_user_is_shown_as_one() {
        assert_eq!(shown_name("ada".into()), "ada");
        assert_eq!(shown_name(deleted_name("ada", 12)), "ada (deleted)");
        assert!(UserName::parse(&deleted_name("ada", 12)).is_err());
    }

    #[test]
    fn names_are_folded_and_bounded() {
        assert_eq!(UserName::parse(" Ada@Example.org ").expect("valid").as_str(), "ada@example.org");
        for raw in ["", "a", "a b", "ada\n", "<ada>", &"a".repeat(65), "адa"] {
            let parsed = UserName::parse(raw);
            assert!(parsed.is_err() || raw.trim() == "ada", "{raw}");
        }
    }

    #[test]
    fn short_and_common_passwords_are_refused() {
        for raw in [
            "",
            "short",
            "passwordpassword",
            "123456789012",
            "qwertyuiopas",
            "aaaaaaaaaaaaaaaa",
            "keyhousekeyhouse",
        ] {
            assert!(NewPassword::parse(raw, "ada").is_err(), "{raw}");
        }
        assert!(NewPassword::parse(&"x".repeat(1_000_000), "ada").is_err());
        assert!(NewPassword::parse("copper lantern vivid stroll", "ada").is_ok());
    }
}
