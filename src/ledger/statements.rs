//! The ledger's own statements, with a text that never changes, so that both engines prepare each of them once.
//! (diesel prepares an UPDATE anew every time.) SQLite gets a statement a row; PostgreSQL, where a round trip is what
//! costs, one statement a table, its rows as one JSON array.

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType, Nullable, Text};
use std::sync::LazyLock;

/// Opens one charge.
pub(super) const OPEN_CHARGE: usize = 0;
/// Closes one charge.
pub(super) const CLOSE_CHARGE: usize = 1;
/// Moves an account's money.
pub(super) const MOVE_ACCOUNT: usize = 2;
/// Moves a key's money.
pub(super) const MOVE_KEY: usize = 3;
/// Opens charges.
pub(super) const OPEN_CHARGES: usize = 4;
/// Closes charges.
pub(super) const CLOSE_CHARGES: usize = 5;
/// Moves accounts' money.
pub(super) const MOVE_ACCOUNTS: usize = 6;
/// Moves keys' money.
pub(super) const MOVE_KEYS: usize = 7;

/// Opens one charge.
const OPEN_CHARGE_SQL: &str = "INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, \
    instance_id, state, held_micros, input_held_micros, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'held', ?, ?, ?)";

/// Closes one charge; the state in the condition makes a second close touch no row.
const CLOSE_CHARGE_SQL: &str = "UPDATE charges SET state = ?, settled_micros = ?, outcome = ?, \
    usage_source = ?, input_tokens = ?, cached_input_tokens = ?, output_tokens = ?, upstream_id = ?, status = ?, \
    first_byte_ms = ?, resolved_at_ms = ?, cache_write_tokens = ?, reasoning_tokens = ?, images = ?, audio_ms = ?, \
    characters = ? WHERE id = ? AND state = 'held'";

/// Moves an account's money.
const MOVE_ACCOUNT_SQL: &str =
    "UPDATE users SET balance_micros = balance_micros - ?, held_micros = held_micros + ? WHERE id = ?";

/// Moves a key's money; without a moment of use the old one stays.
const MOVE_KEY_SQL: &str = "UPDATE key_credits SET credits_used_micros = credits_used_micros + ?, \
    credits_held_micros = credits_held_micros + ?, last_used_at_ms = coalesce(?, last_used_at_ms) WHERE key_id = ?";

/// Opens charges, from an array of [`super::rows`]' `OpenRow`.
const OPEN_CHARGES_SQL: &str = "INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, \
    multiplier_micros, instance_id, state, held_micros, input_held_micros, created_at_ms) \
    SELECT id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, 'held', held_micros, \
    input_held_micros, created_at_ms FROM jsonb_to_recordset(?::jsonb) AS row (id bigint, user_id bigint, \
    key_id bigint, key_name text, model text, price_id bigint, multiplier_micros bigint, instance_id bigint, \
    held_micros bigint, input_held_micros bigint, created_at_ms bigint)";

/// Closes charges, from an array of `CloseRow`.
const CLOSE_CHARGES_SQL: &str = "UPDATE charges SET state = row.state, settled_micros = row.settled_micros, \
    outcome = row.outcome, usage_source = row.usage_source, input_tokens = row.input_tokens, \
    cached_input_tokens = row.cached_input_tokens, output_tokens = row.output_tokens, \
    upstream_id = row.upstream_id, status = row.status, first_byte_ms = row.first_byte_ms, \
    resolved_at_ms = row.resolved_at_ms, cache_write_tokens = row.cache_write_tokens, \
    reasoning_tokens = row.reasoning_tokens, images = row.images, audio_ms = row.audio_ms, \
    characters = row.characters FROM jsonb_to_recordset(?::jsonb) AS row (id bigint, state text, \
    settled_micros bigint, outcome text, usage_source text, input_tokens bigint, cached_input_tokens bigint, \
    output_tokens bigint, upstream_id bigint, status bigint, first_byte_ms bigint, resolved_at_ms bigint, \
    cache_write_tokens bigint, reasoning_tokens bigint, images bigint, audio_ms bigint, characters bigint) \
    WHERE charges.id = row.id AND charges.state = 'held'";

/// Moves accounts' money, from an array of `MoveRow`.
const MOVE_ACCOUNTS_SQL: &str = "UPDATE users SET balance_micros = balance_micros - row.settled_micros, \
    held_micros = users.held_micros + row.held_micros FROM jsonb_to_recordset(?::jsonb) AS row (id bigint, \
    settled_micros bigint, held_micros bigint) WHERE users.id = row.id";

/// Moves keys' money, from an array of `MoveRow`.
const MOVE_KEYS_SQL: &str = "UPDATE key_credits SET \
    credits_used_micros = credits_used_micros + row.settled_micros, \
    credits_held_micros = credits_held_micros + row.held_micros, \
    last_used_at_ms = coalesce(row.used_at_ms, last_used_at_ms) FROM jsonb_to_recordset(?::jsonb) AS row (id bigint, \
    settled_micros bigint, held_micros bigint, used_at_ms bigint) WHERE key_credits.key_id = row.id";

/// The texts, by the numbers above.
const TEXTS: [&str; 8] = [
    OPEN_CHARGE_SQL,
    CLOSE_CHARGE_SQL,
    MOVE_ACCOUNT_SQL,
    MOVE_KEY_SQL,
    OPEN_CHARGES_SQL,
    CLOSE_CHARGES_SQL,
    MOVE_ACCOUNTS_SQL,
    MOVE_KEYS_SQL,
];

/// The texts cut at each `?`, once: diesel walks a statement several times whenever it runs.
static PIECES: LazyLock<[Vec<&'static str>; 8]> =
    LazyLock::new(|| TEXTS.map(|text| text.split('?').collect()));

/// A value in a statement.
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
