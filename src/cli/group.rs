//! `keyhouse group`: pricing groups, and who may choose them.

use super::data::Context;
use super::failure::Failure;
use super::output::{Deleted, Show, moment, yes_no};
use crate::domain::group::parse_name;
use crate::domain::price::Multiplier;
use crate::domain::user::UserName;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::groups::{self, Change, Group};
use crate::store::{Connection, group_users};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::HashMap;

/// Make, list, change and delete pricing groups
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  keyhouse group create premium --multiplier 1.5")]
pub(super) enum GroupCommand {
    /// Make a pricing group
    #[command(after_help = "Example:\n  keyhouse group create batch --multiplier 0.5")]
    Create(Create),
    /// List all groups
    #[command(after_help = "Example:\n  keyhouse group list")]
    List,
    /// Give a group another name
    #[command(after_help = "Example:\n  keyhouse group rename batch overnight")]
    Rename(Rename),
    /// Change a group's multiplier, from the next call
    #[command(after_help = "Example:\n  keyhouse group set-multiplier batch 0.4")]
    SetMultiplier(SetMultiplier),
    /// Let nobody choose a group for new keys; keys that have it keep it
    #[command(after_help = "Example:\n  keyhouse group hide batch")]
    Hide(Named),
    /// Undo hide
    #[command(after_help = "Example:\n  keyhouse group unhide batch")]
    Unhide(Named),
    Allow(Allow),
    Disallow(Disallow),
    /// Delete a group that no key has
    #[command(after_help = "Example:\n  keyhouse group delete batch")]
    Delete(Named),
}

/// A new group.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Unique name
    #[arg(value_parser = parse_name)]
    name: String,
    /// What prices are multiplied by, such as 1.5
    #[arg(long, value_name = "M", value_parser = Multiplier::parse, allow_hyphen_values = true)]
    multiplier: Multiplier,
}

/// Another name.
#[derive(Debug, Args)]
pub(super) struct Rename {
    /// Name of the group
    name: String,
    /// Its new name, unique
    #[arg(value_parser = parse_name)]
    new_name: String,
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

/// A group by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the group
    name: String,
}

/// Let only these users choose a group for new keys, besides those allowed before; or everybody
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keyhouse group allow premium ada bob\n  keyhouse group allow premium --everybody"
)]
pub(super) struct Allow {
    /// Name of the group
    name: String,
    /// Login names
    #[arg(value_name = "USER", value_parser = UserName::parse, required_unless_present = "everybody")]
    users: Vec<UserName>,
    /// Every user, also later ones
    #[arg(long, conflicts_with = "users")]
    everybody: bool,
}

/// Take users off a group's list; when nobody is left, nobody may choose it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse group disallow premium bob")]
pub(super) struct Disallow {
    /// Name of the group
    name: String,
    /// Login names
    #[arg(value_name = "USER", value_parser = UserName::parse, required = true)]
    users: Vec<UserName>,
}

#[derive(Serialize)]
struct GroupView {
    id: String,
    name: String,
    multiplier: String,
    hidden: bool,
    /// `None`: everybody.
    users: Option<Vec<String>>,
    keys: i64,
    created_at: String,
}

impl GroupView {
    fn of(connection: &mut Connection, group: Group, keys: &HashMap<i64, i64>) -> Result<Self, Error> {
        let users = group.restricted.then(|| group_users::names(connection, group.id)).transpose()?;
        Ok(Self {
            id: group.id.to_string(),
            multiplier: group.multiplier().to_string(),
            hidden: group.hidden,
            users,
            keys: keys.get(&group.id).copied().unwrap_or(0),
            name: group.name,
            created_at: moment(group.created_at_ms),
        })
    }
}

impl Show for GroupView {
    const NONE: &'static str = "There are no groups.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        let users = match self.users.as_deref() {
            None => "everybody".to_owned(),
            Some([]) => "nobody".to_owned(),
            Some(users) => users.join("\n"),
        };
        vec![
            ("Id", self.id.clone()),
            ("Name", self.name.clone()),
            ("Multiplier", self.multiplier.clone()),
            ("Hidden", yes_no(self.hidden)),
            ("Users", users),
            ("Keys", self.keys.to_string()),
            ("Created", self.created_at.clone()),
        ]
    }
}

/// Runs one of the subcommands.
pub(super) fn run(command: GroupCommand, context: &Context) -> Result<(), Failure> {
    match command {
        GroupCommand::List => list(context),
        GroupCommand::Create(options) => create(&options, context),
        GroupCommand::Rename(Rename { name, new_name }) => change(&name, Change::Name(&new_name), context),
        GroupCommand::SetMultiplier(SetMultiplier { name, multiplier }) => {
            change(&name, Change::Multiplier(multiplier), context)
        }
        GroupCommand::Hide(Named { name }) => change(&name, Change::Hidden(true), context),
        GroupCommand::Unhide(Named { name }) => change(&name, Change::Hidden(false), context),
        GroupCommand::Allow(Allow { name, everybody: true, .. }) => {
            change(&name, Change::Users(None), context)
        }
        GroupCommand::Allow(Allow { name, users, .. }) => change_users(&name, &users, true, context),
        GroupCommand::Disallow(Disallow { name, users }) => change_users(&name, &users, false, context),
        GroupCommand::Delete(Named { name }) => delete(&name, context),
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let views = context.with(|connection, _| {
        let keys = groups::key_counts(connection)?;
        let groups = groups::list(connection)?;
        groups.into_iter().map(|group| GroupView::of(connection, group, &keys)).collect::<Result<Vec<_>, _>>()
    })?;
    context.output.list(&views)
}

fn create(options: &Create, context: &Context) -> Result<(), Failure> {
    let id = context.with(|connection, now_ms| {
        groups::create(connection, &options.name, options.multiplier, &Actor::cli(), now_ms)
    })?;
    show(id, context)
}

fn change(name: &str, change: Change<'_>, context: &Context) -> Result<(), Failure> {
    let group = find(name, context)?;
    context.with(|connection, now_ms| {
        groups::change(connection, group.id, None, &[change], &Actor::cli(), now_ms)
    })?;
    show(group.id, context)
}

/// Adds users to those who may choose a group, or takes them off.
fn change_users(name: &str, users: &[UserName], allow: bool, context: &Context) -> Result<(), Failure> {
    let group = find(name, context)?;
    let named: Vec<String> = users.iter().map(|user| user.as_str().to_owned()).collect();
    let allowed = context.with(|connection, _| {
        // Told apart from a slip: a name that nobody has is refused either way.
        group_users::ids_of(connection, &named)?;
        let mut names = group_users::names(connection, group.id)?;
        names.retain(|name| !named.contains(name));
        if allow {
            names.extend(named);
        }
        group_users::ids_of(connection, &names)
    })?;
    if !allow && !group.restricted {
        let why =
            format!("Everybody may choose {name:?}; say who may with `keyhouse group allow {name} USER`.");
        return Err(Failure::Failed(why));
    }
    context.with(|connection, now_ms| {
        // Unless somebody else changed the group since it was read.
        let changes = [Change::Users(Some(&allowed))];
        groups::change(connection, group.id, Some(group.revision), &changes, &Actor::cli(), now_ms)
    })?;
    show(group.id, context)
}

fn delete(name: &str, context: &Context) -> Result<(), Failure> {
    let group = find(name, context)?;
    context.with(|connection, now_ms| groups::delete(connection, group.id, &Actor::cli(), now_ms))?;
    context.output.one(&Deleted::of(group.id, group.name))
}

fn find(name: &str, context: &Context) -> Result<Group, Failure> {
    context.with(|connection, _| groups::find_by_name(connection, name.trim())).map_err(unknown(name))
}

fn show(id: i64, context: &Context) -> Result<(), Failure> {
    let view = context.with(|connection, _| {
        let keys = groups::key_counts(connection)?;
        let group = groups::find(connection, id)?;
        GroupView::of(connection, group, &keys)
    })?;
    context.output.one(&view)
}

/// Says that there is no such group.
pub(super) fn unknown(name: &str) -> impl FnOnce(Error) -> Failure {
    Failure::not_found(move || format!("There is no group {name:?}; `keyhouse group list` shows all."))
}
