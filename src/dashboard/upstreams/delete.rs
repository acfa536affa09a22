//! Deleting an upstream that serves no model.

use super::PLACE;
use super::row::Row;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::Admin;
use crate::error::Error;
use crate::store::{Store, routes, upstreams};
use crate::upstream_watch::UpstreamWatch;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// Models that are named before the rest is counted.
const NAMED_MAX: i64 = 10;

/// The question, or why not.
#[derive(Template)]
#[template(path = "upstreams/delete.html")]
struct ConfirmDelete {
    row: Row,
    served: Vec<(i64, String, String)>,
}

impl HtmlSafe for ConfirmDelete {}

/// `GET /upstreams/{id}/delete`
///
/// # Errors
/// Not found; the engine's.
pub async fn confirm_delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let question = question(*id, store, watch).await?;
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Delete upstream", &question))
}

async fn question(
    id: i64,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<ConfirmDelete, Error> {
    store
        .run(move |connection| {
            let row = Row::one(connection, &watch, id)?;
            Ok(ConfirmDelete { row, served: routes::served_by(connection, id, NAMED_MAX)? })
        })
        .await
}

/// `POST /upstreams/{id}/delete`
///
/// # Errors
/// Not found; the engine's. While it serves models the question comes back and says so.
pub async fn delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let (id, actor) = (id.into_inner(), signed_in.actor());
    let deleted = store
        .run(move |connection| {
            let name = upstreams::find(connection, id)?.name;
            upstreams::delete(connection, id, &actor, now_ms())?;
            Ok(name)
        })
        .await;
    match deleted {
        Ok(name) => Ok(answer::go(&htmx, &signed_in, format!("Deleted “{name}”"), "/upstreams")?),
        Err(Error::Invalid(_)) => {
            let question = question(id, store, watch).await?;
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(answer::dialog(&htmx, &signed_in, PLACE, status, "Delete upstream", &question))
        }
        Err(error) => Err(error.into()),
    }
}
