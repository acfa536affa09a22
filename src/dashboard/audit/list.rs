//! The list of events: filters, pages, and what each event says.

use super::words;
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::list_url::{self, ListUrl, PAGE_ROWS, printable};
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::Admin;
use crate::domain::expiry::{DAY_MS, parse_expiry};
use crate::error::Error;
use crate::store::audit::AuditEvent;
use crate::store::audit_list::{self, AuditQuery, Subject};
use crate::store::paging::Place;
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use std::collections::{BTreeSet, HashMap};

/// What part of the log is shown, as the URL says it. Nonsense is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ListState {
    actor: String,
    action: String,
    kind: &'static str,
    id: Option<i64>,
    /// First and last day, UTC, as `2027-01-31`; blank: open.
    from: String,
    until: String,
    place: Place,
}

impl ListState {
    fn parse(query: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in list_url::pairs(query) {
            match name.as_str() {
                "actor" => state.actor = printable(&value).to_lowercase(),
                "action" => state.action = printable(&value),
                "kind" => {
                    let known = words::KINDS.iter().map(|(kind, _)| *kind).find(|kind| *kind == value);
                    state.kind = known.unwrap_or_default();
                }
                "id" => state.id = value.trim().parse().ok(),
                "from" => state.from = day(&value).map(|_| value).unwrap_or_default(),
                "until" => state.until = day(&value).map(|_| value).unwrap_or_default(),
                _ => state.place = list_url::place(&name, &value).unwrap_or(state.place),
            }
        }
        state
    }

    fn url(&self) -> String {
        ListUrl::new("/audit")
            .with("actor", &self.actor)
            .with("action", &self.action)
            .with("kind", self.kind)
            .with("id", &self.id.map(|id| id.to_string()).unwrap_or_default())
            .with("from", &self.from)
            .with("until", &self.until)
            .at(&self.place)
            .finish()
    }

    fn at(&self, place: Place) -> Self {
        Self { place, ..self.clone() }
    }

    fn query(&self) -> AuditQuery {
        AuditQuery {
            actor: self.actor.clone(),
            action: self.action.clone(),
            kind: self.kind.to_owned(),
            id: self.id,
            from_ms: day(&self.from).map(|end_ms| end_ms - DAY_MS),
            until_ms: day(&self.until),
            place: self.place.clone(),
            limit: PAGE_ROWS,
        }
    }
}

/// The end of a day in UTC.
fn day(raw: &str) -> Option<i64> {
    (raw.len() == 10).then(|| parse_expiry(raw, i64::MIN, None).ok().flatten()).flatten()
}

struct Row {
    at: Moment,
    actor: String,
    words: String,
    code: String,
    subject: Shown,
    from: String,
}

/// What an event is about.
struct Shown {
    kind: String,
    id: String,
    /// As it is called now, if it is there.
    name: Option<String>,
    url: Option<String>,
    /// What else was written down.
    detail: String,
}

fn subject_of(event: &AuditEvent) -> Option<Subject> {
    let mut parts = event.subject.splitn(3, ' ');
    Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?))
}

impl Shown {
    fn of(event: &AuditEvent, names: &HashMap<Subject, String>) -> Self {
        let mut parts = event.subject.splitn(3, ' ').map(str::to_owned);
        let kind = parts.next().unwrap_or_default();
        let (id, detail) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let subject = subject_of(event);
        let name = subject.as_ref().and_then(|subject| names.get(subject)).cloned();
        // A tombstone's name, such as ada#12, has no page.
        let is_there = name.as_ref().is_some_and(|name| kind != "user" || !name.contains('#'));
        let url =
            subject.filter(|(kind, _)| kind == "user" && is_there).map(|(_, id)| format!("/users/{id}"));
        Self { kind, id, name, url, detail }
    }
}

impl Row {
    fn of(event: &AuditEvent, names: &HashMap<Subject, String>, now_ms: i64) -> Self {
        let from_shell = event.client_ip.is_none();
        Self {
            at: Moment::of(event.at_ms, now_ms),
            actor: event.actor.clone(),
            words: words::of(&event.action).to_owned(),
            code: event.action.clone(),
            subject: Shown::of(event, names),
            from: if from_shell {
                "Command line".into()
            } else {
                event.client_ip.clone().unwrap_or_default()
            },
        }
    }
}

/// The rows with pager; replaced as one.
#[derive(Template)]
#[template(path = "audit/list.html")]
struct List {
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
}

impl HtmlSafe for List {}

impl List {
    fn load(connection: &mut Connection, state: &ListState) -> Result<Self, Error> {
        let now_ms = now_ms();
        let found = audit_list::page(connection, &state.query())?;
        let subjects: BTreeSet<Subject> = found.rows.iter().filter_map(subject_of).collect();
        let names = audit_list::names(connection, &subjects)?;
        Ok(Self {
            rows: found.rows.iter().map(|event| Row::of(event, &names, now_ms)).collect(),
            previous: found.previous.map(|cursor| state.at(Place::Before(cursor)).url()),
            next: found.next.map(|cursor| state.at(Place::After(cursor)).url()),
        })
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "audit/index.html")]
struct Index {
    shell: Shell,
    list: List,
    state: ListState,
    id: String,
    actions: Vec<(&'static str, &'static str)>,
}

/// `GET /audit`
///
/// # Errors
/// The engine's.
pub async fn index(
    request: HttpRequest,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let state = ListState::parse(request.query_string());
    let wanted = state.clone();
    let list = store.run(move |connection| List::load(connection, &wanted)).await?;
    let mut response = if htmx.is_htmx && !htmx.history_restore_request {
        htmx.push_url(state.url());
        page::render(StatusCode::OK, &list)
    } else {
        let mut actions = vec![("", "Any action")];
        actions.extend(words::ACTIONS);
        let id = state.id.map(|id| id.to_string()).unwrap_or_default();
        let shell = Shell::new(&signed_in, "audit");
        page::render(StatusCode::OK, &Index { shell, list, state, id, actions })
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("HX-Request"));
    Ok(response)
}
