//! What part of usage is shown, as the URL says it. Whatever a URL says, it means some page: nonsense is ignored.

use crate::dashboard::list_url::printable;
use crate::domain::charge::ChargeStatus;
use crate::domain::expiry::{DAY_MS, day_at, rfc3339};
use crate::store::charge_list::{ChargeQuery, Place, Way};
use crate::store::usage::{Grain, Scope, Span};
use crate::store::usage_rollup::HOUR_MS;
use url::form_urlencoded;

/// Days of a range of one's own, at most; the last ones of a longer range.
pub const DAYS_MAX: i64 = 366;
/// Days of a range of one's own whose first day is not said.
const DAYS_UNSAID: i64 = 30;
/// A range of so many days is shown by the hour, where hours are kept.
const HOURLY_DAYS_MAX: i64 = 2;

/// Which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// This hour and the 23 before it.
    Day,
    /// Today and the days before it, so many in all.
    Days(i64),
    /// From the beginning of one UTC day to the end of another.
    Between(i64, i64),
}

/// The ranges of the menu: (value in the URL, words).
pub const RANGES: [(&str, &str, Range); 4] = [
    ("24h", "24 hours", Range::Day),
    ("7d", "7 days", Range::Days(7)),
    ("30d", "30 days", Range::Days(30)),
    ("90d", "90 days", Range::Days(90)),
];
/// The menu's value for a range of one's own.
pub const BETWEEN: &str = "between";

impl Range {
    /// The menu's value.
    pub fn word(self) -> &'static str {
        RANGES.into_iter().find(|(_, _, range)| *range == self).map_or(BETWEEN, |(word, _, _)| word)
    }

    /// Reads [`Range::word`], without [`BETWEEN`].
    pub fn parse(raw: &str) -> Option<Self> {
        RANGES.into_iter().find(|(word, _, _)| *word == raw).map(|(_, _, range)| range)
    }

    /// Whether it is longer than what is shown of it.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::Between(from_ms, to_ms) if to_ms - from_ms >= DAYS_MAX * DAY_MS)
    }

    /// The span of time it means now; by the hour only where hours are kept.
    pub fn span(self, now_ms: i64, hourly_from_ms: i64) -> Span {
        let today_ms = now_ms / DAY_MS * DAY_MS;
        let days = |from_ms, until_ms| Span { from_ms, until_ms, grain: Grain::Day };
        match self {
            Self::Day => {
                let until_ms = (now_ms / HOUR_MS + 1) * HOUR_MS;
                Span { from_ms: until_ms - 24 * HOUR_MS, until_ms, grain: Grain::Hour }
            }
            Self::Days(count) => days(today_ms - (count - 1) * DAY_MS, today_ms + DAY_MS),
            Self::Between(from_ms, to_ms) => {
                let until_ms = to_ms + DAY_MS;
                let from_ms = from_ms.max(until_ms - DAYS_MAX * DAY_MS);
                let hourly = until_ms - from_ms <= HOURLY_DAYS_MAX * DAY_MS && from_ms >= hourly_from_ms;
                Span { grain: if hourly { Grain::Hour } else { Grain::Day }, ..days(from_ms, until_ms) }
            }
        }
    }
}

/// What the bars are stacked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Keys.
    Key,
    /// Models.
    Model,
}

impl By {
    /// In the URL.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Model => "model",
        }
    }
}

/// Time, filters, and place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageState {
    /// Time.
    pub range: Range,
    /// Stacking.
    pub by: By,
    /// Of one key.
    pub key_id: Option<i64>,
    /// Of one model.
    pub model: Option<String>,
    /// That stand so.
    pub status: Option<ChargeStatus>,
    /// An admin looks at somebody else's.
    pub user_id: Option<i64>,
    /// Which page of the list.
    pub way: Way,
}

impl Default for UsageState {
    fn default() -> Self {
        Self {
            range: Range::Days(30),
            by: By::Model,
            key_id: None,
            model: None,
            status: None,
            user_id: None,
            way: Way::Start,
        }
    }
}

impl UsageState {
    /// From the query part of a URL. Of a range of one's own, the last day is today where it is not said.
    pub fn parse(query: &str, now_ms: i64) -> Self {
        let mut state = Self::default();
        let (mut from, mut to, mut between) = (None, None, false);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "range" => {
                    between = value == BETWEEN;
                    state.range = Range::parse(&value).unwrap_or(state.range);
                }
                "from" => from = day_at(&value),
                "to" => to = day_at(&value),
                "by" => state.by = if value == By::Key.word() { By::Key } else { By::Model },
                "key" => state.key_id = id(&value),
                "model" => state.model = Some(printable(&value)).filter(|model| !model.is_empty()),
                "status" => state.status = ChargeStatus::parse(&value),
                "user" => state.user_id = id(&value),
                "after" => state.way = place(&value).map_or(state.way, Way::After),
                "before" => state.way = place(&value).map_or(state.way, Way::Before),
                _ => {}
            }
        }
        if between {
            let to = to.unwrap_or(now_ms / DAY_MS * DAY_MS);
            let from = from.unwrap_or((to - (DAYS_UNSAID - 1) * DAY_MS).max(0));
            state.range = Range::Between(from.min(to), from.max(to));
        }
        state
    }

    /// The URL that means this state, without what goes without saying.
    pub fn url(&self) -> String {
        self.url_at("/usage".into())
    }

    /// The URL of a charge that leads back to this list.
    pub fn charge_url(&self, id: i64) -> String {
        self.url_at(format!("/usage/{id}"))
    }

    fn url_at(&self, path: String) -> String {
        let query = self.query_string();
        if query.is_empty() { path } else { format!("{path}?{query}") }
    }

    /// The URL of the same list as a file.
    pub fn export_url(&self) -> String {
        format!("/usage/export.csv?{}", self.first_page().query_string())
    }

    fn query_string(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        };
        let default = Self::default();
        add("user", self.user_id.map(|id| id.to_string()).as_deref());
        add("range", (self.range != default.range).then(|| self.range.word()));
        if let Range::Between(from, to) = self.range {
            add("from", Some(&day(from)));
            add("to", Some(&day(to)));
        }
        add("by", (self.by != default.by).then(|| self.by.word()));
        add("key", self.key_id.map(|id| id.to_string()).as_deref());
        add("model", self.model.as_deref());
        add("status", self.status.map(ChargeStatus::word));
        match self.way {
            Way::Start => {}
            Way::After(place) => add("after", Some(&print_place(place))),
            Way::Before(place) => add("before", Some(&print_place(place))),
        }
        query.finish()
    }

    /// Whether something narrows charts and list beside the time.
    pub fn is_narrowed(&self) -> bool {
        self.key_id.is_some() || self.model.is_some() || self.status.is_some()
    }

    /// The same time without a filter.
    pub fn unfiltered(&self) -> Self {
        Self { key_id: None, model: None, status: None, ..self.first_page() }
    }

    /// The same from the beginning of the list.
    pub fn first_page(&self) -> Self {
        self.towards(Way::Start)
    }

    /// The same at another place of the list.
    pub fn towards(&self, way: Way) -> Self {
        Self { way, ..self.clone() }
    }

    /// For the sums of `user_id`.
    pub fn scope(&self, user_id: i64) -> Scope {
        Scope {
            user_id: Some(user_id),
            key_id: self.key_id,
            model: self.model.clone(),
            outcome: self.status.and_then(ChargeStatus::outcome),
        }
    }

    /// For the list of `user_id`.
    pub fn query(&self, user_id: i64, span: Span) -> ChargeQuery {
        ChargeQuery {
            user_id,
            key_id: self.key_id,
            model: self.model.clone(),
            status: self.status,
            from_ms: span.from_ms,
            until_ms: span.until_ms,
        }
    }
}

/// `2026-11-25`, of a moment in UTC.
pub fn day(at_ms: i64) -> String {
    rfc3339(at_ms).chars().take(10).collect()
}

fn id(raw: &str) -> Option<i64> {
    raw.parse().ok().filter(|id| *id > 0)
}

fn print_place(place: Place) -> String {
    format!("{}-{}", place.created_at_ms, place.id)
}

fn place(raw: &str) -> Option<Place> {
    let (created_at_ms, id) = raw.split_once('-')?;
    Some(Place { created_at_ms: created_at_ms.parse().ok()?, id: id.parse().ok()? })
        .filter(|place| place.created_at_ms >= 0 && place.id >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_MS: i64 = 1_790_000_000_000; // 2026-09-21T14:13:20Z

    fn query_of(url: &str) -> &str {
        url.split_once('?').map_or("", |(_, query)| query)
    }

    fn parse(query: &str) -> UsageState {
        UsageState::parse(query, NOW_MS)
    }

    #[test]
    fn a_state_survives_its_url() {
        let state = UsageState {
            range: Range::Between(1_789_862_400_000, 1_789_948_800_000),
            by: By::Key,
            key_id: Some(7),
            model: Some("a&b=ключ %".into()),
            status: Some(ChargeStatus::HungUp),
            user_id: Some(3),
            way: Way::After(Place { created_at_ms: NOW_MS, id: i64::MAX }),
        };
        assert_eq!(parse(query_of(&state.url())), state);
        assert_eq!(UsageState::default().url(), "/usage");
        assert!(
            state.export_url().contains("from=2026-09-20&to=2026-09-21")
                && !state.export_url().contains("after")
        );
    }

    #[test]
    fn spans_are_whole_hours_or_days() {
        let hours = Range::Day.span(NOW_MS, 0);
        assert_eq!((hours.starts().count(), hours.grain), (24, Grain::Hour));
        assert!(
            hours.from_ms % HOUR_MS == 0 && hours.until_ms > NOW_MS && hours.until_ms <= NOW_MS + HOUR_MS
        );
        let days = Range::Days(90).span(NOW_MS, 0);
        assert_eq!((days.starts().count(), days.grain), (90, Grain::Day));
        assert!(days.from_ms % DAY_MS == 0 && days.until_ms > NOW_MS);
        let day = parse("range=between&from=2026-09-20&to=2026-09-20").range;
        assert_eq!(day.span(NOW_MS, 0).starts().count(), 24);
        assert_eq!(day.span(NOW_MS, NOW_MS).starts().count(), 1, "its hours are no longer kept");
    }

    #[test]
    fn a_range_backwards_is_turned_and_a_long_one_cut() {
        let turned = parse("range=between&from=2026-09-21&to=2026-09-20");
        assert_eq!(turned, parse("range=between&from=2026-09-20&to=2026-09-21"));
        let long = parse("range=between&from=1971-01-01&to=2026-09-20").range;
        assert_eq!((long.span(NOW_MS, 0).starts().count(), long.is_cut()), (366, true));
        let whole = parse("range=between&from=2025-09-20&to=2026-09-20").range;
        assert_eq!((whole.span(NOW_MS, 0).starts().count(), whole.is_cut()), (366, false));
        assert_eq!(parse("from=2026-09-20&to=2026-09-21"), UsageState::default());
    }

    #[test]
    fn a_day_that_is_not_said_leaves_the_other() {
        let between = |from, to| parse(&format!("range=between&from={from}&to={to}"));
        let last_30_days = between("2026-08-23", "2026-09-21");
        assert_eq!(last_30_days.range.span(NOW_MS, 0), Range::Days(30).span(NOW_MS, 0));
        for neither in ["range=between", "range=between&from=&to=12026-09-20"] {
            assert_eq!(parse(neither), last_30_days, "{neither}");
        }
        assert_eq!(between("2026-09-01", ""), between("2026-09-01", "2026-09-21"));
        assert_eq!(between("2026-12-01", "x"), between("2026-09-21", "2026-12-01"));
        assert_eq!(between("", "2026-03-01"), between("2026-01-31", "2026-03-01"));
        assert_eq!(between("", "1970-01-02"), between("1970-01-01", "1970-01-02"));
    }

    proptest! {
        #[test]
        fn nonsense_is_ignored(
            query in "(range|between|from|to|by|key|model|status|after|before|user|2026-09-2|&|=|%|[a-zA-Z0-9\u{0}-\u{1f}_-]){0,40}",
        ) {
            let state = parse(&query);
            prop_assert_eq!(parse(query_of(&state.url())), state);
        }
    }
}
