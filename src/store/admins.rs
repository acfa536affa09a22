//! A house always has an admin who can sign in.

use super::Connection;
use super::schema::users;
use super::users::NO_PASSWORD;
use crate::domain::Invalid;
use crate::error::Error;
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

/// Those who take power from admins do it one after the other. Any number, the same in every release.
const ADMINS_LOCK: i64 = 0x6b65_7961_646d_696e; // "keyadmin"

/// Refuses, inside a transaction that would take power from a user, if no other admin could sign in. Two admins who do
/// it to each other at once wait here for one another, so that the second sees what the first has done.
pub(super) fn leave_one(connection: &mut Connection, id: i64) -> Result<(), Error> {
    if let Connection::Postgres(postgres) = connection {
        diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
            .bind::<BigInt, _>(ADMINS_LOCK)
            .execute(postgres)?;
    }
    let admins = || users::table.filter(users::is_admin.eq(true)).filter(users::enabled.eq(true));
    let is_one: bool = diesel::select(exists(admins().filter(users::id.eq(id)))).get_result(connection)?;
    // One who has never set a password may never come.
    let others = admins().filter(users::id.ne(id)).filter(users::password_hash.ne(NO_PASSWORD));
    let is_other: bool = diesel::select(exists(others)).get_result(connection)?;
    if is_one && !is_other {
        let why = "This is the last admin who can sign in. Make another user an admin first.";
        return Err(Error::invalid("user", Invalid::new(why)));
    }
    Ok(())
}
