//! `/account/password`: people change their own password.

use super::error::PageError;
use super::page::{self, Kind, Shell};
use super::session::{self, SignedIn};
use super::sign_in::{bounded, wait_sentence, with_retry_after};
use super::throttle::Throttle;
use crate::clock::now_ms;
use crate::domain::user::NewPassword;
use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use crate::password::Hasher;
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
/// When the database is away, or too many passwords are being checked.
pub async fn submit(
    signed_in: SignedIn,
    form: web::Form<Form>,
    store: web::Data<Store>,
    hasher: web::Data<Hasher>,
    throttle: web::Data<Throttle>,
) -> Result<HttpResponse, PageError> {
    let Form { current_password, new_password } = form.into_inner();
    // A stolen session must not be a way to guess the password without end.
    if let Err(too_many) = throttle.admit(&signed_in.user.name, signed_in.client_ip) {
        let mut errors = FieldErrors::default();
        errors.add("current_password", wait_sentence(too_many).into());
        return Ok(with_retry_after(page(StatusCode::TOO_MANY_REQUESTS, &signed_in, errors), too_many));
    }
    let new_password = match check(&signed_in, current_password, &new_password, &store, &hasher).await {
        Ok(new_password) => new_password,
        Err(Error::Invalid(errors)) => {
            return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &signed_in, errors));
        }
        Err(error) => return Err(error.into()),
    };
    let hash = hasher.hash(new_password).await?;
    let (id, actor) = (signed_in.user.id, signed_in.actor());
    // Every session ends, this one too; it then goes on under a new key.
    store.run(move |connection| users::set_password(connection, id, &hash, None, &actor, now_ms())).await?;
    session::begin(&signed_in.session, id)?;
    page::flash(&signed_in.session, Kind::Success, "Password changed. Your other sessions were signed out.")?;
    Ok(page::redirect("/account/password"))
}

async fn check(
    signed_in: &SignedIn,
    current_password: String,
    new_password: &str,
    store: &Store,
    hasher: &Hasher,
) -> Result<NewPassword, Error> {
    let mut errors = FieldErrors::default();
    let name = signed_in.user.name.clone();
    let (_, phc) = store.run(move |connection| users::find_for_sign_in(connection, &name)).await?;
    if !hasher.verify(bounded(current_password.clone()), phc).await? {
        errors.add("current_password", Invalid::new("This is not your current password."));
    } else if current_password == new_password {
        errors.add("new_password", Invalid::new("Choose a password other than the current one."));
    }
    let parsed = errors.take("new_password", NewPassword::parse(new_password, &signed_in.user.name));
    match parsed {
        Some(new_password) if errors.is_empty() => Ok(new_password),
        _ => Err(errors.into()),
    }
}
