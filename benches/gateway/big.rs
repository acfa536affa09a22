//! The large store: a million keys and ten million settled charges of the last ninety days, and beside them somebody
//! with ten thousand keys. Made once a run; `KEYHOUSE_BENCH_KEEP=1` leaves it for the next.

use super::report;
use super::seed::{Dataset, PASSWORD, USER};
use anyhow::Context;
use diesel::connection::SimpleConnection;
use keyhouse::clock::now_ms;
use keyhouse::store::audit::Actor;
use keyhouse::store::usage_rollup::{self, Rolled};
use keyhouse::store::{DatabaseUrl, Store, upstreams, users};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

pub const KEYS: usize = 1_000_000;
pub const CHARGES: usize = 10_000_000;
/// Of [`OTHER_USER`].
pub const OTHER_KEYS: usize = 10_000;
/// Has the password of the first.
pub const OTHER_USER: &str = "grace";

/// Of all keys, those with charges: a thousand each.
const CALLING_KEYS: usize = 10_000;
const PARTS: usize = 10;
const CHARGES_A_STEP: i64 = 200_000;

const KEEP: &str = "KEYHOUSE_BENCH_KEEP";
const DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;
/// Charge ids begin with the milliseconds from here.
const EPOCH_MS: i64 = 1_767_225_600_000;
const ID_BITS: u32 = 22;

fn folder() -> PathBuf {
    report::folder().join("big")
}

/// Opens it, or makes it first.
pub fn open(upstream: SocketAddr) -> anyhow::Result<Dataset> {
    let url = DatabaseUrl::Sqlite(folder().join("keyhouse.db"));
    let whole = folder().join("whole");
    if whole.exists() {
        let store = Store::open(&url)?;
        let base_url = format!("http://{upstream}/v1");
        store.with(|c| {
            let id = upstreams::find_by_name(c, "bench")?.id;
            let settings =
                upstreams::Settings { name: "bench", base_url: &base_url, pace_ms: 0, allow_private: true };
            // The same one, at another port.
            let sealed = upstreams::secret_ciphertext(c, id)?;
            let secret =
                sealed.as_deref().map_or(upstreams::SecretEdit::Keep, upstreams::SecretEdit::Replace);
            upstreams::edit(c, id, &settings, secret, &Actor::cli(), now_ms())
        })?;
        return Ok(Dataset {
            folder: folder(),
            url,
            secrets: folder().join("secrets"),
            database_process: None,
            certificate: None,
        });
    }
    let began = Instant::now();
    eprintln!("  making a million keys and ten million charges …");
    let data = Dataset::sqlite(&folder(), upstream, KEYS)?;
    add_other_user(&data)?;
    let mut connection = data.url.connect()?;
    connection.batch_execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000")?;
    let since_ms = now_ms() - DAYS * DAY_MS;
    for part in 0..PARTS {
        connection.batch_execute(&charges(part, since_ms))?;
        eprintln!("  {} of {PARTS} …", part + 1);
    }
    // Already summed up, as they would be by now: no server under test is to be at it.
    if let Some(closing) = usage_rollup::close(&mut connection)? {
        while usage_rollup::roll(&mut connection, closing, CHARGES_A_STEP)?.0 == Rolled::Some {
            usage_rollup::merge(&mut connection, i64::MAX)?;
        }
    }
    usage_rollup::merge(&mut connection, i64::MAX)?;
    while usage_rollup::prune(&mut connection)? {}
    drop(connection);
    data.settle()?;
    std::fs::write(whole, "")?;
    eprintln!("  made in {:.0} s", began.elapsed().as_secs_f64());
    Ok(data)
}

/// Unless it is to stay.
pub fn remove() {
    if std::env::var_os(KEEP).is_none() {
        drop(std::fs::remove_dir_all(folder()));
    }
}

fn add_other_user(data: &Dataset) -> anyhow::Result<()> {
    let store = Store::open(&data.url)?;
    let id = super::seed::user(&store, OTHER_USER, PASSWORD)?;
    let first = store.with(|c| Ok(users::find_by_name(c, USER)?.id))?;
    store.with(|c| {
        Ok(c.batch_execute(&format!(
            "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {OTHER_KEYS}) \
             INSERT INTO api_keys (user_id, group_id, name, digest, ciphertext, last4, enabled, credit_limit_micros, \
             models, ip_allowlist, created_at_ms) SELECT {id}, group_id, \
             'project ' || (s.i * 7919 % {OTHER_KEYS}), randomblob(32), ciphertext, last4, s.i % 10 > 0, \
             credit_limit_micros, models, ip_allowlist, created_at_ms + s.i \
             FROM s, api_keys WHERE id = (SELECT min(id) FROM api_keys WHERE user_id = {first}); \
             INSERT INTO key_credits (key_id, credits_used_micros) \
             SELECT id, credit_limit_micros * (id % 7 = 0) FROM api_keys WHERE user_id = {id}"
        ))?)
    })
    .context("the other user's keys")
}

/// SQL that makes a part of the charges at once, by each hundredth key; their sums are not kept true, no doctor looks
/// here.
fn charges(part: usize, since_ms: i64) -> String {
    let (from, until) = (part * CHARGES / PARTS, (part + 1) * CHARGES / PARTS);
    format!(
        "WITH RECURSIVE s (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM s WHERE i < {until} - 1), \
         t (i, key_id, at_ms) AS (SELECT i, 1 + i * 7919 % {CALLING_KEYS} * ({KEYS} / {CALLING_KEYS}), \
         {since_ms} + i * ({DAYS} * {DAY_MS} - 60000) / {CHARGES} FROM s) \
         INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, state, \
         held_micros, input_held_micros, settled_micros, outcome, usage_source, input_tokens, output_tokens, \
         upstream_id, status, first_byte_ms, created_at_ms, resolved_at_ms) \
         SELECT ((t.at_ms - {EPOCH_MS}) << {ID_BITS}) | (t.i & 4095), u.id, t.key_id, 'bench', \
         'pace-' || (t.key_id / 100 % 3 * 5), 1, 1000000, 1, 'settled', 2500, 500, 278, 'complete', 'upstream', 31, 20, \
         1, 200, 300, t.at_ms, t.at_ms + 900 FROM t, (SELECT min(id) AS id FROM users) u;"
    )
}
