//! Pricing groups: a name and a price multiplier.

use super::Connection;
use super::audit::{self, Actor};
use super::schema::groups;
use super::{found, taken};
use crate::domain::price::Multiplier;
use crate::domain::{Invalid, parse_label};
use crate::error::Error;
use diesel::prelude::*;

/// The group that keys get when none is named; made by the first migration.
pub const DEFAULT: &str = "default";

/// A pricing group.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = groups)]
pub struct Group {
    /// Row.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// Millionths: ×1.5 is 1 500 000.
    pub multiplier_micros: i64,
    /// Counts changes.
    pub revision: i64,
    /// When made.
    pub created_at_ms: i64,
}

impl Group {
    /// The price factor.
    pub fn multiplier(&self) -> Multiplier {
        Multiplier::from_micros(self.multiplier_micros)
    }
}

/// Checks a group's name: 1 to 60 printable characters.
///
/// # Errors
/// When it is not.
pub fn parse_name(raw: &str) -> Result<String, Invalid> {
    parse_label(raw, "The name", 60)
}

/// Makes a group and gives its id.
///
/// # Errors
/// [`Error::Invalid`] under `name` when the name is taken.
pub fn create(
    connection: &mut Connection,
    name: &str,
    multiplier: Multiplier,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    connection.write(|connection| {
        let id = diesel::insert_into(groups::table)
            .values((
                groups::name.eq(name),
                groups::multiplier_micros.eq(multiplier.micros()),
                groups::created_at_ms.eq(now_ms),
            ))
            .returning(groups::id)
            .get_result(connection)
            .map_err(|error| taken(error, "name", "There is a group of this name already."))?;
        audit::record(connection, actor, "group.create", &format!("group {id}"), now_ms)?;
        Ok(id)
    })
}

/// All groups, by name.
///
/// # Errors
/// The engine's.
pub fn list(connection: &mut Connection) -> Result<Vec<Group>, Error> {
    Ok(groups::table.order(groups::name).select(Group::as_select()).load(connection)?)
}

/// The group of a name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_by_name(connection: &mut Connection, name: &str) -> Result<Group, Error> {
    Ok(groups::table.filter(groups::name.eq(name)).select(Group::as_select()).first(connection)?)
}

/// Changes the multiplier; it counts from the next call.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_multiplier(
    connection: &mut Connection,
    id: i64,
    multiplier: Multiplier,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let rows = diesel::update(groups::table.find(id))
            .set((
                groups::multiplier_micros.eq(multiplier.micros()),
                groups::revision.eq(groups::revision + 1),
            ))
            .execute(connection)?;
        found(rows)?;
        audit::record(connection, actor, "group.set_multiplier", &format!("group {id} {multiplier}"), now_ms)
    })
}
