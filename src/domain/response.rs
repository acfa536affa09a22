//! What an upstream calls a stored response: checked before it becomes part of a URL or a statement.

const LENGTH_MAX: usize = 128;

/// An id such as `resp_67ccd2bed1ec8190b14f964abc054267`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseId(String);

impl ResponseId {
    /// Letters, digits, `_` and `-`, at most 128; anything else is nobody's response.
    pub fn parse(raw: &str) -> Option<Self> {
        let good = (1..=LENGTH_MAX).contains(&raw.len())
            && raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        good.then(|| Self(raw.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_nothing_that_could_lead_elsewhere() {
        assert!(ResponseId::parse("resp_67ccd2bed1ec-A").is_some());
        let long = "a".repeat(129);
        for raw in ["", "..", "a/b", "a%2Fb", "a?b", "a b", "é", "a\0", &long] {
            assert_eq!(ResponseId::parse(raw), None, "{raw}");
        }
    }
}
