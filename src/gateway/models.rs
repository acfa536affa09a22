//! `GET /v1/models` and `GET /v1/models/{id}`: what a key may use. Asked of the database each time; costs nothing,
//! and an exhausted key may look too.

use super::admit::{self, Caller};
use super::error::GatewayError;
use super::hold::Asking;
use super::{authenticate, call};
use crate::config::Reach;
use crate::store::Store;
use crate::store::keys::KeySnapshot;
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

/// All models that the key may use, by name.
///
/// # Errors
/// Those of a key that may not be used; the database's.
pub async fn list(
    request: HttpRequest,
    store: web::Data<Store>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, GatewayError> {
    let (snapshot, models) = look_up(&store, &call::asking(&request, &reach)?).await?;
    let allowed = snapshot.key.models()?;
    let data = models.into_iter().filter(|model| allowed.allows(&model.name)).map(Listed::from).collect();
    Ok(HttpResponse::Ok().json(List { object: "list", data }))
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
    let (snapshot, models) = look_up(&store, &call::asking(&request, &reach)?).await?;
    admit::admit_model(&snapshot, &id)?;
    let found = models.into_iter().find(|model| model.name == *id).ok_or(GatewayError::ModelNotFound)?;
    Ok(HttpResponse::Ok().json(Listed::from(found)))
}

/// The admitted key, and every model that has a price.
async fn look_up(store: &Store, asking: &Asking) -> Result<(KeySnapshot, Vec<Model>), GatewayError> {
    let digest = asking.digest;
    let looked = store.run_promptly(move |connection| {
        let Some((snapshot, now_ms)) = authenticate::find(connection, &digest)? else { return Ok(None) };
        Ok(Some((snapshot, now_ms, models::list(connection)?)))
    });
    let (snapshot, now_ms, models) = looked.await?.ok_or(GatewayError::UnknownKey)?;
    admit::admit_key(&snapshot, Caller { address: asking.address, now_ms })?;
    Ok((snapshot, models.into_iter().map(|(model, _)| model).collect()))
}
