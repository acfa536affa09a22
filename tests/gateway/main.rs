//! `/v1` by URL: the real app on a real port, over both engines, with the built-in upstream and with one that
//! misbehaves.

#[path = "../support/database.rs"]
mod database;
#[path = "../support/seed.rs"]
mod seed;
#[path = "../support/upstream.rs"]
mod upstream;

mod chat;
mod errors;
mod house;
mod models;
mod streams;
mod upstreams;
