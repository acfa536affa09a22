//! What part of the list of models is shown, as the URL says it. Whatever a URL says, it means some page.

use crate::store::model_list::{ModelQuery, Which};
use crate::store::paging::{Cursor, Place};
use url::form_urlencoded;

/// Rows a page.
const PAGE_ROWS: usize = 50;
const SEARCH_CHARS_MAX: usize = 100;

/// The filters the menu offers: (value in the URL, words).
pub const FILTERS: [(&str, &str); 3] =
    [("offered", "Offered"), ("hidden", "Hidden"), ("no-route", "Without a route")];

/// Search, filter and place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListState {
    /// Part of a name; empty: all.
    pub search: String,
    /// One of [`FILTERS`]; empty: all.
    pub which: String,
    after: Option<String>,
    before: Option<String>,
}

impl ListState {
    /// From the query part of a URL.
    pub fn parse(query: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "q" => state.search = printable(&value),
                "show" if FILTERS.iter().any(|(filter, _)| *filter == value) => {
                    state.which = value.into_owned()
                }
                "after" => state = state.after(Some(printable(&value))),
                "before" => state = Self { after: None, before: Some(printable(&value)), ..state },
                _ => {}
            }
        }
        state
    }

    /// The URL that means this state.
    pub fn url(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let parts = [
            ("q", Some(&self.search)),
            ("show", Some(&self.which)),
            ("after", self.after.as_ref()),
            ("before", self.before.as_ref()),
        ];
        for (name, value) in parts {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        if query.is_empty() { "/models".into() } else { format!("/models?{query}") }
    }

    /// The page behind a name; the first page with `None`.
    pub fn after(&self, after: Option<String>) -> Self {
        Self { after, before: None, ..self.clone() }
    }

    /// The page that ends before a name.
    pub fn before(&self, before: String) -> Self {
        Self { after: None, before: Some(before), ..self.clone() }
    }

    /// Whether something narrows the list.
    pub fn is_narrowed(&self) -> bool {
        !self.search.is_empty() || !self.which.is_empty()
    }

    /// Whether this is where the list begins.
    pub fn is_first_page(&self) -> bool {
        self.after.is_none() && self.before.is_none()
    }

    /// For the store.
    pub fn query(&self) -> ModelQuery {
        let which = match self.which.as_str() {
            "offered" => Some(Which::Offered),
            "hidden" => Some(Which::Hidden),
            "no-route" => Some(Which::Unserved),
            _ => None,
        };
        let at = |name: &String| Cursor { value: name.clone(), id: 0 };
        let place = match (&self.after, &self.before) {
            (Some(name), _) => Place::After(at(name)),
            (None, Some(name)) => Place::Before(at(name)),
            (None, None) => Place::First,
        };
        ModelQuery { search: self.search.clone(), which, place, limit: PAGE_ROWS }
    }
}

/// Engines dislike control characters, and no name has them.
fn printable(raw: &str) -> String {
    raw.trim().chars().filter(|c| !c.is_control()).take(SEARCH_CHARS_MAX * 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_a_url_says_survives_it(query in "(q|show|after|before|hidden|&|=|%|[a-z0-9\u{0}-\u{1f}/_-]){0,40}") {
            let state = ListState::parse(&query);
            let url = state.url();
            let again = ListState::parse(url.split_once('?').map_or("", |(_, query)| query));
            // A place that is blank is the beginning.
            prop_assert_eq!(again.url(), url);
        }
    }
}
