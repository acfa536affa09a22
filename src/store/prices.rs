//! The prices of models: versions, never edited. A charge refers to the one it was held at.

use super::audit::{self, Actor};
use super::charges::state;
use super::models::lock;
use super::schema::{charges, charges_of_users, prices};
use super::{Connection, usage_rollup};
use crate::domain::price::Price;
use crate::domain::usage::Usage;
use crate::error::Error;
use diesel::prelude::*;

/// One version of a model's price, as stored.
#[derive(Debug, Clone, Copy, Queryable, Selectable)]
#[diesel(table_name = prices)]
pub struct PriceVersion {
    /// Row; what a charge refers to.
    pub id: i64,
    /// Whose.
    pub model_id: i64,
    /// 1, 2, …
    pub version: i64,
    /// Micro-credits per million input tokens.
    pub input_micros: i64,
    /// Micro-credits per million cached input tokens; `None`: as input.
    pub cached_input_micros: Option<i64>,
    /// Micro-credits per million output tokens.
    pub output_micros: i64,
    /// Micro-credits per request.
    pub per_request_micros: i64,
    /// Micro-credits per million input tokens written to the cache; `None`: as input.
    pub cache_write_micros: Option<i64>,
    /// Micro-credits per image.
    pub per_image_micros: i64,
    /// Micro-credits per second of sound.
    pub per_audio_second_micros: i64,
    /// Micro-credits per million characters.
    pub per_character_micros: i64,
    /// When made.
    pub created_at_ms: i64,
}

impl PriceVersion {
    /// The amounts.
    pub fn price(&self) -> Price {
        Price {
            input_micros: self.input_micros,
            cached_input_micros: self.cached_input_micros,
            cache_write_micros: self.cache_write_micros,
            output_micros: self.output_micros,
            per_request_micros: self.per_request_micros,
            per_image_micros: self.per_image_micros,
            per_audio_second_micros: self.per_audio_second_micros,
            per_character_micros: self.per_character_micros,
        }
    }
}

/// Adds a price version; calls made from now on pay it, charges keep theirs. With `seen`, only if that is the newest
/// version still.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when somebody else set a price since.
pub fn set(
    connection: &mut Connection,
    model_id: i64,
    price: &Price,
    seen: Option<i64>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| add(connection, model_id, price, seen, actor, now_ms))
}

/// As [`set`], inside a transaction.
pub(super) fn add(
    connection: &mut Connection,
    model_id: i64,
    price: &Price,
    seen: Option<i64>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    lock(connection, model_id)?;
    let newest: Option<i64> = prices::table
        .filter(prices::model_id.eq(model_id))
        .select(diesel::dsl::max(prices::version))
        .first(connection)?;
    let newest = newest.unwrap_or(0);
    if seen.is_some_and(|seen| seen != newest) {
        return Err(Error::Conflict);
    }
    insert(connection, model_id, newest + 1, price, now_ms)?;
    audit::record(connection, actor, "model.set_price", &format!("model {model_id}"), now_ms)
}

/// Writes one version.
pub(super) fn insert(
    connection: &mut Connection,
    model_id: i64,
    version: i64,
    price: &Price,
    now_ms: i64,
) -> Result<(), Error> {
    diesel::insert_into(prices::table)
        .values((
            prices::model_id.eq(model_id),
            prices::version.eq(version),
            prices::input_micros.eq(price.input_micros),
            prices::cached_input_micros.eq(price.cached_input_micros),
            prices::output_micros.eq(price.output_micros),
            prices::per_request_micros.eq(price.per_request_micros),
            prices::cache_write_micros.eq(price.cache_write_micros),
            prices::per_image_micros.eq(price.per_image_micros),
            prices::per_audio_second_micros.eq(price.per_audio_second_micros),
            prices::per_character_micros.eq(price.per_character_micros),
            prices::created_at_ms.eq(now_ms),
        ))
        .execute(connection)?;
    Ok(())
}

/// The versions of a model's price, the newest first, at most `limit`.
///
/// # Errors
/// The engine's.
pub fn versions(
    connection: &mut Connection,
    model_id: i64,
    limit: usize,
) -> Result<Vec<PriceVersion>, Error> {
    Ok(prices::table
        .filter(prices::model_id.eq(model_id))
        .order(prices::version.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select(PriceVersion::as_select())
        .load(connection)?)
}

/// What was charged for one call, and what it used.
#[derive(Debug, Clone, Copy, Queryable, Selectable)]
#[diesel(table_name = charges)]
pub struct Paid {
    /// What it cost.
    pub settled_micros: i64,
    /// Of its group at that time.
    pub multiplier_micros: i64,
    /// When held.
    pub created_at_ms: i64,
    input_tokens: Option<i64>,
    cached_input_tokens: Option<i64>,
    cache_write_tokens: Option<i64>,
    output_tokens: Option<i64>,
    images: Option<i64>,
    audio_ms: Option<i64>,
    characters: Option<i64>,
}

impl Paid {
    /// The counts; `None` when it was charged without any, as what a crash left is.
    pub fn usage(&self) -> Option<Usage> {
        let or_none = |count: Option<i64>| count.unwrap_or(0);
        Some(Usage {
            input_tokens: self.input_tokens?,
            cached_input_tokens: or_none(self.cached_input_tokens),
            cache_write_tokens: or_none(self.cache_write_tokens),
            output_tokens: or_none(self.output_tokens),
            reasoning_tokens: 0,
            images: or_none(self.images),
            audio_ms: or_none(self.audio_ms),
            characters: or_none(self.characters),
        })
    }
}

/// The newest settled charges of a model since `since_ms`, at most `limit`, and whether there are more. Goes back version
/// by version, so that however many charges there are, no more than these are read.
///
/// # Errors
/// The engine's.
pub fn paid_since(
    connection: &mut Connection,
    model_id: i64,
    since_ms: i64,
    limit: usize,
) -> Result<(Vec<Paid>, bool), Error> {
    let ids: Vec<i64> = prices::table
        .filter(prices::model_id.eq(model_id))
        .order(prices::version.desc())
        .select(prices::id)
        .load(connection)?;
    let rolled_ms = usage_rollup::progress(connection)?.rolled_ms;
    // One more than fits tells whether there are more.
    let room = |left: usize| i64::try_from(left + 1).unwrap_or(i64::MAX);
    let mut newer = charges::table
        .filter(charges::resolved_at_ms.ge(rolled_ms))
        .filter(charges::created_at_ms.ge(since_ms))
        .filter(charges::price_id.eq_any(&ids))
        // By the id alone, SQLite would go through all charges in its order.
        .order((charges::created_at_ms.desc(), charges::id.desc()))
        .limit(room(limit))
        .select((charges::state, Paid::as_select()))
        .load(connection)?;
    let (mut paid, mut left, mut ids) = (Vec::new(), limit, ids.into_iter());
    loop {
        let is_more = newer.len() > left;
        left -= newer.len().min(left);
        paid.extend(
            newer
                .into_iter()
                .filter_map(|(state, paid): (String, Paid)| (state == state::SETTLED).then_some(paid)),
        );
        if is_more {
            return Ok((paid, true));
        }
        let Some(id) = ids.next() else { return Ok((paid, false)) };
        let rows: Vec<(String, Paid)> = charges_of_users::table
            .inner_join(charges::table)
            .filter(charges_of_users::price_id.eq(id))
            .order(charges_of_users::charge_id.desc())
            .limit(room(left))
            .select((charges::state, Paid::as_select()))
            .load(connection)?;
        newer = rows.into_iter().take_while(|(_, paid)| paid.created_at_ms >= since_ms).collect();
    }
}
