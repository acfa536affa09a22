//! The HTML pages: a file per page. Handlers read as steps and render askama templates.

pub mod account;
pub mod answer;
pub mod assets;
pub mod confirm;
pub mod door;
pub mod error;
pub mod guard;
pub mod keys;
pub mod moment;
pub mod overview;
pub mod page;
pub mod session;
pub mod setup;
pub mod sign_in;
pub mod throttle;
pub mod turnstile;
pub mod usage;
pub mod welcome;
