//! The list of models as admins see it: search, filter, and keyset pages by name in both directions.

use super::Connection;
use super::lower;
use super::models::Model;
use super::paging::{self, Cursor, Page, Place, anywhere};
use super::prices::PriceVersion;
use super::schema::{model_routes, models, prices};
use crate::error::Error;
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::Text;

/// Which models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Offered to users.
    Offered,
    /// Hidden from them.
    Hidden,
    /// Without any upstream.
    Unserved,
}

/// What part of the list is wanted. Its places are names; their ids mean nothing.
#[derive(Debug, Clone, Default)]
pub struct ModelQuery {
    /// Part of the name, any case; empty: all.
    pub search: String,
    /// Only these.
    pub which: Option<Which>,
    /// Which page.
    pub place: Place,
    /// Rows a page.
    pub limit: usize,
}

/// One page of all models, by name.
///
/// # Errors
/// The engine's.
pub fn page(connection: &mut Connection, query: &ModelQuery) -> Result<Page<(Model, PriceVersion)>, Error> {
    let cursor = |model: &Model| Cursor { value: model.name.clone(), id: model.id };
    let found = paging::read(&query.place, query.limit, cursor, None, |start, limit| {
        batch(connection, query, start, limit)
    })?;
    let Page { rows, previous, next } = found;
    Ok(Page { rows: priced(connection, rows)?, previous, next })
}

fn batch(
    connection: &mut Connection,
    query: &ModelQuery,
    start: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<Model>, Error> {
    let mut rows = models::table
        .filter(models::deleted_at_ms.is_null())
        .limit(limit)
        .select(Model::as_select())
        .into_boxed();
    if !query.search.is_empty() {
        let pattern = anywhere(&query.search);
        rows = rows.filter(lower(models::name).like(lower(pattern.into_sql::<Text>())).escape('\\'));
    }
    let routes =
        || model_routes::table.filter(model_routes::model_id.eq(models::id)).select(model_routes::id);
    rows = match query.which {
        None => rows,
        Some(Which::Offered) => rows.filter(models::hidden.eq(false)),
        Some(Which::Hidden) => rows.filter(models::hidden.eq(true)),
        Some(Which::Unserved) => rows.filter(not(exists(routes()))),
    };
    let backwards = query.place.is_backwards();
    rows = match start {
        Some(start) if backwards => rows.filter(models::name.lt(&start.value)),
        Some(start) => rows.filter(models::name.gt(&start.value)),
        None => rows,
    };
    let rows = if backwards { rows.order(models::name.desc()) } else { rows.order(models::name.asc()) };
    Ok(rows.load(connection)?)
}

/// Models with their newest price, in the same order.
fn priced(connection: &mut Connection, models: Vec<Model>) -> Result<Vec<(Model, PriceVersion)>, Error> {
    let ids: Vec<i64> = models.iter().map(|model| model.id).collect();
    let mut versions: Vec<PriceVersion> = prices::table
        .filter(prices::model_id.eq_any(&ids))
        .order((prices::model_id, prices::version.desc()))
        .select(PriceVersion::as_select())
        .load(connection)?;
    // The newest of each comes first.
    versions.dedup_by_key(|version| version.model_id);
    let newest = |model: Model| {
        let version = versions.iter().find(|version| version.model_id == model.id).copied();
        version.map(|version| (model, version))
    };
    Ok(models.into_iter().filter_map(newest).collect())
}
