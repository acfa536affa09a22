//! Running servers: each registers and heartbeats; a silent one's holds are resolved by recovery.

use super::Connection;
use super::schema::instances;
use crate::error::Error;
use diesel::dsl::exists;
use diesel::prelude::*;
use std::time::Duration;

/// A server whose heartbeat stands still for this long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Registers a server that works with this master key (its [`Vault::fingerprint`]) and gives its id, never used before.
///
/// [`Vault::fingerprint`]: crate::vault::Vault::fingerprint
///
/// # Errors
/// The engine's.
pub fn register(connection: &mut Connection, master_key: &str) -> Result<i64, Error> {
    let now_ms = connection.now_ms()?;
    Ok(diesel::insert_into(instances::table)
        .values((
            instances::started_at_ms.eq(now_ms),
            instances::heartbeat_at_ms.eq(now_ms),
            instances::master_key.eq(master_key),
        ))
        .returning(instances::id)
        .get_result(connection)?)
}

/// Says that a server is alive; one that was taken for dead comes back.
///
/// # Errors
/// The engine's.
pub fn heartbeat(connection: &mut Connection, id: i64, master_key: &str) -> Result<(), Error> {
    let now_ms = connection.now_ms()?;
    connection.write(|connection| {
        let rows = diesel::update(instances::table.find(id))
            .set(instances::heartbeat_at_ms.eq(now_ms))
            .execute(connection)?;
        if rows == 0 {
            diesel::insert_into(instances::table)
                .values((
                    instances::id.eq(id),
                    instances::started_at_ms.eq(now_ms),
                    instances::heartbeat_at_ms.eq(now_ms),
                    instances::master_key.eq(master_key),
                ))
                .execute(connection)?;
        }
        Ok(())
    })
}

/// Every registered server with its last heartbeat, which others compare with the one they saw before.
///
/// # Errors
/// The engine's.
pub fn heartbeats(connection: &mut Connection) -> Result<Vec<(i64, i64)>, Error> {
    Ok(instances::table.select((instances::id, instances::heartbeat_at_ms)).load(connection)?)
}

/// Whether a server that lives, or was heard of within [`SILENCE_MAX`], works with another master key than this.
///
/// # Errors
/// The engine's.
pub fn has_other_master_key(connection: &mut Connection, master_key: &str) -> Result<bool, Error> {
    let since_ms = alive_since_ms(connection)?;
    let others = instances::table
        .filter(instances::heartbeat_at_ms.gt(since_ms))
        .filter(instances::master_key.ne(master_key));
    Ok(diesel::select(exists(others)).get_result(connection)?)
}

/// Whether a server lives, or was heard of within [`SILENCE_MAX`].
///
/// # Errors
/// The engine's.
pub fn is_any_alive(connection: &mut Connection) -> Result<bool, Error> {
    let since_ms = alive_since_ms(connection)?;
    // Of the columns those alone that every release has had: it is asked while a backup of an earlier one is restored.
    let alive = instances::table.filter(instances::heartbeat_at_ms.gt(since_ms)).select(instances::id);
    Ok(diesel::select(exists(alive)).get_result(connection)?)
}

fn alive_since_ms(connection: &mut Connection) -> Result<i64, Error> {
    let silence_ms = i64::try_from(SILENCE_MAX.as_millis()).unwrap_or(i64::MAX);
    Ok(connection.now_ms()? - silence_ms)
}

/// Forgets a server.
///
/// # Errors
/// The engine's.
pub fn remove(connection: &mut Connection, id: i64) -> Result<(), Error> {
    diesel::delete(instances::table.find(id)).execute(connection)?;
    Ok(())
}
