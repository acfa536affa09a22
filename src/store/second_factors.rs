//! Second factors: at most one for each user, pending until its first code was given.

use super::Connection;
use super::audit::{self, Actor};
use super::found;
use super::recovery_codes;
use super::schema::{second_factors, sessions};
use crate::error::Error;
use diesel::prelude::*;

/// A second factor as stored.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = second_factors)]
pub struct SecondFactor {
    /// Sealed for this user.
    pub ciphertext: Vec<u8>,
    /// When it was switched on; `None`: it is pending, and asked for nowhere.
    pub confirmed_at_ms: Option<i64>,
}

/// The second factor of a user, on or pending.
///
/// # Errors
/// The engine's.
pub fn find(connection: &mut Connection, user_id: i64) -> Result<Option<SecondFactor>, Error> {
    Ok(second_factors::table.find(user_id).select(SecondFactor::as_select()).first(connection).optional()?)
}

/// Whether a user's second factor is on.
///
/// # Errors
/// The engine's.
pub fn is_on(connection: &mut Connection, user_id: i64) -> Result<bool, Error> {
    Ok(find(connection, user_id)?.is_some_and(|factor| factor.confirmed_at_ms.is_some()))
}

/// Begins one, or begins anew one that is pending.
///
/// # Errors
/// [`Error::Conflict`] when it is on.
pub fn begin(connection: &mut Connection, user_id: i64, ciphertext: &[u8], now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        let pending = second_factors::table.find(user_id).filter(second_factors::confirmed_at_ms.is_null());
        diesel::delete(pending).execute(connection)?;
        diesel::insert_into(second_factors::table)
            .values((
                second_factors::user_id.eq(user_id),
                second_factors::ciphertext.eq(ciphertext),
                second_factors::created_at_ms.eq(now_ms),
            ))
            .execute(connection)
            .map_err(conflict)?;
        Ok(())
    })
}

/// The user has one already that is on, or began one at the same moment.
fn conflict(error: diesel::result::Error) -> Error {
    use diesel::result::{DatabaseErrorKind, Error as Diesel};
    match error {
        Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Error::Conflict,
        other => other.into(),
    }
}

/// Switches on the pending one of this ciphertext by its first code, of `step`, with its recovery codes. No session of the
/// user has given it yet.
///
/// # Errors
/// [`Error::Conflict`] when it is not pending any more.
pub fn switch_on(
    connection: &mut Connection,
    user_id: i64,
    ciphertext: &[u8],
    step: i64,
    recovery: &[[u8; 32]],
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let pending = second_factors::table
            .find(user_id)
            .filter(second_factors::ciphertext.eq(ciphertext))
            .filter(second_factors::confirmed_at_ms.is_null());
        let rows = diesel::update(pending)
            .set((second_factors::confirmed_at_ms.eq(now_ms), second_factors::last_step.eq(step)))
            .execute(connection)?;
        found(rows).map_err(|_| Error::Conflict)?;
        recovery_codes::replace_all(connection, user_id, recovery)?;
        diesel::update(sessions::table.filter(sessions::user_id.eq(user_id)))
            .set(sessions::confirmed_at_ms.eq(0))
            .execute(connection)?;
        audit::record(connection, actor, "user.second_factor_on", &format!("user {user_id}"), now_ms)
    })
}

/// Uses the code of `step` up. `false`: it was used before, or a later one was.
///
/// # Errors
/// The engine's.
pub fn use_step(connection: &mut Connection, user_id: i64, step: i64) -> Result<bool, Error> {
    let unused = second_factors::table
        .find(user_id)
        .filter(second_factors::confirmed_at_ms.is_not_null())
        .filter(second_factors::last_step.lt(step));
    Ok(diesel::update(unused).set(second_factors::last_step.eq(step)).execute(connection)? == 1)
}

/// Switches a user's second factor off, by themselves (`action` says so) or by an admin.
///
/// # Errors
/// The engine's; to have none is no error.
pub(super) fn remove(
    connection: &mut Connection,
    user_id: i64,
    action: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        if !forget(connection, user_id)? {
            return Ok(());
        }
        audit::record(connection, actor, action, &format!("user {user_id}"), now_ms)
    })
}

/// The part of a transaction that forgets it. `false`: there was none.
pub(super) fn forget(connection: &mut Connection, user_id: i64) -> Result<bool, Error> {
    recovery_codes::replace_all(connection, user_id, &[])?;
    Ok(diesel::delete(second_factors::table.find(user_id)).execute(connection)? > 0)
}

/// Switches a user's own second factor off.
///
/// # Errors
/// The engine's; to have none is no error.
pub fn switch_off(
    connection: &mut Connection,
    user_id: i64,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    remove(connection, user_id, "user.second_factor_off", actor, now_ms)
}

/// A sealed secret of anybody, to try the master key on.
///
/// # Errors
/// The engine's.
pub fn any_ciphertext(connection: &mut Connection) -> Result<Option<(i64, Vec<u8>)>, Error> {
    Ok(second_factors::table
        .select((second_factors::user_id, second_factors::ciphertext))
        .first(connection)
        .optional()?)
}
