//! The list of users: search, filter, order, keyset pages, and how many keys each has.

use super::Connection;
use super::paging::{self, Cursor, Page, Place, anywhere};
use super::schema::{api_keys, users};
use super::users::User;
use crate::error::Error;
use diesel::dsl::count_star;
use diesel::prelude::*;
use std::collections::HashMap;

/// Columns that have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Login name.
    #[default]
    Name,
    /// When made.
    Created,
    /// Credits owned.
    Balance,
}

/// Which users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// May sign in.
    Active,
    /// May not.
    Disabled,
    /// Admins, whether or not they may sign in.
    Admins,
}

/// What part of the list is wanted.
#[derive(Debug, Clone, Default)]
pub struct UserQuery {
    /// Part of the name; empty: all.
    pub search: String,
    /// Only these.
    pub filter: Option<Filter>,
    /// By which column.
    pub sort: Sort,
    /// Downwards.
    pub descending: bool,
    /// Which page.
    pub place: Place,
    /// Rows a page.
    pub limit: usize,
}

/// One page of the users, each with the number of their keys. Deleted ones are gone.
///
/// # Errors
/// The engine's.
pub fn page(connection: &mut Connection, query: &UserQuery) -> Result<Page<(User, i64)>, Error> {
    let descending = query.descending != query.place.is_backwards();
    let cursor = |user: &User| cursor(query.sort, user);
    let found = paging::read(&query.place, query.limit, cursor, None, |place, limit| {
        batch(connection, query, descending, place, limit)
    })?;
    let ids: Vec<i64> = found.rows.iter().map(|user| user.id).collect();
    let keys = keys_of(connection, &ids)?;
    let with_keys = |user: User| {
        let count = keys.get(&user.id).copied().unwrap_or(0);
        (user, count)
    };
    Ok(Page {
        rows: found.rows.into_iter().map(with_keys).collect(),
        previous: found.previous,
        next: found.next,
    })
}

/// How many keys each of these users has; one without keys is left out.
///
/// # Errors
/// The engine's.
pub fn keys_of(connection: &mut Connection, user_ids: &[i64]) -> Result<HashMap<i64, i64>, Error> {
    let counts: Vec<(i64, i64)> = api_keys::table
        .filter(api_keys::user_id.eq_any(user_ids))
        .group_by(api_keys::user_id)
        .select((api_keys::user_id, count_star()))
        .load(connection)?;
    Ok(counts.into_iter().collect())
}

fn cursor(sort: Sort, user: &User) -> Cursor {
    let value = match sort {
        Sort::Created => String::new(),
        Sort::Name => user.name.clone(),
        Sort::Balance => user.balance_micros.to_string(),
    };
    Cursor { value, id: user.id }
}

fn batch(
    connection: &mut Connection,
    query: &UserQuery,
    descending: bool,
    place: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<User>, Error> {
    let mut rows = users::table
        .filter(users::deleted_at_ms.is_null())
        .limit(limit)
        .select(User::as_select())
        .into_boxed();
    if !query.search.is_empty() {
        // Names are lower case and ASCII.
        rows = rows.filter(users::name.like(anywhere(&query.search.to_lowercase())).escape('\\'));
    }
    match query.filter {
        Some(Filter::Active) => rows = rows.filter(users::enabled.eq(true)),
        Some(Filter::Disabled) => rows = rows.filter(users::enabled.eq(false)),
        Some(Filter::Admins) => rows = rows.filter(users::is_admin.eq(true)),
        None => {}
    }
    macro_rules! ordered {
        ($column:expr, $value:expr) => {{
            if let Some(place) = place {
                let (value, id) = ($value(place), place.id);
                rows = if descending {
                    rows.filter($column.lt(value.clone()).or($column.eq(value).and(users::id.lt(id))))
                } else {
                    rows.filter($column.gt(value.clone()).or($column.eq(value).and(users::id.gt(id))))
                };
            }
            if descending {
                rows.order(($column.desc(), users::id.desc()))
            } else {
                rows.order(($column.asc(), users::id.asc()))
            }
        }};
    }
    let rows = match query.sort {
        Sort::Created => ordered!(users::id, |place: &Cursor| place.id),
        Sort::Name => ordered!(users::name, |place: &Cursor| place.value.clone()),
        Sort::Balance => ordered!(users::balance_micros, Cursor::number),
    };
    Ok(rows.load(connection)?)
}
