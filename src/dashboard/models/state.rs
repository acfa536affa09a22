//! What part of the list of models is shown, as the URL says it. Whatever a URL says, it means some page.

use crate::dashboard::list_url::{self, ListUrl, PAGE_ROWS, printable};
use crate::store::model_list::{ModelQuery, Which};
use crate::store::paging::Place;

/// The filters the menu offers: (value in the URL, words).
pub const FILTERS: [(&str, &str); 3] =
    [("offered", "Offered"), ("hidden", "Hidden"), ("no-route", "Without a route")];

/// Search, filter and place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListState {
    /// Part of a name; empty: all.
    pub search: String,
    /// One of [`FILTERS`]; empty: all.
    pub which: &'static str,
    /// Which page.
    pub place: Place,
}

impl ListState {
    /// From the query part of a URL.
    pub fn parse(query: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in list_url::pairs(query) {
            match name.as_str() {
                "q" => state.search = printable(&value),
                "show" => {
                    let known = FILTERS.iter().map(|(filter, _)| *filter).find(|filter| *filter == value);
                    state.which = known.unwrap_or_default();
                }
                _ => state.place = list_url::place(&name, &value).unwrap_or(state.place),
            }
        }
        state
    }

    /// The URL that means this state.
    pub fn url(&self) -> String {
        ListUrl::new("/models").with("q", &self.search).with("show", self.which).at(&self.place).finish()
    }

    /// The same list at another page.
    pub fn at(&self, place: Place) -> Self {
        Self { place, ..self.clone() }
    }

    /// Whether something narrows the list.
    pub fn is_narrowed(&self) -> bool {
        !self.search.is_empty() || !self.which.is_empty()
    }

    /// For the store.
    pub fn query(&self) -> ModelQuery {
        let which = match self.which {
            "offered" => Some(Which::Offered),
            "hidden" => Some(Which::Hidden),
            "no-route" => Some(Which::Unserved),
            _ => None,
        };
        ModelQuery { search: self.search.clone(), which, place: self.place.clone(), limit: PAGE_ROWS }
    }
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
            prop_assert_eq!(again, state);
        }
    }
}
