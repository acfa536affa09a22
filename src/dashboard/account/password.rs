//! `/account/password`: people change their own password.

use crate::clock::now_ms;
use crate::dashboard::door::Door;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{self, Kind, Shell};
use crate::dashboard::session::SignedIn;
use crate::dashboard::sign_in::{wait_sentence, with_retry_after};
use crate::domain::user::NewPassword;
use crate::domain::{FieldErrors, Invalid};
use crate::store::{Store, users};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

/// The form of `POST /account/password`.
#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    current_password: String,
    #[serde(default)]
    new_password: String,
}

#[derive(Template)]
#[template(path = "account/password.html")]
struct Page {
    shell: Shell,
    errors: FieldErrors,
}

fn page(status: StatusCode, signed_in: &SignedIn, errors: FieldErrors) -> HttpResponse {
    page::render(status, &Page { shell: Shell::new(signed_in, "account"), errors })
}

/// `GET /account/password`.
pub async fn show(signed_in: SignedIn) -> HttpResponse {
    page(StatusCode::OK, &signed_in, FieldErrors::default())
}

/// `POST /account/password`: sets it and ends every other session of this person.
///
/// # Errors
/// When the database is away, or too many wait to be looked at.
pub async fn submit(
    signed_in: SignedIn,
    form: web::Form<Form>,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    let Form { current_password, new_password } = form.into_inner();
    let is_same = current_password == new_password;
    let mut errors = FieldErrors::default();
    // A stolen session must not be a way to guess the password without end.
    match door.password(&signed_in.user.name, current_password).await? {
        Err(too_many) => {
            errors.add("current_password", wait_sentence(too_many).into());
            return Ok(with_retry_after(page(StatusCode::TOO_MANY_REQUESTS, &signed_in, errors), too_many));
        }
        Ok(None) => errors.add("current_password", Invalid::new("This is not your current password.")),
        Ok(Some(_)) if is_same => {
            errors.add("new_password", Invalid::new("Choose a password other than the current one."));
        }
        Ok(Some(_)) => {}
    }
    let parsed = errors.take("new_password", NewPassword::parse(&new_password, &signed_in.user.name));
    let Some(new_password) = parsed.filter(|_| errors.is_empty()) else {
        return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &signed_in, errors));
    };
    let hash = door.hash(new_password).await?;
    let (id, actor) = (signed_in.user.id, signed_in.actor());
    // Every session ends, this one too; it then goes on under a new key.
    store.run(move |connection| users::set_password(connection, id, &hash, &actor, now_ms())).await?;
    door.begin_anew(&signed_in)?;
    page::flash(&signed_in.session, Kind::Success, "Password changed. Your other sessions were signed out.")?;
    Ok(page::redirect("/account"))
}
