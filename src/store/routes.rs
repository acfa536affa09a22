//! The routes of models: which upstreams serve them, under which name, in what order.

use super::Connection;
use super::audit::{self, Actor};
use super::models::{Model, lock};
use super::schema::{model_routes, models, upstreams};
use crate::domain::Invalid;
use crate::domain::upstream::Dialect;
use crate::error::Error;
use diesel::prelude::*;

/// What is to be of a route; what is not given stays, or is as a new route is.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
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
pub fn set(
    connection: &mut Connection,
    model: &Model,
    upstream_id: i64,
    settings: &Settings<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        must_exist(connection, upstream_id)?;
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
pub fn remove(
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

/// A model is called on the routes of one dialect, and each of its upstreams must serve them: nothing is translated.
pub(super) fn refuse_mixture(connection: &mut Connection, upstream_ids: &[i64]) -> Result<(), Error> {
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

/// A route by names, for lists.
#[derive(Debug, Clone, Queryable)]
pub struct RouteName {
    /// Of this model.
    pub model_id: i64,
    /// The provider.
    pub upstream_id: i64,
    /// Its name.
    pub upstream: String,
    /// What it calls the model.
    pub upstream_model: String,
    /// Lower is tried first.
    pub priority: i64,
    /// Share among equals.
    pub weight: i64,
    /// In rotation.
    pub enabled: bool,
}

/// The routes of all models, in rotation or not, by priority.
///
/// # Errors
/// The engine's.
pub fn names(connection: &mut Connection) -> Result<Vec<RouteName>, Error> {
    named(connection, None)
}

/// As [`names`], of these models.
///
/// # Errors
/// The engine's.
pub fn names_of(connection: &mut Connection, model_ids: &[i64]) -> Result<Vec<RouteName>, Error> {
    named(connection, Some(model_ids))
}

fn named(connection: &mut Connection, model_ids: Option<&[i64]>) -> Result<Vec<RouteName>, Error> {
    let mut routes = model_routes::table
        .inner_join(upstreams::table)
        .order((model_routes::model_id, model_routes::priority, model_routes::id))
        .select((
            model_routes::model_id,
            upstreams::id,
            upstreams::name,
            model_routes::upstream_model,
            model_routes::priority,
            model_routes::weight,
            upstreams::enabled,
        ))
        .into_boxed();
    if let Some(model_ids) = model_ids {
        routes = routes.filter(model_routes::model_id.eq_any(model_ids));
    }
    Ok(routes.load(connection)?)
}

/// Refuses an upstream that is gone by now, and keeps it as it is to the end of the transaction: whoever changes it
/// afterwards sees the route that is about to be made, and so changes the model's revision. Comes before a model is locked,
/// as there.
pub(super) fn must_exist(connection: &mut Connection, upstream_id: i64) -> Result<(), Error> {
    let row = upstreams::table.find(upstream_id).select(upstreams::id);
    let there: Option<i64> = match connection {
        Connection::Sqlite(connection) => row.first(connection).optional()?,
        Connection::Postgres(connection) => row.for_share().first(connection).optional()?,
    };
    match there {
        Some(_) => Ok(()),
        None => Err(Error::invalid("upstream", Invalid::new("Choose one of these upstreams."))),
    }
}

/// The models that an upstream serves, by name, at most `limit`: their rows, their names, and the upstream's names.
///
/// # Errors
/// The engine's.
pub fn served_by(
    connection: &mut Connection,
    upstream_id: i64,
    limit: i64,
) -> Result<Vec<(i64, String, String)>, Error> {
    Ok(model_routes::table
        .inner_join(models::table)
        .filter(model_routes::upstream_id.eq(upstream_id))
        .order(models::name)
        .limit(limit)
        .select((models::id, models::name, model_routes::upstream_model))
        .load(connection)?)
}
