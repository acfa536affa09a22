//! The list of a user's keys: search, filter, order, and keyset pages in both directions.
//! Status is decided by the domain, row by row, so a status filter reads on until its page is full.

use super::Connection;
use super::groups::Group;
use super::keys::Key;
use super::lower;
use super::schema::{api_keys, groups};
use crate::domain::key::Status;
use crate::error::Error;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

/// Columns that have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// When made.
    #[default]
    Created,
    /// Label, without regard to case.
    Name,
    /// Credits used.
    Used,
    /// Expiry; permanent keys last.
    Expiry,
    /// Last use; never used first.
    LastUsed,
    /// Group's name.
    Group,
}

/// A place in an ordered list: the value of the order's column, and the id that breaks ties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Of a number column in digits, else the text.
    pub value: String,
    /// Key.
    pub id: i64,
}

/// What part of the list is wanted.
#[derive(Debug, Clone, Default)]
pub struct KeyQuery {
    /// Part of the name, any case; empty: all.
    pub search: String,
    /// Only keys of this status.
    pub status: Option<Status>,
    /// By which column.
    pub sort: Sort,
    /// Downwards.
    pub descending: bool,
    /// Begin behind this place …
    pub after: Option<Cursor>,
    /// … or end before this one.
    pub before: Option<Cursor>,
    /// Rows a page.
    pub limit: usize,
}

/// One page.
#[derive(Debug, Clone, Default)]
pub struct KeyPage {
    /// In the asked order.
    pub rows: Vec<(Key, Group)>,
    /// Where the previous page ends, if there is one.
    pub previous: Option<Cursor>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

const FIRST_BATCH: i64 = 200;
const BATCH_MAX: i64 = 5_000;

/// One page of the keys of `user_id`.
///
/// # Errors
/// The engine's.
pub fn page(
    connection: &mut Connection,
    user_id: i64,
    query: &KeyQuery,
    now_ms: i64,
) -> Result<KeyPage, Error> {
    let backwards = query.before.is_some();
    let descending = query.descending != backwards;
    let start = query.before.clone().or_else(|| query.after.clone());
    // One row more than the page tells whether there is a further page.
    let wanted = query.limit + 1;
    let mut rows: Vec<(Key, Group)> = Vec::new();
    let mut place = start.clone();
    // Only what is sifted here, row by row, needs more rows than it shows.
    let sifted = query.status.is_some() || !query.search.is_ascii();
    let needle = query.search.to_lowercase();
    let matches = |key: &Key| {
        query.status.is_none_or(|status| key.standing().status(now_ms) == status)
            && (query.search.is_ascii() || key.name.to_lowercase().contains(&needle))
    };
    let exactly = i64::try_from(wanted).unwrap_or(BATCH_MAX);
    let mut batch_size = if sifted { FIRST_BATCH.max(exactly) } else { exactly };
    while rows.len() < wanted {
        let batch = batch(connection, user_id, query, descending, place.as_ref(), batch_size)?;
        let exhausted = i64::try_from(batch.len()).unwrap_or(i64::MAX) < batch_size;
        place = batch.last().map(|row| cursor(query.sort, row));
        rows.extend(batch.into_iter().filter(|(key, _)| matches(key)).take(wanted - rows.len()));
        if exhausted {
            break;
        }
        batch_size = (batch_size * 5).min(BATCH_MAX);
    }
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    if backwards {
        rows.reverse();
    }
    let first = rows.first().map(|row| cursor(query.sort, row));
    let last = rows.last().map(|row| cursor(query.sort, row));
    let (previous, next) = if backwards {
        (first.filter(|_| more), last)
    } else {
        (first.filter(|_| start.is_some()), last.filter(|_| more))
    };
    Ok(KeyPage { rows, previous, next })
}

/// Every key, or every key of one user, by id: a page of `limit` behind `after_id`.
///
/// # Errors
/// The engine's.
pub fn by_id(
    connection: &mut Connection,
    user_id: Option<i64>,
    after_id: i64,
    limit: i64,
) -> Result<Vec<(Key, Group)>, Error> {
    let mut rows = api_keys::table
        .inner_join(groups::table)
        .filter(api_keys::id.gt(after_id))
        .order(api_keys::id)
        .limit(limit)
        .select((Key::as_select(), Group::as_select()))
        .into_boxed();
    if let Some(user_id) = user_id {
        rows = rows.filter(api_keys::user_id.eq(user_id));
    }
    Ok(rows.load(connection)?)
}

fn cursor(sort: Sort, (key, group): &(Key, Group)) -> Cursor {
    let value = match sort {
        Sort::Created => String::new(),
        // Folded by the engine when compared, as it folds the column.
        Sort::Name => key.name.clone(),
        Sort::Used => key.credits_used_micros.to_string(),
        Sort::Expiry => key.expires_at_ms.unwrap_or(i64::MAX).to_string(),
        Sort::LastUsed => key.last_used_at_ms.unwrap_or(0).to_string(),
        Sort::Group => group.name.clone(),
    };
    Cursor { value, id: key.id }
}

fn batch(
    connection: &mut Connection,
    user_id: i64,
    query: &KeyQuery,
    descending: bool,
    place: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<(Key, Group)>, Error> {
    let mut rows = api_keys::table
        .inner_join(groups::table)
        .filter(api_keys::user_id.eq(user_id))
        .limit(limit)
        .select((Key::as_select(), Group::as_select()))
        .into_boxed();
    // SQLite folds only ASCII: other searches are sifted by the caller.
    if !query.search.is_empty() && query.search.is_ascii() {
        let pattern = format!("%{}%", escape_like(&query.search));
        rows = rows.filter(lower(api_keys::name).like(lower(pattern.into_sql::<Text>())).escape('\\'));
    }
    // One arm a column: the expression, and the cursor's value in its type.
    macro_rules! ordered {
        ($expression:expr, $value:expr) => {{
            if let Some(place) = place {
                let value = $value(place);
                rows = if descending {
                    rows.filter(
                        $expression
                            .lt(value.clone())
                            .or($expression.eq(value).and(api_keys::id.lt(place.id))),
                    )
                } else {
                    rows.filter(
                        $expression
                            .gt(value.clone())
                            .or($expression.eq(value).and(api_keys::id.gt(place.id))),
                    )
                };
            }
            if descending {
                rows.order(($expression.desc(), api_keys::id.desc()))
            } else {
                rows.order(($expression.asc(), api_keys::id.asc()))
            }
        }};
    }
    let number = |place: &Cursor| place.value.parse::<i64>().unwrap_or(0);
    let folded = |place: &Cursor| lower(place.value.clone().into_sql::<Text>());
    let rows = match query.sort {
        Sort::Created => {
            if let Some(place) = place {
                rows = if descending {
                    rows.filter(api_keys::id.lt(place.id))
                } else {
                    rows.filter(api_keys::id.gt(place.id))
                };
            }
            if descending { rows.order(api_keys::id.desc()) } else { rows.order(api_keys::id.asc()) }
        }
        Sort::Name => ordered!(lower(api_keys::name), folded),
        Sort::Group => ordered!(lower(groups::name), folded),
        Sort::Used => ordered!(api_keys::credits_used_micros, number),
        Sort::Expiry => ordered!(sql::<BigInt>("coalesce(expires_at_ms, 9223372036854775807)"), number),
        Sort::LastUsed => ordered!(sql::<BigInt>("coalesce(last_used_at_ms, 0)"), number),
    };
    Ok(rows.load(connection)?)
}

fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
