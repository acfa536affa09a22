//! The past of a demo: a month of calls that keys could have made, priced by the rule that prices all calls.

use super::failure::Failure;
use crate::domain::charge::ChargeStatus;
use crate::domain::expiry::DAY_MS;
use crate::domain::price::Multiplier;
use crate::domain::usage::Usage;
use crate::ledger::ChargeIds;
use crate::store::past::PastCall;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How a key is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// Days in which it was used, and how many of them ago the last one was.
    pub days: (i64, i64),
    /// In hours of the day, UTC: mostly between these.
    pub hours: (i64, i64),
    /// Not on Saturdays and Sundays.
    pub is_work: bool,
    /// Tokens of a call, about.
    pub input_tokens: i64,
    /// And of its answer.
    pub output_tokens: i64,
    /// What it came to.
    pub spent_micros: i64,
}

/// A key that was used, and on what.
pub(super) struct User {
    pub user_id: i64,
    pub key_id: i64,
    pub key_name: String,
    pub multiplier: Multiplier,
    /// The first one most of the time.
    pub offers: Vec<crate::store::models::Offer>,
    pub habit: Habit,
}

/// The same month in every demo.
const SEED: u64 = 7;
const HOUR_MS: i64 = 60 * 60 * 1000;
/// No habit comes near it.
const CALLS_MAX: usize = 5_000;

/// The calls of all of them, with ids that rise with time.
pub(super) fn past(users: &[User], now_ms: i64) -> Result<Vec<PastCall>, Failure> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut calls = Vec::new();
    for user in users {
        calls.extend(of(user, &mut random, now_ms)?);
    }
    calls.sort_by_key(|call: &PastCall| call.created_at_ms);
    // No server was the one of number 0.
    let ids = ChargeIds::new(0);
    for call in &mut calls {
        call.id = ids.next(call.created_at_ms);
    }
    Ok(calls)
}

/// Calls until the habit's credits are spent; the last one gets what is left.
fn of(user: &User, random: &mut StdRng, now_ms: i64) -> Result<Vec<PastCall>, Failure> {
    let (mut calls, mut left_micros) = (Vec::new(), user.habit.spent_micros);
    while left_micros > 0 && calls.len() < CALLS_MAX {
        let call = call(user, random, now_ms, left_micros)?;
        left_micros -= call.settled_micros;
        calls.push(call);
    }
    Ok(calls)
}

fn call(user: &User, random: &mut StdRng, now_ms: i64, left_micros: i64) -> Result<PastCall, Failure> {
    let other = user.offers.len() > 1 && random.random_bool(0.3);
    let offer = &user.offers[usize::from(other)];
    let about = |tokens: i64, random: &mut StdRng| tokens * random.random_range(30..=200) / 100;
    let input_tokens = about(user.habit.input_tokens, random);
    let cached_input_tokens = if random.random_bool(0.4) { input_tokens / 2 } else { 0 };
    let output_tokens = about(user.habit.output_tokens, random).min(offer.model.max_output_tokens);
    let usage = Usage { input_tokens, cached_input_tokens, output_tokens, ..Usage::NONE };
    let bound = Usage { cached_input_tokens: 0, output_tokens: offer.model.max_output_tokens, ..usage };
    let price = offer.price.price();
    let overflow = |_| Failure::Failed("A sample call costs too much.".into());
    let held_micros = price.most(bound, user.multiplier).map_err(overflow)?.min(left_micros);
    let cost_micros = price.cost(usage, user.multiplier).map_err(overflow)?.min(held_micros);
    let status = match random.random_range(0..1_000) {
        0..18 => ChargeStatus::Failed,
        18..33 => ChargeStatus::HungUp,
        33..38 => ChargeStatus::Cut,
        _ => ChargeStatus::Complete,
    };
    let failed = status == ChargeStatus::Failed;
    let first_byte_ms = random.random_range(180..900);
    Ok(PastCall {
        id: 0,
        user_id: user.user_id,
        key_id: user.key_id,
        key_name: user.key_name.clone(),
        model: offer.model.name.clone(),
        price_id: offer.price.id,
        multiplier_micros: user.multiplier.micros(),
        held_micros,
        settled_micros: if failed { 0 } else { cost_micros },
        status,
        usage,
        upstream_id: offer.routes.first().map(|route| route.upstream.id),
        created_at_ms: moment(&user.habit, random, now_ms),
        took_ms: (first_byte_ms, first_byte_ms + output_tokens * random.random_range(6..14)),
    })
}

/// A moment in the habit's days and hours, over by now.
fn moment(habit: &Habit, random: &mut StdRng, now_ms: i64) -> i64 {
    let (days, ago) = habit.days;
    let (first, last) = habit.hours;
    loop {
        let day = now_ms / DAY_MS - ago - random.random_range(0..days);
        // 1970 began on a Thursday.
        let is_weekend = matches!((day + 4) % 7, 0 | 6);
        // More in the middle of their hours than at the edges; a few at any time.
        let hours = match random.random_range(0..20) {
            0 => random.random_range(0..24 * HOUR_MS),
            _ => {
                (random.random_range(first * HOUR_MS..last * HOUR_MS)
                    + random.random_range(first * HOUR_MS..last * HOUR_MS))
                    / 2
            }
        };
        let at_ms = day * DAY_MS + hours;
        if at_ms < now_ms - 10 * 60 * 1000 && !(is_weekend && habit.is_work) {
            return at_ms;
        }
    }
}
