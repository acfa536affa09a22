//! Pure rules: what a key, a credit, a price, an address is and what it allows.
//! No I/O, no clock, no actix, no diesel, no askama; everything here is tested without a server.

pub mod charge;
pub mod credits;
pub mod decimal;
pub mod device;
pub mod expiry;
pub mod grant;
pub mod group;
pub mod health;
pub mod key;
pub mod models;
pub mod network;
pub mod price;
pub mod price_list;
pub mod response;
pub mod second_factor;
pub mod secret;
pub mod sign_in_link;
pub mod throttle;
pub mod upstream;
pub mod usage;
pub mod user;

use std::borrow::Cow;
use std::fmt;

/// Why a value was refused: one sentence for the person who typed it, without the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Cow<'static, str>);

impl Invalid {
    /// A refusal with a fixed sentence.
    pub const fn new(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }
}

impl From<String> for Invalid {
    fn from(message: String) -> Self {
        Self(Cow::Owned(message))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// The refusals of a whole form: each with the name of the field it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<(&'static str, Invalid)>);

impl FieldErrors {
    /// Takes the value, or notes the refusal under `field` and gives `None`.
    pub fn take<T>(&mut self, field: &'static str, parsed: Result<T, Invalid>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.add(field, invalid);
                None
            }
        }
    }

    /// Notes a refusal under `field`.
    pub fn add(&mut self, field: &'static str, invalid: Invalid) {
        self.0.push((field, invalid));
    }

    /// The first refusal of `field`, if it has one.
    pub fn of(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, invalid)| invalid.0.as_ref())
    }

    /// Every refusal with its field, in the order they were noted.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Invalid)> {
        self.0.iter().map(|(field, invalid)| (*field, invalid))
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the first refused field.
    pub fn first_field(&self) -> Option<&'static str> {
        self.0.first().map(|(field, _)| *field)
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, invalid)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{field}: {invalid}")?;
        }
        Ok(())
    }
}

/// A trimmed, printable, bounded label; the rule behind every name a person types.
///
/// # Errors
/// When it is empty, longer than `chars_max` characters, or has control or invisible characters.
pub(crate) fn parse_label(raw: &str, what: &str, chars_max: usize) -> Result<String, Invalid> {
    let label = raw.trim();
    if label.is_empty() {
        return Err(format!("{what} is missing.").into());
    }
    // Bytes first: counting the characters of a megabyte is work for nothing.
    if label.len() > chars_max * 4 || label.chars().count() > chars_max {
        return Err(format!("{what} is longer than {chars_max} characters.").into());
    }
    if label.chars().any(is_unprintable) || !label.split(is_joiner).all(is_visible) {
        return Err(format!("{what} contains control or invisible characters.").into());
    }
    Ok(label.to_owned())
}

/// Control characters, those that reorder or hide text around them (Unicode TR 36, bidi spoofing), and those that are
/// letters or symbols and yet show nothing.
fn is_unprintable(c: char) -> bool {
    let reorders = matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{206F}');
    let hides = matches!(c, '\u{AD}' | '\u{200B}' | '\u{2060}'..='\u{2065}' | '\u{FEFF}');
    let fills = matches!(c, '\u{115F}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{FFA0}');
    c.is_control() || reorders || hides || fills
}

/// They part or join what stands on both sides: letters of Persian and of Indic scripts, parts of emoji.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

/// Whether something is to be seen, also where it begins and ends. What only changes the look of a character before it
/// shows nothing by itself.
fn is_visible(part: &str) -> bool {
    let changes_look = |c| matches!(c, '\u{34F}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0000}'..='\u{E007F}' | '\u{E0100}'..='\u{E01EF}');
    part == part.trim() && part.chars().any(|c| !c.is_whitespace() && !changes_look(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_of_any_language_and_visible() {
        for label in ["laptop", "کتاب‌خانه", "می‌خواهم بروم", "👩‍💻", "🏳️‍🌈 team", "❤️‍🔥", "क्‍ष", "한국어", "Straße"]
        {
            assert_eq!(parse_label(label, "The name", 60).as_deref(), Ok(label));
        }
        for label in [
            "\u{AD}",
            "\u{2800}",
            "\u{3164}",
            "\u{115F}",
            "\u{1160}",
            "\u{115F}\u{1160}",
            "\u{FE0F}",
            "\u{200D}",
            "\u{200C}\u{200D}",
            "\u{200C}a",
            "a\u{200D}",
            "a\u{200C}\u{200C}b",
            "a \u{200C}b",
            "a\u{200D} b",
            "a\u{200D}\u{FE0F}",
            "lap\u{AD}top",
            "lap\u{200B}top",
            "lap\u{202E}top",
            "lap\u{2066}top",
            "lap\u{2060}top",
            "a\nb",
            " ",
        ] {
            assert!(parse_label(label, "The name", 60).is_err(), "{}", label.escape_unicode());
        }
    }
}
