//! A million random steps of `decide` beside a ledger written the obvious way: one command at a time, one account
//! book, no batches. Both must give the same answers and end with the same books.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const STEPS: usize = 1_000_000;
const KEYS: i64 = 8;
const ACCOUNTS: i64 = 3;

/// The obvious ledger.
#[derive(Debug, Default)]
struct Book {
    keys: BTreeMap<i64, KeyRow>,
    accounts: BTreeMap<i64, AccountRow>,
    open: BTreeMap<i64, ChargeRow>,
    last_charge_id: i64,
}

impl Book {
    fn hold(&mut self, hold: &HoldRequest, now_ms: i64) -> Result<(), Refusal> {
        let account = self.accounts.get_mut(&hold.user_id).ok_or(Refusal::Stale)?;
        let key = self.keys.get_mut(&hold.key_id).ok_or(Refusal::Stale)?;
        if key.revision != hold.key_revision || account.revision != hold.user_revision {
            return Err(Refusal::Stale);
        }
        if matches!(key.expires_at_ms, Some(at_ms) if now_ms >= at_ms) {
            return Err(Refusal::KeyExpired);
        }
        if let Some(limit) = key.credit_limit_micros {
            let left = limit - key.used_micros - key.held_micros;
            if limit <= key.used_micros || left < hold.held_micros {
                return Err(Refusal::KeyLimit { available_micros: left.max(0) });
            }
        }
        let left = account.balance_micros - account.held_micros;
        if left < hold.held_micros {
            return Err(Refusal::Account { available_micros: left.max(0) });
        }
        key.held_micros += hold.held_micros;
        key.last_used_at_ms = Some(now_ms);
        account.held_micros += hold.held_micros;
        let charge = ChargeRow {
            user_id: hold.user_id,
            key_id: hold.key_id,
            open: true,
            held_micros: hold.held_micros,
            input_held_micros: hold.input_held_micros,
        };
        self.open.insert(hold.charge_id, charge);
        Ok(())
    }

    fn resolve(&mut self, resolution: &Resolution) -> Option<i64> {
        let charge = self.open.remove(&resolution.charge_id)?;
        let settled = match resolution.amount {
            Amount::Release => 0,
            Amount::SettleInput => charge.input_held_micros,
            Amount::Settle(micros) if micros < 0 => 0,
            Amount::Settle(micros) => micros.min(charge.held_micros),
        };
        let account = self.accounts.get_mut(&charge.user_id).expect("accounts stay");
        account.held_micros -= charge.held_micros;
        account.balance_micros -= settled;
        if let Some(key) = self.keys.get_mut(&charge.key_id) {
            key.held_micros -= charge.held_micros;
            key.used_micros += settled;
        }
        Some(settled)
    }

    /// After a hold.
    fn left(&self, hold: &HoldRequest) -> Left {
        let (key, account) = (&self.keys[&hold.key_id], &self.accounts[&hold.user_id]);
        let of_account = account.balance_micros - account.held_micros;
        let of_key = key.credit_limit_micros.map(|limit| limit - key.used_micros - key.held_micros);
        Left(of_key.unwrap_or(i64::MAX).min(of_account).max(0))
    }

    /// The rows `decide` would be given: those that are there.
    fn rows(&self, now_ms: i64) -> Rows {
        Rows {
            now_ms,
            closing_ms: None,
            keys: self.keys.clone(),
            accounts: self.accounts.clone(),
            groups: BTreeMap::from([(1, 1)]),
            models: BTreeMap::from([(1, 1)]),
            charges: self.open.clone(),
        }
    }
}

/// Somebody else's change between two batches: a key's settings, a grant, a deletion, a new key.
fn disturb(book: &mut Book, rng: &mut StdRng, now_ms: i64) {
    let key_id = rng.random_range(1..=KEYS);
    match rng.random_range(0..6) {
        0 => {
            book.keys.remove(&key_id);
        }
        1 | 2 => {
            let account = book.accounts.get_mut(&rng.random_range(1..=ACCOUNTS)).expect("accounts stay");
            let micros = rng.random_range(-500..2_000);
            if account.balance_micros + micros >= account.held_micros {
                account.balance_micros += micros;
            }
        }
        _ => {
            // A key made again under its old id begins anew, as a new key would; its charges are not its own.
            let fresh = || KeyRow {
                revision: 0,
                expires_at_ms: None,
                credit_limit_micros: None,
                used_micros: 0,
                held_micros: 0,
                last_used_at_ms: None,
            };
            let held = book.open.values().any(|charge| charge.key_id == key_id);
            if !book.keys.contains_key(&key_id) && held {
                return;
            }
            let key = book.keys.entry(key_id).or_insert_with(fresh);
            key.revision += 1;
            key.credit_limit_micros =
                rng.random_bool(0.5).then(|| key.used_micros + rng.random_range(0..600));
            key.expires_at_ms = rng.random_bool(0.2).then(|| now_ms + rng.random_range(-50..200));
        }
    }
}

fn random_hold(book: &mut Book, rng: &mut StdRng) -> HoldRequest {
    book.last_charge_id += 1;
    let key_id = rng.random_range(1..=KEYS);
    let held_micros = rng.random_range(0..150);
    HoldRequest {
        charge_id: book.last_charge_id,
        key_id,
        key_revision: book.keys.get(&key_id).map_or(1, |key| key.revision) - i64::from(rng.random_bool(0.05)),
        user_id: 1 + key_id % ACCOUNTS,
        user_revision: 1,
        group_id: 1,
        group_revision: 1,
        model_id: 1,
        model_revision: 1,
        held_micros,
        input_held_micros: rng.random_range(0..=held_micros),
        price_id: 1,
        multiplier_micros: 1_000_000,
        key_name: String::new(),
        model: String::new(),
    }
}

fn random_resolution(book: &Book, rng: &mut StdRng) -> Resolution {
    // One that is open, or one of the latest: open, just resolved, refused, or never given.
    let recent = book.last_charge_id + 2 - rng.random_range(0..40);
    let oldest_open = book.open.keys().next().copied();
    let charge_id = oldest_open.filter(|_| rng.random_bool(0.4)).unwrap_or(recent);
    let amount = match rng.random_range(0..4) {
        0 => Amount::Release,
        1 => Amount::SettleInput,
        _ => Amount::Settle(rng.random_range(-10..200)),
    };
    Resolution { amount, ..Resolution::release(charge_id) }
}

/// Run again with `KEYHOUSE_SEED=…` to repeat a failure.
#[test]
fn a_million_steps_agree_with_the_obvious_ledger() {
    let seed =
        std::env::var("KEYHOUSE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("KEYHOUSE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut book = Book::default();
    for id in 1..=ACCOUNTS {
        book.accounts.insert(id, AccountRow { revision: 1, balance_micros: 2_000, held_micros: 0 });
    }
    let (mut steps, mut now_ms, mut passed, mut charged) = (0, 0, 0, 0);
    while steps < STEPS {
        now_ms += rng.random_range(0..10);
        disturb(&mut book, &mut rng, now_ms);
        let resolutions: Vec<Resolution> =
            (0..rng.random_range(0..12)).map(|_| random_resolution(&book, &mut rng)).collect();
        let holds: Vec<HoldRequest> =
            (0..rng.random_range(0..12)).map(|_| random_hold(&mut book, &mut rng)).collect();
        steps += 1 + resolutions.len() + holds.len();

        let mut rows = book.rows(now_ms);
        let mut changes = Changes::default();
        let resolved = decide_resolutions(&mut rows, &resolutions, &mut changes);
        let held = decide_holds(&mut rows, &holds, &mut changes);

        for (resolution, answer) in resolutions.iter().zip(resolved) {
            let expected = book.resolve(resolution);
            let answered = match answer {
                Resolved::Now { settled_micros, .. } => Some(settled_micros),
                Resolved::Before | Resolved::Unknown => None,
            };
            assert_eq!(answered, expected, "seed {seed}: {resolution:?}");
            charged += usize::from(expected.is_some());
        }
        for (hold, answer) in holds.iter().zip(held) {
            let expected = book.hold(hold, now_ms).map(|()| book.left(hold));
            assert_eq!(answer, expected, "seed {seed}: {hold:?}");
            passed += usize::from(answer.is_ok());
        }
        assert_eq!(rows.keys, book.keys, "seed {seed}");
        assert_eq!(rows.accounts, book.accounts, "seed {seed}");
        for (id, account) in &book.accounts {
            let open: i64 = book.open.values().filter(|c| c.user_id == *id).map(|c| c.held_micros).sum();
            assert_eq!(account.held_micros, open, "seed {seed}");
            assert!(account.held_micros <= account.balance_micros, "seed {seed}: account {id} overspent");
        }
    }
    // A walk that never got anywhere would prove nothing.
    assert!(passed > STEPS / 50 && charged > STEPS / 50, "seed {seed}: {passed} holds, {charged} ends");
}
