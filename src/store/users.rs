//! Users: logins and account totals. Balances change only here by grants (see `grants`) and in the ledger.

use super::Connection;
use super::audit::{self, Actor};
use super::schema::{sessions, users};
use super::{found, taken};
use crate::domain::user::UserName;
use crate::error::Error;
use diesel::prelude::*;

/// Stands in the column of who has none.
const NO_PASSWORD: &str = "";

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
    Ok(diesel::select(diesel::dsl::exists(users::table.select(users::id))).get_result(connection)?)
}

/// The user of an id.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, id: i64) -> Result<User, Error> {
    Ok(users::table.find(id).select(User::as_select()).first(connection)?)
}

/// The user of a name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_by_name(connection: &mut Connection, name: &str) -> Result<User, Error> {
    Ok(users::table.filter(users::name.eq(name)).select(User::as_select()).first(connection)?)
}

/// The user of a name with the password hash, if they have one, to check a sign-in.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_for_sign_in(connection: &mut Connection, name: &str) -> Result<(User, Option<String>), Error> {
    let (user, hash): (User, String) = users::table
        .filter(users::name.eq(name))
        .select((User::as_select(), users::password_hash))
        .first(connection)?;
    Ok((user, Some(hash).filter(|hash| hash != NO_PASSWORD)))
}

/// All users, by name.
///
/// # Errors
/// The engine's.
pub fn list(connection: &mut Connection) -> Result<Vec<User>, Error> {
    Ok(users::table.order(users::name).select(User::as_select()).load(connection)?)
}

/// Switches a user on or off. Off ends their sessions; their keys stop because every hold reads this row.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_enabled(
    connection: &mut Connection,
    id: i64,
    enabled: bool,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let rows = diesel::update(users::table.find(id))
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

/// Sets a password and ends every session of the user but the one of `keep_session` (its key's digest).
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_password(
    connection: &mut Connection,
    id: i64,
    password_hash: &str,
    keep_session: Option<&[u8]>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        replace_password(connection, id, password_hash, keep_session)?;
        audit::record(connection, actor, "user.set_password", &format!("user {id}"), now_ms)
    })
}

/// Takes a user's password away and ends their sessions: they come in again by a sign-in link alone.
///
/// # Errors
/// [`Error::NotFound`].
pub fn clear_password(connection: &mut Connection, id: i64, actor: &Actor, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        replace_password(connection, id, NO_PASSWORD, None)?;
        audit::record(connection, actor, "user.clear_password", &format!("user {id}"), now_ms)
    })
}

/// The part of a transaction that replaces a password.
pub(super) fn replace_password(
    connection: &mut Connection,
    id: i64,
    password_hash: &str,
    keep_session: Option<&[u8]>,
) -> Result<(), Error> {
    let rows = diesel::update(users::table.find(id))
        .set(users::password_hash.eq(password_hash))
        .execute(connection)?;
    found(rows)?;
    diesel::delete(
        sessions::table
            .filter(sessions::user_id.eq(id))
            .filter(sessions::key_digest.ne(keep_session.unwrap_or_default())),
    )
    .execute(connection)?;
    Ok(())
}
