//! `/sign-in`, `/sign-in/code` and `/sign-out`.

pub mod code;
mod next;

pub use next::{safe_next, url};

use self::next::Again;
use super::door::{Door, record};
use super::error::PageError;
use super::page::{self, NO_STORE};
use super::session::SignedIn;
use super::throttle::TooMany;
use crate::domain::user::UserName;
use crate::store::{Store, users};
use actix_session::Session;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

/// Where a person lands who asked for nothing else.
pub const LANDING: &str = "/keys";
/// The same for an unknown name, a wrong password and a disabled account, so that no name can be probed.
const WRONG: &str = "The name or the password is not right.";

/// The query of `GET /sign-in`.
#[derive(Deserialize)]
pub struct Query {
    next: Option<String>,
    again: Option<String>,
}

/// The form of `POST /sign-in`.
#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    next: Option<String>,
}

#[derive(Template, Default)]
#[template(path = "sign_in/form.html")]
struct Page {
    name: String,
    next: Option<String>,
    name_error: Option<&'static str>,
    password_error: Option<&'static str>,
    refusal: Option<String>,
    setup_needed: bool,
}

impl Page {
    fn focus_name(&self) -> bool {
        self.name.is_empty() || self.name_error.is_some()
    }
}

/// `GET /sign-in`.
///
/// # Errors
/// When the database is away.
pub async fn show(
    query: web::Query<Query>,
    signed_in: Option<SignedIn>,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let query = query.into_inner();
    let next = query.next.as_deref().and_then(safe_next);
    if signed_in.is_some() {
        return Ok(page::redirect(next.as_deref().unwrap_or(LANDING)));
    }
    let setup_needed = !store.run(users::any).await?;
    let again = query.again.as_deref().and_then(Again::parse);
    let refusal = again.map(|why| why.sentence().to_owned());
    Ok(page::render(StatusCode::OK, &Page { next, setup_needed, refusal, ..Page::default() }))
}

/// `POST /sign-in`.
///
/// # Errors
/// When the database is away, or too many wait to be looked at.
pub async fn submit(
    form: web::Form<Form>,
    session: Session,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    let Form { name, password, next } = form.into_inner();
    let mut page = Page { name, next: next.as_deref().and_then(safe_next), ..Page::default() };
    page.name_error = page.name.trim().is_empty().then_some("Enter your name.");
    page.password_error = password.is_empty().then_some("Enter your password.");
    if page.name_error.is_some() || page.password_error.is_some() {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    match door.password(&page.name, password).await? {
        Ok(Some(user)) => Ok(page::redirect(&door.let_in(&session, &user, page.next).await?)),
        Ok(None) => {
            // Only what could be a name is written down; other text in that field may well be a password.
            let name = UserName::parse(&page.name);
            let actor = door.actor(name.as_ref().map_or("(not a name)", UserName::as_str));
            store.run(move |connection| record(connection, &actor, "session.sign_in_failed")).await?;
            page.refusal = Some(WRONG.to_owned());
            Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(too_many) => {
            page.refusal = Some(wait_sentence(too_many));
            Ok(with_retry_after(page::render(StatusCode::TOO_MANY_REQUESTS, &page), too_many))
        }
    }
}

/// Tells when to come back.
pub(super) fn wait_sentence(too_many: TooMany) -> String {
    match too_many.seconds() {
        0 | 1 => "Too many attempts. Try again in a second.".to_owned(),
        121.. => format!("Too many attempts. Try again in {} minutes.", too_many.seconds().div_ceil(60)),
        seconds => format!("Too many attempts. Try again in {seconds} seconds."),
    }
}

pub(super) fn with_retry_after(mut response: HttpResponse, too_many: TooMany) -> HttpResponse {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(too_many.seconds().max(1)));
    response
}

/// `POST /sign-out`. Signing out twice, or after the session ended by itself, is no error.
///
/// # Errors
/// When the database is away.
pub async fn sign_out(
    signed_in: Option<SignedIn>,
    session: Session,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    if let Some(signed_in) = signed_in {
        let actor = signed_in.actor();
        store.run(move |connection| record(connection, &actor, "session.sign_out")).await?;
    }
    session.purge();
    let mut response = page::redirect("/sign-in");
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    Ok(response)
}
