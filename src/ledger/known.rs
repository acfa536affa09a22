//! The rows that the writer has read or written before. On SQLite they are as good as the file's for as long as no other
//! connection has committed, which the engine itself tells; on PostgreSQL others write too, and nothing is known.

use super::decide::{ChargeRow, HoldRequest, Resolution, Rows};

/// Beyond so many keys, all is forgotten: a hundred bytes each.
const KEYS_MAX: usize = 100_000;

/// Rows as the writer's last transaction left them.
#[derive(Default)]
pub(super) struct Known {
    /// The rows.
    pub rows: Rows,
    /// See [`crate::store::Connection::data_version`].
    version: Option<i64>,
}

impl Known {
    /// To be told the data's version inside each transaction, before anything else: forgets all unless nobody else has
    /// committed since the last.
    pub fn begin(&mut self, version: Option<i64>) {
        if version.is_none() || version != self.version || self.rows.keys.len() > KEYS_MAX {
            self.forget();
        }
        self.version = version;
    }

    /// What was read or changed is not to be trusted: the transaction failed, or its connection is gone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// A hold that is about to be written.
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
