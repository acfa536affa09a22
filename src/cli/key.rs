//! `keyhouse key`: API keys, of any user.

use super::data::Context;
use super::failure::Failure;
use super::output::{Deleted, Show, credits, moment};
use super::{group, user};
use crate::clock;
use crate::domain::Invalid;
use crate::domain::key::{KeyDraft, KeySettings};
use crate::domain::secret::{KeySecret, masked};
use crate::domain::user::UserName;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::groups::{self, Group};
use crate::store::keys::{self, Key, NewKey};
use crate::store::users::User;
use crate::store::{Connection, group_users, key_list, users};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::HashMap;

/// Rows read at a time.
const PAGE: i64 = 1_000;

/// Make, list, switch and delete API keys
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  keyhouse key disable 12")]
pub(super) enum KeyCommand {
    Create(Create),
    List(List),
    /// Show one key
    #[command(after_help = "Example:\n  keyhouse key show 12 --json")]
    Show(Id),
    /// Switch a key on
    #[command(after_help = "Example:\n  keyhouse key enable 12")]
    Enable(Id),
    /// Switch a key off, from the next call
    #[command(after_help = "Example:\n  keyhouse key disable 12")]
    Disable(Id),
    /// Delete a key for good; its charges stay
    #[command(after_help = "Example:\n  keyhouse key delete 12")]
    Delete(Id),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  keyhouse key create --user ada --name laptop
  keyhouse key create --user ada --name ci --expires 2027-01-31 --credit-limit 10 --group batch \\
      --model 'gpt-4*' --ip 10.0.0.0/8 --ip 2001:db8::1 --json";

/// Make a key; its secret is printed
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(super) struct Create {
    /// Whose it is
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    user: UserName,
    /// Label
    #[arg(long, value_name = "N")]
    name: String,
    /// Last day (UTC), or a moment such as 2027-01-31T12:00:00Z [default: never]
    #[arg(long, value_name = "DATE", value_parser = given)]
    expires: Option<String>,
    /// Most credits it may use [default: unlimited, bound by the account]
    #[arg(long, value_name = "C", value_parser = given, allow_hyphen_values = true)]
    credit_limit: Option<String>,
    /// Pricing group, fixed for the key's life [default: default, or else the first that the user may choose]
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// A model it may use, or the beginning of names and one *; again for more [default: all]
    #[arg(long = "model", value_name = "M", value_parser = given)]
    models: Vec<String>,
    /// An address or network it may be used from; again for more [default: any]
    #[arg(long = "ip", value_name = "CIDR", value_parser = given)]
    ips: Vec<String>,
}

/// List keys with their status
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse key list --user ada")]
pub(super) struct List {
    /// Only this user's
    #[arg(long, value_name = "NAME", value_parser = UserName::parse)]
    user: Option<UserName>,
}

/// A key by id.
#[derive(Debug, Args)]
pub(super) struct Id {
    /// As in the list
    id: i64,
}

/// `--model "$UNSET"` must not become "all models".
fn given(raw: &str) -> Result<String, Invalid> {
    if raw.split([',', '\n']).all(|entry| entry.trim().is_empty()) {
        return Err(Invalid::new("It is empty; enter a value or leave the flag out."));
    }
    Ok(raw.to_owned())
}

#[derive(Serialize)]
struct KeyView {
    id: String,
    user_id: String,
    user: String,
    name: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    status: String,
    enabled: bool,
    group: String,
    multiplier: String,
    credit_limit: Option<String>,
    credits_used: String,
    credits_held: String,
    expires_at: Option<String>,
    models: Vec<String>,
    ip_allowlist: Vec<String>,
    created_at: String,
    last_used_at: Option<String>,
}

impl KeyView {
    fn of(key: &Key, group: &Group, user: &str, now_ms: i64) -> Result<Self, Error> {
        Ok(Self {
            id: key.id.to_string(),
            user_id: key.user_id.to_string(),
            user: user.to_owned(),
            name: key.name.clone(),
            key: masked(&key.last4),
            secret: None,
            status: key.standing().status(now_ms).label().to_lowercase(),
            enabled: key.enabled,
            group: group.name.clone(),
            multiplier: group.multiplier().to_string(),
            credit_limit: key.credit_limit_micros.map(credits),
            credits_used: credits(key.credits_used_micros),
            credits_held: credits(key.credits_held_micros),
            expires_at: key.expires_at_ms.map(moment),
            models: key.models()?.patterns().to_vec(),
            ip_allowlist: key.ip_allowlist()?.entries().collect(),
            created_at: moment(key.created_at_ms),
            last_used_at: key.last_used_at_ms.map(moment),
        })
    }
}

impl Show for KeyView {
    const NONE: &'static str =
        "There are no keys yet; make one with `keyhouse key create --user NAME --name LABEL`.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        let or =
            |text: &Option<String>, otherwise: &str| text.clone().unwrap_or_else(|| otherwise.to_owned());
        let all = |entries: &[String], none: &str| match entries {
            [] => none.to_owned(),
            entries => entries.join("\n"),
        };
        let key = self.secret.as_ref().unwrap_or(&self.key).clone();
        vec![
            ("Id", self.id.clone()),
            ("User", self.user.clone()),
            ("Name", self.name.clone()),
            ("Key", key),
            ("Status", self.status.clone()),
            ("Group", format!("{} ×{}", self.group, self.multiplier)),
            ("Used", self.credits_used.clone()),
            ("Limit", or(&self.credit_limit, "unlimited")),
            ("Expires", or(&self.expires_at, "never")),
            ("Models", all(&self.models, "all")),
            ("IPs", all(&self.ip_allowlist, "any")),
            ("Created", self.created_at.clone()),
            ("Last used", or(&self.last_used_at, "never")),
        ]
    }
}

/// Runs one of the subcommands.
pub(super) fn run(command: KeyCommand, context: &Context) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(options) => create(&options, context),
        KeyCommand::List(options) => list(&options, context),
        KeyCommand::Show(Id { id }) => show(id, context),
        KeyCommand::Enable(Id { id }) => set_enabled(id, true, context),
        KeyCommand::Disable(Id { id }) => set_enabled(id, false, context),
        KeyCommand::Delete(Id { id }) => delete(id, context),
    }
}

fn create(options: &Create, context: &Context) -> Result<(), Failure> {
    let settings = settings(options)?;
    let user = context.with(|connection, _| Ok(user::find(connection, &options.user)))??;
    let group = choose_group(options.group.as_deref(), &user, context)?;
    let vault = context.open_vault()?;
    let secret = KeySecret::generate();
    let ciphertext = vault.seal_key(user.id, &secret)?;
    let view = context.with(|connection, now_ms| {
        let new = NewKey {
            user_id: user.id,
            group_id: group.id,
            settings: &settings,
            secret: &secret,
            ciphertext: &ciphertext,
        };
        let id = keys::create(connection, &new, &Actor::cli(), now_ms)?;
        let (key, group) = keys::find(connection, user.id, id)?;
        let view = KeyView::of(&key, &group, &user.name, now_ms)?;
        Ok(KeyView { secret: Some(secret.expose().to_owned()), ..view })
    })?;
    context.output.one(&view)
}

/// The named group, or the one that the form would offer first. Whether the user may choose it is for the store to say.
fn choose_group(name: Option<&str>, user: &User, context: &Context) -> Result<Group, Failure> {
    if let Some(name) = name {
        return context
            .with(|connection, _| groups::find_by_name(connection, name.trim()))
            .map_err(group::unknown(name));
    }
    let choices = context.with(|connection, _| group_users::choices(connection, user.id))?;
    group_users::default_choice(&choices).cloned().ok_or_else(|| {
        let name = &user.name;
        Failure::Failed(format!(
            "There is no group that {name} may choose; let them with `keyhouse group allow GROUP {name}`."
        ))
    })
}

fn settings(options: &Create) -> Result<KeySettings, Failure> {
    let (models, ip_allowlist) = (options.models.join("\n"), options.ips.join("\n"));
    let draft = KeyDraft {
        name: &options.name,
        expires: options.expires.as_deref().unwrap_or_default(),
        credit_limit: options.credit_limit.as_deref(),
        models: &models,
        ip_allowlist: &ip_allowlist,
    };
    draft.parse(clock::now_ms(), None).map_err(|errors| Failure::fields(&errors, flag_of))
}

fn flag_of(field: &'static str) -> &'static str {
    match field {
        "name" => "--name",
        "expires" => "--expires",
        "credit_limit" => "--credit-limit",
        "models" => "--model",
        "ip_allowlist" => "--ip",
        other => other,
    }
}

fn list(options: &List, context: &Context) -> Result<(), Failure> {
    let user = match &options.user {
        Some(name) => Some(context.with(|connection, _| Ok(user::find(connection, name)))??),
        None => None,
    };
    let views = context.with(|connection, now_ms| {
        let names: HashMap<i64, String> =
            users::list(connection)?.into_iter().map(|user| (user.id, user.name)).collect();
        let rows = all(connection, user.map(|user| user.id))?;
        let view = |(key, group): &(Key, Group)| {
            // A user made since the names were read is shown by id.
            let user = names.get(&key.user_id).cloned().unwrap_or_else(|| key.user_id.to_string());
            KeyView::of(key, group, &user, now_ms)
        };
        rows.iter().map(view).collect::<Result<Vec<_>, _>>()
    })?;
    context.output.list(&views)
}

fn all(connection: &mut Connection, user_id: Option<i64>) -> Result<Vec<(Key, Group)>, Error> {
    let mut rows: Vec<(Key, Group)> = Vec::new();
    loop {
        let after_id = rows.last().map_or(0, |(key, _)| key.id);
        let page = key_list::by_id(connection, user_id, after_id, PAGE)?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

fn show(id: i64, context: &Context) -> Result<(), Failure> {
    let view = context.with(|connection, now_ms| view(connection, id, now_ms)).map_err(unknown(id))?;
    context.output.one(&view)
}

fn set_enabled(id: i64, enabled: bool, context: &Context) -> Result<(), Failure> {
    let view = context
        .with(|connection, now_ms| {
            let user_id = keys::owner(connection, id)?;
            keys::set_enabled(connection, user_id, id, enabled, &Actor::cli(), now_ms)?;
            view(connection, id, now_ms)
        })
        .map_err(unknown(id))?;
    context.output.one(&view)
}

fn delete(id: i64, context: &Context) -> Result<(), Failure> {
    let deleted = context
        .with(|connection, now_ms| {
            let user_id = keys::owner(connection, id)?;
            let (key, _) = keys::find(connection, user_id, id)?;
            keys::delete(connection, user_id, id, &Actor::cli(), now_ms)?;
            Ok(Deleted::of(id, key.name))
        })
        .map_err(unknown(id))?;
    context.output.one(&deleted)
}

fn view(connection: &mut Connection, id: i64, now_ms: i64) -> Result<KeyView, Error> {
    let user_id = keys::owner(connection, id)?;
    let (key, group) = keys::find(connection, user_id, id)?;
    let user = users::find(connection, user_id)?;
    KeyView::of(&key, &group, &user.name, now_ms)
}

fn unknown(id: i64) -> impl FnOnce(Error) -> Failure {
    Failure::not_found(move || format!("There is no key {id}; `keyhouse key list` shows all."))
}
