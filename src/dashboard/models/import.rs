//! Importing a price list: an admin brings it by file or paste, it is kept for them, they choose upstream, provider, mode
//! and rate, see what would be done row by row, and apply it. What is applied is what was seen, or they see it anew.

use super::import_row::PlanView;
use crate::clock::now_ms;
use crate::dashboard::admin_form::AdminForm;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Kind, Pairs, Shell, first};
use crate::dashboard::session::{Admin, SignedIn};
use crate::dashboard::words::count;
use crate::domain::price_list::{self, LIST_BYTES_MAX, Listed, Plan, Row, Selection};
use crate::domain::upstream::Dialect;
use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::price_lists::{self, Imported};
use crate::store::upstreams::{self, Upstream};
use crate::store::{Connection, Store};
use actix_multipart::Multipart;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use futures_util::StreamExt;
use url::form_urlencoded;

/// Where the list that was brought is shown.
const PREVIEW: &str = "/models/import/preview";
/// Most models a preview shows.
const ROWS_MAX: usize = 1_000;
/// A pasted text up to here comes back with a refusal.
const TEXT_BACK_BYTES_MAX: usize = 64 << 10;

/// The first step.
#[derive(Template)]
#[template(path = "models/import.html")]
struct Bring {
    shell: Shell,
    text: String,
    errors: FieldErrors,
    /// A list that was brought before.
    kept: Option<Moment>,
}

/// `GET /models/import`
///
/// # Errors
/// The engine's.
pub async fn show(Admin(signed_in): Admin, store: web::Data<Store>) -> Result<HttpResponse, PageError> {
    bring(&signed_in, &store, String::new(), FieldErrors::default(), StatusCode::OK).await
}

async fn bring(
    signed_in: &SignedIn,
    store: &Store,
    text: String,
    errors: FieldErrors,
    status: StatusCode,
) -> Result<HttpResponse, PageError> {
    let user_id = signed_in.user.id;
    let kept = store.run(move |connection| price_lists::kept_at(connection, user_id)).await?;
    let kept = kept.map(|at_ms| Moment::of(at_ms, now_ms()));
    let shell = Shell::new(signed_in, "models");
    Ok(page::render(status, &Bring { shell, text, errors, kept }))
}

/// `POST /models/import`
///
/// # Errors
/// The engine's; a list that is none comes back with the form.
pub async fn receive(
    request: HttpRequest,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    body: web::Payload,
) -> Result<HttpResponse, PageError> {
    let text = read(&request, body).await?;
    let back = if text.len() <= TEXT_BACK_BYTES_MAX { text.clone() } else { String::new() };
    let parsed = web::block(move || {
        let listed = price_list::parse(&text)?;
        // Texts and lists of texts are always JSON.
        serde_json::to_string(&listed).map_err(|_| Invalid::new("This list cannot be kept."))
    });
    let parsed = parsed.await.map_err(|error| Error::Internal(format!("a price list: {error}")))?;
    match parsed {
        Ok(content) => {
            let user_id = signed_in.user.id;
            store.run(move |connection| price_lists::keep(connection, user_id, &content, now_ms())).await?;
            Ok(page::redirect(PREVIEW))
        }
        Err(why) => {
            let mut errors = FieldErrors::default();
            errors.add("list", why);
            bring(&signed_in, &store, back, errors, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

/// The file, or where there is none, what was pasted.
async fn read(request: &HttpRequest, body: web::Payload) -> Result<String, PageError> {
    let refused = |why: &'static str| Error::invalid("list", Invalid::new(why));
    let mut fields = Multipart::new(request.headers(), body);
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    while let Some(field) = fields.next().await {
        let mut field = field.map_err(|_| refused("The form was not understood."))?;
        let is_ours = matches!(field.name(), Some("file" | "text"));
        let mut value = Vec::new();
        while let Some(piece) = field.next().await {
            let piece = piece.map_err(|_| refused("The form did not come whole."))?;
            bytes += piece.len();
            if bytes > LIST_BYTES_MAX {
                return Err(PageError::TooLarge);
            }
            value.extend_from_slice(&piece);
        }
        if is_ours && (chosen.is_empty() || field.name() == Some("file")) && !value.is_empty() {
            chosen = value;
        }
    }
    // What is no UTF-8 is no JSON either; the parser says where.
    Ok(String::from_utf8_lossy(&chosen).into_owned())
}

/// What is chosen of the list, as the URL or the form has it.
#[derive(Debug, Clone, Default)]
struct Chosen {
    upstream: String,
    provider: String,
    mode: String,
    rate: String,
    without_prefix: bool,
    /// Nothing is chosen yet.
    is_blank: bool,
}

impl Chosen {
    fn from_pairs(pairs: &Pairs) -> Self {
        let text = |name| first(pairs, name).trim().to_owned();
        Self {
            upstream: text("upstream"),
            provider: text("provider"),
            mode: text("mode"),
            rate: text("rate"),
            without_prefix: !first(pairs, "without_prefix").is_empty(),
            is_blank: !pairs.iter().any(|(name, _)| name == "upstream"),
        }
    }

    fn selection(&self, upstreams: &[Upstream]) -> Result<(i64, Selection), FieldErrors> {
        let mut errors = FieldErrors::default();
        let upstream = upstreams.iter().find(|upstream| upstream.id.to_string() == self.upstream);
        let upstream =
            errors.take("upstream", upstream.ok_or(Invalid::new("Choose one of these upstreams.")));
        let dialect =
            upstream.and_then(|upstream| errors.take("upstream", Dialect::parse(&upstream.dialect)));
        let rate = errors.take("rate", price_list::parse_rate(&self.rate));
        let (Some(upstream), Some(dialect), Some(rate)) = (upstream, dialect, rate) else {
            return Err(errors);
        };
        let (provider, mode) = (self.provider.clone(), self.mode.clone());
        let selection = Selection { provider, mode, rate, without_prefix: self.without_prefix, dialect };
        Ok((upstream.id, selection))
    }
}

/// The second step.
#[derive(Template)]
#[template(path = "models/preview.html")]
struct Previewed {
    shell: Shell,
    kept: Moment,
    listed: String,
    chosen: Chosen,
    upstreams: Vec<(String, String)>,
    providers: Vec<(String, usize)>,
    modes: Vec<(String, usize)>,
    errors: FieldErrors,
    plan: Option<PlanView>,
    /// Why the plan that was applied was not.
    notice: Option<&'static str>,
}

/// The list that is kept, with what the page needs beside it.
struct Kept {
    listed: Vec<Listed>,
    at_ms: i64,
    upstreams: Vec<Upstream>,
}

impl Kept {
    fn load(connection: &mut Connection, user_id: i64) -> Result<Self, Error> {
        let (content, at_ms) = price_lists::kept(connection, user_id)?;
        let listed = serde_json::from_str(&content)
            .map_err(|error| Error::Internal(format!("a kept price list: {error}")))?;
        Ok(Self { listed, at_ms, upstreams: upstreams::list(connection)? })
    }

    fn plan(&self, connection: &mut Connection, chosen: &Chosen) -> Result<(i64, Plan), Error> {
        let (upstream_id, selection) = chosen.selection(&self.upstreams)?;
        let known = price_lists::known(connection, upstream_id)?;
        let plan = price_list::plan(&self.listed, &selection, &known);
        if plan.rows.len() > ROWS_MAX {
            let why = format!(
                "These are {} models; choose a provider or what they are for, so that they are at most {ROWS_MAX}.",
                plan.rows.len()
            );
            return Err(Error::invalid("provider", why));
        }
        Ok((upstream_id, plan))
    }

    /// The page, but for its shell.
    fn page(self, shell: Shell, mut chosen: Chosen, planned: Planned) -> Previewed {
        if chosen.rate.is_empty() {
            "1".clone_into(&mut chosen.rate);
        }
        let owned = |(value, count): (&str, usize)| (value.to_owned(), count);
        let tally = |of: fn(&Listed) -> &str| -> Vec<(String, usize)> {
            let counts =
                price_list::tally(&self.listed, of).into_iter().filter(|(value, _)| !value.is_empty());
            counts.map(owned).collect()
        };
        let mut providers = tally(|listed| &listed.provider);
        providers.sort();
        let upstream = |upstream: Upstream| {
            (upstream.id.to_string(), format!("{} ({})", upstream.name, upstream.dialect))
        };
        Previewed {
            shell,
            kept: Moment::of(self.at_ms, now_ms()),
            listed: count(i64::try_from(self.listed.len()).unwrap_or(i64::MAX), "model"),
            providers,
            modes: tally(|listed| &listed.mode),
            upstreams: self.upstreams.into_iter().map(upstream).collect(),
            chosen,
            errors: planned.errors,
            plan: planned.plan,
            notice: planned.notice,
        }
    }
}

/// What became of planning.
#[derive(Default)]
struct Planned {
    plan: Option<PlanView>,
    errors: FieldErrors,
    notice: Option<&'static str>,
}

/// `GET /models/import/preview`
///
/// # Errors
/// The engine's. Without a list, the first step.
pub async fn preview(
    request: HttpRequest,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let query = form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect::<Pairs>();
    let (chosen, user_id) = (Chosen::from_pairs(&query), signed_in.user.id);
    let work = chosen.clone();
    let loaded = store.run(move |connection| {
        let kept = Kept::load(connection, user_id)?;
        if work.is_blank {
            return Ok((kept, Planned::default()));
        }
        match kept.plan(connection, &work) {
            Ok((_, plan)) => {
                Ok((kept, Planned { plan: Some(PlanView::of(plan, None)), ..Planned::default() }))
            }
            Err(Error::Invalid(errors)) => Ok((kept, Planned { errors, ..Planned::default() })),
            Err(error) => Err(error),
        }
    });
    match loaded.await {
        Ok((kept, planned)) => {
            let status = match planned.errors.is_empty() {
                true => StatusCode::OK,
                false => StatusCode::UNPROCESSABLE_ENTITY,
            };
            Ok(page::render(status, &kept.page(Shell::new(&signed_in, "models"), chosen, planned)))
        }
        Err(Error::NotFound) => Ok(page::redirect("/models/import")),
        Err(error) => Err(error.into()),
    }
}

/// What became of applying.
enum Outcome {
    Done(Imported),
    Again(StatusCode, Box<(Kept, Planned)>),
}

/// `POST /models/import/preview`
///
/// # Errors
/// The engine's. What changed since it was seen, or was not chosen, comes back with the preview.
pub async fn apply(
    AdminForm(Admin(signed_in), pairs): AdminForm<Pairs>,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (chosen, user_id, actor) = (Chosen::from_pairs(&pairs), signed_in.user.id, signed_in.actor());
    let work = chosen.clone();
    let applied = store.run(move |connection| apply_ticked(connection, user_id, &work, &pairs, &actor)).await;
    match applied {
        Ok(Outcome::Done(Imported { made, priced })) => {
            let words = |number: usize, one: &str| count(i64::try_from(number).unwrap_or(i64::MAX), one);
            let text = format!("Made {}, set {}", words(made, "model"), words(priced, "price"));
            page::flash(&signed_in.session, Kind::Success, text)?;
            Ok(page::redirect("/models"))
        }
        Ok(Outcome::Again(status, again)) => {
            let (kept, planned) = *again;
            Ok(page::render(status, &kept.page(Shell::new(&signed_in, "models"), chosen, planned)))
        }
        Err(Error::NotFound) => Ok(page::redirect("/models/import")),
        Err(error) => Err(error.into()),
    }
}

fn apply_ticked(
    connection: &mut Connection,
    user_id: i64,
    chosen: &Chosen,
    pairs: &Pairs,
    actor: &Actor,
) -> Result<Outcome, Error> {
    const CHANGED: &str =
        "Models or prices changed since you saw this, so nothing was done. This is how it is now.";
    let kept = Kept::load(connection, user_id)?;
    let again = |kept: Kept, status, planned| Ok(Outcome::Again(status, Box::new((kept, planned))));
    let (upstream_id, plan) = match kept.plan(connection, chosen) {
        Ok(planned) => planned,
        Err(Error::Invalid(errors)) => {
            return again(kept, StatusCode::UNPROCESSABLE_ENTITY, Planned { errors, ..Planned::default() });
        }
        Err(error) => return Err(error),
    };
    let ticks = pairs.iter().filter(|(name, _)| name == "tick").filter_map(|(_, value)| value.parse().ok());
    let ticks: Vec<usize> = ticks.collect();
    let seen = |plan, ticks, notice| Planned {
        plan: Some(PlanView::of(plan, ticks)),
        notice: Some(notice),
        ..Planned::default()
    };
    if plan.fingerprint() != first(pairs, "seen") {
        return again(kept, StatusCode::CONFLICT, seen(plan, None, CHANGED));
    }
    let ticked = plan.rows.iter().enumerate().filter(|(index, _)| ticks.contains(index));
    let rows: Vec<&Row> = ticked.map(|(_, row)| row).collect();
    if rows.is_empty() {
        let notice = "Nothing is ticked, so nothing was done.";
        return again(kept, StatusCode::UNPROCESSABLE_ENTITY, seen(plan, Some(&[][..]), notice));
    }
    match price_lists::apply(connection, upstream_id, &rows, actor, now_ms()) {
        Ok(imported) => Ok(Outcome::Done(imported)),
        Err(Error::Conflict) => {
            let (_, plan) = kept.plan(connection, chosen)?;
            again(kept, StatusCode::CONFLICT, seen(plan, None, CHANGED))
        }
        Err(error) => Err(error),
    }
}
