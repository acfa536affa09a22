//! The schema kept by hand is the one both engines really have: every column, its type, and whether it may be null.

#[path = "support/database.rs"]
mod database;

use database::{Database, Engine, engines};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use keyhouse::store::{Connection, Store};
use std::collections::BTreeSet;

/// Not ours: the migrations' own record.
const FOREIGN: &str = "__diesel_schema_migrations";

/// `table.column type`, with `?` behind a type that may be null.
type Columns = BTreeSet<String>;

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    column_type: String,
    #[diesel(sql_type = Bool)]
    nullable: bool,
}

#[test]
fn the_schema_is_what_the_migrations_make() {
    let text = include_str!("../src/store/schema.rs");
    for engine in engines() {
        let declared = declared(text, engine);
        assert!(declared.len() > 80, "the schema was not understood");
        let database = Database::new(engine);
        let store = Store::open(&database.url).expect("migrated");
        let real = store.with(|connection| Ok(real(connection)?)).expect("read");
        let missing: Vec<_> = declared.difference(&real).collect();
        let undeclared: Vec<_> = real.difference(&declared).collect();
        assert!(missing.is_empty() && undeclared.is_empty(), "{engine:?}: {missing:?} {undeclared:?}");
    }
}

#[test]
fn going_down_leaves_nothing_and_up_again_works() {
    let folders = |engine: &str| {
        let path = format!("{}/migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
        let mut names: Vec<_> =
            std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names
    };
    for engine in engines() {
        let database = Database::new(engine);
        let mut connection = database.url.connect().expect("connected");
        connection.migrate().expect("up");
        let name = if engine == Engine::Sqlite { "sqlite" } else { "postgres" };
        for folder in folders(name).iter().rev() {
            let down = std::fs::read_to_string(folder.join("down.sql")).expect("a file");
            diesel::connection::SimpleConnection::batch_execute(&mut connection, &down).expect("down");
        }
        assert_eq!(real(&mut connection).expect("read"), Columns::new(), "{engine:?}");
        let forget = format!("DROP TABLE {FOREIGN}");
        diesel::connection::SimpleConnection::batch_execute(&mut connection, &forget).expect("forgotten");
        connection.migrate().expect("up again");
    }
}

#[test]
fn no_charge_is_in_a_state_that_there_is_not() {
    let insert = |state: &str, settled: i64, outcome: &str, resolved: &str| {
        format!(
            "INSERT INTO charges (id, user_id, key_id, key_name, model, price_id, multiplier_micros, instance_id, state, \
             held_micros, input_held_micros, settled_micros, outcome, created_at_ms, resolved_at_ms) \
             VALUES (1, 1, 1, 'k', 'm', 1, 1, 1, {state}, 10, 1, {settled}, {outcome}, 1, {resolved})"
        )
    };
    for engine in engines() {
        let database = Database::new(engine);
        let mut connection = database.url.connect().expect("connected");
        connection.migrate().expect("up");
        let mut run = |sql: &str| diesel::connection::SimpleConnection::batch_execute(&mut connection, sql);
        for wrong in [
            insert("'lost'", 0, "'complete'", "2"),
            insert("'held'", 0, "'complete'", "NULL"),
            insert("'held'", 0, "NULL", "2"),
            insert("'settled'", 1, "NULL", "2"),
            insert("'settled'", 1, "'perhaps'", "2"),
            insert("'settled'", 11, "'complete'", "2"),
            insert("'released'", 1, "'failed'", "2"),
        ] {
            let error = run(&wrong).expect_err(&wrong).to_string().to_lowercase();
            assert!(error.contains("check constraint"), "{engine:?}: {wrong}: {error}");
        }
        // What is right fails by nothing but the account that is not there, for which PostgreSQL does not look.
        for right in [insert("'held'", 0, "NULL", "NULL"), insert("'settled'", 10, "'hung_up'", "2")] {
            match (engine, run(&right).map_err(|error| error.to_string().to_lowercase())) {
                (Engine::Postgres, Ok(())) => run("DELETE FROM charges").expect("gone"),
                (Engine::Sqlite, Err(error)) if error.contains("foreign key") => {}
                (_, done) => panic!("{engine:?}: {right}: {done:?}"),
            }
        }
        if engine == Engine::Sqlite {
            // Also after a change of the schema that SQLite did not make itself.
            let store = Store::open(&database.url).expect("opened");
            let found: String = store
                .with(|connection| {
                    let Connection::Sqlite(connection) = connection else { unreachable!("it is SQLite") };
                    Ok(diesel::dsl::sql::<Text>("PRAGMA integrity_check").get_result(connection)?)
                })
                .expect("checked");
            assert_eq!(found, "ok");
        }
    }
}

/// Reads `diesel::table! { name (key) { column -> Type, } }`.
fn declared(text: &str, engine: Engine) -> Columns {
    let mut columns = Columns::new();
    for block in text.split("diesel::table! {").skip(1) {
        let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty());
        let table = lines.next().expect("a name").split(' ').next().expect("a name");
        for line in lines.take_while(|line| *line != "}") {
            let Some((column, declared)) = line.split_once(" -> ") else { continue };
            let declared = declared.trim_end_matches(',');
            let inner = declared.strip_prefix("Nullable<").and_then(|rest| rest.strip_suffix('>'));
            let mark = if inner.is_some() { "?" } else { "" };
            columns
                .insert(format!("{table}.{column} {}{mark}", engine_type(inner.unwrap_or(declared), engine)));
        }
    }
    columns
}

fn engine_type(declared: &str, engine: Engine) -> &'static str {
    match (declared, engine) {
        ("BigInt" | "Bool", Engine::Sqlite) => "integer",
        ("Text", _) => "text",
        ("Binary", Engine::Sqlite) => "blob",
        ("BigInt", Engine::Postgres) => "bigint",
        ("Bool", Engine::Postgres) => "boolean",
        ("Binary", Engine::Postgres) => "bytea",
        other => panic!("a type without a counterpart: {other:?}"),
    }
}

fn real(connection: &mut Connection) -> QueryResult<Columns> {
    let sqlite = "SELECT t.name AS table_name, c.name AS column_name, lower(c.type) AS column_type, \
                  c.\"notnull\" = 0 AS nullable \
                  FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
                  WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'";
    let postgres = "SELECT table_name::text, column_name::text, data_type::text AS column_type, \
                    is_nullable = 'YES' AS nullable \
                    FROM information_schema.columns WHERE table_schema = current_schema()";
    let rows: Vec<Column> = match connection {
        Connection::Sqlite(connection) => diesel::sql_query(sqlite).load(connection)?,
        Connection::Postgres(connection) => diesel::sql_query(postgres).load(connection)?,
    };
    let ours = rows.into_iter().filter(|column| column.table_name != FOREIGN);
    Ok(ours
        .map(|column| {
            let mark = if column.nullable { "?" } else { "" };
            format!("{}.{} {}{mark}", column.table_name, column.column_name, column.column_type)
        })
        .collect())
}
