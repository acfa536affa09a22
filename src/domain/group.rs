//! Pricing groups: their names.

use super::{Invalid, parse_label};

/// The group that keys get when none is named; made by the first migration.
pub const DEFAULT: &str = "default";
const NAME_CHARS_MAX: usize = 60;

/// Checks a group's name: 1 to 60 printable characters.
///
/// # Errors
/// When it is not.
pub fn parse_name(raw: &str) -> Result<String, Invalid> {
    parse_label(raw, "The name", NAME_CHARS_MAX)
}
