//! The thin part around `decide`: gets the rows of a batch, decides, and writes what was decided, all or nothing.
//! What is read is in `reading`; what is written in `writing` for SQLite and in `confirming` for PostgreSQL.

use super::Refusal;
use super::confirming::{Behind, confirm, prepare};
use super::decide::{
    Changes, HoldRequest, Left, Resolution, Resolved, Rows, decide_holds, decide_resolutions,
};
use super::known::Known;
use super::locked::LOCK_TIMEOUT;
use super::reading::{lock_accounts, read_all, read_unknown};
use super::writing::write;
use crate::error::Error;
use crate::store::{Connection, data_version};
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;

/// With the accounts locked a batch is read so often at most. Settings alone can change meanwhile.
const LOCKED_TRIES: usize = 4;

/// A batch.
#[derive(Clone, Copy)]
pub(super) struct Commands<'a> {
    pub holds: &'a [HoldRequest],
    pub resolutions: &'a [Resolution],
}

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

/// Decides a batch and writes it: durable, all of it, when this returns.
pub(super) fn commit(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    batch: Commands<'_>,
) -> Result<Answers, Error> {
    let committed = match connection {
        Connection::Sqlite(_) => commit_alone(connection, instance_id, known, batch),
        Connection::Postgres(_) => commit_among_others(connection, instance_id, known, batch),
    };
    match &committed {
        Ok(_) => known.committed(batch.resolutions),
        Err(_) => known.forget(),
    }
    committed
}

/// SQLite: nobody else writes meanwhile, so that what is known or read is what is there.
fn commit_alone(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    batch: Commands<'_>,
) -> Result<Answers, Error> {
    connection.write(|connection| {
        let connection = sqlite(connection)?;
        known.begin(data_version(connection)?);
        read_unknown(connection, &mut known.rows, batch)?;
        let (answers, changes) = decide(&mut known.rows, batch);
        write(connection, instance_id, &known.rows, batch, &changes)?;
        changes.opened.iter().for_each(|&index| known.opened(&batch.holds[index]));
        Ok(answers)
    })
}

/// PostgreSQL: others write too, so that what is known or was read is believed, and the statement that writes confirms it.
///
/// What is known grants, and is confirmed by that; it refuses nobody: whom it would, for him the rows are read. What was read
/// may be out of date again when it is to be confirmed, for a batch that takes all there is each time that somebody else
/// takes a little; so the next time the accounts are locked first.
fn commit_among_others(
    connection: &mut Connection,
    instance_id: i64,
    known: &mut Known,
    batch: Commands<'_>,
) -> Result<Answers, Error> {
    known.bound();
    if known.has_all(batch)
        && let Some(answers) = try_to_commit(postgres(connection)?, instance_id, known, batch, false)?
    {
        return Ok(answers);
    }
    if let Some(answers) = try_to_commit(postgres(connection)?, instance_id, known, batch, true)? {
        return Ok(answers);
    }
    for _ in 0..LOCKED_TRIES {
        let answers = connection.write(|connection| {
            let connection = postgres(connection)?;
            lock_accounts(connection, batch)?;
            try_to_commit(connection, instance_id, known, batch, true)
        })?;
        if let Some(answers) = answers {
            return Ok(answers);
        }
    }
    Err(Error::Unavailable("settings changed each time that a batch was read".into()))
}

/// By what is known, or by what is read first. `None`: that did not hold, and nothing is written.
fn try_to_commit(
    connection: &mut PgConnection,
    instance_id: i64,
    known: &mut Known,
    batch: Commands<'_>,
    is_read: bool,
) -> Result<Option<Answers>, Error> {
    if is_read {
        read_all(connection, &mut known.rows, batch)?;
    }
    let (answers, changes) = decide(&mut known.rows, batch);
    if !is_read && !answers.grant_all() {
        return Ok(None);
    }
    let Some(behind) = confirm(connection, instance_id, &known.rows, batch, &changes)? else {
        known.is_shared = true;
        return Ok(None);
    };
    changes.opened.iter().for_each(|&index| known.opened(&batch.holds[index]));
    let is_as_decided = behind.is_as_decided(&known.rows);
    if is_as_decided {
        // Who has read knows nothing of the time before.
        known.is_shared &= is_read;
        return Ok(Some(answers));
    }
    known.is_shared = true;
    Ok(Some(told_behind(&behind, answers, &changes, &mut known.rows, batch)))
}

/// The answers, which also tell what is left, where others have moved the same credits since they were known or read: decided
/// once more on what there was just before.
fn told_behind(
    behind: &Behind,
    answers: Answers,
    changes: &Changes,
    rows: &mut Rows,
    batch: Commands<'_>,
) -> Answers {
    let again = answers.grant_all().then(|| {
        behind.take_back(changes, batch.resolutions, rows);
        decide(rows, batch).0
    });
    behind.put_into(rows);
    again.filter(Answers::grant_all).unwrap_or(answers)
}

/// Resolutions come first: what they free, the holds behind them may take.
fn decide(rows: &mut Rows, batch: Commands<'_>) -> (Answers, Changes) {
    let mut changes = Changes::default();
    let resolutions = decide_resolutions(rows, batch.resolutions, &mut changes);
    let holds = decide_holds(rows, batch.holds, &mut changes);
    (Answers { holds, resolutions }, changes)
}

fn sqlite(connection: &mut Connection) -> Result<&mut SqliteConnection, Error> {
    match connection {
        Connection::Sqlite(connection) => Ok(connection),
        Connection::Postgres(_) => Err(Error::Internal("not SQLite".into())),
    }
}

fn postgres(connection: &mut Connection) -> Result<&mut PgConnection, Error> {
    match connection {
        Connection::Postgres(connection) => Ok(connection),
        Connection::Sqlite(_) => Err(Error::Internal("not PostgreSQL".into())),
    }
}

/// First of the two numbers of the writers' advisory locks; the second is the instance.
const WRITER_LOCK: i32 = 0x6b65_7968; // "keyh"

/// Makes sure that the writer's previous connection is over. SQLite's ended with its file handle; a PostgreSQL
/// server may not have noticed that a connection broke and still be committing, so that session is ended and its
/// lock waited for. Gives the new session's process id. And sets the new one up for what the writer does.
pub(super) fn fence(
    connection: &mut Connection,
    instance_id: i64,
    previous: Option<i32>,
) -> Result<Option<i32>, Error> {
    let connection = match connection {
        Connection::Postgres(connection) => connection,
        Connection::Sqlite(connection) => {
            // A charge is opened without looking up its account and its price again: the account's row is written in the same
            // transaction, the price is of a model that was confirmed there, and `doctor` proves both.
            connection.batch_execute("PRAGMA foreign_keys = OFF")?;
            return Ok(None);
        }
    };
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
    // Behind that lock, which is worth a longer wait.
    connection.batch_execute(&format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis()))?;
    Ok(Some(diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(connection)?))
}
