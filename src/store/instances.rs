//! Running servers: each registers and heartbeats; a silent one's holds are resolved by recovery.

use super::Connection;
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

/// Says that a server is alive; one that was taken for dead comes back.
///
/// # Errors
/// The engine's.
pub fn heartbeat(connection: &mut Connection, id: i64) -> Result<(), Error> {
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

/// Forgets a server.
///
/// # Errors
/// The engine's.
pub fn remove(connection: &mut Connection, id: i64) -> Result<(), Error> {
    diesel::delete(instances::table.find(id)).execute(connection)?;
    Ok(())
}
