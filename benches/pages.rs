//! How long the server takes for the pages with usage when ten million charges are stored.
//!
//! ```text
//! cargo bench --bench pages                                     SQLite
//! KEYHOUSE_TEST_POSTGRES_URL=… cargo bench --bench pages        PostgreSQL too
//! KEYHOUSE_BENCH_CHARGES=100000 cargo bench --bench pages       fewer
//! ```
//!
//! Ninety days, a thousand users, twenty thousand keys, twenty models; half of the keys and of the calls are one user's.
//! Printed as a Markdown table, for docs/performance.md.

#[path = "../tests/support/mod.rs"]
mod support;

use diesel::connection::SimpleConnection;
use keyhouse::clock::now_ms;
use keyhouse::domain::models::ModelName;
use keyhouse::domain::price::Price;
use keyhouse::store::audit::Actor;
use keyhouse::store::models::{self, NewModel};
use keyhouse::store::usage_rollup::{self, Rolled};
use keyhouse::store::{Connection, doctor};
use std::time::{Duration, Instant};
use support::{Answer, Engine, House, PASSWORD, Person, engines};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const DAYS: i64 = 90;
const USERS: i64 = 1_000;
const KEYS: i64 = 20_000;
const MODELS: i64 = 20;
const ROUNDS: usize = 15;
/// Inserted one after the other.
const PARTS: i64 = 10;
/// Of charge ids, see `ledger::ids`.
const ID_EPOCH_MS: i64 = 1_767_225_600_000;

fn main() {
    let charges =
        std::env::var("KEYHOUSE_BENCH_CHARGES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    println!("| engine | page | median ms | slowest ms | kB |\n|---|---|---:|---:|---:|");
    for engine in engines() {
        measure(engine, charges);
    }
}

fn measure(engine: Engine, charges: i64) {
    let mut house = House::start(engine);
    // One has half of everything, the other as much as all others: their ids follow hers.
    let heavy = house.add_user("heavy", false);
    house.add_user("root", true);
    let light = house.add_user("light", false);
    // Nobody else is to sum up meanwhile.
    house.stop();
    let began = Instant::now();
    fill(&house, engine, (heavy, light), charges);
    eprintln!("{engine:?}: filled with {charges} charges in {:?}", began.elapsed());
    let began = Instant::now();
    roll(&house);
    eprintln!("{engine:?}: summed up in {:?}", began.elapsed());
    let house = house.restart();
    for name in ["heavy", "light"] {
        let person = signed_in(&house, name);
        for path in [
            "/usage?range=24h",
            "/usage?range=7d",
            "/usage?range=30d",
            "/usage?range=90d",
            "/usage?range=90d&by=key",
            "/usage?range=90d&by=key&model=model-7",
            "/usage?range=90d&status=cut",
            "/usage?range=90d&status=interrupted&model=model-3",
        ] {
            time(engine, &person, name, path);
        }
        let id = key_of(&person);
        time(engine, &person, name, &format!("/usage?range=90d&key={id}"));
        let old = person.get("/usage?range=90d").body;
        let charge =
            old.split("<a id=\"charge-").nth(1).and_then(|row| row.split('"').next()).expect("a charge");
        time(engine, &person, name, &format!("/usage/{charge}"));
    }
    let root = signed_in(&house, "root");
    for range in ["24h", "7d", "30d", "90d"] {
        time(engine, &root, "admin", &format!("/overview?range={range}"));
    }
    // All charges have model-0's price: the newest twenty thousand are reckoned anew.
    let model_id = house.with(|c| models::find_by_name(c, "model-0")).id;
    let fields = [("version", "1"), ("input", "2"), ("output", "3"), ("act", "preview")];
    let path = format!("/models/{model_id}/price");
    time_of(engine, "admin what another price would have cost", || root.post(&path, &fields));
    if std::env::var_os("KEYHOUSE_BENCH_FULL").is_some() {
        let began = Instant::now();
        let breaches = house.with(doctor::examine).breaches;
        let wrong = breaches.iter().filter(|breach| breach.subject.starts_with("usage_")).count();
        eprintln!("{engine:?}: doctor took {:?}; sums that are wrong: {wrong}", began.elapsed());
    }
}

fn signed_in(house: &House, name: &str) -> Person {
    let person = house.anon();
    person.sign_in(name, PASSWORD);
    person
}

/// The first key that the page's menu offers.
fn key_of(person: &Person) -> String {
    let page = person.get("/usage?range=90d").body;
    let menu =
        page.split("id=\"usage-key\"").nth(1).expect("a menu").split("</select>").next().expect("its end");
    menu.split("value=\"").nth(2).and_then(|choice| choice.split('"').next()).expect("a key").to_owned()
}

fn time(engine: Engine, person: &Person, who: &str, path: &str) {
    time_of(engine, &format!("{who} `{path}`"), || person.get(path));
}

fn time_of(engine: Engine, what: &str, visit: impl Fn() -> Answer) {
    let mut took: Vec<Duration> = Vec::new();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let answer = visit();
        took.push(began.elapsed());
        assert!(answer.status.is_success(), "{what}: {}", answer.status);
        bytes = answer.body.len();
    }
    took.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, slowest) = (took[ROUNDS / 2], took[ROUNDS - 1]);
    println!("| {engine:?} | {what} | {:.1} | {:.1} | {} |", ms(median), ms(slowest), bytes / 1_000);
}

/// SQL that makes users, keys and resolved charges at once; balances are not kept true.
fn fill(house: &House, engine: Engine, (heavy, light): (i64, i64), charges: i64) {
    let price_id = house.with(|c| {
        for n in 0..MODELS {
            let new = NewModel {
                name: &ModelName::parse(&format!("model-{n}")).expect("a name"),
                max_output_tokens: 100,
                price: Price { input_micros: 1, ..Price::default() },
                routes: &[],
            };
            models::create(c, &new, &Actor::cli(), 0)?;
        }
        Ok(models::find_offer(c, "model-0")?.price.id)
    });
    let series = |from: i64, until: i64| match engine {
        Engine::Sqlite => format!(
            "WITH RECURSIVE s (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM s WHERE i < {until} - 1) SELECT i FROM s"
        ),
        Engine::Postgres => format!("SELECT generate_series({from}::bigint, {until} - 1) AS i"),
    };
    let (digest, yes, no) = match engine {
        Engine::Sqlite => ("randomblob(32)", "1", "0"),
        Engine::Postgres => ("decode(lpad(to_hex(s.i), 64, '0'), 'hex')", "TRUE", "FALSE"),
    };
    let begin_ms = now_ms() - DAYS * DAY_MS;
    let step_us = DAYS * DAY_MS * 1_000 / charges;
    let made = format!("{begin_ms} + s.i * {step_us} / 1000");
    // Every second call is the heavy user's, by one of the first half of the keys; the others' are spread over the rest.
    let key = format!(
        "CASE WHEN s.i % 2 = 0 THEN 1 + (s.i / 2 * 7919) % ({KEYS} / 2) ELSE 1 + {KEYS} / 2 + (s.i / 2 * 7919) % ({KEYS} / 2) END"
    );
    let owner_of_key = format!("CASE WHEN s.i < {KEYS} / 2 THEN {heavy} ELSE {light} + s.i % {USERS} END");
    let owner = format!(
        "CASE WHEN s.i % 2 = 0 THEN {heavy} ELSE {light} + ({KEYS} / 2 + (s.i / 2 * 7919) % ({KEYS} / 2)) % {USERS} END"
    );
    let outcome = "CASE WHEN s.i % 97 = 0 THEN 'failed' WHEN s.i % 101 = 0 THEN 'hung_up' WHEN s.i % 1009 = 0 THEN 'cut' \
         WHEN s.i % 100003 = 0 THEN 'interrupted' ELSE 'complete' END";
    let mut connection = house.store.url().connect().expect("connected");
    let mut run = |sql: &str| match &mut connection {
        Connection::Sqlite(c) => c.batch_execute(sql).expect("filled"),
        Connection::Postgres(c) => c.batch_execute(sql).expect("filled"),
    };
    run(match engine {
        Engine::Sqlite => "PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000",
        Engine::Postgres => "SET statement_timeout = 0; SET session_replication_role = replica",
    });
    run(&format!(
        "INSERT INTO users (id, name, password_hash, is_admin, created_at_ms) \
         SELECT {light} + 1 + s.i, 'user-' || s.i, 'none', {no}, 0 FROM ({}) s",
        series(0, USERS)
    ));
    run(&format!(
        "INSERT INTO api_keys (id, user_id, group_id, name, digest, ciphertext, last4, enabled, created_at_ms) \
         SELECT 1 + s.i, {owner_of_key}, 1, 'key-' || s.i, {digest}, {digest}, 'abcd', {yes}, s.i FROM ({}) s; \
         INSERT INTO key_credits (key_id) SELECT id FROM api_keys",
        series(0, KEYS)
    ));
    for part in 0..PARTS {
        run(&format!(
            "INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, state, \
             held_micros, settled_micros, input_held_micros, outcome, usage_source, input_tokens, cached_input_tokens, \
             output_tokens, status, first_byte_ms, created_at_ms, resolved_at_ms) \
             SELECT ({made} - {ID_EPOCH_MS}) * 4194304 + s.i % 4096, {owner}, {key}, 'key', \
             'model-' || ((s.i / 3) % {MODELS}), {price_id}, 1000000, 1, 'settled', 1000, (s.i * 31) % 1000, 10, {outcome}, \
             'upstream', (s.i * 17) % 4000, (s.i * 13) % 100, s.i % 500, 200, 100 + s.i % 700, {made}, \
             {made} + 500 + s.i % 9000 FROM ({}) s",
            series(part * charges / PARTS, (part + 1) * charges / PARTS)
        ));
    }
    run(match engine {
        Engine::Sqlite => "PRAGMA wal_checkpoint(TRUNCATE)",
        Engine::Postgres => "VACUUM ANALYZE charges",
    });
}

/// Sums up all that is stored, in larger steps than beside a ledger that works.
fn roll(house: &House) {
    let mut connection = house.store.url().connect().expect("connected");
    if let Connection::Postgres(c) = &mut connection {
        c.batch_execute("SET statement_timeout = 0").expect("set");
    }
    if let Connection::Sqlite(c) = &mut connection {
        c.batch_execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000").expect("set");
    }
    while let Some(closing) = usage_rollup::close(&mut connection).expect("closed") {
        while !usage_rollup::is_closed(&mut connection, closing).expect("asked") {
            std::thread::sleep(Duration::from_millis(10));
        }
        while usage_rollup::roll(&mut connection, closing, 200_000).expect("rolled").0 != Rolled::All {
            usage_rollup::merge(&mut connection, i64::MAX).expect("merged");
        }
        usage_rollup::merge(&mut connection, i64::MAX).expect("merged");
    }
    if let Connection::Postgres(c) = &mut connection {
        for table in ["usage_hourly", "usage_daily", "usage_recent"] {
            c.batch_execute(&format!("VACUUM ANALYZE {table}")).expect("analysed");
        }
    }
}
