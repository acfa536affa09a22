//! The list of everybody's keys, for admins: by name or owner, a page at a time, however many there are.

use super::Connection;
use super::groups::Group;
use super::key_list::{Sieve, only_possible};
use super::keys::Key;
use super::lower;
use super::paging::{self, Cursor, Page, Place};
use super::schema::{api_keys, groups, key_credits, users};
use super::users::User;
use crate::domain::key::Status;
use crate::error::Error;
use diesel::prelude::*;
use diesel::sql_types::Text;
use std::collections::HashMap;

/// Columns that have an order: those with an index, which usage does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// When made.
    #[default]
    Created,
    /// Label, without regard to case.
    Name,
}

/// What part of the list is wanted.
#[derive(Debug, Clone, Default)]
pub struct AllKeysQuery {
    /// Part of the key's name or its owner's, any case; empty: all.
    pub search: String,
    /// Only this user's keys.
    pub user_id: Option<i64>,
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

/// A key with its group and its owner's name.
#[derive(Debug, Clone)]
pub struct OwnedKey {
    /// The key.
    pub key: Key,
    /// Its group.
    pub group: Group,
    /// Whose it is.
    pub owner: String,
}

/// One page of everybody's keys.
///
/// # Errors
/// The engine's.
pub fn page(connection: &mut Connection, query: &AllKeysQuery, now_ms: i64) -> Result<Page<OwnedKey>, Error> {
    let descending = query.descending != query.place.is_backwards();
    let sieve = Sieve::new(&query.search, query.status, now_ms);
    let keeps = |(key, _): &(Key, i64)| sieve.keeps(key);
    let found = paging::read(
        &query.place,
        query.limit,
        |(key, _)| cursor(query.sort, key),
        sieve.is_needed().then_some(&keeps),
        |place, limit| batch(connection, query, (descending, now_ms), place, limit),
    )?;
    Ok(Page { rows: with_owners(connection, found.rows)?, previous: found.previous, next: found.next })
}

/// One key of anybody.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, id: i64) -> Result<OwnedKey, Error> {
    let row = api_keys::table
        .inner_join(key_credits::table)
        .filter(api_keys::id.eq(id))
        .select((Key::as_select(), api_keys::group_id))
        .first(connection)?;
    with_owners(connection, vec![row])?.pop().ok_or(Error::NotFound)
}

fn cursor(sort: Sort, key: &Key) -> Cursor {
    let value = match sort {
        Sort::Created => String::new(),
        Sort::Name => key.name.clone(),
    };
    Cursor { value, id: key.id }
}

/// Groups and owners are looked up for the page alone, so that no join tempts the engine away from the order's index.
fn with_owners(connection: &mut Connection, rows: Vec<(Key, i64)>) -> Result<Vec<OwnedKey>, Error> {
    let (user_ids, group_ids): (Vec<i64>, Vec<i64>) =
        rows.iter().map(|(key, group_id)| (key.user_id, *group_id)).unzip();
    let owners: Vec<User> =
        users::table.filter(users::id.eq_any(user_ids)).select(User::as_select()).load(connection)?;
    let owners: HashMap<i64, String> = owners.into_iter().map(|user| (user.id, user.name)).collect();
    let groups: Vec<Group> =
        groups::table.filter(groups::id.eq_any(group_ids)).select(Group::as_select()).load(connection)?;
    let groups: HashMap<i64, Group> = groups.into_iter().map(|group| (group.id, group)).collect();
    let owned = |(key, group_id): (Key, i64)| {
        // Gone since the key was read: so is the key.
        let (owner, group) = (owners.get(&key.user_id)?.clone(), groups.get(&group_id)?.clone());
        Some(OwnedKey { key, group, owner })
    };
    Ok(rows.into_iter().filter_map(owned).collect())
}

fn batch(
    connection: &mut Connection,
    query: &AllKeysQuery,
    (descending, now_ms): (bool, i64),
    place: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<(Key, i64)>, Error> {
    let mut rows = api_keys::table
        .inner_join(key_credits::table)
        .limit(limit)
        .select((Key::as_select(), api_keys::group_id))
        .into_boxed();
    if let Some(user_id) = query.user_id {
        rows = rows.filter(api_keys::user_id.eq(user_id));
    }
    if let Some(pattern) = Sieve::new(&query.search, None, now_ms).pattern() {
        let owners = users::table
            .filter(users::name.like(pattern.to_ascii_lowercase()).escape('\\'))
            .select(users::id);
        let in_name = lower(api_keys::name).like(lower(pattern.into_sql::<Text>())).escape('\\');
        rows = rows.filter(in_name.or(api_keys::user_id.eq_any(owners)));
    }
    rows = only_possible!(rows, query.status, now_ms);
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
        Sort::Name => {
            let name = || lower(api_keys::name);
            if let Some(place) = place {
                let value = || lower(place.value.clone().into_sql::<Text>());
                // The first part is what an index understands, the second what is true.
                rows = if descending {
                    rows.filter(name().le(value())).filter(name().lt(value()).or(api_keys::id.lt(place.id)))
                } else {
                    rows.filter(name().ge(value())).filter(name().gt(value()).or(api_keys::id.gt(place.id)))
                };
            }
            if descending {
                rows.order((name().desc(), api_keys::id.desc()))
            } else {
                rows.order((name().asc(), api_keys::id.asc()))
            }
        }
    };
    Ok(rows.load(connection)?)
}
