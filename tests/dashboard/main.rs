//! The dashboard as browsers see it.

mod browser;
mod keys;
mod pages;
mod sign_in;
#[path = "../support/mod.rs"]
mod support;
mod usage;
mod welcome;
