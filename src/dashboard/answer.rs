//! The shapes of answer that pages with dialogs share: a dialog or the same as a whole page, and "done".

use crate::dashboard::page::{self, Kind, Shell};
use crate::dashboard::session::SignedIn;
use crate::error::Error;
use actix_htmx::{Htmx, SwapType, TriggerType};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use askama::filters::HtmlSafe;

/// A dialog's content as a page of its own.
#[derive(Template)]
#[template(path = "whole.html")]
struct Whole<'a, T: Template + HtmlSafe> {
    shell: Shell,
    heading: &'a str,
    title: &'a str,
    dialog: &'a T,
}

/// The page that a dialog belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its entry in the navigation, see [`Shell::active`].
    pub active: &'static str,
    /// Its heading.
    pub heading: &'static str,
}

/// The dialog alone for htmx, else a whole page around it.
pub fn dialog<T: Template + HtmlSafe>(
    htmx: &Htmx,
    signed_in: &SignedIn,
    place: Place,
    status: StatusCode,
    title: &str,
    dialog: &T,
) -> HttpResponse {
    if htmx.is_htmx {
        return page::render(status, dialog);
    }
    page::render(
        status,
        &Whole { shell: Shell::new(signed_in, place.active), heading: place.heading, title, dialog },
    )
}

/// Says that it is done. For htmx the dialog closes and `out_of_band` finds its place; others go to `url`.
///
/// # Errors
/// When the flash cannot be kept.
pub fn done<T: Template>(
    htmx: &Htmx,
    signed_in: &SignedIn,
    text: String,
    out_of_band: &T,
    url: &str,
) -> Result<HttpResponse, Error> {
    if !htmx.is_htmx {
        page::flash(&signed_in.session, Kind::Success, text)?;
        return Ok(page::redirect(url));
    }
    page::toast(htmx, Kind::Success, text);
    // After the swap: an event of that swap would open the dialog again.
    htmx.trigger_event("closeDialog", None, Some(TriggerType::AfterSettle));
    htmx.reswap(SwapType::None);
    Ok(page::render(StatusCode::OK, out_of_band))
}

/// Says that it is done on the page at `url`, which is loaded anew.
///
/// # Errors
/// When the flash cannot be kept.
pub fn go(htmx: &Htmx, signed_in: &SignedIn, text: String, url: &str) -> Result<HttpResponse, Error> {
    page::flash(&signed_in.session, Kind::Success, text)?;
    if htmx.is_htmx {
        htmx.redirect(url);
        return Ok(HttpResponse::Ok().finish());
    }
    Ok(page::redirect(url))
}
