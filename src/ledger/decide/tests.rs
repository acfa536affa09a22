//! `decide` against a model of the ledger: random batches from random callers, the laws checked after each.

use super::*;
use proptest::prelude::*;

const KEYS: i64 = 4;
const ACCOUNTS: i64 = 2;

/// The stored rows as a database would have them, changed only by what `decide` gives back.
#[derive(Debug)]
struct Stored {
    rows: Rows,
    settled: BTreeMap<i64, i64>,
    granted: BTreeMap<i64, i64>,
}

#[derive(Debug, Clone)]
enum Step {
    Hold { key: i64, micros: i64, input_share: i64, stale: bool },
    Resolve { pick: usize, amount: Amount },
    Grant { account: i64, micros: i64 },
    Limit { key: i64, limit: Option<i64> },
    Delete { key: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let amount =
        prop_oneof![(-5i64..200).prop_map(Amount::Settle), Just(Amount::SettleInput), Just(Amount::Release)];
    prop_oneof![
        6 => (1..=KEYS, 0i64..120, 0i64..=100, prop::bool::weighted(0.1))
            .prop_map(|(key, micros, input_share, stale)| Step::Hold { key, micros, input_share, stale }),
        6 => (any::<usize>(), amount).prop_map(|(pick, amount)| Step::Resolve { pick, amount }),
        1 => (1..=ACCOUNTS, -100i64..300).prop_map(|(account, micros)| Step::Grant { account, micros }),
        1 => (1..=KEYS, prop::option::of(1i64..400)).prop_map(|(key, limit)| Step::Limit { key, limit }),
        1 => (1..=KEYS).prop_map(|key| Step::Delete { key }),
    ]
}

impl Stored {
    fn new() -> Self {
        let key = |limit| KeyRow {
            revision: 1,
            expires_at_ms: None,
            credit_limit_micros: limit,
            used_micros: 0,
            held_micros: 0,
            last_used_at_ms: None,
        };
        let account = AccountRow { revision: 1, balance_micros: 500, held_micros: 0 };
        let rows = Rows {
            now_ms: 0,
            closing_ms: None,
            keys: (1..=KEYS).map(|id| (id, key((id % 2 == 0).then_some(200)))).collect(),
            accounts: (1..=ACCOUNTS).map(|id| (id, account)).collect(),
            groups: BTreeMap::from([(1, 1)]),
            models: BTreeMap::from([(1, 1)]),
            charges: BTreeMap::new(),
        };
        let granted = (1..=ACCOUNTS).map(|id| (id, 500)).collect();
        Self { rows, settled: BTreeMap::new(), granted }
    }

    fn apply(&mut self, holds: &[HoldRequest], resolutions: &[Resolution]) {
        let mut seen = self.rows.clone();
        let mut changes = Changes::default();
        let resolved = decide_resolutions(&mut seen, resolutions, &mut changes);
        let held = decide_holds(&mut seen, holds, &mut changes);
        assert_eq!(
            resolved.iter().filter(|r| matches!(r, Resolved::Now { .. })).count(),
            changes.closed.len()
        );
        assert_eq!(held.iter().filter(|h| h.is_ok()).count(), changes.opened.len());
        for &(index, settled_micros) in &changes.closed {
            let id = resolutions[index].charge_id;
            let charge = self.rows.charges.get_mut(&id).expect("only stored charges are closed");
            assert!(charge.open, "charge {id} was closed twice");
            charge.open = false;
            assert!((0..=charge.held_micros).contains(&settled_micros));
            self.settled.insert(id, settled_micros);
        }
        for &index in &changes.opened {
            let hold = &holds[index];
            let charge = ChargeRow {
                user_id: hold.user_id,
                key_id: hold.key_id,
                open: true,
                held_micros: hold.held_micros,
                input_held_micros: hold.input_held_micros,
            };
            assert!(self.rows.charges.insert(hold.charge_id, charge).is_none());
        }
        for (id, moved) in &changes.accounts {
            let account = self.rows.accounts.get_mut(id).expect("only stored accounts move");
            account.balance_micros -= moved.settled_micros;
            account.held_micros += moved.held_micros;
        }
        for (id, moved) in &changes.keys {
            let key = self.rows.keys.get_mut(id).expect("only stored keys move");
            key.used_micros += moved.settled_micros;
            key.held_micros += moved.held_micros;
            key.last_used_at_ms = moved.used_now.then_some(self.rows.now_ms).or(key.last_used_at_ms);
        }
        // What decide saw at its end is what the database has now.
        assert_eq!(seen.keys, self.rows.keys);
        assert_eq!(seen.accounts, self.rows.accounts);
        for (hold, decided) in holds.iter().zip(&held) {
            if decided.is_ok() {
                self.check_limit(hold.key_id);
            }
        }
        self.check_sums();
    }

    /// Law 1, for a key, at the moment a hold was made (its limit has not changed since).
    fn check_limit(&self, key_id: i64) {
        let key = self.rows.keys[&key_id];
        if let Some(limit) = key.credit_limit_micros {
            assert!(key.used_micros + key.held_micros <= limit, "key {key_id} overspent: {key:?}");
        }
    }

    /// Laws 1 and 2: sums over the charges are what the rows say.
    fn check_sums(&self) {
        for (&id, account) in &self.rows.accounts {
            let charges = || self.rows.charges.iter().filter(move |(_, charge)| charge.user_id == id);
            let held: i64 = charges().filter(|(_, c)| c.open).map(|(_, c)| c.held_micros).sum();
            let settled: i64 = charges().filter_map(|(id, _)| self.settled.get(id)).sum();
            assert_eq!(account.held_micros, held);
            assert_eq!(account.balance_micros, self.granted[&id] - settled);
            assert!(account.held_micros <= account.balance_micros);
        }
        for (&id, key) in &self.rows.keys {
            let charges = || self.rows.charges.iter().filter(move |(_, charge)| charge.key_id == id);
            let held: i64 = charges().filter(|(_, c)| c.open).map(|(_, c)| c.held_micros).sum();
            let settled: i64 = charges().filter_map(|(id, _)| self.settled.get(id)).sum();
            assert_eq!((key.held_micros, key.used_micros), (held, settled));
        }
    }

    fn hold(&self, charge_id: i64, key: i64, micros: i64, input_share: i64, stale: bool) -> HoldRequest {
        HoldRequest {
            charge_id,
            key_id: key,
            key_revision: self.rows.keys.get(&key).map_or(0, |row| row.revision) - i64::from(stale),
            user_id: 1 + key % ACCOUNTS,
            user_revision: 1,
            group_id: 1,
            group_revision: 1,
            model_id: 1,
            model_revision: 1,
            held_micros: micros,
            input_held_micros: micros * input_share / 100,
            price_id: 1,
            multiplier_micros: 1_000_000,
            key_name: String::new(),
            model: String::new(),
        }
    }

    fn change(&mut self, step: &Step) {
        match *step {
            Step::Grant { account, micros } => {
                let row = self.rows.accounts.get_mut(&account).expect("there");
                if row.balance_micros + micros >= row.held_micros {
                    row.balance_micros += micros;
                    *self.granted.entry(account).or_default() += micros;
                }
            }
            Step::Limit { key, limit } => {
                if let Some(row) = self.rows.keys.get_mut(&key) {
                    row.credit_limit_micros = limit;
                    row.revision += 1;
                }
            }
            Step::Delete { key } => {
                self.rows.keys.remove(&key);
            }
            Step::Hold { .. } | Step::Resolve { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_after_every_batch(batches in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..40)) {
        let mut stored = Stored::new();
        let mut next_charge_id = 1;
        for batch in &batches {
            let (mut holds, mut resolutions) = (Vec::new(), Vec::new());
            for step in batch {
                stored.change(step);
                match *step {
                    Step::Hold { key, micros, input_share, stale } => {
                        holds.push(stored.hold(next_charge_id, key, micros, input_share, stale));
                        next_charge_id += 1;
                    }
                    // Any id that was ever given, open or not, stored or refused: late and double ends included.
                    Step::Resolve { pick, amount } => {
                        let charge_id = i64::try_from(pick % 512).expect("small") % next_charge_id + 1;
                        resolutions.push(Resolution { amount, ..Resolution::release(charge_id) });
                    }
                    _ => {}
                }
            }
            stored.apply(&holds, &resolutions);
        }
    }
}

fn one_hold(stored: &Stored, hold: &HoldRequest) -> Result<Left, Refusal> {
    decide_holds(&mut stored.rows.clone(), std::slice::from_ref(hold), &mut Changes::default()).remove(0)
}

#[test]
fn a_hold_decided_on_old_settings_is_stale() {
    let stored = Stored::new();
    let hold = stored.hold(1, 1, 10, 0, false);
    assert_eq!(one_hold(&stored, &hold), Ok(Left(490)));
    for stale in [
        HoldRequest { key_revision: 2, ..hold.clone() },
        HoldRequest { user_revision: 0, ..hold.clone() },
        HoldRequest { group_revision: 7, ..hold.clone() },
        HoldRequest { model_revision: 0, ..hold.clone() },
        HoldRequest { key_id: 99, ..hold.clone() },
    ] {
        assert_eq!(one_hold(&stored, &stale), Err(Refusal::Stale));
    }
}

#[test]
fn refusals_say_what_is_left() {
    let mut stored = Stored::new();
    assert_eq!(
        one_hold(&stored, &stored.hold(1, 2, 201, 0, false)),
        Err(Refusal::KeyLimit { available_micros: 200 })
    );
    assert_eq!(
        one_hold(&stored, &stored.hold(1, 1, 501, 0, false)),
        Err(Refusal::Account { available_micros: 500 })
    );
    stored.rows.keys.get_mut(&1).expect("there").expires_at_ms = Some(0);
    assert_eq!(one_hold(&stored, &stored.hold(1, 1, 1, 0, false)), Err(Refusal::KeyExpired));
}

#[test]
fn a_used_up_key_refuses_even_what_is_free() {
    let mut stored = Stored::new();
    stored.rows.keys.get_mut(&2).expect("there").used_micros = 200;
    assert_eq!(
        one_hold(&stored, &stored.hold(1, 2, 0, 0, false)),
        Err(Refusal::KeyLimit { available_micros: 0 })
    );
}

#[test]
fn what_is_left_is_the_lesser_of_limit_and_balance_after_the_fact() {
    let mut stored = Stored::new();
    let limited = stored.hold(1, 2, 150, 0, false);
    let unlimited = stored.hold(2, 4, 150, 0, false);
    assert_eq!(one_hold(&stored, &limited), Ok(Left(50)));
    stored.rows.keys.get_mut(&4).expect("there").credit_limit_micros = None;
    assert_eq!(one_hold(&stored, &unlimited), Ok(Left(350)));

    let mut changes = Changes::default();
    assert!(decide_holds(&mut stored.rows, &[limited], &mut changes)[0].is_ok());
    let charge = ChargeRow { user_id: 1, key_id: 2, open: true, held_micros: 150, input_held_micros: 0 };
    stored.rows.charges.insert(1, charge);
    let settle = Resolution { amount: Amount::Settle(30), ..Resolution::release(1) };
    let resolved = decide_resolutions(&mut stored.rows, &[settle], &mut changes);
    assert_eq!(resolved, [Resolved::Now { settled_micros: 30, left: Left(170) }]);
}
