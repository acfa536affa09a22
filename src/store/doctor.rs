//! Proves the laws over the stored data, in one consistent snapshot: what rows say against what charges and grants sum up to.

use super::{Connection, doctor_usage};
use crate::domain::credits::Credits;
use crate::error::Error;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use std::fmt;

/// One law broken by one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Such as `account 3 (ada)`.
    pub subject: String,
    /// What the row says.
    pub rule: &'static str,
    /// As stored.
    pub stored: Figure,
    /// As the charges and grants have it.
    pub proven: Figure,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Money.
    Credits(Credits),
    /// Of calls, tokens, milliseconds.
    Count(i64),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credits(credits) => credits.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: stored {}, proven {}", self.subject, self.rule, self.stored, self.proven)
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Accounts checked.
    pub accounts: i64,
    /// Keys checked.
    pub keys: i64,
    /// Charges summed up.
    pub charges: i64,
    /// Of those, still held.
    pub open_holds: i64,
    /// Empty: every law holds.
    pub breaches: Vec<Breach>,
}

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = BigInt)]
    stored: i64,
    #[diesel(sql_type = BigInt)]
    proven: i64,
}

#[derive(QueryableByName)]
struct Counts {
    #[diesel(sql_type = BigInt)]
    accounts: i64,
    #[diesel(sql_type = BigInt)]
    keys: i64,
    #[diesel(sql_type = BigInt)]
    charges: i64,
    #[diesel(sql_type = BigInt)]
    open_holds: i64,
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM users) AS accounts, (SELECT count(*) FROM api_keys) AS keys, \
    (SELECT count(*) FROM charges) AS charges, (SELECT count(*) FROM charges WHERE state = 'held') AS open_holds";

/// Its words, what its numbers are, and what gives the rows that break it.
type Rule = (&'static str, fn(i64) -> Figure, &'static str);

/// Sums are cast: PostgreSQL's sum of BIGINT is numeric.
const RULES: [Rule; 8] = [
    (
        "balance = grants − settled",
        credits,
        "SELECT 'account ' || u.id || ' (' || u.name || ')' AS subject, u.balance_micros AS stored, \
         CAST(coalesce(g.micros, 0) - coalesce(c.micros, 0) AS BIGINT) AS proven FROM users u \
         LEFT JOIN (SELECT user_id, sum(amount_micros) AS micros FROM grants GROUP BY user_id) g ON g.user_id = u.id \
         LEFT JOIN (SELECT user_id, sum(settled_micros) AS micros FROM charges GROUP BY user_id) c ON c.user_id = u.id \
         WHERE u.balance_micros <> coalesce(g.micros, 0) - coalesce(c.micros, 0) ORDER BY u.id",
    ),
    (
        "held = open holds",
        credits,
        "SELECT 'account ' || u.id || ' (' || u.name || ')' AS subject, u.held_micros AS stored, \
         CAST(coalesce(c.micros, 0) AS BIGINT) AS proven FROM users u \
         LEFT JOIN (SELECT user_id, sum(held_micros) AS micros FROM charges WHERE state = 'held' GROUP BY user_id) c \
         ON c.user_id = u.id WHERE u.held_micros <> coalesce(c.micros, 0) ORDER BY u.id",
    ),
    (
        "held ≤ balance",
        credits,
        "SELECT 'account ' || id || ' (' || name || ')' AS subject, held_micros AS stored, balance_micros AS proven \
         FROM users WHERE held_micros > balance_micros ORDER BY id",
    ),
    (
        "used = settled",
        credits,
        "SELECT 'key ' || k.id || ' (' || k.name || ')' AS subject, coalesce(m.credits_used_micros, 0) AS stored, \
         CAST(coalesce(c.micros, 0) AS BIGINT) AS proven FROM api_keys k LEFT JOIN key_credits m ON m.key_id = k.id \
         LEFT JOIN (SELECT key_id, sum(settled_micros) AS micros FROM charges GROUP BY key_id) c ON c.key_id = k.id \
         WHERE coalesce(m.credits_used_micros, 0) <> coalesce(c.micros, 0) ORDER BY k.id",
    ),
    (
        "held = open holds",
        credits,
        "SELECT 'key ' || k.id || ' (' || k.name || ')' AS subject, coalesce(m.credits_held_micros, 0) AS stored, \
         CAST(coalesce(c.micros, 0) AS BIGINT) AS proven FROM api_keys k LEFT JOIN key_credits m ON m.key_id = k.id \
         LEFT JOIN (SELECT key_id, sum(held_micros) AS micros FROM charges WHERE state = 'held' GROUP BY key_id) c \
         ON c.key_id = k.id WHERE coalesce(m.credits_held_micros, 0) <> coalesce(c.micros, 0) ORDER BY k.id",
    ),
    (
        "its account, its group and its credits are there",
        Figure::Count,
        "SELECT 'key ' || k.id || ' (' || k.name || ')' AS subject, CAST(3 AS BIGINT) AS stored, \
         CAST((SELECT count(*) FROM users WHERE id = k.user_id) + (SELECT count(*) FROM \"groups\" WHERE id = k.group_id) \
         + (SELECT count(*) FROM key_credits WHERE key_id = k.id) AS BIGINT) AS proven FROM api_keys k \
         WHERE k.user_id NOT IN (SELECT id FROM users) OR k.group_id NOT IN (SELECT id FROM \"groups\") \
         OR k.id NOT IN (SELECT key_id FROM key_credits) ORDER BY k.id",
    ),
    (
        "0 ≤ settled ≤ held",
        credits,
        "SELECT 'charge ' || id AS subject, settled_micros AS stored, held_micros AS proven FROM charges \
         WHERE settled_micros > held_micros OR settled_micros < 0 OR (state <> 'settled' AND settled_micros <> 0) \
         ORDER BY id",
    ),
    // Neither engine is asked to look for each charge as it is opened: both are there for good.
    (
        "its account and its price are there",
        Figure::Count,
        "SELECT 'charge ' || c.id AS subject, CAST(2 AS BIGINT) AS stored, \
         CAST((SELECT count(*) FROM users WHERE id = c.user_id) + (SELECT count(*) FROM prices WHERE id = c.price_id) \
         AS BIGINT) AS proven FROM charges c WHERE c.user_id NOT IN (SELECT id FROM users) \
         OR c.price_id NOT IN (SELECT id FROM prices) ORDER BY c.id",
    ),
];

fn credits(micros: i64) -> Figure {
    Figure::Credits(Credits::from_micros(micros))
}

/// Checks every account, key and charge.
///
/// # Errors
/// The engine's; a breach is no error but a finding.
pub fn examine(connection: &mut Connection) -> Result<Diagnosis, Error> {
    let begin = match connection {
        // A deferred transaction reads one snapshot of the WAL and keeps no writer waiting.
        Connection::Sqlite(_) => "BEGIN DEFERRED",
        // A large store takes longer to sum than a page may take to load.
        Connection::Postgres(_) => {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0"
        }
    };
    connection.batch_execute(begin)?;
    let diagnosis = examine_snapshot(connection);
    connection.batch_execute("ROLLBACK")?;
    diagnosis
}

fn examine_snapshot(connection: &mut Connection) -> Result<Diagnosis, Error> {
    let counts: Counts = match connection {
        Connection::Sqlite(connection) => diesel::sql_query(COUNTS).get_result(connection),
        Connection::Postgres(connection) => diesel::sql_query(COUNTS).get_result(connection),
    }?;
    let mut diagnosis = Diagnosis {
        accounts: counts.accounts,
        keys: counts.keys,
        charges: counts.charges,
        open_holds: counts.open_holds,
        breaches: Vec::new(),
    };
    for (rule, figure, query) in RULES {
        let sums: Vec<Sum> = match connection {
            Connection::Sqlite(connection) => diesel::sql_query(query).load(connection),
            Connection::Postgres(connection) => diesel::sql_query(query).load(connection),
        }?;
        diagnosis.breaches.extend(sums.into_iter().map(|sum| Breach {
            subject: sum.subject,
            rule,
            stored: figure(sum.stored),
            proven: figure(sum.proven),
        }));
    }
    diagnosis.breaches.extend(doctor_usage::examine(connection)?);
    Ok(diagnosis)
}
