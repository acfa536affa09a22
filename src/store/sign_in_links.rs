//! One-time sign-in links: at most one for each user, of which only the token's digest is stored.

use super::Connection;
use super::audit::{self, Actor};
use super::found;
use super::schema::{sign_in_links, users};
use super::users::{User, replace_password};
use crate::domain::sign_in_link::{LIFETIME_MS, LinkDigest};
use crate::error::Error;
use diesel::prelude::*;

/// Makes a link for a user; the one before stops to work. Gives the moment until which it may be used.
/// The password the user has, if any, works until then: see [`super::users::reset_password`].
///
/// # Errors
/// [`Error::NotFound`] when there is no such user.
pub fn create(
    connection: &mut Connection,
    user_id: i64,
    digest: &LinkDigest,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    connection.write(|connection| add(connection, user_id, digest, actor, now_ms))
}

/// As [`create`], inside a transaction.
pub(super) fn add(
    connection: &mut Connection,
    user_id: i64,
    digest: &LinkDigest,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    let expires_at_ms = now_ms.saturating_add(LIFETIME_MS);
    // Changes nothing but locks the row: of two who make a link at once, the later one's works.
    let present = users::table.find(user_id).filter(users::deleted_at_ms.is_null());
    found(diesel::update(present).set(users::id.eq(user_id)).execute(connection)?)?;
    revoke(connection, user_id)?;
    diesel::insert_into(sign_in_links::table)
        .values((
            sign_in_links::user_id.eq(user_id),
            sign_in_links::digest.eq(&digest.0[..]),
            sign_in_links::created_at_ms.eq(now_ms),
            sign_in_links::expires_at_ms.eq(expires_at_ms),
        ))
        .execute(connection)?;
    audit::record(connection, actor, "user.sign_in_link", &format!("user {user_id}"), now_ms)?;
    Ok(expires_at_ms)
}

/// The link of a user, if there is one, opens nothing any more.
pub(super) fn revoke(connection: &mut Connection, user_id: i64) -> Result<(), Error> {
    diesel::delete(sign_in_links::table.find(user_id)).execute(connection)?;
    Ok(())
}

/// Until when the link of a user may be used, if there is one.
///
/// # Errors
/// The engine's.
pub fn expiry(connection: &mut Connection, user_id: i64, now_ms: i64) -> Result<Option<i64>, Error> {
    Ok(sign_in_links::table
        .find(user_id)
        .filter(sign_in_links::expires_at_ms.gt(now_ms))
        .select(sign_in_links::expires_at_ms)
        .first(connection)
        .optional()?)
}

/// The user whose link it is, without using it up.
///
/// # Errors
/// [`Error::NotFound`] when there is none, it was used or replaced, it is too old, or the user is disabled.
pub fn find(connection: &mut Connection, digest: &LinkDigest, now_ms: i64) -> Result<User, Error> {
    Ok(sign_in_links::table
        .inner_join(users::table)
        .filter(sign_in_links::digest.eq(&digest.0[..]))
        .filter(sign_in_links::expires_at_ms.gt(now_ms))
        .filter(users::enabled.eq(true))
        .select(User::as_select())
        .first(connection)?)
}

/// Uses the link up: sets the password and ends every session of the user. However many try at once, one succeeds.
///
/// # Errors
/// As [`find`].
pub fn take(
    connection: &mut Connection,
    digest: &LinkDigest,
    password_hash: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<User, Error> {
    connection.write(|connection| {
        let user = find(connection, digest, now_ms)?;
        let of_digest = sign_in_links::table.filter(sign_in_links::digest.eq(&digest.0[..]));
        found(diesel::delete(of_digest).execute(connection)?)?;
        replace_password(connection, user.id, password_hash)?;
        let subject = format!("user {}", user.id);
        audit::record(connection, actor, "user.sign_in_link_used", &subject, now_ms)?;
        Ok(user)
    })
}
