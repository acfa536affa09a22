//! The way to PostgreSQL by TLS, with the server's certificate checked.

use crate::callers::{End, Load, Plan};
use crate::cluster::Cluster;
use crate::database::{Engine, engines};
use crate::dice;
use crate::site::{PRICE, Place, Site};
use std::time::Duration;

#[test]
fn a_server_that_talks_tls_alone_is_served_and_a_stranger_in_its_place_is_not() {
    if !engines().contains(&Engine::Postgres) {
        return eprintln!("encryption: skipped, no PostgreSQL is named");
    }
    let mut dice = dice("encryption");
    let cluster = Cluster::start_encrypted();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = Site::over(folder.path(), Some(&cluster.verified_url(&cluster.certificate())));
    let keys = site.keys(1);
    let echo = site.seed.echo("echo", 0);
    site.seed.model("parrot", PRICE, 1_000, &[echo]);
    let server = site.serve();
    let load = Load::start(
        Plan {
            urls: vec![server.url.clone()],
            secrets: vec![keys[0].secret.clone()],
            model: "parrot",
            callers: 4,
        },
        &mut dice,
    );
    std::thread::sleep(Duration::from_secs(1));
    assert!(load.stop().iter().any(|call| matches!(call.end, End::Whole { .. })));
    site.is_sound();

    let stranger = Cluster::start_encrypted();
    let mut refused = Place::new(folder.path(), &stranger.verified_url(&cluster.certificate())).spawn();
    let status = crate::within(Duration::from_secs(30), "the server gives up", || refused.exited());
    assert_eq!(status, 1);
    assert!(refused.said().contains("certificate verify failed"), "{}", refused.said());
}
