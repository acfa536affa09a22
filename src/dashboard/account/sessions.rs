//! The sessions signed in now: one row each, with a button that ends it.

use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Kind};
use crate::dashboard::session::SignedIn;
use crate::domain::device;
use crate::error::Error;
use crate::store::sessions::{self, Session};
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// Nobody reads more; all of them can be ended at once.
const SHOWN_MAX: i64 = 50;

/// The list; replaced as one.
#[derive(Template)]
#[template(path = "account/sessions.html")]
pub struct Sessions {
    rows: Vec<Row>,
    has_others: bool,
    is_cut: bool,
}

impl HtmlSafe for Sessions {}

struct Row {
    id: String,
    device: String,
    user_agent: String,
    address: String,
    signed_in: Moment,
    last_seen: Moment,
    is_this: bool,
}

impl Row {
    fn of(session: Session, this: &str, now_ms: i64) -> Option<Self> {
        let id = session.id?;
        Some(Self {
            is_this: id == this,
            id,
            device: device::describe(&session.user_agent),
            user_agent: session.user_agent,
            address: session.client_ip.unwrap_or_else(|| "unknown".to_owned()),
            signed_in: Moment::of(session.created_at_ms, now_ms),
            last_seen: Moment::of(session.last_seen_at_ms, now_ms),
        })
    }
}

impl Sessions {
    /// Those of `user_id`, where `this` is the one that asks.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(connection: &mut Connection, user_id: i64, this: &str) -> Result<Self, Error> {
        let now_ms = now_ms();
        let found = sessions::list(connection, user_id, SHOWN_MAX, now_ms)?;
        let is_cut = i64::try_from(found.len()).is_ok_and(|count| count == SHOWN_MAX);
        let mut rows: Vec<Row> =
            found.into_iter().filter_map(|session| Row::of(session, this, now_ms)).collect();
        rows.sort_by_key(|row| !row.is_this);
        Ok(Self { has_others: rows.iter().any(|row| !row.is_this), rows, is_cut })
    }
}

/// `POST /account/sessions/{id}/end`. It has ended by its next request; ending this one is signing out.
///
/// # Errors
/// Not found; the engine's.
pub async fn end(
    id: web::Path<String>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id, actor) = (id.into_inner(), signed_in.user.id, signed_in.actor());
    let is_this = id == signed_in.session_id;
    store.run(move |connection| sessions::end(connection, user_id, &id, &actor, now_ms())).await?;
    if is_this {
        signed_in.session.purge();
        if htmx.is_htmx {
            htmx.redirect("/sign-in");
            return Ok(HttpResponse::Ok().finish());
        }
        return Ok(page::redirect("/sign-in"));
    }
    answer(&htmx, &signed_in, &store, "The session was ended.".to_owned()).await
}

/// `POST /account/sessions/end-others`.
///
/// # Errors
/// The engine's.
pub async fn end_others(
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (user_id, this, actor) = (signed_in.user.id, signed_in.session_id.clone(), signed_in.actor());
    let ended = store
        .run(move |connection| sessions::end_others(connection, user_id, &this, &actor, now_ms()))
        .await?;
    let text = match ended {
        0 => "There was no other session.".to_owned(),
        1 => "One other session was ended.".to_owned(),
        ended => format!("{ended} other sessions were ended."),
    };
    answer(&htmx, &signed_in, &store, text).await
}

async fn answer(
    htmx: &Htmx,
    signed_in: &SignedIn,
    store: &Store,
    text: String,
) -> Result<HttpResponse, PageError> {
    if !htmx.is_htmx {
        page::flash(&signed_in.session, Kind::Success, text)?;
        return Ok(page::redirect("/account"));
    }
    let (user_id, this) = (signed_in.user.id, signed_in.session_id.clone());
    let list = store.run(move |connection| Sessions::load(connection, user_id, &this)).await?;
    page::toast(htmx, Kind::Success, text);
    Ok(page::render(StatusCode::OK, &list))
}
