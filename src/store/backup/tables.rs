//! What is backed up of each table, and how its rows leave an engine and come into one.

use super::damaged;
use crate::error::Error;
use crate::store::{Connection, ask};
use diesel::connection::DefaultLoadingMode;
use diesel::dsl::sql;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Text};

/// What is kept of each table, in an order in which whatever a row refers to comes first; and how its rows are ordered. Those of
/// `key_credits` lie in the order of their use.
pub(super) const TABLES: [(&str, &str); 22] = [
    ("users", "id"),
    ("second_factors", "user_id"),
    ("recovery_codes", "user_id, digest"),
    ("groups", "id"),
    ("group_users", "group_id, user_id"),
    ("upstreams", "id"),
    ("models", "id"),
    ("prices", "id"),
    ("model_routes", "id"),
    ("api_keys", "id"),
    ("key_credits", "last_used_at_ms NULLS FIRST, key_id"),
    ("grants", "id"),
    ("charges", "id"),
    ("charges_of_users", "user_id, created_at_ms, charge_id"),
    ("charges_of_keys", "user_id, key_id, created_at_ms, charge_id"),
    ("usage_recent", "user_id, key_id, start_ms, model, outcome"),
    ("usage_hourly", "start_ms, user_id, key_id, model, outcome"),
    ("usage_daily", "start_ms, user_id, key_id, model, outcome"),
    ("usage_progress", "id"),
    ("upstream_hourly", "hour_ms, upstream_id"),
    ("responses", "user_id, response_id"),
    ("audit_events", "id"),
];

/// Its numbers are in the charges' ids, and so never used twice.
const INSTANCES: &str = "instances";

/// Rows that are written by one statement, and how long its text may become.
const ROWS_MAX: usize = 500;
const TEXT_MAX: usize = 1 << 20;
#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    is_bytes: bool,
}

fn columns(connection: &mut Connection, table: &str) -> QueryResult<Vec<Column>> {
    let text = match connection {
        Connection::Sqlite(_) => {
            "SELECT name, type = 'BLOB' AS is_bytes FROM pragma_table_info($1) ORDER BY cid"
        }
        Connection::Postgres(_) => {
            "SELECT column_name::text AS name, data_type = 'bytea' AS is_bytes FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position"
        }
    };
    ask!(connection, load, text, Text => table)
}

/// Gives each row as an object with the columns' names. Bytes are in hexadecimal digits behind `\x`, as PostgreSQL writes them.
pub(super) fn each_row(
    connection: &mut Connection,
    table: &str,
    order: &str,
    take: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let object = match connection {
        Connection::Sqlite(_) => {
            let columns = columns(connection, table)?.into_iter();
            let pairs = columns.map(|Column { name, is_bytes }| match is_bytes {
                true => format!(
                    "'{name}', CASE WHEN \"{name}\" IS NOT NULL THEN '\\x' || lower(hex(\"{name}\")) END"
                ),
                false => format!("'{name}', \"{name}\""),
            });
            format!("json_object({})", pairs.collect::<Vec<_>>().join(", "))
        }
        Connection::Postgres(_) => "row_to_json(it)::text".to_owned(),
    };
    let rows = sql::<Text>(&format!("SELECT {object} FROM \"{table}\" AS it ORDER BY {order}"));
    // One at a time: there may be more than memory holds.
    match connection {
        Connection::Sqlite(connection) => {
            rows.load_iter::<String, DefaultLoadingMode>(connection)?.try_for_each(|row| take(&row?))
        }
        Connection::Postgres(connection) => {
            rows.load_iter::<String, PgRowByRowLoadingMode>(connection)?.try_for_each(|row| take(&row?))
        }
    }
}

/// Rows of one table on their way into it.
pub(super) struct Batch {
    pub table: &'static str,
    /// Takes them as a JSON array.
    insert: String,
    text: String,
    len: usize,
}

impl Batch {
    pub fn new(connection: &mut Connection, table: &'static str) -> Result<Self, Error> {
        let columns = columns(connection, table)?;
        let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let names = names.join(", ");
        let insert = match connection {
            Connection::Sqlite(_) => {
                let values = columns.iter().map(|Column { name, is_bytes }| match is_bytes {
                    true => format!("unhex(substr(value->>'{name}', 3))"),
                    false => format!("value->>'{name}'"),
                });
                let values: Vec<String> = values.collect();
                // Each row written out once, and not for each of its columns, is twice as fast.
                format!(
                    "WITH rows AS MATERIALIZED (SELECT value FROM json_each($1)) \
                     INSERT INTO \"{table}\" ({names}) SELECT {} FROM rows",
                    values.join(", ")
                )
            }
            Connection::Postgres(_) => format!(
                "INSERT INTO \"{table}\" ({names}) SELECT {names} FROM json_populate_recordset(NULL::\"{table}\", $1::json)"
            ),
        };
        Ok(Self { table, insert, text: String::from("["), len: 0 })
    }

    pub fn add(&mut self, connection: &mut Connection, row: &str) -> Result<(), Error> {
        if self.len == ROWS_MAX || self.text.len() + row.len() > TEXT_MAX {
            self.flush(connection)?;
        }
        if self.len > 0 {
            self.text.push(',');
        }
        self.text.push_str(row);
        self.len += 1;
        Ok(())
    }

    pub fn flush(&mut self, connection: &mut Connection) -> Result<(), Error> {
        if self.len == 0 {
            return Ok(());
        }
        self.text.push(']');
        let written = ask!(connection, execute, self.insert.as_str(), Text => self.text.as_str());
        let written = written.map_err(|error| match Error::from(error) {
            Error::Internal(why) => damaged(&format!("{}: {why}", self.table)),
            other => other,
        })?;
        if written != self.len {
            return Err(damaged(&format!("{written} of {} rows of {} were taken", self.len, self.table)));
        }
        self.text.truncate(1);
        self.len = 0;
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The tables that number their rows, and some that might.
pub(super) fn numbered() -> impl Iterator<Item = &'static str> {
    let by_id = TABLES.iter().filter(|(_, order)| *order == "id");
    by_id.map(|(name, _)| *name).chain([INSTANCES])
}

/// The last number that a table gave to a row. `None`: it numbers none.
pub(super) fn last_id(connection: &mut Connection, table: &str) -> Result<Option<i64>, Error> {
    let last: Option<Number> = match connection {
        Connection::Sqlite(connection) => {
            diesel::sql_query("SELECT seq AS number FROM sqlite_sequence WHERE name = $1")
                .bind::<Text, _>(table)
                .get_result(connection)
                .optional()?
        }
        Connection::Postgres(connection) => diesel::sql_query(
            "SELECT coalesce(last_value, 0) AS number FROM pg_sequences \
             WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence($1, 'id')",
        )
        .bind::<Text, _>(table)
        .get_result(connection)
        .optional()?,
    };
    Ok(last.map(|last| last.number))
}

/// The table's next number is the one behind it.
pub(super) fn set_last_id(connection: &mut Connection, table: &str, last_id: i64) -> Result<(), Error> {
    if !numbered().any(|known| known == table) {
        return Err(damaged(&format!("no table is called {table}")));
    }
    match connection {
        Connection::Sqlite(connection) => {
            diesel::sql_query("DELETE FROM sqlite_sequence WHERE name = $1")
                .bind::<Text, _>(table)
                .execute(connection)?;
            diesel::sql_query("INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)")
                .bind::<Text, _>(table)
                .bind::<BigInt, _>(last_id)
                .execute(connection)?;
        }
        Connection::Postgres(connection) => {
            diesel::sql_query("SELECT setval(pg_get_serial_sequence($1, 'id'), greatest($2, 1), $2 > 0)")
                .bind::<Text, _>(table)
                .bind::<BigInt, _>(last_id)
                .execute(connection)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseUrl;

    const LEFT_OUT: [&str; 5] = [INSTANCES, "price_lists", "sessions", "sign_in_links", "sign_in_throttles"];

    #[test]
    fn no_table_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = DatabaseUrl::Sqlite(folder.path().join("keyhouse.db"));
        url.migrate().expect("migrated");
        let Connection::Sqlite(mut connection) = url.connect().expect("connected") else {
            unreachable!("it is SQLite")
        };
        let text = "SELECT name, false AS is_bytes FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' \
                    AND substr(name, 1, 2) <> '__' ORDER BY name";
        let there: Vec<Column> = diesel::sql_query(text).load(&mut connection).expect("read");
        let there: Vec<String> = there.into_iter().map(|table| table.name).collect();
        let mut known: Vec<&str> = TABLES.iter().map(|(name, _)| *name).chain(LEFT_OUT).collect();
        known.sort_unstable();
        assert_eq!(known, there);
    }
}
