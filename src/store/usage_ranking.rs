//! Who spent most: by the dearest rows of each hour or day, which an index has in that order. `store::usage` makes a ranking
//! of them.

use super::Connection;
use super::usage::{Grain, Span};
use crate::error::Error;
use diesel::backend::Backend;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, HasSqlType, Text};
use diesel::sqlite::Sqlite;

/// Of each hour or day, so many of its dearest rows are looked at to find who spent most.
const RANKED_ROWS: i64 = 100;

/// A row among the dearest of its hour or day.
#[derive(Debug, Queryable)]
pub struct Dear {
    /// Whose: a key's id or a user's.
    pub(super) id: i64,
    pub(super) settled_micros: i64,
    pub(super) model: String,
    pub(super) outcome: String,
}

/// Of a user's keys.
///
/// # Errors
/// The engine's.
pub(super) fn keys(connection: &mut Connection, user_id: i64, span: Span) -> Result<Vec<Dear>, Error> {
    match span.grain {
        Grain::Hour => dearest::<KEYS_OF_HOUR>(connection, user_id, span),
        Grain::Day => dearest::<KEYS_OF_DAY>(connection, user_id, span),
    }
}

/// Of all users.
///
/// # Errors
/// The engine's.
pub(super) fn users(connection: &mut Connection, span: Span) -> Result<Vec<Dear>, Error> {
    // No user's number: the value only takes its place.
    match span.grain {
        Grain::Hour => dearest::<USERS_OF_HOUR>(connection, 0, span),
        Grain::Day => dearest::<USERS_OF_DAY>(connection, 0, span),
    }
}

/// The dearest rows of each hour or day, of whatever model and outcome. Whoever is among them most is who
/// spent most: exactly so while no piece of time has more rows than are looked at.
fn dearest<const OF: usize>(connection: &mut Connection, id: i64, span: Span) -> Result<Vec<Dear>, Error> {
    match connection {
        Connection::Sqlite(connection) => {
            let mut rows = Vec::new();
            for start_ms in span.starts() {
                rows.extend(Dearest::<OF, i64> { start: start_ms, id }.load::<Dear>(connection)?);
            }
            Ok(rows)
        }
        // One round trip for all of them.
        Connection::Postgres(connection) => {
            let starts: Vec<i64> = span.starts().collect();
            Ok(Dearest::<OF, Vec<i64>> { start: starts, id }.load(connection)?)
        }
    }
}

const KEYS_OF_HOUR: usize = 0;
const KEYS_OF_DAY: usize = 1;
const USERS_OF_HOUR: usize = 2;
const USERS_OF_DAY: usize = 3;

/// Who is ranked, and the table, index and condition.
const RANKINGS: [(&str, &str, &str, &str); 4] = [
    ("key_id", "usage_hourly", "usage_hourly_by_start", "key_id > 0 AND user_id = "),
    ("key_id", "usage_daily", "usage_daily_by_start", "key_id > 0 AND user_id = "),
    ("user_id", "usage_hourly", "usage_hourly_of_users", "key_id = 0 AND user_id > 0 AND user_id <> "),
    ("user_id", "usage_daily", "usage_daily_of_users", "key_id = 0 AND user_id > 0 AND user_id <> "),
];

/// The dearest rows of one hour or day (SQLite), or of each of several (PostgreSQL). A query of its own that stays prepared.
struct Dearest<const OF: usize, Start> {
    start: Start,
    id: i64,
}

impl<const OF: usize, Start> Dearest<OF, Start> {
    /// Nothing that the index does not have is asked for: the rows themselves lie far apart.
    fn select<'b, DB>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> &'static str
    where
        DB: Backend,
    {
        let (whom, table, _, condition) = RANKINGS[OF];
        out.push_sql("SELECT ");
        out.push_sql(whom);
        out.push_sql(", settled_micros, model, outcome FROM ");
        out.push_sql(table);
        condition
    }

    fn order<'b, DB>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        DB: Backend + HasSqlType<BigInt>,
        i64: ToSql<BigInt, DB>,
    {
        out.push_bind_param::<BigInt, _>(&self.id)?;
        out.push_sql(" ORDER BY settled_micros DESC LIMIT ");
        out.push_bind_param::<BigInt, _>(&RANKED_ROWS)
    }
}

impl<const OF: usize> QueryFragment<Sqlite> for Dearest<OF, i64> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let condition = self.select(&mut out);
        // It keeps no statistics, and would rather read all that the primary key finds and sort it.
        out.push_sql(" INDEXED BY ");
        out.push_sql(RANKINGS[OF].2);
        out.push_sql(" WHERE start_ms = ");
        out.push_bind_param::<BigInt, _>(&self.start)?;
        out.push_sql(" AND ");
        out.push_sql(condition);
        self.order(&mut out)
    }
}

impl<const OF: usize> QueryFragment<Pg> for Dearest<OF, Vec<i64>> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT dear.* FROM unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.start)?;
        out.push_sql(") piece (start_ms) CROSS JOIN LATERAL (");
        let condition = self.select(&mut out);
        out.push_sql(" WHERE start_ms = piece.start_ms AND ");
        out.push_sql(condition);
        self.order(&mut out)?;
        out.push_sql(") dear");
        Ok(())
    }
}

impl<const OF: usize, Start: 'static> QueryId for Dearest<OF, Start> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const OF: usize, Start> Query for Dearest<OF, Start> {
    type SqlType = (BigInt, BigInt, Text, Text);
}

impl<C, const OF: usize, Start> RunQueryDsl<C> for Dearest<OF, Start> {}
