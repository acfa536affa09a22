//! The rows that the writer has read or written before. On SQLite they are as good as the file's for as long as no other
//! connection has committed, which the engine itself tells; on PostgreSQL others write too, and they are a belief, which is
//! confirmed by what is written.

use super::decide::{ChargeRow, HoldRequest, Resolution, Rows};
use super::rows::Commands;

/// Beyond so many keys, all is forgotten: a hundred bytes each.
const KEYS_MAX: usize = 100_000;

/// Rows as the writer's last transaction left them.
#[derive(Default)]
pub(super) struct Known {
    /// The rows.
    pub rows: Rows,
    /// Whether others move the same credits, as the last batch found by what it knew.
    pub is_shared: bool,
    /// See [`crate::store::data_version`].
    version: Option<i64>,
}

impl Known {
    /// To be told the data's version inside each transaction, before anything else: forgets all unless nobody else has
    /// committed since the last.
    pub fn begin(&mut self, version: i64) {
        if self.version != Some(version) {
            self.forget();
        }
        self.version = Some(version);
        self.bound();
    }

    /// Forgets all when it has grown too much.
    pub fn bound(&mut self) {
        if self.rows.keys.len() > KEYS_MAX {
            self.rows = Rows::default();
        }
    }

    /// Whether all is known that a batch depends on.
    pub fn has_all(&self, batch: Commands<'_>) -> bool {
        let rows = &self.rows;
        let account =
            |user_id, key_id| rows.accounts.contains_key(&user_id) && rows.keys.contains_key(&key_id);
        let charge = |charge: &ChargeRow| account(charge.user_id, charge.key_id);
        batch.resolutions.iter().all(|resolution| rows.charges.get(&resolution.charge_id).is_some_and(charge))
            && batch.holds.iter().all(|hold| {
                account(hold.user_id, hold.key_id)
                    && rows.groups.contains_key(&hold.group_id)
                    && rows.models.contains_key(&hold.model_id)
            })
    }

    /// What was read or changed is not to be trusted: the transaction failed, or its connection is gone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// A hold that is written.
    pub fn opened(&mut self, hold: &HoldRequest) {
        let row = ChargeRow {
            user_id: hold.user_id,
            key_id: hold.key_id,
            open: true,
            held_micros: hold.held_micros,
            input_held_micros: hold.input_held_micros,
        };
        self.rows.charges.insert(hold.charge_id, row);
    }

    /// The transaction is committed: nobody asks for charges that are resolved.
    pub fn committed(&mut self, resolutions: &[Resolution]) {
        for resolution in resolutions {
            self.rows.charges.remove(&resolution.charge_id);
        }
    }
}
