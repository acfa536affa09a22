//! Charges: the usage log. The ledger alone writes these rows; everybody else reads.

use super::Connection;
use super::charge_list::{ChargeQuery, Way};
use super::prices::PriceVersion;
use super::schema::{api_keys, charges, prices};
use crate::error::Error;
use diesel::prelude::*;
use std::collections::BTreeMap;

/// The stored words of a charge's state.
pub mod state {
    /// Credits are set aside; the call is under way.
    pub const HELD: &str = "held";
    /// Charged.
    pub const SETTLED: &str = "settled";
    /// Nothing was charged.
    pub const RELEASED: &str = "released";
}

/// One metered call, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = charges)]
pub struct Charge {
    /// Row, and the request's id.
    pub id: i64,
    /// Whose account.
    pub user_id: i64,
    /// Whose key; it may be gone.
    pub key_id: i64,
    /// The key's name at that time.
    pub key_name: String,
    /// Public model name.
    pub model: String,
    /// Price version.
    pub price_id: i64,
    /// Of the group at that time.
    pub multiplier_micros: i64,
    /// See [`state`].
    pub state: String,
    /// Most it could cost.
    pub held_micros: i64,
    /// Of that, for the input alone.
    pub input_held_micros: i64,
    /// What it did cost.
    pub settled_micros: i64,
    /// How it ended.
    pub outcome: Option<String>,
    /// Who counted.
    pub usage_source: Option<String>,
    /// Cached ones included.
    pub input_tokens: Option<i64>,
    /// Part of the input.
    pub cached_input_tokens: Option<i64>,
    /// Reasoning included.
    pub output_tokens: Option<i64>,
    /// Who served it.
    pub upstream_id: Option<i64>,
    /// HTTP status of the answer.
    pub status: Option<i64>,
    /// From the hold to the first byte of the answer.
    pub first_byte_ms: Option<i64>,
    /// When held.
    pub created_at_ms: i64,
    /// When settled or released.
    pub resolved_at_ms: Option<i64>,
    /// Part of the input.
    pub cache_write_tokens: Option<i64>,
    /// Part of the output.
    pub reasoning_tokens: Option<i64>,
    /// Images made.
    pub images: Option<i64>,
    /// Sound heard.
    pub audio_ms: Option<i64>,
    /// Characters spoken.
    pub characters: Option<i64>,
}

/// A charge, of this user or, without one, of whomever.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, user_id: Option<i64>, id: i64) -> Result<Charge, Error> {
    let mut charge = charges::table.find(id).select(Charge::as_select()).into_boxed();
    if let Some(user_id) = user_id {
        charge = charge.filter(charges::user_id.eq(user_id));
    }
    charge.first(connection).optional()?.ok_or(Error::NotFound)
}

/// The price version that a charge was made with.
///
/// # Errors
/// The engine's.
pub fn price_of(connection: &mut Connection, charge: &Charge) -> Result<PriceVersion, Error> {
    Ok(prices::table.find(charge.price_id).select(PriceVersion::as_select()).first(connection)?)
}

/// The names of keys of `user_id`, and whether they are still there. A deleted one is called as its last charge says.
///
/// # Errors
/// The engine's.
pub fn key_names(
    connection: &mut Connection,
    user_id: i64,
    key_ids: &[i64],
) -> Result<BTreeMap<i64, (String, bool)>, Error> {
    let present: Vec<(i64, String)> = api_keys::table
        .filter(api_keys::user_id.eq(user_id))
        .filter(api_keys::id.eq_any(key_ids))
        .select((api_keys::id, api_keys::name))
        .load(connection)?;
    let mut names: BTreeMap<i64, (String, bool)> =
        present.into_iter().map(|(id, name)| (id, (name, true))).collect();
    for key_id in key_ids {
        if !names.contains_key(key_id) {
            let last = newest_of_key(connection, user_id, *key_id, 1)?;
            names.extend(last.into_iter().map(|charge| (charge.key_id, (charge.key_name, false))));
        }
    }
    Ok(names)
}

/// The newest charges of a key of `user_id`, at most `limit`; a deleted key's too.
///
/// # Errors
/// The engine's.
pub fn newest_of_key(
    connection: &mut Connection,
    user_id: i64,
    key_id: i64,
    limit: usize,
) -> Result<Vec<Charge>, Error> {
    let of_key = ChargeQuery {
        user_id,
        key_id: Some(key_id),
        model: None,
        status: None,
        from_ms: 0,
        until_ms: i64::MAX,
    };
    Ok(of_key.page(connection, Way::Start, limit, None)?.rows)
}

/// The servers that have open holds.
///
/// # Errors
/// The engine's.
pub fn holding_instances(connection: &mut Connection) -> Result<Vec<i64>, Error> {
    Ok(charges::table
        .filter(charges::state.eq(state::HELD))
        .select(charges::instance_id)
        .distinct()
        .load(connection)?)
}

/// Ids of the open holds of a server behind `after_id`, oldest first, at most `limit`.
///
/// # Errors
/// The engine's.
pub fn open_of_instance(
    connection: &mut Connection,
    instance_id: i64,
    after_id: i64,
    limit: i64,
) -> Result<Vec<i64>, Error> {
    Ok(charges::table
        .filter(charges::state.eq(state::HELD))
        .filter(charges::instance_id.eq(instance_id))
        .filter(charges::id.gt(after_id))
        .order(charges::id)
        .limit(limit)
        .select(charges::id)
        .load(connection)?)
}
