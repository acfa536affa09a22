//! What the dashboard says when something goes wrong: a page with a way back, or a toast for htmx.
//! Handlers give a [`PageError`]; the guard, which knows how the request was made, dresses it here.

use super::page::{self, Kind, NO_STORE};
use crate::error::Error;
use crate::request_id;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, LOCATION, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use askama::Template;
use std::fmt;

/// Why a page could not be shown.
#[derive(Debug)]
pub enum PageError {
    /// Something inside failed or was not found.
    House(Error),
    /// Signing in comes first, and then the page `next`.
    SignInFirst {
        /// A path of this server.
        next: Option<String>,
        /// Whether htmx asked; it follows a header rather than a redirect.
        htmx: bool,
    },
    /// The session ended before htmx sent this form, which stays as it is.
    SessionEnded,
    /// A form of another site sent this.
    CrossSite,
    /// The body is larger than any form of ours.
    TooLarge,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::House(error) => error.fmt(f),
            Self::SignInFirst { .. } | Self::SessionEnded => f.write_str("not signed in"),
            Self::CrossSite => f.write_str("sent by another site"),
            Self::TooLarge => f.write_str("larger than any form"),
        }
    }
}

impl<E: Into<Error>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self::House(error.into())
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::House(Error::NotFound) => StatusCode::NOT_FOUND,
            Self::House(Error::Conflict) => StatusCode::CONFLICT,
            Self::House(Error::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::House(Error::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::House(Error::Internal(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::SignInFirst { htmx: true, .. } | Self::SessionEnded => StatusCode::UNAUTHORIZED,
            Self::SignInFirst { htmx: false, .. } => StatusCode::SEE_OTHER,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Bare, but for the way to sign in: the guard makes a page or a toast of it.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Self::SignInFirst { next, htmx } = self {
            let url = super::sign_in::url(next.as_deref());
            if *htmx {
                response.insert_header(("HX-Redirect", url));
            } else {
                response.insert_header((LOCATION, url));
            }
        }
        response.insert_header((CACHE_CONTROL, NO_STORE)).finish()
    }
}

/// What an answer must know of its request after the request is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    htmx: bool,
    id: i64,
}

impl Asked {
    pub fn of(request: &ServiceRequest) -> Self {
        Self { htmx: super::guard::is_htmx(request.headers()), id: request_id::of(request.request()) }
    }
}

/// Turns a bare refusal, ours or the framework's, into something a person can read. Other answers pass.
pub(super) fn dress(asked: Asked, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let bare = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
    let error = response.response().error();
    let ours = error.and_then(|error| error.as_error::<PageError>());
    let told_to_sign_in = matches!(ours, Some(PageError::SignInFirst { .. }));
    let refused = status.is_client_error() || status.is_server_error();
    if told_to_sign_in || !refused || (error.is_none() && !bare) {
        return response;
    }
    if status.is_server_error() {
        log(asked, error.map_or(&"no cause was given", |error| error as &dyn fmt::Display));
    }
    let dressed = answer(asked, status, ours);
    response.into_response(dressed)
}

/// As [`dress`], for an error that left no answer: the session could be neither read nor written.
pub(super) fn without_session(asked: Asked, error: &actix_web::Error) -> HttpResponse {
    log(asked, error);
    let mut response = answer(asked, StatusCode::SERVICE_UNAVAILABLE, None);
    response.headers_mut().insert(request_id::REQUEST_ID, asked.id.into());
    response
}

/// The one place where the dashboard logs a failure.
fn log(asked: Asked, error: &dyn fmt::Display) {
    tracing::error!(request_id = asked.id, %error, "a page failed");
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    title: &'static str,
    text: String,
    request_id: Option<i64>,
}

/// The page or toast for a status.
pub(super) fn answer(asked: Asked, status: StatusCode, error: Option<&PageError>) -> HttpResponse {
    let (title, text) = words(status, error);
    let request_id = (status == StatusCode::INTERNAL_SERVER_ERROR).then_some(asked.id);
    let mut response = if asked.htmx {
        let text = match request_id {
            Some(id) => format!("{text} (request {id})"),
            None => text,
        };
        toast(status, &text)
    } else {
        page::render(status, &ErrorPage { title, text, request_id })
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        insert(response.headers_mut(), RETRY_AFTER.as_str(), "5");
    }
    response
}

fn toast(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, NO_STORE))
        .insert_header(("HX-Trigger", page::toast_event(Kind::Error, text)))
        .insert_header(("HX-Reswap", "none"))
        .finish()
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    use actix_web::http::header::{HeaderName, HeaderValue};
    headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

fn words(status: StatusCode, error: Option<&PageError>) -> (&'static str, String) {
    if let Some(PageError::House(Error::Invalid(errors))) = error {
        let first =
            errors.first_field().and_then(|field| errors.of(field)).unwrap_or("Something is missing.");
        return ("This was refused", first.to_owned());
    }
    let (title, text) = match status {
        StatusCode::UNAUTHORIZED if matches!(error, Some(PageError::SessionEnded)) => {
            ("Signed out", "Your session ended. Sign in in another tab, then try again here.")
        }
        StatusCode::NOT_FOUND => (
            "Not found",
            "There is nothing at this address, or it is not yours to see. It may have been deleted.",
        ),
        StatusCode::CONFLICT => {
            ("Changed in the meantime", "Somebody else changed this since you opened it. Open it again.")
        }
        StatusCode::FORBIDDEN if matches!(error, Some(PageError::CrossSite)) => (
            "Refused",
            "This came from another website, so nothing was done. If it was you, open the dashboard and try there.",
        ),
        StatusCode::FORBIDDEN => ("Refused", "You may not do this."),
        StatusCode::METHOD_NOT_ALLOWED => ("Refused", "This address cannot be used in that way."),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("Too much text", "What was sent is larger than this form takes. Nothing was saved.")
        }
        StatusCode::SERVICE_UNAVAILABLE => (
            "Not available right now",
            "The database is away or very busy. Nothing was lost: try again in a moment.",
        ),
        status if status.is_client_error() => {
            ("This was refused", "The request could not be understood. Nothing was saved.")
        }
        _ => ("Something went wrong", "This is our mistake, not yours. It has been logged."),
    };
    (title, text.to_owned())
}
