//! What admins should know of a house's health: how the newest calls went, and what stands still.

use super::{Connection, ask};
use crate::error::Error;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

/// Keys looked at for exhausted ones: the newest. There is no index over what they have left, since that would cost
/// every call.
const KEYS_LOOKED_AT: i64 = 50_000;
const NAMED_MAX: i64 = 5;

/// A call that has ended, as far as it says something of health.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Ended {
    /// From hold to end.
    #[diesel(sql_type = BigInt)]
    pub duration_ms: i64,
    /// To the first byte.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub first_byte_ms: Option<i64>,
}

/// The calls that ended last, newest first, at most `limit`, none that ended before `from_ms`.
///
/// # Errors
/// The engine's.
pub fn newest_ended(connection: &mut Connection, from_ms: i64, limit: i64) -> Result<Vec<Ended>, Error> {
    Ok(ask!(connection, load,
        "SELECT resolved_at_ms - created_at_ms AS duration_ms, first_byte_ms \
         FROM charges WHERE resolved_at_ms >= $1 ORDER BY resolved_at_ms DESC LIMIT $2",
        BigInt => from_ms,
        BigInt => limit)?)
}

/// How many of something, and the names of a few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// All of them that were looked at.
    pub count: i64,
    /// At most five.
    pub names: Vec<String>,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
}

impl From<Vec<Named>> for Found {
    fn from(rows: Vec<Named>) -> Self {
        Self {
            count: rows.first().map_or(0, |row| row.total),
            names: rows.into_iter().map(|row| row.name).collect(),
        }
    }
}

/// Calls that have been under way since before `before_ms`: how many, by model.
///
/// # Errors
/// The engine's.
pub fn long_open(connection: &mut Connection, before_ms: i64) -> Result<Found, Error> {
    let rows: Vec<Named> = ask!(connection, load,
        "SELECT model || ' by ' || key_name AS name, count(*) OVER () AS total FROM charges \
         WHERE state = 'held' AND created_at_ms < $1 ORDER BY created_at_ms LIMIT $2",
        BigInt => before_ms,
        BigInt => NAMED_MAX)?;
    Ok(rows.into())
}

/// Keys in use whose limit is spent, among the newest.
///
/// # Errors
/// The engine's.
pub fn exhausted_keys(connection: &mut Connection) -> Result<Found, Error> {
    let rows: Vec<Named> = ask!(connection, load,
        "SELECT k.name || ' of ' || u.name AS name, count(*) OVER () AS total FROM (SELECT * FROM api_keys \
         ORDER BY id DESC LIMIT $1) k JOIN users u ON u.id = k.user_id \
         JOIN key_credits c ON c.key_id = k.id WHERE k.enabled AND k.credit_limit_micros IS NOT NULL \
         AND c.credits_used_micros >= k.credit_limit_micros ORDER BY c.last_used_at_ms DESC LIMIT $2",
        BigInt => KEYS_LOOKED_AT,
        BigInt => NAMED_MAX)?;
    Ok(rows.into())
}

/// Accounts in use that had credits and have none left.
///
/// # Errors
/// The engine's.
pub fn spent_accounts(connection: &mut Connection) -> Result<Found, Error> {
    let rows: Vec<Named> = ask!(connection, load,
        "SELECT u.name AS name, count(*) OVER () AS total FROM users u WHERE u.enabled AND u.balance_micros <= 0 \
         AND EXISTS (SELECT 1 FROM grants g WHERE g.user_id = u.id) ORDER BY u.name LIMIT $1",
        BigInt => NAMED_MAX)?;
    Ok(rows.into())
}
