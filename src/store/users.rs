//! Users: logins and account totals. Balances change only here by grants (see `grants`) and in the ledger.

use super::Connection;
use super::audit::{self, Actor};
use super::schema::{api_keys, group_users, responses, sessions, users};
use super::{admins, found, grants, schema, second_factors, sign_in_links, taken};
use crate::domain::credits::Credits;
use crate::domain::sign_in_link::LinkDigest;
use crate::domain::user::{UserName, deleted_name, shown_name};
use crate::error::Error;
use diesel::dsl::exists;
use diesel::prelude::*;
use std::collections::HashMap;

/// Stands in the column of who has none.
pub(super) const NO_PASSWORD: &str = "";

/// A user without the password hash.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct User {
    /// Row.
    pub id: i64,
    /// Login name, lower case.
    pub name: String,
    /// May administer.
    pub is_admin: bool,
    /// May sign in, and their keys work.
    pub enabled: bool,
    /// Σ grants − Σ settled.
    pub balance_micros: i64,
    /// Σ open holds.
    pub held_micros: i64,
    /// Counts changes of settings.
    pub revision: i64,
    /// When made.
    pub created_at_ms: i64,
}

/// A user to be made.
pub struct NewUser {
    /// Login name.
    pub name: UserName,
    /// Argon2id, PHC string; `None`: they set a password by a sign-in link, and cannot sign in until then.
    pub password_hash: Option<String>,
    /// May administer.
    pub is_admin: bool,
}

/// Makes a user and gives its id.
///
/// # Errors
/// [`Error::Invalid`] under `name` when the name is taken.
pub fn create(connection: &mut Connection, new: &NewUser, actor: &Actor, now_ms: i64) -> Result<i64, Error> {
    connection.write(|connection| insert(connection, new, actor, now_ms))
}

/// Makes a user whose account begins with some credits, and the link by which they set their password. Gives the id, and
/// the moment until which the link works.
///
/// # Errors
/// As [`create`]; [`Error::Invalid`] under `amount`.
pub fn create_with_link(
    connection: &mut Connection,
    new: &NewUser,
    credits: Credits,
    link: &LinkDigest,
    actor: &Actor,
    now_ms: i64,
) -> Result<(i64, i64), Error> {
    connection.write(|connection| {
        let id = insert(connection, new, actor, now_ms)?;
        if credits != Credits::ZERO {
            grants::add(connection, id, credits, "To begin with", actor, now_ms)?;
        }
        Ok((id, sign_in_links::add(connection, id, link, actor, now_ms)?))
    })
}

/// Makes the very first user; `None` when there is one already, however many try at once.
///
/// # Errors
/// The engine's.
pub fn create_first(
    connection: &mut Connection,
    new: &NewUser,
    actor: &Actor,
    now_ms: i64,
) -> Result<Option<i64>, Error> {
    connection.write(|connection| {
        if let Connection::Postgres(postgres) = connection {
            diesel::sql_query("LOCK TABLE users IN EXCLUSIVE MODE").execute(postgres)?;
        }
        if any(connection)? {
            return Ok(None);
        }
        insert(connection, new, actor, now_ms).map(Some)
    })
}

fn insert(connection: &mut Connection, new: &NewUser, actor: &Actor, now_ms: i64) -> Result<i64, Error> {
    let id = diesel::insert_into(users::table)
        .values((
            users::name.eq(new.name.as_str()),
            users::password_hash.eq(new.password_hash.as_deref().unwrap_or(NO_PASSWORD)),
            users::is_admin.eq(new.is_admin),
            users::created_at_ms.eq(now_ms),
        ))
        .returning(users::id)
        .get_result(connection)
        .map_err(|error| taken(error, "name", "There is a user of this name already."))?;
    audit::record(connection, actor, "user.create", &format!("user {id}"), now_ms)?;
    Ok(id)
}

/// Whether there is any user yet.
///
/// # Errors
/// The engine's.
pub fn any(connection: &mut Connection) -> Result<bool, Error> {
    Ok(diesel::select(exists(users::table.filter(users::deleted_at_ms.is_null()))).get_result(connection)?)
}

/// The user of an id; a deleted one is not found.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, id: i64) -> Result<User, Error> {
    Ok(users::table
        .find(id)
        .filter(users::deleted_at_ms.is_null())
        .select(User::as_select())
        .first(connection)?)
}

/// What these users are called, deleted ones too, since their charges stay.
///
/// # Errors
/// The engine's.
pub fn names(connection: &mut Connection, ids: &[i64]) -> Result<HashMap<i64, String>, Error> {
    let names: Vec<(i64, String)> =
        users::table.filter(users::id.eq_any(ids)).select((users::id, users::name)).load(connection)?;
    Ok(names.into_iter().map(|(id, name)| (id, shown_name(name))).collect())
}

/// What a user is called, a deleted one too.
///
/// # Errors
/// [`Error::NotFound`].
pub fn name_of(connection: &mut Connection, id: i64) -> Result<String, Error> {
    names(connection, &[id])?.remove(&id).ok_or(Error::NotFound)
}

/// Makes sure that the user is not deleted before this transaction has ended.
pub(super) fn stays(connection: &mut Connection, id: i64) -> Result<(), Error> {
    let user = users::table.find(id).filter(users::deleted_at_ms.is_null()).select(users::id);
    let _: i64 = match connection {
        Connection::Sqlite(connection) => user.first(connection)?,
        // It waits for a deletion, which changes the name, and for nothing else that may happen to the row.
        Connection::Postgres(connection) => user.for_key_share().first(connection)?,
    };
    Ok(())
}

/// The user of a name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_by_name(connection: &mut Connection, name: &str) -> Result<User, Error> {
    Ok(users::table
        .filter(users::name.eq(name))
        .filter(users::deleted_at_ms.is_null())
        .select(User::as_select())
        .first(connection)?)
}

/// The user of a name with the password hash, if they have one, to check a sign-in.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_for_sign_in(connection: &mut Connection, name: &str) -> Result<(User, Option<String>), Error> {
    let (user, hash): (User, String) = users::table
        .filter(users::name.eq(name))
        .filter(users::deleted_at_ms.is_null())
        .select((User::as_select(), users::password_hash))
        .first(connection)?;
    Ok((user, Some(hash).filter(|hash| hash != NO_PASSWORD)))
}

/// All users, by name.
///
/// # Errors
/// The engine's.
pub fn list(connection: &mut Connection) -> Result<Vec<User>, Error> {
    Ok(users::table
        .filter(users::deleted_at_ms.is_null())
        .order(users::name)
        .select(User::as_select())
        .load(connection)?)
}

/// Switches a user on or off. Off ends their sessions; their keys stop because every hold reads this row.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `user` for the last admin who can sign in.
pub fn set_enabled(
    connection: &mut Connection,
    id: i64,
    enabled: bool,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        if !enabled {
            admins::leave_one(connection, id)?;
        }
        let rows = diesel::update(users::table.find(id).filter(users::deleted_at_ms.is_null()))
            .set((users::enabled.eq(enabled), users::revision.eq(users::revision + 1)))
            .execute(connection)?;
        found(rows)?;
        if !enabled {
            diesel::delete(sessions::table.filter(sessions::user_id.eq(id))).execute(connection)?;
        }
        let action = if enabled { "user.enable" } else { "user.disable" };
        audit::record(connection, actor, action, &format!("user {id}"), now_ms)
    })
}

/// Sets a password and ends every session of the user.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_password(
    connection: &mut Connection,
    id: i64,
    password_hash: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        replace_password(connection, id, password_hash)?;
        audit::record(connection, actor, "user.set_password", &format!("user {id}"), now_ms)
    })
}

/// Takes a user's password away, ends their sessions, and makes the link by which alone they come in again. Gives the
/// moment until which it works.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `user` for the last admin who can sign in.
pub fn reset_password(
    connection: &mut Connection,
    id: i64,
    link: &LinkDigest,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    connection.write(|connection| {
        admins::leave_one(connection, id)?;
        replace_password(connection, id, NO_PASSWORD)?;
        audit::record(connection, actor, "user.reset_password", &format!("user {id}"), now_ms)?;
        sign_in_links::add(connection, id, link, actor, now_ms)
    })
}

/// Switches off the second factor of somebody who lost it; they sign in with their password alone then.
///
/// # Errors
/// The engine's; to have none is no error.
pub fn reset_second_factor(
    connection: &mut Connection,
    id: i64,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    second_factors::remove(connection, id, "user.reset_second_factor", actor, now_ms)
}

/// The part of a transaction that replaces a password: sessions end, and a link that was given out opens nothing any more.
pub(super) fn replace_password(
    connection: &mut Connection,
    id: i64,
    password_hash: &str,
) -> Result<(), Error> {
    let rows = diesel::update(users::table.find(id).filter(users::deleted_at_ms.is_null()))
        .set(users::password_hash.eq(password_hash))
        .execute(connection)?;
    found(rows)?;
    diesel::delete(sessions::table.filter(sessions::user_id.eq(id))).execute(connection)?;
    sign_in_links::revoke(connection, id)
}

/// Makes a user an admin, or no longer one.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `user` for the last admin who can sign in.
pub fn set_admin(
    connection: &mut Connection,
    id: i64,
    is_admin: bool,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        if !is_admin {
            admins::leave_one(connection, id)?;
        }
        let rows = diesel::update(users::table.find(id).filter(users::deleted_at_ms.is_null()))
            .set(users::is_admin.eq(is_admin))
            .execute(connection)?;
        found(rows)?;
        let action = if is_admin { "user.make_admin" } else { "user.unmake_admin" };
        audit::record(connection, actor, action, &format!("user {id}"), now_ms)
    })
}

/// Deletes a user: sessions and keys are gone at once, the name is free again. The row stays without a login, because
/// charges and grants refer to it; what open calls hold settles on it as usual.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `user` for the last admin who can sign in.
pub fn delete(connection: &mut Connection, id: i64, actor: &Actor, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        admins::leave_one(connection, id)?;
        let name = find(connection, id)?.name;
        let rows = diesel::update(users::table.find(id).filter(users::deleted_at_ms.is_null()))
            .set((
                users::name.eq(deleted_name(&name, id)),
                users::password_hash.eq(NO_PASSWORD),
                users::is_admin.eq(false),
                users::enabled.eq(false),
                users::revision.eq(users::revision + 1),
                users::deleted_at_ms.eq(now_ms),
            ))
            .execute(connection)?;
        found(rows)?;
        // Behind the update: a key that was being made meanwhile is there by now.
        diesel::delete(api_keys::table.filter(api_keys::user_id.eq(id))).execute(connection)?;
        diesel::delete(sessions::table.filter(sessions::user_id.eq(id))).execute(connection)?;
        diesel::delete(schema::sign_in_links::table.find(id)).execute(connection)?;
        second_factors::forget(connection, id)?;
        diesel::delete(group_users::table.filter(group_users::user_id.eq(id))).execute(connection)?;
        diesel::delete(responses::table.filter(responses::user_id.eq(id))).execute(connection)?;
        audit::record(connection, actor, "user.delete", &format!("user {id} {name}"), now_ms)
    })
}
