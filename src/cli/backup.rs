//! `keyhouse backup` and `keyhouse restore`: all that is stored in one file, of either engine and for either.

use super::data::{Context, DataOptions};
use super::failure::Failure;
use super::output::{self, Output};
use crate::error::Error;
use crate::store::backup::{self, Rows};
use crate::store::doctor;
use clap::Args;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Write all that is stored to one file, also beside a running server
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keyhouse backup house.jsonl.gz
  keyhouse backup $(date +%F).jsonl.gz --database-url postgres://keyhouse@db.example/keyhouse

Not in it: the master key (keep a copy apart: both together open every secret, neither does alone),
who is signed in, sign-in links that were not used yet, and price lists on their way in.")]
pub(super) struct BackupOptions {
    /// The file to make: lines of JSON, compressed by gzip. One that is there is not replaced
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Fill a new database from a backup, be it of SQLite or of PostgreSQL
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keyhouse restore house.jsonl.gz --data-dir /var/lib/keyhouse
  keyhouse restore house.jsonl.gz --database-url postgres://keyhouse@db.example/keyhouse

From SQLite to PostgreSQL: stop the server, back up, restore, and serve from there with the same
master key. Everybody signs in anew.")]
pub(super) struct RestoreOptions {
    /// What `keyhouse backup` made
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct BackedUp {
    file: String,
    bytes: u64,
    rows: Rows,
}

#[derive(Serialize)]
struct Restored {
    database: String,
    rows: Rows,
}

/// Writes the file beside its place, and puts it there when it is whole.
pub(super) fn back_up(options: &BackupOptions, context: &Context) -> Result<(), Failure> {
    let path = options.file.as_path();
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("The backup {} cannot be written: {error}.", path.display()))
    };
    if path.symlink_metadata().is_ok() {
        return Err(failed(&"there is such a file, which is not replaced; name another"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(failed(&format!("there is no directory {}; make it first", folder.display())));
    }
    // For its owner alone, as tempfile makes it; and to be seen where it is left behind by a process that was killed.
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".part-");
    let made = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder);
    let file = made.map_err(|error| failed(&error))?;
    let mut to = GzEncoder::new(BufWriter::new(file), Compression::fast());
    let written = context.with(|connection, _| backup::write(connection, &mut to, &mut tell));
    untell();
    let rows = written?;
    let file = to.finish().and_then(|to| to.into_inner().map_err(io::Error::from));
    let file = file.map_err(|error| failed(&error))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let bytes = file.as_file().metadata().map_err(|error| failed(&error))?.len();
    file.persist_noclobber(path).map_err(|error| failed(&error.error))?;
    let made = BackedUp { file: path.display().to_string(), bytes, rows };
    if context.output.json {
        return context.output.document(&made);
    }
    output::print(&format!(
        "{}: {} rows, {bytes} bytes. Keep a copy of the master key too, apart from it.",
        made.file,
        made.rows.values().sum::<u64>()
    ))
}

/// Restores, and proves the laws on what is there then.
pub(super) fn restore(options: &RestoreOptions, data: &DataOptions, output: Output) -> Result<(), Failure> {
    let path = options.file.as_path();
    let file = File::open(path)
        .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}.", path.display())))?;
    let url = data.database_url()?;
    data.make_data_dir()?;
    let mut from = BufReader::new(MultiGzDecoder::new(BufReader::new(file)));
    let restored = backup::read(&url, &mut from, &mut tell);
    untell();
    let rows = restored.map_err(|error| match error {
        Error::Internal(why) => Failure::Failed(format!("{}: {why}.", path.display())),
        other => other.into(),
    })?;
    let store = data.open_store()?;
    let breaches = store.with(doctor::examine)?.breaches;
    let restored = Restored { database: url.to_string(), rows };
    if output.json {
        output.document(&restored)?;
    } else {
        let rows = restored.rows.values().sum::<u64>();
        output::print(&format!("{}: {rows} rows restored.", restored.database))?;
    }
    if !breaches.is_empty() {
        return Err(Failure::Failed(format!(
            "It holds what the backup held, and breaches of the rules are in it: {}. `keyhouse doctor` tells them.",
            breaches.len()
        )));
    }
    // Nothing is wrong with what was restored where the key is still to be brought, and none is made in its place.
    let master_key = data.master_key_file();
    if !master_key.exists() {
        eprintln!(
            "Next: put a copy of the master key that it was used with at {}, or name it by --master-key-file.",
            master_key.display()
        );
    } else if let Err(Failure::Failed(why)) = data.open_vault(&store) {
        eprintln!("{why}");
    }
    Ok(())
}

/// Says on a terminal how far it is.
fn tell(table: &str, rows: u64) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{table}: {rows}");
        let _ = io::stderr().flush();
    }
}

/// Wipes what was said.
fn untell() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
