//! The thin part around `decide`: reads the rows of a batch, locked, and writes what was decided.
//! Locks are taken as charges, then accounts, then keys, each in order of id, so that instances never deadlock.

use super::decide::{
    AccountRow, Changes, ChargeRow, HoldRequest, KeyRow, Left, Moved, Resolution, Resolved, Rows,
    decide_holds, decide_resolutions,
};
use super::known::Known;
use super::statements::{
    Bind, CLOSE_CHARGE, CLOSE_CHARGES, MOVE_ACCOUNT, MOVE_ACCOUNTS, MOVE_KEY, MOVE_KEYS, OPEN_CHARGE,
    OPEN_CHARGES, Statement,
};
use super::{Amount, Refusal};
use crate::error::Error;
use crate::store::Connection;
use crate::store::charges::state;
use crate::store::schema::{api_keys, charges, groups, key_credits, models, users};
use crate::store::usage_rollup;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer, Nullable};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The answers to a batch, in its order.
pub(super) struct Answers {
    pub holds: Vec<Result<Left, Refusal>>,
    pub resolutions: Vec<Resolved>,
}

/// Decides a batch and writes it, in one transaction: durable when this returns.
/// Resolutions come first: what they free, the holds behind them may take.
pub(super) fn commit(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Answers, Error> {
    let committed = connection.write(|connection| {
        known.begin(connection.data_version()?);
        read(connection, &mut known.rows, holds, resolutions)?;
        let mut changes = Changes::default();
        let resolved = decide_resolutions(&mut known.rows, resolutions, &mut changes);
        let held = decide_holds(&mut known.rows, holds, &mut changes);
        write(connection, instance_id, known.rows.now_ms, holds, resolutions, &changes)?;
        changes.opened.iter().for_each(|&index| known.opened(&holds[index]));
        Ok(Answers { holds: held, resolutions: resolved })
    });
    match &committed {
        Ok(_) => known.committed(resolutions),
        Err(_) => known.forget(),
    }
    committed
}

/// First of the two numbers of the writers' advisory locks; the second is the instance.
const WRITER_LOCK: i32 = 0x6b65_7968; // "keyh"

/// Makes sure that the writer's previous connection is over. SQLite's ended with its file handle; a PostgreSQL
/// server may not have noticed that a connection broke and still be committing, so that session is ended and its
/// lock waited for. Gives the new session's process id.
pub(super) fn fence(
    connection: &mut Connection,
    instance_id: i64,
    previous: Option<i32>,
) -> Result<Option<i32>, Error> {
    let Connection::Postgres(connection) = connection else { return Ok(None) };
    if let Some(backend) = previous {
        // False when it is gone already, which is as good.
        diesel::sql_query("SELECT pg_terminate_backend($1)")
            .bind::<Integer, _>(backend)
            .execute(connection)?;
    }
    // Every statement of the writer reaches its rows by primary key. What the planner believes of tables that have
    // grown since it last looked must not turn that into a scan.
    connection.batch_execute(
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         SET plan_cache_mode = force_generic_plan",
    )?;
    let second = i32::try_from(instance_id & 0x7fff_ffff).unwrap_or_default();
    diesel::sql_query("SELECT pg_advisory_lock($1, $2)")
        .bind::<Integer, _>(WRITER_LOCK)
        .bind::<Integer, _>(second)
        .execute(connection)?;
    Ok(Some(diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(connection)?))
}

/// Up to this many rows are cheaper to ask for one by one, with a statement that stays prepared, than by a list. (diesel's
/// `first` would bind a limit, and SQLite plans a statement anew for every limit it is given.)
const ONE_BY_ONE_MAX: usize = 8;

/// Loads columns of the rows of some ids, in order of id; locked by `$lock` where the engine has row locks: SQLite's
/// writer has the file to itself.
macro_rules! rows {
    ($connection:expr, $table:ident, $ids:expr, $columns:expr, $row:ty $(, $lock:ident)?) => {
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
                $(.$lock())?
                .load::<$row>(connection)?,
        }
    };
}

fn read(
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
    if !group_ids.is_empty() {
        let columns = (groups::id, groups::revision);
        rows.groups.extend(rows!(connection, groups, &group_ids, columns, (i64, i64)));
    }
    let model_ids = unknown(holds.iter().map(|hold| hold.model_id), &rows.models);
    if !model_ids.is_empty() {
        let columns = (models::id, models::revision);
        rows.models.extend(rows!(connection, models, &model_ids, columns, (i64, i64)));
    }
    // Read last: whoever waited for a lock is judged by the moment it was granted. Nothing is resolved at a moment that
    // usage has been summed up to already.
    rows.now_ms = match resolutions.is_empty() {
        true => connection.now_ms()?,
        false => usage_rollup::resolution_moment(connection)?,
    };
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
        Columns,
        for_no_key_update
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
        Columns,
        for_no_key_update
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
    let row = |(id, revision, expires_at_ms, credit_limit_micros, used_micros, held_micros)| {
        (id, KeyRow { revision, expires_at_ms, credit_limit_micros, used_micros, held_micros })
    };
    Ok(loaded.into_iter().map(row).collect())
}

type KeyColumns = (i64, i64, Option<i64>, Option<i64>, i64, i64);

/// Keys with their credits locked: nobody else moves these, nor deletes the key. Its settings are what they were when this
/// was asked, which is later than the call came.
struct LockedKeys(Vec<i64>);

impl QueryFragment<Pg> for LockedKeys {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT c.key_id, k.revision, k.expires_at_ms, k.credit_limit_micros, c.credits_used_micros, \
             c.credits_held_micros FROM key_credits c JOIN api_keys k ON k.id = c.key_id WHERE c.key_id = ANY(",
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
    type SqlType = (BigInt, BigInt, Nullable<BigInt>, Nullable<BigInt>, BigInt, BigInt);
}

impl RunQueryDsl<PgConnection> for LockedKeys {}

fn write(
    connection: &mut Connection,
    instance_id: i64,
    now_ms: i64,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
    changes: &Changes,
) -> Result<(), Error> {
    let opened = changes.opened.iter().map(|&index| OpenRow::new(&holds[index], instance_id, now_ms));
    let closed = changes
        .closed
        .iter()
        .map(|&(index, settled_micros)| CloseRow::new(&resolutions[index], settled_micros, now_ms));
    let accounts = changes.accounts.iter().map(|(&id, moved)| MoveRow::new(id, moved, now_ms));
    let keys = changes.keys.iter().map(|(&id, moved)| MoveRow::new(id, moved, now_ms));
    match connection {
        Connection::Sqlite(connection) => {
            for row in opened {
                all_rows(row.open(connection)?, 1, "charges")?;
            }
            for row in closed {
                all_rows(row.close(connection)?, 1, "charges")?;
            }
            for row in accounts {
                all_rows(row.move_account(connection)?, 1, "accounts")?;
            }
            for row in keys {
                all_rows(row.move_key(connection)?, 1, "keys")?;
            }
        }
        Connection::Postgres(connection) => {
            write_all::<OPEN_CHARGES>(connection, &opened.collect::<Vec<_>>(), "charges")?;
            write_all::<CLOSE_CHARGES>(connection, &closed.collect::<Vec<_>>(), "charges")?;
            write_all::<MOVE_ACCOUNTS>(connection, &accounts.collect::<Vec<_>>(), "accounts")?;
            write_all::<MOVE_KEYS>(connection, &keys.collect::<Vec<_>>(), "keys")?;
        }
    }
    Ok(())
}

/// A new charge as stored.
#[derive(Serialize)]
struct OpenRow<'a> {
    id: i64,
    user_id: i64,
    key_id: i64,
    key_name: &'a str,
    model: &'a str,
    price_id: i64,
    multiplier_micros: i64,
    instance_id: i64,
    held_micros: i64,
    input_held_micros: i64,
    created_at_ms: i64,
}

impl<'a> OpenRow<'a> {
    fn new(hold: &'a HoldRequest, instance_id: i64, now_ms: i64) -> Self {
        Self {
            id: hold.charge_id,
            user_id: hold.user_id,
            key_id: hold.key_id,
            key_name: &hold.key_name,
            model: &hold.model,
            price_id: hold.price_id,
            multiplier_micros: hold.multiplier_micros,
            instance_id,
            held_micros: hold.held_micros,
            input_held_micros: hold.input_held_micros,
            created_at_ms: now_ms,
        }
    }

    fn open(&self, connection: &mut SqliteConnection) -> QueryResult<usize> {
        let number = |value| Bind::Number(Some(value));
        let binds = [
            number(self.id),
            number(self.user_id),
            number(self.key_id),
            Bind::Text(Some(self.key_name)),
            Bind::Text(Some(self.model)),
            number(self.price_id),
            number(self.multiplier_micros),
            number(self.instance_id),
            number(self.held_micros),
            number(self.input_held_micros),
            number(self.created_at_ms),
        ];
        Statement::<OPEN_CHARGE> { binds: &binds }.execute(connection)
    }
}

/// What a resolution changes of its charge.
#[derive(Serialize)]
struct CloseRow {
    id: i64,
    state: &'static str,
    settled_micros: i64,
    outcome: &'static str,
    usage_source: Option<&'static str>,
    input_tokens: Option<i64>,
    cached_input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    upstream_id: Option<i64>,
    status: Option<i64>,
    first_byte_ms: Option<i64>,
    resolved_at_ms: i64,
    cache_write_tokens: Option<i64>,
    reasoning_tokens: Option<i64>,
    images: Option<i64>,
    audio_ms: Option<i64>,
    characters: Option<i64>,
}

impl CloseRow {
    fn new(resolution: &Resolution, settled_micros: i64, now_ms: i64) -> Self {
        let is_release = resolution.amount == Amount::Release;
        let usage = resolution.usage.map(|(usage, _)| usage);
        Self {
            id: resolution.charge_id,
            state: if is_release { state::RELEASED } else { state::SETTLED },
            settled_micros,
            outcome: resolution.outcome.as_str(),
            usage_source: resolution.usage.map(|(_, source)| source.as_str()),
            input_tokens: usage.map(|usage| usage.input_tokens),
            cached_input_tokens: usage.map(|usage| usage.cached_input_tokens),
            output_tokens: usage.map(|usage| usage.output_tokens),
            upstream_id: resolution.upstream_id,
            status: resolution.status.map(i64::from),
            first_byte_ms: resolution.first_byte_ms,
            resolved_at_ms: now_ms,
            cache_write_tokens: usage.map(|usage| usage.cache_write_tokens),
            reasoning_tokens: usage.map(|usage| usage.reasoning_tokens),
            images: usage.map(|usage| usage.images),
            audio_ms: usage.map(|usage| usage.audio_ms),
            characters: usage.map(|usage| usage.characters),
        }
    }

    fn close(&self, connection: &mut SqliteConnection) -> QueryResult<usize> {
        let binds = [
            Bind::Text(Some(self.state)),
            Bind::Number(Some(self.settled_micros)),
            Bind::Text(Some(self.outcome)),
            Bind::Text(self.usage_source),
            Bind::Number(self.input_tokens),
            Bind::Number(self.cached_input_tokens),
            Bind::Number(self.output_tokens),
            Bind::Number(self.upstream_id),
            Bind::Number(self.status),
            Bind::Number(self.first_byte_ms),
            Bind::Number(Some(self.resolved_at_ms)),
            Bind::Number(self.cache_write_tokens),
            Bind::Number(self.reasoning_tokens),
            Bind::Number(self.images),
            Bind::Number(self.audio_ms),
            Bind::Number(self.characters),
            Bind::Number(Some(self.id)),
        ];
        Statement::<CLOSE_CHARGE> { binds: &binds }.execute(connection)
    }
}

/// What a batch changes of an account or a key.
#[derive(Serialize)]
struct MoveRow {
    id: i64,
    settled_micros: i64,
    held_micros: i64,
    used_at_ms: Option<i64>,
}

impl MoveRow {
    fn new(id: i64, moved: &Moved, now_ms: i64) -> Self {
        Self {
            id,
            settled_micros: moved.settled_micros,
            held_micros: moved.held_micros,
            used_at_ms: moved.used_now.then_some(now_ms),
        }
    }

    fn move_account(&self, connection: &mut SqliteConnection) -> QueryResult<usize> {
        let binds = [self.settled_micros, self.held_micros, self.id].map(|value| Bind::Number(Some(value)));
        Statement::<MOVE_ACCOUNT> { binds: &binds }.execute(connection)
    }

    fn move_key(&self, connection: &mut SqliteConnection) -> QueryResult<usize> {
        let binds = [Some(self.settled_micros), Some(self.held_micros), self.used_at_ms, Some(self.id)]
            .map(Bind::Number);
        Statement::<MOVE_KEY> { binds: &binds }.execute(connection)
    }
}

/// Runs one of the statements that take their rows as an array.
fn write_all<const TEXT: usize>(
    connection: &mut PgConnection,
    rows: &[impl Serialize],
    what: &str,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let json = serde_json::to_string(rows).map_err(|error| Error::Internal(error.to_string()))?;
    let written = Statement::<TEXT> { binds: &[Bind::Text(Some(&json))] }.execute(connection)?;
    all_rows(written, rows.len(), what)
}

/// The rows were locked and there when they were read; anything else rolls the batch back.
fn all_rows(written: usize, expected: usize, what: &str) -> Result<(), Error> {
    if written == expected {
        return Ok(());
    }
    Err(Error::Internal(format!("{written} of {expected} {what} were written")))
}
