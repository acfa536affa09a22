//! Making a key: the dialog, and what it becomes when the key is there.

use super::PLACE;
use super::form::{Choices, GroupChoice, ModelChoice, Typed, available};
use super::list::{List, load_row};
use super::row::Row;
use super::snippets::{Snippet, base_url, snippets};
use super::state::ListState;
use crate::clock::now_ms;
use crate::config::Reach;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::page::Pairs;
use crate::dashboard::session::SignedIn;
use crate::domain::FieldErrors;
use crate::domain::key::KeySettings;
use crate::domain::secret::KeySecret;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::keys::NewKey;
use crate::store::{Connection, Store, keys};
use crate::vault::Vault;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

const TITLE: &str = "Create API Key";

/// The form.
#[derive(Template)]
#[template(path = "keys/create.html")]
struct CreateForm {
    typed: Typed,
    errors: FieldErrors,
    groups: Vec<GroupChoice>,
    models: Vec<ModelChoice>,
    address: String,
    available: String,
}

impl HtmlSafe for CreateForm {}

impl CreateForm {
    fn new(signed_in: &SignedIn, choices: &Choices, mut typed: Typed, errors: FieldErrors) -> Self {
        Self {
            groups: choices.group_choices(&typed.group_id),
            models: choices.model_choices(&mut typed),
            address: signed_in.client_ip.to_string(),
            available: available(&signed_in.user),
            typed,
            errors,
        }
    }
}

/// `GET /keys/new`
///
/// # Errors
/// The engine's.
pub async fn new(
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let user_id = signed_in.user.id;
    let choices = store.run(move |connection| Choices::load(connection, user_id)).await?;
    let typed = Typed::blank(&choices.groups);
    let form = CreateForm::new(&signed_in, &choices, typed, FieldErrors::default());
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, TITLE, &form))
}

/// The key, shown once more prominently, with programs that use it.
#[derive(Template)]
#[template(path = "keys/created.html")]
struct Created {
    name: String,
    secret: KeySecret,
    snippets: Option<[Snippet; 3]>,
    /// Nothing can be called until an admin grants credits.
    is_broke: bool,
    /// Beside the dialog, so that the row appears.
    list: Option<List>,
}

impl HtmlSafe for Created {}

/// What a store's answer to the form may be.
enum Outcome {
    Refused(Choices, FieldErrors),
    Made(Box<Made>),
}

/// What is shown of a new key.
struct Made {
    secret: KeySecret,
    row: Row,
    list: List,
    /// One that it may use, for the snippets.
    model: Option<String>,
}

/// `POST /keys/new`
///
/// # Errors
/// The engine's; what was typed wrong comes back with the form.
pub async fn create(
    pairs: web::Form<Pairs>,
    request: HttpRequest,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
    vault: web::Data<Vault>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, PageError> {
    let typed = Typed::from_pairs(&pairs);
    let work = Work {
        typed: typed.clone(),
        state: ListState::of_url(htmx.current_url().as_deref()),
        user_id: signed_in.user.id,
        actor: signed_in.actor(),
        vault: vault.get_ref().clone(),
    };
    match store.run(move |connection| work.run(connection)).await? {
        Outcome::Refused(choices, errors) => {
            let form = CreateForm::new(&signed_in, &choices, typed, errors);
            Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::UNPROCESSABLE_ENTITY, TITLE, &form))
        }
        Outcome::Made(made) => {
            let Made { secret, row, list, model } = *made;
            let base_url = base_url(&reach, &request);
            let created = Created {
                name: row.name.clone(),
                snippets: model.map(|model| snippets(&base_url, secret.expose(), &model)),
                secret,
                is_broke: signed_in.user.balance_micros <= signed_in.user.held_micros,
                list: htmx.is_htmx.then(|| list.with_new(row).out_of_band()),
            };
            let title = "API key created";
            Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, title, &created))
        }
    }
}

/// What making a key needs on the thread that may block.
struct Work {
    typed: Typed,
    state: ListState,
    user_id: i64,
    actor: Actor,
    vault: Vault,
}

impl Work {
    fn run(self, connection: &mut Connection) -> Result<Outcome, Error> {
        let choices = Choices::load(connection, self.user_id)?;
        let (settings, group_id) = match self.parse(&choices) {
            Ok(parsed) => parsed,
            Err(errors) => return Ok(Outcome::Refused(choices, errors)),
        };
        let user_id = self.user_id;
        let secret = KeySecret::generate();
        let ciphertext = self.vault.seal_key(user_id, &secret)?;
        let new = NewKey { user_id, group_id, settings: &settings, secret: &secret, ciphertext: &ciphertext };
        let id = match keys::create(connection, &new, &self.actor, now_ms()) {
            Ok(id) => id,
            // The group was taken from the offer since it was loaded.
            Err(Error::Invalid(errors)) => return Ok(Outcome::Refused(choices, errors)),
            Err(error) => return Err(error),
        };
        Ok(Outcome::Made(Box::new(Made {
            secret,
            row: load_row(connection, user_id, id)?,
            list: List::load(connection, user_id, &self.state)?,
            model: choices.example_model(connection, &settings.models)?,
        })))
    }

    fn parse(&self, choices: &Choices) -> Result<(KeySettings, i64), FieldErrors> {
        let settings = self.typed.settings(now_ms(), None);
        match (settings, self.typed.group(&choices.groups)) {
            (Ok(settings), Ok(group)) => Ok((settings, group.id)),
            (settings, group) => {
                let mut errors = settings.err().unwrap_or_default();
                errors.take("group_id", group);
                Err(errors)
            }
        }
    }
}
