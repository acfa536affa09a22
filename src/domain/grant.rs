//! Grants: what may be said about why credits were given or taken.

use super::{Invalid, parse_label};

const NOTE_CHARS_MAX: usize = 200;

/// Checks a note: blank, or up to 200 printable characters.
///
/// # Errors
/// When it is longer or has control characters.
pub fn parse_note(raw: &str) -> Result<String, Invalid> {
    match raw.trim() {
        "" => Ok(String::new()),
        note => parse_label(note, "The note", NOTE_CHARS_MAX),
    }
}
