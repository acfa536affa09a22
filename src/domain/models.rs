//! Model names, and which of them a key may use.

use super::Invalid;
use super::usage::TOKENS_MAX;
use std::fmt;

/// Most patterns a key's restrictions may have.
pub const PATTERNS_MAX: usize = 200;
const NAME_CHARS_MAX: usize = 128;

/// A public model name such as `gpt-4o` or `meta/llama-3:70b`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName(String);

impl ModelName {
    /// Letters, digits and `. _ - : / @ +`, at most 128.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let name = raw.trim();
        if is_name(name) {
            return Ok(Self(name.to_owned()));
        }
        Err(Invalid::new("Enter a model name of letters, digits and . _ - : / @ +, at most 128 characters."))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte))
}

/// Checks the most output tokens of one answer.
///
/// # Errors
/// When it is no whole number, or none that an answer may have.
pub fn parse_max_output(raw: &str) -> Result<i64, Invalid> {
    let tokens = raw.trim().parse().ok().filter(|tokens| (1..=TOKENS_MAX).contains(tokens));
    tokens.ok_or(Invalid::new("Enter a whole number of tokens between 1 and 1000000000, such as 4096."))
}

/// The models a key may use: exact names, or a beginning with a trailing `*`. Empty means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRestrictions(Vec<String>);

impl ModelRestrictions {
    /// Parses patterns separated by lines or commas.
    ///
    /// # Errors
    /// Names the rule when an entry is no model name, has a `*` elsewhere than at its end, or there are too many.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        Self::from_patterns(raw.split(['\n', ',']))
    }

    /// As [`ModelRestrictions::parse`], from separate entries.
    ///
    /// # Errors
    /// As [`ModelRestrictions::parse`].
    pub fn from_patterns<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut patterns: Vec<String> = Vec::new();
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            let beginning = entry.strip_suffix('*').unwrap_or(entry);
            if !(is_name(beginning) || entry == "*") {
                return Err(Invalid::new(
                    "Enter model names, or the beginning of names followed by one *, such as gpt-4*.",
                ));
            }
            if !patterns.iter().any(|known| known == entry) {
                patterns.push(entry.to_owned());
            }
            if patterns.len() > PATTERNS_MAX {
                return Err(
                    format!("Choose at most {PATTERNS_MAX} models; use a trailing * for families.").into()
                );
            }
        }
        Ok(Self(patterns))
    }

    /// Whether `model` may be used.
    pub fn allows(&self, model: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => model.starts_with(beginning),
                None => model == pattern,
            })
    }

    /// The patterns, in the order they were given.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}

/// One pattern a line: the stored form.
impl fmt::Display for ModelRestrictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_and_trailing_stars_match() {
        let allowed = ModelRestrictions::parse("gpt-4o\nclaude-*,gpt-4o").expect("valid");
        assert_eq!(allowed.to_string(), "gpt-4o\nclaude-*");
        for (model, expected) in
            [("gpt-4o", true), ("gpt-4o-mini", false), ("claude-3", true), ("Claude-3", false)]
        {
            assert_eq!(allowed.allows(model), expected, "{model}");
        }
        assert!(ModelRestrictions::default().allows("anything"));
    }

    #[test]
    fn stars_elsewhere_and_strange_names_are_refused() {
        for raw in ["*gpt", "g*t", "a**", "a b", "<script>", "модель"] {
            assert!(ModelRestrictions::parse(raw).is_err(), "{raw}");
        }
        let many: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
        assert!(ModelRestrictions::from_patterns(many.iter().map(String::as_str)).is_err());
    }
}
