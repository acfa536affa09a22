//! The thin part around `decide`: gets the rows of a batch, decides, and writes what was decided, in one transaction.
//! What is read is in `reading`; what is written in `writing` for SQLite and in `confirming` for PostgreSQL.

use super::Refusal;
use super::confirming::{Behind, confirm, prepare};
use super::decide::{
    Changes, HoldRequest, Left, Resolution, Resolved, Rows, decide_holds, decide_resolutions,
};
use super::known::Known;
use super::reading::{read_all, read_unknown};
use super::writing::write;
use crate::error::Error;
use crate::store::Connection;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;

/// A batch is looked at anew so often at most, while others change what it depends on; each time one of theirs is done.
const TRIES: usize = 8;

/// The answers to a batch, in its order.
pub(super) struct Answers {
    pub holds: Vec<Result<Left, Refusal>>,
    pub resolutions: Vec<Resolved>,
}

impl Answers {
    /// Whether each command does what it asks for.
    fn grant_all(&self) -> bool {
        self.holds.iter().all(Result::is_ok)
            && self.resolutions.iter().all(|resolved| matches!(resolved, Resolved::Now { .. }))
    }
}

/// Decides a batch and writes it, in one transaction: durable when this returns.
pub(super) fn commit(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Answers, Error> {
    let committed = match connection {
        Connection::Sqlite(_) => commit_alone(connection, instance_id, known, holds, resolutions),
        Connection::Postgres(connection) => {
            commit_among_others(connection, instance_id, known, holds, resolutions)
        }
    };
    match &committed {
        Ok(_) => known.committed(resolutions),
        Err(_) => known.forget(),
    }
    committed
}

/// SQLite: nobody else writes meanwhile, so that what is known or read is what is there.
fn commit_alone(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Answers, Error> {
    connection.write(|connection| {
        known.begin(connection.data_version()?);
        let Connection::Sqlite(connection) = connection else {
            return Err(Error::Internal("not SQLite".into()));
        };
        read_unknown(connection, &mut known.rows, holds, resolutions)?;
        let (answers, changes) = decide(&mut known.rows, holds, resolutions);
        write(connection, instance_id, &known.rows, holds, resolutions, &changes)?;
        changes.opened.iter().for_each(|&index| known.opened(&holds[index]));
        Ok(answers)
    })
}

/// PostgreSQL: others write too, so that what is known or was read is believed, and the statement that writes confirms it. A
/// belief grants, and what it grants is confirmed; it refuses nobody: whom it would, for him the rows are read.
fn commit_among_others(
    connection: &mut PgConnection,
    instance_id: i64,
    known: &mut Known,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Result<Answers, Error> {
    known.bound();
    let mut is_read = false;
    for _ in 0..TRIES {
        if is_read || !known.has_all(holds, resolutions) {
            read_all(connection, &mut known.rows, holds, resolutions)?;
            is_read = true;
        }
        let (answers, changes) = decide(&mut known.rows, holds, resolutions);
        if is_read || answers.grant_all() {
            let confirmed = confirm(connection, instance_id, &known.rows, holds, resolutions, &changes)?;
            if let Some(behind) = confirmed {
                changes.opened.iter().for_each(|&index| known.opened(&holds[index]));
                return Ok(told_behind(&behind, answers, &changes, known, holds, resolutions));
            }
        }
        is_read = true;
    }
    Err(Error::Unavailable("others changed what a batch depends on each time that it was read".into()))
}

/// The answers, which also tell what is left: where others have moved the same credits since they were believed or read,
/// decided once more on what there was just before.
fn told_behind(
    behind: &Behind,
    answers: Answers,
    changes: &Changes,
    known: &mut Known,
    holds: &[HoldRequest],
    resolutions: &[Resolution],
) -> Answers {
    let rows = &mut known.rows;
    known.is_shared = !behind.is_as_decided(rows);
    if !known.is_shared {
        return answers;
    }
    let again = answers.grant_all().then(|| {
        behind.take_back(changes, resolutions, rows);
        decide(rows, holds, resolutions).0
    });
    behind.put_into(rows);
    again.filter(Answers::grant_all).unwrap_or(answers)
}

/// Resolutions come first: what they free, the holds behind them may take.
fn decide(rows: &mut Rows, holds: &[HoldRequest], resolutions: &[Resolution]) -> (Answers, Changes) {
    let mut changes = Changes::default();
    let resolutions = decide_resolutions(rows, resolutions, &mut changes);
    let holds = decide_holds(rows, holds, &mut changes);
    (Answers { holds, resolutions }, changes)
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
    prepare(connection)?;
    let second = i32::try_from(instance_id & 0x7fff_ffff).unwrap_or_default();
    diesel::sql_query("SELECT pg_advisory_lock($1, $2)")
        .bind::<Integer, _>(WRITER_LOCK)
        .bind::<Integer, _>(second)
        .execute(connection)?;
    Ok(Some(diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(connection)?))
}
