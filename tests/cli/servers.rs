//! `serve` and `demo` as processes, and commands beside them.

use crate::actor::{Operator, Server, bare_command};
use crate::database::{Engine, engines};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn commands_bite_at_once_beside_a_running_server() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let server = operator.serve(&[]);
        assert_eq!(server.get("/healthz").0, 200);
        let key = operator.furnish();
        let (id, secret) = (key["id"].as_str().expect("text"), key["secret"].as_str().expect("text"));
        let (status, answer) = server.chat(secret, "parrot");
        assert_eq!(status, 200, "{answer}");
        let tokens = |name: &str| answer["usage"][name].as_i64().expect("a number");
        // 100 and 200 credits per million tokens are 100 and 200 micro-credits a token.
        let cost_micros = 100 * tokens("prompt_tokens") + 200 * tokens("completion_tokens");
        let shown = operator.json(&["key", "show", id]);
        assert_eq!(shown["credits_used"], format!("0.{cost_micros:06}"), "{shown}");

        operator.json(&["key", "disable", id]);
        let (status, refusal) = server.chat(secret, "parrot");
        assert_eq!((status, &refusal["error"]["code"]), (401, &Value::from("key_disabled")));
        operator.json(&["key", "enable", id]);
        assert_eq!(server.chat(secret, "parrot").0, 200);
        operator.json(&["key", "delete", id]);
        assert_eq!(server.chat(secret, "parrot").0, 401);
        assert_eq!(server.terminate(), 0);
    }
}

#[test]
fn a_house_without_users_prints_a_link_that_opens_setup() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let mut server = operator.serve(&[]);
        let line = server.line_of_stderr();
        let link = line.split_whitespace().find(|word| word.starts_with("http")).expect("a link");
        assert_eq!(reqwest::blocking::get(link).expect("an answer").status(), 200);
        drop(server);
        operator.create_user("ada");
        let mut server = operator.serve(&["--log", "off"]);
        server.signal();
        let mut rest = String::new();
        server.stderr.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "", "nothing after the address");
    }
}

#[test]
fn instances_of_one_house_print_the_same_setup_link() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let token = |server: &mut Server| {
        let line = server.line_of_stderr();
        line.split_once("/setup?token=").expect("a link").1.split_whitespace().next().map(str::to_owned)
    };
    let operator = Operator::new(Engine::Postgres);
    let (mut first, mut second) = (operator.serve(&[]), operator.serve(&[]));
    let printed = token(&mut first).expect("a token");
    assert_eq!(token(&mut second).as_deref(), Some(&*printed));
    let setup = |server: &Server| server.get(&format!("/setup?token={printed}")).0;
    assert_eq!([setup(&first), setup(&second)], [200, 200]);
    operator.create_user("ada");
    assert_eq!([setup(&first), setup(&second)], [404, 404], "of no use once there is somebody");
}

#[test]
fn what_is_stored_is_its_owners_alone_whatever_the_umask() {
    let operator = Operator::new(Engine::Sqlite);
    operator.create_user("ada");
    let _server = operator.serve(&[]);
    let folder = std::fs::read_dir(operator.folder()).expect("a folder");
    let files: Vec<_> = folder.map(|entry| entry.expect("an entry")).collect();
    let name = |file: &std::fs::DirEntry| file.file_name().into_string().expect("text");
    for expected in ["keyhouse.db", "keyhouse.db-wal", "keyhouse.db-shm", "keyhouse.db.lock", "master.key"] {
        let file = files.iter().find(|file| name(file) == expected).expect(expected);
        let mode = file.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{expected}: {mode:o}");
    }
}

#[test]
fn a_port_or_a_file_in_use_is_said_so() {
    let operator = Operator::new(Engine::Sqlite);
    let server = operator.serve(&[]);
    let address = server.url.trim_start_matches("http://");
    let taken = operator.run(&["serve", "--listen", address]);
    assert_eq!(taken.status, 1);
    assert!(taken.stderr.contains(address) && taken.stderr.contains("--listen"), "{taken:?}");
    let second = operator.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status, 1, "one server a SQLite file: {second:?}");
    let demo = operator.run(&["demo", "--listen", address]);
    assert_eq!(demo.status, 1);
    assert!(demo.stderr.contains("--listen"), "{demo:?}");
}

/// A connection closed while a call is on its way looks like an outage to its caller.
#[test]
fn a_connection_may_rest_between_calls_and_holds_up_no_stop() {
    let operator = Operator::new(Engine::Sqlite);
    let server = operator.serve(&[]);
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).expect("connected");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    for rest in [Duration::from_secs(7), Duration::ZERO] {
        connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: house\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).expect("the connection is open");
            answer.extend(byte);
        }
        std::thread::sleep(rest);
    }
    assert_eq!(server.terminate(), 0);
}

/// Workers wait for their turn; calls wait for the ledger, which does not. Policies are 3 (`SCHED_BATCH`) and 0 (`SCHED_OTHER`).
#[cfg(target_os = "linux")]
#[test]
fn workers_interrupt_nobody_and_the_ledger_waits_for_nobody() {
    let operator = Operator::new(Engine::Sqlite);
    let server = operator.serve(&[]);
    assert_eq!(server.get("/healthz").0, 200);
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.id())).expect("threads");
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // `id (name) state …`; the policy is the 41st field, the 39th behind the name (proc_pid_stat(5)).
    let policies: Vec<(String, String)> = stats
        .filter_map(|stat| {
            let (start, rest) = stat.rsplit_once(") ")?;
            Some((start.split_once(" (")?.1.to_owned(), rest.split(' ').nth(38)?.to_owned()))
        })
        .collect();
    let of = |name: &str| -> Vec<&str> {
        policies.iter().filter(|(of, _)| of.starts_with(name)).map(|(_, policy)| policy.as_str()).collect()
    };
    let workers = of("actix-rt");
    assert!(!workers.is_empty() && workers.iter().all(|policy| *policy == "3"), "{policies:?}");
    assert_eq!(of("ledger"), ["0"], "{policies:?}");
}

#[test]
fn the_demo_answers_a_call_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().expect("a folder");
    let mut command = bare_command(&["demo", "--json", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", temporary.path()).current_dir(temporary.path());
    let mut server = Server::start(command);
    let mut documents = serde_json::Deserializer::from_reader(&mut server.stdout).into_iter::<Value>();
    let welcome = documents.next().expect("a document").expect("JSON");
    assert_eq!(welcome["url"], server.url);
    let secret = welcome["secret"].as_str().expect("text");
    let (status, answer) = server.chat(secret, welcome["model"].as_str().expect("text"));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(std::fs::read_dir(temporary.path()).expect("a folder").count(), 1);
    assert_eq!(server.terminate(), 0);
    assert_eq!(std::fs::read_dir(temporary.path()).expect("a folder").count(), 0);
}
