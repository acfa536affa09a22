//! What a batch changes, written. A row is the values of one of the ledger's statements, in its order: SQLite gets a
//! statement a row, PostgreSQL, where a round trip is what costs, one for the batch.

use super::Amount;
use super::decide::{Changes, HoldRequest, Moved, Resolution, Rows};
use super::statements::{
    Batch, Bind, CLOSE_CHARGE, MOVE_ACCOUNT, MOVE_KEY, MOVE_UNUSED_KEY, OPEN_CHARGE, Statement,
};
use crate::error::Error;
use crate::store::Connection;
use crate::store::charges::state;
use diesel::prelude::*;

pub(super) fn write(
    connection: &mut Connection,
    instance_id: i64,
    rows: &Rows,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
    changes: &Changes,
) -> Result<(), Error> {
    let (now_ms, resolved_at_ms) = (rows.now_ms, rows.resolution_ms());
    let opened = changes.opened.iter().map(|&index| open_row(&holds[index], instance_id, now_ms));
    let closed =
        changes.closed.iter().map(|&(index, micros)| close_row(&resolutions[index], micros, resolved_at_ms));
    let accounts = changes.accounts.iter().map(|(&id, moved)| account_row(id, moved));
    let keys = changes.keys.iter().map(|(&id, moved)| (moved.was_unused, key_row(id, moved, now_ms)));
    match connection {
        Connection::Sqlite(connection) => {
            for binds in opened {
                all_rows(Statement::<OPEN_CHARGE> { binds: &binds }.execute(connection)?, 1, "charges")?;
            }
            for binds in closed {
                all_rows(Statement::<CLOSE_CHARGE> { binds: &binds }.execute(connection)?, 1, "charges")?;
            }
            for binds in accounts {
                all_rows(Statement::<MOVE_ACCOUNT> { binds: &binds }.execute(connection)?, 1, "accounts")?;
            }
            for (was_unused, binds) in keys {
                let written = match was_unused {
                    true => Statement::<MOVE_UNUSED_KEY> { binds: &binds }.execute(connection)?,
                    false => Statement::<MOVE_KEY> { binds: &binds }.execute(connection)?,
                };
                all_rows(written, 1, "keys")?;
            }
        }
        Connection::Postgres(connection) => {
            let batch = Batch::new(opened, closed, accounts, keys.map(|(_, binds)| binds));
            let (opened, closed, accounts, keys): (i64, i64, i64, i64) = batch.get_result(connection)?;
            let written = [(opened, changes.opened.len()), (closed, changes.closed.len())];
            for (written, expected) in written {
                all_rows(usize::try_from(written).unwrap_or_default(), expected, "charges")?;
            }
            all_rows(usize::try_from(accounts).unwrap_or_default(), changes.accounts.len(), "accounts")?;
            all_rows(usize::try_from(keys).unwrap_or_default(), changes.keys.len(), "keys")?;
        }
    }
    Ok(())
}

/// A new charge.
fn open_row(hold: &HoldRequest, instance_id: i64, now_ms: i64) -> [Bind<'_>; 11] {
    let number = |value| Bind::Number(Some(value));
    [
        number(hold.charge_id),
        number(hold.user_id),
        number(hold.key_id),
        Bind::Text(Some(&hold.key_name)),
        Bind::Text(Some(&hold.model)),
        number(hold.price_id),
        number(hold.multiplier_micros),
        number(instance_id),
        number(hold.held_micros),
        number(hold.input_held_micros),
        number(now_ms),
    ]
}

/// What a resolution changes of its charge.
fn close_row(resolution: &Resolution, settled_micros: i64, resolved_at_ms: i64) -> [Bind<'static>; 17] {
    let is_release = resolution.amount == Amount::Release;
    let (usage, source) = resolution.usage.unzip();
    let number = |value| Bind::Number(Some(value));
    [
        Bind::Text(Some(if is_release { state::RELEASED } else { state::SETTLED })),
        number(settled_micros),
        Bind::Text(Some(resolution.outcome.as_str())),
        Bind::Text(source.map(|source| source.as_str())),
        Bind::Number(usage.map(|usage| usage.input_tokens)),
        Bind::Number(usage.map(|usage| usage.cached_input_tokens)),
        Bind::Number(usage.map(|usage| usage.output_tokens)),
        Bind::Number(resolution.upstream_id),
        Bind::Number(resolution.status.map(i64::from)),
        Bind::Number(resolution.first_byte_ms),
        number(resolved_at_ms),
        Bind::Number(usage.map(|usage| usage.cache_write_tokens)),
        Bind::Number(usage.map(|usage| usage.reasoning_tokens)),
        Bind::Number(usage.map(|usage| usage.images)),
        Bind::Number(usage.map(|usage| usage.audio_ms)),
        Bind::Number(usage.map(|usage| usage.characters)),
        number(resolution.charge_id),
    ]
}

/// What a batch changes of an account.
fn account_row(id: i64, moved: &Moved) -> [Bind<'static>; 3] {
    [moved.settled_micros, moved.held_micros, id].map(|value| Bind::Number(Some(value)))
}

/// What a batch changes of a key.
fn key_row(id: i64, moved: &Moved, now_ms: i64) -> [Bind<'static>; 4] {
    let used_at_ms = moved.used_now.then_some(now_ms);
    [Some(moved.settled_micros), Some(moved.held_micros), used_at_ms, Some(id)].map(Bind::Number)
}

/// The rows were locked and there when they were read; anything else rolls the batch back.
fn all_rows(written: usize, expected: usize, what: &str) -> Result<(), Error> {
    if written == expected {
        return Ok(());
    }
    Err(Error::Internal(format!("{written} of {expected} {what} were written")))
}
