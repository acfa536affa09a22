//! The list of a user's keys: search, filter, order, and keyset pages in both directions.
//! Status is decided by the domain, row by row, so a status filter reads on until its page is full.

use super::Connection;
use super::groups::Group;
use super::keys::Key;
use super::lower;
use super::paging::{self, Cursor, Page, Place, anywhere};
use super::schema::{api_keys, groups, key_credits};
use crate::domain::key::Status;
use crate::error::Error;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use std::collections::HashMap;

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
    /// Which page.
    pub place: Place,
    /// Rows a page.
    pub limit: usize,
}

/// One page of the keys of `user_id`.
///
/// # Errors
/// The engine's.
pub fn page(
    connection: &mut Connection,
    user_id: i64,
    query: &KeyQuery,
    now_ms: i64,
) -> Result<Page<(Key, Group)>, Error> {
    let descending = query.descending != query.place.is_backwards();
    let sieve = Sieve::new(&query.search, query.status, now_ms);
    let keeps = |(key, _): &(Key, Group)| sieve.keeps(key);
    // What is found and what is then read whole are of one moment: a page that came short would seem the last.
    connection.snapshot(|connection| {
        paging::read(
            &query.place,
            query.limit,
            |row| cursor(query.sort, row),
            sieve.is_needed().then_some(&keeps),
            |place, limit| batch(connection, user_id, query, (descending, now_ms), place, limit),
        )
    })
}

/// What the engine cannot decide: the status, which is the domain's to say, and text beyond ASCII, whose case SQLite
/// does not know.
pub(super) struct Sieve<'a> {
    needle: Option<String>,
    status: Option<Status>,
    now_ms: i64,
    search: &'a str,
}

impl<'a> Sieve<'a> {
    pub fn new(search: &'a str, status: Option<Status>, now_ms: i64) -> Self {
        let needle = (!search.is_ascii()).then(|| search.to_lowercase());
        Self { needle, status, now_ms, search }
    }

    /// The search as a `LIKE` pattern, if the engine can do it.
    pub fn pattern(&self) -> Option<String> {
        (self.needle.is_none() && !self.search.is_empty()).then(|| anywhere(self.search))
    }

    pub fn is_needed(&self) -> bool {
        self.needle.is_some() || self.status.is_some()
    }

    pub fn keeps(&self, key: &Key) -> bool {
        self.status.is_none_or(|status| key.standing().status(self.now_ms) == status)
            && self.needle.as_ref().is_none_or(|needle| key.name.to_lowercase().contains(needle))
    }
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
        .inner_join(key_credits::table)
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

/// Leaves out of `$rows` those that cannot have a status; which of the others have it is the domain's to say.
macro_rules! only_possible {
    ($rows:expr, $status:expr, $now_ms:expr) => {
        match $status {
            Some(Status::Disabled) => $rows.filter(api_keys::enabled.eq(false)),
            Some(Status::Expired) => $rows.filter(api_keys::expires_at_ms.le($now_ms)),
            Some(Status::Exhausted) => {
                $rows.filter(api_keys::credit_limit_micros.le(key_credits::credits_used_micros.nullable()))
            }
            Some(Status::Active) => $rows.filter(api_keys::enabled.eq(true)),
            None => $rows,
        }
    };
}
pub(super) use only_possible;

/// The rows behind `place`, found by what the order needs and no more: sorting carries ids, and only those of the page
/// are read whole.
fn batch(
    connection: &mut Connection,
    user_id: i64,
    query: &KeyQuery,
    (descending, now_ms): (bool, i64),
    place: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<(Key, Group)>, Error> {
    let mut ids = api_keys::table
        .inner_join(key_credits::table)
        .filter(api_keys::user_id.eq(user_id))
        .limit(limit)
        .select(api_keys::id)
        .into_boxed();
    if let Some(pattern) = Sieve::new(&query.search, None, now_ms).pattern() {
        ids = ids.filter(lower(api_keys::name).like(lower(pattern.into_sql::<Text>())).escape('\\'));
    }
    ids = only_possible!(ids, query.status, now_ms);
    // One arm a column: the expression, and the cursor's value in its type. Of what is said of the place, the first part
    // is what an index understands, the second what is true.
    macro_rules! ordered {
        ($expression:expr, $value:expr) => {{
            if let Some(place) = place {
                let value = || $value(place);
                ids = if descending {
                    ids.filter($expression.le(value()))
                        .filter($expression.lt(value()).or(api_keys::id.lt(place.id)))
                } else {
                    ids.filter($expression.ge(value()))
                        .filter($expression.gt(value()).or(api_keys::id.gt(place.id)))
                };
            }
            if descending {
                ids.order(($expression.desc(), api_keys::id.desc()))
            } else {
                ids.order(($expression.asc(), api_keys::id.asc()))
            }
        }};
    }
    // Not joined: for most orders nothing of the group is asked.
    macro_rules! group_name {
        () => {
            groups::table.filter(groups::id.eq(api_keys::group_id)).select(lower(groups::name)).single_value()
        };
    }
    let number = Cursor::number;
    let folded = |place: &Cursor| lower(place.value.clone().into_sql::<Text>());
    let ids = match query.sort {
        Sort::Created => {
            if let Some(place) = place {
                ids = if descending {
                    ids.filter(api_keys::id.lt(place.id))
                } else {
                    ids.filter(api_keys::id.gt(place.id))
                };
            }
            if descending { ids.order(api_keys::id.desc()) } else { ids.order(api_keys::id.asc()) }
        }
        Sort::Name => ordered!(lower(api_keys::name), folded),
        Sort::Group => ordered!(group_name!(), |place: &Cursor| folded(place).nullable()),
        Sort::Used => ordered!(key_credits::credits_used_micros, number),
        Sort::Expiry => ordered!(sql::<BigInt>("coalesce(expires_at_ms, 9223372036854775807)"), number),
        Sort::LastUsed => ordered!(sql::<BigInt>("coalesce(last_used_at_ms, 0)"), number),
    };
    let ids: Vec<i64> = ids.load(connection)?;
    let places: HashMap<i64, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let mut rows: Vec<(Key, Group)> = api_keys::table
        .inner_join(key_credits::table)
        .inner_join(groups::table)
        .filter(api_keys::id.eq_any(ids))
        .select((Key::as_select(), Group::as_select()))
        .load(connection)?;
    rows.sort_by_key(|(key, _)| places.get(&key.id));
    Ok(rows)
}
