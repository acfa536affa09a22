//! `kill -9` at any moment, again and again: every law holds after each start, and every answer is charged once.

use crate::audit::{charges_of, settle_accounts};
use crate::callers::{Load, Plan};
use crate::database::{Engine, engines};
use crate::site::{PRICE, Server, Site};
use crate::{cycles, dice};
use keyhouse::store::charges::state;
use rand::RngExt;
use std::time::Duration;

const CALLERS: usize = 24;

#[test]
fn a_server_on_sqlite_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    torture("SQLite", Engine::Sqlite, 1);
}

#[test]
fn a_server_on_postgresql_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    torture("PostgreSQL, one instance", Engine::Postgres, 1);
}

#[test]
fn of_two_servers_on_postgresql_either_may_die_at_any_time() {
    torture("PostgreSQL, two instances", Engine::Postgres, 2);
}

fn torture(name: &str, engine: Engine, instances: usize) {
    if !engines().contains(&engine) {
        return eprintln!("{name}: skipped, no PostgreSQL is named");
    }
    let mut dice = dice(name);
    let site = Site::new(engine);
    let keys = site.keys(4);
    let echo = site.seed.echo("echo", 6);
    site.seed.model("parrot", PRICE, 1_000, &[echo]);
    let mut servers: Vec<Server> = (0..instances).map(|_| site.serve()).collect();
    let plan = Plan {
        urls: servers.iter().map(|server| server.url.clone()).collect(),
        secrets: keys.iter().map(|key| key.secret.clone()).collect(),
        model: "parrot",
        callers: CALLERS,
    };
    let load = Load::start(plan, &mut dice);
    for _ in 0..cycles() {
        std::thread::sleep(Duration::from_millis(dice.random_range(20..700)));
        let victim = &mut servers[dice.random_range(0..instances)];
        victim.kill();
        // What it held stays held while nobody is there to resolve it: the sums are right all the same.
        site.is_sound();
        let left_open = open(&site, &keys);
        victim.start();
        victim.is_ready();
        site.is_sound();
        if engine == Engine::Sqlite {
            let still_open: Vec<i64> =
                open(&site, &keys).into_iter().filter(|id| left_open.contains(id)).collect();
            assert!(still_open.is_empty(), "the start left {still_open:?} open");
        }
    }
    let calls = load.stop();
    settle_accounts(name, &site, &keys, &calls);
    let interrupted =
        |charge: &&keyhouse::store::charges::Charge| charge.outcome.as_deref() == Some("interrupted");
    let charges = charges_of(&site, &keys);
    assert!(charges.values().any(|charge| interrupted(&charge)), "no kill met a call on its way");
    for charge in charges.values().filter(interrupted) {
        assert_eq!(charge.state, state::SETTLED, "{charge:?}");
        assert!((1..charge.held_micros).contains(&charge.settled_micros), "not the input part: {charge:?}");
    }
}

fn open(site: &Site, keys: &[crate::seed::SeededKey]) -> Vec<i64> {
    charges_of(site, keys)
        .into_values()
        .filter(|charge| charge.state == state::HELD)
        .map(|charge| charge.id)
        .collect()
}
