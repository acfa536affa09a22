//! Recovery codes: digests, each gone once its code was used.

use super::Connection;
use super::audit::{self, Actor};
use super::schema::recovery_codes;
use crate::error::Error;
use diesel::prelude::*;

/// How many a user has left.
///
/// # Errors
/// The engine's.
pub fn left(connection: &mut Connection, user_id: i64) -> Result<i64, Error> {
    Ok(recovery_codes::table.filter(recovery_codes::user_id.eq(user_id)).count().get_result(connection)?)
}

/// Whether a code is one of those that this user has left.
///
/// # Errors
/// The engine's.
pub fn is_left(connection: &mut Connection, user_id: i64, digest: &[u8; 32]) -> Result<bool, Error> {
    let row = recovery_codes::table.find((user_id, &digest[..]));
    Ok(row.count().get_result::<i64>(connection)? > 0)
}

/// Replaces all of a user's by new ones.
///
/// # Errors
/// The engine's.
pub fn replace(
    connection: &mut Connection,
    user_id: i64,
    digests: &[[u8; 32]],
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        replace_all(connection, user_id, digests)?;
        audit::record(connection, actor, "user.recovery_codes", &format!("user {user_id}"), now_ms)
    })
}

/// The part of a transaction that replaces them.
pub(super) fn replace_all(
    connection: &mut Connection,
    user_id: i64,
    digests: &[[u8; 32]],
) -> Result<(), Error> {
    diesel::delete(recovery_codes::table.filter(recovery_codes::user_id.eq(user_id))).execute(connection)?;
    for digest in digests {
        diesel::insert_into(recovery_codes::table)
            .values((recovery_codes::user_id.eq(user_id), recovery_codes::digest.eq(&digest[..])))
            .execute(connection)?;
    }
    Ok(())
}

/// Uses a code up. `false`: it is none of this user's, or was used before.
///
/// # Errors
/// The engine's.
pub fn take(
    connection: &mut Connection,
    user_id: i64,
    digest: &[u8; 32],
    actor: &Actor,
    now_ms: i64,
) -> Result<bool, Error> {
    connection.write(|connection| {
        let row = recovery_codes::table.find((user_id, &digest[..]));
        if diesel::delete(row).execute(connection)? == 0 {
            return Ok(false);
        }
        audit::record(connection, actor, "user.recovery_code_used", &format!("user {user_id}"), now_ms)?;
        Ok(true)
    })
}
