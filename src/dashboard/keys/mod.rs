//! The API Keys page: the list, and the dialogs that make, edit, show and delete a key.
//! Every dialog is also a whole page at the same URL, for browsers without JavaScript.

mod answer;
mod create;
mod delete;
mod edit;
mod form;
mod list;
mod row;
mod secret;
mod snippets;
mod state;

pub use create::{create, new};
pub use delete::{confirm_delete, delete};
pub use edit::{edit, save};
pub use list::{index, set_enabled, show};
pub use secret::{copy, reveal};
