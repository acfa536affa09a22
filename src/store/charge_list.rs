//! The list of charges, newest first: a page of it behind or before a place, of one user, filtered. Pages are found by
//! index; a filter that matches next to nothing looks at a bounded number of rows and says where it stopped.
//!
//! The rollups enter a charge into the lists, which have the order, some time after it was resolved. Those that are not
//! there yet, and those still under way, are few, and looked for among themselves.

use super::charges::Charge;
use super::{Connection, ask, usage_rollup};
use crate::domain::charge::ChargeStatus;
use crate::error::Error;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use std::collections::BTreeMap;

/// Rows looked at for a page, at most; those of a day without a match are not looked at.
const LOOKED_AT_MAX: i64 = 2_500;

/// A place in the list: the charge that begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Whether `place` comes before the end of this way, or is it.
    fn reaches(self, place: Place, end: Place) -> bool {
        if self.rises() { place <= end } else { place >= end }
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

    /// Of the part of a span on this way: its far end, which begins a span or lies behind it, and the place that comes just
    /// before all others.
    fn ends(self, (from_ms, until_ms): (i64, i64)) -> (i64, Place) {
        match self.rises() {
            true => (until_ms, self.place().max(Place { created_at_ms: from_ms - 1, id: i64::MAX })),
            // There is no charge 0.
            false => (from_ms, self.place().min(Place { created_at_ms: until_ms, id: 0 })),
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
    /// A page of at most `limit`. `pieces` are the spans of time, oldest first, with a match that has ended, if somebody
    /// knows them.
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
        // In this order: a charge that is entered meanwhile is found twice, not never.
        let unlisted = self.unlisted(connection, way, wanted)?;
        let (listed, stopped) = self.listed(connection, way, wanted, pieces)?;
        let is_reached = |charge: &Charge| stopped.is_none_or(|end| way.reaches(charge.into(), end));
        let found: BTreeMap<Place, Charge> = unlisted
            .into_iter()
            .filter(is_reached)
            .chain(listed)
            .map(|charge| (Place::from(&charge), charge))
            .collect();
        let rows = match way.rises() {
            true => found.into_values().take(wanted).collect(),
            false => found.into_values().rev().take(wanted).collect(),
        };
        Ok((rows, stopped))
    }

    /// Those that are not listed yet.
    fn unlisted(&self, connection: &mut Connection, way: Way, wanted: usize) -> Result<Vec<Charge>, Error> {
        let Some((from_ms, until_ms)) = way.cut((self.from_ms, self.until_ms)) else { return Ok(Vec::new()) };
        let rolled_ms = usage_rollup::progress(connection)?.rolled_ms;
        let (place, direction) = (way.place(), way.direction());
        let sign = if way.rises() { ">" } else { "<" };
        let query = format!(
            "SELECT * FROM (SELECT * FROM charges WHERE resolved_at_ms >= $1 \
             UNION ALL SELECT * FROM charges WHERE state = 'held') c WHERE c.user_id = $2 \
             AND ($3 = 0 OR c.key_id = $3) AND c.created_at_ms >= $4 AND c.created_at_ms < $5 \
             AND (c.created_at_ms, c.id) {sign} ($6, $7) AND ($8 = '' OR c.model = $8) \
             AND ($9 = '' OR coalesce(c.outcome, 'open') = $9) \
             ORDER BY c.created_at_ms {direction}, c.id {direction} LIMIT $10"
        );
        Ok(ask!(connection, load, query,
            BigInt => rolled_ms,
            BigInt => self.user_id,
            BigInt => self.key_id.unwrap_or(0),
            BigInt => from_ms,
            BigInt => until_ms,
            BigInt => place.created_at_ms,
            BigInt => place.id,
            Text => self.model.as_deref().unwrap_or_default(),
            Text => self.status.map_or("", ChargeStatus::word),
            BigInt => i64::try_from(wanted).unwrap_or(i64::MAX))?)
    }

    /// Those that are, and where it gave up looking for more.
    fn listed(
        &self,
        connection: &mut Connection,
        way: Way,
        wanted: usize,
        pieces: &[(i64, i64)],
    ) -> Result<(Vec<Charge>, Option<Place>), Error> {
        if self.status == Some(ChargeStatus::Open) {
            return Ok((Vec::new(), None));
        }
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
                return Ok((
                    rows,
                    Some(Place { created_at_ms: looked_at.created_at_ms, id: looked_at.charge_id }),
                ));
            }
        }
        Ok((rows, None))
    }

    /// Whether an index alone does not find the rows.
    fn sifts(&self) -> bool {
        self.model.is_some() || self.status.is_some()
    }

    /// SQL for the next rows of a piece as the index gives them; `$1` to `$5` say where to look for them. The near end is said
    /// by one comparison alone: of two, PostgreSQL may begin at the wider one and read all that lies between.
    fn candidates(&self, way: Way) -> String {
        let (list, whose) = match self.key_id {
            Some(_) => ("charges_of_keys", "l.user_id = $1 AND l.key_id = $2"),
            None => ("charges_of_users", "l.user_id = $1 AND $2 = 0"),
        };
        let (far, near) = if way.rises() { ("<", ">") } else { (">=", "<") };
        let direction = way.direction();
        format!(
            "SELECT l.created_at_ms, l.charge_id FROM {list} l WHERE {whose} AND l.created_at_ms {far} $3 \
             AND (l.created_at_ms, l.charge_id) {near} ($4, $5) \
             ORDER BY l.created_at_ms {direction}, l.charge_id {direction}"
        )
    }

    fn matches(
        &self,
        connection: &mut Connection,
        way: Way,
        piece: (i64, i64),
        left: i64,
        wanted: usize,
    ) -> Result<Vec<Charge>, Error> {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let ((far_ms, near), direction) = (way.ends(piece), way.direction());
        let query = format!(
            "SELECT c.* FROM ({} LIMIT $6) l JOIN charges c ON c.id = l.charge_id \
             WHERE ($7 = '' OR c.model = $7) AND ($8 = '' OR c.outcome = $8) \
             ORDER BY l.created_at_ms {direction}, l.charge_id {direction} LIMIT $9",
            self.candidates(way)
        );
        Ok(ask!(connection, load, query,
            BigInt => self.user_id,
            BigInt => self.key_id.unwrap_or(0),
            BigInt => far_ms,
            BigInt => near.created_at_ms,
            BigInt => near.id,
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
        piece: (i64, i64),
        left: i64,
    ) -> Result<Option<LookedAt>, Error> {
        let ((far_ms, near), back) = (way.ends(piece), if way.rises() { "DESC" } else { "ASC" });
        let query = format!(
            "SELECT l.created_at_ms AS created_at_ms, l.charge_id AS charge_id, count(*) OVER () AS looked_at \
             FROM ({} LIMIT $6) l ORDER BY l.created_at_ms {back}, l.charge_id {back} LIMIT 1",
            self.candidates(way)
        );
        Ok(ask!(connection, get_result, query,
            BigInt => self.user_id,
            BigInt => self.key_id.unwrap_or(0),
            BigInt => far_ms,
            BigInt => near.created_at_ms,
            BigInt => near.id,
            BigInt => left)
        .optional()?)
    }
}

#[derive(QueryableByName)]
struct LookedAt {
    #[diesel(sql_type = BigInt)]
    created_at_ms: i64,
    #[diesel(sql_type = BigInt)]
    charge_id: i64,
    #[diesel(sql_type = BigInt)]
    looked_at: i64,
}
