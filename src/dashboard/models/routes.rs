//! The routes of a model: adding, changing and removing the upstreams that serve it.

use super::PLACE;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{Pairs, first};
use crate::dashboard::session::{Admin, SignedIn};
use crate::domain::upstream::RoutePlaceDraft;
use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::models::{self, Model};
use crate::store::routes::{self, RouteName, Settings};
use crate::store::upstreams::{self, Upstream};
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// What stands in the fields.
#[derive(Debug, Clone, Default)]
struct Typed {
    upstream: String,
    upstream_model: String,
    priority: String,
    weight: String,
}

impl Typed {
    fn from_pairs(pairs: &Pairs) -> Self {
        let text = |name| first(pairs, name).to_owned();
        Self {
            upstream: text("upstream"),
            upstream_model: text("upstream_model"),
            priority: text("priority"),
            weight: text("weight"),
        }
    }

    fn of(route: &RouteName) -> Self {
        Self {
            upstream: route.upstream_id.to_string(),
            upstream_model: route.upstream_model.clone(),
            priority: route.priority.to_string(),
            weight: route.weight.to_string(),
        }
    }
}

/// The form.
#[derive(Template)]
#[template(path = "models/route.html")]
struct RouteForm {
    model_id: i64,
    model: String,
    /// The upstream of a route that is there.
    upstream: Option<(i64, String)>,
    /// Those to choose from: (id, name, chosen)
    upstreams: Vec<(String, String, bool)>,
    typed: Typed,
    errors: FieldErrors,
}

impl HtmlSafe for RouteForm {}

impl RouteForm {
    fn answer(&self, htmx: &Htmx, signed_in: &SignedIn, status: StatusCode) -> HttpResponse {
        let title = if self.upstream.is_some() { "Edit route" } else { "Add route" };
        answer::dialog(htmx, signed_in, PLACE, status, title, self)
    }
}

/// The form of a model's new route, or of the one to an upstream.
fn form(
    connection: &mut Connection,
    model_id: i64,
    upstream_id: Option<i64>,
    typed: Option<Typed>,
    errors: FieldErrors,
) -> Result<RouteForm, Error> {
    let model = models::find(connection, model_id)?;
    let there = routes::names_of(connection, &[model_id])?;
    let route =
        upstream_id.map(|id| there.iter().find(|route| route.upstream_id == id).ok_or(Error::NotFound));
    let route = route.transpose()?;
    let typed = typed.or_else(|| route.map(Typed::of)).unwrap_or_default();
    let free = |upstream: &Upstream| !there.iter().any(|route| route.upstream_id == upstream.id);
    let choice = |upstream: Upstream| {
        let id = upstream.id.to_string();
        let chosen = id == typed.upstream;
        (id, format!("{} ({})", upstream.name, upstream.dialect), chosen)
    };
    let upstreams = upstreams::list(connection)?.into_iter().filter(free).map(choice).collect();
    let upstream = route.map(|route| (route.upstream_id, route.upstream.clone()));
    Ok(RouteForm { model_id, model: model.name, upstream, upstreams, typed, errors })
}

/// `GET /models/{id}/routes/new`
///
/// # Errors
/// Not found; the engine's.
pub async fn new(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let form = store.run(move |connection| form(connection, id, None, None, FieldErrors::default())).await?;
    Ok(form.answer(&htmx, &signed_in, StatusCode::OK))
}

/// `GET /models/{id}/routes/{upstream_id}`
///
/// # Errors
/// Not found; the engine's.
pub async fn edit(
    ids: web::Path<(i64, i64)>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, upstream_id) = ids.into_inner();
    let form = store
        .run(move |connection| form(connection, id, Some(upstream_id), None, FieldErrors::default()))
        .await?;
    Ok(form.answer(&htmx, &signed_in, StatusCode::OK))
}

/// `POST /models/{id}/routes/new`
///
/// # Errors
/// Not found; the engine's; what was typed wrong comes back with the form.
pub async fn add(
    id: web::Path<i64>,
    AdminForm(admin, pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    store_route(id.into_inner(), None, &pairs, &htmx, admin.0, &store).await
}

/// `POST /models/{id}/routes/{upstream_id}`
///
/// # Errors
/// As [`add`].
pub async fn save(
    ids: web::Path<(i64, i64)>,
    AdminForm(admin, pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, upstream_id) = ids.into_inner();
    store_route(id, Some(upstream_id), &pairs, &htmx, admin.0, &store).await
}

async fn store_route(
    id: i64,
    upstream_id: Option<i64>,
    pairs: &Pairs,
    htmx: &Htmx,
    signed_in: SignedIn,
    store: &Store,
) -> Result<HttpResponse, PageError> {
    let (typed, actor) = (Typed::from_pairs(pairs), signed_in.actor());
    let stored = store
        .run(move |connection| {
            let model = models::find(connection, id)?;
            match set(connection, &model, upstream_id, &typed, &actor) {
                Ok(()) => Ok(Ok(model.name)),
                Err(Error::Invalid(errors)) => {
                    form(connection, id, upstream_id, Some(typed), errors).map(Err)
                }
                Err(error) => Err(error),
            }
        })
        .await?;
    match stored {
        Ok(name) => {
            let text = format!("Saved the routes of “{name}”");
            Ok(answer::go(htmx, &signed_in, text, &super::url(id))?)
        }
        Err(form) => Ok(form.answer(htmx, &signed_in, StatusCode::UNPROCESSABLE_ENTITY)),
    }
}

fn set(
    connection: &mut Connection,
    model: &Model,
    upstream_id: Option<i64>,
    typed: &Typed,
    actor: &Actor,
) -> Result<(), Error> {
    let Typed { upstream, upstream_model, priority, weight } = typed;
    let mut errors = FieldErrors::default();
    let place = RoutePlaceDraft { upstream_model, priority, weight }.parse();
    let is_there = |connection: &mut Connection, id: i64| -> Result<bool, Error> {
        Ok(routes::names_of(connection, &[model.id])?.iter().any(|route| route.upstream_id == id))
    };
    let chosen = match (upstream_id, upstream.parse::<i64>()) {
        (Some(id), _) if is_there(connection, id)? => Ok(id),
        (Some(_), _) => return Err(Error::NotFound),
        (None, Ok(id)) if is_there(connection, id)? => {
            Err(Invalid::new("This upstream serves the model already; edit its route."))
        }
        (None, Ok(id)) => Ok(id),
        (None, Err(_)) => Err(Invalid::new("Choose one of these upstreams.")),
    };
    let chosen = errors.take("upstream", chosen);
    match (chosen, place) {
        (Some(id), Ok(place)) => {
            let settings = Settings {
                upstream_model: Some(place.upstream_model.as_deref().unwrap_or(&model.name)),
                priority: place.priority,
                weight: place.weight,
            };
            routes::set(connection, model, id, &settings, actor, now_ms())
        }
        (_, place) => {
            for (field, why) in place.err().iter().flat_map(FieldErrors::iter) {
                errors.add(field, why.clone());
            }
            Err(Error::Invalid(errors))
        }
    }
}

/// `POST /models/{id}/routes/{upstream_id}/remove`
///
/// # Errors
/// Not found; the engine's.
pub async fn remove(
    ids: web::Path<(i64, i64)>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let ((id, upstream_id), actor) = (ids.into_inner(), signed_in.actor());
    store.run(move |connection| routes::remove(connection, id, upstream_id, &actor, now_ms())).await?;
    Ok(answer::go(&htmx, &signed_in, "Removed the route".into(), &super::url(id))?)
}
