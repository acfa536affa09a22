//! The ledger alone: how many hold + settle pairs a second, and what each costs in CPU, as callers and data grow.
//!
//! ```text
//! cargo bench --bench ledger                                    SQLite, empty store
//! KEYHOUSE_BENCH_FULL=1 cargo bench --bench ledger              also with a million keys and ten million charges
//! KEYHOUSE_TEST_POSTGRES_URL=… cargo bench --bench ledger       PostgreSQL too
//! ```
//!
//! Criterion times the pairs; the CPU of this process (callers, writer, SQLite) and of PostgreSQL's backends is read
//! from /proc around them and printed at the end as a Markdown table, for docs/performance.md.

#[path = "../tests/support/database.rs"]
mod database;

use criterion::{BenchmarkId, Criterion};
use database::{Database, Engine, engines};
use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use futures_util::future::join_all;
use keyhouse::domain::credits::Credits;
use keyhouse::domain::group;
use keyhouse::domain::models::ModelName;
use keyhouse::domain::price::Price;
use keyhouse::domain::user::UserName;
use keyhouse::ledger::{Amount, HoldRequest, Instance, Ledger, Outcome, Resolution};
use keyhouse::store::audit::Actor;
use keyhouse::store::{Connection, Store, grants, groups, models, users};
use rand::RngExt;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

const CALLERS: [usize; 4] = [1, 16, 64, 256];
const KEYS: i64 = 10_000;
const STORED_KEYS: i64 = 1_000_000;
const STORED_CHARGES: i64 = 10_000_000;
/// Linux counts CPU time in hundredths of a second (USER_HZ), whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// One line of the table.
struct Measured {
    name: String,
    pairs: u64,
    wall: Duration,
    own_cpu: Duration,
    server_cpu: Duration,
}

/// A store with one account and keys 1 to `keys`.
struct Bench {
    // Dropped before the database goes.
    instance: Instance,
    user_id: i64,
    model_id: i64,
    price_id: i64,
    group_id: i64,
    server: Option<String>,
    _database: Database,
}

impl Bench {
    fn new(engine: Engine, keys: i64, charges: i64) -> Self {
        let database = Database::new(engine);
        let store = Store::open(&database.url).expect("the store opens");
        let (user_id, offer, group_id) = store
            .with(|c| {
                let new = users::NewUser {
                    name: UserName::parse("ada").expect("valid"),
                    password_hash: None,
                    is_admin: false,
                };
                let user_id = users::create(c, &new, &Actor::cli(), 0)?;
                grants::grant(c, user_id, Credits::from_micros(1_000_000_000_000_000), "", &Actor::cli(), 0)?;
                let model = models::NewModel {
                    name: &ModelName::parse("m").expect("valid"),
                    max_output_tokens: 100,
                    price: Price::default(),
                    routes: &[],
                };
                models::create(c, &model, &Actor::cli(), 0)?;
                Ok((user_id, models::find_offer(c, "m")?, groups::find_by_name(c, group::DEFAULT)?.id))
            })
            .expect("seeded");
        let mut connection = database.url.connect().expect("connected");
        if engine == Engine::Postgres {
            // Millions of rows take longer than any statement may; whom they refer to is known to be there.
            let unbounded = "SET statement_timeout = 0; SET session_replication_role = replica";
            connection.batch_execute(unbounded).expect("set");
        }
        connection.batch_execute(&fill(engine, user_id, offer.price.id, keys, charges)).expect("filled");
        // What the filling left to be written must not be what the first commits wait for.
        let write_out = match engine {
            Engine::Sqlite => "PRAGMA wal_checkpoint(TRUNCATE)",
            Engine::Postgres => "CHECKPOINT",
        };
        connection.batch_execute(write_out).expect("written out");
        assert!(Command::new("sync").status().expect("sync runs").success());
        let instance = Instance::start(&store, "of the bench").expect("an instance starts");
        Self {
            instance,
            user_id,
            model_id: offer.model.id,
            price_id: offer.price.id,
            group_id,
            server: server_of(&database),
            _database: database,
        }
    }

    fn request(&self, ledger: &Ledger, key_id: i64) -> HoldRequest {
        HoldRequest {
            charge_id: ledger.next_charge_id(),
            key_id,
            key_revision: 1,
            user_id: self.user_id,
            user_revision: 1,
            group_id: self.group_id,
            group_revision: 1,
            model_id: self.model_id,
            model_revision: 1,
            held_micros: 100,
            input_held_micros: 10,
            price_id: self.price_id,
            multiplier_micros: 1_000_000,
            key_name: "bench".into(),
            model: "m".into(),
        }
    }

    /// `callers` tasks, each holding and settling in turn, until `pairs` are done.
    async fn run(&self, callers: usize, pairs: u64, keys: i64) {
        let share =
            |caller: usize| pairs / callers as u64 + u64::from((caller as u64) < pairs % callers as u64);
        join_all((0..callers).map(|caller| async move {
            let ledger = self.instance.ledger();
            for _ in 0..share(caller) {
                let key_id = rand::rng().random_range(1..=keys);
                let hold = ledger.hold(self.request(ledger, key_id)).await.expect("held");
                let settlement = Resolution {
                    amount: Amount::Settle(40),
                    outcome: Outcome::Complete,
                    ..Resolution::release(hold.charge_id())
                };
                hold.resolve(settlement).await.expect("settled");
            }
        }))
        .await;
    }
}

/// SQL that makes keys and settled charges at once; their sums are not kept true, no doctor looks here.
fn fill(engine: Engine, user_id: i64, price_id: i64, keys: i64, charges: i64) -> String {
    let series = |n: i64| match engine {
        Engine::Sqlite => format!(
            "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {n}) SELECT i FROM s"
        ),
        Engine::Postgres => format!("SELECT generate_series(1::bigint, {n}) AS i"),
    };
    let digest = match engine {
        Engine::Sqlite => "randomblob(32)",
        Engine::Postgres => "decode(lpad(to_hex(s.i), 64, '0'), 'hex')",
    };
    let (key_series, charge_series) = (series(keys), series(charges.max(1)));
    let mut sql = format!(
        "INSERT INTO api_keys (user_id, group_id, name, digest, ciphertext, last4, created_at_ms) \
         SELECT {user_id}, 1, 'k' || s.i, {digest}, {digest}, 'abcd', s.i FROM ({key_series}) s; \
         INSERT INTO key_credits (key_id) SELECT id FROM api_keys;"
    );
    if charges > 0 {
        sql.push_str(&format!(
            "INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, \
             state, held_micros, settled_micros, input_held_micros, outcome, created_at_ms, resolved_at_ms) \
             SELECT s.i, {user_id}, 1 + (s.i * 7919) % {keys}, 'k', 'm', {price_id}, 1000000, 1, 'settled', 100, 40, \
             10, 'complete', s.i, s.i FROM ({charge_series}) s;"
        ));
    }
    if engine == Engine::Postgres {
        sql.push_str("ANALYZE;");
    }
    sql
}

/// What `/proc/PROCESS/stat` says behind the name in parentheses; the first field there is the state (proc(5)).
fn stat_of(process: &str) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// CPU time of a process and its threads, user and system; `None` once it is gone.
fn cpu_of(process: &str) -> Option<Duration> {
    let stat = stat_of(process)?;
    let ticks: u32 = stat.get(11)?.parse::<u32>().ok()? + stat.get(12)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

/// The process whose children are the backends of the database's server; `None` for SQLite.
fn server_of(database: &Database) -> Option<String> {
    let Connection::Postgres(mut connection) = database.url.connect().expect("connected") else {
        return None;
    };
    let backend: i32 = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("pg_backend_pid()"))
        .get_result(&mut connection)
        .expect("a process id");
    Some(stat_of(&backend.to_string()).expect("on this machine")[1].clone())
}

/// CPU time of a server and its children.
fn server_cpu(server: Option<&String>) -> Duration {
    let Some(server) = server else { return Duration::ZERO };
    let is_its = |process: &String| {
        process == server || stat_of(process).is_some_and(|stat| stat.get(1) == Some(server))
    };
    fs::read_dir("/proc")
        .expect("Linux")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(is_its)
        .filter_map(|process| cpu_of(&process))
        .sum()
}

fn measure(criterion: &mut Criterion, engine: Engine, stored: (&str, i64, i64), table: &mut Vec<Measured>) {
    let (store_name, stored_keys, stored_charges) = stored;
    eprintln!("filling {engine:?} with {stored_keys} keys and {stored_charges} charges …");
    let bench = Bench::new(engine, stored_keys, stored_charges);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (key_name, keys) in [("one hot key", 1), ("10 000 keys", KEYS), ("1 000 000 keys", STORED_KEYS)] {
        if keys > stored_keys {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("{engine:?}, {store_name}, {key_name}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(3));
        group.throughput(criterion::Throughput::Elements(1));
        for callers in CALLERS {
            let mut measured = Measured {
                name: format!("{engine:?} | {store_name} | {key_name} | {callers}"),
                pairs: 0,
                wall: Duration::ZERO,
                own_cpu: Duration::ZERO,
                server_cpu: Duration::ZERO,
            };
            group.bench_function(BenchmarkId::from_parameter(callers), |bencher| {
                bencher.iter_custom(|pairs| {
                    // Every caller has something to do in each sample.
                    let pairs = pairs.max(callers as u64);
                    let (own, server) = (cpu_of("self").expect("alive"), server_cpu(bench.server.as_ref()));
                    let started = Instant::now();
                    runtime.block_on(bench.run(callers, pairs, keys));
                    let wall = started.elapsed();
                    measured.pairs += pairs;
                    measured.wall += wall;
                    measured.own_cpu += cpu_of("self").expect("alive") - own;
                    measured.server_cpu += server_cpu(bench.server.as_ref()).saturating_sub(server);
                    wall
                });
            });
            table.push(measured);
        }
        group.finish();
    }
    bench.instance.stop();
}

fn print(table: &[Measured]) {
    println!(
        "\n| engine | stored | keys in use | callers | pairs/s | ms a pair | CPU µs a pair | of that PostgreSQL |"
    );
    println!("|---|---|---|---:|---:|---:|---:|---:|");
    for line in table.iter().filter(|line| line.pairs > 0) {
        let pairs = line.pairs as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / pairs;
        let callers: f64 = line.name.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1.0);
        println!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.0} |",
            line.name,
            pairs / line.wall.as_secs_f64(),
            micros(line.wall) * callers / 1e3,
            micros(line.own_cpu) + micros(line.server_cpu),
            micros(line.server_cpu),
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Vec::new();
    for engine in engines() {
        measure(&mut criterion, engine, ("empty", KEYS, 0), &mut table);
        if std::env::var_os("KEYHOUSE_BENCH_FULL").is_some() {
            let full = ("1 M keys, 10 M charges", STORED_KEYS, STORED_CHARGES);
            measure(&mut criterion, engine, full, &mut table);
        }
    }
    print(&table);
    criterion.final_summary();
}
