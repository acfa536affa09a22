//! The dashboard as browsers see it.

mod account;
mod browser;
mod keys;
mod pages;
mod second_factor;
mod sign_in;
#[path = "../support/mod.rs"]
mod support;
mod usage;
mod welcome;
