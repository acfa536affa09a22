//! The thin part around `decide`: reads the rows of a batch, locked, and writes what was decided.
//! Locks are taken as charges, then accounts, then keys, each in order of id, so that instances never deadlock.

use super::decide::{
    AccountRow, Changes, ChargeRow, HoldRequest, KeyRow, Moved, Resolution, Resolved, Rows, decide_holds,
    decide_resolutions,
};
use super::{Amount, Refusal};
use crate::error::Error;
use crate::store::Connection;
use crate::store::charges::state;
use crate::store::schema::{api_keys, charges, groups, models, users};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use std::collections::{BTreeMap, BTreeSet};

/// The answers to a batch, in its order.
pub(super) struct Answers {
    pub holds: Vec<Result<(), Refusal>>,
    pub resolutions: Vec<Resolved>,
}

/// Decides a batch and writes it, in one transaction: durable when this returns.
/// Resolutions come first: what they free, the holds behind them may take.
pub(super) fn commit(
    connection: &mut Connection,
    instance_id: i64,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Answers, Error> {
    connection.write(|connection| {
        let mut rows = read(connection, holds, resolutions)?;
        let mut changes = Changes::default();
        let resolved = decide_resolutions(&mut rows, resolutions, &mut changes);
        let held = decide_holds(&mut rows, holds, &mut changes);
        write(connection, instance_id, rows.now_ms, holds, resolutions, &changes)?;
        Ok(Answers { holds: held, resolutions: resolved })
    })
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
    let second = i32::try_from(instance_id & 0x7fff_ffff).unwrap_or_default();
    diesel::sql_query("SELECT pg_advisory_lock($1, $2)")
        .bind::<Integer, _>(WRITER_LOCK)
        .bind::<Integer, _>(second)
        .execute(connection)?;
    Ok(Some(diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(connection)?))
}

/// Runs a query with its rows locked where the engine has row locks; SQLite's writer has the file to itself.
macro_rules! locked {
    ($connection:expr, $query:expr) => {
        match $connection {
            Connection::Sqlite(connection) => $query.load(connection),
            Connection::Postgres(connection) => $query.for_no_key_update().load(connection),
        }
    };
}

fn read(
    connection: &mut Connection,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Rows, Error> {
    let mut rows = Rows::default();
    let charge_ids: BTreeSet<i64> = resolutions.iter().map(|resolution| resolution.charge_id).collect();
    if !charge_ids.is_empty() {
        rows.charges = read_charges(connection, &charge_ids)?;
    }
    let of_charges = || rows.charges.values();
    let user_ids: BTreeSet<i64> =
        of_charges().map(|charge| charge.user_id).chain(holds.iter().map(|hold| hold.user_id)).collect();
    let key_ids: BTreeSet<i64> =
        of_charges().map(|charge| charge.key_id).chain(holds.iter().map(|hold| hold.key_id)).collect();
    rows.accounts = read_accounts(connection, &user_ids)?;
    rows.keys = read_keys(connection, &key_ids)?;
    if !holds.is_empty() {
        let group_ids: BTreeSet<i64> = holds.iter().map(|hold| hold.group_id).collect();
        let model_ids: BTreeSet<i64> = holds.iter().map(|hold| hold.model_id).collect();
        rows.groups = groups::table
            .filter(groups::id.eq_any(group_ids))
            .select((groups::id, groups::revision))
            .load::<(i64, i64)>(connection)?
            .into_iter()
            .collect();
        rows.models = models::table
            .filter(models::id.eq_any(model_ids))
            .select((models::id, models::revision))
            .load::<(i64, i64)>(connection)?
            .into_iter()
            .collect();
    }
    // Read last: whoever waited for a lock is judged by the moment it was granted.
    rows.now_ms = connection.now_ms()?;
    Ok(rows)
}

fn read_charges(connection: &mut Connection, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, ChargeRow>, Error> {
    let loaded: Vec<(i64, i64, i64, String, i64, i64)> = locked!(
        connection,
        charges::table.filter(charges::id.eq_any(ids)).order(charges::id).select((
            charges::id,
            charges::user_id,
            charges::key_id,
            charges::state,
            charges::held_micros,
            charges::input_held_micros,
        ))
    )?;
    let row = |(id, user_id, key_id, word, held_micros, input_held_micros): (_, _, _, String, _, _)| {
        (id, ChargeRow { user_id, key_id, open: word == state::HELD, held_micros, input_held_micros })
    };
    Ok(loaded.into_iter().map(row).collect())
}

fn read_accounts(
    connection: &mut Connection,
    ids: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, AccountRow>, Error> {
    let loaded: Vec<(i64, i64, i64, i64)> = locked!(
        connection,
        users::table.filter(users::id.eq_any(ids)).order(users::id).select((
            users::id,
            users::revision,
            users::balance_micros,
            users::held_micros
        ))
    )?;
    let row = |(id, revision, balance_micros, held_micros)| {
        (id, AccountRow { revision, balance_micros, held_micros })
    };
    Ok(loaded.into_iter().map(row).collect())
}

fn read_keys(connection: &mut Connection, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, KeyRow>, Error> {
    type Columns = (i64, i64, Option<i64>, Option<i64>, i64, i64);
    let loaded: Vec<Columns> = locked!(
        connection,
        api_keys::table.filter(api_keys::id.eq_any(ids)).order(api_keys::id).select((
            api_keys::id,
            api_keys::revision,
            api_keys::expires_at_ms,
            api_keys::credit_limit_micros,
            api_keys::credits_used_micros,
            api_keys::credits_held_micros,
        ))
    )?;
    let row = |(id, revision, expires_at_ms, credit_limit_micros, used_micros, held_micros)| {
        (id, KeyRow { revision, expires_at_ms, credit_limit_micros, used_micros, held_micros })
    };
    Ok(loaded.into_iter().map(row).collect())
}

fn write(
    connection: &mut Connection,
    instance_id: i64,
    now_ms: i64,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
    changes: &Changes,
) -> Result<(), Error> {
    for &index in &changes.opened {
        insert_charge(connection, instance_id, now_ms, &holds[index])?;
    }
    for &(index, settled_micros) in &changes.closed {
        close_charge(connection, now_ms, &resolutions[index], settled_micros)?;
    }
    for (&id, moved) in &changes.accounts {
        move_account(connection, id, moved)?;
    }
    for (&id, moved) in &changes.keys {
        move_key(connection, id, moved, now_ms)?;
    }
    Ok(())
}

fn insert_charge(
    connection: &mut Connection,
    instance_id: i64,
    now_ms: i64,
    hold: &HoldRequest,
) -> Result<(), Error> {
    diesel::insert_into(charges::table)
        .values((
            charges::id.eq(hold.charge_id),
            charges::user_id.eq(hold.user_id),
            charges::key_id.eq(hold.key_id),
            charges::key_name.eq(&hold.key_name),
            charges::model.eq(&hold.model),
            charges::price_id.eq(hold.price_id),
            charges::multiplier_micros.eq(hold.multiplier_micros),
            charges::instance_id.eq(instance_id),
            charges::state.eq(state::HELD),
            charges::held_micros.eq(hold.held_micros),
            charges::input_held_micros.eq(hold.input_held_micros),
            charges::created_at_ms.eq(now_ms),
        ))
        .execute(connection)?;
    Ok(())
}

fn close_charge(
    connection: &mut Connection,
    now_ms: i64,
    resolution: &Resolution,
    settled_micros: i64,
) -> Result<(), Error> {
    let word = if resolution.amount == Amount::Release { state::RELEASED } else { state::SETTLED };
    let usage = resolution.usage;
    let rows =
        diesel::update(charges::table.find(resolution.charge_id).filter(charges::state.eq(state::HELD)))
            .set((
                charges::state.eq(word),
                charges::settled_micros.eq(settled_micros),
                charges::outcome.eq(resolution.outcome.as_str()),
                charges::usage_source.eq(usage.map(|(_, source)| source.as_str())),
                charges::input_tokens.eq(usage.map(|(usage, _)| usage.input_tokens)),
                charges::cached_input_tokens.eq(usage.map(|(usage, _)| usage.cached_input_tokens)),
                charges::output_tokens.eq(usage.map(|(usage, _)| usage.output_tokens)),
                charges::upstream_id.eq(resolution.upstream_id),
                charges::status.eq(resolution.status.map(i64::from)),
                charges::first_byte_ms.eq(resolution.first_byte_ms),
                charges::resolved_at_ms.eq(now_ms),
            ))
            .execute(connection)?;
    one_row(rows, "charge", resolution.charge_id)
}

fn move_account(connection: &mut Connection, id: i64, moved: &Moved) -> Result<(), Error> {
    let rows = diesel::update(users::table.find(id))
        .set((
            users::balance_micros.eq(users::balance_micros - moved.settled_micros),
            users::held_micros.eq(users::held_micros + moved.held_micros),
        ))
        .execute(connection)?;
    one_row(rows, "account", id)
}

fn move_key(connection: &mut Connection, id: i64, moved: &Moved, now_ms: i64) -> Result<(), Error> {
    let money = (
        api_keys::credits_used_micros.eq(api_keys::credits_used_micros + moved.settled_micros),
        api_keys::credits_held_micros.eq(api_keys::credits_held_micros + moved.held_micros),
    );
    let key = diesel::update(api_keys::table.find(id));
    let rows = if moved.used_now {
        key.set((money, api_keys::last_used_at_ms.eq(now_ms))).execute(connection)?
    } else {
        key.set(money).execute(connection)?
    };
    one_row(rows, "key", id)
}

/// The row was locked and there when it was read; anything else rolls the batch back.
fn one_row(rows: usize, what: &str, id: i64) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::Internal(format!("{what} {id} was not updated"))) }
}
