//! Deleting a group that no key has: a question, and the deed or the reason why not.

use super::PLACE;
use super::list::List;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::Admin;
use crate::error::Error;
use crate::store::{Store, groups};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The question.
#[derive(Template)]
#[template(path = "groups/delete.html")]
struct ConfirmDelete {
    id: i64,
    name: String,
    refusal: Option<String>,
}

impl HtmlSafe for ConfirmDelete {}

/// `GET /groups/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn confirm_delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let name = store.run(move |connection| groups::find(connection, id)).await?.name;
    let question = ConfirmDelete { id, name, refusal: None };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Delete Group", &question))
}

/// `POST /groups/{id}/delete`
///
/// # Errors
/// Not found; the engine's. A group that keys have, and the default one, are refused beside the question.
pub async fn delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor) = (id.into_inner(), signed_in.actor());
    let (name, deleted) = store
        .run(move |connection| {
            let name = groups::find(connection, id)?.name;
            match groups::delete(connection, id, &actor, now_ms()) {
                Ok(()) => Ok((name, Ok(List::load(connection, true)?))),
                Err(Error::Invalid(errors)) => Ok((name, Err(errors))),
                Err(error) => Err(error),
            }
        })
        .await?;
    match deleted {
        Ok(list) => Ok(answer::done(&htmx, &signed_in, format!("Deleted “{name}”"), &list, "/groups")?),
        Err(errors) => {
            let question = ConfirmDelete { id, name, refusal: errors.of("group").map(str::to_owned) };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(answer::dialog(&htmx, &signed_in, PLACE, status, "Delete Group", &question))
        }
    }
}
