//! `/sign-in` and `/sign-out`.

use super::error::PageError;
use super::page::{self, NO_STORE};
use super::session::{self, SignedIn};
use super::throttle::{Throttle, TooMany};
use crate::clock::now_ms;
use crate::config::Reach;
use crate::domain::user::{PASSWORD_BYTES_MAX, UserName};
use crate::error::Error;
use crate::password::Hasher;
use crate::store::audit::{self, Actor};
use crate::store::users::{self, User};
use crate::store::{Connection, Store};
use actix_session::Session;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::net::IpAddr;
use url::Url;

/// Where a person lands who asked for nothing else.
pub const LANDING: &str = "/keys";
const NEXT_BYTES_MAX: usize = 2048;
/// The same for an unknown name, a wrong password and a disabled account, so that no name can be probed.
const WRONG: &str = "The name or the password is not right.";

/// The sign-in page, and `next` to come back to after it.
pub fn url(next: Option<&str>) -> String {
    match next {
        Some(next) => format!("/sign-in?next={}", utf8_percent_encode(next, NON_ALPHANUMERIC)),
        None => "/sign-in".to_owned(),
    }
}

/// `raw` if it is a path of this server, so that a link to the sign-in page cannot lead to another site.
pub fn safe_next(raw: &str) -> Option<String> {
    let plain = raw.len() <= NEXT_BYTES_MAX && raw.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    // Browsers read a backslash as a slash, and two slashes as the beginning of a host.
    if !plain || !raw.starts_with('/') || raw.starts_with("//") || raw.contains('\\') {
        return None;
    }
    let here = Url::parse("http://keyhouse.invalid").ok()?;
    let there = here.join(raw).ok()?;
    let detour = ["/sign-in", "/sign-out", "/setup", "/welcome"].contains(&there.path());
    // `join` resolves dots: what is given on is what was checked.
    let path = there[url::Position::BeforePath..].to_owned();
    (there.origin() == here.origin() && !path.starts_with("//") && !detour).then_some(path)
}

/// The query of `GET /sign-in`.
#[derive(Deserialize)]
pub struct Query {
    next: Option<String>,
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
    let next = query.into_inner().next.as_deref().and_then(safe_next);
    if signed_in.is_some() {
        return Ok(page::redirect(next.as_deref().unwrap_or(LANDING)));
    }
    let setup_needed = !store.run(users::any).await?;
    Ok(page::render(StatusCode::OK, &Page { next, setup_needed, ..Page::default() }))
}

/// What a sign-in needs of the house.
#[derive(Clone)]
pub struct Door {
    store: web::Data<Store>,
    hasher: web::Data<Hasher>,
    throttle: web::Data<Throttle>,
}

/// `POST /sign-in`.
///
/// # Errors
/// When the database is away, or too many passwords are being checked.
pub async fn submit(
    request: HttpRequest,
    form: web::Form<Form>,
    session: Session,
    reach: web::Data<Reach>,
    door: (web::Data<Store>, web::Data<Hasher>, web::Data<Throttle>),
) -> Result<HttpResponse, PageError> {
    let (store, hasher, throttle) = door;
    let door = Door { store, hasher, throttle };
    let Form { name, password, next } = form.into_inner();
    let mut page = Page { name, next: next.as_deref().and_then(safe_next), ..Page::default() };
    page.name_error = page.name.trim().is_empty().then_some("Enter your name.");
    page.password_error = password.is_empty().then_some("Enter your password.");
    if page.name_error.is_some() || page.password_error.is_some() {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let client_ip = reach.client_address(&request);
    if let Err(too_many) = door.throttle.admit(&page.name, client_ip) {
        page.refusal = Some(wait_sentence(too_many));
        return Ok(with_retry_after(page::render(StatusCode::TOO_MANY_REQUESTS, &page), too_many));
    }
    match door.open(&page.name, password, client_ip).await? {
        Some(user) => {
            session::begin(&session, user.id)?;
            Ok(page::redirect(page.next.as_deref().unwrap_or(LANDING)))
        }
        None => {
            page.refusal = Some(WRONG.to_owned());
            Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

impl Door {
    /// The user, if name and password fit and the account is enabled; either way it is in the audit log.
    async fn open(&self, name: &str, password: String, client_ip: IpAddr) -> Result<Option<User>, Error> {
        let name = UserName::parse(name).ok();
        let found = self.find(name.as_ref()).await?;
        let (user, phc) = found.map_or((None, None), |(user, phc)| (Some(user), phc));
        let fits = self.hasher.verify(bounded(password), phc).await?;
        let user = user.filter(|user| fits && user.enabled);
        // Only what could be a name is written down; other text in that field may well be a password.
        let actor_name = name.map_or("(not a name)".to_owned(), |name| name.as_str().to_owned());
        let actor = Actor { name: actor_name, client_ip: Some(client_ip) };
        let action = if user.is_some() { "session.sign_in" } else { "session.sign_in_failed" };
        self.store.run(move |connection| record(connection, &actor, action)).await?;
        Ok(user)
    }

    async fn find(&self, name: Option<&UserName>) -> Result<Option<(User, Option<String>)>, Error> {
        let Some(name) = name.cloned() else {
            return Ok(None);
        };
        match self.store.run(move |connection| users::find_for_sign_in(connection, name.as_str())).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// No password that was ever set is longer; what is longer is as wrong as an empty one, and costs no more.
pub(super) fn bounded(password: String) -> String {
    if password.len() > PASSWORD_BYTES_MAX { String::new() } else { password }
}

fn record(connection: &mut Connection, actor: &Actor, action: &'static str) -> Result<(), Error> {
    audit::record(connection, actor, action, "session", now_ms())
}

/// Tells when to come back.
pub(super) fn wait_sentence(too_many: TooMany) -> String {
    match too_many.seconds() {
        0 | 1 => "Too many attempts. Try again in a second.".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_stays_on_this_server() {
        for (raw, next) in [
            ("/keys", Some("/keys")),
            ("/keys?status=active&q=a%20b", Some("/keys?status=active&q=a%20b")),
            ("/keys?next=https://evil.example", Some("/keys?next=https://evil.example")),
            ("/a/../keys", Some("/keys")),
            ("", None),
            ("keys", None),
            ("//evil.example", None),
            ("/\\evil.example", None),
            ("\\\\evil.example", None),
            ("/..//evil.example", None),
            ("/.//evil.example", None),
            ("/%2e%2e//evil.example", None),
            ("/\t/evil.example", None),
            ("/ /evil.example", None),
            ("/\r\nSet-Cookie:a=b", None),
            ("https://evil.example", None),
            ("javascript:alert(1)", None),
            ("/sign-in?next=/sign-in", None),
            ("/sign-out", None),
        ] {
            assert_eq!(safe_next(raw).as_deref(), next, "{raw:?}");
        }
        assert_eq!(safe_next(&format!("/{}", "a".repeat(NEXT_BYTES_MAX))), None);
    }

    #[test]
    fn the_way_back_is_one_parameter() {
        assert_eq!(url(None), "/sign-in");
        assert_eq!(url(Some("/keys?a=b&c=d")), "/sign-in?next=%2Fkeys%3Fa%3Db%26c%3Dd");
    }
}
