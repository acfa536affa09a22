//! The audit log read: filters, keyset pages newest first, and the names behind the ids it speaks of.

use super::Connection;
use super::audit::AuditEvent;
use super::paging::{self, Cursor, Page, Place, escape_like};
use super::schema::{api_keys, audit_events, groups, models, upstreams, users};
use crate::error::Error;
use diesel::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Things that have a number.
const KINDS: [&str; 5] = ["user", "key", "group", "model", "upstream"];

/// What part of the log is wanted, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only by this actor; empty: anybody.
    pub actor: String,
    /// Only this action, such as `key.reveal`; empty: any.
    pub action: String,
    /// Only about things of this kind, such as `key`; empty: any.
    pub kind: String,
    /// Only about things of this number.
    pub id: Option<i64>,
    /// Not before.
    pub from_ms: Option<i64>,
    /// Before.
    pub until_ms: Option<i64>,
    /// Which page.
    pub place: Place,
    /// Rows a page.
    pub limit: usize,
}

/// One page of the log.
///
/// # Errors
/// The engine's.
pub fn page(connection: &mut Connection, query: &AuditQuery) -> Result<Page<AuditEvent>, Error> {
    let cursor = |event: &AuditEvent| Cursor::of_id(event.id);
    paging::read(&query.place, query.limit, cursor, None, |place, limit| {
        batch(connection, query, place, limit)
    })
}

fn batch(
    connection: &mut Connection,
    query: &AuditQuery,
    place: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<AuditEvent>, Error> {
    let mut rows = audit_events::table.limit(limit).select(AuditEvent::as_select()).into_boxed();
    if !query.actor.is_empty() {
        rows = rows.filter(audit_events::actor.eq(&query.actor));
    }
    if !query.action.is_empty() {
        rows = rows.filter(audit_events::action.eq(&query.action));
    }
    if !query.kind.is_empty() {
        let subject = match query.id {
            Some(id) => format!("{} {id}", query.kind),
            None => query.kind.clone(),
        };
        // `user 12` and `user 12 …`, and not `user 120`.
        let more = format!("{} %", escape_like(&subject));
        rows =
            rows.filter(audit_events::subject.eq(subject).or(audit_events::subject.like(more).escape('\\')));
    }
    if let (true, Some(id)) = (query.kind.is_empty(), query.id) {
        let [user, key, group, model, upstream] =
            KINDS.map(|kind| audit_events::subject.like(format!("{kind} {id} %")));
        let bare = audit_events::subject.eq_any(KINDS.map(|kind| format!("{kind} {id}")));
        rows = rows.filter(bare.or(user).or(key).or(group).or(model).or(upstream));
    }
    if let Some(from_ms) = query.from_ms {
        rows = rows.filter(audit_events::at_ms.ge(from_ms));
    }
    if let Some(until_ms) = query.until_ms {
        rows = rows.filter(audit_events::at_ms.lt(until_ms));
    }
    let backwards = query.place.is_backwards();
    if let Some(place) = place {
        rows = if backwards {
            rows.filter(audit_events::id.gt(place.id))
        } else {
            rows.filter(audit_events::id.lt(place.id))
        };
    }
    let rows =
        if backwards { rows.order(audit_events::id.asc()) } else { rows.order(audit_events::id.desc()) };
    Ok(rows.load(connection)?)
}

/// A thing that an event is about: its kind and its id.
pub type Subject = (String, i64);

/// What these things are called now; what is gone, or of another kind, is left out.
///
/// # Errors
/// The engine's.
pub fn names(
    connection: &mut Connection,
    subjects: &BTreeSet<Subject>,
) -> Result<HashMap<Subject, String>, Error> {
    let mut names = HashMap::new();
    // One arm a table: they are alike, and no type says so.
    macro_rules! look_up {
        ($kind:literal, $table:ident) => {{
            let ids: Vec<i64> =
                subjects.iter().filter(|(kind, _)| kind == $kind).map(|(_, id)| *id).collect();
            if !ids.is_empty() {
                let rows: Vec<(i64, String)> = $table::table
                    .filter($table::id.eq_any(ids))
                    .select(($table::id, $table::name))
                    .load(connection)?;
                names.extend(rows.into_iter().map(|(id, name)| (($kind.to_owned(), id), name)));
            }
        }};
    }
    look_up!("user", users);
    look_up!("key", api_keys);
    look_up!("group", groups);
    look_up!("model", models);
    look_up!("upstream", upstreams);
    Ok(names)
}
