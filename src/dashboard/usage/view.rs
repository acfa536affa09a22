//! The page: the menus, what the time came to, the charts' numbers, and the list.

use super::chart::{self, STACKED_MAX, Table, Tile};
use super::list::List;
use super::state::{BETWEEN, By, DAYS_MAX, RANGES, Range, UsageState, day};
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::SignedIn;
use crate::domain::charge::ChargeStatus;
use crate::error::Error;
use crate::store::usage::{Cells, Grain, Scope, Usage};
use crate::store::{Connection, Store, charges, usage_rollup, users};
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use std::collections::BTreeSet;

/// Keys that the menu offers: those that spent most.
const MENU_KEYS: usize = 25;
const MENU_MODELS: usize = 100;

/// An entry of a menu.
struct Choice {
    value: String,
    words: String,
    chosen: bool,
}

impl Choice {
    fn new(value: impl Into<String>, words: impl Into<String>, chosen: bool) -> Self {
        Self { value: value.into(), words: words.into(), chosen }
    }
}

/// Menus, charts and list; replaced as one when a filter changes.
#[derive(Template)]
#[template(path = "usage/view.html")]
struct View {
    ranges: Vec<Choice>,
    is_between: bool,
    /// More days were asked for than are shown.
    is_cut: bool,
    days_max: i64,
    /// Of the dates, whatever the range is.
    from: String,
    to: String,
    keys: Vec<Choice>,
    models: Vec<Choice>,
    statuses: Vec<Choice>,
    stacks: Vec<Choice>,
    user_id: Option<i64>,
    export_url: String,
    tiles: Vec<Tile>,
    credits: Table,
    counts: Table,
    /// `hour` or `day`, and `key` or `model`.
    grain: &'static str,
    by: &'static str,
    is_empty: bool,
    list: List,
}

impl HtmlSafe for View {}

#[derive(Template)]
#[template(path = "usage/index.html")]
struct Index {
    shell: Shell,
    /// Whose usage an admin looks at.
    whose: Option<String>,
    view: View,
}

/// `GET /usage`
///
/// # Errors
/// Not found, for an admin who names nobody; the engine's.
pub async fn index(
    request: HttpRequest,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let mut state = UsageState::parse(request.query_string(), now_ms());
    // Nobody else has a say in whose usage it is.
    state.user_id = state.user_id.filter(|id| signed_in.user.is_admin && *id != signed_in.user.id);
    let user_id = state.user_id.unwrap_or(signed_in.user.id);
    let (wanted, is_page) = (state.clone(), !htmx.is_htmx || htmx.history_restore_request);
    let (whose, view) = store
        .run(move |connection| {
            connection.snapshot(|connection| {
                let whose = wanted.user_id.map(|id| users::name_of(connection, id)).transpose()?;
                Ok((whose, View::load(connection, user_id, &wanted)?))
            })
        })
        .await?;
    let mut response = if is_page {
        page::render(StatusCode::OK, &Index { shell: Shell::new(&signed_in, "usage"), whose, view })
    } else {
        htmx.push_url(state.url());
        page::render(StatusCode::OK, &view)
    };
    // One URL, two answers: a cache must not give the part for the whole.
    response.headers_mut().append(VARY, HeaderValue::from_static("HX-Request"));
    Ok(response)
}

impl View {
    fn load(connection: &mut Connection, user_id: i64, state: &UsageState) -> Result<Self, Error> {
        let now_ms = now_ms();
        let hourly_from_ms = usage_rollup::progress(connection)?.hourly_from_ms;
        let span = state.range.span(now_ms, hourly_from_ms);
        let mut whole = Usage::open(connection, Scope::of_user(user_id), span)?;
        let (dearest, of_whole) = (whole.dearest_of_keys()?, whole.by_model()?);
        let key_ids = whole.top_keys(&dearest, MENU_KEYS);
        let (keys, models) = menus(connection, user_id, state, key_ids, &of_whole)?;
        let scope = state.scope(user_id);
        let is_whole = scope == Scope::of_user(user_id);
        let mut usage = Usage::open(connection, scope, span)?;
        let by_model = match state.status {
            // What is open is charged when it ends.
            Some(ChargeStatus::Open) => Default::default(),
            _ if is_whole => of_whole,
            _ => usage.by_model()?,
        };
        let all = chart::by_time(&by_model);
        let credits = match state.by {
            By::Model => {
                let named = chart::ranked(&by_model).into_iter().take(STACKED_MAX);
                let columns = named.map(|(model, _)| (model.clone(), model)).collect();
                chart::stack(span, &all, &by_model, columns)
            }
            By::Key => {
                let top = match state.key_id {
                    Some(key_id) => vec![key_id],
                    None => usage.top_keys(&dearest, STACKED_MAX),
                };
                let by_key = if all.is_empty() { Default::default() } else { usage.by_key(&top)? };
                let names = charges::key_names(connection, user_id, &top)?;
                let named = |id: i64| names.get(&id).map(|(name, present)| (id, key_label(name, *present)));
                chart::stack(span, &all, &by_key, top.into_iter().filter_map(named).collect())
            }
        };
        let starts: BTreeSet<i64> = all.keys().copied().collect();
        let list = List::load(connection, user_id, state, span, starts, now_ms)?;
        Ok(Self {
            ranges: ranges(state.range),
            is_between: matches!(state.range, Range::Between(..)),
            is_cut: state.range.is_cut(),
            days_max: DAYS_MAX,
            from: day(span.from_ms),
            to: day(span.until_ms - 1),
            keys,
            models,
            statuses: statuses(state.status),
            stacks: stacks(state.by),
            user_id: state.user_id,
            export_url: state.export_url(),
            tiles: chart::tiles(&chart::total(&by_model)),
            credits,
            counts: chart::counts(span, &all),
            grain: if span.grain == Grain::Hour { "hour" } else { "day" },
            by: state.by.word(),
            is_empty: all.is_empty(),
            list,
        })
    }
}

/// Keys and models to choose from: those with calls in this time, and what is chosen already.
fn menus(
    connection: &mut Connection,
    user_id: i64,
    state: &UsageState,
    mut key_ids: Vec<i64>,
    by_model: &Cells<String>,
) -> Result<(Vec<Choice>, Vec<Choice>), Error> {
    let mut models: Vec<String> =
        chart::ranked(by_model).into_iter().take(MENU_MODELS).map(|(model, _)| model).collect();
    key_ids.extend(state.key_id.filter(|id| !key_ids.contains(id)));
    models.extend(state.model.clone().filter(|model| !models.contains(model)));
    models.sort_unstable();
    let names = charges::key_names(connection, user_id, &key_ids)?;
    let mut keys: Vec<Choice> = names
        .into_iter()
        .map(|(id, (name, present))| {
            Choice::new(id.to_string(), key_label(&name, present), state.key_id == Some(id))
        })
        .collect();
    keys.sort_by_key(|choice| choice.words.to_lowercase());
    let chosen = |model: &String| state.model.as_ref() == Some(model);
    let models = models.into_iter().map(|model| Choice::new(model.clone(), model.clone(), chosen(&model)));
    Ok((keys, models.collect()))
}

fn key_label(name: &str, present: bool) -> String {
    if present { name.to_owned() } else { format!("{name} (deleted)") }
}

fn ranges(current: Range) -> Vec<Choice> {
    let fixed = RANGES.into_iter().map(|(word, words, range)| Choice::new(word, words, range == current));
    let between = Choice::new(BETWEEN, "Between two days", matches!(current, Range::Between(..)));
    fixed.chain([between]).collect()
}

fn statuses(current: Option<ChargeStatus>) -> Vec<Choice> {
    let all = ChargeStatus::ALL.into_iter();
    all.map(|status| Choice::new(status.word(), status.label(), current == Some(status))).collect()
}

fn stacks(current: By) -> Vec<Choice> {
    let choice = |by: By, words| Choice::new(by.word(), words, by == current);
    vec![choice(By::Model, "Stacked by model"), choice(By::Key, "Stacked by key")]
}
