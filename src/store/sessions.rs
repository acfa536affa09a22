//! Browser sessions: an opaque state per session key, of which only the digest is stored.

use super::Connection;
use super::found;
use super::schema::sessions;
use crate::error::Error;
use diesel::prelude::*;

/// The state of a live session.
///
/// # Errors
/// The engine's.
pub fn load(connection: &mut Connection, key_digest: &[u8], now_ms: i64) -> Result<Option<String>, Error> {
    Ok(sessions::table
        .find(key_digest)
        .filter(sessions::expires_at_ms.gt(now_ms))
        .select(sessions::state)
        .first(connection)
        .optional()?)
}

/// A session to be stored.
pub struct NewSession<'a> {
    /// SHA-256 of its key.
    pub key_digest: &'a [u8],
    /// Whose it is; `None` before sign-in.
    pub user_id: Option<i64>,
    /// What the session framework keeps.
    pub state: &'a str,
    /// When it ends by itself.
    pub expires_at_ms: i64,
}

/// Stores a new session, and forgets those that have ended.
///
/// # Errors
/// The engine's.
pub fn create(connection: &mut Connection, new: &NewSession<'_>, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        diesel::delete(sessions::table.filter(sessions::expires_at_ms.le(now_ms))).execute(connection)?;
        diesel::insert_into(sessions::table)
            .values((
                sessions::key_digest.eq(new.key_digest),
                sessions::user_id.eq(new.user_id),
                sessions::state.eq(new.state),
                sessions::created_at_ms.eq(now_ms),
                sessions::expires_at_ms.eq(new.expires_at_ms),
            ))
            .execute(connection)?;
        Ok(())
    })
}

/// Replaces the state of a live session; a session that was ended in the meantime stays ended.
///
/// # Errors
/// [`Error::NotFound`] when it is gone.
pub fn update(connection: &mut Connection, session: &NewSession<'_>, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        let rows = diesel::update(
            sessions::table.find(session.key_digest).filter(sessions::expires_at_ms.gt(now_ms)),
        )
        .set((
            sessions::user_id.eq(session.user_id),
            sessions::state.eq(session.state),
            sessions::expires_at_ms.eq(session.expires_at_ms),
        ))
        .execute(connection)?;
        found(rows)
    })
}

/// Moves the end of a live session.
///
/// # Errors
/// [`Error::NotFound`] when it is gone.
pub fn set_expiry(
    connection: &mut Connection,
    key_digest: &[u8],
    expires_at_ms: i64,
    now_ms: i64,
) -> Result<(), Error> {
    let rows = diesel::update(sessions::table.find(key_digest).filter(sessions::expires_at_ms.gt(now_ms)))
        .set(sessions::expires_at_ms.eq(expires_at_ms))
        .execute(connection)?;
    found(rows)
}

/// Ends a session; one that is gone already is no error.
///
/// # Errors
/// The engine's.
pub fn delete(connection: &mut Connection, key_digest: &[u8]) -> Result<(), Error> {
    diesel::delete(sessions::table.find(key_digest)).execute(connection)?;
    Ok(())
}
