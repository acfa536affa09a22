//! What the writer knows from earlier batches may be out of date: others spend, edit and resolve behind its back. Each test lets
//! it know its rows first, and then tries to have it act on what it knows.

use super::{Bench, all_at_once, block_on, engines, settle, tamper};
use keyhouse::domain::credits::Credits;
use keyhouse::ledger::{
    HoldError, HoldRequest, Instance, Ledger, Left, OpenHold, Refusal, Resolution, Resolved,
};
use keyhouse::store::audit::Actor;
use keyhouse::store::{grants, keys};
use std::time::Duration;

fn hold(ledger: &Ledger, request: &HoldRequest) -> Result<OpenHold, HoldError> {
    let request = HoldRequest { charge_id: ledger.next_charge_id(), ..request.clone() };
    block_on(ledger.hold(request))
}

/// A call, from its hold to its settlement.
fn spend(ledger: &Ledger, request: &HoldRequest, micros: i64) -> Resolved {
    let held = hold(ledger, &HoldRequest { held_micros: micros, ..request.clone() }).expect("held");
    let end = settle(&held, micros);
    block_on(held.resolve(end)).expect("settled")
}

fn refused(refusal: Refusal) -> Option<HoldError> {
    Some(HoldError::Refused(refusal))
}

#[test]
fn what_another_instance_spent_is_not_spent_again() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let (first, other) = (rivals[0].ledger(), rivals[rivals.len() - 1].ledger());
        let key_id = bench.key(Some("0.001"));
        let request = bench.request(first, key_id, 100);
        assert_eq!(spend(first, &request, 100), Resolved::Now { settled_micros: 100, left: Left(900) });
        assert_eq!(spend(other, &request, 850), Resolved::Now { settled_micros: 850, left: Left(50) });
        let over = hold(first, &request).err();
        assert_eq!(over, refused(Refusal::KeyLimit { available_micros: 50 }), "{engine:?}");
        let fits = hold(first, &HoldRequest { held_micros: 50, input_held_micros: 0, ..request.clone() });
        assert_eq!(fits.map(|hold| hold.left()), Ok(Left(0)));
        rivals.into_iter().for_each(Instance::stop);
        assert_eq!(bench.used_and_held(key_id), (950, 0));
        bench.is_healthy();
    }
}

#[test]
fn what_is_left_counts_what_another_instance_spent() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let (first, other) = (rivals[0].ledger(), rivals[rivals.len() - 1].ledger());
        let limited = bench.request(first, bench.key(Some("0.01")), 100);
        let unlimited = bench.request(first, bench.key(None), 100);
        assert_eq!(spend(first, &limited, 1_000), Resolved::Now { settled_micros: 1_000, left: Left(9_000) });
        let held = hold(first, &limited).expect("held");
        assert_eq!(held.left(), Left(8_900));
        spend(other, &limited, 3_000);
        spend(other, &unlimited, 100_000);
        let end = settle(&held, 50);
        let resolved = block_on(held.resolve(end));
        assert_eq!(resolved, Ok(Resolved::Now { settled_micros: 50, left: Left(5_950) }), "{engine:?}");
        let of_account = 1_000_000 - 1_000 - 3_000 - 100_000 - 50;
        let held = hold(first, &unlimited).expect("held");
        assert_eq!(held.left(), Left(of_account - 100));
        drop(held);
        spend(other, &unlimited, 200_000);
        let held = hold(first, &unlimited).expect("held");
        assert_eq!(held.left(), Left(of_account - 200_000 - 100));
        drop(held);
        rivals.into_iter().for_each(Instance::stop);
        bench.is_healthy();
    }
}

#[test]
fn credits_taken_and_granted_count_from_the_next_hold_on() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let instance = bench.instance();
        let ledger = instance.ledger();
        let request = bench.request(ledger, bench.key(None), 100_000);
        spend(ledger, &request, 100_000);
        let grant = |micros| {
            let amount = Credits::from_micros(micros);
            bench
                .store
                .with(|c| grants::grant(c, bench.user_id, amount, "", &Actor::cli(), 0))
                .expect("granted");
        };
        grant(-850_000);
        let over = hold(ledger, &request).err();
        assert_eq!(over, refused(Refusal::Account { available_micros: 50_000 }), "{engine:?}");
        grant(50_000);
        assert_eq!(hold(ledger, &request).map(|hold| hold.left()), Ok(Left(0)));
        instance.stop();
        bench.is_healthy();
    }
}

#[test]
fn whatever_is_edited_stops_the_next_hold_that_was_decided_before() {
    let edits = [
        "UPDATE api_keys SET enabled = FALSE, revision = revision + 1",
        "UPDATE api_keys SET credit_limit_micros = 1, revision = revision + 1",
        "UPDATE users SET enabled = FALSE, revision = revision + 1",
        "UPDATE groups SET multiplier_micros = 2000000, revision = revision + 1",
        "UPDATE models SET revision = revision + 1",
        "DELETE FROM api_keys",
    ];
    for engine in engines() {
        for edit in edits {
            let bench = Bench::new(engine);
            let instance = bench.instance();
            let request = bench.request(instance.ledger(), bench.key(None), 100);
            spend(instance.ledger(), &request, 100);
            tamper(&bench.database, edit);
            for _ in 0..2 {
                let answer = hold(instance.ledger(), &request).err();
                assert_eq!(answer, refused(Refusal::Stale), "{engine:?}: {edit}");
            }
            instance.stop();
        }
    }
}

#[test]
fn a_key_expires_though_the_writer_knows_it() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let instance = bench.instance();
        let key_id = bench.key(None);
        let expires_at_ms = bench.store.with(|c| c.now_ms()).expect("a moment") + 1_500;
        tamper(&bench.database, &format!("UPDATE api_keys SET expires_at_ms = {expires_at_ms}"));
        let request = bench.request(instance.ledger(), key_id, 100);
        spend(instance.ledger(), &request, 100);
        std::thread::sleep(Duration::from_millis(1_600));
        let answer = hold(instance.ledger(), &request).err();
        assert_eq!(answer, refused(Refusal::KeyExpired), "{engine:?}");
        instance.stop();
        bench.is_healthy();
    }
}

#[test]
fn a_charge_resolved_by_another_instance_is_not_resolved_again() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let (first, other) = (rivals[0].ledger(), rivals[rivals.len() - 1].ledger());
        let key_id = bench.key(None);
        let request = bench.request(first, key_id, 100);
        let held = hold(first, &request).expect("held");
        let swept = block_on(other.resolve(Resolution::interrupted(held.charge_id())));
        assert_eq!(swept, Ok(Resolved::Now { settled_micros: 25, left: Left(999_975) }));
        let end = settle(&held, 70);
        assert_eq!(block_on(held.resolve(end)), Ok(Resolved::Before), "{engine:?}");
        assert_eq!(spend(first, &request, 100), Resolved::Now { settled_micros: 100, left: Left(999_875) });
        rivals.into_iter().for_each(Instance::stop);
        assert_eq!(bench.used_and_held(key_id), (125, 0));
        bench.is_healthy();
    }
}

#[test]
fn a_call_under_way_is_paid_for_though_its_key_was_deleted() {
    for engine in engines() {
        let bench = Bench::new(engine);
        let instance = bench.instance();
        let key_id = bench.key(None);
        let request = bench.request(instance.ledger(), key_id, 100);
        let held = hold(instance.ledger(), &request).expect("held");
        bench.store.with(|c| keys::delete(c, bench.user_id, key_id, &Actor::cli(), 0)).expect("deleted");
        let end = settle(&held, 60);
        let resolved = block_on(held.resolve(end));
        assert_eq!(resolved, Ok(Resolved::Now { settled_micros: 60, left: Left(999_940) }), "{engine:?}");
        assert_eq!(bench.balance_and_held(), (999_940, 0));
        instance.stop();
        bench.is_healthy();
    }
}

#[test]
fn whoever_takes_all_there_is_is_answered_beside_those_who_take_a_little_each_time() {
    const LITTLE: i64 = 1_000;
    for engine in engines() {
        let bench = Bench::new(engine);
        let rivals = bench.rivals(engine);
        let key_id = bench.key(None);
        let rest = Credits::from_micros(50 * LITTLE - 1_000_000);
        bench.store.with(|c| grants::grant(c, bench.user_id, rest, "", &Actor::cli(), 0)).expect("taken");
        let request = bench.request(rivals[0].ledger(), key_id, LITTLE);
        let other = rivals[rivals.len() - 1].ledger();
        let answered = |answer: &Result<OpenHold, HoldError>| {
            matches!(answer, Ok(_) | Err(HoldError::Refused(Refusal::Account { .. })))
        };
        std::thread::scope(|scope| {
            let little: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| assert!((0..400).all(|_| answered(&hold(other, &request))))))
                .collect();
            while little.iter().any(|thread| !thread.is_finished()) {
                let answers = block_on(all_at_once(&rivals[..1], 64, |ledger, _| HoldRequest {
                    charge_id: ledger.next_charge_id(),
                    ..request.clone()
                }));
                assert!(answers.iter().all(answered), "{engine:?}: {answers:?}");
            }
        });
        rivals.into_iter().for_each(Instance::stop);
        assert_eq!(bench.used_and_held(key_id), (0, 0));
        bench.is_healthy();
    }
}
