//! The Account page: credits and where they came from, the password, the second factor, and the sessions signed in now.

mod index;
mod password;
mod second_factor;
mod sessions;

use super::answer::Place;

/// Of the dialogs here.
const PLACE: Place = Place { active: "account", heading: "Account" };

pub use index::{dismiss_nudge, index};
pub use password::{show as password, submit as set_password};
pub use second_factor::{
    ask_new_codes, begin as begin_second_factor, confirm as confirm_second_factor, confirm_off, new_codes,
    switch_off,
};
pub use sessions::{end as end_session, end_others as end_other_sessions};
