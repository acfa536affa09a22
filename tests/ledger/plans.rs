//! What PostgreSQL reads for a call, counted by itself: no more where many keys and charges are stored, and that for a writer
//! that began when there were none, since its plans are made once.

use super::{Bench, Engine, engines, tamper};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use keyhouse::ledger::Instance;
use keyhouse::store::Connection;
use std::time::Duration;

const STORED: i64 = 5_000;
const CALLS: i64 = 10;
/// A backend tells what it read with a transaction that ends so long after it last did.
const TOLD_EACH: Duration = Duration::from_millis(1_100);

#[derive(QueryableByName)]
struct Entries {
    #[diesel(sql_type = BigInt)]
    read: i64,
}

#[test]
fn on_postgres_a_call_reads_no_more_where_much_is_stored() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let bench = Bench::new(Engine::Postgres);
    let instance = bench.instance();
    let key_id = bench.key(None);
    bench.call(&instance, key_id, 10, 5);
    store_much(&bench, key_id);
    call_and_tell(&bench, &instance, key_id);
    let before = entries_read(&bench);
    for _ in 1..CALLS {
        bench.call(&instance, key_id, 10, 5);
    }
    call_and_tell(&bench, &instance, key_id);
    let read = entries_read(&bench) - before;
    instance.stop();
    // A call reads some twenty. A look at who else is alive goes through the open charges, now and then.
    assert!((CALLS..CALLS * STORED / 4).contains(&read), "{read} entries for {CALLS} calls");
}

/// A call, behind which what was read before is counted.
fn call_and_tell(bench: &Bench, instance: &Instance, key_id: i64) {
    std::thread::sleep(TOLD_EACH);
    bench.call(instance, key_id, 10, 5);
}

/// Keys, and charges of theirs: open ones of this instance, which nobody resolves, and resolved ones.
fn store_much(bench: &Bench, key_id: i64) {
    tamper(
        &bench.database,
        &format!(
            "INSERT INTO api_keys (user_id, group_id, name, digest, ciphertext, last4, models, ip_allowlist, created_at_ms) \
             SELECT user_id, group_id, name, sha256(n::text::bytea), ciphertext, last4, models, ip_allowlist, \
             created_at_ms FROM api_keys, generate_series(1, {STORED}) n WHERE id = {key_id}; \
             INSERT INTO key_credits (key_id) SELECT id FROM api_keys WHERE id <> {key_id}; \
             INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, state, \
             held_micros, input_held_micros, outcome, created_at_ms, resolved_at_ms) \
             SELECT c.id - n, c.user_id, c.key_id, c.key_name, c.model, c.price_id, c.multiplier_micros, c.instance_id, \
             CASE WHEN n % 2 = 0 THEN 'held' ELSE 'released' END, 0, 0, CASE WHEN n % 2 = 1 THEN 'failed' END, \
             c.created_at_ms, CASE WHEN n % 2 = 1 THEN c.resolved_at_ms END \
             FROM charges c, generate_series(1, {STORED}) n"
        ),
    );
}

fn entries_read(bench: &Bench) -> i64 {
    let asked = bench.store.with(|connection| {
        let Connection::Postgres(connection) = connection else { unreachable!("PostgreSQL alone") };
        let query = "SELECT sum(idx_tup_read)::bigint AS read FROM pg_stat_user_indexes \
                     WHERE schemaname = current_schema() AND relname IN ('charges', 'users', 'key_credits', 'api_keys')";
        Ok(diesel::sql_query(query).get_result::<Entries>(connection)?)
    });
    asked.expect("asked").read
}
