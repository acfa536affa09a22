//! `keyhouse group`: pricing groups.

use super::data::Context;
use super::failure::Failure;
use super::output::{Show, moment};
use crate::domain::price::Multiplier;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::groups::{self, Group};
use clap::{Args, Subcommand};
use serde::Serialize;

/// Make and list pricing groups; change what they multiply prices by
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  keyhouse group create premium --multiplier 1.5")]
pub(super) enum GroupCommand {
    /// Make a pricing group
    #[command(after_help = "Example:\n  keyhouse group create batch --multiplier 0.5")]
    Create(Create),
    /// List all groups
    #[command(after_help = "Example:\n  keyhouse group list")]
    List,
    /// Change a group's multiplier, from the next call
    #[command(after_help = "Example:\n  keyhouse group set-multiplier batch 0.4")]
    SetMultiplier(SetMultiplier),
}

/// A new group.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Unique name
    #[arg(value_parser = groups::parse_name)]
    name: String,
    /// What prices are multiplied by, such as 1.5
    #[arg(long, value_name = "M", value_parser = Multiplier::parse, allow_hyphen_values = true)]
    multiplier: Multiplier,
}

/// A change of price.
#[derive(Debug, Args)]
pub(super) struct SetMultiplier {
    /// Name of the group
    name: String,
    /// What prices are multiplied by, such as 1.5
    #[arg(value_name = "M", value_parser = Multiplier::parse, allow_hyphen_values = true)]
    multiplier: Multiplier,
}

#[derive(Serialize)]
struct GroupView {
    id: String,
    name: String,
    multiplier: String,
    created_at: String,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id.to_string(),
            multiplier: group.multiplier().to_string(),
            name: group.name,
            created_at: moment(group.created_at_ms),
        }
    }
}

impl Show for GroupView {
    const NONE: &'static str = "There are no groups.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Id", self.id.clone()),
            ("Name", self.name.clone()),
            ("Multiplier", self.multiplier.clone()),
            ("Created", self.created_at.clone()),
        ]
    }
}

/// Runs one of the subcommands.
pub(super) fn run(command: GroupCommand, context: &Context) -> Result<(), Failure> {
    match command {
        GroupCommand::List => {
            let groups = context.with(|connection, _| groups::list(connection))?;
            context.output.list(&groups.into_iter().map(GroupView::from).collect::<Vec<_>>())
        }
        GroupCommand::Create(Create { name, multiplier }) => {
            let group = context.with(|connection, now_ms| {
                groups::create(connection, &name, multiplier, &Actor::cli(), now_ms)?;
                groups::find_by_name(connection, &name)
            })?;
            context.output.one(&GroupView::from(group))
        }
        GroupCommand::SetMultiplier(SetMultiplier { name, multiplier }) => {
            let group = context
                .with(|connection, now_ms| {
                    let group = groups::find_by_name(connection, &name)?;
                    groups::set_multiplier(connection, group.id, multiplier, &Actor::cli(), now_ms)?;
                    groups::find_by_name(connection, &name)
                })
                .map_err(unknown(&name))?;
            context.output.one(&GroupView::from(group))
        }
    }
}

/// Says that there is no such group.
pub(super) fn unknown(name: &str) -> impl FnOnce(Error) -> Failure {
    Failure::not_found(move || format!("There is no group {name:?}; `keyhouse group list` shows all."))
}
