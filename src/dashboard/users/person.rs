//! `/users/{id}`: one user's account, access, grants and keys.

use super::list::Row;
use crate::clock::now_ms;
use crate::dashboard::all_keys::{KeyTable, newest_of};
use crate::dashboard::error::PageError;
use crate::dashboard::list_url::{self, ListUrl};
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::Admin;
use crate::dashboard::words::granted_by;
use crate::domain::credits::Credits;
use crate::error::Error;
use crate::store::paging::Place;
use crate::store::{Connection, Store, grants, second_factors, sign_in_links, users};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// Of the history, at once.
const SHOWN_GRANTS: usize = 20;
/// Keys shown on a user's page.
const SHOWN_KEYS: usize = 10;

/// Everything about one user; replaced as one.
#[derive(Template)]
#[template(path = "users/person.html")]
pub struct Person {
    row: Row,
    link_expires: Option<Moment>,
    has_second_factor: bool,
    grants: Grants,
    keys: KeyTable,
    out_of_band: bool,
}

impl HtmlSafe for Person {}

impl Person {
    fn load(connection: &mut Connection, id: i64, viewer_id: i64) -> Result<Self, Error> {
        let now_ms = now_ms();
        Ok(Self {
            row: Row::load(connection, id, viewer_id)?,
            link_expires: sign_in_links::expiry(connection, id, now_ms)?
                .map(|at_ms| Moment::of(at_ms, now_ms)),
            has_second_factor: second_factors::is_on(connection, id)?,
            grants: Grants::load(connection, id, &Place::First)?,
            keys: newest_of(connection, id, SHOWN_KEYS)?,
            out_of_band: false,
        })
    }

    /// The same, to be swapped in out of band.
    pub fn load_out_of_band(connection: &mut Connection, id: i64, viewer_id: i64) -> Result<Self, Error> {
        Ok(Self { out_of_band: true, ..Self::load(connection, id, viewer_id)? })
    }
}

/// A part of the history of grants.
#[derive(Template)]
#[template(path = "users/grants.html")]
struct Grants {
    rows: Vec<GrantRow>,
    previous: Option<String>,
    next: Option<String>,
}

impl HtmlSafe for Grants {}

struct GrantRow {
    at: Moment,
    amount: String,
    note: String,
    actor: String,
}

impl Grants {
    fn load(connection: &mut Connection, user_id: i64, place: &Place) -> Result<Self, Error> {
        let now_ms = now_ms();
        let found = grants::page(connection, user_id, place, SHOWN_GRANTS)?;
        let url = |place| ListUrl::new(format!("/users/{user_id}/grants")).at(&place).finish();
        let rows = found.rows.into_iter().map(|grant| {
            let amount = Credits::from_micros(grant.amount_micros).for_people();
            GrantRow {
                at: Moment::of(grant.created_at_ms, now_ms),
                amount: if grant.amount_micros > 0 { format!("+{amount}") } else { amount },
                note: grant.note,
                actor: granted_by(grant.actor),
            }
        });
        Ok(Self {
            rows: rows.collect(),
            previous: found.previous.map(|cursor| url(Place::Before(cursor))),
            next: found.next.map(|cursor| url(Place::After(cursor))),
        })
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "users/show.html")]
struct Show {
    shell: Shell,
    person: Person,
}

/// `GET /users/{id}`
///
/// # Errors
/// Not found; the engine's.
pub async fn show(
    id: web::Path<i64>,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, viewer_id) = (id.into_inner(), signed_in.user.id);
    let person = store.run(move |connection| Person::load(connection, id, viewer_id)).await?;
    Ok(page::render(StatusCode::OK, &Show { shell: Shell::new(&signed_in, "users"), person }))
}

/// `GET /users/{id}/grants`: another page of the history; as a page of its own it is the user's with that part.
///
/// # Errors
/// Not found; the engine's.
pub async fn grants(
    id: web::Path<i64>,
    request: HttpRequest,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, viewer_id) = (id.into_inner(), signed_in.user.id);
    let place = list_url::pairs(request.query_string())
        .filter_map(|(name, value)| list_url::place(&name, &value))
        .last()
        .unwrap_or_default();
    let is_part = htmx.is_htmx;
    let (person, grants) = store
        .run(move |connection| {
            users::find(connection, id)?;
            let person = (!is_part).then(|| Person::load(connection, id, viewer_id)).transpose()?;
            Ok((person, Grants::load(connection, id, &place)?))
        })
        .await?;
    let Some(person) = person else {
        return Ok(page::render(StatusCode::OK, &grants));
    };
    let shell = Shell::new(&signed_in, "users");
    Ok(page::render(StatusCode::OK, &Show { shell, person: Person { grants, ..person } }))
}

/// Whether this is the URL of the user's own page, whatever part of their grants it shows.
pub fn is_of_person(url: Option<&str>, id: i64) -> bool {
    let is_at = |path: String| list_url::query_of(url, &path).is_some();
    is_at(format!("/users/{id}")) || is_at(format!("/users/{id}/grants"))
}

/// Whether an act was begun on the user's own page, and not in the list.
pub(super) fn at_person(htmx: &Htmx, id: i64) -> bool {
    is_of_person(htmx.current_url().as_deref(), id)
}

/// What of the page an act has changed: all about the user, or their row in the list.
#[derive(Template)]
#[template(path = "users/part.html")]
pub(super) enum Part {
    /// On the user's own page.
    Person(Box<Person>),
    /// In the list.
    Row(Box<Row>),
}

impl Part {
    pub fn load(
        connection: &mut Connection,
        id: i64,
        viewer_id: i64,
        at_person: bool,
    ) -> Result<Self, Error> {
        if at_person {
            let person = Person::load_out_of_band(connection, id, viewer_id)?;
            return Ok(Self::Person(Box::new(person)));
        }
        Ok(Self::Row(Box::new(Row::load(connection, id, viewer_id)?)))
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Person(person) => &person.row.name,
            Self::Row(row) => &row.name,
        }
    }
}
