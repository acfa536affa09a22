//! The list of models: the page, and the part of it that search, filter and paging exchange.

use super::row::Row;
use super::state::{FILTERS, ListState};
use crate::dashboard::error::PageError;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::Admin;
use crate::error::Error;
use crate::store::paging::Place;
use crate::store::{Connection, Store, model_list, routes};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The rows with heads and pager; replaced as one.
#[derive(Template)]
#[template(path = "models/list.html")]
struct List {
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
    is_narrowed: bool,
}

impl HtmlSafe for List {}

impl List {
    /// A page that has become empty gives way to the first.
    fn load(connection: &mut Connection, state: &ListState) -> Result<Self, Error> {
        let mut state = state.clone();
        let mut found = model_list::page(connection, &state.query())?;
        if found.rows.is_empty() && state.place != Place::First {
            state = state.at(Place::First);
            found = model_list::page(connection, &state.query())?;
        }
        let ids: Vec<i64> = found.rows.iter().map(|(model, _)| model.id).collect();
        let routes = routes::names_of(connection, &ids)?;
        Ok(Self {
            rows: found.rows.into_iter().map(|(model, version)| Row::of(model, &version, &routes)).collect(),
            previous: found.previous.map(|cursor| state.at(Place::Before(cursor)).url()),
            next: found.next.map(|cursor| state.at(Place::After(cursor)).url()),
            is_narrowed: state.is_narrowed(),
        })
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "models/index.html")]
struct Index {
    shell: Shell,
    list: List,
    search: String,
    filters: Vec<(&'static str, &'static str, bool)>,
}

/// `GET /models`
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
        let filters =
            FILTERS.into_iter().map(|(value, words)| (value, words, state.which == value)).collect();
        let shell = Shell::new(&signed_in, "models");
        page::render(StatusCode::OK, &Index { shell, list, search: state.search, filters })
    };
    // One URL, two answers: a cache must not give the part for the whole.
    response.headers_mut().append(VARY, HeaderValue::from_static("HX-Request"));
    Ok(response)
}
