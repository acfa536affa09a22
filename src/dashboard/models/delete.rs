//! Deleting a model: a dialog that says what will stop, and the deed.

use super::PLACE;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::Admin;
use crate::store::{Store, models};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The question.
#[derive(Template)]
#[template(path = "models/delete.html")]
struct ConfirmDelete {
    id: i64,
    name: String,
    hidden: bool,
}

impl HtmlSafe for ConfirmDelete {}

/// `GET /models/{id}/delete`
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
    let model = store.run(move |connection| models::find(connection, id)).await?;
    let question = ConfirmDelete { id, name: model.name, hidden: model.hidden };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Delete model", &question))
}

/// `POST /models/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor) = (id.into_inner(), signed_in.actor());
    let name = store
        .run(move |connection| {
            let name = models::find(connection, id)?.name;
            models::delete(connection, id, &actor, now_ms())?;
            Ok(name)
        })
        .await?;
    Ok(answer::go(&htmx, &signed_in, format!("Deleted “{name}”"), "/models")?)
}
