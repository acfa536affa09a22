//! Price lists in the format of LiteLLM's `model_prices_and_context_window.json`: read without floats, turned into prices
//! at a rate of credits per dollar, and compared with the models there are.

mod convert;
mod plan;

pub use plan::{Known, Plan, Row, Selection, Skipped, Step, plan};

use super::Invalid;
use super::credits::Credits;
use super::decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Largest list that is read; the real one has 3.5 MB.
pub const LIST_BYTES_MAX: usize = 16 << 20;
/// Most models a list may have.
const MODELS_MAX: usize = 50_000;
/// Explains the fields; no model.
const SAMPLE: &str = "sample_spec";
/// Longer texts are none of ours.
const TEXT_BYTES_MAX: usize = 200;

/// Prices that are understood; what else has `cost` in its name is named as left out.
const TAKEN: [&str; 15] = [
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_read_input_image_token_cost",
    "cache_read_input_audio_token_cost",
    "input_cost_per_image",
    "output_cost_per_image",
    "input_cost_per_image_token",
    "output_cost_per_image_token",
    "input_cost_per_audio_token",
    "output_cost_per_audio_token",
    "input_cost_per_second",
    "output_cost_per_second",
    "input_cost_per_character",
];

/// A model of a list: what matters of it, its prices in dollars as the list writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// As the list calls it, often with its provider before it.
    pub name: String,
    /// Who serves it; may be blank.
    pub provider: String,
    /// What it is for, such as `chat`; may be blank.
    pub mode: String,
    /// Most output tokens, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_output: Option<String>,
    /// By the list's names for them.
    costs: BTreeMap<String, String>,
    /// Names of prices that are more than nothing and not understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<String>,
}

/// Reads a list, by name.
///
/// # Errors
/// When it is no JSON object of objects, is too large, or names no model.
pub fn parse(text: &str) -> Result<Vec<Listed>, Invalid> {
    if text.len() > LIST_BYTES_MAX {
        return Err(Invalid::new("The price list is larger than 16 MB."));
    }
    if text.trim().is_empty() {
        return Err(Invalid::new("Choose a file, or paste its text."));
    }
    let entries: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| {
        Invalid::from(format!(
            "This is no price list: a JSON object is expected, with a name and an object for each model (line {}, column {}).",
            error.line(),
            error.column()
        ))
    })?;
    if entries.len() > MODELS_MAX {
        return Err(format!("The price list has more than {MODELS_MAX} models.").into());
    }
    let listed: Vec<Listed> = entries
        .into_iter()
        .filter(|(name, _)| name != SAMPLE)
        .filter_map(|(name, entry)| Listed::read(name, entry))
        .collect();
    if listed.is_empty() {
        return Err(Invalid::new("The price list names no model."));
    }
    Ok(listed)
}

impl Listed {
    /// `None` for what is no object.
    fn read(name: String, entry: &RawValue) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(entry.get()).ok()?;
        let text = |field: &str| {
            let raw = fields.get(field).filter(|raw| raw.get().len() <= TEXT_BYTES_MAX)?;
            serde_json::from_str::<String>(raw.get()).ok()
        };
        let short = |raw: &&RawValue| raw.get().len() <= TEXT_BYTES_MAX;
        let max_output = ["max_output_tokens", "max_tokens"]
            .into_iter()
            .filter_map(|field| fields.get(field).copied().filter(short))
            .map(|raw| raw.get().to_owned())
            .find(|raw| Decimal::parse(raw).is_ok());
        let (mut costs, mut others) = (BTreeMap::new(), Vec::new());
        for (field, raw) in fields.iter().filter(|(field, _)| field.contains("cost")) {
            if raw.get() == "null" {
                continue;
            }
            if TAKEN.contains(&field.as_str()) && short(raw) {
                costs.insert(field.clone(), raw.get().to_owned());
            } else if !Decimal::parse(raw.get()).is_ok_and(Decimal::is_zero) && field.len() <= TEXT_BYTES_MAX
            {
                others.push(field.clone());
            }
        }
        let (provider, mode) = (text("litellm_provider"), text("mode"));
        let (provider, mode) = (provider.unwrap_or_default(), mode.unwrap_or_default());
        Some(Self { name, provider, mode, max_output, costs, others })
    }
}

/// Parses how many credits a dollar is.
///
/// # Errors
/// When it is no plain decimal, or nothing.
pub fn parse_rate(raw: &str) -> Result<Credits, Invalid> {
    let rate = Credits::parse(raw)?;
    if rate == Credits::ZERO {
        return Err(Invalid::new("Enter how many credits a dollar is, such as 1 or 100."));
    }
    Ok(rate)
}

/// How often each value of something occurs among the models of a list, the most frequent first.
pub fn tally<'a>(listed: &'a [Listed], of: impl Fn(&'a Listed) -> &'a str) -> Vec<(&'a str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for listed in listed {
        *counts.entry(of(listed)).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
