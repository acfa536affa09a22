//! The API Keys page: the list, and the dialogs that make, edit, show and delete a key.
//! Every dialog is also a whole page at the same URL, for browsers without JavaScript.

mod create;
mod delete;
mod edit;
mod form;
mod list;
mod row;
mod secret;
mod snippets;
mod state;

use super::answer::Place;

/// Of the dialogs here.
const PLACE: Place = Place { active: "keys", heading: "API Keys" };

pub use create::{create, new};
pub use delete::{confirm_delete, delete};
pub use edit::{edit, save};
pub use list::{index, set_enabled, show};
pub use row::Row;
pub use secret::{copy, reveal};
