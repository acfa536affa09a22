//! Making a user: the dialog, and the link that is to be sent to them.

use super::PLACE;
use super::list::{List, Row};
use super::person::Person;
use super::state::ListState;
use crate::clock::now_ms;
use crate::config::Reach;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::session::Admin;
use crate::dashboard::{answer, welcome};
use crate::domain::FieldErrors;
use crate::domain::credits::Credits;
use crate::domain::sign_in_link::SignInToken;
use crate::domain::user::UserName;
use crate::error::Error;
use crate::store::Store;
use crate::store::users::{self, NewUser};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use serde::Deserialize;

const TITLE: &str = "Create User";

/// What was typed.
#[derive(Clone, Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    name: String,
    #[serde(default)]
    credits: String,
    #[serde(default, deserialize_with = "ticked")]
    admin: bool,
}

/// A box is ticked when its field comes at all.
fn ticked<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    String::deserialize(value).map(|value| !value.is_empty())
}

impl Typed {
    fn parse(&self) -> Result<(NewUser, Credits), FieldErrors> {
        let mut errors = FieldErrors::default();
        let name = errors.take("name", UserName::parse(&self.name));
        let credits = match self.credits.trim() {
            "" => Some(Credits::ZERO),
            typed => errors.take("credits", Credits::parse(typed)),
        };
        match (name, credits) {
            (Some(name), Some(credits)) => {
                Ok((NewUser { name, password_hash: None, is_admin: self.admin }, credits))
            }
            _ => Err(errors),
        }
    }
}

#[derive(Template)]
#[template(path = "users/create.html")]
struct CreateForm {
    typed: Typed,
    errors: FieldErrors,
}

impl HtmlSafe for CreateForm {}

/// A link to send to somebody, shown once, and beside it what of the page has changed.
#[derive(Template)]
#[template(path = "users/link.html")]
pub(super) struct Link {
    pub title: &'static str,
    pub name: String,
    pub link: String,
    pub expires: Moment,
    pub back: String,
    pub beside: Option<Beside>,
}

impl HtmlSafe for Link {}

/// What of the page has changed.
#[derive(Template)]
#[template(
    ext = "html",
    source = "{% match self %}{% when Self::List(list) %}{{ list }}{% when Self::Person(person) %}{{ person }}{% endmatch %}"
)]
pub(super) enum Beside {
    List(List),
    Person(Box<Person>),
}

impl HtmlSafe for Beside {}

/// `GET /users/new`
pub async fn new(htmx: Htmx, Admin(signed_in): Admin) -> HttpResponse {
    let form = CreateForm { typed: Typed::default(), errors: FieldErrors::default() };
    answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, TITLE, &form)
}

/// `POST /users/new`
///
/// # Errors
/// The engine's; what was typed wrong comes back with the form.
pub async fn create(
    AdminForm(Admin(signed_in), typed): AdminForm<Typed>,
    request: HttpRequest,
    htmx: Htmx,
    store: web::Data<Store>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, PageError> {
    let token = SignInToken::generate();
    let (digest, actor, viewer_id) = (token.digest(), signed_in.actor(), signed_in.user.id);
    let state = ListState::of_url(htmx.current_url().as_deref());
    let parsed = typed.parse();
    let made = store
        .run(move |connection| {
            let (new, credits) = parsed?;
            let (id, expires_at_ms) =
                users::create_with_link(connection, &new, credits, &digest, &actor, now_ms())?;
            let list = List::load(connection, viewer_id, &state)?;
            Ok((Row::load(connection, id, viewer_id)?, list, expires_at_ms))
        })
        .await;
    let (row, list, expires_at_ms) = match made {
        Ok(made) => made,
        Err(Error::Invalid(errors)) => {
            let form = CreateForm { typed, errors };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Ok(answer::dialog(&htmx, &signed_in, PLACE, status, TITLE, &form));
        }
        Err(error) => return Err(error.into()),
    };
    let link = Link {
        title: "User created",
        name: row.name.clone(),
        link: welcome::link(&reach, &request, &token),
        expires: Moment::of(expires_at_ms, now_ms()),
        back: "/users".into(),
        beside: htmx.is_htmx.then(|| Beside::List(list.with_new(row).out_of_band())),
    };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, link.title, &link))
}
