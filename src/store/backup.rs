//! All that is stored as lines of JSON, the same for either engine: a backup, and the way from SQLite to PostgreSQL or back.
//! What only the present knows is left out: who is signed in, links to sign in with, tries that are counted, price lists on
//! their way in, servers that run.

mod tables;

use super::{Connection, DatabaseUrl, ask, instances};
use crate::error::Error;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, BufRead, Read, Write};
use tables::{Batch, TABLES, each_row, last_id, numbered, set_last_id};

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
        return Err(Error::Internal(format!(
            "a server runs on this database, or did seconds ago; stop it, or try again in {} seconds if it was killed",
            instances::SILENCE_MAX.as_secs()
        )));
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
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}
