//! Models: making, hiding and deleting them, and what a call to one needs. A model that is deleted stays as a row for
//! the charges that refer to its prices; nothing here finds it.

use super::audit::{self, Actor};
use super::prices::{PriceVersion, insert as insert_price};
use super::routes::{must_exist, refuse_mixture};
use super::schema::{model_routes, models, prices, upstreams};
use super::upstreams::Upstream;
use super::{Connection, found, taken};
use crate::domain::models::ModelName;
use crate::domain::price::Price;
use crate::domain::upstream::Dialect;
use crate::error::Error;
use diesel::prelude::*;
use std::sync::Arc;

/// A public model.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = models)]
pub struct Model {
    /// Row.
    pub id: i64,
    /// Public name.
    pub name: String,
    /// Most output tokens it gives in one answer.
    pub max_output_tokens: i64,
    /// Counts changes, a new price included.
    pub revision: i64,
    /// When made.
    pub created_at_ms: i64,
    /// Not offered to anybody; its calls work.
    pub hidden: bool,
}

/// A way to an upstream that serves a model.
#[derive(Debug, Clone, Queryable)]
pub struct Route {
    /// The provider.
    pub upstream: Upstream,
    /// Its sealed secret.
    pub secret_ciphertext: Option<Vec<u8>>,
    /// What it calls the model.
    pub upstream_model: String,
    /// Lower is tried first.
    pub priority: i64,
    /// Share among equals.
    pub weight: i64,
}

impl Route {
    /// How to talk to it; `None` for a word of a newer release.
    pub fn dialect(&self) -> Option<Dialect> {
        Dialect::parse(&self.upstream.dialect).ok()
    }
}

/// Everything a call needs to know of a model.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The model.
    pub model: Model,
    /// Its newest price.
    pub price: PriceVersion,
    /// Enabled upstreams, by priority.
    pub routes: Vec<Arc<Route>>,
}

/// A model to be made.
pub struct NewModel<'a> {
    /// Public name.
    pub name: &'a ModelName,
    /// Most output tokens of one answer.
    pub max_output_tokens: i64,
    /// Its first price.
    pub price: Price,
    /// (upstream id, its name for the model), in order of priority.
    pub routes: &'a [(i64, String)],
}

/// Makes a model with its first price and its routes, and gives its id.
///
/// # Errors
/// [`Error::Invalid`] under `name` when the name is taken, under `upstream` when the upstreams do not go together.
pub fn create(
    connection: &mut Connection,
    new: &NewModel<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    connection.write(|connection| insert(connection, new, actor, now_ms))
}

/// As [`create`], inside a transaction.
pub(super) fn insert(
    connection: &mut Connection,
    new: &NewModel<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    let upstream_ids: Vec<i64> = new.routes.iter().map(|(id, _)| *id).collect();
    refuse_mixture(connection, &upstream_ids)?;
    let id: i64 = diesel::insert_into(models::table)
        .values((
            models::name.eq(new.name.as_str()),
            models::max_output_tokens.eq(new.max_output_tokens),
            models::created_at_ms.eq(now_ms),
        ))
        .returning(models::id)
        .get_result(connection)
        .map_err(|error| taken(error, "name", "There is a model of this name already."))?;
    insert_price(connection, id, 1, &new.price, now_ms)?;
    for (priority, (upstream_id, upstream_model)) in (0i64..).zip(new.routes) {
        must_exist(connection, *upstream_id)?;
        diesel::insert_into(model_routes::table)
            .values((
                model_routes::model_id.eq(id),
                model_routes::upstream_id.eq(upstream_id),
                model_routes::upstream_model.eq(upstream_model),
                model_routes::priority.eq(priority),
            ))
            .execute(connection)
            .map_err(|error| taken(error, "upstream", "Name each upstream once."))?;
    }
    audit::record(connection, actor, "model.create", &format!("model {id}"), now_ms)?;
    Ok(id)
}

/// The model's row is changed first: whoever else changes what belongs to the model waits here. Calls that were decided
/// on the old revision are decided anew.
///
/// # Errors
/// [`Error::NotFound`], also for one that is deleted.
pub(super) fn lock(connection: &mut Connection, id: i64) -> Result<(), Error> {
    let rows = diesel::update(models::table.find(id))
        .filter(models::deleted_at_ms.is_null())
        .set(models::revision.eq(models::revision + 1))
        .execute(connection)?;
    found(rows)
}

/// Changes the most that one answer may have.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_max_output(
    connection: &mut Connection,
    id: i64,
    max_output_tokens: i64,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        lock(connection, id)?;
        diesel::update(models::table.find(id))
            .set(models::max_output_tokens.eq(max_output_tokens))
            .execute(connection)?;
        let subject = format!("model {id} {max_output_tokens}");
        audit::record(connection, actor, "model.set_max_output", &subject, now_ms)
    })
}

/// Takes a model out of what is offered, or back in; calls work all the same.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_hidden(
    connection: &mut Connection,
    id: i64,
    hidden: bool,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        lock(connection, id)?;
        diesel::update(models::table.find(id)).set(models::hidden.eq(hidden)).execute(connection)?;
        let action = if hidden { "model.hide" } else { "model.unhide" };
        audit::record(connection, actor, action, &format!("model {id}"), now_ms)
    })
}

/// Deletes a model: the next call to it finds none, and its name is free. Charges keep their prices.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete(connection: &mut Connection, id: i64, actor: &Actor, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        lock(connection, id)?;
        let name: String = models::table.find(id).select(models::name).first(connection)?;
        diesel::delete(model_routes::table.filter(model_routes::model_id.eq(id))).execute(connection)?;
        diesel::update(models::table.find(id))
            .set((models::name.eq(format!("{name}#{id}")), models::deleted_at_ms.eq(now_ms)))
            .execute(connection)?;
        audit::record(connection, actor, "model.delete", &format!("model {id} {name}"), now_ms)
    })
}

/// All models with their newest price, by name.
///
/// # Errors
/// The engine's.
pub fn list(connection: &mut Connection) -> Result<Vec<(Model, PriceVersion)>, Error> {
    let newest = diesel::alias!(prices as newest);
    Ok(models::table
        .inner_join(prices::table)
        .filter(models::deleted_at_ms.is_null())
        .filter(diesel::dsl::not(diesel::dsl::exists(
            newest
                .filter(newest.field(prices::model_id).eq(prices::model_id))
                .filter(newest.field(prices::version).gt(prices::version))
                .select(newest.field(prices::id)),
        )))
        .order(models::name)
        .select((Model::as_select(), PriceVersion::as_select()))
        .load(connection)?)
}

/// As [`list`], without those that are hidden: what users and their programs may choose from.
///
/// # Errors
/// The engine's.
pub fn offered(connection: &mut Connection) -> Result<Vec<(Model, PriceVersion)>, Error> {
    let mut models = list(connection)?;
    models.retain(|(model, _)| !model.hidden);
    Ok(models)
}

/// A model by its row.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, id: i64) -> Result<Model, Error> {
    Ok(models::table
        .find(id)
        .filter(models::deleted_at_ms.is_null())
        .select(Model::as_select())
        .first(connection)?)
}

/// The model of a name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_by_name(connection: &mut Connection, name: &str) -> Result<Model, Error> {
    Ok(models::table
        .filter(models::name.eq(name).and(models::deleted_at_ms.is_null()))
        .select(Model::as_select())
        .first(connection)?)
}

/// The ways to the upstreams of a model that are in rotation, by priority.
///
/// # Errors
/// The engine's.
pub fn routes(connection: &mut Connection, model_id: i64) -> Result<Vec<Route>, Error> {
    Ok(model_routes::table
        .inner_join(upstreams::table)
        .filter(model_routes::model_id.eq(model_id))
        .filter(upstreams::enabled.eq(true))
        .order((model_routes::priority, model_routes::id))
        .select((
            Upstream::as_select(),
            upstreams::secret_ciphertext,
            model_routes::upstream_model,
            model_routes::priority,
            model_routes::weight,
        ))
        .load::<Route>(connection)?)
}

/// The way to an upstream that is in rotation, for what is asked of it without a model.
///
/// # Errors
/// The engine's.
pub fn route_to(connection: &mut Connection, upstream_id: i64) -> Result<Option<Route>, Error> {
    let found: Option<(Upstream, Option<Vec<u8>>)> = upstreams::table
        .find(upstream_id)
        .filter(upstreams::enabled.eq(true))
        .select((Upstream::as_select(), upstreams::secret_ciphertext))
        .first(connection)
        .optional()?;
    let route = |(upstream, secret_ciphertext)| {
        let upstream_model = String::new();
        Route { upstream, secret_ciphertext, upstream_model, priority: 0, weight: 1 }
    };
    Ok(found.map(route))
}

/// What a call to the model of a name needs: price and routes.
///
/// # Errors
/// [`Error::NotFound`] when there is no such model or it has no price.
pub fn find_offer(connection: &mut Connection, name: &str) -> Result<Offer, Error> {
    let (model, price) = models::table
        .inner_join(prices::table)
        .filter(models::name.eq(name).and(models::deleted_at_ms.is_null()))
        .order(prices::version.desc())
        .select((Model::as_select(), PriceVersion::as_select()))
        .get_result(connection)?;
    let routes = routes(connection, model.id)?.into_iter().map(Arc::new).collect();
    Ok(Offer { model, price, routes })
}
