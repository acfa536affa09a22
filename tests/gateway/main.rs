//! `/v1` by URL: the real app on a real port, over both engines, with the built-in upstream and with one that
//! misbehaves.

#[path = "../support/mod.rs"]
mod support;

mod chat;
mod errors;
mod forms;
mod house;
mod key;
mod media;
mod messages;
mod metrics;
mod misbehaviour;
mod models;
mod outages;
mod plain;
mod responses;
mod retries;
mod snapshots;
mod streams;
mod upstreams;
