//! The dashboard as browsers see it.

mod keys;
mod pages;
mod sign_in;
#[path = "../support/mod.rs"]
mod support;
