//! What a batch changes, written to SQLite; and the values of a charge when it is opened and closed, which PostgreSQL gets as
//! well. A row is the values of one of the ledger's statements, in its order.

use super::Amount;
use super::decide::{Changes, HoldRequest, Moved, Resolution, Rows};
use super::rows::Commands;
use super::statements::{
    Bind, CLOSE_CHARGE, MOVE_ACCOUNT, MOVE_KEY, MOVE_UNUSED_KEY, OPEN_CHARGE, Statement,
};
use crate::error::Error;
use crate::store::charges::state;
use diesel::prelude::*;

/// Of a charge that is opened, without the moment.
pub(super) const OPEN_VALUES: usize = 10;
/// Of a charge that is closed, without the moment.
pub(super) const CLOSE_VALUES: usize = 16;

pub(super) fn write(
    connection: &mut SqliteConnection,
    instance_id: i64,
    rows: &Rows,
    Commands { holds, resolutions }: Commands<'_>,
    changes: &Changes,
) -> Result<(), Error> {
    let now_ms = rows.now_ms;
    for &index in &changes.opened {
        let binds: [_; 1 + OPEN_VALUES] = at(now_ms, &open_values(&holds[index], instance_id));
        one_row(Statement::<OPEN_CHARGE> { binds: &binds }.execute(connection)?, "charge")?;
    }
    for &(index, micros) in &changes.closed {
        let values = close_values(&resolutions[index], micros);
        let binds: [_; 1 + CLOSE_VALUES] = at(rows.resolution_ms(), &values);
        one_row(Statement::<CLOSE_CHARGE> { binds: &binds }.execute(connection)?, "charge")?;
    }
    for (&id, moved) in &changes.accounts {
        let binds = account_row(id, moved);
        one_row(Statement::<MOVE_ACCOUNT> { binds: &binds }.execute(connection)?, "account")?;
    }
    for (&id, moved) in &changes.keys {
        let binds = key_row(id, moved, now_ms);
        let written = match moved.was_unused {
            true => Statement::<MOVE_UNUSED_KEY> { binds: &binds }.execute(connection)?,
            false => Statement::<MOVE_KEY> { binds: &binds }.execute(connection)?,
        };
        one_row(written, "key")?;
    }
    Ok(())
}

/// The values behind their moment.
fn at<'a, const N: usize>(at_ms: i64, values: &[Bind<'a>]) -> [Bind<'a>; N] {
    let mut binds = [Bind::Number(Some(at_ms)); N];
    binds[1..].copy_from_slice(values);
    binds
}

/// Of a new charge.
pub(super) fn open_values(hold: &HoldRequest, instance_id: i64) -> [Bind<'_>; OPEN_VALUES] {
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
    ]
}

/// What a resolution changes of its charge.
pub(super) fn close_values(resolution: &Resolution, settled_micros: i64) -> [Bind<'static>; CLOSE_VALUES] {
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

/// The row was there when it was read; anything else rolls the batch back.
fn one_row(written: usize, what: &str) -> Result<(), Error> {
    if written == 1 {
        return Ok(());
    }
    Err(Error::Internal(format!("{written} rows of a {what} were written")))
}
