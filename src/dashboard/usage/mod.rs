//! The Usage page: charts and their numbers, the list of charges, why a call cost what it did, and the export.

mod charge;
pub(super) mod chart;
mod export;
mod list;
mod state;
mod view;
pub(super) mod words;

use super::answer::Place;
use super::session::SignedIn;

/// Of the dialogs here.
const PLACE: Place = Place { active: "usage", heading: "Usage" };

pub use charge::show;
pub use export::export;
pub(super) use state::{RANGES, Range};
pub use view::index;

/// Whose charges somebody may open: their own, or as an admin everybody's.
fn whose(signed_in: &SignedIn) -> Option<i64> {
    (!signed_in.user.is_admin).then_some(signed_in.user.id)
}
