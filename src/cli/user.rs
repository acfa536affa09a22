//! `keyhouse user`: logins and their accounts.

use super::data::Context;
use super::failure::Failure;
use super::output::{Deleted, Show, credits, moment, yes_no};
use super::sign_in_link::{self, LinkOptions, SignInLink};
use super::stdin;
use crate::domain::Invalid;
use crate::domain::credits::Credits;
use crate::domain::grant::parse_note;
use crate::domain::sign_in_link::SignInToken;
use crate::domain::user::{NewPassword, UserName};
use crate::error::Error;
use crate::password;
use crate::store::audit::Actor;
use crate::store::users::{self, NewUser, User};
use crate::store::{Connection, grants};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Subcommand};
use serde::Serialize;
use std::io::IsTerminal;

/// Make, list, switch and delete users; give and take credits
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  keyhouse user grant ada 25 --note \"March\"")]
pub(super) enum UserCommand {
    Create(Create),
    /// List all users with their credits
    #[command(after_help = "Example:\n  keyhouse user list --json")]
    List,
    Grant(Grant),
    /// End a user's sessions and stop their keys, from the next call
    #[command(after_help = "Example:\n  keyhouse user disable ada")]
    Disable(Named),
    /// Undo disable
    #[command(after_help = "Example:\n  keyhouse user enable ada")]
    Enable(Named),
    SetAdmin(SetAdmin),
    /// Delete a user: keys and sessions are gone at once, charges and grants stay, the name is free again
    #[command(after_help = "Example:\n  keyhouse user delete ada")]
    Delete(Named),
    SetPassword(SetPassword),
    /// Switch off the second factor of a user who lost it; their password alone lets them in then
    #[command(after_help = "Example:\n  keyhouse user reset-second-factor ada")]
    ResetSecondFactor(Named),
    SignInLink(SignInLink),
}

/// Make a user
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  printf %s \"$PASSWORD\" | keyhouse user create ada --admin --password-stdin\n  \
                  keyhouse user create bob --sign-in-link --public-url https://keys.example.com"
)]
pub(super) struct Create {
    /// Login name: letters, digits, or . _ - @
    #[arg(value_parser = UserName::parse)]
    name: UserName,
    /// May manage users, groups, models and upstreams
    #[arg(long)]
    admin: bool,
    /// Read the password from stdin; at a terminal it is asked for
    #[arg(long, conflicts_with = "sign_in_link")]
    password_stdin: bool,
    /// Set no password, and print a link by which the user sets one
    #[arg(long)]
    sign_in_link: bool,
    #[command(flatten)]
    link: LinkOptions,
}

/// Add credits to an account, or take some with a negative number
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keyhouse user grant ada 25 --note \"March\"\n  keyhouse user grant ada -5"
)]
pub(super) struct Grant {
    /// Login name
    #[arg(value_parser = UserName::parse)]
    name: UserName,
    /// Such as 25, 0.5 or -5
    #[arg(value_parser = Credits::parse_signed, allow_hyphen_values = true)]
    credits: Credits,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

/// A user by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Login name
    #[arg(value_parser = UserName::parse)]
    name: UserName,
}

/// Make a user an admin, or no longer one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  keyhouse user set-admin ada yes\n  keyhouse user set-admin ada no")]
pub(super) struct SetAdmin {
    /// Login name
    #[arg(value_parser = UserName::parse)]
    name: UserName,
    /// Whether they shall be one
    #[arg(value_name = "YES|NO", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    admin: bool,
}

/// Set a user's password and end their sessions
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  printf %s \"$PASSWORD\" | keyhouse user set-password ada --password-stdin"
)]
pub(super) struct SetPassword {
    /// Login name
    #[arg(value_parser = UserName::parse)]
    name: UserName,
    /// Read the password from stdin; at a terminal it is asked for
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Serialize)]
struct UserView {
    id: String,
    name: String,
    is_admin: bool,
    enabled: bool,
    balance: String,
    held: String,
    created_at: String,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            name: user.name,
            is_admin: user.is_admin,
            enabled: user.enabled,
            balance: credits(user.balance_micros),
            held: credits(user.held_micros),
            created_at: moment(user.created_at_ms),
        }
    }
}

/// A user who was made, and the link to give them.
#[derive(Serialize)]
struct MadeView {
    #[serde(flatten)]
    user: UserView,
    sign_in_link: String,
    sign_in_link_expires_at: String,
}

impl Show for MadeView {
    const NONE: &'static str = UserView::NONE;

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = self.user.lines();
        lines.push(("Sign-in link", self.sign_in_link.clone()));
        lines.push(("Works until", self.sign_in_link_expires_at.clone()));
        lines
    }
}

impl Show for UserView {
    const NONE: &'static str = "There are no users yet; make one with `keyhouse user create NAME`.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Id", self.id.clone()),
            ("Name", self.name.clone()),
            ("Admin", yes_no(self.is_admin)),
            ("Enabled", yes_no(self.enabled)),
            ("Balance", self.balance.clone()),
            ("Held", self.held.clone()),
            ("Created", self.created_at.clone()),
        ]
    }
}

/// Runs one of the subcommands.
pub(super) fn run(command: UserCommand, context: &Context) -> Result<(), Failure> {
    match command {
        UserCommand::Create(options) => create(options, context),
        UserCommand::List => {
            let users = context.with(|connection, _| users::list(connection))?;
            context.output.list(&users.into_iter().map(UserView::from).collect::<Vec<_>>())
        }
        UserCommand::Grant(options) => grant(&options, context),
        UserCommand::Disable(Named { name }) => set_enabled(&name, false, context),
        UserCommand::Enable(Named { name }) => set_enabled(&name, true, context),
        UserCommand::SetAdmin(SetAdmin { name, admin }) => act(&name, context, |connection, id, now_ms| {
            users::set_admin(connection, id, admin, &Actor::cli(), now_ms)
        }),
        UserCommand::Delete(Named { name }) => delete(&name, context),
        UserCommand::SetPassword(options) => set_password(&options, context),
        UserCommand::ResetSecondFactor(Named { name }) => act(&name, context, |connection, id, now_ms| {
            users::reset_second_factor(connection, id, &Actor::cli(), now_ms)
        }),
        UserCommand::SignInLink(options) => sign_in_link::run(&options, context),
    }
}

fn create(options: Create, context: &Context) -> Result<(), Failure> {
    if options.sign_in_link {
        return create_with_link(options, context);
    }
    let password_hash = Some(password::hash(&new_password(&options.name, options.password_stdin)?)?);
    let new = NewUser { password_hash, name: options.name, is_admin: options.admin };
    let user = context.with(|connection, now_ms| {
        let id = users::create(connection, &new, &Actor::cli(), now_ms)?;
        users::find(connection, id)
    })?;
    context.output.one(&UserView::from(user))
}

fn create_with_link(options: Create, context: &Context) -> Result<(), Failure> {
    let new = NewUser { password_hash: None, name: options.name, is_admin: options.admin };
    let token = SignInToken::generate();
    let (user, expires_at_ms) = context.with(|connection, now_ms| {
        let (digest, actor) = (token.digest(), Actor::cli());
        let (id, expires_at_ms) =
            users::create_with_link(connection, &new, Credits::ZERO, &digest, &actor, now_ms)?;
        Ok((users::find(connection, id)?, expires_at_ms))
    })?;
    context.output.one(&MadeView {
        user: UserView::from(user),
        sign_in_link: options.link.of(&token),
        sign_in_link_expires_at: moment(expires_at_ms),
    })
}

fn grant(options: &Grant, context: &Context) -> Result<(), Failure> {
    let note = parse_note(&options.note).map_err(|why| Failure::flag("--note", &why))?;
    let user = context.with(|connection, _| users::find_by_name(connection, options.name.as_str()));
    let user = user.map_err(unknown(&options.name))?;
    let user = context.with(|connection, now_ms| {
        grants::grant(connection, user.id, options.credits, &note, &Actor::cli(), now_ms)?;
        users::find(connection, user.id)
    })?;
    context.output.one(&UserView::from(user))
}

fn set_enabled(name: &UserName, enabled: bool, context: &Context) -> Result<(), Failure> {
    act(name, context, |connection, id, now_ms| {
        users::set_enabled(connection, id, enabled, &Actor::cli(), now_ms)
    })
}

/// Does something to a user, and shows them as they are then.
fn act(
    name: &UserName,
    context: &Context,
    act: impl FnOnce(&mut Connection, i64, i64) -> Result<(), Error>,
) -> Result<(), Failure> {
    let user = context
        .with(|connection, now_ms| {
            let user = users::find_by_name(connection, name.as_str())?;
            act(connection, user.id, now_ms)?;
            users::find(connection, user.id)
        })
        .map_err(unknown(name))?;
    context.output.one(&UserView::from(user))
}

fn delete(name: &UserName, context: &Context) -> Result<(), Failure> {
    let user = context
        .with(|connection, now_ms| {
            let user = users::find_by_name(connection, name.as_str())?;
            users::delete(connection, user.id, &Actor::cli(), now_ms)?;
            Ok(user)
        })
        .map_err(unknown(name))?;
    context.output.one(&Deleted::of(user.id, user.name))
}

fn set_password(options: &SetPassword, context: &Context) -> Result<(), Failure> {
    let user = context
        .with(|connection, _| users::find_by_name(connection, options.name.as_str()))
        .map_err(unknown(&options.name))?;
    let hash = password::hash(&new_password(&options.name, options.password_stdin)?)?;
    context
        .with(|connection, now_ms| users::set_password(connection, user.id, &hash, &Actor::cli(), now_ms))?;
    context.output.one(&UserView::from(user))
}

fn new_password(name: &UserName, from_stdin: bool) -> Result<NewPassword, Failure> {
    if !from_stdin && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "Give the password on stdin and say so with --password-stdin, or let the user set one with --sign-in-link."
                .to_owned(),
        ));
    }
    let typed = stdin::read_new_password()?;
    NewPassword::parse(&typed, name.as_str()).map_err(|why: Invalid| Failure::flag("--password-stdin", &why))
}

/// The user of a name, for other commands.
pub(super) fn find(connection: &mut Connection, name: &UserName) -> Result<User, Failure> {
    users::find_by_name(connection, name.as_str()).map_err(unknown(name))
}

fn unknown(name: &UserName) -> impl FnOnce(Error) -> Failure {
    Failure::not_found(move || format!("There is no user {}; `keyhouse user list` shows all.", name.as_str()))
}
