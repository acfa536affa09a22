//! What SQLite gets of a batch, a statement a row, each with a text that never changes, so that it is prepared once. (diesel
//! prepares an UPDATE anew every time.)

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;
use std::sync::LazyLock;

/// Opens one charge.
pub(super) const OPEN_CHARGE: usize = 0;
/// Closes one charge.
pub(super) const CLOSE_CHARGE: usize = 1;
/// Moves an account's money.
pub(super) const MOVE_ACCOUNT: usize = 2;
/// Moves a key's money.
pub(super) const MOVE_KEY: usize = 3;
/// The same for a key that was unused.
pub(super) const MOVE_UNUSED_KEY: usize = 4;
/// Opens one charge.
const OPEN_CHARGE_SQL: &str = "INSERT INTO charges (created_at_ms, id, user_id, key_id, key_name, model, price_id, \
    multiplier_micros, instance_id, held_micros, input_held_micros, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'held')";

/// Closes one charge; a second close touches no row.
const CLOSE_CHARGE_SQL: &str = "UPDATE charges SET resolved_at_ms = ?, state = ?, settled_micros = ?, outcome = ?, \
    usage_source = ?, input_tokens = ?, cached_input_tokens = ?, output_tokens = ?, upstream_id = ?, status = ?, \
    first_byte_ms = ?, cache_write_tokens = ?, reasoning_tokens = ?, images = ?, audio_ms = ?, characters = ? \
    WHERE id = ? AND state = 'held'";

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

/// The texts, by the numbers above.
const TEXTS: [&str; 5] =
    [OPEN_CHARGE_SQL, CLOSE_CHARGE_SQL, MOVE_ACCOUNT_SQL, MOVE_KEY_SQL, MOVE_UNUSED_KEY_SQL];

/// The texts cut at each `?`, once: diesel walks a statement several times whenever it runs.
static PIECES: LazyLock<[Vec<&'static str>; 5]> =
    LazyLock::new(|| TEXTS.map(|text| text.split('?').collect()));

/// A value in a statement.
#[derive(Clone, Copy)]
pub(super) enum Bind<'a> {
    /// A number, or none.
    Number(Option<i64>),
    /// A text, or none.
    Text(Option<&'a str>),
}

impl<'a> Bind<'a> {
    /// As a number.
    pub fn number(self) -> Option<i64> {
        match self {
            Self::Number(value) => value,
            Self::Text(_) => None,
        }
    }

    /// As a text.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(value) => value,
            Self::Number(_) => None,
        }
    }
}

/// One of the texts above with a value for each `?`, in order.
pub(super) struct Statement<'a, const TEXT: usize> {
    /// The values.
    pub binds: &'a [Bind<'a>],
}

impl<const TEXT: usize> QueryFragment<Sqlite> for Statement<'_, TEXT> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
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
