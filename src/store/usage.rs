//! What was used, by hour or day: the rollups, and what was resolved since, added up as of one moment. Few rows are read
//! however many charges there are. Ask within [`Connection::snapshot`], or the two parts may not fit together.

use super::usage_ranking::{self, Dear};
use super::usage_rollup::{self, HOUR_MS, Progress};
use super::{Connection, ask};
use crate::domain::expiry::DAY_MS;
use crate::error::Error;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

/// How finely time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// UTC hours.
    Hour,
    /// UTC days.
    Day,
}

impl Grain {
    /// Of one piece.
    pub const fn ms(self) -> i64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Hour => "usage_hourly",
            Self::Day => "usage_daily",
        }
    }
}

/// A span of time, cut into pieces at whose bounds it begins and ends. By when a call began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub from_ms: i64,
    /// Behind its end.
    pub until_ms: i64,
    /// The pieces.
    pub grain: Grain,
}

impl Span {
    /// The beginnings of the pieces, oldest first.
    pub fn starts(&self) -> impl DoubleEndedIterator<Item = i64> + use<> {
        let (from_ms, grain_ms) = (self.from_ms, self.grain.ms());
        (0..(self.until_ms - from_ms) / grain_ms).map(move |piece| from_ms + piece * grain_ms)
    }
}

/// Whose usage, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Whose; `None`: everybody's.
    pub user_id: Option<i64>,
    /// Of one key of theirs.
    pub key_id: Option<i64>,
    /// Of one model.
    pub model: Option<String>,
    /// That ended so.
    pub outcome: Option<&'static str>,
}

impl Scope {
    /// All of a user.
    pub fn of_user(user_id: i64) -> Self {
        Self { user_id: Some(user_id), ..Self::default() }
    }
}

/// Sums over calls that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, QueryableByName)]
pub struct Sums {
    /// Calls.
    #[diesel(sql_type = BigInt)]
    pub requests: i64,
    /// Of those, that failed, were cut off or interrupted.
    #[diesel(sql_type = BigInt)]
    pub errors: i64,
    /// Cached ones included.
    #[diesel(sql_type = BigInt)]
    pub input_tokens: i64,
    /// Part of the input.
    #[diesel(sql_type = BigInt)]
    pub cached_input_tokens: i64,
    /// Reasoning included.
    #[diesel(sql_type = BigInt)]
    pub output_tokens: i64,
    /// Charged.
    #[diesel(sql_type = BigInt)]
    pub settled_micros: i64,
    /// From hold to end, summed.
    #[diesel(sql_type = BigInt)]
    pub duration_ms: i64,
    /// To the first byte, summed over those that had one.
    #[diesel(sql_type = BigInt)]
    pub first_byte_ms: i64,
    /// How many had one.
    #[diesel(sql_type = BigInt)]
    pub first_bytes: i64,
}

impl Sums {
    fn each(&mut self, other: &Self, change: impl Fn(&mut i64, i64)) {
        change(&mut self.requests, other.requests);
        change(&mut self.errors, other.errors);
        change(&mut self.input_tokens, other.input_tokens);
        change(&mut self.cached_input_tokens, other.cached_input_tokens);
        change(&mut self.output_tokens, other.output_tokens);
        change(&mut self.settled_micros, other.settled_micros);
        change(&mut self.duration_ms, other.duration_ms);
        change(&mut self.first_byte_ms, other.first_byte_ms);
        change(&mut self.first_bytes, other.first_bytes);
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.each(&other, |sum, part| *sum += part);
    }
}

impl SubAssign for Sums {
    fn sub_assign(&mut self, other: Self) {
        self.each(&other, |sum, part| *sum -= part);
    }
}

/// Sums by the piece of time and by something else: a model, a key's id, a user's id.
pub type Cells<By> = BTreeMap<(i64, By), Sums>;

/// One row of either part, by whatever the query groups by.
#[derive(Debug, QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    start_ms: i64,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = BigInt)]
    key_id: i64,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(embed)]
    sums: Sums,
}

/// Of the rollups' rows: what [`Sums`] wants.
const ROLLED: &str = "CAST(sum(requests) AS BIGINT) AS requests, \
    CAST(sum(CASE WHEN outcome IN ('failed', 'cut', 'interrupted') THEN requests ELSE 0 END) AS BIGINT) AS errors, \
    CAST(sum(input_tokens) AS BIGINT) AS input_tokens, \
    CAST(sum(cached_input_tokens) AS BIGINT) AS cached_input_tokens, \
    CAST(sum(output_tokens) AS BIGINT) AS output_tokens, CAST(sum(settled_micros) AS BIGINT) AS settled_micros, \
    CAST(sum(duration_ms) AS BIGINT) AS duration_ms, CAST(sum(first_byte_ms) AS BIGINT) AS first_byte_ms, \
    CAST(sum(first_bytes) AS BIGINT) AS first_bytes";

/// A question, answered from both parts.
pub struct Usage<'a> {
    connection: &'a mut Connection,
    scope: Scope,
    span: Span,
    /// What is in no hour or day yet, summed by those, user, key and model.
    since: Vec<Row>,
}

impl<'a> Usage<'a> {
    /// Reads what was resolved since the watermark, and what is not merged yet.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(connection: &'a mut Connection, scope: Scope, span: Span) -> Result<Self, Error> {
        let Progress { rolled_ms, .. } = usage_rollup::progress(connection)?;
        let mut since = since(connection, rolled_ms, &scope, span)?;
        since.extend(recent(connection, &scope, span)?);
        Ok(Self { connection, scope, span, since })
    }

    /// By model.
    ///
    /// # Errors
    /// The engine's.
    pub fn by_model(&mut self) -> Result<Cells<String>, Error> {
        let (user_id, key_id) = (self.scope.user_id.unwrap_or(0), self.scope.key_id.unwrap_or(0));
        let rows = self.rolled("model", ("user_id", &[user_id]), ("key_id", key_id))?;
        Ok(add_up(rows.iter().chain(&self.since), |row| Some(row.model.clone())))
    }

    /// Of these keys of the user, by key.
    ///
    /// # Errors
    /// The engine's.
    pub fn by_key(&mut self, key_ids: &[i64]) -> Result<Cells<i64>, Error> {
        let user_id = self.scope.user_id.unwrap_or(0);
        let rows = self.rolled("key_id", ("key_id", key_ids), ("user_id", user_id))?;
        let chosen = |row: &Row| Some(row.key_id).filter(|id| key_ids.contains(id));
        Ok(add_up(rows.iter().chain(&self.since), chosen))
    }

    /// Of these users, all in all.
    ///
    /// # Errors
    /// The engine's.
    pub fn of_users(&mut self, user_ids: &[i64]) -> Result<BTreeMap<i64, Sums>, Error> {
        let rows = self.rolled("user_id", ("user_id", user_ids), ("key_id", 0))?;
        let chosen = |row: &Row| Some(row.user_id).filter(|id| user_ids.contains(id));
        let mut users = BTreeMap::<i64, Sums>::new();
        for ((_, user_id), sums) in add_up(rows.iter().chain(&self.since), chosen) {
            *users.entry(user_id).or_default() += sums;
        }
        Ok(users)
    }

    /// What the dearest hours or days of the user's keys cost: to tell by [`Usage::top_keys`] which spent most, in this
    /// scope or in a part of it.
    ///
    /// # Errors
    /// The engine's.
    pub fn dearest_of_keys(&mut self) -> Result<Vec<Dear>, Error> {
        let user_id = self.scope.user_id.unwrap_or(0);
        usage_ranking::keys(self.connection, user_id, self.span)
    }

    /// The user's keys that spent most, at most `count`, the dearest first.
    pub fn top_keys(&self, dearest: &[Dear], count: usize) -> Vec<i64> {
        self.top(dearest, |row| row.key_id, count)
    }

    /// The users that spent most, at most `count`, the dearest first.
    ///
    /// # Errors
    /// The engine's.
    pub fn top_users(&mut self, count: usize) -> Result<Vec<i64>, Error> {
        let dearest = usage_ranking::users(self.connection, self.span)?;
        Ok(self.top(&dearest, |row| row.user_id, count))
    }

    /// Those who spent most, by the dearest rows in the scope and what was resolved since the watermark; where nothing
    /// costs anything, those who are there most often.
    fn top(&self, dearest: &[Dear], whom: impl Fn(&Row) -> i64, count: usize) -> Vec<i64> {
        let Scope { model, outcome, .. } = &self.scope;
        let is_in_scope = |dear: &&Dear| {
            model.as_ref().is_none_or(|model| dear.model == *model)
                && outcome.is_none_or(|outcome| dear.outcome == outcome)
        };
        let summed = dearest.iter().filter(is_in_scope).map(|dear| (dear.id, dear.settled_micros));
        let since = self.since.iter().map(|row| (whom(row), row.sums.settled_micros));
        let mut spent = BTreeMap::<i64, (i64, usize)>::new();
        for (id, settled_micros) in summed.chain(since) {
            let (micros, times) = spent.entry(id).or_default();
            *micros += settled_micros;
            *times += 1;
        }
        let mut ids: Vec<i64> = spent.keys().copied().collect();
        ids.sort_by_key(|id| std::cmp::Reverse(spent[id]));
        ids.truncate(count);
        ids
    }

    /// Rows of the rollups of some keys of a user, or of some users, summed by time and one column.
    fn rolled(
        &mut self,
        by: &str,
        (which, ids): (&str, &[i64]),
        (other, other_id): (&str, i64),
    ) -> Result<Vec<Row>, Error> {
        let shown = |column: &str| {
            if by == column { column.to_owned() } else { format!("CAST(0 AS BIGINT) AS {column}") }
        };
        let model = if by == "model" { "model" } else { "'' AS model" };
        let (starts, ids) = (listed(self.span.starts()), listed(ids));
        let rows = |whose: &str| {
            // The hours or days one by one, since their rows lie together.
            format!(
                "SELECT start_ms, {}, {}, {model}, {ROLLED} FROM {} WHERE {whose} AND start_ms IN ({starts}) \
                 AND ($1 = '' OR model = $1) AND ($2 = '' OR outcome = $2) GROUP BY start_ms, {by}",
                shown("user_id"),
                shown("key_id"),
                self.span.grain.table()
            )
        };
        let query = match self.connection {
            Connection::Sqlite(_) => rows(&format!("{which} IN ({ids}) AND {other} = {other_id}")),
            // One id after the other, and none as a number from which PostgreSQL could guess how many rows it finds: it
            // knows nothing of users and keys together, and would read the table instead of the few there are.
            Connection::Postgres(_) => format!(
                "SELECT one.* FROM unnest('{{{ids}}}'::bigint[]) given (id) CROSS JOIN LATERAL ({}) one",
                rows(&format!("{which} = given.id AND {other} = (SELECT {other_id}::bigint)"))
            ),
        };
        Ok(ask!(self.connection, load, query,
            Text => self.scope.model.as_deref().unwrap_or_default(),
            Text => self.scope.outcome.unwrap_or_default())?)
    }
}

/// What was resolved at the watermark or later, in the span and the scope.
fn since(connection: &mut Connection, rolled_ms: i64, scope: &Scope, span: Span) -> Result<Vec<Row>, Error> {
    let grain_ms = span.grain.ms();
    let sums = usage_rollup::SUMS.map(|(column, sum)| format!("{sum} AS {column}")).join(", ");
    let query = format!(
        "SELECT c.created_at_ms - c.created_at_ms % {grain_ms} AS start_ms, c.user_id AS user_id, c.key_id AS key_id, \
         c.model AS model, {sums}, \
         CAST(sum(CASE WHEN c.outcome IN ('failed', 'cut', 'interrupted') THEN 1 ELSE 0 END) AS BIGINT) AS errors \
         FROM charges c WHERE c.resolved_at_ms >= $1 AND c.created_at_ms >= $2 AND c.created_at_ms < $3 \
         AND ($4 = 0 OR c.user_id = $4) AND ($5 = 0 OR c.key_id = $5) AND ($6 = '' OR c.model = $6) \
         AND ($7 = '' OR c.outcome = $7) GROUP BY 1, 2, 3, 4"
    );
    Ok(ask!(connection, load, query,
        BigInt => rolled_ms,
        BigInt => span.from_ms,
        BigInt => span.until_ms,
        BigInt => scope.user_id.unwrap_or(0),
        BigInt => scope.key_id.unwrap_or(0),
        Text => scope.model.as_deref().unwrap_or_default(),
        Text => scope.outcome.unwrap_or_default())?)
}

/// What was resolved before it and is not merged yet, in the span and the scope.
fn recent(connection: &mut Connection, scope: &Scope, span: Span) -> Result<Vec<Row>, Error> {
    let grain_ms = span.grain.ms();
    let query = format!(
        "SELECT start_ms - start_ms % {grain_ms} AS start_ms, user_id, key_id, model, {ROLLED} FROM usage_recent \
         WHERE start_ms >= $1 AND start_ms < $2 AND ($3 = 0 OR user_id = $3) AND ($4 = 0 OR key_id = $4) \
         AND ($5 = '' OR model = $5) AND ($6 = '' OR outcome = $6) GROUP BY 1, 2, 3, 4"
    );
    Ok(ask!(connection, load, query,
        BigInt => span.from_ms,
        BigInt => span.until_ms,
        BigInt => scope.user_id.unwrap_or(0),
        BigInt => scope.key_id.unwrap_or(0),
        Text => scope.model.as_deref().unwrap_or_default(),
        Text => scope.outcome.unwrap_or_default())?)
}

fn listed(numbers: impl IntoIterator<Item = impl ToString>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    numbers.join(", ")
}

fn add_up<'a, By: Ord>(rows: impl Iterator<Item = &'a Row>, by: impl Fn(&Row) -> Option<By>) -> Cells<By> {
    let mut cells = Cells::new();
    for row in rows {
        if let Some(by) = by(row) {
            *cells.entry((row.start_ms, by)).or_default() += row.sums;
        }
    }
    cells
}
