//! What holds and settlements do to the rows: a pure function, the same for both engines.
//! (rows, commands) → (answers, changes). Nothing here knows a database, a clock or a thread.

use crate::domain::expiry::DAY_MS;
use crate::domain::usage::{Usage, UsageSource};
use std::collections::BTreeMap;

/// A call's wish to spend: who, and the most it can cost, as decided from a snapshot with these revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// Of the new charge.
    pub charge_id: i64,
    /// Key.
    pub key_id: i64,
    /// Revision the decision was made on; likewise the other three.
    pub key_revision: i64,
    /// Account.
    pub user_id: i64,
    /// Of the account's settings.
    pub user_revision: i64,
    /// Pricing group.
    pub group_id: i64,
    /// Of its multiplier.
    pub group_revision: i64,
    /// Model.
    pub model_id: i64,
    /// Of its price.
    pub model_revision: i64,
    /// Most the call can cost, in micro-credits, multiplier included.
    pub held_micros: i64,
    /// The part of that for the input: what an interrupted call pays.
    pub input_held_micros: i64,
    /// Price version the amounts were made with.
    pub price_id: i64,
    /// Multiplier the amounts were made with.
    pub multiplier_micros: i64,
    /// Kept with the charge, since keys can be deleted.
    pub key_name: String,
    /// Public model name.
    pub model: String,
}

/// Why the rows refuse a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Key, account, group or model changed since the snapshot: read again and decide again.
    Stale,
    /// The key's last moment has passed.
    KeyExpired,
    /// The key's limit leaves only this much.
    KeyLimit {
        /// Micro-credits.
        available_micros: i64,
    },
    /// The account's balance leaves only this much.
    Account {
        /// Micro-credits.
        available_micros: i64,
    },
}

/// How a call ended; kept with the charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered whole.
    Complete,
    /// The caller left before the end.
    HungUp,
    /// The upstream's stream broke off after it had begun.
    Cut,
    /// Keyhouse itself stopped in the middle.
    Interrupted,
    /// Nothing was produced.
    Failed,
}

impl Outcome {
    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::HungUp => "hung_up",
            Self::Cut => "cut",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// What becomes of the held credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Charge this many micro-credits, at most what is held; the rest is free again.
    Settle(i64),
    /// Charge the input part of the hold.
    SettleInput,
    /// Charge nothing.
    Release,
}

/// The end of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Which.
    pub charge_id: i64,
    /// How much.
    pub amount: Amount,
    /// How the call ended.
    pub outcome: Outcome,
    /// Tokens, and who counted them.
    pub usage: Option<(Usage, UsageSource)>,
    /// Who served it.
    pub upstream_id: Option<i64>,
    /// HTTP status the caller got.
    pub status: Option<u16>,
    /// Milliseconds from the hold to the first byte of the answer.
    pub first_byte_ms: Option<i64>,
}

impl Resolution {
    /// Gives everything back: the call came to nothing.
    pub const fn release(charge_id: i64) -> Self {
        Self {
            charge_id,
            amount: Amount::Release,
            outcome: Outcome::Failed,
            usage: None,
            upstream_id: None,
            status: None,
            first_byte_ms: None,
        }
    }

    /// Charges the input part: nobody knows how far the call came.
    pub const fn interrupted(charge_id: i64) -> Self {
        Self { amount: Amount::SettleInput, outcome: Outcome::Interrupted, ..Self::release(charge_id) }
    }
}

/// What a key has left to spend, by its limit and its account's balance, whichever is less: micro-credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left(pub i64);

impl Left {
    /// Without a key, since it is gone, the account's alone.
    fn of(key: Option<&KeyRow>, account: Option<&AccountRow>) -> Self {
        let account = account.map_or(0, |row| row.balance_micros.saturating_sub(row.held_micros));
        let key = key.and_then(|row| {
            let unused = row.credit_limit_micros?.saturating_sub(row.used_micros);
            Some(unused.saturating_sub(row.held_micros))
        });
        Self(key.map_or(account, |key| key.min(account)).max(0))
    }
}

/// What a resolution came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// This much was charged, now.
    Now {
        /// Micro-credits.
        settled_micros: i64,
        /// To spend afterwards.
        left: Left,
    },
    /// The charge had been resolved before; nothing changed.
    Before,
    /// There is no such charge: its hold was never committed.
    Unknown,
}

/// Of a key's row: what decides a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRow {
    /// Counts changes of settings, the switch included.
    pub revision: i64,
    /// First moment it no longer works.
    pub expires_at_ms: Option<i64>,
    /// `None`: unlimited.
    pub credit_limit_micros: Option<i64>,
    /// Σ settled.
    pub used_micros: i64,
    /// Σ open holds.
    pub held_micros: i64,
    /// When the last hold was made, where that decides where the row lies: not read on PostgreSQL.
    pub last_used_at_ms: Option<i64>,
}

/// A key counts as unused when it was not used for so long: a week. Those that are used weekly are in use.
const UNUSED_MS: i64 = 7 * DAY_MS;

/// Of an account's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountRow {
    /// Counts changes of settings, the switch included.
    pub revision: i64,
    /// Σ grants − Σ settled.
    pub balance_micros: i64,
    /// Σ open holds.
    pub held_micros: i64,
}

/// Of a charge's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeRow {
    /// Whose account.
    pub user_id: i64,
    /// Whose key, which may be gone.
    pub key_id: i64,
    /// Still held.
    pub open: bool,
    /// How much.
    pub held_micros: i64,
    /// Its input part.
    pub input_held_micros: i64,
}

/// The rows that a batch of commands touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The moment; on PostgreSQL one that is past.
    pub now_ms: i64,
    /// Usage is, or is being, summed up to here: nothing is resolved before it any more. Not read on PostgreSQL.
    pub closing_ms: Option<i64>,
    /// By id; a deleted key has none.
    pub keys: BTreeMap<i64, KeyRow>,
    /// By id.
    pub accounts: BTreeMap<i64, AccountRow>,
    /// Revisions by id.
    pub groups: BTreeMap<i64, i64>,
    /// Revisions by id.
    pub models: BTreeMap<i64, i64>,
    /// By id.
    pub charges: BTreeMap<i64, ChargeRow>,
}

impl Rows {
    /// When what this batch resolves is resolved: now, and never before what is closed, whatever the clock says.
    pub fn resolution_ms(&self) -> i64 {
        self.closing_ms.map_or(self.now_ms, |closing_ms| self.now_ms.max(closing_ms))
    }
}

/// A change of the money columns of a row, as differences: added in the row itself, so none is ever overwritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// To `credits_used_micros`, and from the balance.
    pub settled_micros: i64,
    /// To the held column; negative when holds end.
    pub held_micros: i64,
    /// Whether a hold was made: the key's last use.
    pub used_now: bool,
    /// Whether the key was unused until then.
    pub was_unused: bool,
}

/// Everything a batch changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// By key id.
    pub keys: BTreeMap<i64, Moved>,
    /// By user id.
    pub accounts: BTreeMap<i64, Moved>,
    /// Indexes of the holds to be inserted, in the order of the batch.
    pub opened: Vec<usize>,
    /// Indexes of the resolutions to be written, with what they settle.
    pub closed: Vec<(usize, i64)>,
}

/// Decides every hold in order, against `rows`, which are changed along so that each sees those before it.
pub fn decide_holds(
    rows: &mut Rows,
    holds: &[HoldRequest],
    changes: &mut Changes,
) -> Vec<Result<Left, Refusal>> {
    holds
        .iter()
        .enumerate()
        .map(|(index, hold)| {
            hold_one(rows, hold, changes)?;
            changes.opened.push(index);
            Ok(Left::of(rows.keys.get(&hold.key_id), rows.accounts.get(&hold.user_id)))
        })
        .collect()
}

fn hold_one(rows: &mut Rows, hold: &HoldRequest, changes: &mut Changes) -> Result<(), Refusal> {
    let (Some(key), Some(account)) = (rows.keys.get_mut(&hold.key_id), rows.accounts.get_mut(&hold.user_id))
    else {
        return Err(Refusal::Stale);
    };
    let unchanged = key.revision == hold.key_revision
        && account.revision == hold.user_revision
        && rows.groups.get(&hold.group_id) == Some(&hold.group_revision)
        && rows.models.get(&hold.model_id) == Some(&hold.model_revision);
    if !unchanged {
        return Err(Refusal::Stale);
    }
    if key.expires_at_ms.is_some_and(|at_ms| at_ms <= rows.now_ms) {
        return Err(Refusal::KeyExpired);
    }
    if let Some(limit_micros) = key.credit_limit_micros {
        let available_micros = limit_micros.saturating_sub(key.used_micros).saturating_sub(key.held_micros);
        // A key at its limit is Exhausted even for a call that costs nothing, as its status says.
        if key.used_micros >= limit_micros || hold.held_micros > available_micros {
            return Err(Refusal::KeyLimit { available_micros: available_micros.max(0) });
        }
    }
    let available_micros = account.balance_micros.saturating_sub(account.held_micros);
    if hold.held_micros > available_micros {
        return Err(Refusal::Account { available_micros: available_micros.max(0) });
    }
    key.held_micros += hold.held_micros;
    account.held_micros += hold.held_micros;
    let moved = changes.keys.entry(hold.key_id).or_default();
    moved.held_micros += hold.held_micros;
    moved.used_now = true;
    moved.was_unused |= key.last_used_at_ms.is_none_or(|at_ms| at_ms < rows.now_ms - UNUSED_MS);
    key.last_used_at_ms = Some(rows.now_ms);
    changes.accounts.entry(hold.user_id).or_default().held_micros += hold.held_micros;
    Ok(())
}

/// Decides every resolution in order; a charge is resolved by the first that names it, and by no other.
pub fn decide_resolutions(
    rows: &mut Rows,
    resolutions: &[Resolution],
    changes: &mut Changes,
) -> Vec<Resolved> {
    resolutions
        .iter()
        .enumerate()
        .map(|(index, resolution)| {
            let Some(charge) = rows.charges.get_mut(&resolution.charge_id) else {
                return Resolved::Unknown;
            };
            if !charge.open {
                return Resolved::Before;
            }
            charge.open = false;
            let charge = *charge;
            let settled_micros = match resolution.amount {
                Amount::Settle(actual) => actual.clamp(0, charge.held_micros),
                Amount::SettleInput => charge.input_held_micros,
                Amount::Release => 0,
            };
            close_one(rows, charge, settled_micros, changes);
            changes.closed.push((index, settled_micros));
            let left = Left::of(rows.keys.get(&charge.key_id), rows.accounts.get(&charge.user_id));
            Resolved::Now { settled_micros, left }
        })
        .collect()
}

fn close_one(rows: &mut Rows, charge: ChargeRow, settled_micros: i64, changes: &mut Changes) {
    if let Some(account) = rows.accounts.get_mut(&charge.user_id) {
        account.held_micros -= charge.held_micros;
        account.balance_micros -= settled_micros;
        let moved = changes.accounts.entry(charge.user_id).or_default();
        moved.held_micros -= charge.held_micros;
        moved.settled_micros += settled_micros;
    }
    // A deleted key has no row to bring up to date; the account has paid all the same.
    if let Some(key) = rows.keys.get_mut(&charge.key_id) {
        key.held_micros -= charge.held_micros;
        key.used_micros += settled_micros;
        let moved = changes.keys.entry(charge.key_id).or_default();
        moved.held_micros -= charge.held_micros;
        moved.settled_micros += settled_micros;
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod walk;
