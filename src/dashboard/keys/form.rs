//! The form that makes and edits a key: what was typed, what may be chosen, and what was refused.

use crate::dashboard::moment::minutes_utc;
use crate::dashboard::page::{Pairs, first};
use crate::dashboard::words::{plain, price_in_words};
use crate::domain::FieldErrors;
use crate::domain::Invalid;
use crate::domain::credits::Credits;
use crate::domain::expiry::{parse_expiry, rfc3339};
use crate::domain::key::{KeyDraft, KeySettings};
use crate::domain::models::ModelRestrictions;
use crate::domain::price::{Multiplier, Price};
use crate::error::Error;
use crate::store::groups::Group;
use crate::store::keys::Key;
use crate::store::models::{self, Model};
use crate::store::prices::PriceVersion;
use crate::store::users::User;
use crate::store::{Connection, group_users};

const MINUTE_MS: i64 = 60_000;
/// No place on Earth is further from UTC than this, in minutes.
const OFFSET_MINUTES_MAX: i32 = 18 * 60;

/// What stands in the fields.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    /// Label.
    pub name: String,
    /// As `datetime-local` has it.
    pub expires: String,
    /// Minutes from local time to UTC, as browsers count (`-120` is +02:00); blank without JavaScript: UTC.
    pub expires_offset: String,
    /// Decimal.
    pub credit_limit: String,
    /// Unlimited Credits.
    pub unlimited: bool,
    /// Of the group.
    pub group_id: String,
    /// Those ticked.
    pub models: Vec<String>,
    /// Those written.
    pub patterns: String,
    /// One a line.
    pub ip_allowlist: String,
    /// Switch.
    pub enabled: bool,
    /// Of the key when the form was made.
    pub revision: i64,
}

impl Typed {
    /// An empty form.
    pub fn blank(groups: &[Group]) -> Self {
        let group = group_users::default_choice(groups);
        Self {
            unlimited: true,
            enabled: true,
            group_id: group.map(|group| group.id.to_string()).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The form of a key as it is; [`Choices::model_choices`] tells ticks from what is written.
    ///
    /// # Errors
    /// When stored restrictions are damaged.
    pub fn of(key: &Key) -> Result<Self, Error> {
        Ok(Self {
            name: key.name.clone(),
            expires: key.expires_at_ms.map(minutes_utc).unwrap_or_default(),
            expires_offset: String::new(),
            credit_limit: key.credit_limit_micros.map(plain).unwrap_or_default(),
            unlimited: key.credit_limit_micros.is_none(),
            group_id: String::new(),
            models: key.models()?.patterns().to_vec(),
            patterns: String::new(),
            ip_allowlist: key.ip_allowlist()?.to_string(),
            enabled: key.enabled,
            revision: key.revision,
        })
    }

    /// The form as it came in. A field that is missing is blank; one that is there twice counts once.
    pub fn from_pairs(pairs: &Pairs) -> Self {
        let text = |name| first(pairs, name).to_owned();
        Self {
            name: text("name"),
            expires: text("expires"),
            expires_offset: text("expires_offset"),
            credit_limit: text("credit_limit"),
            unlimited: !first(pairs, "unlimited").is_empty(),
            group_id: text("group_id"),
            models: pairs
                .iter()
                .filter(|(field, _)| field == "model")
                .map(|(_, value)| value.clone())
                .collect(),
            patterns: text("patterns"),
            ip_allowlist: text("ip_allowlist"),
            enabled: !first(pairs, "enabled").is_empty(),
            revision: first(pairs, "revision").parse().unwrap_or_default(),
        }
    }

    /// Parses the settings; `stored` is the edited key's expiry.
    ///
    /// # Errors
    /// Every refused field.
    pub fn settings(&self, now_ms: i64, stored: Option<i64>) -> Result<KeySettings, FieldErrors> {
        let expires = self.expires_in_zone(stored);
        let models = format!("{}\n{}", self.models.join("\n"), self.patterns);
        let draft = KeyDraft {
            name: &self.name,
            expires: &expires,
            credit_limit: (!self.unlimited).then_some(self.credit_limit.as_str()),
            models: &models,
            ip_allowlist: &self.ip_allowlist,
        };
        let parsed = draft.parse(now_ms, stored);
        // Whoever typed a limit meant it: a forgotten tick must not make the key unlimited.
        if self.unlimited && !self.credit_limit.trim().is_empty() {
            let mut errors = parsed.err().unwrap_or_default();
            errors.add(
                "credit_limit",
                Invalid::new("Untick Unlimited Credits to set this limit, or clear the limit."),
            );
            return Err(errors);
        }
        parsed
    }

    /// The expiry with its zone. The input knows minutes: a stored moment that was left alone keeps its seconds.
    fn expires_in_zone(&self, stored: Option<i64>) -> String {
        let typed = self.expires.trim();
        let is_local = matches!(typed.len(), 16 | 19) && typed.is_ascii();
        let moment = match self.offset_minutes() {
            Some(minutes) if is_local => {
                let (sign, distance) = if minutes > 0 { ('-', minutes) } else { ('+', -minutes) };
                let seconds = if typed.len() == 16 { ":00" } else { "" };
                format!("{typed}{seconds}{sign}{:02}:{:02}", distance / 60, distance % 60)
            }
            _ => typed.to_owned(),
        };
        let parsed = parse_expiry(&moment, i64::MIN, None).ok().flatten();
        match stored {
            Some(stored) if parsed == Some(stored - stored.rem_euclid(MINUTE_MS)) => rfc3339(stored),
            _ => moment,
        }
    }

    fn offset_minutes(&self) -> Option<i32> {
        self.expires_offset
            .parse()
            .ok()
            .filter(|minutes| (-OFFSET_MINUTES_MAX..=OFFSET_MINUTES_MAX).contains(minutes))
    }

    /// The chosen group, which must be one of those that are offered.
    ///
    /// # Errors
    /// Under `group_id`.
    pub fn group<'a>(&self, groups: &'a [Group]) -> Result<&'a Group, Invalid> {
        groups
            .iter()
            .find(|group| group.id.to_string() == self.group_id)
            .ok_or(Invalid::new("Choose one of these groups."))
    }
}

/// What the form offers to choose from.
pub struct Choices {
    /// The groups that this user may choose.
    pub groups: Vec<Group>,
    /// The models on offer with their prices.
    pub models: Vec<(Model, PriceVersion)>,
}

impl Choices {
    /// As they are now, for this user.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(connection: &mut Connection, user_id: i64) -> Result<Self, Error> {
        Ok(Self { groups: group_users::choices(connection, user_id)?, models: models::offered(connection)? })
    }

    /// The groups with what they make of a real price.
    pub fn group_choices(&self, chosen: &str) -> Vec<GroupChoice> {
        let example = self.models.first();
        self.groups
            .iter()
            .map(|group| GroupChoice {
                id: group.id.to_string(),
                chosen: group.id.to_string() == chosen,
                label: format!("{} (×{})", group.name, group.multiplier()),
                example: example
                    .and_then(|(model, price)| example_price(&model.name, price.price(), group.multiplier())),
            })
            .collect()
    }

    /// The models with their tick. What is chosen and not on offer (any more) has nothing to tick and is written
    /// instead, so that no form comes back with fewer restrictions.
    pub fn model_choices(&self, typed: &mut Typed) -> Vec<ModelChoice> {
        let is_offered = |name: &String| self.models.iter().any(|(model, _)| model.name == *name);
        let (ticked, written): (Vec<_>, Vec<_>) =
            std::mem::take(&mut typed.models).into_iter().partition(is_offered);
        if !written.is_empty() {
            typed.patterns = format!("{}\n{}", typed.patterns, written.join("\n")).trim_start().to_owned();
        }
        typed.models = ticked;
        self.models
            .iter()
            .map(|(model, _)| ModelChoice {
                name: model.name.clone(),
                ticked: typed.models.contains(&model.name),
            })
            .collect()
    }

    /// A model that `allowed` admits, to show in an example: one that some upstream serves, if there is one.
    ///
    /// # Errors
    /// The engine's.
    pub fn example_model(
        &self,
        connection: &mut Connection,
        allowed: &ModelRestrictions,
    ) -> Result<Option<String>, Error> {
        const TRIED_MAX: usize = 20;
        let usable =
            || self.models.iter().map(|(model, _)| model).filter(|model| allowed.allows(&model.name));
        for model in usable().take(TRIED_MAX) {
            if !models::routes(connection, model.id)?.is_empty() {
                return Ok(Some(model.name.clone()));
            }
        }
        Ok(usable().next().map(|model| model.name.clone()))
    }
}

/// `gpt-4o: 2.5 in, 10 out per 1M tokens`; `None` when it leaves every range.
fn example_price(model: &str, price: Price, multiplier: Multiplier) -> Option<String> {
    price_in_words(price, multiplier).map(|words| format!("{model}: {words}"))
}

/// A group to choose.
pub struct GroupChoice {
    /// Row, as in the form.
    pub id: String,
    /// Selected.
    pub chosen: bool,
    /// `premium (×1.5)`
    pub label: String,
    /// See [`example_price`].
    pub example: Option<String>,
}

/// A model to tick.
pub struct ModelChoice {
    /// Public name.
    pub name: String,
    /// Ticked.
    pub ticked: bool,
}

/// What the account can still spend: its balance without what open calls hold.
pub fn available(user: &User) -> String {
    Credits::from_micros(user.balance_micros - user.held_micros).for_people()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000; // 2026-09-21T14:13:20Z

    fn typed(expires: &str, offset: &str) -> Typed {
        Typed {
            name: "k".into(),
            unlimited: true,
            expires: expires.into(),
            expires_offset: offset.into(),
            ..Typed::default()
        }
    }

    fn expiry(expires: &str, offset: &str, stored: Option<i64>) -> Option<String> {
        let settings = typed(expires, offset).settings(NOW_MS, stored).expect("valid");
        settings.expires_at_ms.map(rfc3339)
    }

    #[test]
    fn a_date_is_meant_in_the_zone_of_its_reader() {
        assert_eq!(expiry("2027-01-31T12:00", "-120", None).as_deref(), Some("2027-01-31T10:00:00Z"));
        assert_eq!(expiry("2027-01-31T12:00", "210", None).as_deref(), Some("2027-01-31T15:30:00Z"));
        for offset in ["", "x", "99999"] {
            assert_eq!(expiry("2027-01-31T12:00", offset, None).as_deref(), Some("2027-01-31T12:00:00Z"));
        }
    }

    #[test]
    fn an_expiry_left_alone_keeps_its_seconds_and_may_be_past() {
        let stored = NOW_MS - 86_400_000 + 123;
        let shown = minutes_utc(stored);
        assert_eq!(
            typed(&shown, "").settings(NOW_MS, Some(stored)).expect("valid").expires_at_ms,
            Some(stored)
        );
        assert!(typed(&shown, "").settings(NOW_MS, None).is_err());
        assert!(typed("2020-01-01T00:00", "").settings(NOW_MS, Some(stored)).is_err());
    }

    #[test]
    fn a_typed_limit_never_becomes_unlimited() {
        let forgotten = Typed { credit_limit: "10".into(), ..typed("", "") };
        let errors = forgotten.settings(NOW_MS, None).expect_err("refused");
        assert!(errors.of("credit_limit").is_some());
    }

    #[test]
    fn example_prices_are_multiplied() {
        let price = Price { input_micros: 2_500_000, output_micros: 10_000_000, ..Price::default() };
        let doubled = Multiplier::parse("2").expect("valid");
        assert_eq!(example_price("m", price, doubled).as_deref(), Some("m: 5 in, 20 out per 1M tokens"));
        let flat = Price { per_request_micros: 10_000, ..Price::default() };
        assert_eq!(example_price("m", flat, Multiplier::ONE).as_deref(), Some("m: 0.01 per request"));
        assert_eq!(example_price("m", Price::default(), Multiplier::ONE).as_deref(), Some("m: free"));
        let media = Price { per_image_micros: 40_000, per_audio_second_micros: 100, ..flat };
        assert_eq!(
            example_price("m", media, doubled).as_deref(),
            Some("m: 0.02 per request + 0.08 per image + 0.0002 per second of sound")
        );
    }
}
