//! The queue is bounded: who comes when it is full is told so at once, and nothing of it stays behind.

use super::{Bench, Engine, block_on, engines};
use diesel::connection::SimpleConnection;
use futures_util::future::join_all;
use keyhouse::ledger::{HoldError, HoldRequest, LedgerError, WAITING_HOLDS_MAX};
use std::time::{Duration, Instant};

const TOO_MANY: usize = 100;

#[test]
fn calls_beyond_the_queues_bound_are_turned_away_at_once() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let key = bench.key(None);
        let instance = bench.instance();
        let request = bench.request(instance.ledger(), key, 1);
        // Somebody else has what the writer needs.
        let mut other = bench.database.url.connect().expect("connected");
        let occupy = match engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN; SELECT 1 FROM users FOR UPDATE",
        };
        other.batch_execute(occupy).expect("occupied");
        let ledger = instance.ledger();
        let answers = block_on(join_all((0..WAITING_HOLDS_MAX + TOO_MANY).map(|_| {
            let request = HoldRequest { charge_id: ledger.next_charge_id(), ..request.clone() };
            async move {
                let begun = Instant::now();
                (ledger.hold(request).await.map(drop), begun.elapsed())
            }
        })));
        let refused = |error| Err(HoldError::Failed(error));
        let (busy, waited): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(answer, _)| *answer == refused(LedgerError::Busy));
        assert_eq!(busy.len(), TOO_MANY, "{engine:?}");
        assert!(busy.iter().all(|(_, waited)| *waited < Duration::from_millis(200)));
        assert!(waited.iter().all(|(answer, _)| *answer == refused(LedgerError::Unavailable)));
        assert!(waited.iter().all(|(_, waited)| *waited < Duration::from_secs(5)));

        other.batch_execute("ROLLBACK").expect("free again");
        let deadline = Instant::now() + Duration::from_secs(60);
        let served = || {
            let request = HoldRequest { charge_id: ledger.next_charge_id(), ..request.clone() };
            block_on(ledger.hold(request)).is_ok()
        };
        while !served() {
            assert!(Instant::now() < deadline, "{engine:?}: it does not come back");
        }
        while bench.used_and_held(key) != (0, 0) {
            assert!(Instant::now() < deadline, "{engine:?}: {:?} stays held", bench.used_and_held(key));
            std::thread::sleep(Duration::from_millis(20));
        }
        instance.stop();
        bench.is_healthy();
    }
}
