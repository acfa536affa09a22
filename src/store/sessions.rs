//! Browser sessions: an opaque state per session key, of which only the digest is stored, and what their owner may
//! know of them.

use super::Connection;
use super::audit::{self, Actor};
use super::found;
use super::schema::{sessions, users};
use super::users::User;
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
    /// Whose it is; `None` before the password.
    pub user_id: Option<i64>,
    /// By which its owner's list knows it; `None` before they are signed in.
    pub id: Option<&'a str>,
    /// From where.
    pub client_ip: Option<&'a str>,
    /// What the browser says it is.
    pub user_agent: &'a str,
    /// What the session framework keeps.
    pub state: &'a str,
    /// When the second factor was given, or who has none signed in.
    pub confirmed_at_ms: i64,
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
                sessions::id.eq(new.id),
                sessions::client_ip.eq(new.client_ip),
                sessions::user_agent.eq(new.user_agent),
                sessions::state.eq(new.state),
                sessions::created_at_ms.eq(now_ms),
                sessions::last_seen_at_ms.eq(now_ms),
                sessions::confirmed_at_ms.eq(new.confirmed_at_ms),
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

/// A session of somebody who is signed in.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct Session {
    /// `None`: they are not signed in yet.
    pub id: Option<String>,
    /// Where it was last used from.
    pub client_ip: Option<String>,
    /// What the browser said it is.
    pub user_agent: String,
    /// When they signed in.
    pub created_at_ms: i64,
    /// When it was last used, give or take a few minutes.
    pub last_seen_at_ms: i64,
    /// When the second factor was last given, or they signed in.
    pub confirmed_at_ms: i64,
}

/// The session `id` of a user, with the user's row as it is now.
///
/// # Errors
/// [`Error::NotFound`] when it has ended.
pub fn find(
    connection: &mut Connection,
    user_id: i64,
    id: &str,
    now_ms: i64,
) -> Result<(User, Session), Error> {
    Ok(sessions::table
        .inner_join(users::table)
        .filter(sessions::id.eq(id))
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::expires_at_ms.gt(now_ms))
        .select((User::as_select(), Session::as_select()))
        .first(connection)?)
}

/// The sessions of a user, the one last used first; at most `limit`.
///
/// # Errors
/// The engine's.
pub fn list(
    connection: &mut Connection,
    user_id: i64,
    limit: i64,
    now_ms: i64,
) -> Result<Vec<Session>, Error> {
    Ok(sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::id.is_not_null())
        .filter(sessions::expires_at_ms.gt(now_ms))
        .order((sessions::last_seen_at_ms.desc(), sessions::id))
        .limit(limit)
        .select(Session::as_select())
        .load(connection)?)
}

/// Notes that a session is used, and from where.
///
/// # Errors
/// The engine's; one that has ended is no error.
pub fn see(connection: &mut Connection, id: &str, client_ip: &str, now_ms: i64) -> Result<(), Error> {
    diesel::update(sessions::table.filter(sessions::id.eq(id)))
        .set((sessions::last_seen_at_ms.eq(now_ms), sessions::client_ip.eq(client_ip)))
        .execute(connection)?;
    Ok(())
}

/// Notes that the second factor was given in a session.
///
/// # Errors
/// The engine's; one that has ended is no error.
pub fn confirm(connection: &mut Connection, user_id: i64, id: &str, now_ms: i64) -> Result<(), Error> {
    let session = sessions::table.filter(sessions::id.eq(id)).filter(sessions::user_id.eq(user_id));
    diesel::update(session).set(sessions::confirmed_at_ms.eq(now_ms)).execute(connection)?;
    Ok(())
}

/// Ends one session of a user.
///
/// # Errors
/// [`Error::NotFound`] when it has ended already.
pub fn end(
    connection: &mut Connection,
    user_id: i64,
    id: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let session = sessions::table.filter(sessions::id.eq(id)).filter(sessions::user_id.eq(user_id));
        found(diesel::delete(session).execute(connection)?)?;
        audit::record(connection, actor, "session.end", &format!("user {user_id}"), now_ms)
    })
}

/// Ends all sessions of a user but the one of the id `keep`; also those that wait for the second factor. Gives how many
/// of the signed-in there were.
///
/// # Errors
/// The engine's.
pub fn end_others(
    connection: &mut Connection,
    user_id: i64,
    keep: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<usize, Error> {
    connection.write(|connection| {
        let waiting = sessions::table.filter(sessions::user_id.eq(user_id)).filter(sessions::id.is_null());
        diesel::delete(waiting).execute(connection)?;
        let others = sessions::table.filter(sessions::user_id.eq(user_id)).filter(sessions::id.ne(keep));
        let ended = diesel::delete(others).execute(connection)?;
        audit::record(connection, actor, "session.end_others", &format!("user {user_id}"), now_ms)?;
        Ok(ended)
    })
}
