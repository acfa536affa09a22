//! What of a batch concerns rows that somebody else keeps locked, such as a session left open in the middle: it is put aside,
//! so that the writer goes on for all others. On PostgreSQL alone, where a batch locks what it moves.

use super::rows::Commands;
use crate::error::Error;
use crate::store::Connection;
use diesel::RunQueryDsl;
use diesel::sql_types::{Array, BigInt, Bool};
use std::collections::BTreeSet;
use std::time::Duration;

/// A lock is waited for so long: other instances keep theirs for as long as a commit takes, and who waits in the same batch is
/// still answered in time (`ANSWER_WAIT`). What stays locked is not waited for twice.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(700);

/// Rows that are locked, and the charges of a batch that cannot be resolved meanwhile.
#[derive(Debug, Default)]
pub(super) struct Locked {
    pub user_ids: BTreeSet<i64>,
    pub key_ids: BTreeSet<i64>,
    pub charge_ids: BTreeSet<i64>,
    pub unresolvable: BTreeSet<i64>,
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    what: i64,
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl Locked {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.user_ids.is_empty() && self.key_ids.is_empty() && self.charge_ids.is_empty()
    }

    /// What is locked at this moment: of these rows, or of all that the batch moves where none are given. Locks nothing that
    /// outlasts the question.
    pub fn look(
        connection: &mut Connection,
        batch: Commands<'_>,
        among: Option<&Self>,
    ) -> Result<Self, Error> {
        let Connection::Postgres(connection) = connection else { return Ok(Self::default()) };
        let resolved: Vec<i64> = batch.resolutions.iter().map(|resolution| resolution.charge_id).collect();
        let ids = |ids: &BTreeSet<i64>| ids.iter().copied().collect::<Vec<_>>();
        let (user_ids, key_ids, charge_ids) = match among {
            Some(Self { user_ids, key_ids, charge_ids, .. }) => {
                (ids(user_ids), ids(key_ids), ids(charge_ids))
            }
            None => (
                batch.holds.iter().map(|hold| hold.user_id).collect(),
                batch.holds.iter().map(|hold| hold.key_id).collect(),
                resolved.clone(),
            ),
        };
        let rows: Vec<Row> = diesel::sql_query(
            "WITH c AS MATERIALIZED (SELECT id, user_id, key_id FROM charges WHERE id = ANY($1)), \
             asked_user AS MATERIALIZED (SELECT id FROM users WHERE id = ANY(ARRAY( \
             SELECT user_id FROM c WHERE $5 UNION SELECT unnest($2)))), \
             asked_key AS MATERIALIZED (SELECT key_id AS id FROM key_credits WHERE key_id = ANY(ARRAY( \
             SELECT key_id FROM c WHERE $5 UNION SELECT unnest($3)))), \
             asked_charge AS MATERIALIZED (SELECT id FROM charges WHERE id = ANY($4)), \
             free_user AS MATERIALIZED (SELECT id FROM users WHERE id = ANY(ARRAY(SELECT id FROM asked_user)) \
             FOR NO KEY UPDATE SKIP LOCKED), \
             free_key AS MATERIALIZED (SELECT key_id AS id FROM key_credits \
             WHERE key_id = ANY(ARRAY(SELECT id FROM asked_key)) FOR NO KEY UPDATE SKIP LOCKED), \
             free_charge AS MATERIALIZED (SELECT id FROM charges WHERE id = ANY(ARRAY(SELECT id FROM asked_charge)) \
             FOR NO KEY UPDATE SKIP LOCKED), \
             locked_user AS MATERIALIZED (SELECT id FROM asked_user EXCEPT SELECT id FROM free_user), \
             locked_key AS MATERIALIZED (SELECT id FROM asked_key EXCEPT SELECT id FROM free_key), \
             locked_charge AS MATERIALIZED (SELECT id FROM asked_charge EXCEPT SELECT id FROM free_charge) \
             SELECT 0::bigint AS what, id FROM locked_user UNION ALL SELECT 1, id FROM locked_key \
             UNION ALL SELECT 2, id FROM locked_charge UNION ALL SELECT 3, id FROM c \
             WHERE user_id IN (SELECT id FROM locked_user) OR key_id IN (SELECT id FROM locked_key) \
             OR id IN (SELECT id FROM locked_charge)",
        )
        .bind::<Array<BigInt>, _>(resolved)
        .bind::<Array<BigInt>, _>(user_ids)
        .bind::<Array<BigInt>, _>(key_ids)
        .bind::<Array<BigInt>, _>(charge_ids)
        .bind::<Bool, _>(among.is_none())
        .load(connection)?;
        let mut locked = Self::default();
        for Row { what, id } in rows {
            match what {
                0 => locked.user_ids.insert(id),
                1 => locked.key_ids.insert(id),
                2 => locked.charge_ids.insert(id),
                _ => locked.unresolvable.insert(id),
            };
        }
        Ok(locked)
    }

    /// These, too.
    pub fn append(&mut self, mut others: Self) {
        self.user_ids.append(&mut others.user_ids);
        self.key_ids.append(&mut others.key_ids);
        self.charge_ids.append(&mut others.charge_ids);
        self.unresolvable.append(&mut others.unresolvable);
    }
}
