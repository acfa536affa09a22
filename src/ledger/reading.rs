//! The rows that a batch depends on: read, and locked where others write as well.
//! Locks are taken as charges, then accounts, then keys, each in order of id, so that instances never deadlock.

use super::decide::{AccountRow, ChargeRow, HoldRequest, KeyRow, Resolution, Rows};
use crate::clock;
use crate::error::Error;
use crate::store::Connection;
use crate::store::charges::state;
use crate::store::schema::{api_keys, charges, groups, key_credits, models, usage_progress, users};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Nullable};
use std::collections::{BTreeMap, BTreeSet};

/// Up to this many rows are cheaper to ask for one by one, with a statement that stays prepared, than by a list. (diesel's
/// `first` would bind a limit, and SQLite plans a statement anew for every limit it is given.)
const ONE_BY_ONE_MAX: usize = 8;

/// Loads columns of the rows of some ids, in order of id; locked where the engine has row locks: SQLite's writer has the
/// file to itself.
macro_rules! rows {
    ($connection:expr, $table:ident, $ids:expr, $columns:expr, $row:ty) => {
        match $connection {
            Connection::Sqlite(connection) if $ids.len() <= ONE_BY_ONE_MAX => {
                let mut rows = Vec::with_capacity($ids.len());
                for id in $ids {
                    let row: Option<$row> =
                        $table::table.find(*id).select($columns).get_result(connection).optional()?;
                    rows.extend(row);
                }
                rows
            }
            Connection::Sqlite(connection) => {
                $table::table.filter($table::id.eq_any($ids)).select($columns).load::<$row>(connection)?
            }
            Connection::Postgres(connection) => $table::table
                .filter($table::id.eq_any($ids))
                .order($table::id)
                .select($columns)
                .for_no_key_update()
                .load::<$row>(connection)?,
        }
    };
}

pub(super) fn read(
    connection: &mut Connection,
    rows: &mut Rows,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<(), Error> {
    let charge_ids = unknown(resolutions.iter().map(|resolution| resolution.charge_id), &rows.charges);
    if !charge_ids.is_empty() {
        rows.charges.extend(read_charges(connection, &charge_ids)?);
    }
    let charges = || resolutions.iter().filter_map(|resolution| rows.charges.get(&resolution.charge_id));
    let user_ids = charges().map(|charge| charge.user_id).chain(holds.iter().map(|hold| hold.user_id));
    let user_ids = unknown(user_ids, &rows.accounts);
    let key_ids = charges().map(|charge| charge.key_id).chain(holds.iter().map(|hold| hold.key_id));
    let key_ids = unknown(key_ids, &rows.keys);
    if !user_ids.is_empty() {
        rows.accounts.extend(read_accounts(connection, &user_ids)?);
    }
    if !key_ids.is_empty() {
        rows.keys.extend(read_keys(connection, &key_ids)?);
    }
    // A hold depends on these and does not change them: they are read, not locked.
    let group_ids = unknown(holds.iter().map(|hold| hold.group_id), &rows.groups);
    let model_ids = unknown(holds.iter().map(|hold| hold.model_id), &rows.models);
    // The moment is read last: whoever waited for a lock is judged by when it was granted.
    match connection {
        Connection::Sqlite(sqlite) => {
            for id in group_ids {
                let columns = (groups::id, groups::revision);
                rows.groups.extend(
                    groups::table.find(id).select(columns).get_result::<(i64, i64)>(sqlite).optional()?,
                );
            }
            for id in model_ids {
                let columns = (models::id, models::revision);
                rows.models.extend(
                    models::table.find(id).select(columns).get_result::<(i64, i64)>(sqlite).optional()?,
                );
            }
            if !resolutions.is_empty() {
                rows.closing_ms =
                    usage_progress::table.find(1).select(usage_progress::closing_ms).get_result(sqlite)?;
            }
            rows.now_ms = clock::now_ms();
        }
        Connection::Postgres(postgres) => {
            let (group_ids, model_ids) = (group_ids.into_iter().collect(), model_ids.into_iter().collect());
            for (what, id, value) in (Unlocked { group_ids, model_ids }).load::<(i64, i64, i64)>(postgres)? {
                match what {
                    Unlocked::GROUP => drop(rows.groups.insert(id, value)),
                    Unlocked::MODEL => drop(rows.models.insert(id, value)),
                    Unlocked::CLOSING => rows.closing_ms = value,
                    _ => rows.now_ms = value,
                }
            }
        }
    }
    Ok(())
}

/// Those of `ids` that are not known yet, in order, each once.
fn unknown<T>(ids: impl Iterator<Item = i64>, known: &BTreeMap<i64, T>) -> BTreeSet<i64> {
    ids.filter(|id| !known.contains_key(id)).collect()
}

fn read_charges(connection: &mut Connection, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, ChargeRow>, Error> {
    type Columns = (i64, i64, i64, String, i64, i64);
    let loaded = rows!(
        connection,
        charges,
        ids,
        (
            charges::id,
            charges::user_id,
            charges::key_id,
            charges::state,
            charges::held_micros,
            charges::input_held_micros,
        ),
        Columns
    );
    let row = |(id, user_id, key_id, word, held_micros, input_held_micros): (_, _, _, String, _, _)| {
        (id, ChargeRow { user_id, key_id, open: word == state::HELD, held_micros, input_held_micros })
    };
    Ok(loaded.into_iter().map(row).collect())
}

fn read_accounts(
    connection: &mut Connection,
    ids: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, AccountRow>, Error> {
    type Columns = (i64, i64, i64, i64);
    let loaded = rows!(
        connection,
        users,
        ids,
        (users::id, users::revision, users::balance_micros, users::held_micros),
        Columns
    );
    let row = |(id, revision, balance_micros, held_micros)| {
        (id, AccountRow { revision, balance_micros, held_micros })
    };
    Ok(loaded.into_iter().map(row).collect())
}

fn read_keys(connection: &mut Connection, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, KeyRow>, Error> {
    let columns = (
        key_credits::key_id,
        api_keys::revision,
        api_keys::expires_at_ms,
        api_keys::credit_limit_micros,
        key_credits::credits_used_micros,
        key_credits::credits_held_micros,
        key_credits::last_used_at_ms,
    );
    let keys = key_credits::table.inner_join(api_keys::table).select(columns);
    let mut loaded: Vec<KeyColumns> = Vec::with_capacity(ids.len());
    match connection {
        Connection::Sqlite(connection) if ids.len() <= ONE_BY_ONE_MAX => {
            for id in ids {
                let row: Option<KeyColumns> =
                    keys.filter(key_credits::key_id.eq(*id)).get_result(connection).optional()?;
                loaded.extend(row);
            }
        }
        Connection::Sqlite(connection) => {
            loaded = keys.filter(key_credits::key_id.eq_any(ids)).load(connection)?;
        }
        Connection::Postgres(connection) => {
            loaded = LockedKeys(ids.iter().copied().collect()).load(connection)?;
        }
    }
    let row =
        |(id, revision, expires_at_ms, credit_limit_micros, used_micros, held_micros, last_used_at_ms)| {
            let row = KeyRow {
                revision,
                expires_at_ms,
                credit_limit_micros,
                used_micros,
                held_micros,
                last_used_at_ms,
            };
            (id, row)
        };
    Ok(loaded.into_iter().map(row).collect())
}

type KeyColumns = (i64, i64, Option<i64>, Option<i64>, i64, i64, Option<i64>);

/// Keys with their credits locked: nobody else moves these, nor deletes the key. Its settings are what they were when this
/// was asked, which is later than the call came.
struct LockedKeys(Vec<i64>);

impl QueryFragment<Pg> for LockedKeys {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT c.key_id, k.revision, k.expires_at_ms, k.credit_limit_micros, c.credits_used_micros, \
             c.credits_held_micros, c.last_used_at_ms FROM key_credits c JOIN api_keys k ON k.id = c.key_id WHERE c.key_id = ANY(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.0)?;
        out.push_sql(") ORDER BY c.key_id FOR NO KEY UPDATE OF c");
        Ok(())
    }
}

impl QueryId for LockedKeys {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for LockedKeys {
    type SqlType = (BigInt, BigInt, Nullable<BigInt>, Nullable<BigInt>, BigInt, BigInt, Nullable<BigInt>);
}

impl RunQueryDsl<PgConnection> for LockedKeys {}

/// What a hold depends on and nobody locks, what is closed, and the moment, in one round trip: rows of what it is, an id and a value.
struct Unlocked {
    group_ids: Vec<i64>,
    model_ids: Vec<i64>,
}

impl Unlocked {
    const GROUP: i64 = 0;
    const MODEL: i64 = 1;
    const CLOSING: i64 = 2;
}

impl QueryFragment<Pg> for Unlocked {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT 0::bigint, id, revision FROM groups WHERE id = ANY(");
        out.push_bind_param::<Array<BigInt>, _>(&self.group_ids)?;
        out.push_sql(") UNION ALL SELECT 1, id, revision FROM models WHERE id = ANY(");
        out.push_bind_param::<Array<BigInt>, _>(&self.model_ids)?;
        out.push_sql(
            ") UNION ALL SELECT 2, 0, closing_ms FROM usage_progress WHERE id = 1 \
             UNION ALL SELECT 3, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint",
        );
        Ok(())
    }
}

impl QueryId for Unlocked {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Unlocked {
    type SqlType = (BigInt, BigInt, BigInt);
}

impl RunQueryDsl<PgConnection> for Unlocked {}
