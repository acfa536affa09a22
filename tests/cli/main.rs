//! The command line, by running the binary: what it prints, its exit statuses, beside a running server or without.

mod actor;
mod backup;
mod catalog;
mod commands;
mod config;
#[path = "../support/database.rs"]
mod database;
mod encryption;
mod people;
mod refusals;
mod servers;
#[path = "../support/upstream.rs"]
mod upstream;
mod upstreams;
