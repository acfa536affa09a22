//! Servers that start together on an empty database.

use crate::database::{Database, Engine, engines};
use crate::site::{Place, Server, Site};
use crate::within;
use diesel::connection::SimpleConnection;
use std::time::Duration;

const TOGETHER: usize = 5;

/// Five at once over a database that nobody has opened yet.
fn start_together(database: &Database) -> Vec<Server> {
    let place = Place::new(database.folder.path(), &database.url_argument());
    (0..TOGETHER).map(|_| place.spawn()).collect()
}

#[test]
fn five_servers_that_start_together_migrate_once_and_all_serve() {
    if !engines().contains(&Engine::Postgres) {
        return eprintln!("starting together: skipped, no PostgreSQL is named");
    }
    for _ in 0..3 {
        let database = Database::new(Engine::Postgres);
        let mut servers = start_together(&database);
        servers.iter_mut().for_each(Server::is_ready);
        let site = Site::over(database.folder.path(), Some(&database.url_argument()));
        let made = std::fs::read_dir("migrations/postgres").expect("the migrations").count();
        let mut connection = database.url.connect().expect("connected");
        // Fails if there are more, or fewer.
        let check = format!("SELECT 1 / (count(*) = {made})::int FROM __diesel_schema_migrations");
        connection.batch_execute(&check).expect("each migration is applied once");
        connection
            .batch_execute(&format!("SELECT 1 / (count(*) = {TOGETHER})::int FROM instances"))
            .expect("five");
        site.is_sound();
    }
}

#[test]
fn of_five_servers_that_start_on_one_sqlite_file_one_serves_and_the_others_say_why() {
    for _ in 0..3 {
        let database = Database::new(Engine::Sqlite);
        let mut servers = start_together(&database);
        let ended = |servers: &mut Vec<Server>| servers.iter_mut().filter_map(Server::exited).count();
        within(Duration::from_secs(30), "all but one end", || {
            (ended(&mut servers) == TOGETHER - 1).then_some(())
        });
        let mut serving = 0;
        for server in &mut servers {
            match server.exited() {
                Some(status) => {
                    assert_eq!(status, 1);
                    assert!(server.said().contains("another server already uses"), "{}", server.said());
                }
                None => {
                    server.is_ready();
                    serving += 1;
                }
            }
        }
        assert_eq!(serving, 1);
    }
}
