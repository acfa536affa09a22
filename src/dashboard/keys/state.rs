//! What part of the list is shown, as the URL says it. Whatever a URL says, it means some page: nonsense is ignored.

use crate::domain::key::Status;
use crate::store::key_list::{KeyQuery, Sort};
use crate::store::paging::{Cursor, Place};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::form_urlencoded;

/// Rows a page.
pub const PAGE_ROWS: usize = 50;
const SEARCH_CHARS_MAX: usize = 100;
/// A name of 100 characters takes at most 400 bytes, an id 20.
const CURSOR_CHARS_MAX: usize = 1_000;

/// Search, filter, order and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListState {
    /// Part of a name; empty: all.
    pub search: String,
    /// Only this status.
    pub status: Option<Status>,
    /// By which column.
    pub sort: Sort,
    /// Downwards.
    pub descending: bool,
    place: Place,
}

impl Default for ListState {
    /// All keys, newest first.
    fn default() -> Self {
        Self {
            search: String::new(),
            status: None,
            sort: Sort::Created,
            descending: true,
            place: Place::First,
        }
    }
}

/// The orders the menu offers: (value in the URL, words).
pub const ORDERS: [(&str, &str); 12] = [
    ("-created", "Newest first"),
    ("created", "Oldest first"),
    ("name", "Name A to Z"),
    ("-name", "Name Z to A"),
    ("-used", "Most credits used"),
    ("used", "Least credits used"),
    ("expiry", "Expiring soonest"),
    ("-expiry", "Expiring last"),
    ("-last-used", "Used most recently"),
    ("last-used", "Used least recently"),
    ("group", "Group A to Z"),
    ("-group", "Group Z to A"),
];

impl ListState {
    /// From the query part of a URL.
    pub fn parse(query: &str) -> Self {
        let mut state = Self::default();
        let mut place = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "q" => state.search = printable(&value),
                "status" => state.status = Status::parse(&value),
                "sort" => {
                    if let Some((sort, descending)) = parse_order(&value) {
                        (state.sort, state.descending) = (sort, descending);
                    }
                }
                "after" => place = parse_cursor(&value).map(Place::After),
                "before" => place = parse_cursor(&value).map(Place::Before),
                _ => {}
            }
        }
        state.place = place.unwrap_or(Place::First);
        state
    }

    /// From a whole URL, such as the `HX-Current-URL` header; the first page of all keys if it is none of ours.
    pub fn of_url(url: Option<&str>) -> Self {
        url.and_then(|url| url::Url::parse(url).ok())
            .filter(|url| url.path() == "/keys")
            .map_or_else(Self::default, |url| Self::parse(url.query().unwrap_or_default()))
    }

    /// The URL that means this state, without what goes without saying.
    pub fn url(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        if let Some(status) = self.status {
            query.append_pair("status", &status.label().to_ascii_lowercase());
        }
        if (self.sort, self.descending) != (Sort::Created, true) {
            query.append_pair("sort", &self.order());
        }
        match &self.place {
            Place::First => {}
            Place::After(cursor) => {
                query.append_pair("after", &print_cursor(cursor));
            }
            Place::Before(cursor) => {
                query.append_pair("before", &print_cursor(cursor));
            }
        }
        let query = query.finish();
        if query.is_empty() { "/keys".into() } else { format!("/keys?{query}") }
    }

    /// The order's name in the URL: a column, with a minus when it goes downwards.
    pub fn order(&self) -> String {
        format!("{}{}", if self.descending { "-" } else { "" }, column(self.sort))
    }

    /// Whether something narrows the list.
    pub fn is_narrowed(&self) -> bool {
        !self.search.is_empty() || self.status.is_some()
    }

    /// Whether this is where the list begins.
    pub fn is_first_page(&self) -> bool {
        self.place == Place::First
    }

    /// The same list from its beginning.
    pub fn first_page(&self) -> Self {
        Self { place: Place::First, ..self.clone() }
    }

    /// The page behind `cursor`.
    pub fn after(&self, cursor: Cursor) -> Self {
        Self { place: Place::After(cursor), ..self.clone() }
    }

    /// The page that ends before `cursor`.
    pub fn before(&self, cursor: Cursor) -> Self {
        Self { place: Place::Before(cursor), ..self.clone() }
    }

    /// What a click on a column's head leads to: that order, or, if it is there already, the other direction.
    pub fn sorted_by(&self, sort: Sort) -> Self {
        let descending =
            if self.sort == sort { !self.descending } else { matches!(sort, Sort::Used | Sort::LastUsed) };
        Self { sort, descending, ..self.first_page() }
    }

    /// For the store.
    pub fn query(&self) -> KeyQuery {
        KeyQuery {
            search: self.search.clone(),
            status: self.status,
            sort: self.sort,
            descending: self.descending,
            place: self.place.clone(),
            limit: PAGE_ROWS,
        }
    }
}

const fn column(sort: Sort) -> &'static str {
    match sort {
        Sort::Created => "created",
        Sort::Name => "name",
        Sort::Used => "used",
        Sort::Expiry => "expiry",
        Sort::LastUsed => "last-used",
        Sort::Group => "group",
    }
}

fn parse_order(raw: &str) -> Option<(Sort, bool)> {
    let (name, descending) = raw.strip_prefix('-').map_or((raw, false), |name| (name, true));
    [Sort::Created, Sort::Name, Sort::Used, Sort::Expiry, Sort::LastUsed, Sort::Group]
        .into_iter()
        .find(|sort| column(*sort) == name)
        .map(|sort| (sort, descending))
}

/// Engines dislike control characters, and no name has them.
fn printable(raw: &str) -> String {
    raw.trim().chars().filter(|c| !c.is_control()).take(SEARCH_CHARS_MAX).collect()
}

fn print_cursor(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{}", cursor.id, cursor.value))
}

fn parse_cursor(raw: &str) -> Option<Cursor> {
    let bytes = (raw.len() <= CURSOR_CHARS_MAX).then(|| URL_SAFE_NO_PAD.decode(raw).ok()).flatten()?;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))?;
    let (id, value) = text.split_once(':')?;
    Some(Cursor { value: value.to_owned(), id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_state_survives_its_url() {
        let state = ListState {
            search: "a&b=ключ %".into(),
            status: Some(Status::Expired),
            sort: Sort::Name,
            descending: true,
            place: Place::Before(Cursor { value: "x:y".into(), id: 7 }),
        };
        let url = state.url();
        assert_eq!(ListState::of_url(Some(&format!("http://localhost:8080{url}"))), state);
        assert_eq!(ListState::default().url(), "/keys");
    }

    #[test]
    fn a_second_click_turns_the_order() {
        let by_name = ListState::default().sorted_by(Sort::Name);
        assert_eq!(by_name.order(), "name");
        assert_eq!(by_name.sorted_by(Sort::Name).order(), "-name");
        assert_eq!(by_name.sorted_by(Sort::Used).order(), "-used");
    }

    #[test]
    fn every_order_of_the_menu_is_understood() {
        for (value, _) in ORDERS {
            assert_eq!(ListState::parse(&format!("sort={value}")).order(), value);
        }
    }

    #[test]
    fn urls_of_other_pages_mean_the_whole_list() {
        for url in
            [None, Some("http://localhost/keys/new?q=x"), Some("nonsense"), Some("http://evil/keys?q=")]
        {
            assert_eq!(ListState::of_url(url), ListState::default());
        }
    }

    proptest! {
        #[test]
        fn nonsense_is_ignored(query in "(q|sort|after|before|status|&|=|%|[a-zA-Z0-9\u{0}-\u{1f}_-]){0,40}") {
            let state = ListState::parse(&query);
            prop_assert_eq!(ListState::of_url(Some(&format!("http://h{}", state.url()))), state);
        }
    }
}
