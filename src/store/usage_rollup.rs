//! Keeps the sums of usage behind the charges: what was resolved before a watermark is in them, exactly once; what was
//! resolved since is not. In `charges_of_users` and `charges_of_keys` is all that was resolved before it, and perhaps more.
//! Nothing here decides when; `crate::rollup` does.
//!
//! Charges are summed up in `usage_recent`, a row a key: as many charges at once as there are, in one short transaction.
//! From there the rows are merged into `usage_hourly` and `usage_daily` piece by piece. A row is here or there, and what
//! was used is both together.
//!
//! The watermark lies on the moments at which charges were resolved, and it must never pass a charge that is still to
//! be committed. So a moment is *closed* first: once `closing_ms` is committed, the ledger resolves nothing before it
//! any more (`Rows::resolution_ms`; on PostgreSQL `ledger::confirming`), whatever the clocks say. SQLite has one writer at
//! a time, so that all is said. On PostgreSQL there may be transactions under way that read the earlier value; they had
//! their transaction ids when they read it (behind row locks), so those are over when every id is that was given away
//! until the closing was committed.

use super::schema::{usage_progress, usage_recent};
use super::{Connection, ask};
use crate::domain::expiry::DAY_MS;
use crate::error::Error;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use std::time::{Duration, Instant};

/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 60 * 60 * 1000;
/// Hours are kept for this many days; beyond that there are days.
const HOURLY_DAYS: i64 = 8;

/// How far the rollups have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = usage_progress)]
pub struct Progress {
    /// Charges resolved before this are in the rollups.
    pub rolled_ms: i64,
    /// Nothing is resolved before this any more.
    pub closing_ms: i64,
    /// Hours before this are not kept.
    pub hourly_from_ms: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// How far they are.
///
/// # Errors
/// The engine's.
pub fn progress(connection: &mut Connection) -> Result<Progress, Error> {
    Ok(usage_progress::table.find(1).select(Progress::as_select()).get_result(connection)?)
}

/// A moment before which nothing is resolved any more, once what is under way is over.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    before_ms: i64,
    /// A transaction id of PostgreSQL's: those that come behind it cannot have read an earlier `closing_ms`.
    xid: Option<i64>,
}

/// Closes the present moment, if anything was resolved since the watermark.
///
/// # Errors
/// The engine's.
pub fn close(connection: &mut Connection) -> Result<Option<Closing>, Error> {
    let Progress { rolled_ms, closing_ms, .. } = progress(connection)?;
    if first_behind(connection, rolled_ms, i64::MAX, 0)?.is_none() {
        return Ok(None);
    }
    let before_ms = connection.now_ms()?.max(closing_ms);
    connection.write(|connection| {
        diesel::update(usage_progress::table.find(1).filter(usage_progress::closing_ms.lt(before_ms)))
            .set(usage_progress::closing_ms.eq(before_ms))
            .execute(connection)?;
        Ok(())
    })?;
    // Given behind the commit, and so later than any that was given before: a snapshot's upper edge comes behind those alone
    // that are over.
    let xid = transaction_id(connection, "pg_current_xact_id()")?;
    Ok(Some(Closing { before_ms, xid }))
}

/// Whether every transaction is over that could still resolve a charge before the closed moment.
///
/// # Errors
/// The engine's.
pub fn is_closed(connection: &mut Connection, closing: Closing) -> Result<bool, Error> {
    let oldest = transaction_id(connection, "pg_snapshot_xmin(pg_current_snapshot())")?;
    Ok(closing.xid.is_none_or(|xid| oldest.is_some_and(|oldest| oldest >= xid)))
}

fn transaction_id(connection: &mut Connection, function: &str) -> Result<Option<i64>, Error> {
    let Connection::Postgres(connection) = connection else { return Ok(None) };
    let query = format!("SELECT {function}::text::bigint AS number");
    let found: Number = diesel::sql_query(query).get_result(connection)?;
    Ok(Some(found.number))
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rolled {
    /// Up to the closed moment.
    All,
    /// As many charges as were allowed.
    Some,
    /// Another instance is at it.
    Elsewhere,
}

/// Sums up the oldest of what was resolved before a closed moment, at most about `charges_max` charges. Call it when
/// [`is_closed`] says so. Also says how long that kept others from writing; on PostgreSQL nobody waits.
///
/// # Errors
/// The engine's.
pub fn roll(
    connection: &mut Connection,
    closing: Closing,
    charges_max: i64,
) -> Result<(Rolled, Duration), Error> {
    match connection {
        // What is closed changes no more, so that it can be read before the file is kept from others.
        Connection::Sqlite(_) => {
            let Some(taken) = take(connection, closing, charges_max)? else {
                return Ok((Rolled::All, Duration::ZERO));
            };
            let began = Instant::now();
            let rolled = connection.write(|connection| add_up(connection, taken))?;
            Ok((rolled, began.elapsed()))
        }
        // Of several instances one is enough. All of it is done, or nothing.
        Connection::Postgres(_) => connection.write(|connection| {
            let rolled = if !lock_progress(connection)? {
                Rolled::Elsewhere
            } else if let Some(taken) = take(connection, closing, charges_max)? {
                add_up(connection, taken)?
            } else {
                Rolled::All
            };
            Ok((rolled, Duration::ZERO))
        }),
    }
}

/// The charges that are gathered and listed.
struct Taken {
    from_ms: i64,
    until_ms: i64,
    /// There are more before the closed moment.
    is_part: bool,
}

/// Gathers the next charges, and lists them.
fn take(connection: &mut Connection, closing: Closing, charges_max: i64) -> Result<Option<Taken>, Error> {
    let from_ms = progress(connection)?.rolled_ms;
    let end_ms = first_behind(connection, from_ms, closing.before_ms, charges_max)?;
    let until_ms = end_ms.map_or(closing.before_ms, |end_ms| end_ms.max(from_ms + 1));
    if until_ms <= from_ms {
        return Ok(None);
    }
    gather(connection, (from_ms, until_ms))?;
    enter(connection)?;
    Ok(Some(Taken { from_ms, until_ms, is_part: end_ms.is_some() }))
}

/// Adds them to the sums and moves the watermark, unless somebody else has.
fn add_up(connection: &mut Connection, taken: Taken) -> Result<Rolled, Error> {
    let progress = progress(connection)?;
    if progress.rolled_ms != taken.from_ms {
        return Ok(Rolled::Elsewhere);
    }
    let today_ms = connection.now_ms()? / DAY_MS * DAY_MS;
    let columns = columns();
    connection.batch_execute(&format!(
        "INSERT INTO usage_recent ({KEY}, {columns}) SELECT {KEY}, {columns} FROM gathered WHERE TRUE {}",
        or_add_to("usage_recent")
    ))?;
    diesel::update(usage_progress::table.find(1))
        .set((
            usage_progress::rolled_ms.eq(taken.until_ms),
            usage_progress::hourly_from_ms.eq(progress.hourly_from_ms.max(today_ms - HOURLY_DAYS * DAY_MS)),
        ))
        .execute(connection)?;
    Ok(if taken.is_part { Rolled::Some } else { Rolled::All })
}

/// Whether no other instance is at it, and none will be until the end of the transaction.
fn lock_progress(connection: &mut Connection) -> Result<bool, Error> {
    let Connection::Postgres(connection) = connection else { return Ok(true) };
    let locked: Option<i64> = usage_progress::table
        .find(1)
        .select(usage_progress::id)
        .for_update()
        .skip_locked()
        .first(connection)
        .optional()?;
    Ok(locked.is_some())
}

/// When the charge was resolved that comes behind the `skipped` first ones of a span.
fn first_behind(
    connection: &mut Connection,
    from_ms: i64,
    until_ms: i64,
    skipped: i64,
) -> Result<Option<i64>, Error> {
    use super::schema::charges::dsl::{charges, resolved_at_ms};
    let found: Option<Option<i64>> = charges
        .filter(resolved_at_ms.ge(from_ms))
        .filter(resolved_at_ms.lt(until_ms))
        .order(resolved_at_ms)
        .offset(skipped)
        .select(resolved_at_ms)
        .first(connection)
        .optional()?;
    Ok(found.flatten())
}

/// What is summed up of charges, under the names of the columns; each cast, since PostgreSQL's sum is numeric.
pub(super) const SUMS: [(&str, &str); 8] = [
    ("requests", "count(*)"),
    ("input_tokens", "CAST(sum(coalesce(c.input_tokens, 0)) AS BIGINT)"),
    ("cached_input_tokens", "CAST(sum(coalesce(c.cached_input_tokens, 0)) AS BIGINT)"),
    ("output_tokens", "CAST(sum(coalesce(c.output_tokens, 0)) AS BIGINT)"),
    ("settled_micros", "CAST(sum(c.settled_micros) AS BIGINT)"),
    ("duration_ms", "CAST(sum(c.resolved_at_ms - c.created_at_ms) AS BIGINT)"),
    ("first_byte_ms", "CAST(sum(coalesce(c.first_byte_ms, 0)) AS BIGINT)"),
    ("first_bytes", "count(c.first_byte_ms)"),
];

/// The lists, and their columns in order.
const LISTS: [(&str, &str); 2] = [
    ("charges_of_users", "user_id, created_at_ms, charge_id, price_id"),
    ("charges_of_keys", "user_id, key_id, created_at_ms, charge_id"),
];

/// Rows of a list that are entered in one transaction of SQLite's, which keeps others waiting: a few milliseconds.
const ENTERED_TOGETHER: usize = 2_000;

/// Reads the charges resolved in a span, once, into tables of this connection's own: as they are, and summed up by key and
/// hour.
fn gather(connection: &mut Connection, (from_ms, until_ms): (i64, i64)) -> Result<(), Error> {
    let sums = SUMS.map(|(column, sum)| format!("{sum} AS {column}")).join(", ");
    let mut script = temporary(
        "taken",
        &format!(
            "SELECT id AS charge_id, user_id, key_id, price_id, model, outcome, settled_micros, input_tokens, \
             cached_input_tokens, output_tokens, created_at_ms, first_byte_ms, resolved_at_ms FROM charges \
             WHERE resolved_at_ms >= {from_ms} AND resolved_at_ms < {until_ms}"
        ),
    );
    script += &temporary(
        "gathered",
        &format!(
            "SELECT c.user_id AS user_id, c.key_id AS key_id, c.created_at_ms - c.created_at_ms % {HOUR_MS} AS start_ms, \
             c.model AS model, c.outcome AS outcome, {sums} FROM taken c GROUP BY 1, 2, 3, 4, 5"
        ),
    );
    Ok(connection.batch_execute(&script)?)
}

/// A table of this connection's own, in place of the last of its name.
fn temporary(table: &str, query: &str) -> String {
    format!("DROP TABLE IF EXISTS {table}; CREATE TEMPORARY TABLE {table} AS {query}; ")
}

/// Enters the gathered charges into the lists, in their orders, those that belong together at once.
fn enter(connection: &mut Connection) -> Result<(), Error> {
    for (list, columns) in LISTS {
        let ordered = format!("SELECT {columns} FROM taken ORDER BY {columns}");
        if let Connection::Postgres(_) = connection {
            connection.batch_execute(&format!("INSERT INTO {list} ({columns}) {ordered}"))?;
            continue;
        }
        connection.batch_execute(&temporary("entering", &ordered))?;
        let entering: Number =
            ask!(connection, get_result, "SELECT count(*) AS number FROM entering".to_owned())?;
        for from in (0..entering.number).step_by(ENTERED_TOGETHER) {
            let began = Instant::now();
            let until = from + ENTERED_TOGETHER as i64;
            // What is there already, since an earlier try came to nothing, stays.
            connection.batch_execute(&format!(
                "INSERT INTO {list} ({columns}) SELECT {columns} FROM entering \
                 WHERE rowid > {from} AND rowid <= {until} ON CONFLICT DO NOTHING"
            ))?;
            std::thread::sleep(began.elapsed());
        }
        connection.batch_execute("DROP TABLE entering")?;
    }
    Ok(connection.batch_execute("DROP TABLE taken")?)
}

/// Merges the sums of some keys, about `rows_max` rows, into hours and days: for the keys, for their users, and for
/// everybody. Whether there are more.
///
/// # Errors
/// The engine's.
pub fn merge(connection: &mut Connection, rows_max: i64) -> Result<bool, Error> {
    connection.write(|connection| {
        if !lock_progress(connection)? {
            return Ok(false);
        }
        let by_key = || usage_recent::table.select((usage_recent::user_id, usage_recent::key_id));
        let behind: Option<(i64, i64)> = by_key()
            .order((usage_recent::user_id, usage_recent::key_id))
            .offset(rows_max)
            .first(connection)
            .optional()?;
        let last: Option<(i64, i64)> = match behind {
            Some(key) => Some(key),
            None => by_key()
                .order((usage_recent::user_id.desc(), usage_recent::key_id.desc()))
                .first(connection)
                .optional()?,
        };
        let Some((user_id, key_id)) = last else { return Ok(false) };
        let hourly_from_ms = progress(connection)?.hourly_from_ms;
        for (table, grain_ms, from_ms) in
            [("usage_hourly", HOUR_MS, hourly_from_ms), ("usage_daily", DAY_MS, 0)]
        {
            let columns = columns();
            let sums = SUMS.map(|(column, _)| format!("CAST(sum(r.{column}) AS BIGINT)")).join(", ");
            let query = format!(
                "INSERT INTO {table} ({KEY}, {columns}) \
                 SELECT CASE WHEN level.n = 0 THEN 0 ELSE r.user_id END, CASE WHEN level.n = 2 THEN r.key_id ELSE 0 END, \
                 r.start_ms - r.start_ms % {grain_ms}, r.model, r.outcome, {sums} \
                 FROM usage_recent r CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2) level \
                 WHERE (r.user_id, r.key_id) <= ($1, $2) AND r.start_ms >= $3 GROUP BY 1, 2, 3, 4, 5 {}",
                or_add_to(table)
            );
            ask!(connection, execute, query, BigInt => user_id, BigInt => key_id, BigInt => from_ms)?;
        }
        let merged = "DELETE FROM usage_recent WHERE (user_id, key_id) <= ($1, $2)";
        ask!(connection, execute, merged, BigInt => user_id, BigInt => key_id)?;
        Ok(behind.is_some())
    })
}

/// What a row of sums is of, in all their tables.
pub(super) const KEY: &str = "user_id, key_id, start_ms, model, outcome";

fn columns() -> String {
    SUMS.map(|(column, _)| column).join(", ")
}

/// The end of an INSERT of sums: those of a row that is there already are added to it.
fn or_add_to(table: &str) -> String {
    let added = SUMS.map(|(column, _)| format!("{column} = {table}.{column} + excluded.{column}")).join(", ");
    format!("ON CONFLICT ({KEY}) DO UPDATE SET {added}")
}

/// Deletes one hour that is no longer kept; whether there was one.
///
/// # Errors
/// The engine's.
pub fn prune(connection: &mut Connection) -> Result<bool, Error> {
    use super::schema::usage_hourly::dsl::{start_ms, usage_hourly};
    let hourly_from_ms = progress(connection)?.hourly_from_ms;
    let oldest: Option<i64> = usage_hourly
        .filter(start_ms.lt(hourly_from_ms))
        .order(start_ms)
        .select(start_ms)
        .first(connection)
        .optional()?;
    if let Some(hour) = oldest {
        diesel::delete(usage_hourly.filter(start_ms.eq(hour))).execute(connection)?;
    }
    Ok(oldest.is_some())
}
