//! The database goes away under load and comes back: meanwhile 503 at once, nothing unmetered, and then all is as before.

use crate::audit::{charges_of, settle_accounts};
use crate::callers::{Call, End, Load, Plan};
use crate::cluster::{Cluster, is_root, succeeds};
use crate::database::{Engine, engines};
use crate::seed::SeededKey;
use crate::site::{PRICE, Server, Site};
use crate::upstream::{Act, Upstream, completion_events};
use crate::{cycles, dice, within};
use rand::rngs::StdRng;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A second, by the contract, and what a busy machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2_500);
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A site with an upstream that remembers every call it got.
struct Scene {
    site: Site,
    keys: Vec<SeededKey>,
    upstream: Upstream,
}

impl Scene {
    fn set(folder: &Path, url: Option<&str>) -> Self {
        let site = Site::over(folder, url);
        let keys = site.keys(3);
        let usage = json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12});
        let events = completion_events(&["one", "two", "three", "four", "five"], Some(usage));
        // Slow enough that every outage meets streams on their way.
        let upstream = Upstream::start(Act::Events {
            piece_bytes: events.len() / 8,
            bytes: events.into_bytes(),
            pause: Duration::from_millis(25),
            cut_at: None,
        });
        let id = site.seed.openai("fake", &upstream.url, "sk-upstream-secret");
        site.seed.model("m", PRICE, 1_000, &[id]);
        Self { site, keys, upstream }
    }

    fn load(&self, servers: &[Server], dice: &mut StdRng) -> Load {
        let plan = Plan {
            urls: servers.iter().map(|server| server.url.clone()).collect(),
            secrets: self.keys.iter().map(|key| key.secret.clone()).collect(),
            model: "m",
            callers: 16,
        };
        Load::start(plan, dice)
    }

    /// Every call that reached the upstream has a charge, and there are no more of them than charges.
    fn nothing_was_unmetered(&self, calls: &[Call]) {
        let charges = charges_of(&self.site, &self.keys);
        let by_tag: HashMap<&str, &Call> = calls.iter().map(|call| (call.tag.as_str(), call)).collect();
        let asked = self.upstream.asked();
        assert!(asked.len() <= charges.len(), "{} calls went up on {} holds", asked.len(), charges.len());
        for asked in &asked {
            let tag = asked.json()["user"].as_str().expect("a tag").to_owned();
            // Who hung up before the answer's head never learnt the id.
            let Some(id) = by_tag[tag.as_str()].request_id else { continue };
            assert!(charges.contains_key(&id), "unmetered: {:?}", by_tag[tag.as_str()]);
        }
        eprintln!("{} calls reached the upstream, each on a hold", asked.len());
    }

    fn tags_asked(&self) -> HashSet<String> {
        self.upstream
            .asked()
            .iter()
            .map(|asked| asked.json()["user"].as_str().expect("a tag").to_owned())
            .collect()
    }
}

/// The calls that began and ended while the database was away: all refused, quickly, and none went up.
fn refused_at_once(what: &str, scene: &Scene, calls: &[Call], (gone, back): (Instant, Instant)) {
    let asked = scene.tags_asked();
    let meanwhile: Vec<&Call> =
        calls.iter().filter(|call| call.started > gone && call.ended < back).collect();
    let refused = meanwhile.iter().filter(|call| call.end == End::Refused(503)).count();
    let slowest = meanwhile.iter().map(|call| call.ended - call.started).max().unwrap_or_default();
    eprintln!(
        "{what}: {} calls meanwhile, {refused} answered 503, the slowest after {slowest:?}",
        meanwhile.len()
    );
    assert!(refused > 0, "{what}: nobody was refused");
    assert!(slowest < ANSWERED_WITHIN, "{what}: a call waited {slowest:?}");
    for call in meanwhile {
        assert!(matches!(call.end, End::Refused(503) | End::HungUp), "{what}: {call:?}");
        assert!(!asked.contains(&call.tag), "{what}: it went up: {call:?}");
    }
}

#[test]
fn postgresql_may_stop_crash_or_freeze_and_nothing_goes_through_unmetered() {
    if !engines().contains(&Engine::Postgres) {
        return eprintln!("PostgreSQL away: skipped, no PostgreSQL is named");
    }
    let mut dice = dice("PostgreSQL away");
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scene = Scene::set(folder.path(), Some(&cluster.url()));
    let servers = [scene.site.serve(), scene.site.serve()];
    let load = scene.load(&servers, &mut dice);
    let mut windows = Vec::new();
    type Change = fn(&Cluster);
    let outages: [(&str, Change, Change); 2] =
        [("stopped", Cluster::stop, Cluster::begin), ("frozen", Cluster::freeze, Cluster::thaw)];
    for round in 0..(cycles() / 6).max(1) {
        for (name, leave, come_back) in outages {
            std::thread::sleep(Duration::from_secs(1));
            leave(&cluster);
            let gone = Instant::now();
            for server in &servers {
                assert_eq!(server.readiness(), Some(503), "{name}");
            }
            std::thread::sleep(Duration::from_secs(4));
            windows.push((format!("{name}, round {round}"), (gone, Instant::now())));
            come_back(&cluster);
            let back = Instant::now();
            within(BACK_WITHIN, "calls are answered", || load.is_served_since(back).then_some(()));
            within(BACK_WITHIN, "the servers are ready", || {
                servers.iter().all(|server| server.readiness() == Some(200)).then_some(())
            });
            eprintln!("{name}: served again {:?} after its return", back.elapsed());
        }
    }
    let calls = load.stop();
    settle_accounts("PostgreSQL away", &scene.site, &scene.keys, &calls);
    scene.nothing_was_unmetered(&calls);
    for (name, window) in windows {
        refused_at_once(&name, &scene, &calls, window);
    }
}

/// A small file system in memory, unmounted with this value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "keyhouse-torture"]).arg(folder.path());
        let is_mounted = is_root() && command.output().is_ok_and(|output| output.status.success());
        is_mounted.then_some(Self(folder))
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.0.path().join("filler")).expect("a file");
        let mut bytes = 64 << 10;
        while bytes > 0 {
            if std::io::Write::write_all(&mut filler, &vec![0; bytes]).is_err() {
                bytes /= 2;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open keeps it.
        succeeds(Command::new("umount").arg("-l").arg(self.0.path()));
    }
}

#[test]
fn a_full_disk_stops_calls_and_not_the_server() {
    let Some(disk) = SmallDisk::mount() else {
        return eprintln!("disk full: skipped, this user may not mount a small disk");
    };
    let mut dice = dice("disk full");
    let scene = Scene::set(disk.0.path(), None);
    let servers = [scene.site.serve()];
    let load = scene.load(&servers, &mut dice);
    let mut windows = Vec::new();
    for round in 0..(cycles() / 6).max(1) {
        std::thread::sleep(Duration::from_secs(1));
        disk.fill();
        // Until the log of SQLite has no room of its own any more, calls may be committed and so go through.
        let filled = Instant::now();
        within(BACK_WITHIN, "the disk is full", || {
            let calls = load.calls();
            let mut late = calls.iter().rev().filter(|call| call.started > filled);
            let is_refusal = |call: &Call| call.end == End::Refused(503);
            (late.clone().count() >= 20
                && late.by_ref().take(20).all(|c| is_refusal(c) || c.end == End::HungUp))
            .then_some(())
        });
        let gone = Instant::now();
        std::thread::sleep(Duration::from_secs(3));
        windows.push((format!("disk full, round {round}"), (gone, Instant::now())));
        disk.free();
        let back = Instant::now();
        within(BACK_WITHIN, "calls are answered", || load.is_served_since(back).then_some(()));
        eprintln!("disk full: served again {:?} after there was room", back.elapsed());
    }
    let calls = load.stop();
    settle_accounts("disk full", &scene.site, &scene.keys, &calls);
    scene.nothing_was_unmetered(&calls);
    for (name, window) in windows {
        refused_at_once(&name, &scene, &calls, window);
    }
}
