//! The thin part around `decide`: one transaction that reads the rows of a batch and writes what was decided.
//! What is read and locked is in `reading`, what is written in `writing`.

use super::Refusal;
use super::decide::{Changes, HoldRequest, Left, Resolution, Resolved, decide_holds, decide_resolutions};
use super::known::Known;
use super::reading::read;
use super::writing::write;
use crate::error::Error;
use crate::store::Connection;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;

/// The answers to a batch, in its order.
pub(super) struct Answers {
    pub holds: Vec<Result<Left, Refusal>>,
    pub resolutions: Vec<Resolved>,
}

/// Decides a batch and writes it, in one transaction: durable when this returns.
/// Resolutions come first: what they free, the holds behind them may take.
pub(super) fn commit(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Answers, Error> {
    let committed = connection.write(|connection| {
        known.begin(connection.data_version()?);
        read(connection, &mut known.rows, holds, resolutions)?;
        let mut changes = Changes::default();
        let resolved = decide_resolutions(&mut known.rows, resolutions, &mut changes);
        let held = decide_holds(&mut known.rows, holds, &mut changes);
        write(connection, instance_id, &known.rows, holds, resolutions, &changes)?;
        changes.opened.iter().for_each(|&index| known.opened(&holds[index]));
        Ok(Answers { holds: held, resolutions: resolved })
    });
    match &committed {
        Ok(_) => known.committed(resolutions),
        Err(_) => known.forget(),
    }
    committed
}

/// First of the two numbers of the writers' advisory locks; the second is the instance.
const WRITER_LOCK: i32 = 0x6b65_7968; // "keyh"

/// Makes sure that the writer's previous connection is over. SQLite's ended with its file handle; a PostgreSQL
/// server may not have noticed that a connection broke and still be committing, so that session is ended and its
/// lock waited for. Gives the new session's process id.
pub(super) fn fence(
    connection: &mut Connection,
    instance_id: i64,
    previous: Option<i32>,
) -> Result<Option<i32>, Error> {
    let Connection::Postgres(connection) = connection else { return Ok(None) };
    if let Some(backend) = previous {
        // False when it is gone already, which is as good.
        diesel::sql_query("SELECT pg_terminate_backend($1)")
            .bind::<Integer, _>(backend)
            .execute(connection)?;
    }
    // Every statement of the writer looks its rows up by arrays of primary keys, and its plans are made once. What the planner
    // believes of tables that have grown since must not turn that into a scan, nor a join of two arrays into a walk of one
    // for each of the other.
    connection.batch_execute(
        "SET enable_seqscan = off; SET enable_nestloop = off; SET enable_mergejoin = off; \
         SET plan_cache_mode = force_generic_plan",
    )?;
    let second = i32::try_from(instance_id & 0x7fff_ffff).unwrap_or_default();
    diesel::sql_query("SELECT pg_advisory_lock($1, $2)")
        .bind::<Integer, _>(WRITER_LOCK)
        .bind::<Integer, _>(second)
        .execute(connection)?;
    Ok(Some(diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(connection)?))
}
