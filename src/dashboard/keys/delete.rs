//! Deleting a key: a dialog that says what will stop, and the deed.

use super::PLACE;
use super::list::{List, load_row};
use super::row::Row;
use super::state::ListState;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::SignedIn;
use crate::store::{Store, keys};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The question.
#[derive(Template)]
#[template(path = "keys/delete.html")]
struct ConfirmDelete {
    row: Row,
}

impl HtmlSafe for ConfirmDelete {}

/// `GET /keys/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn confirm_delete(
    id: web::Path<i64>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id) = (id.into_inner(), signed_in.user.id);
    let row = store.run(move |connection| load_row(connection, user_id, id)).await?;
    let question = ConfirmDelete { row };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Delete API Key", &question))
}

/// `POST /keys/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn delete(
    id: web::Path<i64>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id, actor) = (id.into_inner(), signed_in.user.id, signed_in.actor());
    let state = ListState::of_url(htmx.current_url().as_deref());
    let (name, list) = store
        .run(move |connection| {
            let (key, _) = keys::find(connection, user_id, id)?;
            keys::delete(connection, user_id, id, &actor, now_ms())?;
            Ok((key.name, List::load(connection, user_id, &state)?))
        })
        .await?;
    let text = format!("Deleted “{name}”");
    Ok(answer::done(&htmx, &signed_in, text, &list.out_of_band(), "/keys")?)
}
