//! Who made which response at which upstream, so that it is found again, by its own account alone.

use super::Connection;
use super::schema::responses;
use crate::domain::response::ResponseId;
use crate::error::Error;
use diesel::prelude::*;

/// A response that an upstream keeps.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = responses)]
pub struct StoredResponse {
    /// Whose.
    pub user_id: i64,
    /// What the upstream calls it.
    pub response_id: String,
    /// Who made it.
    pub upstream_id: i64,
    /// Public name of the model.
    pub model: String,
    /// Of its input and output: the context of whatever continues it.
    pub tokens: i64,
    /// When made.
    pub created_at_ms: i64,
}

/// Remembers a response.
///
/// # Errors
/// The engine's.
pub fn create(connection: &mut Connection, new: &StoredResponse) -> Result<(), Error> {
    connection.write(|connection| {
        // An upstream that gives an id twice means the newer.
        diesel::delete(responses::table.find((new.user_id, &new.response_id))).execute(connection)?;
        diesel::insert_into(responses::table).values(new).execute(connection)?;
        Ok(())
    })
}

/// A response of this user.
///
/// # Errors
/// The engine's.
pub fn find(
    connection: &mut Connection,
    user_id: i64,
    id: &ResponseId,
) -> Result<Option<StoredResponse>, Error> {
    Ok(responses::table
        .find((user_id, id.as_str()))
        .select(StoredResponse::as_select())
        .first(connection)
        .optional()?)
}

/// Forgets a response of this user.
///
/// # Errors
/// The engine's.
pub fn delete(connection: &mut Connection, user_id: i64, id: &ResponseId) -> Result<(), Error> {
    diesel::delete(responses::table.find((user_id, id.as_str()))).execute(connection)?;
    Ok(())
}

/// Forgets responses made before `before_ms`, the oldest first, at most `limit`; gives how many.
///
/// # Errors
/// The engine's.
pub fn sweep(connection: &mut Connection, before_ms: i64, limit: i64) -> Result<usize, Error> {
    let old: Vec<(i64, String)> = responses::table
        .filter(responses::created_at_ms.lt(before_ms))
        .order(responses::created_at_ms)
        .limit(limit)
        .select((responses::user_id, responses::response_id))
        .load(connection)?;
    for (user_id, id) in &old {
        diesel::delete(responses::table.find((*user_id, id))).execute(connection)?;
    }
    Ok(old.len())
}
