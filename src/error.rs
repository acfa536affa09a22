//! What can go wrong inside, once. Each edge (dashboard, gateway, command line) renders it its own way.

use crate::domain::{FieldErrors, Invalid};

/// Any failure of the store, the vault or a rule.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row, or none that this owner may see.
    #[error("not found")]
    NotFound,
    /// Somebody else changed the row since it was read.
    #[error("changed by somebody else in the meantime")]
    Conflict,
    /// What was typed is refused; each sentence belongs to a field.
    #[error("{0}")]
    Invalid(FieldErrors),
    /// The database cannot be reached, or did not answer in time.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Anything that should not happen; logged whole, shown to nobody.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A refusal of one field.
    pub fn invalid(field: &'static str, message: impl Into<Invalid>) -> Self {
        let mut errors = FieldErrors::default();
        errors.add(field, message.into());
        Self::Invalid(errors)
    }
}

impl From<FieldErrors> for Error {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::DatabaseErrorKind::{ClosedConnection, ReadOnlyTransaction, UnableToSendCommand};
        use diesel::result::Error as Diesel;
        match error {
            Diesel::NotFound => Self::NotFound,
            Diesel::BrokenTransactionManager => Self::Unavailable(error.to_string()),
            Diesel::DatabaseError(ClosedConnection | UnableToSendCommand | ReadOnlyTransaction, ref info) => {
                Self::Unavailable(info.message().to_owned())
            }
            Diesel::DatabaseError(_, ref info) if is_outage(info.message()) => {
                Self::Unavailable(info.message().to_owned())
            }
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Engine messages that mean "not now" rather than "never": SQLite's lock and disk errors, PostgreSQL's shutdown, and what an
/// admin puts right without touching what is stored. A server may say them in another language: who must not give up on
/// what it does not know asks for a sign of life, or tries again.
fn is_outage(message: &str) -> bool {
    [
        "database is locked",
        "disk is full",
        "disk I/O error",
        "unable to open database",
        "terminating connection",
        "server closed the connection",
        "the database system is",
        "no connection to the server",
        "could not extend file",
        "canceling statement due to",
        "deadlock detected",
        "read-only transaction",
        "readonly database",
        "out of memory",
        "No space left on device",
        "permission denied",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::result::{DatabaseErrorKind, Error as Diesel};

    #[test]
    fn a_database_that_can_only_be_read_is_an_outage_in_every_language() {
        let said = "INSERT kann nicht in einer Read-Only-Transaktion ausgeführt werden".to_owned();
        let error = Diesel::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, Box::new(said));
        assert!(matches!(Error::from(error), Error::Unavailable(_)));
    }
}
