//! The second factor on the Account page: switched on by a first code, its recovery codes, switched off again.

use super::PLACE;
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::door::{Door, Verdict};
use crate::dashboard::error::PageError;
use crate::dashboard::session::SignedIn;
use crate::dashboard::sign_in::wait_sentence;
use crate::domain::second_factor::{Code, RECOVERY_CODES, RecoveryCode, TotpSecret};
use crate::error::Error;
use crate::store::{Connection, Store, recovery_codes, second_factors, sessions};
use crate::vault::Vault;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

const DIALOG_TITLE: &str = "Two-factor sign-in";

/// The part of the Account page.
#[derive(Template)]
#[template(path = "account/second_factor.html")]
pub struct Card {
    /// Asked for at sign-in.
    pub is_on: bool,
    codes_left: i64,
    out_of_band: bool,
}

impl HtmlSafe for Card {}

impl Card {
    /// Of a user.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(connection: &mut Connection, user_id: i64) -> Result<Self, Error> {
        let is_on = second_factors::is_on(connection, user_id)?;
        let codes_left = recovery_codes::left(connection, user_id)?;
        Ok(Self { is_on, codes_left, out_of_band: false })
    }

    fn out_of_band(self) -> Self {
        Self { out_of_band: true, ..self }
    }
}

/// Where a code is typed.
#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    code: String,
}

#[derive(Template)]
#[template(path = "account/set_up.html")]
struct SetUp {
    qr: String,
    url: String,
    secret: String,
    typed: String,
    refusal: Option<String>,
}

impl HtmlSafe for SetUp {}

impl SetUp {
    fn of(secret: &TotpSecret, user_name: &str, refusal: Option<String>) -> Result<Self, Error> {
        let unusable = || Error::Internal("no picture of a second factor can be made".into());
        Ok(Self {
            qr: secret.qr_base64(user_name).ok_or_else(unusable)?,
            url: secret.url(user_name).ok_or_else(unusable)?,
            secret: secret.for_people(),
            typed: secret.expose(),
            refusal,
        })
    }
}

/// Recovery codes, shown once.
#[derive(Template)]
#[template(path = "account/recovery_codes.html")]
struct Codes {
    codes: Vec<String>,
    /// The same as a file to keep.
    file: String,
    is_first: bool,
    card: Option<Card>,
}

impl HtmlSafe for Codes {}

impl Codes {
    fn of(codes: &[RecoveryCode], user_name: &str, is_first: bool, card: Option<Card>) -> Self {
        let codes: Vec<String> = codes.iter().map(RecoveryCode::expose).collect();
        let text =
            format!("Keyhouse recovery codes of {user_name}; each works once\n\n{}\n", codes.join("\n"));
        let file = format!("data:text/plain;charset=utf-8,{}", utf8_percent_encode(&text, NON_ALPHANUMERIC));
        Self { codes, file, is_first, card }
    }
}

/// Asks for a code before something.
#[derive(Template)]
#[template(path = "account/ask_code.html")]
struct AskCode {
    action: &'static str,
    heading: &'static str,
    text: &'static str,
    label: &'static str,
    button: &'static str,
    tone: &'static str,
    is_secret: bool,
    refusal: Option<String>,
}

impl HtmlSafe for AskCode {}

const NEW_CODES: AskCode = AskCode {
    action: "/account/second-factor/codes",
    heading: "New recovery codes",
    text: "The recovery codes you have stop to work, and ten new ones are shown.",
    label: "Code of your app, or a recovery code",
    button: "Make new codes",
    tone: "primary",
    is_secret: false,
    refusal: None,
};
const OFF: AskCode = AskCode {
    action: "/account/second-factor/off",
    heading: "Switch two-factor sign-in off?",
    text: "Your password alone will then be enough to sign in and to see your keys. Your recovery codes stop to work.",
    label: "Code of your app, a recovery code, or your password",
    button: "Switch off",
    tone: "danger",
    is_secret: true,
    refusal: None,
};

fn new_recovery_codes(user_id: i64) -> (Vec<RecoveryCode>, Vec<[u8; 32]>) {
    let codes: Vec<RecoveryCode> = (0..RECOVERY_CODES).map(|_| RecoveryCode::generate()).collect();
    let digests = codes.iter().map(|code| code.digest(user_id)).collect();
    (codes, digests)
}

fn show<T: Template + HtmlSafe>(
    htmx: &Htmx,
    signed_in: &SignedIn,
    status: StatusCode,
    dialog: &T,
) -> HttpResponse {
    answer::dialog(htmx, signed_in, PLACE, status, DIALOG_TITLE, dialog)
}

/// `POST /account/second-factor`: makes a secret for the app. It counts once its first code was given.
///
/// # Errors
/// A conflict when the second factor is on already; the engine's.
pub async fn begin(
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
) -> Result<HttpResponse, PageError> {
    let user_id = signed_in.user.id;
    let secret = TotpSecret::generate();
    let sealed = vault.seal_second_factor(user_id, &secret)?;
    store.run(move |connection| second_factors::begin(connection, user_id, &sealed, now_ms())).await?;
    let dialog = SetUp::of(&secret, &signed_in.user.name, None)?;
    Ok(show(&htmx, &signed_in, StatusCode::OK, &dialog))
}

/// `POST /account/second-factor/confirm`: the first code switches it on.
///
/// # Errors
/// A conflict when nothing is pending; the engine's.
pub async fn confirm(
    form: web::Form<Form>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
) -> Result<HttpResponse, PageError> {
    let user_id = signed_in.user.id;
    let pending = store.run(move |connection| second_factors::find(connection, user_id)).await?;
    let pending = pending.filter(|factor| factor.confirmed_at_ms.is_none()).ok_or(Error::Conflict)?;
    let secret = vault.open_second_factor(user_id, &pending.ciphertext)?;
    let step = match Code::parse(&form.code) {
        Ok(Code::App(digits)) => secret.step_of(&digits, now_ms()),
        _ => None,
    };
    let Some(step) = step else {
        let why =
            "This code is not right. Enter the 6 digits that the app shows now; its clock must be right.";
        let dialog = SetUp::of(&secret, &signed_in.user.name, Some(why.to_owned()))?;
        return Ok(show(&htmx, &signed_in, StatusCode::UNPROCESSABLE_ENTITY, &dialog));
    };
    let (codes, digests) = new_recovery_codes(user_id);
    let (actor, session_id) = (signed_in.actor(), signed_in.session_id.clone());
    let card = store
        .run(move |connection| {
            let now_ms = now_ms();
            let sealed = &pending.ciphertext;
            second_factors::switch_on(connection, user_id, sealed, step, &digests, &actor, now_ms)?;
            sessions::confirm(connection, user_id, &session_id, now_ms)?;
            Card::load(connection, user_id)
        })
        .await?;
    let card = htmx.is_htmx.then(|| card.out_of_band());
    let dialog = Codes::of(&codes, &signed_in.user.name, true, card);
    Ok(show(&htmx, &signed_in, StatusCode::OK, &dialog))
}

/// `GET /account/second-factor/codes`: asks for a code before it makes new recovery codes.
pub async fn ask_new_codes(htmx: Htmx, signed_in: SignedIn) -> HttpResponse {
    show(&htmx, &signed_in, StatusCode::OK, &NEW_CODES)
}

/// `POST /account/second-factor/codes`: new recovery codes in place of the old.
///
/// # Errors
/// The engine's; when too many wait to be looked at.
pub async fn new_codes(
    form: web::Form<Form>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    let user_id = signed_in.user.id;
    if let Some(refusal) = refusal(door.code(&signed_in.user, &form.code).await?) {
        let dialog = AskCode { refusal: Some(refusal), ..NEW_CODES };
        return Ok(show(&htmx, &signed_in, StatusCode::UNPROCESSABLE_ENTITY, &dialog));
    }
    let (codes, digests) = new_recovery_codes(user_id);
    let actor = signed_in.actor();
    let card = store
        .run(move |connection| {
            recovery_codes::replace(connection, user_id, &digests, &actor, now_ms())?;
            Card::load(connection, user_id)
        })
        .await?;
    let card = htmx.is_htmx.then(|| card.out_of_band());
    let dialog = Codes::of(&codes, &signed_in.user.name, false, card);
    Ok(show(&htmx, &signed_in, StatusCode::OK, &dialog))
}

/// `GET /account/second-factor/off`: asks for a code or the password before it is switched off.
pub async fn confirm_off(htmx: Htmx, signed_in: SignedIn) -> HttpResponse {
    show(&htmx, &signed_in, StatusCode::OK, &OFF)
}

/// `POST /account/second-factor/off`.
///
/// # Errors
/// The engine's; when too many wait to be looked at.
pub async fn switch_off(
    form: web::Form<Form>,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
    door: Door,
) -> Result<HttpResponse, PageError> {
    let typed = form.into_inner().code;
    let verdict = match Code::parse(&typed) {
        // A password may look like one. It is looked at before a wrong code counts.
        Ok(Code::Recovery(code)) if !is_left(&store, &signed_in, &code).await? => {
            match password(&door, &signed_in, &typed).await? {
                Verdict::Right => Verdict::Right,
                refused => match door.code(&signed_in.user, &typed).await? {
                    Verdict::Wrong(_) => refused,
                    verdict => verdict,
                },
            }
        }
        Ok(_) => door.code(&signed_in.user, &typed).await?,
        Err(_) => password(&door, &signed_in, &typed).await?,
    };
    if let Some(refusal) = refusal(verdict) {
        let dialog = AskCode { refusal: Some(refusal), ..OFF };
        return Ok(show(&htmx, &signed_in, StatusCode::UNPROCESSABLE_ENTITY, &dialog));
    }
    let (user_id, actor) = (signed_in.user.id, signed_in.actor());
    let card = store
        .run(move |connection| {
            second_factors::switch_off(connection, user_id, &actor, now_ms())?;
            Card::load(connection, user_id)
        })
        .await?;
    let text = "Two-factor sign-in is off.".to_owned();
    Ok(answer::done(&htmx, &signed_in, text, &card.out_of_band(), "/account")?)
}

async fn is_left(store: &Store, signed_in: &SignedIn, code: &RecoveryCode) -> Result<bool, Error> {
    let user_id = signed_in.user.id;
    let digest = code.digest(user_id);
    store.run(move |connection| recovery_codes::is_left(connection, user_id, &digest)).await
}

async fn password(door: &Door, signed_in: &SignedIn, typed: &str) -> Result<Verdict, Error> {
    Ok(match door.password(&signed_in.user.name, typed.to_owned()).await? {
        Ok(Some(_)) => Verdict::Right,
        Ok(None) => Verdict::Wrong("This is neither a right code nor your password.".to_owned()),
        Err(too_many) => Verdict::TooMany(too_many),
    })
}

fn refusal(verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Right => None,
        Verdict::Wrong(why) => Some(why),
        Verdict::TooMany(too_many) => Some(wait_sentence(too_many)),
    }
}
