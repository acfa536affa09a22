//! What an import would do, as its preview shows it.

use crate::dashboard::page::Badge;
use crate::dashboard::words::{count, grouped, price_in_words};
use crate::domain::price::{Multiplier, Price};
use crate::domain::price_list::{Plan, Row, Skipped, Step};

/// Models that are skipped and shown; the rest is counted.
const SKIPPED_MAX: usize = 200;

/// The table.
pub struct PlanView {
    /// By name.
    pub rows: Vec<PlanRow>,
    /// The first of them.
    pub skipped: Vec<Skipped>,
    /// Further ones.
    pub more_skipped: usize,
    /// `12 new, 3 price changes, …`
    pub summary: String,
    /// Of the plan.
    pub fingerprint: String,
    /// Whether there is anything to do.
    pub is_useful: bool,
}

/// A row of it.
pub struct PlanRow {
    /// In the plan.
    pub index: usize,
    /// Public name.
    pub name: String,
    /// The upstream's name, if another.
    pub theirs: Option<String>,
    /// What it would do.
    pub step: Badge,
    /// In words.
    pub price: String,
    /// The price there is, in words.
    pub old_price: Option<String>,
    /// Of a new model.
    pub max_output: Option<String>,
    /// Sentences.
    pub notes: Vec<&'static str>,
    /// Prices of the list that Keyhouse does not count.
    pub left_out: Vec<String>,
    /// Whether there is anything to tick.
    pub tickable: bool,
    /// As the form has it.
    pub ticked: bool,
}

impl PlanView {
    /// Of a plan, ticked as somebody ticked it, or else as advised.
    pub fn of(mut plan: Plan, ticks: Option<&[usize]>) -> Self {
        let fingerprint = plan.fingerprint();
        let number = |is: fn(&Row) -> bool| plan.rows.iter().filter(|row| is(row)).count();
        let new = number(|row| row.step == Step::New);
        let changed = number(|row| matches!(row.step, Step::Change(_)));
        let same = number(|row| row.step == Step::Same);
        let words = |number: usize, one: &str| count(i64::try_from(number).unwrap_or(i64::MAX), one);
        let summary = format!(
            "{} new, {}, {} unchanged, {} skipped",
            new,
            words(changed, "price change"),
            same,
            plan.skipped.len()
        );
        let more_skipped = plan.skipped.len().saturating_sub(SKIPPED_MAX);
        plan.skipped.truncate(SKIPPED_MAX);
        let ticked = |index: usize, row: &Row| match ticks {
            Some(ticks) => ticks.contains(&index),
            None => row.is_advised(),
        };
        let rows = plan.rows.iter().enumerate();
        Self {
            rows: rows.map(|(index, row)| PlanRow::of(index, row, ticked(index, row))).collect(),
            is_useful: new + changed > 0,
            skipped: plan.skipped,
            more_skipped,
            summary,
            fingerprint,
        }
    }
}

impl PlanRow {
    fn of(index: usize, row: &Row, ticked: bool) -> Self {
        let badge = |label, icon, colour| Badge { label, icon, colour };
        let (step, old_price) = match &row.step {
            Step::New => (badge("New", "plus", "green"), None),
            Step::Change(known) => (badge("Price", "coins", "orange"), Some(words(known.price))),
            Step::Same => (badge("Unchanged", "check", "secondary"), None),
        };
        let mut notes = Vec::new();
        if row.is_free() && row.step != Step::Same {
            notes.push("It would cost nothing: tick it if that is meant.");
        }
        if row.is_served_elsewhere() {
            notes.push("Other upstreams serve it: tick it if this price is theirs too.");
        }
        Self {
            index,
            name: row.name.as_str().to_owned(),
            theirs: Some(row.upstream_model.clone()).filter(|theirs| theirs != row.name.as_str()),
            step,
            price: words(row.price),
            old_price,
            max_output: (row.step == Step::New).then(|| grouped(row.max_output_tokens)),
            notes,
            left_out: row.left_out.clone(),
            tickable: row.step != Step::Same,
            ticked: ticked && row.step != Step::Same,
        }
    }
}

fn words(price: Price) -> String {
    use crate::domain::credits::Credits;
    let mut words = price_in_words(price, Multiplier::ONE).unwrap_or_default();
    let cache = [(price.cached_input_micros, "cached"), (price.cache_write_micros, "written to the cache")];
    for (micros, what) in cache.into_iter().filter_map(|(micros, what)| Some((micros?, what))) {
        words.push_str(&format!(", {} {what}", Credits::from_micros(micros).for_people()));
    }
    words
}
