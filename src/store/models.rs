//! Models, their price versions, and the routes to upstreams that serve them.

use super::Connection;
use super::audit::{self, Actor};
use super::schema::{model_routes, models, prices, upstreams};
use super::taken;
use super::upstreams::Upstream;
use crate::domain::Invalid;
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
}

/// One version of a model's price, as stored.
#[derive(Debug, Clone, Copy, Queryable, Selectable)]
#[diesel(table_name = prices)]
pub struct PriceVersion {
    /// Row; what a charge refers to.
    pub id: i64,
    /// Whose.
    pub model_id: i64,
    /// 1, 2, …
    pub version: i64,
    /// Micro-credits per million input tokens.
    pub input_micros: i64,
    /// Micro-credits per million cached input tokens; `None`: as input.
    pub cached_input_micros: Option<i64>,
    /// Micro-credits per million output tokens.
    pub output_micros: i64,
    /// Micro-credits per request.
    pub per_request_micros: i64,
    /// Micro-credits per million input tokens written to the cache; `None`: as input.
    pub cache_write_micros: Option<i64>,
    /// Micro-credits per image.
    pub per_image_micros: i64,
    /// Micro-credits per second of sound.
    pub per_audio_second_micros: i64,
    /// Micro-credits per million characters.
    pub per_character_micros: i64,
}

impl PriceVersion {
    /// The amounts.
    pub fn price(&self) -> Price {
        Price {
            input_micros: self.input_micros,
            cached_input_micros: self.cached_input_micros,
            cache_write_micros: self.cache_write_micros,
            output_micros: self.output_micros,
            per_request_micros: self.per_request_micros,
            per_image_micros: self.per_image_micros,
            per_audio_second_micros: self.per_audio_second_micros,
            per_character_micros: self.per_character_micros,
        }
    }
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
    connection.write(|connection| {
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
    })
}

/// What is to be of a route; what is not given stays, or is as a new route is.
#[derive(Debug, Clone, Copy)]
pub struct RouteSettings<'a> {
    /// What the upstream calls the model; at first by its public name.
    pub upstream_model: Option<&'a str>,
    /// Lower is tried first; at first after all others.
    pub priority: Option<i64>,
    /// Share among equals; at first 1.
    pub weight: Option<i64>,
}

/// Adds a route to a model, or changes the one to this upstream; the next call takes it.
///
/// # Errors
/// [`Error::Invalid`] under `upstream` when the upstream does not go together with the others.
pub fn set_route(
    connection: &mut Connection,
    model: &Model,
    upstream_id: i64,
    settings: &RouteSettings<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        lock(connection, model.id)?;
        let last: Option<i64> = model_routes::table
            .filter(model_routes::model_id.eq(model.id))
            .select(diesel::dsl::max(model_routes::priority))
            .first(connection)?;
        let there = model_routes::table
            .filter(model_routes::model_id.eq(model.id).and(model_routes::upstream_id.eq(upstream_id)))
            .select((model_routes::upstream_model, model_routes::priority, model_routes::weight))
            .first::<(String, i64, i64)>(connection)
            .optional()?;
        let (name, priority, weight) =
            there.unwrap_or_else(|| (model.name.clone(), last.map_or(0, |last| last + 1), 1));
        diesel::delete(model_routes::table)
            .filter(model_routes::model_id.eq(model.id).and(model_routes::upstream_id.eq(upstream_id)))
            .execute(connection)?;
        diesel::insert_into(model_routes::table)
            .values((
                model_routes::model_id.eq(model.id),
                model_routes::upstream_id.eq(upstream_id),
                model_routes::upstream_model.eq(settings.upstream_model.unwrap_or(&name)),
                model_routes::priority.eq(settings.priority.unwrap_or(priority)),
                model_routes::weight.eq(settings.weight.unwrap_or(weight)),
            ))
            .execute(connection)?;
        let routes = model_routes::table.filter(model_routes::model_id.eq(model.id));
        let upstream_ids = routes.select(model_routes::upstream_id).load(connection)?;
        refuse_mixture(connection, &upstream_ids)?;
        let subject = format!("model {} upstream {upstream_id}", model.id);
        audit::record(connection, actor, "model.set_route", &subject, now_ms)
    })
}

/// Takes a route from a model; the next call no longer takes it.
///
/// # Errors
/// [`Error::NotFound`] when there is none to this upstream.
pub fn remove_route(
    connection: &mut Connection,
    model_id: i64,
    upstream_id: i64,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        lock(connection, model_id)?;
        let rows = diesel::delete(model_routes::table)
            .filter(model_routes::model_id.eq(model_id).and(model_routes::upstream_id.eq(upstream_id)))
            .execute(connection)?;
        super::found(rows)?;
        let subject = format!("model {model_id} upstream {upstream_id}");
        audit::record(connection, actor, "model.remove_route", &subject, now_ms)
    })
}

/// The model's row is changed first: whoever else changes what belongs to the model waits here.
fn lock(connection: &mut Connection, id: i64) -> Result<(), Error> {
    let rows = diesel::update(models::table.find(id))
        .set(models::revision.eq(models::revision + 1))
        .execute(connection)?;
    super::found(rows)
}

/// A model is called on the routes of one dialect, and each of its upstreams must serve them: nothing is translated.
fn refuse_mixture(connection: &mut Connection, upstream_ids: &[i64]) -> Result<(), Error> {
    let dialects: Vec<String> = upstreams::table
        .filter(upstreams::id.eq_any(upstream_ids))
        .select(upstreams::dialect)
        .load(connection)?;
    let spoken = |dialect: Dialect| dialects.iter().any(|word| word == dialect.as_str());
    if spoken(Dialect::OpenAi) && spoken(Dialect::Anthropic) {
        let why =
            "Upstreams of the dialects openai and anthropic serve different routes. Make a model for each.";
        return Err(Error::invalid("upstream", Invalid::new(why)));
    }
    Ok(())
}

/// Adds a price version; calls made from now on pay it, charges keep theirs.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_price(
    connection: &mut Connection,
    id: i64,
    price: &Price,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        lock(connection, id)?;
        let newest: Option<i64> = prices::table
            .filter(prices::model_id.eq(id))
            .select(diesel::dsl::max(prices::version))
            .first(connection)?;
        insert_price(connection, id, newest.unwrap_or(0) + 1, price, now_ms)?;
        audit::record(connection, actor, "model.set_price", &format!("model {id}"), now_ms)
    })
}

fn insert_price(
    connection: &mut Connection,
    model_id: i64,
    version: i64,
    price: &Price,
    now_ms: i64,
) -> Result<(), Error> {
    diesel::insert_into(prices::table)
        .values((
            prices::model_id.eq(model_id),
            prices::version.eq(version),
            prices::input_micros.eq(price.input_micros),
            prices::cached_input_micros.eq(price.cached_input_micros),
            prices::output_micros.eq(price.output_micros),
            prices::per_request_micros.eq(price.per_request_micros),
            prices::cache_write_micros.eq(price.cache_write_micros),
            prices::per_image_micros.eq(price.per_image_micros),
            prices::per_audio_second_micros.eq(price.per_audio_second_micros),
            prices::per_character_micros.eq(price.per_character_micros),
            prices::created_at_ms.eq(now_ms),
        ))
        .execute(connection)?;
    Ok(())
}

/// All models with their newest price, by name.
///
/// # Errors
/// The engine's.
pub fn list(connection: &mut Connection) -> Result<Vec<(Model, PriceVersion)>, Error> {
    let newest = diesel::alias!(prices as newest);
    Ok(models::table
        .inner_join(prices::table)
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

/// The model of a name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_by_name(connection: &mut Connection, name: &str) -> Result<Model, Error> {
    Ok(models::table.filter(models::name.eq(name)).select(Model::as_select()).first(connection)?)
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

/// A route by names, for lists.
#[derive(Debug, Clone, Queryable)]
pub struct RouteName {
    /// Of this model.
    pub model_id: i64,
    /// Name of the provider.
    pub upstream: String,
    /// What it calls the model.
    pub upstream_model: String,
    /// Lower is tried first.
    pub priority: i64,
    /// Share among equals.
    pub weight: i64,
}

/// The routes of all models, in rotation or not, by priority.
///
/// # Errors
/// The engine's.
pub fn route_names(connection: &mut Connection) -> Result<Vec<RouteName>, Error> {
    Ok(model_routes::table
        .inner_join(upstreams::table)
        .order((model_routes::model_id, model_routes::priority, model_routes::id))
        .select((
            model_routes::model_id,
            upstreams::name,
            model_routes::upstream_model,
            model_routes::priority,
            model_routes::weight,
        ))
        .load(connection)?)
}

/// What a call to the model of a name needs: price and routes.
///
/// # Errors
/// [`Error::NotFound`] when there is no such model or it has no price.
pub fn find_offer(connection: &mut Connection, name: &str) -> Result<Offer, Error> {
    let (model, price) = models::table
        .inner_join(prices::table)
        .filter(models::name.eq(name))
        .order(prices::version.desc())
        .select((Model::as_select(), PriceVersion::as_select()))
        .first(connection)?;
    let routes = routes(connection, model.id)?.into_iter().map(Arc::new).collect();
    Ok(Offer { model, price, routes })
}
