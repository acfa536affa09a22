//! The Users page and each user's own page, for admins: credits, access, sign-in links.
//! Every dialog is also a whole page at the same URL, for browsers without JavaScript.

mod acts;
mod create;
mod grant;
mod list;
mod person;
mod state;

use super::answer::Place;
use super::session::SignedIn;
use crate::error::Error;

pub use acts::{
    confirm_delete, confirm_reset, confirm_second_factor, delete, reset_password, reset_second_factor,
    set_admin, set_enabled,
};
pub use create::{create, new};
pub use grant::{ask as ask_grant, grant};
pub use list::index;
pub use person::{Person, grants, is_of_person, show};
pub use state::{FILTERS, ORDERS};

/// Of the dialogs here.
const PLACE: Place = Place { active: "users", heading: "Users" };

/// An admin may not lock themselves out by a slip: these things another admin does to them.
fn of_another(signed_in: &SignedIn, id: i64) -> Result<(), Error> {
    if signed_in.user.id == id {
        return Err(Error::invalid(
            "user",
            "This is your own account. Another admin can do this to it.".to_owned(),
        ));
    }
    Ok(())
}
