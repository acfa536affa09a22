//! A new price: what is typed, what the last month would have cost at it, and setting it. The past is never rewritten:
//! each price is a version, and whoever comes second is told.

use super::PLACE;
use super::preview::Preview;
use super::row::price_words;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{Pairs, first};
use crate::dashboard::session::{Admin, SignedIn};
use crate::dashboard::words::plain;
use crate::domain::FieldErrors;
use crate::domain::price::{Price, PriceDraft};
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::models::{self, Model};
use crate::store::prices::{self, PriceVersion};
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// What stands in the fields of a price.
#[derive(Debug, Clone, Default)]
pub struct TypedPrice {
    /// Per million tokens.
    pub input: String,
    /// Per million tokens.
    pub cached_input: String,
    /// Per million tokens.
    pub cache_write: String,
    /// Per million tokens.
    pub output: String,
    /// Each.
    pub per_request: String,
    /// Each.
    pub per_image: String,
    /// Each.
    pub per_audio_second: String,
    /// Per million.
    pub per_character: String,
}

impl TypedPrice {
    /// The fields as they arrive.
    pub fn from_pairs(pairs: &Pairs) -> Self {
        let text = |name| first(pairs, name).to_owned();
        Self {
            input: text("input"),
            cached_input: text("cached_input"),
            cache_write: text("cache_write"),
            output: text("output"),
            per_request: text("per_request"),
            per_image: text("per_image"),
            per_audio_second: text("per_audio_second"),
            per_character: text("per_character"),
        }
    }

    fn of(price: Price) -> Self {
        let or_blank = |micros: i64| if micros == 0 { String::new() } else { plain(micros) };
        Self {
            input: plain(price.input_micros),
            cached_input: price.cached_input_micros.map(plain).unwrap_or_default(),
            cache_write: price.cache_write_micros.map(plain).unwrap_or_default(),
            output: plain(price.output_micros),
            per_request: or_blank(price.per_request_micros),
            per_image: or_blank(price.per_image_micros),
            per_audio_second: or_blank(price.per_audio_second_micros),
            per_character: or_blank(price.per_character_micros),
        }
    }

    /// Whether a field that few models have is used.
    pub fn has_others(&self) -> bool {
        [&self.per_request, &self.per_image, &self.per_audio_second, &self.per_character]
            .iter()
            .any(|field| !field.trim().is_empty())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// Every refused field.
    pub fn parse(&self) -> Result<Price, FieldErrors> {
        PriceDraft {
            input: &self.input,
            cached_input: &self.cached_input,
            cache_write: &self.cache_write,
            output: &self.output,
            per_request: &self.per_request,
            per_image: &self.per_image,
            per_audio_second: &self.per_audio_second,
            per_character: &self.per_character,
        }
        .parse()
    }
}

/// The form.
#[derive(Template)]
#[template(path = "models/price.html")]
struct PriceForm {
    id: i64,
    name: String,
    /// The newest one that whoever has the form has seen.
    version: i64,
    /// In words.
    current: String,
    price: TypedPrice,
    errors: FieldErrors,
    preview: Option<Preview>,
    /// Somebody else set a price since.
    is_conflict: bool,
}

impl HtmlSafe for PriceForm {}

impl PriceForm {
    fn new(model: &Model, newest: &PriceVersion, price: TypedPrice) -> Self {
        Self {
            id: model.id,
            name: model.name.clone(),
            version: newest.version,
            current: price_words(newest),
            price,
            errors: FieldErrors::default(),
            preview: None,
            is_conflict: false,
        }
    }

    fn answer(&self, htmx: &Htmx, signed_in: &SignedIn, status: StatusCode) -> HttpResponse {
        answer::dialog(htmx, signed_in, PLACE, status, "New price", self)
    }
}

fn load(connection: &mut Connection, id: i64) -> Result<(Model, PriceVersion), Error> {
    let model = models::find(connection, id)?;
    let newest = prices::versions(connection, id, 1)?.into_iter().next().ok_or(Error::NotFound)?;
    Ok((model, newest))
}

/// `GET /models/{id}/price`
///
/// # Errors
/// Not found; the engine's.
pub async fn new_price(
    id: web::Path<i64>,
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let (model, newest) = store.run(move |connection| load(connection, id)).await?;
    let form = PriceForm::new(&model, &newest, TypedPrice::of(newest.price()));
    Ok(form.answer(&htmx, &signed_in, StatusCode::OK))
}

/// What became of it.
enum Outcome {
    Set(String),
    Form(StatusCode, Box<PriceForm>),
}

/// `POST /models/{id}/price`: shows what it would have cost, or sets it.
///
/// # Errors
/// Not found; the engine's. What was typed wrong, and what somebody else changed, comes back with the form.
pub async fn set_price(
    id: web::Path<i64>,
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, actor) = (id.into_inner(), signed_in.actor());
    match store.run(move |connection| work(connection, id, &pairs, &actor)).await? {
        Outcome::Set(name) => {
            let text = format!("“{name}” has a new price");
            Ok(answer::go(&htmx, &signed_in, text, &super::url(id))?)
        }
        Outcome::Form(status, form) => Ok(form.answer(&htmx, &signed_in, status)),
    }
}

fn work(connection: &mut Connection, id: i64, pairs: &Pairs, actor: &Actor) -> Result<Outcome, Error> {
    let (model, newest) = load(connection, id)?;
    let typed = TypedPrice::from_pairs(pairs);
    // A form that comes back still knows what was seen, so that a price set meanwhile is told of in the end.
    let seen = first(pairs, "version").parse().unwrap_or(0);
    let mut form = PriceForm { version: seen, ..PriceForm::new(&model, &newest, typed) };
    let price = match form.price.parse() {
        Ok(price) => price,
        Err(errors) => {
            form.errors = errors;
            return Ok(Outcome::Form(StatusCode::UNPROCESSABLE_ENTITY, Box::new(form)));
        }
    };
    if first(pairs, "act") == "preview" {
        form.preview = Some(Preview::load(connection, id, &price, now_ms())?);
        return Ok(Outcome::Form(StatusCode::OK, Box::new(form)));
    }
    match prices::set(connection, id, &price, Some(seen), actor, now_ms()) {
        Ok(()) => Ok(Outcome::Set(model.name)),
        Err(Error::Conflict) => {
            let (model, newest) = load(connection, id)?;
            let form = PriceForm { is_conflict: true, ..PriceForm::new(&model, &newest, form.price) };
            Ok(Outcome::Form(StatusCode::CONFLICT, Box::new(form)))
        }
        Err(error) => Err(error),
    }
}
