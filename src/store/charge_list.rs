//! The list of charges, newest first: a page of it behind or before a place, of one user, filtered. Pages are found by
//! index; a filter that matches next to nothing looks at a bounded number of rows and says where it stopped.

use super::charges::Charge;
use super::{Connection, ask};
use crate::domain::charge::ChargeStatus;
use crate::error::Error;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

/// Rows looked at for a page, at most; those of a day without a match are not looked at.
const LOOKED_AT_MAX: i64 = 10_000;

/// A place in the list: the charge that begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When it was held.
    pub created_at_ms: i64,
    /// Its id.
    pub id: i64,
}

impl From<&Charge> for Place {
    fn from(charge: &Charge) -> Self {
        Self { created_at_ms: charge.created_at_ms, id: charge.id }
    }
}

/// Which charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeQuery {
    /// Whose.
    pub user_id: i64,
    /// Of one key.
    pub key_id: Option<i64>,
    /// Of one model.
    pub model: Option<String>,
    /// That stand so.
    pub status: Option<ChargeStatus>,
    /// Where time begins.
    pub from_ms: i64,
    /// Behind its end.
    pub until_ms: i64,
}

/// A page.
#[derive(Debug, Clone, Default)]
pub struct ChargePage {
    /// Newest first.
    pub rows: Vec<Charge>,
    /// Newer ones end before this one, if there are any.
    pub previous: Option<Place>,
    /// Older ones begin behind it, if there may be any.
    pub next: Option<Place>,
}

/// Which way from a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the newest.
    Start,
    /// Older than it.
    After(Place),
    /// Newer than it.
    Before(Place),
}

impl Way {
    const fn rises(self) -> bool {
        matches!(self, Self::Before(_))
    }

    const fn direction(self) -> &'static str {
        if self.rises() { "ASC" } else { "DESC" }
    }

    const fn place(self) -> Place {
        match self {
            Self::Start => Place { created_at_ms: i64::MAX, id: i64::MAX },
            Self::After(place) | Self::Before(place) => place,
        }
    }

    /// The part of a span that lies on this way, if any.
    fn cut(self, (from_ms, until_ms): (i64, i64)) -> Option<(i64, i64)> {
        let at_ms = self.place().created_at_ms;
        let (from_ms, until_ms) = match self.rises() {
            true => (from_ms.max(at_ms), until_ms),
            false => (from_ms, until_ms.min(at_ms.saturating_add(1))),
        };
        (from_ms < until_ms).then_some((from_ms, until_ms))
    }
}

impl ChargeQuery {
    /// A page of at most `limit`. `pieces` are the spans of time with a match, oldest first, if somebody knows them.
    ///
    /// # Errors
    /// The engine's.
    pub fn page(
        &self,
        connection: &mut Connection,
        way: Way,
        limit: usize,
        pieces: Option<&[(i64, i64)]>,
    ) -> Result<ChargePage, Error> {
        let whole = [(self.from_ms, self.until_ms)];
        let pieces = pieces.unwrap_or(&whole);
        let (mut rows, stopped) = self.walk(connection, way, limit + 1, pieces)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let end = rows.last().map(Place::from).filter(|_| more).or(stopped);
        if way.rises() {
            rows.reverse();
        }
        let (first, last) = (rows.first().map(Place::from), rows.last().map(Place::from));
        Ok(match way {
            Way::Start => ChargePage { rows, previous: None, next: end },
            Way::After(place) => ChargePage { rows, previous: first.or(Some(place)), next: end },
            Way::Before(place) => {
                ChargePage { rows, previous: end.and(first.or(end)), next: last.or(Some(place)) }
            }
        })
    }

    /// Up to `wanted` matches in the order of the way, and where it gave up looking for more.
    fn walk(
        &self,
        connection: &mut Connection,
        way: Way,
        wanted: usize,
        pieces: &[(i64, i64)],
    ) -> Result<(Vec<Charge>, Option<Place>), Error> {
        let mut pieces: Vec<_> = pieces.iter().filter_map(|piece| way.cut(*piece)).collect();
        if !way.rises() {
            pieces.reverse();
        }
        let (mut rows, mut left) = (Vec::new(), LOOKED_AT_MAX);
        for piece in pieces {
            let missing = wanted - rows.len();
            let found = self.matches(connection, way, piece, left, missing)?;
            let enough = found.len() == missing;
            rows.extend(found);
            if enough {
                break;
            }
            if !self.sifts() {
                continue;
            }
            let Some(looked_at) = self.looked_at(connection, way, piece, left)? else { continue };
            left -= looked_at.looked_at;
            if left <= 0 {
                return Ok((rows, Some(Place { created_at_ms: looked_at.created_at_ms, id: looked_at.id })));
            }
        }
        Ok((rows, None))
    }

    /// Whether an index alone does not find the rows.
    fn sifts(&self) -> bool {
        self.model.is_some() || self.status.is_some()
    }

    /// SQL for the next rows of a piece as the index gives them, which `$1` to `$6` say where to look for.
    fn candidates(&self, way: Way, columns: &str) -> String {
        // The plus keeps an engine from taking the wider index.
        let owner = match self.key_id {
            Some(_) => "+c.user_id = $1 AND c.key_id = $2",
            None => "c.user_id = $1 AND $2 = 0",
        };
        let (sign, direction) = (if way.rises() { ">" } else { "<" }, way.direction());
        format!(
            "SELECT {columns} FROM charges c WHERE {owner} AND c.created_at_ms >= $3 AND c.created_at_ms < $4 \
             AND (c.created_at_ms, c.id) {sign} ($5, $6) ORDER BY c.created_at_ms {direction}, c.id {direction}"
        )
    }

    fn matches(
        &self,
        connection: &mut Connection,
        way: Way,
        (from_ms, until_ms): (i64, i64),
        left: i64,
        wanted: usize,
    ) -> Result<Vec<Charge>, Error> {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let (place, direction) = (way.place(), way.direction());
        let query = format!(
            "SELECT * FROM ({} LIMIT $7) c WHERE ($8 = '' OR c.model = $8) \
             AND ($9 = '' OR coalesce(c.outcome, 'open') = $9) \
             ORDER BY c.created_at_ms {direction}, c.id {direction} LIMIT $10",
            self.candidates(way, "*")
        );
        Ok(ask!(connection, load, query,
            BigInt => self.user_id,
            BigInt => self.key_id.unwrap_or(0),
            BigInt => from_ms,
            BigInt => until_ms,
            BigInt => place.created_at_ms,
            BigInt => place.id,
            BigInt => if self.sifts() { left } else { wanted },
            Text => self.model.as_deref().unwrap_or_default(),
            Text => self.status.map_or("", ChargeStatus::word),
            BigInt => wanted)?)
    }

    /// How many rows [`ChargeQuery::matches`] had to choose from, and the last of them.
    fn looked_at(
        &self,
        connection: &mut Connection,
        way: Way,
        (from_ms, until_ms): (i64, i64),
        left: i64,
    ) -> Result<Option<LookedAt>, Error> {
        let (place, back) = (way.place(), if way.rises() { "DESC" } else { "ASC" });
        let query = format!(
            "SELECT c.created_at_ms AS created_at_ms, c.id AS id, count(*) OVER () AS looked_at FROM ({} LIMIT $7) c \
             ORDER BY c.created_at_ms {back}, c.id {back} LIMIT 1",
            self.candidates(way, "c.created_at_ms, c.id")
        );
        Ok(ask!(connection, get_result, query,
            BigInt => self.user_id,
            BigInt => self.key_id.unwrap_or(0),
            BigInt => from_ms,
            BigInt => until_ms,
            BigInt => place.created_at_ms,
            BigInt => place.id,
            BigInt => left)
        .optional()?)
    }
}

#[derive(QueryableByName)]
struct LookedAt {
    #[diesel(sql_type = BigInt)]
    created_at_ms: i64,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    looked_at: i64,
}

/// The hours or days, by their beginnings, in which calls began that are still under way.
///
/// # Errors
/// The engine's.
pub fn open_starts(
    connection: &mut Connection,
    query: &ChargeQuery,
    grain_ms: i64,
) -> Result<Vec<i64>, Error> {
    #[derive(QueryableByName)]
    struct Start {
        #[diesel(sql_type = BigInt)]
        start_ms: i64,
    }
    let text = format!(
        "SELECT DISTINCT created_at_ms - created_at_ms % {grain_ms} AS start_ms FROM charges WHERE state = 'held' \
         AND +user_id = $1 AND ($2 = 0 OR key_id = $2) AND created_at_ms >= $3 AND created_at_ms < $4 \
         AND ($5 = '' OR model = $5)"
    );
    let starts: Vec<Start> = ask!(connection, load, text,
        BigInt => query.user_id,
        BigInt => query.key_id.unwrap_or(0),
        BigInt => query.from_ms,
        BigInt => query.until_ms,
        Text => query.model.as_deref().unwrap_or_default())?;
    Ok(starts.into_iter().map(|start| start.start_ms).collect())
}
