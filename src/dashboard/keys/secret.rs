//! The secret of a key, for its owner: to the clipboard, or shown in the row until hidden.
//! Both are written to the audit log, and no answer with a secret may be kept: like every page they are `no-store`.

use super::PLACE;
use super::list::load_row;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::confirm::{self, Wish};
use crate::dashboard::door::Door;
use crate::dashboard::error::PageError;
use crate::dashboard::page;
use crate::dashboard::session::SignedIn;
use crate::domain::secret::KeySecret;
use crate::store::{Store, keys};
use crate::vault::Vault;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The whole key in a field: what the script copies from, and what people see when it cannot.
#[derive(Template)]
#[template(path = "keys/secret.html")]
struct SecretField {
    name: String,
    secret: KeySecret,
}

impl HtmlSafe for SecretField {}

/// The whole key in its row.
#[derive(Template)]
#[template(path = "keys/revealed.html")]
struct Revealed {
    id: i64,
    name: String,
    secret: KeySecret,
}

/// `POST /keys/{id}/copy`
///
/// # Errors
/// Not found; the engine's; when the stored secret does not open.
pub async fn copy(
    id: web::Path<i64>,
    form: web::Form<confirm::Form>,
    htmx: Htmx,
    signed_in: SignedIn,
    house: (web::Data<Store>, web::Data<Vault>, Door),
) -> Result<HttpResponse, PageError> {
    let (store, vault, door) = house;
    let name = name_of(*id, &signed_in, &store).await?;
    let wish = Wish {
        action: format!("/keys/{id}/copy"),
        button: "Copy the key",
        target: "dialog".to_owned(),
        swap: "innerHTML",
        copies: Some(name),
        place: PLACE,
        back: "/keys",
    };
    if let Some(answer) = confirm::ask(&wish, form.into_inner(), &htmx, &signed_in, &store, &door).await? {
        return Ok(answer);
    }
    let (name, secret) = take_secret(*id, "key.copy", &signed_in, &store, &vault).await?;
    Ok(secret_page(&htmx, &signed_in, name, secret))
}

/// `POST /keys/{id}/reveal`
///
/// # Errors
/// As [`copy`].
pub async fn reveal(
    id: web::Path<i64>,
    form: web::Form<confirm::Form>,
    htmx: Htmx,
    signed_in: SignedIn,
    house: (web::Data<Store>, web::Data<Vault>, Door),
) -> Result<HttpResponse, PageError> {
    let (store, vault, door) = house;
    // What is not theirs is not there, code or no code.
    name_of(*id, &signed_in, &store).await?;
    let wish = Wish {
        action: format!("/keys/{id}/reveal"),
        button: "Reveal the key",
        target: format!("key-secret-{id}"),
        swap: "outerHTML",
        copies: None,
        place: PLACE,
        back: "/keys",
    };
    if let Some(answer) = confirm::ask(&wish, form.into_inner(), &htmx, &signed_in, &store, &door).await? {
        return Ok(answer);
    }
    let (name, secret) = take_secret(*id, "key.reveal", &signed_in, &store, &vault).await?;
    if htmx.is_htmx {
        let revealed = Revealed { id: *id, name, secret };
        return Ok(page::render(StatusCode::OK, &revealed));
    }
    Ok(secret_page(&htmx, &signed_in, name, secret))
}

async fn name_of(id: i64, signed_in: &SignedIn, store: &Store) -> Result<String, PageError> {
    let user_id = signed_in.user.id;
    Ok(store.run(move |connection| Ok(keys::find(connection, user_id, id)?.0.name)).await?)
}

fn secret_page(htmx: &Htmx, signed_in: &SignedIn, name: String, secret: KeySecret) -> HttpResponse {
    let field = SecretField { name, secret };
    answer::dialog(htmx, signed_in, PLACE, StatusCode::OK, "API key", &field)
}

async fn take_secret(
    id: i64,
    action: &'static str,
    signed_in: &SignedIn,
    store: &Store,
    vault: &Vault,
) -> Result<(String, KeySecret), PageError> {
    let (user_id, actor, vault) = (signed_in.user.id, signed_in.actor(), vault.clone());
    let taken = store
        .run(move |connection| {
            let row = load_row(connection, user_id, id)?;
            let (digest, sealed) = keys::take_ciphertext(connection, user_id, id, action, &actor, now_ms())?;
            Ok((row.name, vault.open_key(user_id, &digest, &sealed)?))
        })
        .await?;
    Ok(taken)
}
