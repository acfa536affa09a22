//! `/setup`: makes the first admin. Whoever reads the server's terminal may do it, once, and nobody else.

use super::door::Door;
use super::error::PageError;
use super::page;
use crate::clock::now_ms;
use crate::domain::FieldErrors;
use crate::domain::user::{NewPassword, UserName};
use crate::error::Error;
use crate::store::Store;
use crate::store::users::{self, NewUser};
use crate::vault::Vault;
use actix_session::Session;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use std::fmt;
use subtle::ConstantTimeEq;

/// The token of a server that has no users yet, of no use once there is one; `None` when there is already. Its `Debug` hides it.
#[derive(Clone, Default)]
pub struct SetupToken(Option<String>);

impl SetupToken {
    /// Makes it of the master key if there are no users: whichever instance answers the link, it fits.
    ///
    /// # Errors
    /// When the database is away.
    pub fn of(store: &Store, vault: &Vault) -> Result<Self, Error> {
        let has_users = store.with(users::any)?;
        Ok(Self((!has_users).then(|| vault.setup_token())))
    }

    /// The link to print on the terminal.
    pub fn link(&self, base_url: &str) -> Option<String> {
        let token = self.0.as_deref()?;
        Some(format!("{}/setup?token={token}", base_url.trim_end_matches('/')))
    }

    fn fits(&self, candidate: &str) -> bool {
        self.0.as_deref().is_some_and(|token| bool::from(token.as_bytes().ct_eq(candidate.as_bytes())))
    }

    /// Without the right token, and once there is a user, this page is not there.
    async fn check(&self, candidate: &str, store: &Store) -> Result<(), Error> {
        if !self.fits(candidate) || store.run(users::any).await? {
            return Err(Error::NotFound);
        }
        Ok(())
    }
}

impl fmt::Debug for SetupToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetupToken(…)")
    }
}

/// The query of `GET /setup`.
#[derive(Deserialize)]
pub struct Query {
    #[serde(default)]
    token: String,
}

/// The form of `POST /setup`.
#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    token: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
}

#[derive(Template)]
#[template(path = "setup/form.html")]
struct Page {
    token: String,
    name: String,
    errors: FieldErrors,
}

/// `GET /setup?token=…`.
///
/// # Errors
/// [`Error::NotFound`] as described above.
pub async fn show(
    query: web::Query<Query>,
    setup: web::Data<SetupToken>,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let token = query.into_inner().token;
    setup.check(&token, &store).await?;
    let page = Page { token, name: String::new(), errors: FieldErrors::default() };
    Ok(page::render(StatusCode::OK, &page))
}

/// `POST /setup`: makes the admin and signs them in.
///
/// # Errors
/// As [`show`].
pub async fn submit(
    form: web::Form<Form>,
    session: Session,
    setup: web::Data<SetupToken>,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    let Form { token, name, password } = form.into_inner();
    setup.check(&token, &store).await?;
    let (user_name, password) = match parse(&name, &password) {
        Ok(parsed) => parsed,
        Err(errors) => {
            let page = Page { token, name, errors };
            return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
    };
    let actor = door.actor(user_name.as_str());
    let password_hash = Some(door.hash(password).await?);
    let new = NewUser { name: user_name, password_hash, is_admin: true };
    // Of two who submit at once, one makes the admin.
    let made = store.run(move |connection| {
        let id = users::create_first(connection, &new, &actor, now_ms())?.ok_or(Error::NotFound)?;
        users::find(connection, id)
    });
    let user = made.await?;
    tracing::info!(user.id = user.id, "the first admin was made");
    Ok(page::redirect(&door.let_in(&session, &user, None).await?))
}

fn parse(name: &str, password: &str) -> Result<(UserName, NewPassword), FieldErrors> {
    let mut errors = FieldErrors::default();
    let name = errors.take("name", UserName::parse(name));
    let known_name = name.as_ref().map_or("", UserName::as_str);
    let password = errors.take("password", NewPassword::parse(password, known_name));
    match (name, password) {
        (Some(name), Some(password)) => Ok((name, password)),
        _ => Err(errors),
    }
}
