//! `/account`: the page itself.

use super::second_factor::{self, Card};
use super::sessions::Sessions;
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::SignedIn;
use crate::dashboard::words::granted_by;
use crate::domain::credits::Credits;
use crate::error::Error;
use crate::store::grants::{self, Grant};
use crate::store::paging::{Cursor, Place};
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

/// Grants on a page of the history.
const GRANTS: usize = 10;
/// In the session: the nudge was put away.
const NO_NUDGE: &str = "no_nudge";

/// The query of `GET /account`.
#[derive(Deserialize)]
pub struct Query {
    /// Of the history: what is older than this grant.
    after: Option<i64>,
    /// Of the history: what is newer than this grant.
    before: Option<i64>,
}

impl Query {
    fn place(&self) -> Place {
        match (self.after, self.before) {
            (Some(id), _) => Place::After(Cursor::of_id(id)),
            (None, Some(id)) => Place::Before(Cursor::of_id(id)),
            (None, None) => Place::First,
        }
    }
}

#[derive(Template)]
#[template(path = "account/index.html")]
struct Index {
    shell: Shell,
    nudge: bool,
    credits: CreditsView,
    history: History,
    second_factor: Card,
    sessions: Sessions,
}

/// What is in the account.
struct CreditsView {
    balance: String,
    held: String,
    available: String,
}

/// Where it came from.
struct History {
    grants: Vec<GrantRow>,
    newer: Option<String>,
    older: Option<String>,
    is_first: bool,
}

struct GrantRow {
    amount: String,
    is_taken: bool,
    note: String,
    actor: String,
    at: Moment,
}

impl GrantRow {
    fn of(grant: Grant, now_ms: i64) -> Self {
        let amount = Credits::from_micros(grant.amount_micros).for_people();
        let is_taken = grant.amount_micros < 0;
        Self {
            amount: if is_taken { amount } else { format!("+{amount}") },
            is_taken,
            note: grant.note,
            actor: granted_by(grant.actor),
            at: Moment::of(grant.created_at_ms, now_ms),
        }
    }
}

impl History {
    fn load(connection: &mut Connection, user_id: i64, place: &Place) -> Result<Self, Error> {
        let page = grants::page(connection, user_id, place, GRANTS)?;
        let now_ms = now_ms();
        Ok(Self {
            grants: page.rows.into_iter().map(|grant| GrantRow::of(grant, now_ms)).collect(),
            newer: page.previous.map(|cursor| format!("/account?before={}", cursor.id)),
            older: page.next.map(|cursor| format!("/account?after={}", cursor.id)),
            is_first: *place == Place::First,
        })
    }
}

/// `GET /account`.
///
/// # Errors
/// When the database is away.
pub async fn index(
    query: web::Query<Query>,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (user_id, session_id, place) = (signed_in.user.id, signed_in.session_id.clone(), query.place());
    let (history, second_factor, sessions) = store
        .run(move |connection| {
            Ok((
                History::load(connection, user_id, &place)?,
                second_factor::Card::load(connection, user_id)?,
                Sessions::load(connection, user_id, &session_id)?,
            ))
        })
        .await?;
    let user = &signed_in.user;
    let credits = |micros| Credits::from_micros(micros).for_people();
    let page = Index {
        nudge: !second_factor.is_on && !signed_in.session.contains_key(NO_NUDGE),
        credits: CreditsView {
            balance: credits(user.balance_micros),
            held: credits(user.held_micros),
            available: credits(user.balance_micros - user.held_micros),
        },
        history,
        second_factor,
        sessions,
        shell: Shell::new(&signed_in, "account"),
    };
    Ok(page::render(StatusCode::OK, &page))
}

/// `POST /account/nudge`: puts the nudge away, for this session.
///
/// # Errors
/// Never in practice: what is kept is JSON.
pub async fn dismiss_nudge(htmx: Htmx, signed_in: SignedIn) -> Result<HttpResponse, PageError> {
    let kept = signed_in.session.insert(NO_NUDGE, true);
    kept.map_err(|error| Error::Internal(format!("a session's state: {error}")))?;
    if htmx.is_htmx {
        return Ok(HttpResponse::Ok().finish());
    }
    Ok(page::redirect("/account"))
}
