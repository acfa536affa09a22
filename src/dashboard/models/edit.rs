//! Changing a model: its maximum output, and whether it is offered.

use super::PLACE;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{Pairs, first};
use crate::dashboard::session::Admin;
use crate::domain::FieldErrors;
use crate::domain::models::parse_max_output;
use crate::error::Error;
use crate::store::{Store, models};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The form.
#[derive(Template)]
#[template(path = "models/edit.html")]
struct EditForm {
    id: i64,
    name: String,
    max_output: String,
    errors: FieldErrors,
}

impl HtmlSafe for EditForm {}

const TITLE: &str = "Edit model";

/// `GET /models/{id}/edit`
///
/// # Errors
/// Not found; the engine's.
pub async fn edit(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let model = store.run(move |connection| models::find(connection, id)).await?;
    let max_output = model.max_output_tokens.to_string();
    let form = EditForm { id, name: model.name, max_output, errors: FieldErrors::default() };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, TITLE, &form))
}

/// `POST /models/{id}/edit`
///
/// # Errors
/// Not found; the engine's; what was typed wrong comes back with the form.
pub async fn save(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor, typed) = (id.into_inner(), signed_in.actor(), first(&pairs, "max_output").to_owned());
    let mut errors = FieldErrors::default();
    let max_output = errors.take("max_output", parse_max_output(&typed));
    let name = store
        .run(move |connection| {
            let name = models::find(connection, id)?.name;
            if let Some(max_output) = max_output {
                models::set_max_output(connection, id, max_output, &actor, now_ms())?;
            }
            Ok::<_, Error>(name)
        })
        .await?;
    if errors.is_empty() {
        return Ok(answer::go(&htmx, &signed_in, format!("Saved “{name}”"), &super::url(id))?);
    }
    let form = EditForm { id, name, max_output: typed, errors };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::UNPROCESSABLE_ENTITY, TITLE, &form))
}

/// `POST /models/{id}/hidden`
///
/// # Errors
/// Not found; the engine's.
pub async fn set_hidden(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor, hidden) = (id.into_inner(), signed_in.actor(), first(&pairs, "hidden") == "true");
    let name = store
        .run(move |connection| {
            models::set_hidden(connection, id, hidden, &actor, now_ms())?;
            Ok(models::find(connection, id)?.name)
        })
        .await?;
    let text =
        if hidden { format!("“{name}” is hidden") } else { format!("“{name}” is offered again") };
    Ok(answer::go(&htmx, &signed_in, text, &super::url(id))?)
}
