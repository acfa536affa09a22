//! The admins' Upstreams page: the providers behind the models, how they fare, and the dialogs that make, change, test
//! and delete one. Each has a page of its own with its last day.

mod delete;
mod form;
mod hours;
mod list;
mod row;
mod show;
mod test;

use super::answer::Place;

/// Of the dialogs here.
const PLACE: Place = Place { active: "upstreams", heading: "Upstreams" };

pub use delete::{confirm_delete, delete};
pub use form::{create, edit, new, save};
pub use list::{index, set_enabled};
pub use show::show;
pub use test::test;
