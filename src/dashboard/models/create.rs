//! Making a model: name, price, maximum output, and a first route.

use super::PLACE;
use super::price::TypedPrice;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{Pairs, first};
use crate::dashboard::session::{Admin, SignedIn};
use crate::domain::models::{ModelName, parse_max_output};
use crate::domain::upstream::RoutePlaceDraft;
use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::models::{self, NewModel};
use crate::store::upstreams::{self, Upstream};
use crate::store::{Connection, Store};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

const MAX_OUTPUT_DEFAULT: &str = "4096";

/// What stands in the fields.
#[derive(Debug, Clone, Default)]
struct Typed {
    name: String,
    price: TypedPrice,
    max_output: String,
    upstream: String,
    upstream_model: String,
}

impl Typed {
    fn from_pairs(pairs: &Pairs) -> Self {
        let text = |name| first(pairs, name).to_owned();
        Self {
            name: text("name"),
            price: TypedPrice::from_pairs(pairs),
            max_output: text("max_output"),
            upstream: text("upstream"),
            upstream_model: text("upstream_model"),
        }
    }

    fn make(&self, connection: &mut Connection, actor: &Actor) -> Result<i64, Error> {
        let mut errors = FieldErrors::default();
        let name = errors.take("name", ModelName::parse(&self.name));
        let draft = RoutePlaceDraft { upstream_model: &self.upstream_model, priority: "", weight: "" };
        let place = draft.parse();
        let max_output = errors.take("max_output", parse_max_output(&self.max_output));
        let upstream = upstreams::list(connection)?.into_iter().find(|u| u.id.to_string() == self.upstream);
        let upstream = upstream.ok_or(Invalid::new("Choose one of these upstreams."));
        let upstream = errors.take("upstream", upstream);
        let price = self.price.parse();
        if let (Some(name), Some(max_output), Some(upstream), Ok(place), Ok(price)) =
            (name, max_output, upstream, &place, &price)
        {
            let theirs = place.upstream_model.clone().unwrap_or_else(|| name.as_str().to_owned());
            let new = NewModel {
                name: &name,
                max_output_tokens: max_output,
                price: *price,
                routes: &[(upstream.id, theirs)],
            };
            return models::create(connection, &new, actor, now_ms());
        }
        for (field, why) in [price.err(), place.err()].iter().flatten().flat_map(|errors| errors.iter()) {
            errors.add(field, why.clone());
        }
        Err(Error::Invalid(errors))
    }
}

/// The form.
#[derive(Template)]
#[template(path = "models/create.html")]
struct CreateForm {
    name: String,
    price: TypedPrice,
    max_output: String,
    upstream_model: String,
    /// (id, name, chosen)
    upstreams: Vec<(String, String, bool)>,
    errors: FieldErrors,
}

impl HtmlSafe for CreateForm {}

impl CreateForm {
    fn new(typed: Typed, upstreams: Vec<Upstream>, errors: FieldErrors) -> Self {
        let choice = |upstream: Upstream| {
            let id = upstream.id.to_string();
            let chosen = id == typed.upstream;
            (id, format!("{} ({})", upstream.name, upstream.dialect), chosen)
        };
        Self {
            upstreams: upstreams.into_iter().map(choice).collect(),
            name: typed.name,
            price: typed.price,
            max_output: typed.max_output,
            upstream_model: typed.upstream_model,
            errors,
        }
    }

    fn answer(&self, htmx: &Htmx, signed_in: &SignedIn, status: StatusCode) -> HttpResponse {
        answer::dialog(htmx, signed_in, PLACE, status, "Create model", self)
    }
}

/// `GET /models/new`
///
/// # Errors
/// The engine's.
pub async fn new(
    htmx: Htmx,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let upstreams = store.run(upstreams::list).await?;
    let typed = Typed { max_output: MAX_OUTPUT_DEFAULT.into(), ..Typed::default() };
    let form = CreateForm::new(typed, upstreams, FieldErrors::default());
    Ok(form.answer(&htmx, &signed_in, StatusCode::OK))
}

/// `POST /models/new`
///
/// # Errors
/// The engine's; what was typed wrong comes back with the form.
pub async fn create(
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    htmx: Htmx,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (typed, actor) = (Typed::from_pairs(&pairs), signed_in.actor());
    let work = typed.clone();
    let (made, upstreams) = store
        .run(move |connection| Ok((work.make(connection, &actor), upstreams::list(connection)?)))
        .await?;
    match made {
        Ok(id) => {
            let text = format!("Created “{}”", typed.name.trim());
            Ok(answer::go(&htmx, &signed_in, text, &super::url(id))?)
        }
        Err(Error::Invalid(errors)) => {
            let form = CreateForm::new(typed, upstreams, errors);
            Ok(form.answer(&htmx, &signed_in, StatusCode::UNPROCESSABLE_ENTITY))
        }
        Err(error) => Err(error.into()),
    }
}
