//! `/sign-in/code`: the second factor, after the password.

use super::next::{Again, again_url, url};
use super::{wait_sentence, with_retry_after};
use crate::clock::now_ms;
use crate::dashboard::door::{Door, Verdict};
use crate::dashboard::error::PageError;
use crate::dashboard::page;
use crate::dashboard::session::{self, Awaited};
use crate::error::Error;
use crate::store::Store;
use crate::store::users::{self, User};
use actix_session::Session;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

/// The password counts this long without the code.
const PATIENCE_MS: i64 = 10 * 60 * 1000;
/// After so many wrong codes the password is asked for again.
const WRONG_MAX: u32 = 5;

/// The form of `POST /sign-in/code`.
#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    code: String,
}

#[derive(Template)]
#[template(path = "sign_in/code.html")]
struct Page {
    user_name: String,
    refusal: Option<String>,
}

fn page(status: StatusCode, user: &User, refusal: Option<String>) -> HttpResponse {
    page::render(status, &Page { user_name: user.name.clone(), refusal })
}

/// `GET /sign-in/code`.
///
/// # Errors
/// When the database is away.
pub async fn show(session: Session, store: web::Data<Store>) -> Result<HttpResponse, PageError> {
    Ok(match awaited(&session, &store).await? {
        Some((_, user)) => page(StatusCode::OK, &user, None),
        None => start_again(&session),
    })
}

/// `POST /sign-in/code`.
///
/// # Errors
/// When the database is away, or too many wait to be looked at.
pub async fn submit(
    form: web::Form<Form>,
    session: Session,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    let Some((mut awaited, user)) = awaited(&session, &store).await? else {
        return Ok(start_again(&session));
    };
    match door.code(&user, &form.code).await? {
        Verdict::Right => {
            let next = door.let_in_confirmed(&session, &user, awaited.next).await?;
            Ok(page::redirect(&next))
        }
        Verdict::Wrong(why) => {
            awaited.wrong += 1;
            if awaited.wrong >= WRONG_MAX {
                session.purge();
                return Ok(page::redirect(&again_url(awaited.next.as_deref(), Again::WrongCodes)));
            }
            session::set_awaited(&session, &awaited)?;
            Ok(page(StatusCode::UNPROCESSABLE_ENTITY, &user, Some(why)))
        }
        Verdict::TooMany(too_many) => {
            let page = page(StatusCode::TOO_MANY_REQUESTS, &user, Some(wait_sentence(too_many)));
            Ok(with_retry_after(page, too_many))
        }
    }
}

/// Back to the password, for a session that does not wait for a code or does so no longer.
fn start_again(session: &Session) -> HttpResponse {
    let late = session::awaited(session).filter(|awaited| !is_fresh(awaited));
    page::redirect(&late.map_or_else(|| url(None), |late| again_url(late.next.as_deref(), Again::Late)))
}

fn is_fresh(awaited: &Awaited) -> bool {
    now_ms().saturating_sub(awaited.since_ms) < PATIENCE_MS
}

/// Whose code this session waits for: the user as they are now.
async fn awaited(session: &Session, store: &Store) -> Result<Option<(Awaited, User)>, Error> {
    let Some(awaited) = session::awaited(session).filter(is_fresh) else {
        return Ok(None);
    };
    let user_id = awaited.user_id;
    match store.run(move |connection| users::find(connection, user_id)).await {
        Ok(user) if user.enabled => Ok(Some((awaited, user))),
        Ok(_) | Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
