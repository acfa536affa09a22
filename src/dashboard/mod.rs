//! The HTML pages: a file per page. Handlers read as steps and render askama templates.

pub mod account;
pub mod all_keys;
pub mod answer;
pub mod assets;
pub mod confirm;
pub mod door;
pub mod audit;
pub mod error;
pub mod groups;
pub mod guard;
pub mod keys;
pub mod list_url;
pub mod moment;
pub mod overview;
pub mod page;
pub mod session;
pub mod setup;
pub mod sign_in;
pub mod throttle;
pub mod turnstile;
pub mod usage;
pub mod users;
pub mod welcome;
