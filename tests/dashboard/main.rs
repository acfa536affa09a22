//! The dashboard as browsers see it.

mod account;
mod all_keys;
mod audit;
mod browser;
mod browser_catalog;
mod flood;
mod groups;
mod keys;
mod layout;
mod models;
mod pages;
mod people_browser;
mod price_import;
mod second_factor;
mod sign_in;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod upstreams;
mod usage;
mod usage_browser;
mod users;
mod welcome;
mod whole_pages;
