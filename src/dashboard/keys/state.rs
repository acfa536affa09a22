//! What part of the list is shown, as the URL says it. Whatever a URL says, it means some page: nonsense is ignored.

use crate::dashboard::list_url::{self, ListUrl, PAGE_ROWS, printable};
use crate::domain::key::Status;
use crate::store::key_list::{KeyQuery, Sort};
use crate::store::paging::{Cursor, Place};

const PATH: &str = "/keys";

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
        for (name, value) in list_url::pairs(query) {
            match name.as_str() {
                "q" => state.search = printable(&value),
                "status" => state.status = Status::parse(&value),
                "sort" => {
                    if let Some((sort, descending)) = parse_order(&value) {
                        (state.sort, state.descending) = (sort, descending);
                    }
                }
                "after" | "before" => place = list_url::place(&name, &value),
                _ => {}
            }
        }
        state.place = place.unwrap_or(Place::First);
        state
    }

    /// From a whole URL, such as the `HX-Current-URL` header; the first page of all keys if it is none of ours.
    pub fn of_url(url: Option<&str>) -> Self {
        list_url::query_of(url, PATH).map_or_else(Self::default, |query| Self::parse(&query))
    }

    /// The URL that means this state, without what goes without saying.
    pub fn url(&self) -> String {
        let is_default_order = (self.sort, self.descending) == (Sort::Created, true);
        ListUrl::new(PATH)
            .with("q", &self.search)
            .with(
                "status",
                &self.status.map(|status| status.label().to_ascii_lowercase()).unwrap_or_default(),
            )
            .with("sort", &if is_default_order { String::new() } else { self.order() })
            .at(&self.place)
            .finish()
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
