//! The list of users: the page, and the part of it that search, filter, order and paging exchange.

use super::state::ListState;
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Badge, Shell};
use crate::dashboard::session::{Admin, SignedIn};
use crate::domain::credits::Credits;
use crate::error::Error;
use crate::store::users::{self, User};
use crate::store::{Connection, Store, user_list};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// A user as the list shows them.
pub struct Row {
    /// User.
    pub id: i64,
    /// Login.
    pub name: String,
    /// May administer.
    pub is_admin: bool,
    /// Who looks at it.
    pub is_self: bool,
    /// Switch.
    pub enabled: bool,
    /// Badge.
    pub status: Badge,
    /// Credits owned.
    pub balance: String,
    /// Of those, held by open calls.
    pub held: String,
    /// The rest.
    pub free: String,
    /// How many.
    pub keys: i64,
    /// When made.
    pub created: Moment,
}

impl Row {
    /// What the list shows of a user to `viewer_id`.
    pub fn of(user: &User, keys: i64, viewer_id: i64) -> Self {
        let people = |micros| Credits::from_micros(micros).for_people();
        Self {
            id: user.id,
            name: user.name.clone(),
            is_admin: user.is_admin,
            is_self: user.id == viewer_id,
            enabled: user.enabled,
            status: badge(user.enabled),
            balance: people(user.balance_micros),
            held: people(user.held_micros),
            free: people(user.balance_micros - user.held_micros),
            keys,
            created: Moment::of(user.created_at_ms, now_ms()),
        }
    }

    /// Of a user as they are now.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn load(connection: &mut Connection, id: i64, viewer_id: i64) -> Result<Self, Error> {
        let user = users::find(connection, id)?;
        let keys = user_list::keys_of(connection, &[id])?.get(&id).copied().unwrap_or(0);
        Ok(Self::of(&user, keys, viewer_id))
    }
}

fn badge(enabled: bool) -> Badge {
    match enabled {
        true => Badge { label: "Active", icon: "circle-check", colour: "green" },
        false => Badge { label: "Disabled", icon: "circle-off", colour: "secondary" },
    }
}

/// The rows with heads and pager; replaced as one.
#[derive(Template)]
#[template(path = "users/list.html")]
pub struct List {
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
    out_of_band: bool,
}

impl HtmlSafe for List {}

impl List {
    /// The list in `state`. A page that has become empty gives way to the first.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(connection: &mut Connection, viewer_id: i64, state: &ListState) -> Result<Self, Error> {
        let mut state = state.clone();
        let mut found = user_list::page(connection, &state.query())?;
        if found.rows.is_empty() && !state.is_first_page() {
            state = state.first_page();
            found = user_list::page(connection, &state.query())?;
        }
        Ok(Self {
            rows: found.rows.iter().map(|(user, keys)| Row::of(user, *keys, viewer_id)).collect(),
            previous: found.previous.map(|cursor| state.before(cursor).url()),
            next: found.next.map(|cursor| state.after(cursor).url()),
            out_of_band: false,
        })
    }

    /// The same, to be swapped in out of band.
    pub fn out_of_band(self) -> Self {
        Self { out_of_band: true, ..self }
    }

    /// Puts `row` on top, unless it is there: whoever was just made is seen whatever the list is narrowed to.
    pub fn with_new(mut self, row: Row) -> Self {
        if !self.rows.iter().any(|shown| shown.id == row.id) {
            self.rows.insert(0, row);
        }
        self
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "users/index.html")]
struct Index {
    shell: Shell,
    list: List,
    search: String,
    status: &'static str,
    order: &'static str,
}

/// `GET /users`
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
    let (wanted, viewer_id) = (state.clone(), signed_in.user.id);
    let list = store.run(move |connection| List::load(connection, viewer_id, &wanted)).await?;
    let mut response = if htmx.is_htmx && !htmx.history_restore_request {
        htmx.push_url(state.url());
        page::render(StatusCode::OK, &list)
    } else {
        page::render(StatusCode::OK, &whole(&signed_in, list, state))
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("HX-Request"));
    Ok(response)
}

fn whole(signed_in: &SignedIn, list: List, state: ListState) -> Index {
    let ListState { search, status, order, .. } = state;
    Index { shell: Shell::new(signed_in, "users"), list, search, status, order }
}
