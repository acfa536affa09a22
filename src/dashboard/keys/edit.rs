//! Editing a key. The form carries the revision it was made from: whoever comes second is told, and decides.

use super::PLACE;
use super::form::{Choices, ModelChoice, Typed, available};
use super::list::{RowAlone, load_row};
use super::row::Row;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::Pairs;
use crate::dashboard::session::SignedIn;
use crate::domain::FieldErrors;
use crate::domain::credits::Credits;
use crate::domain::key::KeySettings;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::groups::Group;
use crate::store::keys::{self, Key, KeyEdit};
use crate::store::users::User;
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

const TITLE: &str = "Edit API Key";

/// The form.
#[derive(Template)]
#[template(path = "keys/edit.html")]
struct EditForm {
    /// The key as it is stored.
    row: Row,
    typed: Typed,
    errors: FieldErrors,
    models: Vec<ModelChoice>,
    address: String,
    available: String,
    /// Somebody else saved first.
    is_conflict: bool,
    differences: Vec<Difference>,
}

impl HtmlSafe for EditForm {}

/// Who edits.
struct Editor {
    user: User,
    actor: Actor,
}

impl Editor {
    fn of(signed_in: &SignedIn) -> Self {
        Self { user: signed_in.user.clone(), actor: signed_in.actor() }
    }
}

/// A field in which the stored key and the typed one are not the same.
struct Difference {
    label: &'static str,
    stored: Shown,
    typed: Shown,
}

/// A value, and whether it is a moment to be put in the reader's zone.
struct Shown {
    text: String,
    rfc3339: Option<String>,
}

impl Shown {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), rfc3339: None }
    }

    fn expiry(at_ms: Option<i64>) -> Self {
        match at_ms.map(|at_ms| Moment::of(at_ms, now_ms())) {
            None => Self::text("Permanent"),
            Some(moment) => Self { text: moment.utc, rfc3339: Some(moment.rfc3339) },
        }
    }

    fn lines(lines: &str, when_empty: &str) -> Self {
        Self::text(if lines.is_empty() { when_empty.to_owned() } else { lines.replace('\n', ", ") })
    }

    fn limit(micros: Option<i64>) -> Self {
        Self::text(
            micros.map_or_else(|| "Unlimited".into(), |micros| Credits::from_micros(micros).for_people()),
        )
    }

    fn switch(enabled: bool) -> Self {
        Self::text(if enabled { "Enabled" } else { "Disabled" })
    }
}

impl EditForm {
    fn new(
        editor: &Editor,
        (key, group): &(Key, Group),
        choices: &Choices,
        mut typed: Typed,
        errors: FieldErrors,
    ) -> Result<Self, Error> {
        Ok(Self {
            row: Row::of(key, group, now_ms())?,
            models: choices.model_choices(&mut typed),
            address: editor.actor.client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            available: available(&editor.user),
            typed,
            errors,
            is_conflict: false,
            differences: Vec::new(),
        })
    }
}

fn differences(key: &Key, typed: &KeySettings, enabled: bool) -> Result<Vec<Difference>, Error> {
    let (models, networks) = (key.models()?, key.ip_allowlist()?);
    let limit = typed.credit_limit.map(Credits::micros);
    let all = [
        (key.name != typed.name.as_str(), "Name", Shown::text(&key.name), Shown::text(typed.name.as_str())),
        (
            key.expires_at_ms != typed.expires_at_ms,
            "Expiry Date",
            Shown::expiry(key.expires_at_ms),
            Shown::expiry(typed.expires_at_ms),
        ),
        (
            key.credit_limit_micros != limit,
            "Credit Limit",
            Shown::limit(key.credit_limit_micros),
            Shown::limit(limit),
        ),
        (
            models != typed.models,
            "Model Restrictions",
            Shown::lines(&models.to_string(), "All models"),
            Shown::lines(&typed.models.to_string(), "All models"),
        ),
        (
            networks != typed.ip_allowlist,
            "IP Whitelist",
            Shown::lines(&networks.to_string(), "Any"),
            Shown::lines(&typed.ip_allowlist.to_string(), "Any"),
        ),
        (key.enabled != enabled, "Status", Shown::switch(key.enabled), Shown::switch(enabled)),
    ];
    Ok(all
        .into_iter()
        .filter(|(differs, ..)| *differs)
        .map(|(_, label, stored, typed)| Difference { label, stored, typed })
        .collect())
}

/// `GET /keys/{id}/edit`
///
/// # Errors
/// Not found; the engine's.
pub async fn edit(
    id: web::Path<i64>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id) = (id.into_inner(), signed_in.user.id);
    let (found, choices) = store
        .run(move |connection| {
            Ok((keys::find(connection, user_id, id)?, Choices::load(connection, user_id)?))
        })
        .await?;
    let typed = Typed::of(&found.0)?;
    let form = EditForm::new(&Editor::of(&signed_in), &found, &choices, typed, FieldErrors::default())?;
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, TITLE, &form))
}

/// What saving came to.
enum Outcome {
    Saved(Box<Row>),
    Refused(StatusCode, Box<EditForm>),
}

/// `POST /keys/{id}/edit`
///
/// # Errors
/// Not found; the engine's. What was typed wrong, and what somebody else changed, comes back with the form.
pub async fn save(
    id: web::Path<i64>,
    pairs: web::Form<Pairs>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, typed, editor) = (id.into_inner(), Typed::from_pairs(&pairs), Editor::of(&signed_in));
    match store.run(move |connection| store_changes(connection, id, typed, &editor)).await? {
        Outcome::Refused(status, form) => {
            Ok(answer::dialog(&htmx, &signed_in, PLACE, status, TITLE, form.as_ref()))
        }
        Outcome::Saved(row) => {
            let text = format!("Saved “{}”", row.name);
            Ok(answer::done(&htmx, &signed_in, text, &RowAlone::out_of_band(*row), "/keys")?)
        }
    }
}

fn store_changes(
    connection: &mut Connection,
    id: i64,
    typed: Typed,
    editor: &Editor,
) -> Result<Outcome, Error> {
    let (user_id, now_ms) = (editor.user.id, now_ms());
    let found = keys::find(connection, user_id, id)?;
    let form = |connection: &mut Connection, found: &(Key, Group), typed, errors| {
        EditForm::new(editor, found, &Choices::load(connection, user_id)?, typed, errors).map(Box::new)
    };
    let settings = match typed.settings(now_ms, found.0.expires_at_ms) {
        Ok(settings) => settings,
        Err(errors) => {
            let form = form(connection, &found, typed, errors)?;
            return Ok(Outcome::Refused(StatusCode::UNPROCESSABLE_ENTITY, form));
        }
    };
    let edit = KeyEdit { revision: typed.revision, settings: &settings, enabled: typed.enabled };
    match keys::update(connection, user_id, id, &edit, &editor.actor, now_ms) {
        Ok(()) => Ok(Outcome::Saved(Box::new(load_row(connection, user_id, id)?))),
        Err(Error::Conflict) => {
            let found = keys::find(connection, user_id, id)?;
            let differences = differences(&found.0, &settings, typed.enabled)?;
            // Saving this form again is a deliberate choice: it has seen the revision it would replace.
            let typed = Typed { revision: found.0.revision, ..typed };
            let form = form(connection, &found, typed, FieldErrors::default())?;
            let form = Box::new(EditForm { is_conflict: true, differences, ..*form });
            Ok(Outcome::Refused(StatusCode::CONFLICT, form))
        }
        Err(error) => Err(error),
    }
}
