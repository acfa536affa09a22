//! The admins' Models page: the list, a page of its own for each model with its prices and routes, the dialogs that make
//! and change one, and the import of price lists.

mod create;
mod delete;
mod edit;
pub mod import;
mod import_row;
mod list;
mod preview;
mod price;
pub mod routes;
mod row;
mod show;
mod state;

use super::answer::Place;

/// Of the dialogs here.
const PLACE: Place = Place { active: "models", heading: "Models" };

pub use create::{create, new};
pub use delete::{confirm_delete, delete};
pub use edit::{edit, save, set_hidden};
pub use list::index;
pub use price::{new_price, set_price};
pub use show::show;

/// The page of a model.
fn url(id: i64) -> String {
    format!("/models/{id}")
}
