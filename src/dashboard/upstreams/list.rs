//! The list of upstreams, and the row's switch.

use super::row::Row;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{self, Kind, Pairs, Shell, first};
use crate::dashboard::session::Admin;
use crate::store::{Store, upstreams};
use crate::upstream_watch::UpstreamWatch;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

/// The whole page.
#[derive(Template)]
#[template(path = "upstreams/index.html")]
struct Index {
    shell: Shell,
    rows: Vec<Row>,
}

/// `GET /upstreams`
///
/// # Errors
/// The engine's.
pub async fn index(
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let rows = store.run(move |connection| Row::all(connection, &watch)).await?;
    Ok(page::render(StatusCode::OK, &Index { shell: Shell::new(&signed_in, "upstreams"), rows }))
}

/// One row by itself.
#[derive(Template)]
#[template(path = "upstreams/row.html")]
struct RowAlone {
    row: Row,
}

/// `POST /upstreams/{id}/enabled`: the switch in the row.
///
/// # Errors
/// Not found; the engine's.
pub async fn set_enabled(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let (id, actor, enabled) = (id.into_inner(), signed_in.actor(), first(&pairs, "enabled") == "true");
    let row = store
        .run(move |connection| {
            upstreams::set_enabled(connection, id, enabled, &actor, now_ms())?;
            Row::one(connection, &watch, id)
        })
        .await?;
    let text = format!("“{}” is {}", row.name, if enabled { "in rotation" } else { "out of rotation" });
    if htmx.is_htmx {
        page::toast(&htmx, Kind::Success, text);
        return Ok(page::render(StatusCode::OK, &RowAlone { row }));
    }
    page::flash(&signed_in.session, Kind::Success, text)?;
    Ok(page::redirect("/upstreams"))
}
