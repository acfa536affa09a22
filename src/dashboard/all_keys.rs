//! The All keys page, for admins: the keys of every user, to be switched off or deleted, and never revealed.

use super::admin_form::AdminForm;
use super::answer::{self, Place as DialogPlace};
use super::error::PageError;
use super::keys::Row;
use super::list_url::{self, ListUrl, PAGE_ROWS, printable};
use super::page::{self, Kind, Pairs, Shell, first};
use super::session::Admin;
use super::users::{Person, is_of_person};
use crate::clock::now_ms;
use crate::domain::key::Status;
use crate::error::Error;
use crate::store::all_keys::{self, AllKeysQuery, OwnedKey, Sort};
use crate::store::paging::Place;
use crate::store::{Connection, Store, keys, users};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, REFERER, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use std::ops::Deref;

const PATH: &str = "/all-keys";
const PLACE: DialogPlace = DialogPlace { active: "all-keys", heading: "All keys" };

/// Those the menu offers: value in the URL, words.
pub const STATUSES: [(&str, &str); 5] = [
    ("", "Any status"),
    ("active", "Active"),
    ("disabled", "Disabled"),
    ("expired", "Expired"),
    ("exhausted", "Exhausted"),
];

/// The orders the menu offers: value in the URL, words.
pub const ORDERS: [(&str, &str); 4] =
    [("", "Newest first"), ("created", "Oldest first"), ("name", "Name A to Z"), ("-name", "Name Z to A")];

/// What part of the list is shown, as the URL says it. Nonsense is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ListState {
    search: String,
    status: Option<Status>,
    order: &'static str,
    user_id: Option<i64>,
    place: Place,
}

impl ListState {
    fn parse(query: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in list_url::pairs(query) {
            match name.as_str() {
                "q" => state.search = printable(&value),
                "status" => state.status = Status::parse(&value),
                "sort" => {
                    let known = ORDERS.iter().map(|(order, _)| *order).find(|order| *order == value);
                    state.order = known.unwrap_or_default();
                }
                "user" => state.user_id = value.parse().ok(),
                _ => state.place = list_url::place(&name, &value).unwrap_or(state.place),
            }
        }
        state
    }

    fn of_url(url: Option<&str>) -> Self {
        list_url::query_of(url, PATH).map(|query| Self::parse(&query)).unwrap_or_default()
    }

    fn at(&self, place: Place) -> Self {
        Self { place, ..self.clone() }
    }

    fn status_word(&self) -> String {
        self.status.map(|status| status.label().to_ascii_lowercase()).unwrap_or_default()
    }

    fn url(&self) -> String {
        ListUrl::new(PATH)
            .with("q", &self.search)
            .with("status", &self.status_word())
            .with("sort", self.order)
            .with("user", &self.user_id.map(|id| id.to_string()).unwrap_or_default())
            .at(&self.place)
            .finish()
    }

    fn query(&self) -> AllKeysQuery {
        let (sort, descending) = match self.order {
            "created" => (Sort::Created, false),
            "name" => (Sort::Name, false),
            "-name" => (Sort::Name, true),
            _ => (Sort::Created, true),
        };
        AllKeysQuery {
            search: self.search.clone(),
            user_id: self.user_id,
            status: self.status,
            sort,
            descending,
            place: self.place.clone(),
            limit: PAGE_ROWS,
        }
    }
}

/// A key as the list shows it, and whose it is.
pub struct OwnedRow {
    row: Row,
    owner_id: i64,
    owner: String,
}

impl Deref for OwnedRow {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.row
    }
}

impl OwnedRow {
    fn of(owned: OwnedKey, now_ms: i64) -> Result<Self, Error> {
        let row = Row::of(&owned.key, &owned.group, now_ms)?;
        Ok(Self { row, owner_id: owned.key.user_id, owner: owned.owner })
    }

    fn load(connection: &mut Connection, id: i64) -> Result<Self, Error> {
        Self::of(all_keys::find(connection, id)?, now_ms())
    }
}

/// The rows with heads and pager; replaced as one.
#[derive(Template)]
#[template(path = "all_keys/table.html")]
pub struct KeyTable {
    /// Keys.
    pub rows: Vec<OwnedRow>,
    previous: Option<String>,
    /// Of the next page, if there is one.
    pub next: Option<String>,
    is_narrowed: bool,
    /// Not only a part of another page.
    is_page: bool,
    out_of_band: bool,
}

impl HtmlSafe for KeyTable {}

impl KeyTable {
    fn load(connection: &mut Connection, state: &ListState) -> Result<Self, Error> {
        let now_ms = now_ms();
        let mut state = state.clone();
        let mut found = all_keys::page(connection, &state.query(), now_ms)?;
        if found.rows.is_empty() && state.place != Place::First {
            state = state.at(Place::First);
            found = all_keys::page(connection, &state.query(), now_ms)?;
        }
        let rows = found.rows.into_iter().map(|owned| OwnedRow::of(owned, now_ms));
        Ok(Self {
            rows: rows.collect::<Result<_, _>>()?,
            previous: found.previous.map(|cursor| state.at(Place::Before(cursor)).url()),
            next: found.next.map(|cursor| state.at(Place::After(cursor)).url()),
            is_narrowed: state.at(Place::First) != ListState { order: state.order, ..ListState::default() },
            is_page: true,
            out_of_band: false,
        })
    }
}

/// The newest keys of a user, as a part of another page.
///
/// # Errors
/// The engine's.
pub fn newest_of(connection: &mut Connection, user_id: i64, limit: usize) -> Result<KeyTable, Error> {
    let state = ListState { user_id: Some(user_id), ..ListState::default() };
    let now_ms = now_ms();
    let found = all_keys::page(connection, &AllKeysQuery { limit, ..state.query() }, now_ms)?;
    let rows = found.rows.into_iter().map(|owned| OwnedRow::of(owned, now_ms));
    Ok(KeyTable {
        rows: rows.collect::<Result<_, _>>()?,
        previous: None,
        next: found.next.map(|_| state.url()),
        is_narrowed: true,
        is_page: false,
        out_of_band: false,
    })
}

/// The whole page.
#[derive(Template)]
#[template(path = "all_keys/index.html")]
struct Index {
    shell: Shell,
    list: KeyTable,
    search: String,
    status: String,
    order: &'static str,
    owner: Option<(i64, String)>,
}

/// `GET /all-keys`
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
    let (list, owner) = store
        .run(move |connection| {
            let owner = match wanted.user_id.map(|id| users::find(connection, id)) {
                Some(Ok(user)) => Some((user.id, user.name)),
                Some(Err(Error::NotFound)) | None => None,
                Some(Err(error)) => return Err(error),
            };
            Ok((KeyTable::load(connection, &wanted)?, owner))
        })
        .await?;
    let mut response = if htmx.is_htmx && !htmx.history_restore_request {
        htmx.push_url(state.url());
        page::render(StatusCode::OK, &list)
    } else {
        let (shell, status) = (Shell::new(&signed_in, "all-keys"), state.status_word());
        let index = Index { shell, list, search: state.search, status, order: state.order, owner };
        page::render(StatusCode::OK, &index)
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("HX-Request"));
    Ok(response)
}

/// One row by itself.
#[derive(Template)]
#[template(path = "all_keys/row_alone.html")]
struct RowAlone {
    row: OwnedRow,
}

/// `POST /all-keys/{id}/enabled`: the switch in the row.
///
/// # Errors
/// Not found; the engine's.
pub async fn set_enabled(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    request: HttpRequest,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor) = (id.into_inner(), signed_in.actor());
    let enabled = first(&pairs, "enabled") == "true";
    let row = store
        .run(move |connection| {
            let owner_id = keys::owner(connection, id)?;
            keys::set_enabled(connection, owner_id, id, enabled, &actor, now_ms())?;
            OwnedRow::load(connection, id)
        })
        .await?;
    let done = if enabled { "Enabled" } else { "Disabled" };
    let text = format!("{done} “{}” of {}", row.name, row.owner);
    if htmx.is_htmx {
        page::toast(&htmx, Kind::Success, text);
        return Ok(page::render(StatusCode::OK, &RowAlone { row }));
    }
    page::flash(&signed_in.session, Kind::Success, text)?;
    Ok(page::redirect(&came_from(&request, row.owner_id)))
}

/// The URL of the page on which an act was begun: the owner's, or the list.
fn came_from(request: &HttpRequest, owner_id: i64) -> String {
    let referer = request.headers().get(REFERER).and_then(|value| value.to_str().ok());
    match is_of_person(referer, owner_id) {
        true => format!("/users/{owner_id}"),
        false => ListState::of_url(referer).url(),
    }
}

/// The question.
#[derive(Template)]
#[template(path = "all_keys/delete.html")]
struct ConfirmDelete {
    row: OwnedRow,
    back: String,
}

impl HtmlSafe for ConfirmDelete {}

/// `GET /all-keys/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn confirm_delete(
    id: web::Path<i64>,
    request: HttpRequest,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let row = store.run(move |connection| OwnedRow::load(connection, id)).await?;
    let back = came_from(&request, row.owner_id);
    let question = ConfirmDelete { row, back };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Delete API Key", &question))
}

/// `POST /all-keys/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn delete(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, viewer_id, actor) = (id.into_inner(), signed_in.user.id, signed_in.actor());
    let url = htmx.current_url();
    let (key, beside) = store
        .run(move |connection| {
            let owned = all_keys::find(connection, id)?;
            let owner_id = owned.key.user_id;
            keys::delete(connection, owner_id, id, &actor, now_ms())?;
            let beside = if is_of_person(url.as_deref(), owner_id) {
                Beside::Owner(Box::new(Person::load_out_of_band(connection, owner_id, viewer_id)?))
            } else {
                let list = KeyTable::load(connection, &ListState::of_url(url.as_deref()))?;
                Beside::List(KeyTable { out_of_band: true, ..list })
            };
            Ok((owned, beside))
        })
        .await?;
    let text = format!("Deleted “{}” of {}", key.key.name, key.owner);
    let (back, owner) = (first(&pairs, "back"), format!("/users/{}", key.key.user_id));
    let list = || ListState::parse(back.split_once('?').map_or("", |(_, query)| query)).url();
    let url = if back == owner { owner } else { list() };
    Ok(answer::done(&htmx, &signed_in, text, &beside, &url)?)
}

/// What of the page a deletion has changed.
#[derive(Template)]
#[template(
    ext = "html",
    source = "{% match self %}{% when Self::List(list) %}{{ list }}{% when Self::Owner(person) %}{{ person }}{% endmatch %}"
)]
enum Beside {
    List(KeyTable),
    Owner(Box<Person>),
}
