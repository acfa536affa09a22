//! The rows that a batch depends on, read. SQLite's writer has the file to itself, and asks only for what it does not know;
//! PostgreSQL's asks for all of a batch, as of one moment.

use super::decide::{AccountRow, ChargeRow, KeyRow, Rows};
use super::rows::Commands;
use crate::clock;
use crate::error::Error;
use crate::store::charges::state;
use crate::store::schema::{api_keys, charges, groups, key_credits, models, usage_progress, users};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Nullable};
use std::collections::{BTreeMap, BTreeSet};

type ChargeColumns = (i64, i64, i64, String, i64, i64);
type AccountColumns = (i64, i64, i64, i64);
type KeyColumns = (i64, i64, Option<i64>, Option<i64>, i64, i64, Option<i64>);

/// Up to this many rows are cheaper to ask for one by one, with a statement that stays prepared, than by a list. (diesel's
/// `first` would bind a limit, and SQLite plans a statement anew for every limit it is given.)
const ONE_BY_ONE_MAX: usize = 8;

/// Loads the rows of some ids from a query.
macro_rules! rows {
    ($connection:expr, $query:expr, $id:expr, $ids:expr, $row:ty) => {
        if $ids.len() <= ONE_BY_ONE_MAX {
            let mut rows = Vec::with_capacity($ids.len());
            for id in $ids {
                let row: Option<$row> = $query.filter($id.eq(*id)).get_result($connection).optional()?;
                rows.extend(row);
            }
            rows
        } else {
            $query.filter($id.eq_any($ids)).load::<$row>($connection)?
        }
    };
}

/// What is not known yet.
pub(super) fn read_unknown(
    connection: &mut SqliteConnection,
    rows: &mut Rows,
    Commands { holds, resolutions }: Commands<'_>,
) -> Result<(), Error> {
    let ids = unknown(resolutions.iter().map(|resolution| resolution.charge_id), &rows.charges);
    let columns = (
        charges::id,
        charges::user_id,
        charges::key_id,
        charges::state,
        charges::held_micros,
        charges::input_held_micros,
    );
    let read = rows!(connection, charges::table.select(columns), charges::id, &ids, ChargeColumns);
    rows.charges.extend(read.into_iter().map(
        |(id, user_id, key_id, word, held_micros, input_held_micros)| {
            (id, ChargeRow { user_id, key_id, open: word == state::HELD, held_micros, input_held_micros })
        },
    ));

    let charges = || resolutions.iter().filter_map(|resolution| rows.charges.get(&resolution.charge_id));
    let user_ids = charges().map(|charge| charge.user_id).chain(holds.iter().map(|hold| hold.user_id));
    let user_ids = unknown(user_ids, &rows.accounts);
    let key_ids = charges().map(|charge| charge.key_id).chain(holds.iter().map(|hold| hold.key_id));
    let key_ids = unknown(key_ids, &rows.keys);

    let columns = (users::id, users::revision, users::balance_micros, users::held_micros);
    let read = rows!(connection, users::table.select(columns), users::id, &user_ids, AccountColumns);
    rows.accounts.extend(read.into_iter().map(|(id, revision, balance_micros, held_micros)| {
        (id, AccountRow { revision, balance_micros, held_micros })
    }));

    let columns = (
        key_credits::key_id,
        api_keys::revision,
        api_keys::expires_at_ms,
        api_keys::credit_limit_micros,
        key_credits::credits_used_micros,
        key_credits::credits_held_micros,
        key_credits::last_used_at_ms,
    );
    let keys = key_credits::table.inner_join(api_keys::table).select(columns);
    let read = rows!(connection, keys, key_credits::key_id, &key_ids, KeyColumns);
    rows.keys.extend(read.into_iter().map(
        |(id, revision, expires_at_ms, credit_limit_micros, used_micros, held_micros, last_used_at_ms)| {
            let row = KeyRow {
                revision,
                expires_at_ms,
                credit_limit_micros,
                used_micros,
                held_micros,
                last_used_at_ms,
            };
            (id, row)
        },
    ));

    for id in unknown(holds.iter().map(|hold| hold.group_id), &rows.groups) {
        let columns = (groups::id, groups::revision);
        let row = groups::table.find(id).select(columns).get_result::<(i64, i64)>(connection).optional()?;
        rows.groups.extend(row);
    }
    for id in unknown(holds.iter().map(|hold| hold.model_id), &rows.models) {
        let columns = (models::id, models::revision);
        let row = models::table.find(id).select(columns).get_result::<(i64, i64)>(connection).optional()?;
        rows.models.extend(row);
    }
    if rows.closing_ms.is_none() {
        let closing_ms = usage_progress::table.find(1).select(usage_progress::closing_ms);
        rows.closing_ms = Some(closing_ms.get_result(connection)?);
    }
    rows.now_ms = clock::now_ms();
    Ok(())
}

/// Those of `ids` that are not known yet, in order, each once.
fn unknown<T>(ids: impl Iterator<Item = i64>, known: &BTreeMap<i64, T>) -> BTreeSet<i64> {
    ids.filter(|id| !known.contains_key(id)).collect()
}

/// All of it, in one round trip; what was known of it before is forgotten.
pub(super) fn read_all(
    connection: &mut PgConnection,
    rows: &mut Rows,
    Commands { holds, resolutions }: Commands<'_>,
) -> Result<(), Error> {
    let all = All {
        charge_ids: ids(&mut resolutions.iter().map(|resolution| resolution.charge_id)),
        user_ids: ids(&mut holds.iter().map(|hold| hold.user_id)),
        key_ids: ids(&mut holds.iter().map(|hold| hold.key_id)),
        group_ids: ids(&mut holds.iter().map(|hold| hold.group_id)),
        model_ids: ids(&mut holds.iter().map(|hold| hold.model_id)),
    };
    let read = all.load::<Row>(connection)?;
    for hold in holds {
        rows.keys.remove(&hold.key_id);
        rows.accounts.remove(&hold.user_id);
        rows.groups.remove(&hold.group_id);
        rows.models.remove(&hold.model_id);
    }
    for resolution in resolutions {
        rows.charges.remove(&resolution.charge_id);
    }
    // A deleted key is not read, and so is known no longer.
    for row in &read {
        if let Row(Row::CHARGE, _, _, key_id, ..) = row {
            rows.keys.remove(key_id);
        }
    }
    for row in read {
        row.put_into(rows);
    }
    Ok(())
}

fn ids(ids: &mut dyn Iterator<Item = i64>) -> Vec<i64> {
    ids.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Locks the accounts of a batch until the end of the transaction: of its holds, and of the charges it resolves.
pub(super) fn lock_accounts(connection: &mut PgConnection, batch: Commands<'_>) -> Result<(), Error> {
    let charge_ids = ids(&mut batch.resolutions.iter().map(|resolution| resolution.charge_id));
    let user_ids = ids(&mut batch.holds.iter().map(|hold| hold.user_id));
    diesel::sql_query(
        "SELECT FROM users WHERE id = ANY(ARRAY(SELECT user_id FROM charges WHERE id = ANY($1) UNION SELECT unnest($2))) \
         ORDER BY id FOR NO KEY UPDATE",
    )
    .bind::<Array<BigInt>, _>(charge_ids)
    .bind::<Array<BigInt>, _>(user_ids)
    .execute(connection)?;
    Ok(())
}

/// What a batch depends on, as of one moment, and that moment. (`OFFSET 0` keeps settings a look-up for each key: as a join, a
/// plan made for few keys would read all there are.)
struct All {
    charge_ids: Vec<i64>,
    /// Of the holds, as are the others; those of the charges come to them.
    user_ids: Vec<i64>,
    key_ids: Vec<i64>,
    group_ids: Vec<i64>,
    model_ids: Vec<i64>,
}

impl QueryFragment<Pg> for All {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "WITH c AS MATERIALIZED (SELECT id, user_id, key_id, (state = 'held')::int::bigint AS open, held_micros, \
             input_held_micros FROM charges WHERE id = ANY(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.charge_ids)?;
        out.push_sql(
            ")) SELECT 0::bigint, id, user_id, key_id, open, held_micros, input_held_micros FROM c \
             UNION ALL SELECT 1, id, revision, balance_micros, held_micros, NULL, NULL FROM users \
             WHERE id = ANY(ARRAY(SELECT user_id FROM c UNION SELECT unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.user_ids)?;
        out.push_sql(
            "::bigint[]))) UNION ALL SELECT 2, k.id, k.revision, m.credits_used_micros, m.credits_held_micros, \
             k.expires_at_ms, k.credit_limit_micros FROM key_credits m CROSS JOIN LATERAL (SELECT * FROM api_keys \
             WHERE id = m.key_id OFFSET 0) k WHERE m.key_id = ANY(ARRAY(SELECT key_id FROM c UNION SELECT unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.key_ids)?;
        out.push_sql(
            "::bigint[]))) UNION ALL SELECT 3, id, revision, 0, 0, NULL, NULL FROM groups WHERE id = ANY(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.group_ids)?;
        out.push_sql(") UNION ALL SELECT 4, id, revision, 0, 0, NULL, NULL FROM models WHERE id = ANY(");
        out.push_bind_param::<Array<BigInt>, _>(&self.model_ids)?;
        out.push_sql(
            ") UNION ALL SELECT 5, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint, 0, 0, NULL, NULL",
        );
        Ok(())
    }
}

impl QueryId for All {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for All {
    type SqlType = (BigInt, BigInt, BigInt, BigInt, BigInt, Nullable<BigInt>, Nullable<BigInt>);
}

impl RunQueryDsl<PgConnection> for All {}

/// What it is of, its id, and its columns in the order of [`All`].
#[derive(Queryable)]
struct Row(i64, i64, i64, i64, i64, Option<i64>, Option<i64>);

impl Row {
    const CHARGE: i64 = 0;
    const ACCOUNT: i64 = 1;
    const KEY: i64 = 2;
    const GROUP: i64 = 3;
    const MODEL: i64 = 4;

    fn put_into(self, rows: &mut Rows) {
        let Self(what, id, first, second, third, fourth, fifth) = self;
        match what {
            Self::CHARGE => {
                let row = ChargeRow {
                    user_id: first,
                    key_id: second,
                    open: third != 0,
                    held_micros: fourth.unwrap_or_default(),
                    input_held_micros: fifth.unwrap_or_default(),
                };
                rows.charges.insert(id, row);
            }
            Self::ACCOUNT => {
                let row = AccountRow { revision: first, balance_micros: second, held_micros: third };
                rows.accounts.insert(id, row);
            }
            Self::KEY => {
                let row = KeyRow {
                    revision: first,
                    used_micros: second,
                    held_micros: third,
                    expires_at_ms: fourth,
                    credit_limit_micros: fifth,
                    last_used_at_ms: None,
                };
                rows.keys.insert(id, row);
            }
            Self::GROUP => drop(rows.groups.insert(id, first)),
            Self::MODEL => drop(rows.models.insert(id, first)),
            _ => rows.now_ms = first,
        }
    }
}
