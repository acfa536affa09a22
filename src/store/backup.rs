//! All that is stored as lines of JSON, the same for either engine: a backup, and the way from SQLite to PostgreSQL or back.
//! What only the present knows is left out: who is signed in, links to sign in with, tries that are counted, price lists on
//! their way in, servers that run.

use super::{Connection, DatabaseUrl, ask, instances};
use crate::error::Error;
use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::dsl::sql;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, BufRead, Read, Write};

/// What is kept of each table, in an order in which whatever a row refers to comes first; and how its rows are ordered. Those of
/// `key_credits` lie in the order of their use.
const TABLES: [(&str, &str); 22] = [
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
/// Of a line that is read: no row comes near it.
const LINE_MAX: u64 = 64 << 20;
/// After so many rows the caller hears of them.
const TOLD_EVERY: u64 = 10_000;

/// A line that is not a row. No column has the name by which they are told apart.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "keyhouse", rename_all = "snake_case")]
enum Mark {
    /// The first.
    Backup {
        /// The newest migration that was applied.
        schema: String,
        /// The release that wrote it.
        release: String,
        made_at_ms: i64,
        /// The last number that was given in each table that numbers its rows.
        last_ids: BTreeMap<String, i64>,
    },
    /// What follows are its rows.
    Table { name: String },
    /// The last, with what came before it: without it the file is not whole.
    End { rows: Rows },
}

/// How every mark begins.
const MARK: &str = r#"{"keyhouse":"#;

/// Rows of each table.
pub type Rows = BTreeMap<String, u64>;

/// Hears how far it is: a table, and how many of its rows are done.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// Writes all of it as of one moment, also beside servers that go on. Secrets in it stay encrypted.
///
/// # Errors
/// The engine's; when `to` cannot be written.
pub fn write(connection: &mut Connection, to: &mut dyn Write, progress: Progress<'_>) -> Result<Rows, Error> {
    connection.snapshot(|connection| {
        if let Connection::Postgres(connection) = connection {
            connection.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL bytea_output = hex")?;
        }
        let mut last_ids = BTreeMap::new();
        for name in numbered() {
            if let Some(last_id) = last_id(connection, name)? {
                last_ids.insert(name.to_owned(), last_id);
            }
        }
        put_mark(
            to,
            &Mark::Backup {
                schema: connection.schema_version()?,
                release: env!("CARGO_PKG_VERSION").to_owned(),
                made_at_ms: connection.now_ms()?,
                last_ids,
            },
        )?;
        let mut rows = Rows::new();
        for (name, order) in TABLES {
            put_mark(to, &Mark::Table { name: name.to_owned() })?;
            let mut done: u64 = 0;
            each_row(connection, name, order, &mut |row| {
                to.write_all(row.as_bytes()).and_then(|()| to.write_all(b"\n")).map_err(unwritten)?;
                done += 1;
                if done.is_multiple_of(TOLD_EVERY) {
                    progress(name, done);
                }
                Ok(())
            })?;
            rows.insert(name.to_owned(), done);
        }
        put_mark(to, &Mark::End { rows: rows.clone() })?;
        Ok(rows)
    })
}

/// Fills a new database, all or nothing, and brings it up to this release.
///
/// # Errors
/// When it holds something already, or a server runs on it; when `from` is not a whole backup, or of a newer release; the
/// engine's.
pub fn read(url: &DatabaseUrl, from: &mut dyn BufRead, progress: Progress<'_>) -> Result<Rows, Error> {
    let mut lines = Lines { from, line: String::new() };
    let Some(Line::Mark(Mark::Backup { schema, release, last_ids, .. })) = lines.next()? else {
        return Err(Error::Internal("this is not a backup of Keyhouse".into()));
    };
    url.refuse_second_name()?;
    let mut connection = url.connect()?;
    // Before anything is changed, where there is something to ask.
    if connection.schema_version().is_ok() {
        refuse_used(&mut connection)?;
    }
    connection.migrate_up_to(Some(&schema))?;
    match connection.schema_version()? {
        has if has < schema => {
            return Err(Error::Internal(format!(
                "this backup was made by a newer release of Keyhouse, {release}; restore it by that one or a newer"
            )));
        }
        has if has > schema => {
            return Err(Error::Internal(format!(
                "the database is of a newer release than the backup, which is of {release}; restore it to a new place, \
                 which is then brought up to this release"
            )));
        }
        _ => {}
    }
    let rows = connection.write(|connection| {
        if let Connection::Postgres(connection) = connection {
            connection.batch_execute("SET LOCAL statement_timeout = 0")?;
        }
        refuse_used(connection)?;
        // What a new database begins with is in the backup, too. The numbers of servers that ran here are given again.
        connection.batch_execute("DELETE FROM groups; DELETE FROM usage_progress; DELETE FROM instances")?;
        let rows = fill(connection, &mut lines, progress)?;
        for (name, last_id) in &last_ids {
            set_last_id(connection, name, *last_id)?;
        }
        Ok(rows)
    })?;
    drop(connection);
    url.migrate()?;
    Ok(rows)
}

fn refuse_used(connection: &mut Connection) -> Result<(), Error> {
    if instances::is_any_alive(connection)? {
        return Err(Error::Internal("a server runs on this database, or did seconds ago; stop it, or try again in 15 seconds if it was killed"
                .into(),));
    }
    let used: Flag = ask!(
        connection,
        get_result,
        "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM charges) \
         OR EXISTS (SELECT 1 FROM audit_events) AS flag"
    )?;
    if used.flag {
        return Err(Error::Internal(
            "this database holds something already, which would be lost; restore to a new place, by --database-url or \
             --data-dir"
                .into(),
        ));
    }
    Ok(())
}

/// Writes the rows behind each table's mark, and proves that all came.
fn fill(connection: &mut Connection, lines: &mut Lines<'_>, progress: Progress<'_>) -> Result<Rows, Error> {
    let mut rows = Rows::new();
    let mut batch: Option<Batch> = None;
    loop {
        match lines.next()? {
            Some(Line::Row(row)) => {
                let Some(batch) = &mut batch else {
                    return Err(damaged(&"a row before its table"));
                };
                batch.add(connection, row)?;
                let done = rows.entry(batch.table.to_owned()).or_default();
                *done += 1;
                if done.is_multiple_of(TOLD_EVERY) {
                    progress(batch.table, *done);
                }
            }
            Some(Line::Mark(Mark::Table { name })) => {
                if let Some(mut last) = batch.take() {
                    last.flush(connection)?;
                }
                let known = TABLES.iter().find(|(table, _)| *table == name);
                let (table, _) = known.ok_or_else(|| damaged(&format!("no table is called {name}")))?;
                rows.entry(name).or_default();
                batch = Some(Batch::new(connection, table)?);
            }
            Some(Line::Mark(Mark::End { rows: expected })) => {
                if let Some(mut last) = batch.take() {
                    last.flush(connection)?;
                }
                if rows != expected {
                    return Err(damaged(&"rows are missing"));
                }
                // Only at the end of the file its checksum is compared.
                if lines.next()?.is_some() {
                    return Err(damaged(&"something follows its end"));
                }
                return Ok(rows);
            }
            Some(Line::Mark(Mark::Backup { .. })) => return Err(damaged(&"it begins twice")),
            None => return Err(damaged(&"it ends too early")),
        }
    }
}

/// Rows of one table on their way into it.
struct Batch {
    table: &'static str,
    /// Takes them as a JSON array.
    insert: String,
    text: String,
    len: usize,
}

impl Batch {
    fn new(connection: &mut Connection, table: &'static str) -> Result<Self, Error> {
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

    fn add(&mut self, connection: &mut Connection, row: &str) -> Result<(), Error> {
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

    fn flush(&mut self, connection: &mut Connection) -> Result<(), Error> {
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

/// A backup, line by line.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    line: String,
}

enum Line<'a> {
    Mark(Mark),
    Row(&'a str),
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Line<'_>>, Error> {
        self.line.clear();
        let read = (&mut *self.from).take(LINE_MAX).read_line(&mut self.line);
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                damaged(&error)
            }
            _ => Error::Internal(format!("it cannot be read: {error}")),
        });
        if read? == 0 {
            return Ok(None);
        }
        let line = self.line.strip_suffix('\n').ok_or_else(|| damaged(&"it ends within a line"))?;
        Ok(Some(match line.starts_with(MARK) {
            true => Line::Mark(serde_json::from_str(line).map_err(|error| damaged(&error))?),
            false => Line::Row(line),
        }))
    }
}

fn put_mark(to: &mut dyn Write, mark: &Mark) -> Result<(), Error> {
    let text = serde_json::to_string(mark).map_err(|error| Error::Internal(error.to_string()))?;
    writeln!(to, "{text}").map_err(unwritten)
}

fn unwritten(error: io::Error) -> Error {
    Error::Internal(format!("the backup cannot be written: {error}"))
}

fn damaged(why: &dyn Display) -> Error {
    Error::Internal(format!("the backup is damaged ({why}), and nothing of it is restored"))
}

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
fn each_row(
    connection: &mut Connection,
    table: &str,
    order: &str,
    take: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let columns = match connection {
        Connection::Sqlite(_) => columns(connection, table)?,
        Connection::Postgres(_) => Vec::new(),
    };
    match connection {
        Connection::Sqlite(connection) => {
            let pairs = columns.iter().map(|Column { name, is_bytes }| match is_bytes {
                true => format!(
                    "'{name}', CASE WHEN \"{name}\" IS NOT NULL THEN '\\x' || lower(hex(\"{name}\")) END"
                ),
                false => format!("'{name}', \"{name}\""),
            });
            let pairs: Vec<String> = pairs.collect();
            let text = format!("SELECT json_object({}) FROM \"{table}\" ORDER BY {order}", pairs.join(", "));
            for row in sql::<Text>(&text).load_iter::<String, DefaultLoadingMode>(connection)? {
                take(&row?)?;
            }
        }
        Connection::Postgres(connection) => {
            let text = format!("SELECT row_to_json(it)::text FROM \"{table}\" AS it ORDER BY {order}");
            // One at a time: there may be more than memory holds.
            for row in sql::<Text>(&text).load_iter::<String, PgRowByRowLoadingMode>(connection)? {
                take(&row?)?;
            }
        }
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}

/// The tables that number their rows, and some that might.
fn numbered() -> impl Iterator<Item = &'static str> {
    let by_id = TABLES.iter().filter(|(_, order)| *order == "id");
    by_id.map(|(name, _)| *name).chain([INSTANCES])
}

/// The last number that a table gave to a row. `None`: it numbers none.
fn last_id(connection: &mut Connection, table: &str) -> Result<Option<i64>, Error> {
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
fn set_last_id(connection: &mut Connection, table: &str, last_id: i64) -> Result<(), Error> {
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
