//! Running servers: each registers, heartbeats, and leaves; a silent one's holds are resolved by recovery.

use super::Connection;
use super::found;
use super::schema::instances;
use crate::error::Error;
use diesel::prelude::*;

/// Registers a server and gives its id, never used before.
///
/// # Errors
/// The engine's.
pub fn register(connection: &mut Connection) -> Result<i64, Error> {
    let now_ms = connection.now_ms()?;
    Ok(diesel::insert_into(instances::table)
        .values((instances::started_at_ms.eq(now_ms), instances::heartbeat_at_ms.eq(now_ms)))
        .returning(instances::id)
        .get_result(connection)?)
}

/// Says that the server is alive.
///
/// # Errors
/// [`Error::NotFound`] when the others took it for dead.
pub fn heartbeat(connection: &mut Connection, id: i64) -> Result<(), Error> {
    let now_ms = connection.now_ms()?;
    let rows = diesel::update(instances::table.find(id))
        .set(instances::heartbeat_at_ms.eq(now_ms))
        .execute(connection)?;
    found(rows)
}

/// Those whose last heartbeat is older than `silent_ms`, but never `own_id`.
///
/// # Errors
/// The engine's.
pub fn silent(connection: &mut Connection, own_id: i64, silent_ms: i64) -> Result<Vec<i64>, Error> {
    let now_ms = connection.now_ms()?;
    Ok(instances::table
        .filter(instances::id.ne(own_id))
        .filter(instances::heartbeat_at_ms.le(now_ms - silent_ms))
        .order(instances::id)
        .select(instances::id)
        .load(connection)?)
}

/// Forgets a server that holds nothing any more.
///
/// # Errors
/// The engine's.
pub fn remove(connection: &mut Connection, id: i64) -> Result<(), Error> {
    diesel::delete(instances::table.find(id)).execute(connection)?;
    Ok(())
}
