//! The Groups page, for admins: pricing groups, what they multiply by, and who may choose them.
//! Every dialog is also a whole page at the same URL, for browsers without JavaScript.

mod delete;
mod form;
mod list;

use super::answer::Place;

pub use delete::{confirm_delete, delete};
pub use form::{create, edit, new, save};
pub use list::index;

/// Of the dialogs here.
const PLACE: Place = Place { active: "groups", heading: "Groups" };
