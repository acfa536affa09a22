//! The form that makes and edits an upstream. Its secret goes in and never comes out.

use super::PLACE;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{Pairs, first};
use crate::dashboard::session::Admin;
use crate::domain::upstream::{Dialect, UpstreamDraft, UpstreamSecret, UpstreamSettings};
use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::upstreams::{self, NewUpstream, SecretEdit, Settings, Upstream};
use crate::store::{Connection, Store};
use crate::vault::Vault;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// What stands in the fields; a secret that was typed is not sent back.
#[derive(Debug, Clone, Default)]
struct Typed {
    name: String,
    dialect: String,
    base_url: String,
    allow_private: bool,
    pace_ms: String,
    secret: String,
    remove_secret: bool,
}

impl Typed {
    fn from_pairs(pairs: &Pairs) -> Self {
        let text = |name| first(pairs, name).to_owned();
        Self {
            name: text("name"),
            dialect: text("dialect"),
            base_url: text("base_url"),
            allow_private: !first(pairs, "allow_private").is_empty(),
            pace_ms: text("pace_ms"),
            secret: text("secret"),
            remove_secret: !first(pairs, "remove_secret").is_empty(),
        }
    }

    fn of(upstream: &Upstream) -> Self {
        Self {
            name: upstream.name.clone(),
            dialect: upstream.dialect.clone(),
            base_url: upstream.base_url.clone(),
            allow_private: upstream.allow_private,
            pace_ms: upstream.pace_ms.to_string(),
            ..Self::default()
        }
    }

    /// Whether a secret was typed; the echo has no field for one.
    fn has_secret(&self) -> bool {
        self.dialect != Dialect::Echo.as_str() && !self.secret.trim().is_empty()
    }

    /// With the secret that was typed, if any.
    fn parse(&self) -> Result<(Dialect, UpstreamSettings, Option<UpstreamSecret>), FieldErrors> {
        let mut errors = FieldErrors::default();
        let Some(dialect) = errors.take("dialect", Dialect::parse(&self.dialect)) else { return Err(errors) };
        let draft = UpstreamDraft {
            name: &self.name,
            dialect,
            base_url: &self.base_url,
            allow_private: self.allow_private,
            pace_ms: &self.pace_ms,
        };
        let secret = self.has_secret().then(|| UpstreamSecret::parse(&self.secret)).transpose();
        match (draft.parse(), secret) {
            (Ok(settings), Ok(secret)) => Ok((dialect, settings, secret)),
            (settings, secret) => {
                let mut errors = settings.err().unwrap_or_default();
                errors.take("secret", secret);
                Err(errors)
            }
        }
    }
}

/// The form.
#[derive(Template)]
#[template(path = "upstreams/edit.html")]
struct Form {
    /// `None`: a new one.
    id: Option<i64>,
    typed: Typed,
    errors: FieldErrors,
    has_secret: bool,
    dialects: [(&'static str, &'static str); 3],
}

impl HtmlSafe for Form {}

impl Form {
    fn new(id: Option<i64>, typed: Typed, errors: FieldErrors, has_secret: bool) -> Self {
        let dialects = [
            ("openai", "OpenAI’s, or compatible"),
            ("anthropic", "Anthropic’s, or compatible"),
            ("echo", "Built-in echo: answers by itself"),
        ];
        Self { id, typed, errors, has_secret, dialects }
    }

    /// The form once more, with why it was refused. A secret that was typed is not sent back, and says so.
    fn refused(id: Option<i64>, typed: Typed, mut errors: FieldErrors, has_secret: bool) -> Self {
        if typed.has_secret() && errors.of("secret").is_none() {
            errors.add("secret", Invalid::new("Type the secret again; it was not saved."));
        }
        Self::new(id, typed, errors, has_secret)
    }

    fn answer(&self, htmx: &Htmx, admin: &Admin, status: StatusCode) -> HttpResponse {
        let title = if self.id.is_some() { "Edit upstream" } else { "Create upstream" };
        answer::dialog(htmx, &admin.0, PLACE, status, title, self)
    }
}

/// `GET /upstreams/new`
///
/// # Errors
/// None of its own.
pub async fn new(htmx: Htmx, admin: Admin) -> Result<HttpResponse, PageError> {
    let typed = Typed { dialect: "openai".into(), ..Typed::default() };
    Ok(Form::new(None, typed, FieldErrors::default(), false).answer(&htmx, &admin, StatusCode::OK))
}

/// `GET /upstreams/{id}/edit`
///
/// # Errors
/// Not found; the engine's.
pub async fn edit(
    id: web::Path<i64>,
    htmx: Htmx,
    admin: Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let (upstream, secret) = store
        .run(move |connection| {
            Ok((upstreams::find(connection, id)?, upstreams::secret_ciphertext(connection, id)?))
        })
        .await?;
    let form = Form::new(Some(id), Typed::of(&upstream), FieldErrors::default(), secret.is_some());
    Ok(form.answer(&htmx, &admin, StatusCode::OK))
}

/// `POST /upstreams/new`
///
/// # Errors
/// The engine's; what was typed wrong comes back with the form.
pub async fn create(
    AdminForm(admin, pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
) -> Result<HttpResponse, PageError> {
    let (typed, work) = (Typed::from_pairs(&pairs), Typed::from_pairs(&pairs));
    let actor = admin.0.actor();
    let made = store.run(move |connection| make(connection, &work, &vault, &actor)).await;
    match made {
        Ok(id) => {
            let text = format!("Created “{}”", typed.name.trim());
            Ok(answer::go(&htmx, &admin.0, text, &format!("/upstreams/{id}"))?)
        }
        Err(Error::Invalid(errors)) => {
            let form = Form::refused(None, typed, errors, false);
            Ok(form.answer(&htmx, &admin, StatusCode::UNPROCESSABLE_ENTITY))
        }
        Err(error) => Err(error.into()),
    }
}

fn make(connection: &mut Connection, typed: &Typed, vault: &Vault, actor: &Actor) -> Result<i64, Error> {
    let (dialect, settings, secret) = typed.parse()?;
    let new = NewUpstream {
        name: settings.name.as_str(),
        dialect,
        base_url: &settings.base_url,
        pace_ms: settings.pace_ms,
        allow_private: settings.allow_private,
    };
    let seal = |id| secret.map(|secret| vault.seal_upstream(id, secret.expose())).transpose();
    upstreams::create(connection, &new, seal, actor, now_ms())
}

/// `POST /upstreams/{id}/edit`
///
/// # Errors
/// Not found; the engine's; what was typed wrong comes back with the form.
pub async fn save(
    id: web::Path<i64>,
    AdminForm(admin, pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
) -> Result<HttpResponse, PageError> {
    let (id, actor, mut typed) = (id.into_inner(), admin.0.actor(), Typed::from_pairs(&pairs));
    let saved = store
        .run(move |connection| {
            let upstream = upstreams::find(connection, id)?;
            let has_secret = upstreams::secret_ciphertext(connection, id)?.is_some();
            typed.dialect = upstream.dialect;
            let changed = change(connection, id, &typed, &vault, &actor);
            Ok((changed, typed, has_secret))
        })
        .await?;
    match saved {
        (Ok(()), typed, _) => {
            let text = format!("Saved “{}”", typed.name.trim());
            Ok(answer::go(&htmx, &admin.0, text, &format!("/upstreams/{id}"))?)
        }
        (Err(Error::Invalid(errors)), typed, has_secret) => {
            let form = Form::refused(Some(id), typed, errors, has_secret);
            Ok(form.answer(&htmx, &admin, StatusCode::UNPROCESSABLE_ENTITY))
        }
        (Err(error), ..) => Err(error.into()),
    }
}

fn change(
    connection: &mut Connection,
    id: i64,
    typed: &Typed,
    vault: &Vault,
    actor: &Actor,
) -> Result<(), Error> {
    let (_, settings, secret) = typed.parse()?;
    let sealed = secret.map(|secret| vault.seal_upstream(id, secret.expose())).transpose()?;
    let UpstreamSettings { name, base_url, allow_private, pace_ms } = &settings;
    let (allow_private, pace_ms) = (*allow_private, *pace_ms);
    let settings = Settings { name: name.as_str(), base_url, pace_ms, allow_private };
    let secret = match (&sealed, typed.remove_secret) {
        (Some(sealed), _) => SecretEdit::Replace(sealed),
        (None, true) => SecretEdit::Remove,
        (None, false) => SecretEdit::Keep,
    };
    upstreams::edit(connection, id, &settings, secret, actor, now_ms())
}
