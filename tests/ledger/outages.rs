//! PostgreSQL connections cut at random moments: nothing is lost, nothing is charged twice. And rows that somebody
//! keeps locked: nobody else waits for them.

use super::{Bench, Engine, MASTER_KEY, account, block_on, engines, settle};
use diesel::connection::SimpleConnection;
use keyhouse::ledger::{HoldError, Instance, LedgerError, Resolved};
use keyhouse::store::{DatabaseUrl, Store, charges};
use rand::RngExt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A TCP proxy before the database whose connections can all be cut at once.
struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let registry = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                registry.lock().expect("no panic").extend([clone(&client), clone(&server)]);
                let (client_end, server_end) = (clone(&client), clone(&server));
                thread::spawn(move || relay(client, server_end));
                thread::spawn(move || relay(server, client_end));
            }
        });
        Self { port, open }
    }

    fn cut_all(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            // Already closed by its own end: nothing left to cut.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

#[test]
fn cut_connections_lose_and_double_nothing() {
    for engine in engines().into_iter().filter(|engine| *engine == Engine::Postgres) {
        let bench = Bench::new(engine);
        let DatabaseUrl::Postgres(direct) = &bench.database.url else { unreachable!("filtered") };
        let direct_url = url::Url::parse(direct).expect("a URL");
        let host = direct_url.host_str().expect("a host");
        let proxy = Proxy::before(format!("{host}:{}", direct_url.port().unwrap_or(5432)));
        let mut proxied = direct_url.clone();
        proxied.set_port(Some(proxy.port)).expect("a port fits");
        proxied.set_host(Some("127.0.0.1")).expect("a host fits");
        let key = bench.key(None);
        let proxied = Store::open(&DatabaseUrl::Postgres(proxied.into())).expect("opens through the proxy");
        let instance = Instance::start(&proxied, MASTER_KEY).expect("an instance starts");

        let over = AtomicBool::new(false);
        let acknowledged = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    block_on(async {
                        while !over.load(Ordering::Relaxed) {
                            let request = bench.request(instance.ledger(), key, 50);
                            let Ok(hold) = instance.ledger().hold(request).await else { continue };
                            let charge_id = hold.charge_id();
                            let settlement = settle(&hold, 20);
                            match hold.resolve(settlement).await {
                                Ok(Resolved::Now { settled_micros, .. }) => {
                                    assert_eq!(settled_micros, 20);
                                    acknowledged.lock().expect("no panic").push(charge_id);
                                }
                                // Repeated by the writer after its first commit was cut off: charged once.
                                Ok(Resolved::Before) | Err(_) => {}
                                Ok(Resolved::Unknown) => panic!("charge {charge_id} was held and is gone"),
                            }
                        }
                    });
                });
            }
            let end = Instant::now() + Duration::from_secs(4);
            while Instant::now() < end {
                thread::sleep(Duration::from_millis(rand::rng().random_range(1..60)));
                proxy.cut_all();
            }
            over.store(true, Ordering::Relaxed);
        });

        let acknowledged = acknowledged.into_inner().expect("no panic");
        assert!(acknowledged.len() > 10, "only {} calls came through", acknowledged.len());
        let deadline = Instant::now() + Duration::from_secs(20);
        while bench.used_and_held(key).1 > 0 {
            assert!(Instant::now() < deadline, "holds stay open: {:?}", bench.used_and_held(key));
            thread::sleep(Duration::from_millis(20));
        }
        instance.stop();
        bench.is_healthy();
        let stored = bench
            .store
            .with(|c| charges::newest_of_key(c, bench.user_id, key, usize::MAX - 1))
            .expect("read");
        let settled: std::collections::HashSet<i64> = stored
            .iter()
            .filter(|charge| charge.state == charges::state::SETTLED)
            .map(|charge| charge.id)
            .collect();
        assert!(acknowledged.iter().all(|id| settled.contains(id)), "an acknowledged charge is not stored");
    }
}

#[test]
fn whatever_row_somebody_keeps_locked_nobody_else_waits_for_it() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    keep_locked(|ada, _, _| format!("SELECT FROM users WHERE id = {ada} FOR UPDATE"));
    keep_locked(|_, key, _| format!("SELECT FROM key_credits WHERE key_id = {key} FOR UPDATE"));
    keep_locked(|_, key, charge| {
        let of_key = format!("SELECT FROM key_credits WHERE key_id = {key} FOR UPDATE");
        format!("SELECT FROM charges WHERE id = {charge} FOR UPDATE; {of_key}")
    });
}

/// Ada's account and key, whose turn it is, and bob's.
fn two_accounts() -> (Bench, i64, i64, i64, i64) {
    let mut bench = Bench::new(Engine::Postgres);
    let ada = bench.user_id;
    let ada_key = bench.key(None);
    let bob = account(&bench.store, "bob");
    bench.user_id = bob;
    let bob_key = bench.key(None);
    bench.user_id = ada;
    (bench, ada, ada_key, bob, bob_key)
}

/// Somebody locks a row of ada's, of her key's or of a charge of hers that is open, and calls go on.
fn keep_locked(lock: impl FnOnce(i64, i64, i64) -> String) {
    let (mut bench, ada, ada_key, bob, bob_key) = two_accounts();
    let instance = bench.instance();
    let ledger = instance.ledger();
    let hold_of = |bench: &Bench, key_id| {
        let request = bench.request(ledger, key_id, 100);
        block_on(ledger.hold(request))
    };
    let [settled_meanwhile, dropped_meanwhile] = [1, 2].map(|_| hold_of(&bench, ada_key).expect("held"));

    let mut somebody = bench.database.url.connect().expect("connected");
    let lock = lock(ada, ada_key, settled_meanwhile.charge_id());
    let begin = "BEGIN; SET idle_in_transaction_session_timeout = 0";
    somebody.batch_execute(&format!("{begin}; {lock}")).expect("locked");

    // Whoever comes first waits for the lock, and finds out.
    let unavailable = Err(HoldError::Failed(LedgerError::Unavailable));
    assert_eq!(hold_of(&bench, ada_key).map(drop), unavailable);
    let end = settle(&settled_meanwhile, 40);
    let answer = block_on(settled_meanwhile.resolve(end));
    assert_eq!(answer, Err(LedgerError::Unavailable));
    drop(dropped_meanwhile);
    let began = Instant::now();
    for _ in 0..20 {
        bench.user_id = bob;
        bench.call(&instance, bob_key, 100, 30);
        bench.user_id = ada;
        assert_eq!(hold_of(&bench, ada_key).map(drop), unavailable);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "others waited: {:?}", began.elapsed());
    assert_eq!(bench.used_and_held(ada_key), (0, 200));

    somebody.batch_execute("COMMIT").expect("unlocked");
    bench.call(&instance, ada_key, 100, 5);
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.used_and_held(ada_key) != (45, 0) {
        assert!(Instant::now() < deadline, "left as it was: {:?}", bench.used_and_held(ada_key));
        thread::sleep(Duration::from_millis(50));
    }
    bench.user_id = bob;
    assert_eq!(bench.used_and_held(bob_key), (600, 0));
    instance.stop();
    bench.is_healthy();
}

#[test]
fn holds_of_a_dead_instance_that_must_wait_keep_no_others_waiting() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let (mut bench, ada, ada_key, bob, bob_key) = two_accounts();
    let dead = bench.instance();
    // More than are swept at a time, those that must wait first.
    for (user_id, key_id, holds) in [(ada, ada_key, 300), (bob, bob_key, 3)] {
        bench.user_id = user_id;
        for _ in 0..holds {
            let hold = block_on(dead.ledger().hold(bench.request(dead.ledger(), key_id, 100))).expect("held");
            std::mem::forget(hold);
        }
    }
    dead.stop();
    let mut somebody = bench.database.url.connect().expect("connected");
    let lock = format!(
        "BEGIN; SET idle_in_transaction_session_timeout = 0; SELECT FROM users WHERE id = {ada} FOR UPDATE"
    );
    somebody.batch_execute(&lock).expect("locked");

    let next = bench.instance();
    let swept = |bench: &Bench, key_id, expected| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while bench.used_and_held(key_id) != expected {
            assert!(Instant::now() < deadline, "left as it was: {:?}", bench.used_and_held(key_id));
            thread::sleep(Duration::from_millis(100));
        }
    };
    swept(&bench, bob_key, (75, 0));
    bench.user_id = ada;
    assert_eq!(bench.used_and_held(ada_key), (0, 30_000));
    somebody.batch_execute("COMMIT").expect("unlocked");
    swept(&bench, ada_key, (7_500, 0));
    next.stop();
    bench.is_healthy();
}
