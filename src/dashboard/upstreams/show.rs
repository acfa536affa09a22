//! The page of one upstream: its health now, its last day hour by hour, and the models it serves.

use super::row::Row;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::Admin;
use crate::store::{Store, routes};
use crate::upstream_watch::UpstreamWatch;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

/// Most models that are named.
const SERVED_MAX: i64 = 500;

/// The whole page.
#[derive(Template)]
#[template(path = "upstreams/show.html")]
struct Show {
    shell: Shell,
    row: Row,
    /// (model's id, its name, the upstream's name for it)
    served: Vec<(i64, String, String)>,
}

/// `GET /upstreams/{id}`
///
/// # Errors
/// Not found; the engine's.
pub async fn show(
    id: web::Path<i64>,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let (row, served) = store
        .run(move |connection| {
            Ok((Row::one(connection, &watch, id)?, routes::served_by(connection, id, SERVED_MAX)?))
        })
        .await?;
    Ok(page::render(StatusCode::OK, &Show { shell: Shell::new(&signed_in, "upstreams"), row, served }))
}
