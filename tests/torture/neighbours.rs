//! Several servers over one PostgreSQL: a dead one's holds are resolved by those that live, and only a dead one's.

use crate::audit::{RESOLVED_WITHIN, charges_of, settle_accounts};
use crate::callers::{Load, Plan};
use crate::cluster::Cluster;
use crate::database::{Engine, engines};
use crate::seed::SeededKey;
use crate::site::{PRICE, Server, Site};
use crate::{CYCLES_FULL, cycles, dice, within};
use keyhouse::store::charges::{Charge, state};
use std::slice::from_ref;
use std::time::{Duration, Instant};

fn plan(server: &Server, key: &SeededKey, callers: usize) -> Plan {
    Plan { urls: vec![server.url.clone()], secrets: vec![key.secret.clone()], model: "slow", callers }
}

fn interrupted(charges: impl IntoIterator<Item = Charge>) -> Vec<Charge> {
    charges.into_iter().filter(|charge| charge.outcome.as_deref() == Some("interrupted")).collect()
}

#[test]
fn a_dead_servers_holds_are_resolved_by_its_neighbour_within_a_minute() {
    if !engines().contains(&Engine::Postgres) {
        return eprintln!("neighbours: skipped, no PostgreSQL is named");
    }
    let mut dice = dice("a dead neighbour");
    let site = Site::new(Engine::Postgres);
    let keys = site.keys(2);
    let echo = site.seed.echo("echo", 300);
    site.seed.model("slow", PRICE, 1_000, &[echo]);
    let (mut dying, living) = (site.serve(), site.serve());
    let (of_dying, of_living) = (&keys[0], &keys[1]);
    let doomed = Load::start(plan(&dying, of_dying, 12), &mut dice);
    let spared = Load::start(plan(&living, of_living, 12), &mut dice);
    let held =
        |key| charges_of(&site, from_ref(key)).into_values().filter(|c| c.state == state::HELD).count();
    within(Duration::from_secs(20), "calls are on their way", || (held(of_dying) >= 8).then_some(()));
    dying.kill();
    let killed = Instant::now();
    let left_open = held(of_dying);
    within(RESOLVED_WITHIN, "the neighbour resolves them", || (held(of_dying) == 0).then_some(()));
    eprintln!("a dead neighbour: {left_open} holds resolved {:?} after its death", killed.elapsed());
    let mut calls = doomed.stop();
    calls.extend(spared.stop());
    settle_accounts("a dead neighbour", &site, &keys, &calls);
    let of_dead = interrupted(charges_of(&site, from_ref(of_dying)).into_values());
    assert_eq!(of_dead.len(), left_open);
    assert!(of_dead.iter().all(|charge| (1..charge.held_micros).contains(&charge.settled_micros)));
    let of_alive = interrupted(charges_of(&site, from_ref(of_living)).into_values());
    assert!(of_alive.is_empty(), "a living server's calls were taken for dead: {of_alive:?}");
}

/// Nobody can heartbeat while the database is away: that is no sign of death.
#[test]
fn an_outage_longer_than_any_silence_makes_no_living_server_dead() {
    if !engines().contains(&Engine::Postgres) || cycles() < CYCLES_FULL {
        return eprintln!("a long outage: skipped, it takes two minutes; `make torture` runs it");
    }
    let mut dice = dice("a long outage");
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = Site::over(folder.path(), Some(&cluster.url()));
    let keys = site.keys(2);
    // Streams that outlast the outage.
    let echo = site.seed.echo("echo", 2_800);
    site.seed.model("slow", PRICE, 1_000, &[echo]);
    let servers = [site.serve(), site.serve()];
    let loads = [0, 1].map(|n| Load::start(plan(&servers[n], &keys[n], 30), &mut dice));
    std::thread::sleep(Duration::from_secs(3));
    cluster.stop();
    std::thread::sleep(Duration::from_secs(33));
    cluster.begin();
    let back = Instant::now();
    within(Duration::from_secs(60), "calls are answered", || {
        loads.iter().all(|load| load.is_served_since(back)).then_some(())
    });
    let calls: Vec<_> = loads.into_iter().flat_map(Load::stop).collect();
    settle_accounts("a long outage", &site, &keys, &calls);
    assert_eq!(interrupted(charges_of(&site, &keys).into_values()), Vec::new());
}
