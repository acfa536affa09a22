//! The list of keys: the page, the part of it that search, filter, order and paging exchange, and the row's switch.

use super::row::Row;
use super::state::{ListState, ORDERS};
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{self, Kind, Pairs, Shell};
use crate::dashboard::session::SignedIn;
use crate::domain::key::Status;
use crate::error::Error;
use crate::store::key_list::{self, Sort};
use crate::store::{Connection, Store, keys};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, REFERER, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The rows with heads and pager; replaced as one.
#[derive(Template)]
#[template(path = "keys/list.html")]
pub struct List {
    heads: Vec<Head>,
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
    is_narrowed: bool,
    /// Of the order's menu, which is outside the list and must follow it.
    orders: Vec<Order>,
    with_menu: bool,
    /// Finds its own place in the page.
    out_of_band: bool,
}

impl HtmlSafe for List {}

struct Head {
    label: &'static str,
    /// `None`: the column has no order.
    url: Option<String>,
    /// `ascending`, `descending`, or nothing.
    direction: &'static str,
}

struct Order {
    value: &'static str,
    words: &'static str,
    chosen: bool,
}

impl List {
    /// The list of `user_id` in `state`. A page that has become empty gives way to the first.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(connection: &mut Connection, user_id: i64, state: &ListState) -> Result<Self, Error> {
        let now_ms = now_ms();
        let mut state = state.clone();
        let mut found = key_list::page(connection, user_id, &state.query(), now_ms)?;
        if found.rows.is_empty() && !state.is_first_page() {
            state = state.first_page();
            found = key_list::page(connection, user_id, &state.query(), now_ms)?;
        }
        let rows =
            found.rows.iter().map(|(key, group)| Row::of(key, group, now_ms)).collect::<Result<_, _>>()?;
        Ok(Self {
            heads: heads(&state),
            rows,
            previous: found.previous.map(|cursor| state.before(cursor).url()),
            next: found.next.map(|cursor| state.after(cursor).url()),
            is_narrowed: state.is_narrowed(),
            orders: orders(&state),
            with_menu: false,
            out_of_band: false,
        })
    }

    /// The same, to be swapped in out of band.
    pub fn out_of_band(self) -> Self {
        Self { out_of_band: true, ..self }
    }

    /// Puts `row` on top, unless it is there: what was just made is seen whatever the list is narrowed to.
    pub fn with_new(mut self, row: Row) -> Self {
        if !self.rows.iter().any(|shown| shown.id == row.id) {
            self.rows.insert(0, row);
        }
        self
    }
}

fn heads(state: &ListState) -> Vec<Head> {
    let head = |label, sort: Option<Sort>| Head {
        label,
        url: sort.map(|sort| state.sorted_by(sort).url()),
        direction: match (sort == Some(state.sort), state.descending) {
            (false, _) => "",
            (true, false) => "ascending",
            (true, true) => "descending",
        },
    };
    vec![
        head("Name", Some(Sort::Name)),
        head("Status", None),
        head("Quota", Some(Sort::Used)),
        head("Expiry", Some(Sort::Expiry)),
        head("IP Restriction", None),
        head("Group", Some(Sort::Group)),
    ]
}

fn orders(state: &ListState) -> Vec<Order> {
    let current = state.order();
    ORDERS.into_iter().map(|(value, words)| Order { value, words, chosen: value == current }).collect()
}

/// The whole page.
#[derive(Template)]
#[template(path = "keys/index.html")]
struct Index {
    shell: Shell,
    list: List,
    search: String,
    statuses: Vec<(String, &'static str, bool)>,
}

/// `GET /keys`
///
/// # Errors
/// The engine's.
pub async fn index(
    request: HttpRequest,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let state = ListState::parse(request.query_string());
    let user_id = signed_in.user.id;
    let wanted = state.clone();
    let list = store.run(move |connection| List::load(connection, user_id, &wanted)).await?;
    let mut response = if htmx.is_htmx && !htmx.history_restore_request {
        htmx.push_url(state.url());
        page::render(StatusCode::OK, &List { with_menu: true, ..list })
    } else {
        let statuses = Status::ALL
            .into_iter()
            .map(|status| (status.label().to_ascii_lowercase(), status.label(), state.status == Some(status)))
            .collect();
        let shell = Shell::new(&signed_in, "keys");
        page::render(StatusCode::OK, &Index { shell, list, search: state.search, statuses })
    };
    // One URL, two answers: a cache must not give the part for the whole.
    response.headers_mut().append(VARY, HeaderValue::from_static("HX-Request"));
    Ok(response)
}

/// One row by itself.
#[derive(Template)]
#[template(path = "keys/row_alone.html")]
pub struct RowAlone {
    row: Row,
    out_of_band: bool,
}

impl RowAlone {
    /// As the answer itself.
    pub fn new(row: Row) -> Self {
        Self { row, out_of_band: false }
    }

    /// Beside the answer, in its own place.
    pub fn out_of_band(row: Row) -> Self {
        Self { row, out_of_band: true }
    }
}

/// The row of a key of `user_id`.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_row(connection: &mut Connection, user_id: i64, id: i64) -> Result<Row, Error> {
    let (key, group) = keys::find(connection, user_id, id)?;
    Row::of(&key, &group, now_ms())
}

/// `GET /keys/{id}`: the row, as it is with its secret hidden. As a page of its own it is the edit form.
///
/// # Errors
/// Not found; the engine's.
pub async fn show(
    id: web::Path<i64>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id) = (id.into_inner(), signed_in.user.id);
    let row = store.run(move |connection| load_row(connection, user_id, id)).await?;
    if htmx.is_htmx {
        return Ok(page::render(StatusCode::OK, &RowAlone::new(row)));
    }
    Ok(page::redirect(&format!("/keys/{id}/edit")))
}

/// `POST /keys/{id}/enabled`: the switch in the row.
///
/// # Errors
/// Not found; the engine's.
pub async fn set_enabled(
    id: web::Path<i64>,
    pairs: web::Form<Pairs>,
    request: HttpRequest,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id, actor) = (id.into_inner(), signed_in.user.id, signed_in.actor());
    let enabled = pairs.iter().any(|(field, value)| field == "enabled" && value == "true");
    let row = store
        .run(move |connection| {
            keys::set_enabled(connection, user_id, id, enabled, &actor, now_ms())?;
            load_row(connection, user_id, id)
        })
        .await?;
    let text = format!("{} “{}”", if enabled { "Enabled" } else { "Disabled" }, row.name);
    if htmx.is_htmx {
        page::toast(&htmx, Kind::Success, text);
        return Ok(page::render(StatusCode::OK, &RowAlone::new(row)));
    }
    page::flash(&signed_in.session, Kind::Success, text)?;
    Ok(page::redirect(&back_to_list(&request)))
}

/// To the part of the list that the reader came from.
fn back_to_list(request: &HttpRequest) -> String {
    let referer = request.headers().get(REFERER).and_then(|value| value.to_str().ok());
    ListState::of_url(referer).url()
}
