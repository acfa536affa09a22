//! Pricing groups: a name, a price multiplier, and whether new keys may choose it. Which users may is in `group_users`.

use super::Connection;
use super::audit::{self, Actor};
use super::group_users;
use super::schema::{api_keys, groups};
use super::{found, taken};
use crate::domain::Invalid;
use crate::domain::group::DEFAULT;
use crate::domain::price::Multiplier;
use crate::error::Error;
use diesel::dsl::count_star;
use diesel::prelude::*;
use std::collections::HashMap;

const NAME_TAKEN: &str = "There is a group of this name already.";

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
    /// Nobody may choose it for a new key.
    pub hidden: bool,
    /// Only chosen users may choose it.
    pub restricted: bool,
}

impl Group {
    /// The price factor.
    pub fn multiplier(&self) -> Multiplier {
        Multiplier::from_micros(self.multiplier_micros)
    }
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
    create_with(connection, name, multiplier, &[], actor, now_ms)
}

/// As [`create`], with these settings besides.
///
/// # Errors
/// As [`create`] and [`change`].
pub fn create_with(
    connection: &mut Connection,
    name: &str,
    multiplier: Multiplier,
    settings: &[Change<'_>],
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
            .map_err(|error| taken(error, "name", NAME_TAKEN))?;
        audit::record(connection, actor, "group.create", &format!("group {id}"), now_ms)?;
        apply_all(connection, id, settings, actor, now_ms)?;
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

/// The group of an id.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, id: i64) -> Result<Group, Error> {
    Ok(groups::table.find(id).select(Group::as_select()).first(connection)?)
}

/// How many keys each group has; one without keys is left out.
///
/// # Errors
/// The engine's.
pub fn key_counts(connection: &mut Connection) -> Result<HashMap<i64, i64>, Error> {
    let counts: Vec<(i64, i64)> = api_keys::table
        .group_by(api_keys::group_id)
        .select((api_keys::group_id, count_star()))
        .load(connection)?;
    Ok(counts.into_iter().collect())
}

/// A change of a group's settings.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Another name, unique.
    Name(&'a str),
    /// What prices are multiplied by, from the next call; charges keep theirs.
    Multiplier(Multiplier),
    /// Whether nobody may choose it for a new key.
    Hidden(bool),
    /// Only these users may choose it; `None`: everybody.
    Users(Option<&'a [i64]>),
}

/// Makes these changes, each with its own line in the audit log; what is so already leaves none. With `revision`, only
/// if nobody changed the group since.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`]; [`Error::Invalid`] under `name` or `users`.
pub fn change(
    connection: &mut Connection,
    id: i64,
    revision: Option<i64>,
    changes: &[Change<'_>],
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        // First of all, so that whoever else changes it waits behind this.
        let rows = match revision {
            Some(seen) => diesel::update(groups::table.find(id).filter(groups::revision.eq(seen)))
                .set(groups::revision.eq(groups::revision + 1))
                .execute(connection)?,
            None => diesel::update(groups::table.find(id))
                .set(groups::revision.eq(groups::revision + 1))
                .execute(connection)?,
        };
        if rows == 0 {
            find(connection, id)?;
            return Err(Error::Conflict);
        }
        apply_all(connection, id, changes, actor, now_ms)
    })
}

fn apply_all(
    connection: &mut Connection,
    id: i64,
    changes: &[Change<'_>],
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    let stored = find(connection, id)?;
    for change in changes {
        if let Some((action, detail)) = apply(connection, &stored, change)? {
            audit::record(connection, actor, action, &format!("group {id}{detail}"), now_ms)?;
        }
    }
    Ok(())
}

/// One change; gives its action and what the audit log says behind the group, or `None` when it is so already.
fn apply(
    connection: &mut Connection,
    stored: &Group,
    change: &Change<'_>,
) -> Result<Option<(&'static str, String)>, Error> {
    let row = || groups::table.find(stored.id);
    match change {
        Change::Name(name) if *name == stored.name => Ok(None),
        Change::Name(_) if stored.name == DEFAULT => {
            let why = "Keys get this group when none is named, so it keeps its name.";
            Err(Error::invalid("name", Invalid::new(why)))
        }
        Change::Name(name) => {
            diesel::update(row())
                .set(groups::name.eq(name))
                .execute(connection)
                .map_err(|error| taken(error, "name", NAME_TAKEN))?;
            Ok(Some(("group.rename", format!(" {} → {name}", stored.name))))
        }
        Change::Multiplier(multiplier) if *multiplier == stored.multiplier() => Ok(None),
        Change::Multiplier(multiplier) => {
            let changed = groups::multiplier_micros.eq(multiplier.micros());
            diesel::update(row()).set(changed).execute(connection)?;
            Ok(Some(("group.set_multiplier", format!(" {} → {multiplier}", stored.multiplier()))))
        }
        Change::Hidden(hidden) if *hidden == stored.hidden => Ok(None),
        Change::Hidden(hidden) => {
            diesel::update(row()).set(groups::hidden.eq(hidden)).execute(connection)?;
            Ok(Some((if *hidden { "group.hide" } else { "group.unhide" }, String::new())))
        }
        Change::Users(users) => {
            if !group_users::replace(connection, stored.id, *users)? {
                return Ok(None);
            }
            diesel::update(row()).set(groups::restricted.eq(users.is_some())).execute(connection)?;
            let who = users.map_or_else(|| " everybody".into(), |users| format!(" {} users", users.len()));
            Ok(Some(("group.set_users", who)))
        }
    }
}

/// Deletes a group that no key has; the default one stays.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `group`.
pub fn delete(connection: &mut Connection, id: i64, actor: &Actor, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        if let Connection::Postgres(postgres) = connection {
            // A key that is being made in this group comes first, and is counted.
            groups::table.find(id).select(groups::id).for_update().first::<i64>(postgres)?;
        }
        let group = find(connection, id)?;
        if group.name == DEFAULT {
            let why = "Keys get this group when none is named, so it stays. Hide it instead.";
            return Err(Error::invalid("group", Invalid::new(why)));
        }
        let keys: i64 = api_keys::table.filter(api_keys::group_id.eq(id)).count().get_result(connection)?;
        if keys > 0 {
            let keys = if keys == 1 { "1 key has".into() } else { format!("{keys} keys have") };
            let why = format!("{keys} this group, and a key keeps its group. Hide it from new keys instead.");
            return Err(Error::invalid("group", why));
        }
        found(diesel::delete(groups::table.find(id)).execute(connection)?)?;
        audit::record(connection, actor, "group.delete", &format!("group {id} {}", group.name), now_ms)
    })
}
