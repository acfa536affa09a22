//! `GET /v1/models` and `GET /v1/models/{id}`: what a key may use. Asked of the database each time; costs nothing,
//! and an exhausted key may look too.

use super::admit::{self, Caller};
use super::error::GatewayError;
use super::hold::Asking;
use super::snapshots::Policy;
use super::{anthropic, authenticate, call};
use crate::config::Reach;
use crate::domain::expiry::rfc3339;
use crate::domain::upstream::Dialect;
use crate::request_id;
use crate::store::Store;
use crate::store::models::{self, Model};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

/// A model in OpenAI's shape.
#[derive(Serialize)]
struct Listed {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

impl From<Model> for Listed {
    fn from(model: Model) -> Self {
        Self { id: model.name, object: "model", created: model.created_at_ms / 1000, owned_by: "keyhouse" }
    }
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Listed>,
}

/// A model in Anthropic's shape.
#[derive(Serialize)]
struct AnthropicListed {
    r#type: &'static str,
    id: String,
    display_name: String,
    created_at: String,
}

impl From<Model> for AnthropicListed {
    fn from(model: Model) -> Self {
        let created_at = rfc3339(model.created_at_ms);
        Self { r#type: "model", id: model.name.clone(), display_name: model.name, created_at }
    }
}

/// All on one page.
#[derive(Serialize)]
struct AnthropicList {
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
    data: Vec<AnthropicListed>,
}

impl From<Vec<Model>> for AnthropicList {
    fn from(models: Vec<Model>) -> Self {
        let id = |model: Option<&Model>| model.map(|model| model.name.clone());
        Self {
            first_id: id(models.first()),
            last_id: id(models.last()),
            has_more: false,
            data: models.into_iter().map(AnthropicListed::from).collect(),
        }
    }
}

/// All models that the key may use, by name; in Anthropic's shape for who sends `anthropic-version`.
///
/// # Errors
/// Those of a key that may not be used; the database's.
pub async fn list(
    request: HttpRequest,
    store: web::Data<Store>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, GatewayError> {
    let listed = allowed(&request, &store, &reach).await;
    answer(&request, listed, |models, is_anthropic| match is_anthropic {
        true => HttpResponse::Ok().json(AnthropicList::from(models)),
        false => {
            let data = models.into_iter().map(Listed::from).collect();
            HttpResponse::Ok().json(List { object: "list", data })
        }
    })
}

/// One model that the key may use.
///
/// # Errors
/// As [`list`]; refused before it is looked for when the key may not use it.
pub async fn show(
    request: HttpRequest,
    id: web::Path<String>,
    store: web::Data<Store>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, GatewayError> {
    let found = find(&request, &id, &store, &reach).await;
    answer(&request, found, |model, is_anthropic| match is_anthropic {
        true => HttpResponse::Ok().json(AnthropicListed::from(model)),
        false => HttpResponse::Ok().json(Listed::from(model)),
    })
}

/// In the shape, and with the errors, of the dialect that the caller speaks.
fn answer<T>(
    request: &HttpRequest,
    found: Result<T, GatewayError>,
    shape: impl FnOnce(T, bool) -> HttpResponse,
) -> Result<HttpResponse, GatewayError> {
    let is_anthropic = anthropic::is_spoken(request.headers());
    match found {
        Err(error) if is_anthropic => Ok(error.respond(Dialect::Anthropic, request_id::of(request))),
        found => Ok(shape(found?, is_anthropic)),
    }
}

async fn allowed(request: &HttpRequest, store: &Store, reach: &Reach) -> Result<Vec<Model>, GatewayError> {
    let (policy, models) = look_up(store, &call::asking(request, reach)?).await?;
    Ok(models.into_iter().filter(|model| policy.models.allows(&model.name)).collect())
}

async fn find(request: &HttpRequest, id: &str, store: &Store, reach: &Reach) -> Result<Model, GatewayError> {
    let (policy, models) = look_up(store, &call::asking(request, reach)?).await?;
    admit::admit_model(&policy, id)?;
    models.into_iter().find(|model| model.name == *id).ok_or(GatewayError::ModelNotFound)
}

/// The admitted key, and every model on offer.
async fn look_up(store: &Store, asking: &Asking) -> Result<(Policy, Vec<Model>), GatewayError> {
    let digest = asking.digest;
    let looked = store.run_promptly(move |connection| {
        let Some((policy, now_ms)) = authenticate::find(connection, &digest)? else { return Ok(None) };
        Ok(Some((policy, now_ms, models::offered(connection)?)))
    });
    let (policy, now_ms, models) = looked.await?.ok_or(GatewayError::UnknownKey)?;
    admit::admit_key(&policy, Caller { address: asking.address, now_ms })?;
    Ok((policy, models.into_iter().map(|(model, _)| model).collect()))
}
