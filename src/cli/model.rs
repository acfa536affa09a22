//! `keyhouse model`: public models, their prices, and the upstreams that serve them.

use super::data::Context;
use super::failure::Failure;
use super::output::{Show, credits, moment, yes_no};
use super::{model_import, upstream};
use crate::domain::credits::Credits;
use crate::domain::models::ModelName;
use crate::domain::price::Price;
use crate::domain::upstream::RouteDraft;
use crate::domain::usage::TOKENS_MAX;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::models::{self, Model, NewModel};
use crate::store::prices::{self, PriceVersion};
use crate::store::{Connection, routes, upstreams};
use clap::{Args, Subcommand};
use serde::Serialize;

/// Make, list, hide and delete models; set their prices and the upstreams that serve them; import price lists
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  keyhouse model list --json")]
pub(super) enum ModelCommand {
    Create(Create),
    /// List all models with their newest price
    #[command(after_help = "Example:\n  keyhouse model list --json")]
    List,
    SetPrice(SetPrice),
    Route(RouteOptions),
    Edit(Edit),
    /// Leave a model out of lists, key forms and GET /v1/models; calls to it work
    #[command(after_help = "Example:\n  keyhouse model hide gpt-4o")]
    Hide(Named),
    /// Offer a hidden model again
    #[command(after_help = "Example:\n  keyhouse model unhide gpt-4o")]
    Unhide(Named),
    /// Delete a model: the next call to it finds none; its past charges stay
    #[command(after_help = "Example:\n  keyhouse model delete gpt-4o")]
    Delete(Named),
    Import(model_import::Import),
}

/// A model by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Public name
    #[arg(value_parser = ModelName::parse)]
    name: ModelName,
}

/// Change the most that one answer of a model may have; the next call goes by it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse model edit gpt-4o --max-output 16384")]
pub(super) struct Edit {
    /// Public name
    #[arg(value_parser = ModelName::parse)]
    name: ModelName,
    /// Most output tokens of one answer; what a call without max_tokens is cut to
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=TOKENS_MAX))]
    max_output: i64,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  keyhouse model create gpt-4o --upstream openai --input 2.5 --output 10 --cached-input 1.25
  keyhouse model create claude-sonnet --upstream anthropic=claude-sonnet-4-5 \\
      --input 3 --output 15 --cached-input 0.3 --cache-write 3.75 --max-output 64000
  keyhouse model create whisper-1 --upstream openai --input 0 --output 0 --per-audio-second 0.0001
  keyhouse model create llama --upstream local=llama3:70b --upstream openrouter=meta/llama-3-70b \\
      --input 0.4 --output 0.8 --max-output 8192";

/// Make a model with its first price
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(super) struct Create {
    /// Public name, as programs ask for it
    #[arg(value_parser = ModelName::parse)]
    name: ModelName,
    /// Who serves it, and under which name if another; again for those to fall back to
    #[arg(long = "upstream", value_name = "U[=THEIR-NAME]", value_parser = RouteDraft::parse, required = true)]
    upstreams: Vec<RouteDraft>,
    #[command(flatten)]
    price: PriceOptions,
    /// Most output tokens of one answer; what a call without max_tokens is cut to
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(i64).range(1..=TOKENS_MAX))]
    max_output: i64,
}

/// Set a new price; calls made from now on pay it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse model set-price gpt-4o --input 2 --output 8 --cached-input 1")]
pub(super) struct SetPrice {
    /// Public name
    #[arg(value_parser = ModelName::parse)]
    name: ModelName,
    #[command(flatten)]
    price: PriceOptions,
}

const ROUTE_EXAMPLES: &str = "\
Examples:
  keyhouse model route gpt-4o --upstream azure=gpt-4o-eu --priority 1
  keyhouse model route gpt-4o --upstream openai --priority 0 --weight 3
  keyhouse model route gpt-4o --upstream azure --remove";

/// Add an upstream to a model, change its place, or take it away; the next call goes by it
#[derive(Debug, Args)]
#[command(after_help = ROUTE_EXAMPLES)]
pub(super) struct RouteOptions {
    /// Public name
    #[arg(value_parser = ModelName::parse)]
    name: ModelName,
    /// Who serves it, and under which name if another
    #[arg(long, value_name = "U[=THEIR-NAME]", value_parser = RouteDraft::parse)]
    upstream: RouteDraft,
    /// Lower is tried first [default: as it is; a new one after all others]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i64).range(0..=1_000_000), conflicts_with = "remove")]
    priority: Option<i64>,
    /// Share of the calls among upstreams of the same priority [default: as it is; a new one 1]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(i64).range(1..=1_000_000), conflicts_with = "remove")]
    weight: Option<i64>,
    /// Take the upstream away from the model
    #[arg(long)]
    remove: bool,
}

/// A whole price; what is not given is not kept from the one before.
#[derive(Debug, Args)]
struct PriceOptions {
    /// Credits per million input tokens
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    input: Credits,
    /// Credits per million output tokens
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    output: Credits,
    /// Credits per million input tokens the upstream read from its cache [default: as --input]
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    cached_input: Option<Credits>,
    /// Credits per million input tokens the upstream wrote to its cache [default: as --input]
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    cache_write: Option<Credits>,
    /// Credits per request, whatever its length [default: 0]
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    per_request: Option<Credits>,
    /// Credits per image made [default: 0]
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    per_image: Option<Credits>,
    /// Credits per second of sound heard [default: 0]
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    per_audio_second: Option<Credits>,
    /// Credits per million characters spoken [default: 0]
    #[arg(long, value_name = "P", value_parser = Credits::parse, allow_hyphen_values = true)]
    per_character: Option<Credits>,
}

impl PriceOptions {
    fn price(&self) -> Price {
        let or_none = |price: Option<Credits>| price.map_or(0, Credits::micros);
        Price {
            input_micros: self.input.micros(),
            cached_input_micros: self.cached_input.map(Credits::micros),
            cache_write_micros: self.cache_write.map(Credits::micros),
            output_micros: self.output.micros(),
            per_request_micros: or_none(self.per_request),
            per_image_micros: or_none(self.per_image),
            per_audio_second_micros: or_none(self.per_audio_second),
            per_character_micros: or_none(self.per_character),
        }
    }
}

#[derive(Serialize)]
struct ModelView {
    id: String,
    name: String,
    max_output_tokens: i64,
    price_version: i64,
    input: String,
    cached_input: Option<String>,
    cache_write: Option<String>,
    output: String,
    per_request: String,
    per_image: String,
    per_audio_second: String,
    per_character: String,
    hidden: bool,
    upstreams: Vec<RouteView>,
    created_at: String,
}

#[derive(Serialize)]
struct RouteView {
    upstream: String,
    upstream_model: String,
    priority: i64,
    weight: i64,
}

impl ModelView {
    /// Those that few models have; a table has only so many columns.
    fn other_prices(&self) -> String {
        let written = self.cache_write.as_deref().map(|price| ("cache write", price));
        let zero = credits(0);
        let others = [
            ("per image", self.per_image.as_str()),
            ("per audio second", &self.per_audio_second),
            ("per million characters", &self.per_character),
        ];
        let others = others.into_iter().filter(|(_, price)| *price != zero);
        let lines = written.into_iter().chain(others).map(|(name, price)| format!("{price} {name}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Show for ModelView {
    const NONE: &'static str = "There are no models yet; make one with `keyhouse model create`.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        let upstreams: Vec<String> = self
            .upstreams
            .iter()
            .map(|route| {
                let RouteView { upstream, upstream_model, priority, weight } = route;
                format!("{upstream}={upstream_model} (priority {priority}, weight {weight})")
            })
            .collect();
        vec![
            ("Id", self.id.clone()),
            ("Name", self.name.clone()),
            ("Input", self.input.clone()),
            ("Cached input", self.cached_input.clone().unwrap_or_else(|| self.input.clone())),
            ("Output", self.output.clone()),
            ("Per request", self.per_request.clone()),
            ("Other prices", self.other_prices()),
            ("Version", self.price_version.to_string()),
            ("Max output", self.max_output_tokens.to_string()),
            ("Hidden", yes_no(self.hidden)),
            ("Upstreams", upstreams.join("\n")),
            ("Created", self.created_at.clone()),
        ]
    }
}

/// Runs one of the subcommands.
pub(super) fn run(command: ModelCommand, context: &Context) -> Result<(), Failure> {
    match command {
        ModelCommand::Create(options) => create(&options, context),
        ModelCommand::List => context.output.list(&context.with(|connection, _| views(connection))?),
        ModelCommand::Route(options) => route(&options, context),
        ModelCommand::SetPrice(SetPrice { name, price }) => {
            change(&name, context, |connection, model, now_ms| {
                prices::set(connection, model.id, &price.price(), None, &Actor::cli(), now_ms)
            })
        }
        ModelCommand::Edit(Edit { name, max_output }) => {
            change(&name, context, |connection, model, now_ms| {
                models::set_max_output(connection, model.id, max_output, &Actor::cli(), now_ms)
            })
        }
        ModelCommand::Hide(Named { name }) => set_hidden(&name, true, context),
        ModelCommand::Unhide(Named { name }) => set_hidden(&name, false, context),
        ModelCommand::Delete(Named { name }) => delete(&name, context),
        ModelCommand::Import(options) => model_import::run(&options, context),
    }
}

/// Does something to the model of a name, and shows it.
fn change(
    name: &ModelName,
    context: &Context,
    act: impl FnOnce(&mut Connection, &Model, i64) -> Result<(), Error>,
) -> Result<(), Failure> {
    context
        .with(|connection, now_ms| {
            let model = models::find_by_name(connection, name.as_str())?;
            act(connection, &model, now_ms)
        })
        .map_err(unknown(name))?;
    show(name, context)
}

fn set_hidden(name: &ModelName, hidden: bool, context: &Context) -> Result<(), Failure> {
    change(name, context, |connection, model, now_ms| {
        models::set_hidden(connection, model.id, hidden, &Actor::cli(), now_ms)
    })
}

fn delete(name: &ModelName, context: &Context) -> Result<(), Failure> {
    let view = context
        .with(|connection, now_ms| {
            let model = models::find_by_name(connection, name.as_str())?;
            let view = views(connection)?.into_iter().find(|view| view.name == model.name);
            models::delete(connection, model.id, &Actor::cli(), now_ms)?;
            view.ok_or(Error::NotFound)
        })
        .map_err(unknown(name))?;
    context.output.one(&view)
}

fn create(options: &Create, context: &Context) -> Result<(), Failure> {
    let routes = options.upstreams.iter().map(|route| resolve(route, &options.name, context));
    let routes = routes.collect::<Result<Vec<_>, _>>()?;
    let new = NewModel {
        name: &options.name,
        max_output_tokens: options.max_output,
        price: options.price.price(),
        routes: &routes,
    };
    context.with(|connection, now_ms| models::create(connection, &new, &Actor::cli(), now_ms))?;
    show(&options.name, context)
}

fn route(options: &RouteOptions, context: &Context) -> Result<(), Failure> {
    let RouteOptions { name, upstream, .. } = options;
    let model = context
        .with(|connection, _| models::find_by_name(connection, name.as_str()))
        .map_err(unknown(name))?;
    let (upstream_id, _) = resolve(upstream, name, context)?;
    if options.remove {
        let none = || {
            format!(
                "{} does not serve {}; `keyhouse model list` shows who does.",
                upstream.upstream.as_str(),
                name.as_str()
            )
        };
        context
            .with(|connection, now_ms| {
                routes::remove(connection, model.id, upstream_id, &Actor::cli(), now_ms)
            })
            .map_err(Failure::not_found(none))?;
        return show(name, context);
    }
    let settings = routes::Settings {
        upstream_model: upstream.upstream_model.as_deref(),
        priority: options.priority,
        weight: options.weight,
    };
    context.with(|connection, now_ms| {
        routes::set(connection, &model, upstream_id, &settings, &Actor::cli(), now_ms)
    })?;
    show(name, context)
}

fn resolve(route: &RouteDraft, model: &ModelName, context: &Context) -> Result<(i64, String), Failure> {
    let upstream = context
        .with(|connection, _| upstreams::find_by_name(connection, route.upstream.as_str()))
        .map_err(upstream::unknown(&route.upstream))?;
    Ok((upstream.id, route.upstream_model.clone().unwrap_or_else(|| model.as_str().to_owned())))
}

fn show(name: &ModelName, context: &Context) -> Result<(), Failure> {
    let views = context.with(|connection, _| views(connection))?;
    match views.iter().find(|view| view.name == name.as_str()) {
        Some(view) => context.output.one(view),
        None => Err(unknown(name)(Error::NotFound)),
    }
}

fn views(connection: &mut Connection) -> Result<Vec<ModelView>, Error> {
    let routes = routes::names(connection)?;
    let view = |(model, version): (Model, PriceVersion)| ModelView {
        id: model.id.to_string(),
        hidden: model.hidden,
        max_output_tokens: model.max_output_tokens,
        price_version: version.version,
        input: credits(version.input_micros),
        cached_input: version.cached_input_micros.map(credits),
        cache_write: version.cache_write_micros.map(credits),
        output: credits(version.output_micros),
        per_request: credits(version.per_request_micros),
        per_image: credits(version.per_image_micros),
        per_audio_second: credits(version.per_audio_second_micros),
        per_character: credits(version.per_character_micros),
        upstreams: routes
            .iter()
            .filter(|route| route.model_id == model.id)
            .map(|route| RouteView {
                upstream: route.upstream.clone(),
                upstream_model: route.upstream_model.clone(),
                priority: route.priority,
                weight: route.weight,
            })
            .collect(),
        name: model.name,
        created_at: moment(model.created_at_ms),
    };
    Ok(models::list(connection)?.into_iter().map(view).collect())
}

fn unknown(name: &ModelName) -> impl FnOnce(Error) -> Failure {
    Failure::not_found(move || {
        format!("There is no model {}; `keyhouse model list` shows all.", name.as_str())
    })
}
