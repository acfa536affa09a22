//! What pages have in common: the shell around them, toasts, and how a template becomes an answer.

use super::session::SignedIn;
use crate::error::Error;
use actix_htmx::{Htmx, TriggerPayload};
use actix_session::Session;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ContentType, LOCATION};
use serde::{Deserialize, Serialize};

pub(super) const NO_STORE: &str = "no-store";
const FLASH: &str = "flash";

/// What `base.html` shows around a page; a template has it as its field `shell`.
pub struct Shell {
    /// Who is signed in.
    pub user_name: String,
    /// Whether to offer the pages of admins.
    pub is_admin: bool,
    /// Which entry of the navigation this page is, such as `keys`.
    pub active: &'static str,
    /// Said on the page before, to be shown once.
    pub flash: Option<Toast>,
}

/// An entry of the navigation.
pub struct Entry {
    /// See [`Shell::active`].
    pub active: &'static str,
    /// Where it leads.
    pub url: &'static str,
    /// In icons.svg.
    pub icon: &'static str,
    /// Its words.
    pub label: &'static str,
}

const fn entry(active: &'static str, url: &'static str, icon: &'static str, label: &'static str) -> Entry {
    Entry { active, url, icon, label }
}

/// For everybody.
const PAGES: &[Entry] =
    &[entry("keys", "/keys", "key", "API Keys"), entry("usage", "/usage", "chart-bar", "Usage")];
/// For admins.
const ADMIN_PAGES: &[Entry] = &[
    entry("overview", "/overview", "gauge", "Overview"),
    entry("users", "/users", "users", "Users"),
    entry("all-keys", "/all-keys", "list-details", "All keys"),
    entry("groups", "/groups", "tag", "Groups"),
    entry("models", "/models", "cpu", "Models"),
    entry("upstreams", "/upstreams", "server", "Upstreams"),
    entry("audit", "/audit", "history", "Audit"),
];

impl Shell {
    /// The parts of the navigation that this person may see, each with its heading.
    pub fn navigation(&self) -> Vec<(&'static str, &'static [Entry])> {
        let parts = [("", PAGES), ("Administration", if self.is_admin { ADMIN_PAGES } else { &[] })];
        parts.into_iter().filter(|(_, entries)| !entries.is_empty()).collect()
    }

    /// For a page of this person. Takes the flash, so make one only to show it.
    pub fn new(signed_in: &SignedIn, active: &'static str) -> Self {
        Self {
            user_name: signed_in.user.name.clone(),
            is_admin: signed_in.user.is_admin,
            active,
            flash: take_flash(&signed_in.session),
        }
    }
}

/// A status as word, icon and colour.
pub struct Badge {
    /// Word.
    pub label: &'static str,
    /// In icons.svg.
    pub icon: &'static str,
    /// Of Tabler: green, red, orange or secondary.
    pub colour: &'static str,
}

/// How a toast looks and how long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was done.
    Success,
    /// It was not done; stays until it is closed.
    Error,
    /// Good to know.
    Info,
}

impl Kind {
    /// As in the markup and the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Info => "info",
        }
    }
}

/// One sentence that appears over the page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Toast {
    /// How it went.
    pub kind: Kind,
    /// The sentence.
    pub text: String,
}

/// Shows a toast with this htmx answer. Lost when the handler gives an error; those have a toast of their own.
pub fn toast(htmx: &Htmx, kind: Kind, text: impl Into<String>) {
    let toast = Toast { kind, text: text.into() };
    // Two strings are always JSON.
    if let Ok(payload) = TriggerPayload::json(toast) {
        htmx.trigger_event("toast", Some(payload), None);
    }
}

/// The `HX-Trigger` of a toast, for answers that are built by hand.
pub(super) fn toast_event(kind: Kind, text: &str) -> String {
    ascii_json(&serde_json::json!({ "toast": { "kind": kind, "text": text } }).to_string())
}

/// JSON with everything beyond ASCII escaped.
pub(super) fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// Shows a toast on the next page, for answers that redirect.
///
/// # Errors
/// Never in practice: two strings are always JSON.
pub fn flash(session: &Session, kind: Kind, text: impl Into<String>) -> Result<(), Error> {
    session
        .insert(FLASH, Toast { kind, text: text.into() })
        .map_err(|error| Error::Internal(format!("a flash: {error}")))
}

fn take_flash(session: &Session) -> Option<Toast> {
    // Removing marks the session as changed, so only what is there is removed.
    if !session.contains_key(FLASH) {
        return None;
    }
    session.remove_as(FLASH)?.ok()
}

/// A template as an answer: HTML that no cache keeps.
pub fn render<T: askama::Template>(status: StatusCode, template: &T) -> HttpResponse {
    match template.render() {
        Ok(html) => HttpResponse::build(status)
            .insert_header(ContentType::html())
            .insert_header((CACHE_CONTROL, NO_STORE))
            .body(html),
        Err(error) => {
            tracing::error!(%error, "a template failed");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// A form's fields as they arrive.
pub type Pairs = Vec<(String, String)>;

/// The first value of a field; blank when it is missing.
pub fn first<'a>(pairs: &'a Pairs, name: &str) -> &'a str {
    pairs.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
}

/// Go and GET that page.
pub fn redirect(url: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, url)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_headers_in_any_language() {
        let header = toast_event(Kind::Success, "“Schlüssel 🔑” \u{7f}\n");
        assert!(header.is_ascii());
        let read: serde_json::Value = serde_json::from_str(&header).expect("JSON");
        assert_eq!(read["toast"]["text"], "“Schlüssel 🔑” \u{7f}\n");
        assert_eq!(read["toast"]["kind"], "success");
    }
}
