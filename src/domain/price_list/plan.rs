//! What applying a list would do, row by row, before anything is done.

use super::Listed;
use super::convert::is_free;
use crate::domain::credits::Credits;
use crate::domain::models::ModelName;
use crate::domain::price::Price;
use crate::domain::upstream::Dialect;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What is wanted of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Only this provider; blank: all.
    pub provider: String,
    /// Only this mode; blank: all.
    pub mode: String,
    /// Credits a dollar.
    pub rate: Credits,
    /// Leaves `groq/` of `groq/llama-3` out of the public name.
    pub without_prefix: bool,
    /// Of the upstream that shall serve them.
    pub dialect: Dialect,
}

/// A model that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Row.
    pub id: i64,
    /// Of its newest price.
    pub version: i64,
    /// Its newest price.
    pub price: Price,
    /// By the chosen upstream too.
    pub served_here: bool,
}

/// What a row would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a model.
    New,
    /// Set a new price.
    Change(Known),
    /// Nothing.
    Same,
}

/// A model of the list with its price in credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Public name.
    pub name: ModelName,
    /// What the upstream calls it.
    pub upstream_model: String,
    /// In credits.
    pub price: Price,
    /// For a new model.
    pub max_output_tokens: i64,
    /// What it would do.
    pub step: Step,
    /// Prices of the list that Keyhouse does not count.
    pub left_out: Vec<String>,
}

impl Row {
    /// Every call would cost nothing.
    pub fn is_free(&self) -> bool {
        is_free(&self.price)
    }

    /// There is such a model, and other upstreams alone serve it.
    pub fn is_served_elsewhere(&self) -> bool {
        matches!(self.step, Step::Change(known) if !known.served_here)
    }

    /// Whether it does something that nobody needs to think twice about.
    pub fn is_advised(&self) -> bool {
        self.step != Step::Same && !self.is_free() && !self.is_served_elsewhere()
    }
}

/// A model of the list that nothing is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// As the list calls it.
    pub name: String,
    /// A sentence.
    pub why: String,
}

/// What applying a list would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// By the list's names.
    pub rows: Vec<Row>,
    /// By the list's names.
    pub skipped: Vec<Skipped>,
}

impl Plan {
    /// The same for the same plan alone: whoever applies a plan says by it which one they saw.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for row in &self.rows {
            hash.update(format!("{row:?}\n"));
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Compares what is selected of a list with the models there are, by name.
pub fn plan(listed: &[Listed], selection: &Selection, known: &BTreeMap<String, Known>) -> Plan {
    let mut plan = Plan::default();
    let mut names = BTreeSet::new();
    let wanted = |listed: &&Listed| {
        (selection.provider.is_empty() || selection.provider == listed.provider)
            && (selection.mode.is_empty() || selection.mode == listed.mode)
    };
    for listed in listed.iter().filter(wanted) {
        match row(listed, selection, known) {
            Ok(row) if !names.insert(row.name.as_str().to_owned()) => {
                let why = format!("Another model of the list becomes {} too.", row.name.as_str());
                plan.skipped.push(Skipped { name: listed.name.clone(), why });
            }
            Ok(row) => plan.rows.push(row),
            Err(why) => plan.skipped.push(Skipped { name: listed.name.clone(), why }),
        }
    }
    plan
}

fn row(listed: &Listed, selection: &Selection, known: &BTreeMap<String, Known>) -> Result<Row, String> {
    let price = listed.price(selection.rate)?;
    if selection.dialect == Dialect::Anthropic && listed.mode != "chat" {
        return Err(format!("An upstream of the dialect anthropic does not serve {}.", listed.mode));
    }
    let bare = listed
        .name
        .strip_prefix(&listed.provider)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|rest| !rest.is_empty() && !listed.provider.is_empty())
        .unwrap_or(&listed.name);
    let name = if selection.without_prefix { bare } else { &listed.name };
    let name = ModelName::parse(name).map_err(|_| "Its name has characters that no model's name has.")?;
    let step = match known.get(name.as_str()) {
        None => Step::New,
        Some(known) if known.price == price => Step::Same,
        Some(known) => Step::Change(*known),
    };
    Ok(Row {
        name,
        upstream_model: bare.to_owned(),
        price,
        max_output_tokens: listed.max_output_tokens(),
        step,
        left_out: listed.left_out(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::price_list::parse;
    use serde_json::json;

    fn selection(provider: &str) -> Selection {
        Selection {
            provider: provider.into(),
            mode: String::new(),
            rate: Credits::from_micros(1_000_000),
            without_prefix: true,
            dialect: Dialect::OpenAi,
        }
    }

    fn list() -> Vec<Listed> {
        let chat = |provider: &str, input: f64| json!({"litellm_provider": provider, "mode": "chat", "input_cost_per_token": input, "output_cost_per_token": 1e-5});
        let list = json!({
            "sample_spec": chat("openai", 1.0),
            "gpt": chat("openai", 1e-6),
            "openai/gpt": chat("openai", 2e-6),
            "groq/llama": chat("groq", 3e-6),
            "groq/free": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
            "groq/w*": chat("groq", 1e-6),
            "no object": 7,
        });
        parse(&list.to_string()).expect("a list")
    }

    #[test]
    fn each_model_is_new_changed_the_same_or_skipped() {
        let price = Price { input_micros: 3_000_000, output_micros: 10_000_000, ..Price::FREE };
        let known = |price, served_here| Known { id: 1, version: 4, price, served_here };
        let by_name = |known: Known| BTreeMap::from([("llama".to_owned(), known)]);
        let all = plan(&list(), &selection(""), &BTreeMap::new());
        let names: Vec<_> = all.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["gpt", "free", "llama"]);
        let skipped: Vec<_> = all.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
        assert_eq!(skipped, ["groq/w*", "openai/gpt"]);

        let step = |known: &BTreeMap<String, Known>| {
            let plan = plan(&list(), &selection("groq"), known);
            let row = plan.rows.iter().find(|row| row.upstream_model == "llama").expect("a row").clone();
            (row.step, row.is_advised())
        };
        assert_eq!(step(&BTreeMap::new()), (Step::New, true));
        assert_eq!(step(&by_name(known(price, true))), (Step::Same, false));
        let other = known(Price::FREE, true);
        assert_eq!(step(&by_name(other)), (Step::Change(other), true));
        let elsewhere = known(Price::FREE, false);
        assert_eq!(step(&by_name(elsewhere)), (Step::Change(elsewhere), false));
    }

    #[test]
    fn nobody_is_given_free_calls_without_being_asked() {
        let plan = plan(&list(), &selection("groq"), &BTreeMap::new());
        assert!(plan.rows.iter().any(|row| row.is_free() && !row.is_advised()));
    }

    #[test]
    fn prefixes_stay_unless_told_otherwise_and_never_reach_the_upstream() {
        let selection = Selection { without_prefix: false, ..selection("groq") };
        let plan = plan(&list(), &selection, &BTreeMap::new());
        let llama = plan.rows.last().expect("a row");
        assert_eq!((llama.name.as_str(), llama.upstream_model.as_str()), ("groq/llama", "llama"));
    }

    #[test]
    fn a_fingerprint_changes_with_what_is_planned() {
        let before = plan(&list(), &selection("groq"), &BTreeMap::new());
        let known = Known { id: 1, version: 1, price: Price::FREE, served_here: true };
        let after = plan(&list(), &selection("groq"), &BTreeMap::from([("llama".to_owned(), known)]));
        assert_eq!(before.fingerprint(), plan(&list(), &selection("groq"), &BTreeMap::new()).fingerprint());
        assert_ne!(before.fingerprint(), after.fingerprint());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", " ", "[]", "{", "7", "{}", "{\"sample_spec\": {}}", "{\"a\": 1}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
