//! Keyset pages: a list goes on behind a place, or ends before it, and says where its neighbours begin. Never OFFSET.

use crate::error::Error;

/// A place in an ordered list: the value of the order's column, and the id that breaks ties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Of a number column in digits, else the text; empty where the id alone is the order.
    pub value: String,
    /// Row.
    pub id: i64,
}

impl Cursor {
    /// Of a list that is ordered by id.
    pub fn of_id(id: i64) -> Self {
        Self { value: String::new(), id }
    }

    /// The value as a number.
    pub(super) fn number(&self) -> i64 {
        self.value.parse().unwrap_or(0)
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Where it begins.
    #[default]
    First,
    /// Begins behind this row.
    After(Cursor),
    /// Ends before this row.
    Before(Cursor),
}

impl Place {
    fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::First => None,
            Self::After(cursor) | Self::Before(cursor) => Some(cursor),
        }
    }

    /// Whether the rows are read against the list's order.
    pub(super) fn is_backwards(&self) -> bool {
        matches!(self, Self::Before(_))
    }
}

/// One page.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// In the asked order.
    pub rows: Vec<T>,
    /// Where the previous page ends, if there is one.
    pub previous: Option<Cursor>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

const FIRST_BATCH: i64 = 200;
const BATCH_MAX: i64 = 5_000;

/// Reads a page of `limit` rows. `batch` gives at most so many rows behind a cursor, in the direction of
/// [`Place::is_backwards`]; of them, only those that `keeps` admits count, so it may have to read on.
pub(super) fn read<T>(
    place: &Place,
    limit: usize,
    cursor: impl Fn(&T) -> Cursor,
    keeps: Option<&dyn Fn(&T) -> bool>,
    mut batch: impl FnMut(Option<&Cursor>, i64) -> Result<Vec<T>, Error>,
) -> Result<Page<T>, Error> {
    // One row more than the page tells whether there is a further page.
    let wanted = limit + 1;
    let exactly = i64::try_from(wanted).unwrap_or(BATCH_MAX);
    // Only what is sifted here, row by row, needs more rows than it shows.
    let mut batch_size = if keeps.is_some() { FIRST_BATCH.max(exactly) } else { exactly };
    let mut start = place.cursor().cloned();
    let mut rows: Vec<T> = Vec::new();
    while rows.len() < wanted {
        let read = batch(start.as_ref(), batch_size)?;
        let exhausted = i64::try_from(read.len()).unwrap_or(i64::MAX) < batch_size;
        start = read.last().map(&cursor);
        let kept = read.into_iter().filter(|row| keeps.is_none_or(|keeps| keeps(row)));
        rows.extend(kept.take(wanted - rows.len()));
        if exhausted {
            break;
        }
        batch_size = (batch_size * 5).min(BATCH_MAX);
    }
    Ok(assemble(rows, place, limit, cursor))
}

fn assemble<T>(mut rows: Vec<T>, place: &Place, limit: usize, cursor: impl Fn(&T) -> Cursor) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let backwards = place.is_backwards();
    if backwards {
        rows.reverse();
    }
    let (first, last) = (rows.first().map(&cursor), rows.last().map(&cursor));
    let (previous, next) = if backwards {
        (first.filter(|_| more), last)
    } else {
        (first.filter(|_| *place != Place::First), last.filter(|_| more))
    };
    Page { rows, previous, next }
}

/// For `LIKE … ESCAPE '\'`: the text anywhere.
pub(super) fn anywhere(text: &str) -> String {
    format!("%{}%", escape_like(text))
}

/// The text itself, where `LIKE` would see patterns.
pub(super) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
