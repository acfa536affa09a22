//! The dashboard as browsers see it.

mod account;
mod all_keys;
mod audit;
mod browser;
mod groups;
mod keys;
mod pages;
mod second_factor;
mod sign_in;
#[path = "../support/mod.rs"]
mod support;
mod usage;
mod users;
mod welcome;
