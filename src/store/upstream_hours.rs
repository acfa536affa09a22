//! How calls to upstreams ended, by the hour. Instances add what they counted; several add up.

use super::Connection;
use super::schema::upstream_hourly;
use crate::domain::health::Tally;
use crate::error::Error;
use diesel::prelude::*;

/// What happened with one upstream in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamHour {
    /// When it began.
    pub hour_ms: i64,
    /// Whose.
    pub upstream_id: i64,
    /// What was counted.
    pub tally: Tally,
}

type Row = (i64, i64, (i64, i64, i64, i64, i64, i64, i64, i64), i64);

/// Adds to an hour.
///
/// # Errors
/// The engine's.
pub fn add(connection: &mut Connection, hour: &UpstreamHour) -> Result<(), Error> {
    if update(connection, hour)? > 0 {
        return Ok(());
    }
    match insert(connection, hour) {
        // Another instance made the row in between.
        Err(diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::UniqueViolation, _)) => {
            update(connection, hour)?;
            Ok(())
        }
        inserted => Ok(inserted.map(|_| ())?),
    }
}

fn update(connection: &mut Connection, hour: &UpstreamHour) -> QueryResult<usize> {
    let Tally {
        answered,
        busy,
        unreachable,
        timed_out,
        broke_off,
        bad_status,
        bad_secret,
        unusable,
        latency_ms,
    } = hour.tally;
    diesel::update(upstream_hourly::table.find((hour.hour_ms, hour.upstream_id)))
        .set((
            upstream_hourly::answered.eq(upstream_hourly::answered + answered),
            upstream_hourly::busy.eq(upstream_hourly::busy + busy),
            upstream_hourly::unreachable.eq(upstream_hourly::unreachable + unreachable),
            upstream_hourly::timed_out.eq(upstream_hourly::timed_out + timed_out),
            upstream_hourly::broke_off.eq(upstream_hourly::broke_off + broke_off),
            upstream_hourly::bad_status.eq(upstream_hourly::bad_status + bad_status),
            upstream_hourly::bad_secret.eq(upstream_hourly::bad_secret + bad_secret),
            upstream_hourly::unusable.eq(upstream_hourly::unusable + unusable),
            upstream_hourly::latency_ms.eq(upstream_hourly::latency_ms + latency_ms),
        ))
        .execute(connection)
}

fn insert(connection: &mut Connection, hour: &UpstreamHour) -> QueryResult<usize> {
    let tally = hour.tally;
    diesel::insert_into(upstream_hourly::table)
        .values((
            upstream_hourly::hour_ms.eq(hour.hour_ms),
            upstream_hourly::upstream_id.eq(hour.upstream_id),
            upstream_hourly::answered.eq(tally.answered),
            upstream_hourly::busy.eq(tally.busy),
            upstream_hourly::unreachable.eq(tally.unreachable),
            upstream_hourly::timed_out.eq(tally.timed_out),
            upstream_hourly::broke_off.eq(tally.broke_off),
            upstream_hourly::bad_status.eq(tally.bad_status),
            upstream_hourly::bad_secret.eq(tally.bad_secret),
            upstream_hourly::unusable.eq(tally.unusable),
            upstream_hourly::latency_ms.eq(tally.latency_ms),
        ))
        .execute(connection)
}

/// Every hour since `since_ms`, of all upstreams, oldest first.
///
/// # Errors
/// The engine's.
pub fn since(connection: &mut Connection, since_ms: i64) -> Result<Vec<UpstreamHour>, Error> {
    let rows: Vec<Row> = upstream_hourly::table
        .filter(upstream_hourly::hour_ms.ge(since_ms))
        .order((upstream_hourly::hour_ms, upstream_hourly::upstream_id))
        .select((
            upstream_hourly::hour_ms,
            upstream_hourly::upstream_id,
            (
                upstream_hourly::answered,
                upstream_hourly::busy,
                upstream_hourly::unreachable,
                upstream_hourly::timed_out,
                upstream_hourly::broke_off,
                upstream_hourly::bad_status,
                upstream_hourly::bad_secret,
                upstream_hourly::unusable,
            ),
            upstream_hourly::latency_ms,
        ))
        .load(connection)?;
    Ok(rows.into_iter().map(hour).collect())
}

fn hour((hour_ms, upstream_id, ends, latency_ms): Row) -> UpstreamHour {
    let (answered, busy, unreachable, timed_out, broke_off, bad_status, bad_secret, unusable) = ends;
    let tally = Tally {
        answered,
        busy,
        unreachable,
        timed_out,
        broke_off,
        bad_status,
        bad_secret,
        unusable,
        latency_ms,
    };
    UpstreamHour { hour_ms, upstream_id, tally }
}

/// Forgets the hours before `before_ms`.
///
/// # Errors
/// The engine's.
pub fn sweep(connection: &mut Connection, before_ms: i64) -> Result<usize, Error> {
    Ok(diesel::delete(upstream_hourly::table.filter(upstream_hourly::hour_ms.lt(before_ms)))
        .execute(connection)?)
}
