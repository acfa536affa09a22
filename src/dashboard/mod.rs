//! The HTML pages: a file per page. Handlers read as steps and render askama templates.

pub mod account;
pub mod all_keys;
pub mod answer;
pub mod assets;
pub mod audit;
pub mod confirm;
pub mod door;
pub mod error;
pub mod groups;
pub mod guard;
pub mod keys;
pub mod list_url;
pub mod models;
pub mod moment;
pub mod overview;
pub mod page;
pub mod session;
pub mod setup;
pub mod sign_in;
pub mod throttle;
pub mod turnstile;
pub mod upstreams;
pub mod usage;
pub mod users;
pub mod welcome;
pub mod words;
