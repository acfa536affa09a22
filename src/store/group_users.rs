//! Which users may choose which group for a new key: everybody, or only those chosen. Keys made before keep theirs.

use super::Connection;
use super::groups::Group;
use super::schema::{group_users, groups, users};
use crate::domain::Invalid;
use crate::domain::group::DEFAULT;
use crate::error::Error;
use diesel::dsl::{count_star, exists};
use diesel::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Users that one group may be restricted to.
pub const USERS_MAX: usize = 1_000;

/// The groups that `user_id` may choose for a new key, by name.
///
/// # Errors
/// The engine's.
pub fn choices(connection: &mut Connection, user_id: i64) -> Result<Vec<Group>, Error> {
    let chosen = group_users::table
        .filter(group_users::group_id.eq(groups::id))
        .filter(group_users::user_id.eq(user_id));
    Ok(groups::table
        .filter(groups::hidden.eq(false))
        .filter(groups::restricted.eq(false).or(exists(chosen)))
        .order(groups::name)
        .select(Group::as_select())
        .load(connection)?)
}

/// What is chosen for who chooses nothing: the default group, or else the first that there is.
pub fn default_choice(choices: &[Group]) -> Option<&Group> {
    choices.iter().find(|group| group.name == DEFAULT).or(choices.first())
}

/// Refuses a group that `user_id` may not choose; it may have been offered a moment ago, or never.
pub(super) fn check_choice(connection: &mut Connection, user_id: i64, group_id: i64) -> Result<(), Error> {
    if choices(connection, user_id)?.iter().any(|group| group.id == group_id) {
        return Ok(());
    }
    Err(Error::invalid("group_id", Invalid::new("New keys of this user cannot have this group.")))
}

/// How many users each group is restricted to; one without any is left out.
///
/// # Errors
/// The engine's.
pub fn counts(connection: &mut Connection) -> Result<HashMap<i64, i64>, Error> {
    let counts: Vec<(i64, i64)> = group_users::table
        .group_by(group_users::group_id)
        .select((group_users::group_id, count_star()))
        .load(connection)?;
    Ok(counts.into_iter().collect())
}

/// The names of the users that a group is restricted to.
///
/// # Errors
/// The engine's.
pub fn names(connection: &mut Connection, group_id: i64) -> Result<Vec<String>, Error> {
    Ok(users::table
        .inner_join(group_users::table)
        .filter(group_users::group_id.eq(group_id))
        .order(users::name)
        .select(users::name)
        .load(connection)?)
}

/// The ids of the users of these names.
///
/// # Errors
/// [`Error::Invalid`] under `users`, naming who is unknown, or when they are too many.
pub fn ids_of(connection: &mut Connection, names: &[String]) -> Result<Vec<i64>, Error> {
    if names.len() > USERS_MAX {
        return Err(Error::invalid("users", format!("Enter at most {USERS_MAX} users.")));
    }
    let known: Vec<(i64, String)> = users::table
        .filter(users::name.eq_any(names))
        .filter(users::deleted_at_ms.is_null())
        .order(users::id)
        .select((users::id, users::name))
        .load(connection)?;
    let unknown = names.iter().find(|name| !known.iter().any(|(_, known)| known == *name));
    match unknown {
        Some(name) => Err(Error::invalid("users", format!("There is no user {name}."))),
        None => Ok(known.into_iter().map(|(id, _)| id).collect()),
    }
}

/// Restricts a group to these users, or to nobody in particular; says whether that was a change.
pub(super) fn replace(
    connection: &mut Connection,
    group_id: i64,
    users: Option<&[i64]>,
) -> Result<bool, Error> {
    let was_restricted: bool = groups::table.find(group_id).select(groups::restricted).first(connection)?;
    let stored: Vec<i64> = group_users::table
        .filter(group_users::group_id.eq(group_id))
        .select(group_users::user_id)
        .load(connection)?;
    let stored: BTreeSet<i64> = stored.into_iter().collect();
    let wanted: BTreeSet<i64> = users.unwrap_or_default().iter().copied().collect();
    let gone: Vec<i64> = stored.difference(&wanted).copied().collect();
    diesel::delete(
        group_users::table
            .filter(group_users::group_id.eq(group_id))
            .filter(group_users::user_id.eq_any(&gone)),
    )
    .execute(connection)?;
    for user_id in wanted.difference(&stored) {
        super::users::stays(connection, *user_id)?;
        diesel::insert_into(group_users::table)
            .values((group_users::group_id.eq(group_id), group_users::user_id.eq(user_id)))
            .execute(connection)?;
    }
    Ok(stored != wanted || was_restricted != users.is_some())
}
