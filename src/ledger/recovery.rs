//! Instances: registering, heartbeats, and resolving what a dead one left held.

use super::Ledger;
use crate::error::Error;
use crate::store::Store;

/// This server among those that share the database.
pub struct Instance {
    ledger: Ledger,
}

impl Instance {
    /// Registers, starts the ledger's writer, and resolves what dead instances left held.
    ///
    /// # Errors
    /// When the database is away, or (SQLite) another server uses the file.
    pub fn start(store: &Store) -> Result<Self, Error> {
        let _ = store;
        Err(Error::NotFound)
    }

    /// What calls hold and settle through.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
