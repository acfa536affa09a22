//! Keyhouse.
#![forbid(unsafe_code)]
pub mod clock;
pub mod domain;
pub mod error;
pub mod store;
pub mod vault;
