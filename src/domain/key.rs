//! An API key's settings and status: the one function that decides whether a key is usable.

use super::credits::Credits;
use super::expiry::parse_expiry;
use super::models::ModelRestrictions;
use super::network::IpAllowlist;
use super::{FieldErrors, Invalid, parse_label};

const NAME_CHARS_MAX: usize = 100;

/// Whether a key works, derived from its row and the moment, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// May be used.
    Active,
    /// Switched off by its owner or an admin.
    Disabled,
    /// Past its expiry date.
    Expired,
    /// Its credit limit is used up.
    Exhausted,
}

impl Status {
    /// All, in the order a filter lists them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Expired, Self::Exhausted];

    /// The word on the badge.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Disabled => "Disabled",
            Self::Expired => "Expired",
            Self::Exhausted => "Exhausted",
        }
    }

    /// Parses the label, in any case, as a URL's filter has it.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.label().eq_ignore_ascii_case(raw))
    }
}

/// What a key's status depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Not switched off.
    pub enabled: bool,
    /// First moment at which it no longer works.
    pub expires_at_ms: Option<i64>,
    /// `None`: unlimited.
    pub credit_limit_micros: Option<i64>,
    /// Settled so far.
    pub credits_used_micros: i64,
}

impl Standing {
    /// The one decision about a key's status; list, filter and gateway all ask here.
    pub fn status(&self, now_ms: i64) -> Status {
        if !self.enabled {
            Status::Disabled
        } else if self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            Status::Expired
        } else if self.credit_limit_micros.is_some_and(|limit| self.credits_used_micros >= limit) {
            Status::Exhausted
        } else {
            Status::Active
        }
    }
}

/// A key's label: 1 to 100 printable characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// Trims and checks.
    ///
    /// # Errors
    /// When it is empty, too long, or has control characters.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        parse_label(raw, "The name", NAME_CHARS_MAX).map(Self)
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What may be set when a key is made and changed when it is edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// Its label.
    pub name: KeyName,
    /// `None`: permanent.
    pub expires_at_ms: Option<i64>,
    /// `None`: unlimited, bound by the account only.
    pub credit_limit: Option<Credits>,
    /// Which models; empty: all.
    pub models: ModelRestrictions,
    /// From where; empty: anywhere.
    pub ip_allowlist: IpAllowlist,
}

/// A key's settings as typed, from a form, the command line or JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyDraft<'a> {
    /// Label.
    pub name: &'a str,
    /// See [`parse_expiry`].
    pub expires: &'a str,
    /// `None`: unlimited.
    pub credit_limit: Option<&'a str>,
    /// Patterns, by line or comma.
    pub models: &'a str,
    /// Networks, by line or comma.
    pub ip_allowlist: &'a str,
}

impl KeyDraft<'_> {
    /// Parses every field; `expires_unchanged` is the stored expiry of an edited key, which may lie in the past.
    ///
    /// # Errors
    /// All refused fields together: `name`, `expires`, `credit_limit`, `models`, `ip_allowlist`.
    pub fn parse(&self, now_ms: i64, expires_unchanged: Option<i64>) -> Result<KeySettings, FieldErrors> {
        let mut errors = FieldErrors::default();
        let name = errors.take("name", KeyName::parse(self.name));
        let expires = errors.take("expires", parse_expiry(self.expires, now_ms, expires_unchanged));
        let limit = errors.take("credit_limit", self.credit_limit.map(parse_limit).transpose());
        let models = errors.take("models", ModelRestrictions::parse(self.models));
        let networks = errors.take("ip_allowlist", IpAllowlist::parse(self.ip_allowlist));
        match (name, expires, limit, models, networks) {
            (Some(name), Some(expires_at_ms), Some(credit_limit), Some(models), Some(ip_allowlist)) => {
                Ok(KeySettings { name, expires_at_ms, credit_limit, models, ip_allowlist })
            }
            _ => Err(errors),
        }
    }
}

fn parse_limit(raw: &str) -> Result<Credits, Invalid> {
    if raw.trim().is_empty() {
        return Err(Invalid::new("Enter a credit limit, or choose Unlimited Credits."));
    }
    let limit = Credits::parse(raw)?;
    if limit == Credits::ZERO {
        return Err(Invalid::new("Enter more than 0; to stop a key, disable it."));
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: Standing = Standing {
        enabled: true,
        expires_at_ms: Some(1_000),
        credit_limit_micros: Some(50),
        credits_used_micros: 49,
    };

    #[test]
    fn status_follows_switch_then_date_then_limit() {
        assert_eq!(ACTIVE.status(999), Status::Active);
        assert_eq!(ACTIVE.status(1_000), Status::Expired);
        let exhausted = Standing { credits_used_micros: 50, ..ACTIVE };
        assert_eq!(exhausted.status(0), Status::Exhausted);
        assert_eq!(exhausted.status(1_000), Status::Expired);
        assert_eq!(Standing { enabled: false, ..exhausted }.status(1_000), Status::Disabled);
        let free = Standing {
            expires_at_ms: None,
            credit_limit_micros: None,
            credits_used_micros: i64::MAX,
            ..ACTIVE
        };
        assert_eq!(free.status(i64::MAX), Status::Active);
    }

    #[test]
    fn every_refused_field_is_named() {
        let draft = KeyDraft {
            name: " ",
            expires: "1999-01-01",
            credit_limit: Some("-1"),
            models: "a b",
            ip_allowlist: "10.0.0.0/99",
        };
        let errors = draft.parse(1_790_000_000_000, None).expect_err("all wrong");
        for field in ["name", "expires", "credit_limit", "models", "ip_allowlist"] {
            assert!(errors.of(field).is_some(), "{field}");
        }
    }

    #[test]
    fn names_are_printable_and_bounded() {
        for raw in ["", "  ", "a\0b", "a\nb", "rtl\u{202E}evil", &"x".repeat(101), &"x".repeat(1_000_000)] {
            assert!(KeyName::parse(raw).is_err());
        }
        assert_eq!(KeyName::parse(" <b>Ключ 🔑</b> ").expect("valid").as_str(), "<b>Ключ 🔑</b>");
    }

    #[test]
    fn a_limit_must_be_given_unless_unlimited() {
        let with = |credit_limit| KeyDraft { name: "k", credit_limit, ..KeyDraft::default() }.parse(0, None);
        assert_eq!(with(None).expect("unlimited").credit_limit, None);
        assert!(with(Some("")).is_err());
        assert!(with(Some("0")).is_err());
        assert_eq!(with(Some("2.5")).expect("limited").credit_limit, Some(Credits::from_micros(2_500_000)));
    }
}
