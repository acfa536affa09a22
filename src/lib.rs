//! Keyhouse: a self-hosted house for API keys.
//!
//! Imports point down: `cli` and [`app`] assemble; [`dashboard`] (HTML) and [`gateway`] (`/v1`) serve and do not
//! see each other; [`ledger`] moves credits; [`store`] holds every SQL statement; [`domain`] knows the rules and
//! nothing else. [`rollup`] sums up usage behind the ledger. [`vault`], [`password`], [`config`], [`metrics`], [`clock`],
//! [`request_id`], [`error`] and [`upstream_watch`] stand beside them.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod domain;
pub mod error;
pub mod gateway;
pub mod ledger;
pub mod metrics;
pub mod password;
pub mod request_id;
pub mod rollup;
pub mod store;
pub mod upstream_watch;
pub mod vault;
