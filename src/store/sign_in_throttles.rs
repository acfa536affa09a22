//! How often somebody tried to sign in: a moment for each name and address, both as keyed hashes. In the database, so
//! that neither a restart nor a second instance gives more tries.

use super::Connection;
use super::schema::sign_in_throttles;
use crate::domain::throttle::Allowance;
use crate::error::Error;
use diesel::prelude::*;

/// Rows are forgotten this long after their allowance is full: who counts a try may be about to lock one.
const SPARE_MS: i64 = 60 * 60 * 1000;

/// Whose tries, and how many they have.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// A keyed hash.
    pub hash: [u8; 32],
    /// Theirs.
    pub allowance: Allowance,
}

/// Counts a try of each subject, in this order, up to the first that has none left. Gives how long to wait for that
/// one, in milliseconds; `None`: all had one.
///
/// # Errors
/// The engine's.
pub fn count(connection: &mut Connection, subjects: &[Subject]) -> Result<Option<i64>, Error> {
    let now_ms = connection.now_ms()?;
    // Who is refused already is told without a write: a flood of tries must not keep the database busy.
    for subject in subjects {
        if let Err(wait_ms) = subject.allowance.count(full_at_ms(connection, &subject.hash)?, now_ms) {
            return Ok(Some(wait_ms));
        }
    }
    connection.write(|connection| {
        for subject in subjects {
            lock(connection, &subject.hash)?;
            match subject.allowance.count(full_at_ms(connection, &subject.hash)?, now_ms) {
                Ok(full_at_ms) => {
                    diesel::update(sign_in_throttles::table.find(&subject.hash[..]))
                        .set(sign_in_throttles::full_at_ms.eq(full_at_ms))
                        .execute(connection)?;
                }
                Err(wait_ms) => return Ok(Some(wait_ms)),
            }
        }
        Ok(None)
    })
}

fn full_at_ms(connection: &mut Connection, hash: &[u8]) -> Result<Option<i64>, Error> {
    Ok(sign_in_throttles::table
        .find(hash)
        .select(sign_in_throttles::full_at_ms)
        .first(connection)
        .optional()?)
}

/// Makes the row if there is none, and keeps others from it until the end of the transaction.
fn lock(connection: &mut Connection, hash: &[u8]) -> Result<(), Error> {
    use sign_in_throttles::{full_at_ms, subject};
    let new = (subject.eq(hash), full_at_ms.eq(0));
    let table = sign_in_throttles::table;
    // An update that changes nothing locks all the same.
    match connection {
        Connection::Sqlite(sqlite) => {
            diesel::insert_into(table)
                .values(new)
                .on_conflict(subject)
                .do_update()
                .set(full_at_ms.eq(full_at_ms))
                .execute(sqlite)?;
        }
        Connection::Postgres(postgres) => {
            diesel::insert_into(table)
                .values(new)
                .on_conflict(subject)
                .do_update()
                .set(full_at_ms.eq(full_at_ms))
                .execute(postgres)?;
        }
    }
    Ok(())
}

/// Gives a subject its whole allowance back.
///
/// # Errors
/// The engine's.
pub fn forgive(connection: &mut Connection, hash: &[u8; 32]) -> Result<(), Error> {
    diesel::delete(sign_in_throttles::table.find(&hash[..])).execute(connection)?;
    Ok(())
}

/// Forgets those whose allowance has long been full again.
///
/// # Errors
/// The engine's.
pub fn sweep(connection: &mut Connection) -> Result<(), Error> {
    let before_ms = connection.now_ms()? - SPARE_MS;
    diesel::delete(sign_in_throttles::table.filter(sign_in_throttles::full_at_ms.lt(before_ms)))
        .execute(connection)?;
    Ok(())
}
