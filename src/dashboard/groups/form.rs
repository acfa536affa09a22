//! The form that makes and edits a group. Edited, it carries the revision it was made from: whoever comes second is told.

use super::PLACE;
use super::list::List;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::session::{Admin, SignedIn};
use crate::domain::group::{DEFAULT, parse_name};
use crate::domain::price::Multiplier;
use crate::domain::user::UserName;
use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::groups::{self, Change};
use crate::store::{Connection, Store, group_users};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use serde::Deserialize;

/// What was typed.
#[derive(Clone, Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    name: String,
    #[serde(default)]
    multiplier: String,
    /// Ticked when it comes at all.
    hidden: Option<String>,
    /// `everybody` or `chosen`.
    #[serde(default)]
    who: String,
    /// Names, one a line.
    #[serde(default)]
    users: String,
    /// Of the group when the form was made.
    #[serde(default)]
    revision: i64,
}

/// What was typed, understood.
struct Parsed {
    name: String,
    multiplier: Multiplier,
    hidden: bool,
    /// `None`: everybody.
    users: Option<Vec<String>>,
}

impl Typed {
    fn blank() -> Self {
        Self { multiplier: "1".into(), who: "everybody".into(), ..Self::default() }
    }

    /// The form of a group as it is.
    fn load(connection: &mut Connection, id: i64) -> Result<Self, Error> {
        let group = groups::find(connection, id)?;
        Ok(Self {
            multiplier: group.multiplier().to_string(),
            hidden: group.hidden.then(|| "on".into()),
            who: if group.restricted { "chosen" } else { "everybody" }.into(),
            users: group_users::names(connection, id)?.join("\n"),
            revision: group.revision,
            name: group.name,
        })
    }

    fn parse(&self) -> Result<Parsed, FieldErrors> {
        let mut errors = FieldErrors::default();
        let name = errors.take("name", parse_name(&self.name));
        let multiplier = errors.take("multiplier", Multiplier::parse(&self.multiplier));
        let users = match self.who.as_str() {
            "chosen" => errors.take("users", parse_users(&self.users)).map(Some),
            _ => Some(None),
        };
        let hidden = self.hidden.is_some();
        match (name, multiplier, users) {
            (Some(name), Some(multiplier), Some(users)) => Ok(Parsed { name, multiplier, hidden, users }),
            _ => Err(errors),
        }
    }
}

fn parse_users(raw: &str) -> Result<Vec<String>, Invalid> {
    let mut names = Vec::new();
    for entry in raw.split(['\n', ',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let name = UserName::parse(entry)
            .map_err(|_| Invalid::new("Enter names of users, one a line."))?
            .as_str()
            .to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > group_users::USERS_MAX {
            return Err(format!("Enter at most {} users.", group_users::USERS_MAX).into());
        }
    }
    Ok(names)
}

/// The form.
#[derive(Template)]
#[template(path = "groups/edit.html")]
struct Form {
    title: &'static str,
    action: String,
    typed: Typed,
    errors: FieldErrors,
    /// The one that keeps its name.
    is_default: bool,
    /// As somebody else has stored it meanwhile.
    stored: Option<Typed>,
}

impl HtmlSafe for Form {}

/// What the form is for.
#[derive(Debug, Clone, Copy)]
enum Aim {
    Create,
    Edit(i64),
}

impl Aim {
    fn form(self, typed: Typed, errors: FieldErrors) -> Form {
        let (title, action) = match self {
            Self::Create => ("Create Group", "/groups/new".to_owned()),
            Self::Edit(id) => ("Edit Group", format!("/groups/{id}/edit")),
        };
        Form { title, action, typed, errors, is_default: false, stored: None }
    }

    /// Stores what was understood.
    fn store(
        self,
        connection: &mut Connection,
        parsed: &Parsed,
        revision: i64,
        actor: &Actor,
    ) -> Result<(), Error> {
        let users = parsed.users.as_ref().map(|names| group_users::ids_of(connection, names)).transpose()?;
        let rest = [Change::Hidden(parsed.hidden), Change::Users(users.as_deref())];
        match self {
            Self::Create => {
                let (name, multiplier) = (parsed.name.as_str(), parsed.multiplier);
                groups::create_with(connection, name, multiplier, &rest, actor, now_ms()).map(|_| ())
            }
            Self::Edit(id) => {
                let [hidden, users] = rest;
                let changes =
                    [Change::Name(&parsed.name), Change::Multiplier(parsed.multiplier), hidden, users];
                groups::change(connection, id, Some(revision), &changes, actor, now_ms())
            }
        }
    }
}

/// `GET /groups/new`
pub async fn new(htmx: Htmx, Admin(signed_in): Admin) -> HttpResponse {
    let form = Aim::Create.form(Typed::blank(), FieldErrors::default());
    answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, form.title, &form)
}

/// `POST /groups/new`
///
/// # Errors
/// The engine's; what was typed wrong comes back with the form.
pub async fn create(
    AdminForm(Admin(signed_in), typed): AdminForm<Typed>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    submit(Aim::Create, typed, &htmx, &signed_in, &store).await
}

/// `GET /groups/{id}/edit`
///
/// # Errors
/// Not found; the engine's.
pub async fn edit(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let typed = store.run(move |connection| Typed::load(connection, id)).await?;
    let is_default = typed.name == DEFAULT;
    let form = Form { is_default, ..Aim::Edit(id).form(typed, FieldErrors::default()) };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, form.title, &form))
}

/// `POST /groups/{id}/edit`
///
/// # Errors
/// Not found; the engine's. What was typed wrong, and what somebody else changed, comes back with the form.
pub async fn save(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), typed): AdminForm<Typed>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    submit(Aim::Edit(*id), typed, &htmx, &signed_in, &store).await
}

async fn submit(
    aim: Aim,
    typed: Typed,
    htmx: &Htmx,
    signed_in: &SignedIn,
    store: &Store,
) -> Result<HttpResponse, PageError> {
    let (actor, name) = (signed_in.actor(), typed.name.trim().to_owned());
    let done = store
        .run(move |connection| {
            let is_default = match aim {
                Aim::Create => false,
                Aim::Edit(id) => groups::find(connection, id)?.name == DEFAULT,
            };
            let stored = typed
                .parse()
                .map_err(Error::from)
                .and_then(|parsed| aim.store(connection, &parsed, typed.revision, &actor));
            match (stored, aim) {
                (Ok(()), _) => Ok(Ok(List::load(connection, true)?)),
                (Err(Error::Invalid(errors)), _) => {
                    let form = Form { is_default, ..aim.form(typed, errors) };
                    Ok(Err((StatusCode::UNPROCESSABLE_ENTITY, form)))
                }
                (Err(Error::Conflict), Aim::Edit(id)) => {
                    let stored = Typed::load(connection, id)?;
                    // Saving this form again is a deliberate choice: it has seen the revision it would replace.
                    let typed = Typed { revision: stored.revision, ..typed };
                    let form = aim.form(typed, FieldErrors::default());
                    Ok(Err((StatusCode::CONFLICT, Form { is_default, stored: Some(stored), ..form })))
                }
                (Err(error), _) => Err(error),
            }
        })
        .await?;
    match done {
        Ok(list) => Ok(answer::done(htmx, signed_in, format!("Saved “{name}”"), &list, "/groups")?),
        Err((status, form)) => Ok(answer::dialog(htmx, signed_in, PLACE, status, form.title, &form)),
    }
}
