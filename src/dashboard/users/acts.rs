//! What an admin does to another's access: switch it, lend and take the admin's powers, reset the password, delete.

use super::create::{Beside, Link};
use super::list::{List, Row};
use super::person::{Part, Person, at_person};
use super::state::ListState;
use super::{PLACE, of_another};
use crate::clock::now_ms;
use crate::config::Reach;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::Pairs;
use crate::dashboard::session::{Admin, SignedIn};
use crate::dashboard::{answer, list_url, page, welcome};
use crate::domain::sign_in_link::SignInToken;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::{Connection, Store, users};
use actix_htmx::{Htmx, SwapType};
use actix_web::http::StatusCode;
use actix_web::http::header::REFERER;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

fn says_true(pairs: &Pairs, field: &str) -> bool {
    pairs.iter().any(|(name, value)| name == field && value == "true")
}

/// `POST /users/{id}/enabled`: the switch in the row, and the button on the user's page.
///
/// # Errors
/// Not found; oneself and the last admin; the engine's.
pub async fn set_enabled(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    request: HttpRequest,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, enabled) = (*id, says_true(&pairs, "enabled"));
    let act = move |connection: &mut Connection, actor: &Actor| {
        users::set_enabled(connection, id, enabled, actor, now_ms())
    };
    let part = changed(id, &htmx, &signed_in, &store, act).await?;
    let text = format!("{} “{}”", if enabled { "Enabled" } else { "Disabled" }, part.name());
    answered(id, text, &part, &request, &htmx, &signed_in)
}

/// `POST /users/{id}/admin`
///
/// # Errors
/// As [`set_enabled`].
pub async fn set_admin(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    request: HttpRequest,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, is_admin) = (*id, says_true(&pairs, "admin"));
    let act = move |connection: &mut Connection, actor: &Actor| {
        users::set_admin(connection, id, is_admin, actor, now_ms())
    };
    let part = changed(id, &htmx, &signed_in, &store, act).await?;
    let text =
        format!("“{}” is {}", part.name(), if is_admin { "an admin now" } else { "no longer an admin" });
    answered(id, text, &part, &request, &htmx, &signed_in)
}

async fn changed(
    id: i64,
    htmx: &Htmx,
    signed_in: &SignedIn,
    store: &Store,
    act: impl FnOnce(&mut Connection, &Actor) -> Result<(), Error> + Send + 'static,
) -> Result<Part, Error> {
    of_another(signed_in, id)?;
    let (actor, viewer_id, at_person) = (signed_in.actor(), signed_in.user.id, at_person(htmx, id));
    store
        .run(move |connection| {
            act(connection, &actor)?;
            Part::load(connection, id, viewer_id, at_person)
        })
        .await
}

/// Says that it is done, where the act began.
fn answered(
    id: i64,
    text: String,
    part: &Part,
    request: &HttpRequest,
    htmx: &Htmx,
    signed_in: &SignedIn,
) -> Result<HttpResponse, PageError> {
    if htmx.is_htmx {
        page::toast(htmx, page::Kind::Success, text);
        htmx.reswap(SwapType::None);
        return Ok(page::render(StatusCode::OK, part));
    }
    page::flash(&signed_in.session, page::Kind::Success, text)?;
    let referer = request.headers().get(REFERER).and_then(|value| value.to_str().ok());
    Ok(page::redirect(&match list_url::query_of(referer, "/users") {
        Some(query) => ListState::parse(&query).url(),
        None => format!("/users/{id}"),
    }))
}

/// A question before what cannot be undone.
macro_rules! question {
    ($name:ident, $path:literal, $title:literal) => {
        #[derive(Template)]
        #[template(path = $path)]
        struct $name {
            row: Row,
            back: String,
            refusal: Option<String>,
        }

        impl HtmlSafe for $name {}

        impl $name {
            async fn ask(
                id: i64,
                refusal: Option<String>,
                htmx: &Htmx,
                signed_in: &SignedIn,
                store: &Store,
            ) -> Result<HttpResponse, PageError> {
                of_another(signed_in, id)?;
                let viewer_id = signed_in.user.id;
                let row = store.run(move |connection| Row::load(connection, id, viewer_id)).await?;
                let status =
                    if refusal.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
                let question = Self { row, back: format!("/users/{id}"), refusal };
                Ok(answer::dialog(htmx, signed_in, PLACE, status, $title, &question))
            }
        }
    };
}

question!(ConfirmDelete, "users/delete.html", "Delete User");
question!(ConfirmReset, "users/reset.html", "Reset password");
question!(ConfirmSecondFactor, "users/second_factor.html", "Reset second factor");

/// `GET /users/{id}/reset-second-factor`
///
/// # Errors
/// Not found; oneself; the engine's.
pub async fn confirm_second_factor(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    ConfirmSecondFactor::ask(*id, None, &htmx, &signed_in, &store).await
}

/// `POST /users/{id}/reset-second-factor`: for somebody who lost it.
///
/// # Errors
/// Not found; oneself; the engine's.
pub async fn reset_second_factor(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = *id;
    let act = move |connection: &mut Connection, actor: &Actor| {
        users::find(connection, id)?;
        users::reset_second_factor(connection, id, actor, now_ms())
    };
    let part = changed(id, &htmx, &signed_in, &store, act).await?;
    let text = format!("Reset the second factor of “{}”", part.name());
    Ok(answer::done(&htmx, &signed_in, text, &part, &format!("/users/{id}"))?)
}

/// `GET /users/{id}/delete`
///
/// # Errors
/// Not found; oneself; the engine's.
pub async fn confirm_delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    ConfirmDelete::ask(*id, None, &htmx, &signed_in, &store).await
}

/// `POST /users/{id}/delete`
///
/// # Errors
/// Not found; oneself; the engine's. The last admin is refused beside the question.
pub async fn delete(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor, viewer_id) = (*id, signed_in.actor(), signed_in.user.id);
    of_another(&signed_in, id)?;
    let state = ListState::of_url(htmx.current_url().as_deref());
    let deleted = store
        .run(move |connection| {
            let user = users::find(connection, id)?;
            users::delete(connection, id, &actor, now_ms())?;
            Ok((user.name, List::load(connection, viewer_id, &state)?))
        })
        .await;
    match deleted {
        Ok((name, list)) => {
            let text = format!("Deleted “{name}”");
            if at_person(&htmx, id) {
                // Their page is gone.
                page::flash(&signed_in.session, page::Kind::Success, text)?;
                return Ok(HttpResponse::Ok().insert_header(("HX-Redirect", "/users")).finish());
            }
            Ok(answer::done(&htmx, &signed_in, text, &list.out_of_band(), "/users")?)
        }
        Err(Error::Invalid(errors)) => {
            ConfirmDelete::ask(id, errors.of("user").map(str::to_owned), &htmx, &signed_in, &store).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `GET /users/{id}/reset-password`
///
/// # Errors
/// Not found; oneself; the engine's.
pub async fn confirm_reset(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    ConfirmReset::ask(*id, None, &htmx, &signed_in, &store).await
}

/// `POST /users/{id}/reset-password`: shows the link, once.
///
/// # Errors
/// Not found; oneself; the engine's. The last admin is refused beside the question.
pub async fn reset_password(
    id: web::Path<i64>,
    request: HttpRequest,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, PageError> {
    let (id, actor, viewer_id) = (*id, signed_in.actor(), signed_in.user.id);
    of_another(&signed_in, id)?;
    let token = SignInToken::generate();
    let digest = token.digest();
    let reset = store
        .run(move |connection| {
            let expires_at_ms = users::reset_password(connection, id, &digest, &actor, now_ms())?;
            let name = users::find(connection, id)?.name;
            Ok((name, expires_at_ms, Person::load_out_of_band(connection, id, viewer_id)?))
        })
        .await;
    let (name, expires_at_ms, person) = match reset {
        Ok(reset) => reset,
        Err(Error::Invalid(errors)) => {
            let why = errors.of("user").map(str::to_owned);
            return ConfirmReset::ask(id, why, &htmx, &signed_in, &store).await;
        }
        Err(error) => return Err(error.into()),
    };
    let link = Link {
        title: "Password reset",
        name,
        link: welcome::link(&reach, &request, &token),
        expires: Moment::of(expires_at_ms, now_ms()),
        back: format!("/users/{id}"),
        beside: at_person(&htmx, id).then(|| Beside::Person(Box::new(person))),
    };
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, link.title, &link))
}
