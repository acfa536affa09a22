//! Calls that never were, for `keyhouse demo` alone: resolved charges with moments in the past, and the sums that go with
//! them, so that the books of a demo are as true as any. All other charges are the ledger's.

use super::Connection;
use super::charges::state;
use super::schema::{charges, key_credits, users};
use super::usage_rollup;
use crate::domain::charge::ChargeStatus;
use crate::domain::usage::{Usage, UsageSource};
use crate::error::Error;
use diesel::prelude::*;
use std::collections::BTreeMap;

/// A call that has ended.
#[derive(Debug, Clone)]
pub struct PastCall {
    /// Of the charge.
    pub id: i64,
    /// Whose.
    pub user_id: i64,
    /// By which key.
    pub key_id: i64,
    /// Its name.
    pub key_name: String,
    /// Of which model.
    pub model: String,
    /// Its price version.
    pub price_id: i64,
    /// Of the key's group.
    pub multiplier_micros: i64,
    /// Most it could cost.
    pub held_micros: i64,
    /// What it cost: nothing of what failed.
    pub settled_micros: i64,
    /// How it ended.
    pub status: ChargeStatus,
    /// What it used: nothing of what failed.
    pub usage: Usage,
    /// Who served it.
    pub upstream_id: Option<i64>,
    /// When it began.
    pub created_at_ms: i64,
    /// How long it took to the first byte, and in all.
    pub took_ms: (i64, i64),
}

/// Stores them, and moves the money of their accounts and keys.
///
/// # Errors
/// When usage has been summed up already: what is past by then stays as it is. The engine's.
pub fn store(connection: &mut Connection, calls: &[PastCall]) -> Result<(), Error> {
    connection.write(|connection| {
        if usage_rollup::progress(connection)?.closing_ms > 0 {
            return Err(Error::Internal("the past of this house is closed".into()));
        }
        let mut keys = BTreeMap::<(i64, i64), (i64, i64)>::new();
        for call in calls {
            insert(connection, call)?;
            let (settled_micros, last_used_at_ms) = keys.entry((call.user_id, call.key_id)).or_default();
            *settled_micros += call.settled_micros;
            *last_used_at_ms = (*last_used_at_ms).max(call.created_at_ms);
        }
        for ((user_id, key_id), (settled_micros, last_used_at_ms)) in keys {
            diesel::update(users::table.find(user_id))
                .set(users::balance_micros.eq(users::balance_micros - settled_micros))
                .execute(connection)?;
            diesel::update(key_credits::table.find(key_id))
                .set((
                    key_credits::credits_used_micros.eq(key_credits::credits_used_micros + settled_micros),
                    key_credits::last_used_at_ms.eq(last_used_at_ms),
                ))
                .execute(connection)?;
        }
        Ok(())
    })
}

fn insert(connection: &mut Connection, call: &PastCall) -> Result<(), Error> {
    let failed = call.status == ChargeStatus::Failed;
    let counted = |count: i64| (!failed).then_some(count);
    let (first_byte_ms, duration_ms) = call.took_ms;
    diesel::insert_into(charges::table)
        .values((
            (
                charges::id.eq(call.id),
                charges::user_id.eq(call.user_id),
                charges::key_id.eq(call.key_id),
                charges::key_name.eq(&call.key_name),
                charges::model.eq(&call.model),
                charges::price_id.eq(call.price_id),
                charges::multiplier_micros.eq(call.multiplier_micros),
                charges::instance_id.eq(0),
                charges::state.eq(if failed { state::RELEASED } else { state::SETTLED }),
                charges::held_micros.eq(call.held_micros),
                charges::input_held_micros.eq(0),
                charges::settled_micros.eq(call.settled_micros),
            ),
            (
                charges::outcome.eq(call.status.outcome()),
                charges::usage_source.eq(counted(0).map(|_| UsageSource::Upstream.as_str())),
                charges::input_tokens.eq(counted(call.usage.input_tokens)),
                charges::cached_input_tokens.eq(counted(call.usage.cached_input_tokens)),
                charges::output_tokens.eq(counted(call.usage.output_tokens)),
                charges::upstream_id.eq(call.upstream_id),
                charges::status.eq(if failed { 502 } else { 200 }),
                charges::first_byte_ms.eq(counted(first_byte_ms)),
                charges::created_at_ms.eq(call.created_at_ms),
                charges::resolved_at_ms.eq(call.created_at_ms + duration_ms),
            ),
        ))
        .execute(connection)?;
    Ok(())
}
