//! What part of the list of users is shown, as the URL says it. Nonsense is ignored.

use crate::dashboard::list_url::{self, ListUrl, PAGE_ROWS, printable};
use crate::store::paging::{Cursor, Place};
use crate::store::user_list::{Filter, Sort, UserQuery};

const PATH: &str = "/users";

/// Those the menu offers: value in the URL, words.
pub const FILTERS: [(&str, &str); 4] =
    [("", "Any status"), ("active", "Active"), ("disabled", "Disabled"), ("admins", "Admins")];

/// The orders the menu offers: value in the URL, words.
pub const ORDERS: [(&str, &str); 6] = [
    ("", "Name A to Z"),
    ("-name", "Name Z to A"),
    ("-created", "Newest first"),
    ("created", "Oldest first"),
    ("-balance", "Highest balance"),
    ("balance", "Lowest balance"),
];

/// Search, filter, order and place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListState {
    /// Part of a name; empty: all.
    pub search: String,
    /// One of [`FILTERS`].
    pub status: &'static str,
    /// One of [`ORDERS`].
    pub order: &'static str,
    place: Place,
}

impl ListState {
    /// From the query part of a URL.
    pub fn parse(query: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in list_url::pairs(query) {
            match name.as_str() {
                "q" => state.search = printable(&value),
                "status" => state.status = known(&FILTERS, &value),
                "sort" => state.order = known(&ORDERS, &value),
                _ => state.place = list_url::place(&name, &value).unwrap_or(state.place),
            }
        }
        state
    }

    /// From a whole URL, such as the `HX-Current-URL` header; the first page of all if it is none of ours.
    pub fn of_url(url: Option<&str>) -> Self {
        list_url::query_of(url, PATH).map(|query| Self::parse(&query)).unwrap_or_default()
    }

    /// The URL that means this state.
    pub fn url(&self) -> String {
        ListUrl::new(PATH)
            .with("q", &self.search)
            .with("status", self.status)
            .with("sort", self.order)
            .at(&self.place)
            .finish()
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

    /// For the store.
    pub fn query(&self) -> UserQuery {
        let filter = match self.status {
            "active" => Some(Filter::Active),
            "disabled" => Some(Filter::Disabled),
            "admins" => Some(Filter::Admins),
            _ => None,
        };
        let sort = match self.order.trim_start_matches('-') {
            "created" => Sort::Created,
            "balance" => Sort::Balance,
            _ => Sort::Name,
        };
        UserQuery {
            search: self.search.clone(),
            filter,
            sort,
            descending: self.order.starts_with('-'),
            place: self.place.clone(),
            limit: PAGE_ROWS,
        }
    }
}

/// The value itself, if the menu has it; else what the menu begins with.
fn known(menu: &[(&'static str, &str)], value: &str) -> &'static str {
    menu.iter().map(|(known, _)| *known).find(|known| *known == value).unwrap_or_default()
}
