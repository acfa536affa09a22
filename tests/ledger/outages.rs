//! PostgreSQL connections cut at random moments: nothing is lost, nothing is charged twice.

use super::{Bench, Engine, block_on, engines, settle};
use keyhouse::ledger::{Instance, Resolved};
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
        let instance = Instance::start(&proxied).expect("an instance starts");

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
