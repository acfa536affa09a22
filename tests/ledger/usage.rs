//! Usage as it is summed up, while charges are resolved: at every moment the rollups and what was resolved since are
//! together what the charges say, and the doctor finds it when they are not.

use super::{Bench, Engine, block_on, engines, settle, tamper};
use diesel::RunQueryDsl;
use keyhouse::clock::now_ms;
use keyhouse::domain::expiry::DAY_MS;
use keyhouse::domain::usage::{Usage as Used, UsageSource};
use keyhouse::error::Error;
use keyhouse::ledger::{Amount, Instance, Outcome, Resolution};
use keyhouse::rollup::Rollup;
use keyhouse::store::usage::{Grain, Scope, Span, Sums, Usage};
use keyhouse::store::usage_rollup::{self, Closing, HOUR_MS, Rolled};
use keyhouse::store::{Connection, doctor};
use rand::RngExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The last two days, by the hour or by the day.
fn span(grain: Grain) -> Span {
    let until_ms = (now_ms() / DAY_MS + 1) * DAY_MS;
    Span { from_ms: until_ms - 2 * DAY_MS, until_ms, grain }
}

/// What the charges themselves say, one after the other.
fn straight(connection: &mut Connection, scope: &Scope) -> Result<Sums, Error> {
    use diesel::sql_types::BigInt;
    #[derive(diesel::QueryableByName)]
    struct Charge {
        #[diesel(sql_type = BigInt)]
        settled_micros: i64,
        #[diesel(sql_type = BigInt)]
        duration_ms: i64,
        #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
        input_tokens: Option<i64>,
        #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
        cached_input_tokens: Option<i64>,
        #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
        output_tokens: Option<i64>,
        #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
        first_byte_ms: Option<i64>,
        #[diesel(sql_type = diesel::sql_types::Text)]
        outcome: String,
    }
    let only = |column: &str, id: Option<i64>| id.map_or("1 = 1".into(), |id| format!("{column} = {id}"));
    let text = format!(
        "SELECT *, resolved_at_ms - created_at_ms AS duration_ms FROM charges WHERE state <> 'held' AND {} AND {}",
        only("user_id", scope.user_id),
        only("key_id", scope.key_id)
    );
    let charges: Vec<Charge> = match connection {
        Connection::Sqlite(connection) => diesel::sql_query(text).load(connection)?,
        Connection::Postgres(connection) => diesel::sql_query(text).load(connection)?,
    };
    Ok(charges.iter().fold(Sums::default(), |mut sums, charge| {
        sums += Sums {
            requests: 1,
            errors: i64::from(["failed", "cut", "interrupted"].contains(&charge.outcome.as_str())),
            input_tokens: charge.input_tokens.unwrap_or(0),
            cached_input_tokens: charge.cached_input_tokens.unwrap_or(0),
            output_tokens: charge.output_tokens.unwrap_or(0),
            settled_micros: charge.settled_micros,
            duration_ms: charge.duration_ms,
            first_byte_ms: charge.first_byte_ms.unwrap_or(0),
            first_bytes: i64::from(charge.first_byte_ms.is_some()),
        };
        sums
    }))
}

/// Compares every way to ask with the charges, all in one snapshot; gives how many calls there were.
fn compare(connection: &mut Connection, user_id: i64, keys: &[i64]) -> Result<i64, Error> {
    connection.snapshot(|connection| {
        let all = straight(connection, &Scope::default())?;
        for grain in [Grain::Hour, Grain::Day] {
            for scope in [Scope::default(), Scope::of_user(user_id)] {
                let cells = Usage::open(connection, scope.clone(), span(grain))?.by_model()?;
                assert_eq!(total(cells.into_values()), all, "{scope:?} {grain:?}");
            }
            let mut usage = Usage::open(connection, Scope::of_user(user_id), span(grain))?;
            let cells = usage.by_key(keys)?;
            let dearest = usage.dearest_of_keys()?;
            let top: Vec<i64> = usage.top_keys(&dearest, keys.len());
            assert_eq!(total(cells.values().copied()), all);
            let users = Usage::open(connection, Scope::default(), span(grain))?.of_users(&[user_id])?;
            assert_eq!(total(users.into_values()), all);
            let mut spent: Vec<i64> = Vec::new();
            for key_id in keys {
                let scope = Scope { key_id: Some(*key_id), ..Scope::of_user(user_id) };
                let expected = straight(connection, &scope)?;
                let of_key = cells.iter().filter(|((_, id), _)| id == key_id).map(|(_, sums)| *sums);
                assert_eq!(total(of_key), expected);
                let cells = Usage::open(connection, scope, span(grain))?.by_model()?;
                assert_eq!(total(cells.into_values()), expected);
                spent.push(expected.settled_micros);
            }
            let ranked = top.iter().map(|id| spent[keys.iter().position(|key| key == id).expect("a key")]);
            assert!(ranked.is_sorted_by(|one, next| one >= next), "{top:?} {spent:?}");
        }
        Ok(all.requests)
    })
}

fn total(sums: impl Iterator<Item = Sums>) -> Sums {
    sums.fold(Sums::default(), |mut all, part| {
        all += part;
        all
    })
}

/// Closes the present moment and waits until it is closed; `None`: nothing to do.
fn close(connection: &mut Connection) -> Option<Closing> {
    let closing = usage_rollup::close(connection).expect("closed")?;
    wait_until_closed(connection, closing);
    Some(closing)
}

fn merge_all(connection: &mut Connection) {
    while usage_rollup::merge(connection, 1).expect("merged") {}
}

/// Transactions of other tests on the same server are waited for too.
fn wait_until_closed(connection: &mut Connection, closing: Closing) {
    let begun = Instant::now();
    while !usage_rollup::is_closed(connection, closing).expect("asked") {
        assert!(begun.elapsed() < Duration::from_secs(30), "a transaction does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn random_end(hold_id: i64, micros: i64) -> Resolution {
    let mut random = rand::rng();
    let outcomes =
        [Outcome::Complete, Outcome::Complete, Outcome::HungUp, Outcome::Cut, Outcome::Interrupted];
    let input_tokens = random.random_range(0..1_000);
    let usage = Used {
        input_tokens,
        cached_input_tokens: input_tokens / 3,
        output_tokens: random.random_range(0..500),
        ..Used::NONE
    };
    match random.random_range(0..6) {
        0 => Resolution::release(hold_id),
        n => Resolution {
            amount: Amount::Settle(random.random_range(0..=micros)),
            outcome: outcomes[n - 1],
            usage: Some((usage, UsageSource::Upstream)),
            first_byte_ms: random.random_bool(0.8).then(|| random.random_range(0..2_000)),
            ..Resolution::release(hold_id)
        },
    }
}

/// One caller: holds and resolves until it is told to stop, sometimes only later.
fn call(bench: &Bench, rival: &Instance, keys: &[i64], stop: &AtomicBool) {
    block_on(async {
        let mut open = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let (key, micros) =
                (keys[rand::rng().random_range(0..keys.len())], rand::rng().random_range(1..20));
            if let Ok(hold) = rival.ledger().hold(bench.request(rival.ledger(), key, micros)).await {
                open.push((hold, micros));
            }
            if open.len() > rand::rng().random_range(0..4) {
                let (hold, micros) = open.swap_remove(rand::rng().random_range(0..open.len()));
                let end = random_end(hold.charge_id(), micros);
                hold.resolve(end).await.expect("resolved");
            }
        }
        for (hold, micros) in open {
            let end = random_end(hold.charge_id(), micros);
            hold.resolve(end).await.expect("resolved");
        }
    });
}

/// Sums up in steps of a few charges as fast as it can.
fn roll(bench: &Bench, stop: &AtomicBool) {
    let mut connection = bench.database.url.connect().expect("connected");
    while !stop.load(Ordering::Relaxed) {
        let Some(closing) = close(&mut connection) else { continue };
        let few = rand::rng().random_range(1..20);
        while usage_rollup::roll(&mut connection, closing, few).expect("rolled").0 == Rolled::Some {}
        if rand::rng().random_bool(0.3) {
            usage_rollup::merge(&mut connection, rand::rng().random_range(0..4)).expect("merged");
        }
    }
}

#[test]
fn at_every_moment_usage_is_what_the_charges_say() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let keys: Vec<i64> = (0..3).map(|_| bench.key(None)).collect();
        let stop = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            for caller in 0..6 {
                let (bench, rival, keys, stop) = (&bench, &rivals[caller % rivals.len()], &keys, &stop);
                scope.spawn(move || call(bench, rival, keys, stop));
            }
            for _ in 0..2 {
                scope.spawn(|| roll(&bench, &stop));
            }
            // Also when an assertion fails, so that the others end.
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut connection = bench.database.url.connect().expect("connected");
                let begun = Instant::now();
                let (mut seen, mut looks) = (0, 0);
                while begun.elapsed() < Duration::from_secs(4) || looks < 20 {
                    seen = compare(&mut connection, bench.user_id, &keys).expect("compared");
                    looks += 1;
                }
                seen
            }));
            stop.store(true, Ordering::Relaxed);
            looked
        });
        assert!(seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) > 100, "{engine:?}");
        rivals.into_iter().for_each(Instance::stop);
        let mut connection = bench.database.url.connect().expect("connected");
        // Nobody else rolls now; the last of it too.
        if let Some(closing) = close(&mut connection) {
            assert_eq!(
                usage_rollup::roll(&mut connection, closing, i64::MAX).expect("rolled").0,
                Rolled::All
            );
        }
        compare(&mut connection, bench.user_id, &keys).expect("compared");
        bench.is_healthy();
        merge_all(&mut connection);
        compare(&mut connection, bench.user_id, &keys).expect("compared");
        assert!(usage_rollup::close(&mut connection).expect("asked").is_none(), "nothing is left");
        bench.is_healthy();
    }
}

/// As the ledger asks PostgreSQL.
fn resolution_moment(connection: &mut Connection) -> i64 {
    let progress = usage_rollup::progress(connection).expect("asked");
    connection.now_ms().expect("asked").max(progress.closing_ms)
}

#[test]
fn a_moment_is_not_closed_while_a_resolution_is_under_way() {
    use diesel::connection::SimpleConnection;
    for engine in engines().into_iter().filter(|engine| *engine == Engine::Postgres) {
        let bench = Bench::new(engine);
        let (instance, key) = (bench.instance(), bench.key(None));
        for _ in 0..2 {
            bench.call(&instance, key, 10, 10);
        }
        // What a ledger does that locked its charge, asked for the moment, and has not committed yet.
        let mut slow = bench.database.url.connect().expect("connected");
        slow.batch_execute("BEGIN; SELECT 1 FROM charges ORDER BY id LIMIT 1 FOR NO KEY UPDATE")
            .expect("locked");
        let moment = resolution_moment(&mut slow);
        let mut connection = bench.database.url.connect().expect("connected");
        let closing = usage_rollup::close(&mut connection).expect("closed").expect("something to do");
        assert!(!usage_rollup::is_closed(&mut connection, closing).expect("asked"));
        slow.batch_execute("COMMIT").expect("committed");
        wait_until_closed(&mut connection, closing);
        // Whoever asks from now on is told a moment behind the closed one, whatever the clock says.
        tamper(&bench.database, "UPDATE usage_progress SET closing_ms = closing_ms + 1000000");
        let later = resolution_moment(&mut slow);
        assert!(later >= moment + 900_000, "{moment} {later}");
        instance.stop();
    }
}

#[test]
fn a_moment_is_not_closed_while_a_resolution_is_under_way_that_began_before_the_closing_was_committed() {
    use diesel::connection::SimpleConnection;
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let bench = Bench::new(Engine::Postgres);
    let (instance, key) = (bench.instance(), bench.key(None));
    bench.call(&instance, key, 10, 10);
    instance.stop();
    // The closing has its transaction id and waits for a lock; then the resolution gets the next id and asks for the moment.
    let mut lock = bench.database.url.connect().expect("connected");
    lock.batch_execute("BEGIN; SELECT 1 FROM usage_progress FOR UPDATE").expect("locked");
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| {
            let mut connection = bench.database.url.connect().expect("connected");
            let closing = usage_rollup::close(&mut connection).expect("closed").expect("something to do");
            (connection, closing)
        });
        std::thread::sleep(Duration::from_millis(500));
        let mut slow = bench.database.url.connect().expect("connected");
        slow.batch_execute("BEGIN; SELECT 1 FROM charges ORDER BY id LIMIT 1 FOR NO KEY UPDATE")
            .expect("locked");
        resolution_moment(&mut slow);
        lock.batch_execute("COMMIT").expect("committed");
        let (mut connection, closing) = closing.join().expect("closed");
        assert!(!usage_rollup::is_closed(&mut connection, closing).expect("asked"));
        slow.batch_execute("COMMIT").expect("committed");
        wait_until_closed(&mut connection, closing);
    });
}

#[test]
fn a_clock_that_steps_back_loses_no_charge() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let (instance, key) = (bench.instance(), bench.key(None));
        // As if the clock had been an hour ahead when usage was summed up.
        let ahead = now_ms() + HOUR_MS;
        tamper(
            &bench.database,
            &format!("UPDATE usage_progress SET closing_ms = {ahead}, rolled_ms = {ahead}"),
        );
        bench.call(&instance, key, 10, 7);
        let mut connection = bench.database.url.connect().expect("connected");
        assert_eq!(compare(&mut connection, bench.user_id, &[key]).expect("compared"), 1);
        // Only what is resolved goes by that clock: a call begins when it does.
        tamper(
            &bench.database,
            &format!("DELETE FROM charges WHERE created_at_ms > {} OR resolved_at_ms < {ahead}", now_ms()),
        );
        assert_eq!(compare(&mut connection, bench.user_id, &[key]).expect("compared"), 1);
        instance.stop();
    }
}

#[test]
fn old_hours_are_dropped_and_days_stay() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let (instance, key) = (bench.instance(), bench.key(None));
        let settle_one = || {
            block_on(async {
                let hold =
                    instance.ledger().hold(bench.request(instance.ledger(), key, 10)).await.expect("held");
                let end = settle(&hold, 10);
                hold.resolve(end).await.expect("settled");
            });
        };
        settle_one();
        let mut connection = bench.database.url.connect().expect("connected");
        let closing = close(&mut connection).expect("something to do");
        usage_rollup::roll(&mut connection, closing, 100).expect("rolled");
        merge_all(&mut connection);
        // Ten days later.
        let past = |table: &str, column: &str, ms: i64| {
            tamper(&bench.database, &format!("UPDATE {table} SET {column} = {column} - {ms}"));
        };
        past("charges", "created_at_ms", 10 * DAY_MS);
        past("charges", "resolved_at_ms", 10 * DAY_MS);
        past("charges_of_users", "created_at_ms", 10 * DAY_MS);
        past("charges_of_keys", "created_at_ms", 10 * DAY_MS);
        past("usage_hourly", "start_ms", 10 * DAY_MS);
        past("usage_daily", "start_ms", 10 * DAY_MS);
        past("usage_progress", "hourly_from_ms", 10 * DAY_MS);
        bench.is_healthy();
        settle_one();
        let closing = close(&mut connection).expect("something to do");
        usage_rollup::roll(&mut connection, closing, 100).expect("rolled");
        bench.is_healthy();
        merge_all(&mut connection);
        bench.is_healthy();
        assert!(usage_rollup::prune(&mut connection).expect("pruned"), "the old hour");
        assert!(!usage_rollup::prune(&mut connection).expect("pruned"), "the new one stays");
        bench.is_healthy();
        instance.stop();
    }
}

const COLUMNS: [&str; 8] = [
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "settled_micros",
    "duration_ms",
    "first_byte_ms",
    "first_bytes",
];

#[test]
fn the_doctor_finds_every_sum_that_is_wrong() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let (instance, key) = (bench.instance(), bench.key(None));
        bench.call(&instance, key, 10, 10);
        instance.stop();
        let mut connection = bench.database.url.connect().expect("connected");
        let closing = close(&mut connection).expect("something to do");
        usage_rollup::roll(&mut connection, closing, 100).expect("rolled");
        bench.is_healthy();
        let breaches = || bench.store.with(doctor::examine).expect("examined").breaches;
        for column in COLUMNS {
            let change = |by| format!("UPDATE usage_recent SET {column} = {column} + {by}");
            tamper(&bench.database, &change(5));
            let found = breaches();
            assert!(found.iter().all(|breach| breach.subject.contains(" of key ")), "{found:?}");
            assert_eq!(found.len(), 2, "not the hour's and not the day's: {found:?}");
            tamper(&bench.database, &change(-5));
        }
        merge_all(&mut connection);
        bench.is_healthy();
        for table in ["usage_hourly", "usage_daily"] {
            for column in COLUMNS {
                for level in ["key_id > 0", "key_id = 0 AND user_id > 0", "user_id = 0"] {
                    let change = |by| format!("UPDATE {table} SET {column} = {column} + {by} WHERE {level}");
                    tamper(&bench.database, &change(5));
                    let found = breaches();
                    assert!(!found.is_empty(), "{table}.{column} {level}");
                    assert!(found.iter().all(|breach| breach.subject.starts_with(table)), "{found:?}");
                    tamper(&bench.database, &change(-5));
                }
            }
        }
        for (list, column) in [("charges_of_users", "price_id"), ("charges_of_keys", "key_id")] {
            tamper(&bench.database, &format!("UPDATE {list} SET {column} = {column} + 5"));
            let lines: Vec<String> = breaches().iter().map(ToString::to_string).collect();
            assert_eq!(lines.len(), 2, "there is one too many, and one is missing: {lines:?}");
            assert!(lines.iter().all(|line| line.starts_with(&format!("{list}: charge "))), "{lines:?}");
            assert!(lines[1].ends_with(": listed as it is: stored 0, proven 1"), "{lines:?}");
            tamper(&bench.database, &format!("UPDATE {list} SET {column} = {column} - 5"));
        }
        bench.is_healthy();
        tamper(&bench.database, "UPDATE usage_daily SET settled_micros = 11 WHERE user_id = 0");
        let line = breaches()[0].to_string();
        assert!(line.starts_with("usage_daily of everybody, "), "{line}");
        assert!(line.ends_with(", m, complete: usage = settled: stored 0.000011, proven 0.000010"), "{line}");
        tamper(&bench.database, "UPDATE usage_daily SET settled_micros = 10 WHERE user_id = 0");
        tamper(&bench.database, "DELETE FROM usage_daily");
        assert!(breaches()[0].to_string().ends_with("requests = charges: stored 0, proven 1"));
    }
}

#[test]
fn the_background_keeps_up_by_itself_and_ends_when_told() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let (instance, key) = (bench.instance(), bench.key(None));
        bench.call(&instance, key, 10, 10);
        let rollup = Rollup::start(&bench.store).expect("started");
        let begun = Instant::now();
        while bench.store.with(usage_rollup::progress).expect("asked").rolled_ms == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{engine:?}: nothing was summed up");
            std::thread::sleep(Duration::from_millis(20));
        }
        let begun = Instant::now();
        drop(rollup);
        assert!(begun.elapsed() < Duration::from_secs(5));
        instance.stop();
        bench.is_healthy();
    }
}
