//! One key as the list shows it: text ready to print, and never the secret.

use crate::dashboard::moment::Moment;
use crate::dashboard::page::Badge;
use crate::domain::credits::Credits;
use crate::domain::key::Status;
use crate::domain::secret::masked;
use crate::error::Error;
use crate::store::groups::Group;
use crate::store::keys::Key;

/// Entries shown before the rest is folded.
const SHOWN_ENTRIES: usize = 2;

/// A row.
pub struct Row {
    /// Key.
    pub id: i64,
    /// Label.
    pub name: String,
    /// `sk-kh…last4`
    pub masked: String,
    /// Badge.
    pub status: Badge,
    /// Switch.
    pub enabled: bool,
    /// Credits.
    pub quota: Quota,
    /// `None`: permanent.
    pub expiry: Option<Moment>,
    /// Networks; none: any.
    pub networks: Folded,
    /// Group's name.
    pub group: String,
    /// Its price factor.
    pub multiplier: String,
    /// Patterns; none: all.
    pub models: Folded,
    /// `None`: never.
    pub last_used: Option<Moment>,
    /// When made.
    pub created: Moment,
}

impl Row {
    /// What the list shows of a key.
    ///
    /// # Errors
    /// When stored restrictions are damaged.
    pub fn of(key: &Key, group: &Group, now_ms: i64) -> Result<Self, Error> {
        Ok(Self {
            id: key.id,
            name: key.name.clone(),
            masked: masked(&key.last4),
            status: badge(key.standing().status(now_ms)),
            enabled: key.enabled,
            quota: Quota::of(key),
            expiry: key.expires_at_ms.map(|at_ms| Moment::of(at_ms, now_ms)),
            networks: Folded::of(key.ip_allowlist()?.entries().collect()),
            group: group.name.clone(),
            multiplier: group.multiplier().to_string(),
            models: Folded::of(key.models()?.patterns().to_vec()),
            last_used: key.last_used_at_ms.map(|at_ms| Moment::of(at_ms, now_ms)),
            created: Moment::of(key.created_at_ms, now_ms),
        })
    }
}

fn badge(status: Status) -> Badge {
    let (icon, colour) = match status {
        Status::Active => ("circle-check", "green"),
        Status::Disabled => ("circle-off", "secondary"),
        Status::Expired => ("clock", "orange"),
        Status::Exhausted => ("gauge", "red"),
    };
    Badge { label: status.label(), icon, colour }
}

/// Credits used of a limit.
pub struct Quota {
    /// For people.
    pub used: String,
    /// For people; `None`: unlimited.
    pub limit: Option<String>,
    /// Of the bar, in micro-credits.
    pub value: i64,
    /// Of the bar, in micro-credits.
    pub max: i64,
    /// Whole percents, at most 100.
    pub percent: i64,
    /// Of the bar.
    pub level: &'static str,
}

impl Quota {
    fn of(key: &Key) -> Self {
        let (used, limit) = (key.credits_used_micros, key.credit_limit_micros);
        let max = limit.unwrap_or(1).max(1);
        let value = used.clamp(0, max);
        let percent = i64::try_from(i128::from(value) * 100 / i128::from(max)).unwrap_or(100);
        let level = match percent {
            100.. => "is-full",
            80.. => "is-high",
            _ => "is-fine",
        };
        Self {
            used: Credits::from_micros(used).for_people(),
            limit: limit.map(|limit| Credits::from_micros(limit).for_people()),
            value,
            max,
            percent,
            level,
        }
    }
}

/// A list whose length would spoil the row.
pub struct Folded {
    /// The first few.
    pub shown: Vec<String>,
    /// The others.
    pub rest: Vec<String>,
}

impl Folded {
    fn of(mut entries: Vec<String>) -> Self {
        // Folding a single entry would save nothing.
        let shown = if entries.len() <= SHOWN_ENTRIES + 1 { entries.len() } else { SHOWN_ENTRIES };
        let rest = entries.split_off(shown);
        Self { shown: entries, rest }
    }
}
