//! Every SQL statement, a file per table. One public function is one query or one transaction,
//! and whatever belongs to a user is reached only with that user's id.

mod admins;
pub mod all_keys;
pub mod audit;
pub mod audit_list;
pub mod backup;
pub mod charge_list;
pub mod charges;
mod connection;
pub mod doctor;
mod doctor_usage;
pub mod grants;
pub mod group_users;
pub mod groups;
pub mod health;
pub mod instances;
pub mod key_list;
pub mod keys;
pub mod model_list;
pub mod models;
pub mod paging;
pub mod past;
mod pool;
pub mod price_lists;
pub mod prices;
pub mod recovery_codes;
pub mod responses;
pub mod routes;
pub(crate) mod schema;
pub mod second_factors;
pub mod sessions;
pub mod sign_in_links;
pub mod sign_in_throttles;
pub mod upstream_hours;
pub mod upstreams;
pub mod usage;
pub mod usage_ranking;
pub mod usage_rollup;
pub mod user_list;
pub mod users;

pub use connection::{AnyConnection as Connection, DatabaseUrl, data_version};
pub use pool::Store;

use crate::error::Error;
use diesel::result::{DatabaseErrorKind, Error as Diesel};

diesel::define_sql_function! {
    /// SQL's own `lower`: ASCII on SQLite, the database's locale on PostgreSQL.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// Asks either engine a question of our own words: `ask!(connection, load, text, BigInt => id, …)`. Binds are `$1`, `$2`,
/// …, and each must first stand in the text in that order, since SQLite counts them as they come.
macro_rules! ask {
    ($connection:expr, $load:ident, $text:expr $(, $type:ty => $value:expr)* $(,)?) => {
        match $connection {
            $crate::store::Connection::Sqlite(connection) => {
                diesel::sql_query($text)$(.bind::<$type, _>($value))*.$load(connection)
            }
            $crate::store::Connection::Postgres(connection) => {
                diesel::sql_query($text)$(.bind::<$type, _>($value))*.$load(connection)
            }
        }
    };
}
use ask;

/// Turns a unique index's refusal into one that belongs to a field.
fn taken(error: Diesel, field: &'static str, message: &'static str) -> Error {
    match error {
        Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Error::invalid(field, crate::domain::Invalid::new(message))
        }
        other => other.into(),
    }
}

/// Zero rows touched means there was none for this owner.
fn found(rows: usize) -> Result<(), Error> {
    if rows == 0 { Err(Error::NotFound) } else { Ok(()) }
}
