//! Flags before environment before `keyhouse.toml` before defaults.

use crate::actor::{Answer, Operator, answer, bare_command};
use crate::database::engines;
use std::fs;
use std::path::Path;

/// Runs in `folder`, with no setting but those given; the data directory tells which of them won.
fn run(folder: &Path, args: &[&str], data_dir: Option<&str>) -> Answer {
    let mut command = bare_command(args);
    command.current_dir(folder);
    if let Some(data_dir) = data_dir {
        command.env("KEYHOUSE_DATA_DIR", data_dir);
    }
    answer(command, "")
}

fn database_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 0, "{answer:?}");
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).expect("JSON");
    document["database"].as_str().expect("a text").to_owned()
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let migrate = ["migrate", "--json"];
    assert_eq!(database_of(&run(folder, &migrate, None)), "sqlite:./keyhouse.db");
    fs::write(folder.join("keyhouse.toml"), "data-dir = \"from-file\"\nlisten = \"127.0.0.1:9\"\n")
        .expect("written");
    assert_eq!(database_of(&run(folder, &migrate, None)), "sqlite:from-file/keyhouse.db");
    assert_eq!(database_of(&run(folder, &migrate, Some("from-env"))), "sqlite:from-env/keyhouse.db");
    for args in
        [["--data-dir", "from-flag", "migrate", "--json"], ["migrate", "--json", "--data-dir", "from-flag"]]
    {
        assert_eq!(database_of(&run(folder, &args, Some("from-env"))), "sqlite:from-flag/keyhouse.db");
    }
    fs::write(folder.join("other.toml"), "data_dir = \"from-other\"").expect("written");
    let named = ["--config", "other.toml", "migrate", "--json"];
    assert_eq!(database_of(&run(folder, &named, None)), "sqlite:from-other/keyhouse.db");
}

#[test]
fn a_file_with_a_mistake_is_refused_by_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for (text, names) in [
        ("listne = \"127.0.0.1:9\"", "listne"),
        ("listen = \"here\"", "--listen"),
        ("trusted-proxies = [\"10.0.0.0/8\", \"nowhere\"]", "--trusted-proxies"),
        ("listen = true", "listen"),
        ("listen =", "line 1"),
        ("json = \"yes\"", "json"),
    ] {
        fs::write(folder.join("keyhouse.toml"), text).expect("written");
        // A flag does not hide the mistake.
        for args in [&["user", "list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let refused = run(folder, args, None);
            assert_eq!(refused.status, 2, "{text}: {refused:?}");
            assert!(
                refused.stderr.contains("keyhouse.toml") && refused.stderr.contains(names),
                "{refused:?}"
            );
        }
    }
    let missing = run(folder, &["--config", "none.toml", "user", "list"], None);
    assert_eq!(missing.status, 2);
    assert!(missing.stderr.contains("none.toml"));
    assert!(!folder.join("keyhouse.db").exists(), "nothing was made");
}

/// Creates a key, with the master key that follows.
const CREATE: [&str; 7] = ["key", "create", "--user", "ada", "--name", "x", "--master-key-file"];

/// Neither another one nor one that is not there is taken, nor is one made.
fn refuses_other_master_keys(operator: &Operator) {
    let folder = operator.folder();
    fs::write(folder.join("wrong.key"), "ab".repeat(32)).expect("written");
    for command in [&CREATE[..], &["serve", "--listen", "127.0.0.1:0", "--master-key-file"]] {
        for file in ["wrong.key", "missing.key"] {
            let refused = operator.run(&[command, &[file]].concat());
            assert_eq!(refused.status, 1, "{refused:?}");
            assert!(
                refused.stderr.contains(file) && refused.stderr.contains("--master-key-file"),
                "{refused:?}"
            );
        }
    }
    assert!(!folder.join("missing.key").exists());
}

#[test]
fn another_master_key_is_refused_and_none_is_made_beside_the_right_one() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.furnish();
        refuses_other_master_keys(&operator);
        fs::write(operator.folder().join("wrong.key"), "not a key").expect("written");
        assert_eq!(operator.run(&[&CREATE[..], &["wrong.key"]].concat()).status, 1);
        assert_eq!(operator.json(&["key", "list"]).as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn another_master_key_than_that_of_a_running_server_is_refused_while_nothing_is_sealed_yet() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.create_user("ada");
        let server = operator.serve(&[]);
        refuses_other_master_keys(&operator);
        assert_eq!(operator.run(&CREATE[..6]).status, 0);
        operator.json(&["key", "delete", "1"]);
        assert_eq!(server.terminate(), 0);
        // Nobody works with the first any more, and nothing is sealed under it.
        assert_eq!(operator.run(&[&CREATE[..], &["wrong.key"]].concat()).status, 0);
    }
}
