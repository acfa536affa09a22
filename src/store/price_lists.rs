//! Price lists: what an admin has brought and not applied yet, and making models and prices of it.

use super::Connection;
use super::audit::Actor;
use super::models::{self, NewModel};
use super::prices;
use super::schema::{model_routes, price_lists};
use crate::domain::price_list::{Known, Row, Step};
use crate::error::Error;
use diesel::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Keeps a list until it is applied or replaced; each admin has one.
///
/// # Errors
/// The engine's.
pub fn keep(connection: &mut Connection, user_id: i64, content: &str, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        diesel::delete(price_lists::table.find(user_id)).execute(connection)?;
        diesel::insert_into(price_lists::table)
            .values((
                price_lists::user_id.eq(user_id),
                price_lists::content.eq(content),
                price_lists::created_at_ms.eq(now_ms),
            ))
            .execute(connection)?;
        Ok(())
    })
}

/// The list that an admin keeps, and when it came.
///
/// # Errors
/// [`Error::NotFound`].
pub fn kept(connection: &mut Connection, user_id: i64) -> Result<(String, i64), Error> {
    Ok(price_lists::table
        .find(user_id)
        .select((price_lists::content, price_lists::created_at_ms))
        .first(connection)?)
}

/// When the list that an admin keeps came, if there is one.
///
/// # Errors
/// The engine's.
pub fn kept_at(connection: &mut Connection, user_id: i64) -> Result<Option<i64>, Error> {
    Ok(price_lists::table.find(user_id).select(price_lists::created_at_ms).first(connection).optional()?)
}

/// Every model as an import needs to know it, by name.
///
/// # Errors
/// The engine's.
pub fn known(connection: &mut Connection, upstream_id: i64) -> Result<BTreeMap<String, Known>, Error> {
    let served: BTreeSet<i64> = model_routes::table
        .filter(model_routes::upstream_id.eq(upstream_id))
        .select(model_routes::model_id)
        .load(connection)?
        .into_iter()
        .collect();
    let known = |(model, version): (models::Model, prices::PriceVersion)| {
        let served_here = served.contains(&model.id);
        (model.name, Known { id: model.id, version: version.version, price: version.price(), served_here })
    };
    Ok(models::list(connection)?.into_iter().map(known).collect())
}

/// What an import came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Models made.
    pub made: usize,
    /// Prices set.
    pub priced: usize,
}

/// Makes the models and sets the prices of these rows, all or none.
///
/// # Errors
/// [`Error::Conflict`] when something of it changed since it was planned; [`Error::Invalid`] as for a single model.
pub fn apply(
    connection: &mut Connection,
    upstream_id: i64,
    rows: &[&Row],
    actor: &Actor,
    now_ms: i64,
) -> Result<Imported, Error> {
    connection.write(|connection| {
        let mut imported = Imported::default();
        for row in rows {
            match &row.step {
                Step::New => {
                    let new = NewModel {
                        name: &row.name,
                        max_output_tokens: row.max_output_tokens,
                        price: row.price,
                        routes: &[(upstream_id, row.upstream_model.clone())],
                    };
                    models::insert(connection, &new, actor, now_ms).map_err(changed_meanwhile)?;
                    imported.made += 1;
                }
                Step::Change(known) => {
                    let seen = Some(known.version);
                    prices::add(connection, known.id, &row.price, seen, actor, now_ms)
                        .map_err(changed_meanwhile)?;
                    imported.priced += 1;
                }
                Step::Same => {}
            }
        }
        Ok(imported)
    })
}

/// A name that is taken now, or a model that is gone.
fn changed_meanwhile(error: Error) -> Error {
    match error {
        Error::NotFound => Error::Conflict,
        Error::Invalid(errors) if errors.of("name").is_some() => Error::Conflict,
        other => other,
    }
}

impl Imported {
    /// What [`apply`] would come to.
    pub fn of(rows: &[&Row]) -> Self {
        let count = |is: fn(&Step) -> bool| rows.iter().filter(|row| is(&row.step)).count();
        Self { made: count(|step| *step == Step::New), priced: count(|step| matches!(step, Step::Change(_))) }
    }
}
