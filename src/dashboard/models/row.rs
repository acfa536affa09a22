//! One model as the list shows it: text ready to print.

use crate::dashboard::page::Badge;
use crate::dashboard::words::{grouped, price_in_words};
use crate::domain::price::Multiplier;
use crate::store::models::Model;
use crate::store::prices::PriceVersion;
use crate::store::routes::RouteName;

/// Routes shown before the rest is counted.
const SHOWN_ROUTES: usize = 3;

/// A row.
pub struct Row {
    /// Model.
    pub id: i64,
    /// Public name.
    pub name: String,
    /// In words.
    pub price: String,
    /// `openai`, `azure as gpt-4o-eu`
    pub routes: Vec<String>,
    /// Further ones.
    pub more_routes: usize,
    /// `16 384`
    pub max_output: String,
    /// What is to be known.
    pub badges: Vec<Badge>,
}

impl Row {
    /// What the list shows of a model.
    pub fn of(model: Model, version: &PriceVersion, routes: &[RouteName]) -> Self {
        let its: Vec<&RouteName> = routes.iter().filter(|route| route.model_id == model.id).collect();
        let shown = its.iter().take(SHOWN_ROUTES).map(|route| route_in_words(route, &model.name));
        Self {
            id: model.id,
            price: price_words(version),
            routes: shown.collect(),
            more_routes: its.len().saturating_sub(SHOWN_ROUTES),
            max_output: grouped(model.max_output_tokens),
            badges: badges(model.hidden, &its),
            name: model.name,
        }
    }
}

/// Of a price that is stored.
pub fn price_words(version: &PriceVersion) -> String {
    price_in_words(version.price(), Multiplier::ONE).unwrap_or_else(|| "beyond every balance".into())
}

fn route_in_words(route: &RouteName, model: &str) -> String {
    if route.upstream_model == model {
        return route.upstream.clone();
    }
    format!("{} as {}", route.upstream, route.upstream_model)
}

/// Hidden, without a way to any upstream, or neither.
pub fn badges(hidden: bool, routes: &[&RouteName]) -> Vec<Badge> {
    let badge = |label, icon, colour| Badge { label, icon, colour };
    let mut badges = Vec::new();
    if hidden {
        badges.push(badge("Hidden", "eye-off", "secondary"));
    }
    if routes.is_empty() {
        badges.push(badge("No route", "alert-circle", "red"));
    } else if routes.iter().all(|route| !route.enabled) {
        badges.push(badge("Out of rotation", "circle-off", "orange"));
    }
    if badges.is_empty() {
        badges.push(badge("Offered", "circle-check", "green"));
    }
    badges
}
