//! PostgreSQL's write: a function of the writer's own session confirms what a batch was decided on, and writes it only then. It
//! locks the accounts and, behind the locks, compares settings and what is left of each account and key. A call of it is a
//! transaction, so that one round trip does it all, durably.

use super::decide::{Changes, HoldRequest, Resolution, Rows};
use super::rows::Commands;
use super::statements::Bind;
use super::writing::{CLOSE_VALUES, OPEN_VALUES, close_values, open_values};
use crate::error::Error;
use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use std::collections::BTreeMap;
use std::str::Split;

/// Its parameters, the columns of a batch: accounts ($1 to $4: id, revision, settled, held); keys ($5 to $9: the same and the
/// limit); groups ($10, $11: id, revision); models ($12, $13); charges to be opened ($14 to $23, [`open_values`]); charges to be
/// closed ($24 to $39, [`close_values`]).
const PARAMETERS: &str = "bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], \
    bigint[], bigint[], bigint[], bigint[], \
    bigint[], bigint[], bigint[], text[], text[], bigint[], bigint[], bigint[], bigint[], bigint[], \
    text[], bigint[], text[], text[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], \
    bigint[], bigint[], bigint[], bigint[]";
const TEXTS: &str = "text[]";

/// First it waits for whoever else has these accounts, in order of id so that instances never deadlock. Whoever moves a key's
/// credits, resolves a charge or deletes a key has its account first, so that behind the lock all of them stay as they are. What
/// comes then sees them so, with settings of that moment, since each statement of a function has a snapshot of its own.
///
/// An account with holds must have the revision they were decided on, and may not end with more held than it has: as the holds
/// come behind what is resolved, the last of them has most to fear, and if that fits, so does each before it. Likewise a key and
/// its limit, in `keys`. Where that does not hold nothing is written and nothing comes back; what is found when other rows are
/// written already (a key's credits, a charge that is not open) undoes all by an error. The charges are counted first: if one is
/// not open, what its account would be left with is impossible, and not to be tried.
///
/// What is changed is looked up by the array of its ids as well as by the join: a plan that was made while a table was empty has
/// no way to read all of it for ever. `OFFSET 0` keeps settings a look-up for each key. An open charge is one that was not
/// resolved: asked by the state, it might be looked up in the index of open charges, which begins with the instance, and all of
/// that be read.
const BODY: &str = "
BEGIN
PERFORM FROM users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE;
RETURN QUERY WITH
moment AS MATERIALIZED (
    SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint AS now_ms
), confirmed AS MATERIALIZED (
    SELECT now_ms, greatest(now_ms, (SELECT closing_ms FROM usage_progress WHERE id = 1)) AS resolved_at_ms FROM moment
    WHERE (
        SELECT count(*) FROM users u JOIN unnest($1, $2, $3, $4) AS row (id, revision, settled_micros, held_micros)
        ON row.id = u.id WHERE u.id = ANY($1) AND (row.revision IS NULL OR (row.revision = u.revision
        AND u.held_micros + row.held_micros <= u.balance_micros - row.settled_micros))
    ) = cardinality($1) AND (
        SELECT count(*) FROM unnest($5, $6) AS row (id, revision) CROSS JOIN LATERAL (
            SELECT FROM api_keys k WHERE k.id = row.id AND (row.revision IS NULL OR (row.revision = k.revision
            AND (k.expires_at_ms IS NULL OR k.expires_at_ms > moment.now_ms))) OFFSET 0) k
    ) = cardinality($5) AND (
        SELECT count(*) FROM unnest($10, $11) AS row (id, revision) CROSS JOIN LATERAL (
            SELECT FROM groups g WHERE g.id = row.id AND g.revision = row.revision OFFSET 0) g
    ) = cardinality($10) AND (
        SELECT count(*) FROM unnest($12, $13) AS row (id, revision) CROSS JOIN LATERAL (
            SELECT FROM models m WHERE m.id = row.id AND m.revision = row.revision OFFSET 0) m
    ) = cardinality($12)
), opened AS (
    INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, held_micros,
        input_held_micros, state, created_at_ms)
    SELECT row.*, 'held', confirmed.now_ms
    FROM confirmed CROSS JOIN unnest($14, $15, $16, $17, $18, $19, $20, $21, $22, $23) AS row
    RETURNING 1
), closed AS (
    UPDATE charges SET state = row.state, settled_micros = row.settled_micros, outcome = row.outcome,
        usage_source = row.usage_source, input_tokens = row.input_tokens,
        cached_input_tokens = row.cached_input_tokens, output_tokens = row.output_tokens,
        upstream_id = row.upstream_id, status = row.status, first_byte_ms = row.first_byte_ms,
        cache_write_tokens = row.cache_write_tokens, reasoning_tokens = row.reasoning_tokens, images = row.images,
        audio_ms = row.audio_ms, characters = row.characters,
        resolved_at_ms = (SELECT resolved_at_ms FROM confirmed)
    FROM unnest($24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39)
        AS row (state, settled_micros, outcome, usage_source, input_tokens, cached_input_tokens, output_tokens,
        upstream_id, status, first_byte_ms, cache_write_tokens, reasoning_tokens, images, audio_ms, characters, id)
    WHERE charges.id = row.id AND charges.id = ANY($39) AND charges.resolved_at_ms IS NULL
        AND EXISTS (SELECT FROM confirmed)
    RETURNING 1
), accounts AS (
    UPDATE users SET balance_micros = balance_micros - row.settled_micros,
        held_micros = users.held_micros + row.held_micros
    FROM unnest($1, $3, $4) AS row (id, settled_micros, held_micros)
    WHERE users.id = row.id AND users.id = ANY($1) AND EXISTS (SELECT FROM confirmed)
    RETURNING users.id, users.balance_micros, users.held_micros
), keys AS (
    UPDATE key_credits SET credits_used_micros = credits_used_micros + row.settled_micros,
        credits_held_micros = credits_held_micros + row.held_micros,
        last_used_at_ms = CASE WHEN row.revision IS NULL THEN last_used_at_ms ELSE (SELECT now_ms FROM confirmed) END
    FROM unnest($5, $6, $7, $8, $9) AS row (id, revision, settled_micros, held_micros, limit_micros)
    WHERE key_credits.key_id = row.id AND key_credits.key_id = ANY($5) AND (row.limit_micros IS NULL
        OR (credits_used_micros + row.settled_micros < row.limit_micros AND credits_used_micros + row.settled_micros
        + credits_held_micros + row.held_micros <= row.limit_micros)) AND EXISTS (SELECT FROM confirmed)
    RETURNING key_id, credits_used_micros, credits_held_micros
)
SELECT 0::bigint, CASE WHEN (SELECT count(*) FROM opened) = cardinality($14)
    AND (SELECT count(*) FROM closed) = cardinality($39) AND (SELECT count(*) FROM accounts) = cardinality($1)
    AND (SELECT count(*) FROM keys) = cardinality($5) THEN 0::bigint
    ELSE ('LOOKS_AGAIN: somebody else changed a key or a charge before ' || now_ms)::bigint END,
    0::bigint, 0::bigint FROM confirmed
UNION ALL SELECT 1, id, balance_micros, held_micros FROM accounts
UNION ALL SELECT 2, key_id, credits_used_micros, credits_held_micros FROM keys;
END";

/// The beginning of the error by which the statement undoes itself.
const LOOKS_AGAIN: &str = "Keyhouse looks again";

/// Makes the function, of which a session that writes has one of its own: its text is this release's, whatever others run.
pub(super) fn prepare(connection: &mut PgConnection) -> QueryResult<()> {
    connection.batch_execute(&format!(
        "CREATE FUNCTION pg_temp.commit_batch({PARAMETERS}) \
         RETURNS TABLE (what bigint, of bigint, first_micros bigint, second_micros bigint) LANGUAGE plpgsql AS $body$ {} $body$",
        BODY.replace("LOOKS_AGAIN", LOOKS_AGAIN)
    ))
}

/// Writes what was decided on `rows`, if that still holds: durable when this returns. `None`: it does not, nothing is written,
/// and whatever was known of these rows is to be read again.
pub(super) fn confirm(
    connection: &mut PgConnection,
    instance_id: i64,
    rows: &Rows,
    batch: Commands<'_>,
    changes: &Changes,
) -> Result<Option<Behind>, Error> {
    if changes.opened.is_empty() && changes.closed.is_empty() {
        return Ok(Some(Behind::default()));
    }
    let batch = Batch::new(instance_id, rows, batch, changes);
    let read = match batch.load::<(i64, i64, i64, i64)>(connection) {
        Err(DieselError::DatabaseError(_, info)) if info.message().contains(LOOKS_AGAIN) => return Ok(None),
        read => read?,
    };
    let mut behind = Behind::default();
    for (what, id, first, second) in &read {
        match what {
            1 => behind.accounts.push((*id, *first, *second)),
            2 => behind.keys.push((*id, *first, *second)),
            _ => {}
        }
    }
    Ok((!read.is_empty()).then_some(behind))
}

/// What the accounts and keys that a batch moved have behind it.
#[derive(Default)]
pub(super) struct Behind {
    /// Id, balance, held.
    accounts: Vec<(i64, i64, i64)>,
    /// Id, used, held.
    keys: Vec<(i64, i64, i64)>,
}

impl Behind {
    /// Whether that is what was decided: nobody else has moved the same credits.
    pub fn is_as_decided(&self, rows: &Rows) -> bool {
        let accounts = self.accounts.iter().all(|&(id, balance_micros, held_micros)| {
            let row = rows.accounts.get(&id);
            row.is_some_and(|row| (row.balance_micros, row.held_micros) == (balance_micros, held_micros))
        });
        accounts
            && self.keys.iter().all(|&(id, used_micros, held_micros)| {
                let row = rows.keys.get(&id);
                row.is_some_and(|row| (row.used_micros, row.held_micros) == (used_micros, held_micros))
            })
    }

    /// Makes the rows what they were just before the batch.
    pub fn take_back(&self, changes: &Changes, resolutions: &[Resolution], rows: &mut Rows) {
        self.put_into(rows);
        for (id, moved) in &changes.accounts {
            if let Some(row) = rows.accounts.get_mut(id) {
                row.balance_micros += moved.settled_micros;
                row.held_micros -= moved.held_micros;
            }
        }
        for (id, moved) in &changes.keys {
            if let Some(row) = rows.keys.get_mut(id) {
                row.used_micros -= moved.settled_micros;
                row.held_micros -= moved.held_micros;
            }
        }
        for (index, _) in &changes.closed {
            if let Some(row) = rows.charges.get_mut(&resolutions[*index].charge_id) {
                row.open = true;
            }
        }
    }

    /// Makes the rows what they are behind the batch.
    pub fn put_into(&self, rows: &mut Rows) {
        for &(id, balance_micros, held_micros) in &self.accounts {
            if let Some(row) = rows.accounts.get_mut(&id) {
                (row.balance_micros, row.held_micros) = (balance_micros, held_micros);
            }
        }
        for &(id, used_micros, held_micros) in &self.keys {
            if let Some(row) = rows.keys.get_mut(&id) {
                (row.used_micros, row.held_micros) = (used_micros, held_micros);
            }
        }
    }
}

/// The columns of a batch, one for each of the [`PARAMETERS`].
struct Batch<'a> {
    columns: Vec<Column<'a>>,
    /// Of the columns that are still to come.
    types: Split<'static, &'static str>,
}

enum Column<'a> {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<&'a str>>),
}

impl<'a> Batch<'a> {
    fn new(
        instance_id: i64,
        rows: &Rows,
        Commands { holds, resolutions }: Commands<'a>,
        changes: &Changes,
    ) -> Self {
        let opened = || changes.opened.iter().map(|&index| &holds[index]);
        let revisions = |of: fn(&HoldRequest) -> (i64, i64)| opened().map(of).collect::<BTreeMap<_, _>>();
        let of_users = revisions(|hold| (hold.user_id, hold.user_revision));
        let of_keys = revisions(|hold| (hold.key_id, hold.key_revision));
        let of_groups = revisions(|hold| (hold.group_id, hold.group_revision));
        let of_models = revisions(|hold| (hold.model_id, hold.model_revision));

        let mut batch = Self { columns: Vec::with_capacity(40), types: PARAMETERS.split(", ") };
        let accounts = changes.accounts.iter().map(|(id, moved)| {
            [Some(*id), of_users.get(id).copied(), Some(moved.settled_micros), Some(moved.held_micros)]
        });
        batch.add(accounts.map(|values| values.map(Bind::Number)));
        let keys = changes.keys.iter().map(|(id, moved)| {
            let revision = of_keys.get(id).copied();
            // A limit binds holds; what is resolved was held already.
            let row = rows.keys.get(id).filter(|_| revision.is_some());
            let limit_micros = row.and_then(|row| row.credit_limit_micros);
            [Some(*id), revision, Some(moved.settled_micros), Some(moved.held_micros), limit_micros]
        });
        batch.add(keys.map(|values| values.map(Bind::Number)));
        for settings in [&of_groups, &of_models] {
            batch.add(settings.iter().map(|(id, revision)| [*id, *revision].map(|n| Bind::Number(Some(n)))));
        }
        batch.add::<OPEN_VALUES>(opened().map(|hold| open_values(hold, instance_id)));
        let closed = changes.closed.iter();
        batch.add::<CLOSE_VALUES>(closed.map(|&(index, micros)| close_values(&resolutions[index], micros)));
        batch
    }

    /// The columns of these rows.
    fn add<const N: usize>(&mut self, rows: impl Iterator<Item = [Bind<'a>; N]>) {
        let rows: Vec<[Bind<'a>; N]> = rows.collect();
        for index in 0..N {
            let values = rows.iter().map(|row| row[index]);
            self.columns.push(match self.types.next() {
                Some(TEXTS) => Column::Texts(column(values.map(Bind::text))),
                _ => Column::Numbers(column(values.map(Bind::number))),
            });
        }
    }
}

/// Nothing where no row has a value: `unnest` fills up what is shorter.
fn column<T>(values: impl Iterator<Item = Option<T>> + Clone) -> Vec<Option<T>> {
    match values.clone().any(|value| value.is_some()) {
        true => values.collect(),
        false => Vec::new(),
    }
}

impl QueryFragment<Pg> for Batch<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT what, of, first_micros, second_micros FROM pg_temp.commit_batch(");
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push_sql(", ");
            }
            match column {
                Column::Numbers(values) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)?,
                Column::Texts(values) => out.push_bind_param::<Array<Nullable<Text>>, _>(values)?,
            }
        }
        out.push_sql(")");
        Ok(())
    }
}

impl QueryId for Batch<'_> {
    type QueryId = Batch<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Batch<'_> {
    type SqlType = (BigInt, BigInt, BigInt, BigInt);
}

impl RunQueryDsl<PgConnection> for Batch<'_> {}
