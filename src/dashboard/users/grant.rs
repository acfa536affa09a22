//! Granting credits, and taking some away, with a note.

use super::PLACE;
use super::person::{Part, at_person};
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::Admin;
use crate::domain::FieldErrors;
use crate::domain::credits::Credits;
use crate::domain::grant::parse_note;
use crate::error::Error;
use crate::store::users::{self, User};
use crate::store::{Store, grants};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use serde::Deserialize;

const TITLE: &str = "Credits";

/// What was typed.
#[derive(Clone, Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    amount: String,
    #[serde(default)]
    note: String,
}

impl Typed {
    fn parse(&self) -> Result<(Credits, String), FieldErrors> {
        let mut errors = FieldErrors::default();
        let amount = errors.take("amount", Credits::parse_signed(&self.amount));
        let note = errors.take("note", parse_note(&self.note));
        match (amount, note) {
            (Some(amount), Some(note)) => Ok((amount, note)),
            _ => Err(errors),
        }
    }
}

#[derive(Template)]
#[template(path = "users/grant.html")]
struct GrantForm {
    id: i64,
    name: String,
    balance: String,
    balance_micros: i64,
    held: String,
    typed: Typed,
    errors: FieldErrors,
    back: String,
}

impl HtmlSafe for GrantForm {}

impl GrantForm {
    fn of(user: User, typed: Typed, errors: FieldErrors) -> Self {
        Self {
            id: user.id,
            name: user.name,
            balance: Credits::from_micros(user.balance_micros).for_people(),
            balance_micros: user.balance_micros,
            held: Credits::from_micros(user.held_micros).for_people(),
            typed,
            errors,
            back: format!("/users/{}", user.id),
        }
    }
}

/// `GET /users/{id}/grant`
///
/// # Errors
/// Not found; the engine's.
pub async fn ask(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let user = store.run(move |connection| users::find(connection, id)).await?;
    let form = GrantForm::of(user, Typed::default(), FieldErrors::default());
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, TITLE, &form))
}

/// `POST /users/{id}/grant`
///
/// # Errors
/// Not found; the engine's; what was typed wrong comes back with the form.
pub async fn grant(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), typed): AdminForm<Typed>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, typed) = (id.into_inner(), typed);
    let (actor, viewer_id) = (signed_in.actor(), signed_in.user.id);
    let at_person = at_person(&htmx, id);
    let parsed = typed.parse();
    let done = store
        .run(move |connection| {
            let user = users::find(connection, id)?;
            let granted = parsed.map_err(Error::from).and_then(|(amount, note)| {
                let balance = grants::grant(connection, id, amount, &note, &actor, now_ms())?;
                Ok((amount, balance))
            });
            match granted {
                Ok(granted) => Ok(Ok((granted, Part::load(connection, id, viewer_id, at_person)?))),
                Err(Error::Invalid(errors)) => Ok(Err((user, errors))),
                Err(error) => Err(error),
            }
        })
        .await?;
    match done {
        Ok(((amount, balance), part)) => {
            let text = sentence(part.name(), amount, balance);
            Ok(answer::done(&htmx, &signed_in, text, &part, &format!("/users/{id}"))?)
        }
        Err((user, errors)) => {
            let form = GrantForm::of(user, typed, errors);
            Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::UNPROCESSABLE_ENTITY, TITLE, &form))
        }
    }
}

fn sentence(name: &str, amount: Credits, balance: Credits) -> String {
    let before = Credits::from_micros(balance.micros() - amount.micros()).for_people();
    let moved = Credits::from_micros(amount.micros().saturating_abs()).for_people();
    let balance = balance.for_people();
    if amount > Credits::ZERO {
        format!("Granted {moved} credits to “{name}”: {before} before, {balance} now")
    } else {
        format!("Took {moved} credits from “{name}”: {before} before, {balance} now")
    }
}
