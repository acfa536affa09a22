//! `keyhouse migrate`: brings the database up to this release.

use super::data::DataOptions;
use super::failure::Failure;
use super::output::{self, Output};
use clap::Args;
use serde::Serialize;

/// Bring the database up to this release; serve and the other commands do so by themselves
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse migrate --database-url postgres://keyhouse@db.example/keyhouse")]
pub(super) struct MigrateOptions {}

#[derive(Serialize)]
struct Migrated {
    database: String,
    applied: Vec<String>,
}

/// Applies what is pending.
pub(super) fn run(_: &MigrateOptions, data: &DataOptions, output: Output) -> Result<(), Failure> {
    let url = data.database_url()?;
    data.make_data_dir()?;
    let applied = url.migrate()?;
    let migrated = Migrated { database: url.to_string(), applied };
    if output.json {
        return output.document(&migrated);
    }
    output::print(&match migrated.applied.as_slice() {
        [] => format!("{} is up to date.", migrated.database),
        applied => format!("{}: applied {}.", migrated.database, applied.join(", ")),
    })
}
