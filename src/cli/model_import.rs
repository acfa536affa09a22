//! `keyhouse model import`: prices from a list in LiteLLM's format, by the same rules as the dashboard's.

use super::data::Context;
use super::failure::Failure;
use super::output::{Show, credits};
use super::upstream;
use crate::domain::credits::Credits;
use crate::domain::price_list::{self, LIST_BYTES_MAX, Plan, Row, Selection, Step};
use crate::domain::upstream::{Dialect, UpstreamName};
use crate::store::audit::Actor;
use crate::store::{price_lists, upstreams};
use clap::Args;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  keyhouse model import model_prices_and_context_window.json --upstream openai --provider openai \\
      --mode chat --credits-per-dollar 1 --dry-run
  keyhouse model import prices.json --upstream groq --provider groq --strip-prefix \\
      --credits-per-dollar 100";

/// Make models and set prices from a list in the format of LiteLLM's model_prices_and_context_window.json
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    /// The list
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who serves the models that are made
    #[arg(long, value_name = "U", value_parser = UpstreamName::parse)]
    upstream: UpstreamName,
    /// Credits a dollar
    #[arg(long, value_name = "C", value_parser = price_list::parse_rate)]
    credits_per_dollar: Credits,
    /// Only models of this provider, as the list names it
    #[arg(long, value_name = "P", default_value = "")]
    provider: String,
    /// Only models for this, such as chat or embedding
    #[arg(long, value_name = "MODE", default_value = "")]
    mode: String,
    /// Leave the provider's prefix (groq/…) out of public names
    #[arg(long)]
    strip_prefix: bool,
    /// Also make models that cost nothing
    #[arg(long)]
    include_free: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A model of the list.
#[derive(Serialize)]
struct RowView {
    name: String,
    /// `new`, `price`, `same`, `left` or `skipped`.
    action: &'static str,
    upstream_model: Option<String>,
    input: Option<String>,
    output: Option<String>,
    max_output_tokens: Option<i64>,
    reason: Option<String>,
}

impl RowView {
    fn of(row: &Row, is_chosen: bool) -> Self {
        let (action, reason) = match row.step {
            Step::Same => ("same", None),
            _ if !is_chosen && row.is_free() => ("left", Some("It would cost nothing; see --include-free.")),
            _ if !is_chosen => ("left", Some("Other upstreams serve it; set its price by hand.")),
            Step::New => ("new", None),
            Step::Change(_) => ("price", None),
        };
        Self {
            name: row.name.as_str().to_owned(),
            action,
            upstream_model: Some(row.upstream_model.clone()),
            input: Some(credits(row.price.input_micros)),
            output: Some(credits(row.price.output_micros)),
            max_output_tokens: Some(row.max_output_tokens),
            reason: reason.map(str::to_owned),
        }
    }

    fn views(plan: &Plan, chosen: &[&Row]) -> Vec<Self> {
        let is_chosen = |row: &Row| chosen.iter().any(|chosen| chosen.name == row.name);
        let rows = plan.rows.iter().map(|row| Self::of(row, is_chosen(row)));
        let skipped = plan.skipped.iter().map(|skipped| Self {
            name: skipped.name.clone(),
            action: "skipped",
            upstream_model: None,
            input: None,
            output: None,
            max_output_tokens: None,
            reason: Some(skipped.why.clone()),
        });
        rows.chain(skipped).collect()
    }
}

impl Show for RowView {
    const NONE: &'static str = "No model of the list is of this provider and mode.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            ("Action", self.action.to_owned()),
            ("Name", self.name.clone()),
            ("Input", or_none(&self.input)),
            ("Output", or_none(&self.output)),
            ("Why", or_none(&self.reason)),
        ]
    }
}

/// What was done, or would be.
#[derive(Serialize)]
struct ImportView {
    made: usize,
    priced: usize,
    dry_run: bool,
    models: Vec<RowView>,
}

/// Plans, and unless told otherwise, applies.
pub(super) fn run(options: &Import, context: &Context) -> Result<(), Failure> {
    let listed = price_list::parse(&read(&options.file)?).map_err(|why| Failure::flag("FILE", &why))?;
    let upstream = context
        .with(|connection, _| upstreams::find_by_name(connection, options.upstream.as_str()))
        .map_err(upstream::unknown(&options.upstream))?;
    let selection = Selection {
        provider: options.provider.clone(),
        mode: options.mode.clone(),
        rate: options.credits_per_dollar,
        without_prefix: options.strip_prefix,
        dialect: Dialect::parse(&upstream.dialect).map_err(|why| Failure::flag("--upstream", &why))?,
    };
    let (plan, imported) = context.with(|connection, now_ms| {
        let known = price_lists::known(connection, upstream.id)?;
        let plan = price_list::plan(&listed, &selection, &known);
        let rows = chosen(&plan, options);
        let imported = match options.dry_run {
            true => price_lists::Imported::of(&rows),
            false => price_lists::apply(connection, upstream.id, &rows, &Actor::cli(), now_ms)?,
        };
        Ok((plan, imported))
    })?;
    let models = RowView::views(&plan, &chosen(&plan, options));
    let price_lists::Imported { made, priced } = imported;
    if context.output.json {
        return context.output.document(&ImportView { made, priced, dry_run: options.dry_run, models });
    }
    context.output.list(&models)?;
    let would = if options.dry_run { "would be " } else { "" };
    eprintln!("{made} models {would}made, {priced} prices {would}set.");
    Ok(())
}

fn chosen<'a>(plan: &'a Plan, options: &Import) -> Vec<&'a Row> {
    let is_wanted =
        |row: &&Row| row.is_advised() || (options.include_free && row.is_free() && row.step != Step::Same);
    plan.rows.iter().filter(is_wanted).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed =
        |error: std::io::Error| Failure::Failed(format!("{} cannot be read: {error}.", path.display()));
    let mut text = String::new();
    // One byte more than a list may have: the parser refuses it.
    let bytes_max = u64::try_from(LIST_BYTES_MAX + 1).unwrap_or(u64::MAX);
    File::open(path).map_err(failed)?.take(bytes_max).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
