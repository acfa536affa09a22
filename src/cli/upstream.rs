//! `keyhouse upstream`: the providers behind the models.

use super::data::Context;
use super::failure::Failure;
use super::output::{Show, moment, yes_no};
use super::stdin;
use crate::domain::Invalid;
use crate::domain::upstream::{BaseUrl, Dialect, UpstreamName, UpstreamSecret, parse_pace_ms};
use crate::error::Error;
use crate::gateway::probe::probe;
use crate::store::Connection;
use crate::store::audit::Actor;
use crate::store::upstreams::{self, NewUpstream, SecretEdit, Settings, Upstream};
use clap::{Args, Subcommand};
use serde::Serialize;

/// Make, list, edit, test and switch the providers behind the models
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  keyhouse upstream disable openai")]
pub(super) enum UpstreamCommand {
    Create(Create),
    /// List all upstreams
    #[command(after_help = "Example:\n  keyhouse upstream list")]
    List,
    Edit(Edit),
    Rename(Rename),
    SetSecret(SetSecret),
    /// Remove an upstream's secret
    #[command(after_help = "Example:\n  keyhouse upstream unset-secret local")]
    UnsetSecret(Named),
    /// Call an upstream, and say whether and how fast it answers
    #[command(after_help = "Example:\n  keyhouse upstream test openai")]
    Test(Named),
    /// Take an upstream out of rotation
    #[command(after_help = "Example:\n  keyhouse upstream disable openai")]
    Disable(Named),
    /// Put an upstream back into rotation
    #[command(after_help = "Example:\n  keyhouse upstream enable openai")]
    Enable(Named),
    /// Delete an upstream that serves no model
    #[command(after_help = "Example:\n  keyhouse upstream delete openai")]
    Delete(Named),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  printf %s \"$OPENAI_API_KEY\" | keyhouse upstream create openai --dialect openai \\
      --base-url https://api.openai.com/v1 --secret-stdin
  printf %s \"$ANTHROPIC_API_KEY\" | keyhouse upstream create anthropic --dialect anthropic \\
      --base-url https://api.anthropic.com/v1 --secret-stdin
  keyhouse upstream create local --dialect openai --base-url http://127.0.0.1:11434/v1 \\
      --allow-private
  keyhouse upstream create echo --dialect echo --pace-ms 30";

/// Make an upstream
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(super) struct Create {
    /// Unique name: letters, digits, or . _ -
    #[arg(value_parser = UpstreamName::parse)]
    name: UpstreamName,
    /// How to talk to it: openai, anthropic, or echo, which is built in and answers by itself
    #[arg(long, value_name = "openai|anthropic|echo", value_parser = Dialect::parse)]
    dialect: Dialect,
    /// Where it is, up to and with /v1
    #[arg(long, value_name = "URL", value_parser = BaseUrl::parse)]
    base_url: Option<BaseUrl>,
    /// It may be on this machine or a private network
    #[arg(long)]
    allow_private: bool,
    /// Read its secret from stdin; at a terminal it is asked for
    #[arg(long)]
    secret_stdin: bool,
    /// Pause of the echo upstream between two chunks, in milliseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pace_ms: Option<i64>,
}

const EDIT_EXAMPLES: &str = "\
Examples:
  keyhouse upstream edit local --base-url http://10.0.0.7:8000/v1 --allow-private
  printf %s \"$EU_API_KEY\" | keyhouse upstream edit openai \\
      --base-url https://eu.api.openai.com/v1 --secret-stdin
  keyhouse upstream edit openai --public-only";

/// Change where an upstream is; the next call goes there
#[derive(Debug, Args)]
#[command(after_help = EDIT_EXAMPLES, group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Edit {
    /// Name of the upstream
    #[arg(value_parser = UpstreamName::parse)]
    name: UpstreamName,
    /// Where it is, up to and with /v1
    #[arg(long, value_name = "URL", value_parser = BaseUrl::parse, group = "change")]
    base_url: Option<BaseUrl>,
    /// Read its secret there from stdin; at a terminal it is asked for
    #[arg(long, requires = "base_url")]
    secret_stdin: bool,
    /// It may be on this machine or a private network
    #[arg(long, group = "change", conflicts_with = "public_only")]
    allow_private: bool,
    /// It may not be on this machine or a private network (any more)
    #[arg(long, group = "change")]
    public_only: bool,
    /// Pause of the echo upstream between two chunks, in milliseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true, group = "change")]
    pace_ms: Option<i64>,
}

/// Give an upstream another name
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse upstream rename openai openai-eu")]
pub(super) struct Rename {
    /// Name of the upstream
    #[arg(value_parser = UpstreamName::parse)]
    name: UpstreamName,
    /// Its new name: letters, digits, or . _ -
    #[arg(value_parser = UpstreamName::parse)]
    new_name: UpstreamName,
}

/// Replace an upstream's secret
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  printf %s \"$NEW_SECRET\" | keyhouse upstream set-secret openai --secret-stdin"
)]
pub(super) struct SetSecret {
    /// Name of the upstream
    #[arg(value_parser = UpstreamName::parse)]
    name: UpstreamName,
    /// Read the secret from stdin; at a terminal it is asked for
    #[arg(long, required = true)]
    secret_stdin: bool,
}

/// An upstream by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the upstream
    #[arg(value_parser = UpstreamName::parse)]
    name: UpstreamName,
}

#[derive(Serialize)]
struct UpstreamView {
    id: String,
    name: String,
    dialect: String,
    base_url: Option<String>,
    has_secret: bool,
    pace_ms: i64,
    allow_private: bool,
    enabled: bool,
    created_at: String,
}

impl UpstreamView {
    fn of(connection: &mut Connection, upstream: Upstream) -> Result<Self, Error> {
        Ok(Self {
            id: upstream.id.to_string(),
            name: upstream.name,
            dialect: upstream.dialect,
            base_url: Some(upstream.base_url).filter(|url| !url.is_empty()),
            has_secret: upstreams::secret_ciphertext(connection, upstream.id)?.is_some(),
            pace_ms: upstream.pace_ms,
            allow_private: upstream.allow_private,
            enabled: upstream.enabled,
            created_at: moment(upstream.created_at_ms),
        })
    }
}

impl Show for UpstreamView {
    const NONE: &'static str = "There are no upstreams yet; make one with `keyhouse upstream create`.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Id", self.id.clone()),
            ("Name", self.name.clone()),
            ("Dialect", self.dialect.clone()),
            ("Base URL", self.base_url.clone().unwrap_or_else(|| "(built in)".to_owned())),
            ("Secret", yes_no(self.has_secret)),
            ("Private", yes_no(self.allow_private)),
            ("Enabled", yes_no(self.enabled)),
            ("Created", self.created_at.clone()),
        ]
    }
}

/// Runs one of the subcommands.
pub(super) fn run(command: UpstreamCommand, context: &Context) -> Result<(), Failure> {
    match command {
        UpstreamCommand::Create(options) => create(&options, context),
        UpstreamCommand::List => {
            let views = context.with(|connection, _| {
                let upstreams = upstreams::list(connection)?;
                upstreams
                    .into_iter()
                    .map(|upstream| UpstreamView::of(connection, upstream))
                    .collect::<Result<Vec<_>, _>>()
            })?;
            context.output.list(&views)
        }
        UpstreamCommand::Edit(options) => edit(&options, context),
        UpstreamCommand::Test(Named { name }) => test(&name, context),
        UpstreamCommand::Delete(Named { name }) => delete(&name, context),
        UpstreamCommand::Rename(options) => rename(&options, context),
        UpstreamCommand::SetSecret(options) => set_secret(&options, context),
        UpstreamCommand::UnsetSecret(Named { name }) => store_secret(find(&name, context)?, None, context),
        UpstreamCommand::Disable(Named { name }) => set_enabled(&name, false, context),
        UpstreamCommand::Enable(Named { name }) => set_enabled(&name, true, context),
    }
}

fn create(options: &Create, context: &Context) -> Result<(), Failure> {
    let base_url = match (options.dialect, &options.base_url) {
        (Dialect::Echo, Some(_)) => {
            return Err(refuse("--base-url", "The echo upstream is built in; leave it out."));
        }
        (Dialect::Echo, None) => "",
        (_, Some(url)) => {
            url.permit(options.allow_private).map_err(|why| Failure::flag("--base-url", &why))?;
            url.as_str()
        }
        (_, None) => {
            return Err(refuse("--base-url", "Enter an absolute URL such as https://api.openai.com/v1."));
        }
    };
    if options.dialect == Dialect::Echo && options.secret_stdin {
        return Err(refuse("--secret-stdin", "The echo upstream has no secret; leave it out."));
    }
    if options.dialect == Dialect::Echo && options.allow_private {
        return Err(refuse("--allow-private", "The echo upstream is built in; leave it out."));
    }
    if options.dialect != Dialect::Echo && options.pace_ms.is_some() {
        return Err(refuse("--pace-ms", "Only the echo upstream has a pace; leave it out."));
    }
    let pace_ms =
        parse_pace_ms(options.pace_ms.unwrap_or(0)).map_err(|why| Failure::flag("--pace-ms", &why))?;
    let new = NewUpstream {
        name: options.name.as_str(),
        dialect: options.dialect,
        base_url,
        pace_ms,
        allow_private: options.allow_private,
    };
    let sealing = match options.secret_stdin {
        true => Some((context.open_vault()?, read_secret()?)),
        false => None,
    };
    let view = context.with(|connection, now_ms| {
        let seal = |id| sealing.map(|(vault, secret)| vault.seal_upstream(id, secret.expose())).transpose();
        upstreams::create(connection, &new, seal, &Actor::cli(), now_ms)?;
        let upstream = upstreams::find_by_name(connection, new.name)?;
        UpstreamView::of(connection, upstream)
    })?;
    context.output.one(&view)
}

fn edit(options: &Edit, context: &Context) -> Result<(), Failure> {
    let upstream = find(&options.name, context)?;
    let built_in = upstream.base_url.is_empty();
    if built_in && (options.base_url.is_some() || options.allow_private || options.public_only) {
        return Err(refuse("--base-url", "The echo upstream is built in; it has a pace alone."));
    }
    if !built_in && options.pace_ms.is_some() {
        return Err(refuse("--pace-ms", "Only the echo upstream has a pace; leave it out."));
    }
    let allow_private = options.allow_private || (upstream.allow_private && !options.public_only);
    let refused = |why: Invalid| Failure::flag("--base-url", &why);
    let base_url = options.base_url.as_ref().map_or(upstream.base_url.as_str(), BaseUrl::as_str);
    if !built_in {
        BaseUrl::parse(base_url).and_then(|url| url.permit(allow_private)).map_err(refused)?;
    }
    let pace_ms = parse_pace_ms(options.pace_ms.unwrap_or(upstream.pace_ms))
        .map_err(|why| Failure::flag("--pace-ms", &why))?;
    let settings = Settings { name: &upstream.name, base_url, pace_ms, allow_private };
    let sealed = options.secret_stdin.then(|| read_sealed(upstream.id, context)).transpose()?;
    let secret = sealed.as_deref().map_or(SecretEdit::Keep, SecretEdit::Replace);
    let edited = context.with(|connection, now_ms| {
        upstreams::edit(connection, upstream.id, &settings, secret, &Actor::cli(), now_ms)?;
        let upstream = upstreams::find_by_name(connection, options.name.as_str())?;
        UpstreamView::of(connection, upstream)
    });
    let view = edited.map_err(|error| match error {
        Error::Invalid(errors) if errors.of("secret").is_some() => refused(Invalid::from(format!(
            "The address leads elsewhere, and the stored secret is not for it. Give the secret for it with \
             --secret-stdin, or remove the stored one first: `keyhouse upstream unset-secret {}`.",
            upstream.name
        ))),
        error => error.into(),
    })?;
    context.output.one(&view)
}

fn read_sealed(id: i64, context: &Context) -> Result<Vec<u8>, Failure> {
    let vault = context.open_vault()?;
    Ok(vault.seal_upstream(id, read_secret()?.expose())?)
}

fn delete(name: &UpstreamName, context: &Context) -> Result<(), Failure> {
    let upstream = find(name, context)?;
    let view = context.with(|connection, now_ms| {
        let view = UpstreamView::of(connection, upstream.clone())?;
        upstreams::delete(connection, upstream.id, &Actor::cli(), now_ms)?;
        Ok(view)
    })?;
    context.output.one(&view)
}

/// What a call to an upstream came to.
#[derive(Serialize)]
struct TestView {
    name: String,
    works: bool,
    status: Option<u16>,
    latency_ms: u64,
    answer: String,
}

impl Show for TestView {
    const NONE: &'static str = "There is nothing to test.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Name", self.name.clone()),
            ("Works", yes_no(self.works)),
            ("Status", self.status.map_or_else(|| "(none)".to_owned(), |status| status.to_string())),
            ("Latency", format!("{} ms", self.latency_ms)),
            ("Answer", self.answer.clone()),
        ]
    }
}

fn test(name: &UpstreamName, context: &Context) -> Result<(), Failure> {
    let taken = context.with(|connection, now_ms| {
        let upstream = upstreams::find_by_name(connection, name.as_str())?;
        upstreams::take_for_test(connection, upstream.id, &Actor::cli(), now_ms)
    });
    let (upstream, sealed) = taken.map_err(unknown(name))?;
    let secret = match sealed {
        Some(sealed) => Some(context.open_vault()?.open_upstream(upstream.id, &sealed)?),
        None => None,
    };
    let probe = actix_web::rt::System::new().block_on(probe(&upstream, secret.as_deref()));
    let view = TestView {
        name: upstream.name,
        works: probe.works,
        status: probe.status,
        latency_ms: u64::try_from(probe.latency.as_millis()).unwrap_or(u64::MAX),
        answer: probe.answer,
    };
    context.output.one(&view)?;
    if view.works {
        return Ok(());
    }
    Err(Failure::Failed(format!("The upstream {} does not work: {}", view.name, view.answer)))
}

fn find(name: &UpstreamName, context: &Context) -> Result<Upstream, Failure> {
    context.with(|connection, _| upstreams::find_by_name(connection, name.as_str())).map_err(unknown(name))
}

fn set_secret(options: &SetSecret, context: &Context) -> Result<(), Failure> {
    let upstream = find(&options.name, context)?;
    let sealed = read_sealed(upstream.id, context)?;
    store_secret(upstream, Some(&sealed), context)
}

fn store_secret(upstream: Upstream, sealed: Option<&[u8]>, context: &Context) -> Result<(), Failure> {
    let view = context.with(|connection, now_ms| {
        upstreams::set_secret(connection, upstream.id, sealed, &Actor::cli(), now_ms)?;
        UpstreamView::of(connection, upstream)
    })?;
    context.output.one(&view)
}

fn rename(options: &Rename, context: &Context) -> Result<(), Failure> {
    let upstream = find(&options.name, context)?;
    let settings = Settings {
        name: options.new_name.as_str(),
        base_url: &upstream.base_url,
        pace_ms: upstream.pace_ms,
        allow_private: upstream.allow_private,
    };
    let view = context.with(|connection, now_ms| {
        let keep = SecretEdit::Keep;
        upstreams::edit(connection, upstream.id, &settings, keep, &Actor::cli(), now_ms)?;
        let upstream = upstreams::find(connection, upstream.id)?;
        UpstreamView::of(connection, upstream)
    })?;
    context.output.one(&view)
}

fn set_enabled(name: &UpstreamName, enabled: bool, context: &Context) -> Result<(), Failure> {
    let view = context
        .with(|connection, now_ms| {
            let upstream = upstreams::find_by_name(connection, name.as_str())?;
            upstreams::set_enabled(connection, upstream.id, enabled, &Actor::cli(), now_ms)?;
            let upstream = upstreams::find_by_name(connection, name.as_str())?;
            UpstreamView::of(connection, upstream)
        })
        .map_err(unknown(name))?;
    context.output.one(&view)
}

fn read_secret() -> Result<UpstreamSecret, Failure> {
    UpstreamSecret::parse(&stdin::read_secret("Secret")?).map_err(|why| Failure::flag("--secret-stdin", &why))
}

fn refuse(flag: &str, why: &'static str) -> Failure {
    Failure::flag(flag, &Invalid::new(why))
}

/// Says that there is no such upstream.
pub(super) fn unknown(name: &UpstreamName) -> impl FnOnce(Error) -> Failure {
    Failure::not_found(move || {
        format!("There is no upstream {}; `keyhouse upstream list` shows all.", name.as_str())
    })
}
