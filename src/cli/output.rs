//! Answers on stdout: one JSON document with `--json`, else aligned text for people.

use super::failure::Failure;
use crate::domain::credits::Credits;
use crate::domain::expiry;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// Something that can be printed: its fields are the JSON document, its lines are for people.
pub(super) trait Show: Serialize {
    /// What to say of an empty list.
    const NONE: &'static str;

    /// Headings and texts, in the order people read them.
    fn lines(&self) -> Vec<(&'static str, String)>;
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// One JSON document instead of text.
    pub json: bool,
}

impl Output {
    /// Prints one thing, a line a field.
    pub fn one<T: Show>(self, thing: &T) -> Result<(), Failure> {
        if self.json {
            return self.document(thing);
        }
        let mut table = table();
        for (heading, text) in thing.lines() {
            table.add_row([heading.to_owned(), text]);
        }
        print(&trimmed(&table))
    }

    /// Prints a list, a row a thing.
    pub fn list<T: Show>(self, things: &[T]) -> Result<(), Failure> {
        if self.json {
            return self.document(&things);
        }
        let Some(first) = things.first() else {
            eprintln!("{}", T::NONE);
            return Ok(());
        };
        let mut table = table();
        table.set_header(first.lines().iter().map(|(heading, _)| heading.to_uppercase()));
        for thing in things {
            table.add_row(thing.lines().into_iter().map(|(_, text)| text.replace('\n', ", ")));
        }
        print(&trimmed(&table))
    }

    /// Prints a document as JSON.
    pub fn document(self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::Failed(format!("The answer cannot be written as JSON: {error}.")))?;
        print(&text)
    }
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Without the padding at both ends of each line.
fn trimmed(table: &Table) -> String {
    let lines: Vec<String> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Writes to stdout; a reader who has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("The answer cannot be written to stdout: {error}.")))
        }
        _ => Ok(()),
    }
}

/// That something is gone.
#[derive(Serialize)]
pub(super) struct Deleted {
    /// Row that was.
    pub id: String,
    /// What it was called.
    pub name: String,
    /// Always true: scripts look for it.
    pub deleted: bool,
}

impl Deleted {
    /// The row of this id and name.
    pub fn of(id: i64, name: String) -> Self {
        Self { id: id.to_string(), name, deleted: true }
    }
}

impl Show for Deleted {
    const NONE: &'static str = "";

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![("Id", self.id.clone()), ("Name", self.name.clone()), ("Deleted", yes_no(self.deleted))]
    }
}

/// Credits as every contract has them: `1.250000`.
pub(super) fn credits(micros: i64) -> String {
    Credits::from_micros(micros).to_string()
}

/// RFC 3339 in UTC.
pub(super) fn moment(at_ms: i64) -> String {
    expiry::rfc3339(at_ms)
}

/// `yes` or `no`.
pub(super) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
