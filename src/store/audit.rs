//! The audit log: who did what to which thing, when, from where. Append-only.

use super::Connection;
use super::schema::audit_events;
use crate::error::Error;
use diesel::prelude::*;
use std::net::IpAddr;

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// A user's name, or `cli`.
    pub name: String,
    /// Where the request came from; `None` on the command line.
    pub client_ip: Option<IpAddr>,
}

impl Actor {
    /// Whoever has a shell on the machine.
    pub fn cli() -> Self {
        Self { name: "cli".into(), client_ip: None }
    }
}

/// Appends one event: `action` such as `key.reveal`, `subject` such as `key 12`. Call it inside the transaction
/// of the act, so that neither happens alone.
///
/// # Errors
/// The engine's.
pub fn record(
    connection: &mut Connection,
    actor: &Actor,
    action: &str,
    subject: &str,
    now_ms: i64,
) -> Result<(), Error> {
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::at_ms.eq(now_ms),
            audit_events::actor.eq(&actor.name),
            audit_events::action.eq(action),
            audit_events::subject.eq(subject),
            audit_events::client_ip.eq(actor.client_ip.map(|ip| ip.to_string())),
        ))
        .execute(connection)?;
    Ok(())
}

/// One event as stored.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = audit_events)]
pub struct AuditEvent {
    /// Row.
    pub id: i64,
    /// When.
    pub at_ms: i64,
    /// A user's name, or `cli`.
    pub actor: String,
    /// Such as `key.reveal`.
    pub action: String,
    /// Such as `key 12`.
    pub subject: String,
    /// From where.
    pub client_ip: Option<String>,
}

/// The newest events, at most `limit`.
///
/// # Errors
/// The engine's.
pub fn newest(connection: &mut Connection, limit: i64) -> Result<Vec<AuditEvent>, Error> {
    Ok(audit_events::table
        .order(audit_events::id.desc())
        .limit(limit)
        .select(AuditEvent::as_select())
        .load(connection)?)
}
