//! Before a key is copied or revealed, the second factor is asked for once more where it was given long ago. The form
//! that asks sends its code to where the wish went, so that what was wanted follows by itself.

use super::answer::{self, Place};
use super::door::{Door, Verdict};
use super::session::SignedIn;
use super::sign_in::wait_sentence;
use crate::clock::now_ms;
use crate::domain::second_factor::CONFIRMED_MS;
use crate::error::Error;
use crate::store::{Store, second_factors, sessions};
use actix_htmx::{Htmx, SwapType, TriggerType};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use askama::filters::HtmlSafe;
use serde::Deserialize;

/// The form that asks; empty where the wish itself is sent.
#[derive(Deserialize)]
pub struct Form {
    code: Option<String>,
}

/// What is wanted.
pub struct Wish<'a> {
    /// Where it is posted.
    pub action: String,
    /// The page it belongs to.
    pub place: Place,
    /// Where Cancel leads as a page of its own.
    pub back: &'a str,
    /// The button's word.
    pub button: &'a str,
    /// Where htmx puts the answer; its id.
    pub target: String,
    /// How htmx puts it there.
    pub swap: &'a str,
    /// For the script of the clipboard: the name of the key that the answer holds.
    pub copies: Option<String>,
}

#[derive(Template)]
#[template(path = "account/confirm.html")]
struct Dialog<'a> {
    wish: &'a Wish<'a>,
    refusal: Option<String>,
}

impl HtmlSafe for Dialog<'_> {}

/// `None`: go on. Else the answer that asks for the code, or says why it was not right.
///
/// # Errors
/// The engine's; when too many wait to be looked at.
pub async fn ask(
    wish: &Wish<'_>,
    form: Form,
    htmx: &Htmx,
    signed_in: &SignedIn,
    store: &Store,
    door: &Door,
) -> Result<Option<HttpResponse>, Error> {
    if now_ms().saturating_sub(signed_in.confirmed_at_ms) < CONFIRMED_MS {
        return Ok(None);
    }
    let user_id = signed_in.user.id;
    if !store.run(move |connection| second_factors::is_on(connection, user_id)).await? {
        return Ok(None);
    }
    let refusal = match form.code {
        None => None,
        Some(typed) => match door.code(&signed_in.user, &typed).await? {
            Verdict::Right => {
                let session_id = signed_in.session_id.clone();
                let confirm = store
                    .run(move |connection| sessions::confirm(connection, user_id, &session_id, now_ms()));
                confirm.await?;
                htmx.trigger_event("closeDialog", None, Some(TriggerType::AfterSettle));
                return Ok(None);
            }
            Verdict::Wrong(why) => Some(why),
            Verdict::TooMany(too_many) => Some(wait_sentence(too_many)),
        },
    };
    let status = if refusal.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    htmx.retarget("#dialog");
    htmx.reswap(SwapType::InnerHtml);
    let dialog = Dialog { wish, refusal };
    Ok(Some(answer::dialog(htmx, signed_in, wish.place, status, "Second factor", &dialog)))
}
