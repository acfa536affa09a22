//! What of a batch concerns accounts that somebody else keeps locked, such as a session left open in the middle: it is put
//! aside, so that the writer goes on for all others. On PostgreSQL alone, where a batch locks the accounts it moves.

use super::rows::Commands;
use crate::error::Error;
use crate::store::Connection;
use diesel::RunQueryDsl;
use diesel::sql_types::{Array, BigInt, Bool};
use std::collections::BTreeSet;

/// A lock on an account is waited for so long: other instances keep theirs for as long as a commit takes, and who waits in the
/// same batch is still answered in time (`ANSWER_WAIT`). What stays locked is not waited for twice.
pub(super) const LOCK_TIMEOUT: &str = "700ms";

/// Accounts that are locked, and the charges of the batch that are theirs.
#[derive(Debug, Default)]
pub(super) struct Locked {
    pub user_ids: BTreeSet<i64>,
    pub charge_ids: BTreeSet<i64>,
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Bool)]
    is_charge: bool,
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl Locked {
    /// Those of `accounts` that are locked at this moment; of all that the batch moves where none are given. Locks nothing
    /// that outlasts the question.
    pub fn look(
        connection: &mut Connection,
        batch: Commands<'_>,
        accounts: Option<&BTreeSet<i64>>,
    ) -> Result<Self, Error> {
        let Connection::Postgres(connection) = connection else { return Ok(Self::default()) };
        let charge_ids: Vec<i64> = batch.resolutions.iter().map(|resolution| resolution.charge_id).collect();
        let user_ids: Vec<i64> = match accounts {
            Some(accounts) => accounts.iter().copied().collect(),
            None => batch.holds.iter().map(|hold| hold.user_id).collect(),
        };
        let rows: Vec<Row> = diesel::sql_query(
            "WITH asked AS MATERIALIZED (SELECT id FROM users WHERE id = ANY(ARRAY( \
             SELECT user_id FROM charges WHERE id = ANY($1) AND $3 UNION SELECT unnest($2)))), \
             free AS MATERIALIZED (SELECT id FROM users WHERE id = ANY(ARRAY(SELECT id FROM asked)) \
             FOR NO KEY UPDATE SKIP LOCKED), \
             locked AS MATERIALIZED (SELECT id FROM asked EXCEPT SELECT id FROM free) \
             SELECT false AS is_charge, id FROM locked \
             UNION ALL SELECT true, id FROM charges WHERE id = ANY($1) AND user_id IN (SELECT id FROM locked)",
        )
        .bind::<Array<BigInt>, _>(charge_ids)
        .bind::<Array<BigInt>, _>(user_ids)
        .bind::<Bool, _>(accounts.is_none())
        .load(connection)?;
        let (charges, users): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.is_charge);
        Ok(Self {
            user_ids: users.into_iter().map(|row| row.id).collect(),
            charge_ids: charges.into_iter().map(|row| row.id).collect(),
        })
    }
}
