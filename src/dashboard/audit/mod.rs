//! The Audit page, for admins: who did what to which thing, when, from where. It is only read.

mod list;
mod words;

pub use list::index;
