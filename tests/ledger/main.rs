//! The ledger over a real database, on both engines: races, double ends, crashes.

mod beliefs;
#[path = "../support/database.rs"]
mod database;
mod outages;
mod plans;
mod queue;
mod usage;

use database::{Database, Engine, engines};
use keyhouse::domain::credits::Credits;
use keyhouse::domain::group;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::models::ModelName;
use keyhouse::domain::price::Price;
use keyhouse::domain::secret::KeySecret;
use keyhouse::domain::user::UserName;
use keyhouse::ledger::{
    Amount, HoldError, HoldRequest, Instance, Ledger, LedgerError, OpenHold, Outcome, Refusal, Resolution,
    Resolved,
};
use keyhouse::store::audit::Actor;
use keyhouse::store::{DatabaseUrl, Store, doctor, grants, groups, keys, models, users};
use std::time::{Duration, Instant};

/// The fingerprint of everybody's.
const MASTER_KEY: &str = "0123";
const NOW_MS: i64 = 1_790_000_000_000;

/// A database with one account of 1 credit and one model.
struct Bench {
    database: Database,
    store: Store,
    user_id: i64,
}

impl Bench {
    fn new(engine: Engine) -> Self {
        let database = Database::new(engine);
        let store = Store::open(&database.url).expect("the store opens");
        let user_id = account(&store, "ada");
        let made = store.with(|c| {
            let model = models::NewModel {
                name: &ModelName::parse("m").expect("valid"),
                max_output_tokens: 100,
                price: Price::default(),
                routes: &[],
            };
            models::create(c, &model, &Actor::cli(), NOW_MS)
        });
        made.expect("a model is made");
        Self { database, store, user_id }
    }

    fn key(&self, limit: Option<&str>) -> i64 {
        let settings = KeyDraft { name: "k", credit_limit: limit, ..KeyDraft::default() }
            .parse(NOW_MS, None)
            .expect("valid");
        let secret = KeySecret::generate();
        let made = self.store.with(|c| {
            let group_id = groups::find_by_name(c, group::DEFAULT)?.id;
            let new = keys::NewKey {
                user_id: self.user_id,
                group_id,
                settings: &settings,
                secret: &secret,
                ciphertext: &[0],
            };
            keys::create(c, &new, &Actor::cli(), NOW_MS)
        });
        made.expect("a key is made")
    }

    fn request(&self, ledger: &Ledger, key_id: i64, micros: i64) -> HoldRequest {
        let read = self.store.with(|c| {
            let (key, group) = keys::find(c, self.user_id, key_id)?;
            let offer = models::find_offer(c, "m")?;
            let user = users::find(c, self.user_id)?;
            Ok(HoldRequest {
                charge_id: ledger.next_charge_id(),
                key_id,
                key_revision: key.revision,
                user_id: user.id,
                user_revision: user.revision,
                group_id: group.id,
                group_revision: group.revision,
                model_id: offer.model.id,
                model_revision: offer.model.revision,
                held_micros: micros,
                input_held_micros: micros / 4,
                price_id: offer.price.id,
                multiplier_micros: group.multiplier_micros,
                key_name: key.name,
                model: offer.model.name,
            })
        });
        read.expect("rows are there")
    }

    fn instance(&self) -> Instance {
        Instance::start(&self.store, MASTER_KEY).expect("an instance starts")
    }

    /// A whole call: so much is held, and so much of that settled.
    fn call(&self, instance: &Instance, key_id: i64, held_micros: i64, settled_micros: i64) -> Resolved {
        block_on(async {
            let request = self.request(instance.ledger(), key_id, held_micros);
            let hold = instance.ledger().hold(request).await.expect("held");
            let end = settle(&hold, settled_micros);
            hold.resolve(end).await.expect("settled")
        })
    }

    /// As many as the engine allows to race: SQLite one, PostgreSQL two.
    fn rivals(&self, engine: Engine) -> Vec<Instance> {
        (0..if engine == Engine::Postgres { 2 } else { 1 }).map(|_| self.instance()).collect()
    }

    fn used_and_held(&self, key_id: i64) -> (i64, i64) {
        let (key, _) = self.store.with(|c| keys::find(c, self.user_id, key_id)).expect("a key");
        (key.credits_used_micros, key.credits_held_micros)
    }

    fn balance_and_held(&self) -> (i64, i64) {
        let user = self.store.with(|c| users::find(c, self.user_id)).expect("a user");
        (user.balance_micros, user.held_micros)
    }

    fn is_healthy(&self) {
        let diagnosis = self.store.with(doctor::examine).expect("examined");
        assert_eq!(diagnosis.breaches, Vec::new());
    }
}

/// Makes an account of 1 credit.
fn account(store: &Store, name: &str) -> i64 {
    let made = store.with(|c| {
        let name = UserName::parse(name).expect("valid");
        let new = users::NewUser { name, password_hash: None, is_admin: false };
        let user_id = users::create(c, &new, &Actor::cli(), NOW_MS)?;
        grants::grant(c, user_id, Credits::from_micros(1_000_000), "", &Actor::cli(), NOW_MS)?;
        Ok(user_id)
    });
    made.expect("an account is made")
}

fn settle(hold: &OpenHold, micros: i64) -> Resolution {
    Resolution {
        amount: Amount::Settle(micros),
        outcome: Outcome::Complete,
        ..Resolution::release(hold.charge_id())
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// So many holds at once, in turns of sixteen by each of the rivals.
async fn all_at_once(
    rivals: &[Instance],
    count: usize,
    request: impl Fn(&Ledger, usize) -> HoldRequest,
) -> Vec<Result<OpenHold, HoldError>> {
    let ledger_of = |n: usize| rivals[n / 16 % rivals.len()].ledger();
    let requests: Vec<_> = (0..count).map(|n| (ledger_of(n).clone(), request(ledger_of(n), n))).collect();
    let hold = |(ledger, request): (Ledger, HoldRequest)| async move { ledger.hold(request).await };
    let calls: Vec<_> = requests.into_iter().map(|call| tokio::spawn(hold(call))).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("no call panics"));
    }
    answers
}

#[test]
fn of_256_calls_on_credit_for_one_exactly_one_passes() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let key = bench.key(Some("0.0001"));
        let answers = block_on(all_at_once(&rivals, 256, |ledger, _| bench.request(ledger, key, 100)));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{engine:?}");
        assert!(
            answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .all(|error| *error == HoldError::Refused(Refusal::KeyLimit { available_micros: 0 }))
        );
        drop(answers);
        rivals.into_iter().for_each(Instance::stop);
        assert_eq!(bench.used_and_held(key), (0, 0), "dropped holds are released");
        bench.is_healthy();
    }
}

#[test]
fn sixteen_keys_racing_for_the_last_credits_never_pass_the_balance() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let keys: Vec<i64> = (0..16).map(|_| bench.key(None)).collect();
        // 160 calls of 0.03 credits on a balance of 1: thirty-three fit.
        let request = |ledger: &Ledger, n: usize| bench.request(ledger, keys[n % 16], 30_000);
        let answers = block_on(all_at_once(&rivals, 160, request));
        let held: Vec<OpenHold> = answers.into_iter().filter_map(Result::ok).collect();
        assert_eq!(held.len(), 33, "{engine:?}");
        block_on(async {
            for hold in held {
                let settlement = settle(&hold, 30_000);
                let resolved = hold.resolve(settlement).await;
                assert!(matches!(resolved, Ok(Resolved::Now { settled_micros: 30_000, .. })), "{resolved:?}");
            }
        });
        assert_eq!(bench.balance_and_held(), (10_000, 0));
        rivals.into_iter().for_each(Instance::stop);
        bench.is_healthy();
    }
}

#[test]
fn two_instances_share_one_limit() {
    for engine in engines().into_iter().filter(|engine| *engine == Engine::Postgres) {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let key = bench.key(Some("0.001"));
        let answers = block_on(all_at_once(&rivals, 128, |ledger, _| bench.request(ledger, key, 100)));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
        drop(answers);
        rivals.into_iter().for_each(Instance::stop);
        bench.is_healthy();
    }
}

#[test]
fn settling_twice_charges_once_and_never_more_than_was_held() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let instance = bench.instance();
        let key = bench.key(None);
        block_on(async {
            let hold =
                instance.ledger().hold(bench.request(instance.ledger(), key, 100)).await.expect("held");
            assert_eq!(bench.used_and_held(key), (0, 100));
            let (first, second) = (settle(&hold, 1_000), settle(&hold, 7));
            let charge_id = hold.charge_id();
            let resolved = hold.resolve(first).await;
            assert!(matches!(resolved, Ok(Resolved::Now { settled_micros: 100, .. })), "{resolved:?}");
            // The same charge once more, as a late settle after a sweep would.
            assert_eq!(instance.ledger().resolve(second).await, Ok(Resolved::Before));
            let release = Resolution::release(charge_id);
            assert_eq!(instance.ledger().resolve(release).await, Ok(Resolved::Before));
        });
        assert_eq!(bench.used_and_held(key), (100, 0));
        assert_eq!(bench.balance_and_held(), (999_900, 0));
        instance.stop();
        bench.is_healthy();
    }
}

#[test]
fn a_key_disabled_after_it_was_read_holds_nothing() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let instance = bench.instance();
        let key = bench.key(None);
        let request = bench.request(instance.ledger(), key, 100);
        bench
            .store
            .with(|c| keys::set_enabled(c, bench.user_id, key, false, &Actor::cli(), NOW_MS))
            .expect("disabled");
        let refused = block_on(instance.ledger().hold(request)).expect_err("stale");
        assert_eq!(refused, HoldError::Refused(Refusal::Stale));
        instance.stop();
    }
}

#[test]
fn on_postgres_a_key_is_deleted_behind_whoever_has_locked_its_account() {
    use diesel::connection::SimpleConnection;
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let bench = Bench::new(Engine::Postgres);
    let key_id = bench.key(None);
    let (deleted, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let moving = bench.store.with(|ledger| {
            ledger.write(|ledger| {
                let lock = format!("SELECT 1 FROM users WHERE id = {} FOR NO KEY UPDATE", bench.user_id);
                ledger.batch_execute(&lock)?;
                scope.spawn(|| {
                    let gone =
                        bench.store.with(|c| keys::delete(c, bench.user_id, key_id, &Actor::cli(), NOW_MS));
                    deleted.send(gone)
                });
                assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "it did not wait");
                Ok(())
            })
        });
        moving.expect("committed");
        let gone = told.recv_timeout(Duration::from_secs(5)).expect("deleted soon after");
        gone.expect("deleted");
    });
    assert!(bench.store.with(|c| keys::find(c, bench.user_id, key_id)).is_err());
}

#[test]
fn a_dead_instances_holds_are_settled_at_their_input_part() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let key = bench.key(None);
        let dead = bench.instance();
        block_on(async {
            for _ in 0..600 {
                let hold = dead.ledger().hold(bench.request(dead.ledger(), key, 100)).await.expect("held");
                // As a crash would leave it: neither resolved nor released.
                std::mem::forget(hold);
            }
        });
        dead.stop();
        assert_eq!(bench.used_and_held(key), (0, 60_000));
        let next = bench.instance();
        // On SQLite there is nobody else, so it is done when the next one has started.
        let patience = if engine == Engine::Sqlite { Duration::ZERO } else { Duration::from_secs(60) };
        let deadline = Instant::now() + patience;
        while bench.used_and_held(key).1 > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(bench.used_and_held(key), (15_000, 0), "{engine:?}");
        next.stop();
        bench.is_healthy();
    }
}

#[test]
fn of_two_servers_with_different_master_keys_the_second_is_refused() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let bench = Bench::new(Engine::Postgres);
    let first = bench.instance();
    let refused = Instance::start(&bench.store, "another").map(|_| ()).expect_err("another master key");
    assert!(refused.to_string().contains("master key"), "{refused}");
    let second = bench.instance();
    first.stop();
    second.stop();
    Instance::start(&bench.store, "another").expect("nobody else is there").stop();
}

#[test]
fn a_second_server_on_one_sqlite_file_is_refused() {
    let bench = Bench::new(Engine::Sqlite);
    let instance = bench.instance();
    let refused = Instance::start(&bench.store, MASTER_KEY).map(|_| ()).expect_err("locked");
    assert!(refused.to_string().contains("another server"), "{refused}");
    instance.stop();
    bench.instance().stop();
}

#[test]
fn a_second_server_is_refused_by_whichever_path_it_comes() {
    let bench = Bench::new(Engine::Sqlite);
    let instance = bench.instance();
    let DatabaseUrl::Sqlite(path) = bench.store.url() else { panic!("a file") };
    let elsewhere = tempfile::tempdir().expect("a folder");
    let link = elsewhere.path().join("linked.db");
    std::os::unix::fs::symlink(path.canonicalize().expect("there"), &link).expect("linked");
    let linked = Store::open(&DatabaseUrl::Sqlite(link)).expect("opened");
    let refused = Instance::start(&linked, MASTER_KEY).map(|_| ()).expect_err("locked");
    assert!(refused.to_string().contains("another server"), "{refused}");
    let link = bench.database.path("hard.db");
    std::fs::hard_link(path, &link).expect("linked");
    for name in [path, &link] {
        let refused = Store::open(&DatabaseUrl::Sqlite(name.clone())).map(|_| ()).expect_err("two names");
        assert!(refused.to_string().contains("a hard link"), "{refused}");
    }
    std::fs::remove_file(link).expect("removed");
    instance.stop();
    Store::open(bench.store.url()).expect("one name");
}

#[test]
fn a_resolution_that_the_database_refuses_is_tried_until_it_takes_it() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let (key, instance) = (bench.key(None), bench.instance());
        let hold = |micros| {
            let request = bench.request(instance.ledger(), key, micros);
            block_on(instance.ledger().hold(request)).expect("held")
        };
        let (one, other) = (hold(10_000), hold(1_000));
        let refuse = format!("WHEN (NEW.id = {} AND NEW.state <> 'held')", one.charge_id());
        let (on, off) = match engine {
            Engine::Sqlite => (
                format!(
                    "CREATE TRIGGER no BEFORE UPDATE ON charges {refuse} BEGIN SELECT RAISE(ABORT, 'nein'); END"
                ),
                "DROP TRIGGER no",
            ),
            Engine::Postgres => (
                format!(
                    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nein'; END $$; \
                     CREATE TRIGGER no BEFORE UPDATE ON charges FOR EACH ROW {refuse} EXECUTE FUNCTION no()"
                ),
                "DROP TRIGGER no ON charges",
            ),
        };
        tamper(&bench.database, &on);
        let end = settle(&one, 7_000);
        assert_eq!(block_on(one.resolve(end)), Err(LedgerError::Unavailable));
        let end = settle(&other, 500);
        assert!(block_on(other.resolve(end)).is_ok(), "others go on");
        assert_eq!(bench.used_and_held(key), (500, 10_000));
        tamper(&bench.database, off);
        let begun = Instant::now();
        while bench.used_and_held(key) != (7_500, 0) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is not settled");
            std::thread::sleep(Duration::from_millis(100));
        }
        instance.stop();
        bench.is_healthy();
    }
}

#[test]
fn the_doctor_finds_a_key_without_its_credits_and_usage_without_its_progress() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let key = bench.key(None);
        tamper(&bench.database, "DELETE FROM key_credits");
        tamper(&bench.database, "DELETE FROM usage_progress");
        let breaches = bench.store.with(doctor::examine).expect("examined").breaches;
        let lines: Vec<String> = breaches.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                format!(
                    "key {key} (k): its account, its group and its credits are there: stored 3, proven 2"
                ),
                "usage: how far it is summed up is known: stored 0, proven 1".into(),
            ]
        );
    }
}

#[test]
fn on_sqlite_the_keys_in_use_lie_together_behind_the_others() {
    let bench = Bench::new(Engine::Sqlite);
    let keys = [bench.key(None), bench.key(None), bench.key(None)];
    let [one, two, three] = keys;
    let instance = bench.instance();
    let call = |key: i64| bench.call(&instance, key, 10, 7);
    assert_eq!(places(&bench.database), [one, two, three]);
    call(one);
    call(two);
    assert_eq!(places(&bench.database), [three, one, two]);
    call(one);
    assert_eq!(places(&bench.database), [three, one, two], "in use already");
    tamper(&bench.database, &format!("UPDATE key_credits SET last_used_at_ms = 1 WHERE key_id = {one}"));
    call(one);
    assert_eq!(places(&bench.database), [three, two, one]);
    assert_eq!(keys.map(|key| bench.used_and_held(key)), [(21, 0), (7, 0), (0, 0)]);
    instance.stop();
    bench.is_healthy();
}

/// The keys in the order in which their credits lie on SQLite's pages.
fn places(database: &Database) -> Vec<i64> {
    use diesel::prelude::*;
    #[derive(QueryableByName)]
    struct Place {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        key_id: i64,
    }
    let keyhouse::store::Connection::Sqlite(mut connection) = database.url.connect().expect("connected")
    else {
        return vec![];
    };
    let places =
        diesel::sql_query("SELECT key_id FROM key_credits ORDER BY rowid").load::<Place>(&mut connection);
    places.expect("asked").iter().map(|place| place.key_id).collect()
}

#[test]
fn the_doctor_names_each_breach_with_its_amounts() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let key = bench.key(None);
        bench.is_healthy();
        tamper(&bench.database, "UPDATE users SET balance_micros = balance_micros + 1");
        tamper(&bench.database, "UPDATE key_credits SET credits_used_micros = 5");
        let breaches = bench.store.with(doctor::examine).expect("examined").breaches;
        let lines: Vec<String> = breaches.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                format!(
                    "account {} (ada): balance = grants − settled: stored 1.000001, proven 1.000000",
                    bench.user_id
                ),
                format!("key {key} (k): used = settled: stored 0.000005, proven 0.000000"),
            ]
        );
    }
}

#[test]
fn the_doctor_finds_a_charge_without_its_account_or_price() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let instance = bench.instance();
        let request = bench.request(instance.ledger(), bench.key(None), 0);
        let hold = block_on(instance.ledger().hold(request)).expect("held");
        let charge_id = hold.charge_id();
        let settled = settle(&hold, 0);
        block_on(hold.resolve(settled)).expect("settled");
        instance.stop();
        bench.is_healthy();
        let unasked = if engine == Engine::Sqlite { "PRAGMA foreign_keys = OFF;" } else { "" };
        tamper(&bench.database, &format!("{unasked} UPDATE charges SET price_id = 77"));
        let breaches = bench.store.with(doctor::examine).expect("examined").breaches;
        let lines: Vec<String> = breaches.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [format!("charge {charge_id}: its account and its price are there: stored 2, proven 1")]
        );
    }
}

fn tamper(database: &Database, statement: &str) {
    use diesel::connection::SimpleConnection;
    database.url.connect().expect("connected").batch_execute(statement).expect("tampered");
}
