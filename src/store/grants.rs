//! Grants: credits an admin adds to or takes from an account. Append-only; the balance moves in the same transaction.

use super::Connection;
use super::audit::{self, Actor};
use super::paging::{self, Cursor, Page, Place};
use super::schema::{grants, users};
use crate::domain::Invalid;
use crate::domain::credits::{CREDITS_MAX, Credits};
use crate::error::Error;
use diesel::prelude::*;

/// No account may own more: a thousand times the largest amount one may type, far below `i64`'s end.
const BALANCE_MICROS_MAX: i64 = CREDITS_MAX.micros() * 1_000;

/// Adds `amount` (negative: takes) and gives the new balance.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `amount` when it is zero, would leave less than what open calls
/// hold, or exceeds what an account may own.
pub fn grant(
    connection: &mut Connection,
    user_id: i64,
    amount: Credits,
    note: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<Credits, Error> {
    connection.write(|connection| add(connection, user_id, amount, note, actor, now_ms))
}

/// As [`grant`], inside a transaction.
pub(super) fn add(
    connection: &mut Connection,
    user_id: i64,
    amount: Credits,
    note: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<Credits, Error> {
    if amount == Credits::ZERO {
        return Err(Error::invalid("amount", Invalid::new("Enter an amount other than 0.")));
    }
    let micros = amount.micros();
    let moved: Option<i64> = diesel::update(
        users::table
            .find(user_id)
            .filter(users::deleted_at_ms.is_null())
            .filter((users::balance_micros + micros).ge(users::held_micros))
            .filter((users::balance_micros + micros).le(BALANCE_MICROS_MAX)),
    )
    .set(users::balance_micros.eq(users::balance_micros + micros))
    .returning(users::balance_micros)
    .get_result(connection)
    .optional()?;
    let Some(balance_micros) = moved else {
        let (balance, held): (i64, i64) = users::table
            .find(user_id)
            .filter(users::deleted_at_ms.is_null())
            .select((users::balance_micros, users::held_micros))
            .first(connection)?;
        let free = Credits::from_micros(balance - held);
        return Err(Error::invalid(
            "amount",
            if micros < 0 {
                format!("The account has only {free} credits that no open call holds.")
            } else {
                "The account would own more than a trillion credits.".to_owned()
            },
        ));
    };
    diesel::insert_into(grants::table)
        .values((
            grants::user_id.eq(user_id),
            grants::amount_micros.eq(micros),
            grants::note.eq(note),
            grants::actor.eq(&actor.name),
            grants::created_at_ms.eq(now_ms),
        ))
        .execute(connection)?;
    audit::record(connection, actor, "user.grant", &format!("user {user_id} {amount}"), now_ms)?;
    Ok(Credits::from_micros(balance_micros))
}

/// One grant as stored.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = grants)]
pub struct Grant {
    /// Row.
    pub id: i64,
    /// Negative: taken.
    pub amount_micros: i64,
    /// Why; may be empty.
    pub note: String,
    /// Who gave or took it.
    pub actor: String,
    /// When.
    pub created_at_ms: i64,
}

/// A page of the grants of `user_id`, newest first.
///
/// # Errors
/// The engine's.
pub fn page(
    connection: &mut Connection,
    user_id: i64,
    place: &Place,
    limit: usize,
) -> Result<Page<Grant>, Error> {
    let cursor = |grant: &Grant| Cursor::of_id(grant.id);
    paging::read(place, limit, cursor, None, |start, limit| {
        let mut rows = grants::table
            .filter(grants::user_id.eq(user_id))
            .limit(limit)
            .select(Grant::as_select())
            .into_boxed();
        let backwards = place.is_backwards();
        if let Some(start) = start {
            rows = if backwards {
                rows.filter(grants::id.gt(start.id))
            } else {
                rows.filter(grants::id.lt(start.id))
            };
        }
        let rows = if backwards { rows.order(grants::id.asc()) } else { rows.order(grants::id.desc()) };
        Ok(rows.load(connection)?)
    })
}
