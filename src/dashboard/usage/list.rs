//! The list of charges: a page of rows, newest first, and the ways to the pages beside it.

use super::state::UsageState;
use super::words::{badge, grouped, lasting};
use crate::dashboard::list_url::PAGE_ROWS;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::Badge;
use crate::domain::charge::ChargeStatus;
use crate::domain::credits::Credits;
use crate::error::Error;
use crate::store::Connection;
use crate::store::charge_list::{ChargePage, Way};
use crate::store::charges::Charge;
use crate::store::usage::Span;
use askama::Template;
use askama::filters::HtmlSafe;
use std::collections::BTreeSet;

/// The rows with their pager; replaced as one.
#[derive(Template)]
#[template(path = "usage/list.html")]
pub struct List {
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
    /// The search stopped before the page was full.
    is_cut: bool,
    is_narrowed: bool,
    /// An admin looks at somebody else's.
    is_anothers: bool,
    /// The same time without a filter.
    all_url: String,
}

impl HtmlSafe for List {}

impl List {
    /// The page of `user_id` in `state`; `starts` are the hours or days in which calls that have ended match. A page
    /// that has become empty gives way to the first.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(
        connection: &mut Connection,
        user_id: i64,
        state: &UsageState,
        span: Span,
        starts: BTreeSet<i64>,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let query = state.query(user_id, span);
        let pieces: Vec<_> =
            starts.into_iter().map(|start_ms| (start_ms, start_ms + span.grain.ms())).collect();
        let mut found = query.page(connection, state.way, PAGE_ROWS, Some(&pieces))?;
        let is_over = found.next.is_none() || matches!(state.way, Way::Before(_));
        if found.rows.is_empty() && is_over && state.way != Way::Start {
            found = query.page(connection, Way::Start, PAGE_ROWS, Some(&pieces))?;
            found.previous = None;
        }
        Ok(Self::of(&found, state, now_ms))
    }

    fn of(found: &ChargePage, state: &UsageState, now_ms: i64) -> Self {
        Self {
            rows: found.rows.iter().map(|charge| Row::of(charge, state, now_ms)).collect(),
            previous: found.previous.map(|place| state.towards(Way::Before(place)).url()),
            next: found.next.map(|place| state.towards(Way::After(place)).url()),
            is_cut: found.next.is_some() && found.rows.len() < PAGE_ROWS,
            is_narrowed: state.is_narrowed(),
            is_anothers: state.user_id.is_some(),
            all_url: state.unfiltered().url(),
        }
    }
}

/// A charge as the list shows it.
struct Row {
    id: i64,
    url: String,
    at: Moment,
    key_name: String,
    model: String,
    input: String,
    cached: String,
    output: String,
    credits: String,
    /// Of an open call, what is held.
    is_open: bool,
    duration: Option<String>,
    first_byte: Option<String>,
    status: Badge,
    http_status: Option<i64>,
}

impl Row {
    fn of(charge: &Charge, state: &UsageState, now_ms: i64) -> Self {
        let status = ChargeStatus::of(charge.outcome.as_deref());
        let count = |count: Option<i64>| count.map_or_else(|| "–".into(), grouped);
        let is_open = status == ChargeStatus::Open;
        let micros = if is_open { charge.held_micros } else { charge.settled_micros };
        Self {
            id: charge.id,
            url: state.charge_url(charge.id),
            at: Moment::of(charge.created_at_ms, now_ms),
            key_name: charge.key_name.clone(),
            model: charge.model.clone(),
            input: count(charge.input_tokens),
            cached: count(charge.cached_input_tokens),
            output: count(charge.output_tokens),
            credits: Credits::from_micros(micros).for_people(),
            is_open,
            duration: charge.resolved_at_ms.map(|at_ms| lasting(at_ms - charge.created_at_ms)),
            first_byte: charge.first_byte_ms.map(lasting),
            status: badge(status),
            http_status: charge.status,
        }
    }
}
