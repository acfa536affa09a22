//! The ledger's own statements, with a text that never changes, so that both engines prepare each of them once.
//! (diesel prepares an UPDATE anew every time.) SQLite gets a statement a row; PostgreSQL one for all rows of a batch.

use diesel::backend::Backend;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, HasSqlType, Nullable, Text};
use std::sync::LazyLock;

/// Opens one charge.
pub(super) const OPEN_CHARGE: usize = 0;
/// Closes one charge.
pub(super) const CLOSE_CHARGE: usize = 1;
/// Moves an account's money.
pub(super) const MOVE_ACCOUNT: usize = 2;
/// Moves a key's money.
pub(super) const MOVE_KEY: usize = 3;
/// The same for a key that was unused. SQLite's alone.
pub(super) const MOVE_UNUSED_KEY: usize = 4;
/// Opens one charge.
const OPEN_CHARGE_SQL: &str = "INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, \
    instance_id, state, held_micros, input_held_micros, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'held', ?, ?, ?)";

/// Closes one charge; a second close touches no row. (An open charge is one that was not resolved. Asked by the state,
/// PostgreSQL may look it up in the index of open charges, which begins with the instance: it then reads all of that.)
const CLOSE_CHARGE_SQL: &str = "UPDATE charges SET state = ?, settled_micros = ?, outcome = ?, \
    usage_source = ?, input_tokens = ?, cached_input_tokens = ?, output_tokens = ?, upstream_id = ?, status = ?, \
    first_byte_ms = ?, resolved_at_ms = ?, cache_write_tokens = ?, reasoning_tokens = ?, images = ?, audio_ms = ?, \
    characters = ? WHERE id = ? AND resolved_at_ms IS NULL";

/// Moves an account's money.
const MOVE_ACCOUNT_SQL: &str =
    "UPDATE users SET balance_micros = balance_micros - ?, held_micros = held_micros + ? WHERE id = ?";

/// Moves a key's money; without a moment of use the old one stays.
const MOVE_KEY_SQL: &str = "UPDATE key_credits SET credits_used_micros = credits_used_micros + ?, \
    credits_held_micros = credits_held_micros + ?, last_used_at_ms = coalesce(?, last_used_at_ms) WHERE key_id = ?";

/// The same, and the row goes to the end of the table: rows of keys in use lie together, on few pages.
const MOVE_UNUSED_KEY_SQL: &str = "UPDATE key_credits SET rowid = (SELECT max(rowid) FROM key_credits) + 1, \
    credits_used_micros = credits_used_micros + ?, credits_held_micros = credits_held_micros + ?, \
    last_used_at_ms = coalesce(?, last_used_at_ms) WHERE key_id = ?";

/// The first four for many rows, each column of theirs an array. What is changed is looked up by the array of its ids ($28,
/// $31, $35) as well as by the join: a plan that was made while a table was empty has no way to read all of it for ever.
const BATCH_SQL: &str = "WITH opened AS (INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, \
    multiplier_micros, instance_id, state, held_micros, input_held_micros, created_at_ms) \
    SELECT id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, 'held', held_micros, \
    input_held_micros, created_at_ms FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::text[], \
    ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]) AS row (id, user_id, key_id, \
    key_name, model, price_id, multiplier_micros, instance_id, held_micros, input_held_micros, created_at_ms) \
    RETURNING 1), \
    closed AS (UPDATE charges SET state = row.state, settled_micros = row.settled_micros, \
    outcome = row.outcome, usage_source = row.usage_source, input_tokens = row.input_tokens, \
    cached_input_tokens = row.cached_input_tokens, output_tokens = row.output_tokens, \
    upstream_id = row.upstream_id, status = row.status, first_byte_ms = row.first_byte_ms, \
    resolved_at_ms = row.resolved_at_ms, cache_write_tokens = row.cache_write_tokens, \
    reasoning_tokens = row.reasoning_tokens, images = row.images, audio_ms = row.audio_ms, \
    characters = row.characters FROM unnest(?::text[], ?::bigint[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], \
    ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], \
    ?::bigint[], ?::bigint[], ?::bigint[]) AS row (state, settled_micros, outcome, usage_source, input_tokens, \
    cached_input_tokens, output_tokens, upstream_id, status, first_byte_ms, resolved_at_ms, cache_write_tokens, \
    reasoning_tokens, images, audio_ms, characters, id) WHERE charges.id = row.id AND charges.id = ANY($28) \
    AND charges.resolved_at_ms IS NULL RETURNING 1), \
    accounts AS (UPDATE users SET balance_micros = balance_micros - row.settled_micros, \
    held_micros = users.held_micros + row.held_micros FROM unnest(?::bigint[], ?::bigint[], ?::bigint[]) \
    AS row (settled_micros, held_micros, id) WHERE users.id = row.id AND users.id = ANY($31) RETURNING 1), \
    keys AS (UPDATE key_credits SET credits_used_micros = credits_used_micros + row.settled_micros, \
    credits_held_micros = credits_held_micros + row.held_micros, \
    last_used_at_ms = coalesce(row.used_at_ms, last_used_at_ms) FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], \
    ?::bigint[]) AS row (settled_micros, held_micros, used_at_ms, id) WHERE key_credits.key_id = row.id \
    AND key_credits.key_id = ANY($35) RETURNING 1) \
    SELECT (SELECT count(*) FROM opened), (SELECT count(*) FROM closed), (SELECT count(*) FROM accounts), \
    (SELECT count(*) FROM keys)";

/// As it stands behind the `?` of a column of texts.
const TEXTS_TYPE: &str = "::text[]";

/// The texts, by the numbers above.
const TEXTS: [&str; 5] =
    [OPEN_CHARGE_SQL, CLOSE_CHARGE_SQL, MOVE_ACCOUNT_SQL, MOVE_KEY_SQL, MOVE_UNUSED_KEY_SQL];

/// The texts cut at each `?`, once: diesel walks a statement several times whenever it runs.
static PIECES: LazyLock<[Vec<&'static str>; 5]> =
    LazyLock::new(|| TEXTS.map(|text| text.split('?').collect()));
static BATCH_PIECES: LazyLock<Vec<&'static str>> = LazyLock::new(|| BATCH_SQL.split('?').collect());

/// A value in a statement.
#[derive(Clone, Copy)]
pub(super) enum Bind<'a> {
    /// A number, or none.
    Number(Option<i64>),
    /// A text, or none.
    Text(Option<&'a str>),
}

/// One of the texts above with a value for each `?`, in order.
pub(super) struct Statement<'a, const TEXT: usize> {
    /// The values.
    pub binds: &'a [Bind<'a>],
}

impl<const TEXT: usize, DB> QueryFragment<DB> for Statement<'_, TEXT>
where
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Text>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
    for<'b> Option<&'b str>: ToSql<Nullable<Text>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut binds = self.binds.iter();
        for (index, piece) in PIECES[TEXT].iter().enumerate() {
            if index > 0 {
                match binds.next() {
                    Some(Bind::Number(value)) => out.push_bind_param::<Nullable<BigInt>, _>(value)?,
                    Some(Bind::Text(value)) => out.push_bind_param::<Nullable<Text>, _>(value)?,
                    None => debug_assert!(false, "a value for each ?"),
                }
            }
            out.push_sql(piece);
        }
        Ok(())
    }
}

/// A type of its own for each text, by which the connection finds what it prepared without reading the text again.
impl<const TEXT: usize> QueryId for Statement<'_, TEXT> {
    type QueryId = Statement<'static, TEXT>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C, const TEXT: usize> RunQueryDsl<C> for Statement<'_, TEXT> {}

/// What PostgreSQL gets of a batch: gives how many charges were opened and closed, and how many accounts and keys moved.
pub(super) struct Batch<'a> {
    /// One for each `?`, in order.
    columns: Vec<Column<'a>>,
}

enum Column<'a> {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<&'a str>>),
}

impl<'a> Batch<'a> {
    /// Of the rows of each of the four statements.
    pub fn new<const O: usize, const C: usize, const A: usize, const K: usize>(
        opened: impl Iterator<Item = [Bind<'a>; O]>,
        closed: impl Iterator<Item = [Bind<'a>; C]>,
        accounts: impl Iterator<Item = [Bind<'a>; A]>,
        keys: impl Iterator<Item = [Bind<'a>; K]>,
    ) -> Self {
        let mut batch = Self { columns: Vec::with_capacity(BATCH_PIECES.len()) };
        batch.add(opened);
        batch.add(closed);
        batch.add(accounts);
        batch.add(keys);
        batch
    }

    fn add<const N: usize>(&mut self, rows: impl Iterator<Item = [Bind<'a>; N]>) {
        let rows: Vec<[Bind<'a>; N]> = rows.collect();
        for index in 0..N {
            let values = rows.iter().map(|row| row[index]);
            let behind = BATCH_PIECES.get(self.columns.len() + 1).copied().unwrap_or_default();
            self.columns.push(if behind.starts_with(TEXTS_TYPE) {
                Column::Texts(values.map(Bind::text).collect())
            } else {
                Column::Numbers(values.map(Bind::number).collect())
            });
        }
    }
}

impl<'a> Bind<'a> {
    fn number(self) -> Option<i64> {
        match self {
            Self::Number(value) => value,
            Self::Text(_) => None,
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(value) => value,
            Self::Number(_) => None,
        }
    }
}

impl QueryFragment<Pg> for Batch<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut columns = self.columns.iter();
        for (index, piece) in BATCH_PIECES.iter().enumerate() {
            if index > 0 {
                match columns.next() {
                    Some(Column::Numbers(values)) => {
                        out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)?;
                    }
                    Some(Column::Texts(values)) => out.push_bind_param::<Array<Nullable<Text>>, _>(values)?,
                    None => debug_assert!(false, "a column for each ?"),
                }
            }
            out.push_sql(piece);
        }
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
