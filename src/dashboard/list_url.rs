//! What the URLs of lists have in common: bounded search texts, and places as opaque words.

use crate::store::paging::{Cursor, Place};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::form_urlencoded;

/// Rows a page.
pub const PAGE_ROWS: usize = 50;
/// As long as the longest name, a model's.
const SEARCH_CHARS_MAX: usize = 128;
/// A name of 100 characters takes at most 400 bytes, an id 20.
const CURSOR_CHARS_MAX: usize = 1_000;

/// A URL of a list, without what goes without saying.
pub struct ListUrl {
    path: String,
    query: form_urlencoded::Serializer<'static, String>,
}

impl ListUrl {
    /// Of the list at this path.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), query: form_urlencoded::Serializer::new(String::new()) }
    }

    /// With this parameter, unless it is empty.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.query.append_pair(name, value);
        }
        self
    }

    /// At this page.
    pub fn at(self, place: &Place) -> Self {
        match place {
            Place::First => self,
            Place::After(cursor) => self.with("after", &print_cursor(cursor)),
            Place::Before(cursor) => self.with("before", &print_cursor(cursor)),
        }
    }

    /// The URL.
    pub fn finish(mut self) -> String {
        let query = self.query.finish();
        if query.is_empty() { self.path } else { format!("{}?{query}", self.path) }
    }
}

/// The parameters of a query.
pub fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// The query of a whole URL, such as the `HX-Current-URL` header, if it is the URL of that path.
pub fn query_of(url: Option<&str>, path: &str) -> Option<String> {
    let url = url::Url::parse(url?).ok().filter(|url| url.path() == path)?;
    Some(url.query().unwrap_or_default().to_owned())
}

/// The page that a parameter names, if it is one that does.
pub fn place(name: &str, value: &str) -> Option<Place> {
    match name {
        "after" => parse_cursor(value).map(Place::After),
        "before" => parse_cursor(value).map(Place::Before),
        _ => None,
    }
}

/// For menus: whether an option is the one that is chosen.
pub fn is_chosen(option: &str, chosen: &str) -> bool {
    option == chosen
}

/// A search. Engines dislike control characters, and no name has them.
pub fn printable(raw: &str) -> String {
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
