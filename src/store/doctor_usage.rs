//! Proves that usage as it is summed up is what the charges say: hour by hour and day by day, key by key.

use super::doctor::{Breach, Figure};
use super::usage::Grain;
use super::usage_rollup::{self, KEY, SUMS};
use super::{Connection, ask};
use crate::domain::credits::Credits;
use crate::domain::expiry::rfc3339;
use crate::error::Error;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

/// More rows than this are not named for one user: what is wrong is plain by then.
const ROWS_MAX: usize = 20;

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// A row that is not what it should be: what is stored in its columns and what is proven, separated by commas.
#[derive(QueryableByName)]
struct Differing {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = BigInt)]
    key_id: i64,
    #[diesel(sql_type = BigInt)]
    start_ms: i64,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Text)]
    stored: String,
    #[diesel(sql_type = Text)]
    proven: String,
}

/// Every row that differs from the sums it stands for.
///
/// # Errors
/// The engine's.
pub(super) fn examine(connection: &mut Connection) -> Result<Vec<Breach>, Error> {
    let progress = match usage_rollup::progress(connection) {
        Ok(progress) => progress,
        Err(Error::NotFound) => {
            let (subject, rule) = ("usage".to_owned(), "how far it is summed up is known");
            return Ok(vec![Breach { subject, rule, stored: Figure::Count(0), proven: Figure::Count(1) }]);
        }
        Err(error) => return Err(error),
    };
    let mut breaches = unlisted(connection, progress.rolled_ms)?;
    for (grain, from_ms) in [(Grain::Hour, progress.hourly_from_ms), (Grain::Day, 0)] {
        let users = format!(
            "SELECT id FROM users UNION SELECT user_id AS id FROM {} WHERE user_id > 0 \
             UNION SELECT user_id AS id FROM usage_recent ORDER BY id",
            grain.table()
        );
        let users: Vec<Id> = ask!(connection, load, users)?;
        for user in users {
            let rows: Vec<Differing> = ask!(connection, load, of_user(grain),
                BigInt => user.id,
                BigInt => from_ms,
                BigInt => progress.rolled_ms)?;
            breaches.extend(rows.iter().flat_map(|row| row.breaches(grain)));
        }
        let rows: Vec<Differing> = ask!(connection, load, of_everybody(grain), BigInt => from_ms)?;
        breaches.extend(rows.iter().flat_map(|row| row.breaches(grain)));
    }
    Ok(breaches)
}

/// Charges that a list does not have and should, or has otherwise than they are.
fn unlisted(connection: &mut Connection, rolled_ms: i64) -> Result<Vec<Breach>, Error> {
    let mut breaches = Vec::new();
    for (list, own) in
        [("charges_of_users", "l.price_id = c.price_id"), ("charges_of_keys", "l.key_id = c.key_id")]
    {
        let same = format!(
            "c.user_id = l.user_id AND c.created_at_ms = l.created_at_ms AND c.id = l.charge_id AND {own}"
        );
        let query = format!(
            "SELECT CAST(-l.charge_id AS BIGINT) AS id FROM {list} l \
             WHERE NOT EXISTS (SELECT 1 FROM charges c WHERE {same} AND c.resolved_at_ms IS NOT NULL) \
             UNION ALL SELECT c.id AS id FROM charges c WHERE c.resolved_at_ms < $1 \
             AND NOT EXISTS (SELECT 1 FROM {list} l WHERE {same}) LIMIT {ROWS_MAX}"
        );
        let ids: Vec<Id> = ask!(connection, load, query, BigInt => rolled_ms)?;
        breaches.extend(ids.iter().map(|Id { id }| Breach {
            subject: format!("{list}: charge {}", id.abs()),
            rule: "listed as it is",
            stored: Figure::Count(i64::from(*id < 0)),
            proven: Figure::Count(i64::from(*id > 0)),
        }));
    }
    Ok(breaches)
}

/// A user's rows: of keys, with what is not merged yet, against charges; of all keys against those of keys. User by user, so that a large store is not
/// sorted as a whole.
fn of_user(grain: Grain) -> String {
    let (table, grain_ms) = (grain.table(), grain.ms());
    let charged = SUMS.map(|(_, sum)| sum).join(", ");
    compared(&[
        format!(
            "SELECT {KEY}, {}, {} FROM {table} WHERE user_id = $1 AND start_ms >= $2",
            columns(),
            zeros()
        ),
        format!(
            "SELECT user_id, key_id, start_ms - start_ms % {grain_ms}, model, outcome, {}, {} FROM usage_recent \
             WHERE user_id = $1 AND start_ms >= $2",
            columns(),
            zeros()
        ),
        format!(
            "SELECT c.user_id, c.key_id, c.created_at_ms - c.created_at_ms % {grain_ms}, c.model, c.outcome, {}, {charged} \
             FROM charges_of_users l JOIN charges c ON c.id = l.charge_id \
             WHERE l.user_id = $1 AND l.created_at_ms >= $2 AND c.resolved_at_ms < $3 GROUP BY 1, 2, 3, 4, 5",
            zeros()
        ),
        format!(
            "SELECT user_id, 0, start_ms, model, outcome, {}, {} FROM {table} \
             WHERE user_id = $1 AND key_id > 0 AND start_ms >= $2",
            zeros(),
            columns()
        ),
    ])
}

/// Everybody's rows against those of users.
fn of_everybody(grain: Grain) -> String {
    let table = grain.table();
    compared(&[
        format!("SELECT {KEY}, {}, {} FROM {table} WHERE user_id = 0 AND start_ms >= $1", columns(), zeros()),
        format!(
            "SELECT 0, 0, start_ms, model, outcome, {}, {} FROM {table} \
             WHERE user_id > 0 AND key_id = 0 AND start_ms >= $1",
            zeros(),
            columns()
        ),
    ])
}

/// The rows whose stored columns do not sum up to the proven ones; each part has both, one side zeros.
fn compared(parts: &[String]) -> String {
    let of = |side: &str| SUMS.map(|(column, _)| format!("{side}_{column}"));
    let named = [of("stored"), of("proven")].concat().join(", ");
    let listed = |side: &str| {
        of(side).map(|column| format!("CAST(CAST(sum({column}) AS BIGINT) AS TEXT)")).join(" || ',' || ")
    };
    let differs =
        SUMS.map(|(column, _)| format!("sum(stored_{column}) <> sum(proven_{column})")).join(" OR ");
    format!(
        "WITH sides ({KEY}, {named}) AS ({}) SELECT {KEY}, {} AS stored, {} AS proven FROM sides GROUP BY {KEY} \
         HAVING {differs} ORDER BY {KEY} LIMIT {ROWS_MAX}",
        parts.join(" UNION ALL "),
        listed("stored"),
        listed("proven")
    )
}

fn columns() -> String {
    SUMS.map(|(column, _)| column).join(", ")
}

fn zeros() -> String {
    SUMS.map(|_| "0").join(", ")
}

impl Differing {
    fn breaches(&self, grain: Grain) -> Vec<Breach> {
        let whose = match (self.user_id, self.key_id) {
            (0, _) => "everybody".to_owned(),
            (user_id, 0) => format!("account {user_id}"),
            (_, key_id) => format!("key {key_id}"),
        };
        let since: String = rfc3339(self.start_ms).chars().take(13).collect();
        let subject = format!("{} of {whose}, {since}, {}, {}", grain.table(), self.model, self.outcome);
        let sides = self.stored.split(',').zip(self.proven.split(','));
        let differing = RULES.iter().zip(sides).filter(|(_, (stored, proven))| stored != proven);
        let breach = |(rule, (stored, proven)): (&&'static str, (&str, &str))| Breach {
            subject: subject.clone(),
            rule,
            stored: figure(rule, stored),
            proven: figure(rule, proven),
        };
        differing.map(breach).collect()
    }
}

/// In the order of [`SUMS`].
const RULES: [&str; 8] = [
    "requests = charges",
    "input tokens = those of charges",
    "cached tokens = those of charges",
    "output tokens = those of charges",
    SETTLED,
    "duration = that of charges",
    "time to first byte = that of charges",
    "first bytes = those of charges",
];
const SETTLED: &str = "usage = settled";

fn figure(rule: &str, value: &str) -> Figure {
    let value = value.parse().unwrap_or(i64::MIN);
    if rule == SETTLED { Figure::Credits(Credits::from_micros(value)) } else { Figure::Count(value) }
}
