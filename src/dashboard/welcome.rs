//! `/welcome`: a person who was given a one-time link sets a password and is signed in.

use super::door::Door;
use super::error::PageError;
use super::page;
use super::sign_in::{wait_sentence, with_retry_after};
use super::throttle::TooMany;
use crate::clock::now_ms;
use crate::config::Reach;
use crate::domain::FieldErrors;
use crate::domain::sign_in_link::SignInToken;
use crate::domain::user::NewPassword;
use crate::error::Error;
use crate::store::users::User;
use crate::store::{Store, sign_in_links};
use actix_session::Session;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

/// The link to give to a person, on this server as the admin who made it reaches it.
pub fn link(reach: &Reach, request: &HttpRequest, token: &SignInToken) -> String {
    token.link(reach.server_url(request).as_ref().map_or("", |url| url.as_str()))
}

/// The query of `GET /welcome`.
#[derive(Deserialize)]
pub struct Query {
    #[serde(default)]
    token: String,
}

/// The form of `POST /welcome`.
#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    token: String,
    #[serde(default)]
    password: String,
}

#[derive(Template)]
#[template(path = "welcome/form.html")]
struct Page {
    token: SignInToken,
    user_name: String,
    errors: FieldErrors,
}

/// Said of every link that does not work, whatever the reason.
#[derive(Template)]
#[template(path = "welcome/gone.html")]
struct Gone {
    refusal: Option<String>,
}

fn gone() -> HttpResponse {
    page::render(StatusCode::NOT_FOUND, &Gone { refusal: None })
}

fn refused(too_many: TooMany) -> HttpResponse {
    let page = Gone { refusal: Some(wait_sentence(too_many)) };
    with_retry_after(page::render(StatusCode::TOO_MANY_REQUESTS, &page), too_many)
}

/// `GET /welcome?token=…`. Looking does not use the link up: programs that check mails look at links too.
///
/// # Errors
/// When the database is away.
pub async fn show(
    query: web::Query<Query>,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    if let Err(too_many) = door.stranger().await? {
        return Ok(refused(too_many));
    }
    match find(&query.token, &store).await? {
        Some((token, user)) => {
            let page = Page { token, user_name: user.name, errors: FieldErrors::default() };
            Ok(page::render(StatusCode::OK, &page))
        }
        None => Ok(gone()),
    }
}

/// `POST /welcome`: sets the password, ends the person's sessions, and signs them in.
///
/// # Errors
/// As [`show`]; when too many passwords are being hashed.
pub async fn submit(
    form: web::Form<Form>,
    session: Session,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    if let Err(too_many) = door.stranger().await? {
        return Ok(refused(too_many));
    }
    let Some((token, user)) = find(&form.token, &store).await? else {
        return Ok(gone());
    };
    let mut errors = FieldErrors::default();
    let Some(password) = errors.take("password", NewPassword::parse(&form.password, &user.name)) else {
        let page = Page { token, user_name: user.name, errors };
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let (hash, actor, digest) = (door.hash(password).await?, door.actor(&user.name), token.digest());
    let taken =
        store.run(move |connection| sign_in_links::take(connection, &digest, &hash, &actor, now_ms()));
    match taken.await {
        Ok(user) => Ok(page::redirect(&door.let_in(&session, &user, None).await?)),
        Err(Error::NotFound) => Ok(gone()),
        Err(error) => Err(error.into()),
    }
}

async fn find(raw: &str, store: &Store) -> Result<Option<(SignInToken, User)>, Error> {
    let Some(token) = SignInToken::parse(raw) else {
        return Ok(None);
    };
    let digest = token.digest();
    match store.run(move |connection| sign_in_links::find(connection, &digest, now_ms())).await {
        Ok(user) => Ok(Some((token, user))),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
