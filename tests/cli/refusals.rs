//! Bad input: the right exit status, a sentence that names the flag, nothing stored, no secret repeated.

use crate::actor::{Operator, PASSWORD};
use crate::database::{Engine, engines};

fn operator(engine: Engine) -> Operator {
    let operator = Operator::new(engine);
    operator.furnish();
    operator
}

#[test]
fn wrong_usage_is_status_2_and_names_the_flag() {
    for engine in engines() {
        let operator = operator(engine);
        let long = "x".repeat(101);
        let key = |flags: &[&'static str]| [&["key", "create", "--user", "ada"], flags].concat();
        let model = |flags: &[&'static str]| [&["model", "create"], flags].concat();
        let cases: Vec<(Vec<&str>, &str)> = vec![
            (vec![], "Usage"),
            (vec!["nonsense"], "nonsense"),
            (vec!["user", "create", "a b", "--password-stdin"], "<NAME>"),
            (vec!["user", "grant", "ada", "NaN"], "<CREDITS>"),
            (vec!["user", "grant", "ada", "1e308"], "<CREDITS>"),
            (vec!["user", "grant", "ada", "1,5"], "<CREDITS>"),
            (vec!["user", "grant", "ada", "5", "--note", "a\u{7}b"], "--note"),
            (vec!["group", "create", "x", "--multiplier", "-1"], "--multiplier"),
            (vec!["group", "create", "x", "--multiplier", "0"], "--multiplier"),
            (vec!["upstream", "create", "x", "--dialect", "smoke"], "--dialect"),
            (vec!["upstream", "create", "x", "--dialect", "openai"], "--base-url"),
            (
                vec!["upstream", "create", "x", "--dialect", "openai", "--base-url", "file:///etc/passwd"],
                "--base-url",
            ),
            (vec!["upstream", "create", "x", "--dialect", "echo", "--allow-private"], "--allow-private"),
            (
                model(&["m", "--upstream", "echo", "--input", "1", "--output", "1", "--priority", "1"]),
                "--priority",
            ),
            (vec!["model", "route", "m", "--upstream", "echo", "--weight", "0"], "--weight"),
            (vec!["model", "route", "m", "--upstream", "echo", "--remove", "--priority", "1"], "--remove"),
            (vec!["upstream", "create", "x=y", "--dialect", "echo"], "<NAME>"),
            (vec!["upstream", "create", "x", "--dialect", "echo", "--pace-ms", "-1"], "--pace-ms"),
            (vec!["upstream", "create", "x", "--dialect", "echo", "--secret-stdin"], "--secret-stdin"),
            (model(&["m", "--upstream", "echo", "--input", "-1", "--output", "1"]), "--input"),
            (model(&["m", "--upstream", "echo", "--input", "1", "--output", "1.0000001"]), "--output"),
            (model(&["m", "--upstream", "=x", "--input", "1", "--output", "1"]), "--upstream"),
            (
                model(&["m", "--upstream", "echo", "--input", "1", "--output", "1", "--max-output", "0"]),
                "--max-output",
            ),
            (model(&["m", "--input", "1", "--output", "1"]), "--upstream"),
            (key(&["--name", ""]), "--name"),
            (key(&["--name", "a\u{202E}b"]), "--name"),
            (vec!["key", "create", "--user", "ada", "--name", &long], "--name"),
            (key(&["--name", "x", "--expires", "2001-01-31"]), "--expires"),
            (key(&["--name", "x", "--expires", "soon"]), "--expires"),
            (key(&["--name", "x", "--expires", " "]), "--expires"),
            (key(&["--name", "x", "--credit-limit", "-5"]), "--credit-limit"),
            (key(&["--name", "x", "--credit-limit", "0"]), "--credit-limit"),
            (key(&["--name", "x", "--model", "g*t"]), "--model"),
            (key(&["--name", "x", "--ip", "10.0.0.0/99"]), "--ip"),
            (key(&["--name", "x", "--ip", "10.0.0.0/8", "--ip", "10.0.0.256"]), "--ip"),
            (vec!["key", "show", "twelve"], "<ID>"),
            (vec!["user", "list", "--database-url", "mysql://x/y"], "--database-url"),
            (vec!["user", "list", "--log", "a=b=c"], "--log"),
            (vec!["serve", "--listen", "here"], "--listen"),
            (vec!["serve", "--public-url", "keys.example.com"], "--public-url"),
            (vec!["serve", "--trusted-proxies", "10.0.0.0/8,nowhere"], "--trusted-proxies"),
        ];
        for (args, flag) in cases {
            let answer = operator.run(&args);
            assert_eq!(answer.status, 2, "{args:?}: {answer:?}");
            assert!(answer.stderr.contains(flag), "{args:?}: {answer:?}");
            assert_eq!(answer.stdout, "", "{args:?}");
        }
        assert_eq!(operator.json(&["key", "list"]).as_array().map(Vec::len), Some(1));
        assert_eq!(operator.json(&["model", "list"]).as_array().map(Vec::len), Some(1));
    }
}

/// `--model "$UNSET"` must never make an unrestricted key.
#[test]
fn an_empty_restriction_is_refused_rather_than_ignored() {
    for engine in engines() {
        let operator = operator(engine);
        for flag in ["--model", "--ip", "--credit-limit", "--expires"] {
            for empty in ["", " ", ",", "\n"] {
                let answer = operator.run(&["key", "create", "--user", "ada", "--name", "x", flag, empty]);
                assert_eq!(answer.status, 2, "{flag} {empty:?}: {answer:?}");
                assert!(answer.stderr.contains(flag), "{answer:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_done_is_status_1_and_says_what_to_do() {
    for engine in engines() {
        let operator = operator(engine);
        let cases: Vec<(&[&str], &str)> = vec![
            (&["user", "grant", "eve", "5"], "user list"),
            (&["user", "disable", "eve"], "user list"),
            (&["group", "set-multiplier", "gold", "2"], "group list"),
            (&["upstream", "disable", "cloud"], "upstream list"),
            (&["model", "set-price", "gpt", "--input", "1", "--output", "1"], "model list"),
            (
                &["model", "create", "gpt", "--upstream", "cloud", "--input", "1", "--output", "1"],
                "upstream list",
            ),
            (
                &["model", "create", "parrot", "--upstream", "echo", "--input", "1", "--output", "1"],
                "NAME: There is a model",
            ),
            (
                &[
                    "model",
                    "create",
                    "twice",
                    "--upstream",
                    "echo",
                    "--upstream",
                    "echo=x",
                    "--input",
                    "1",
                    "--output",
                    "1",
                ],
                "--upstream",
            ),
            (&["group", "create", "default", "--multiplier", "1"], "NAME: There is a group"),
            (&["upstream", "create", "echo", "--dialect", "echo"], "NAME: There is an upstream"),
            (&["key", "create", "--user", "eve", "--name", "x"], "user list"),
            (&["key", "create", "--user", "ada", "--name", "x", "--group", "gold"], "group list"),
            (&["key", "show", "99"], "key list"),
            (&["key", "enable", "99"], "key list"),
            (&["key", "delete", "99"], "key list"),
            (&["user", "grant", "ada", "0"], "CREDITS"),
            (&["user", "grant", "ada", "-11"], "CREDITS"),
            (&["user", "list", "--database-url", "sqlite:no/such/folder/keyhouse.db"], "--database-url"),
        ];
        for (args, next) in cases {
            let answer = operator.run(args);
            assert_eq!(answer.status, 1, "{args:?}: {answer:?}");
            assert!(
                answer.stderr.starts_with("error: ") && answer.stderr.contains(next),
                "{args:?}: {answer:?}"
            );
        }
        assert_eq!(operator.json(&["model", "list"]).as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn upstreams_of_two_dialects_do_not_serve_one_model() {
    for engine in engines() {
        let operator = operator(engine);
        for dialect in ["openai", "anthropic"] {
            let url = "https://api.example.com/v1";
            operator.json(&["upstream", "create", dialect, "--dialect", dialect, "--base-url", url]);
        }
        let create = ["model", "create", "mixed", "--input", "1", "--output", "1", "--upstream", "openai"];
        let mixed = operator.run(&[&create[..], &["--upstream", "anthropic"]].concat());
        assert_eq!(mixed.status, 1, "{mixed:?}");
        assert!(mixed.stderr.contains("--upstream") && mixed.stderr.contains("dialects"), "{mixed:?}");
        // The echo speaks both.
        operator.json(&[&create[..], &["--upstream", "echo"]].concat());
        let routed = operator.run(&["model", "route", "mixed", "--upstream", "anthropic"]);
        assert_eq!(routed.status, 1, "{routed:?}");
        let models = operator.json(&["model", "list"]);
        let mixed = models.as_array().and_then(|models| models.iter().find(|model| model["name"] == "mixed"));
        assert_eq!(mixed.and_then(|model| model["upstreams"].as_array()).map(Vec::len), Some(2));
    }
}

#[test]
fn passwords_come_from_stdin_and_are_never_repeated() {
    for engine in engines() {
        let operator = operator(engine);
        let create = ["user", "create", "eve", "--password-stdin"];
        for bad in ["", "short", "passwordpassword", "eveeveeveeveeve", &"x".repeat(1_000_000)] {
            let answer = operator.run_with(&create, bad);
            assert_eq!(answer.status, 2, "{answer:?}");
            assert!(answer.stderr.contains("password"), "{answer:?}");
            assert!(bad.is_empty() || !answer.stderr.contains(bad));
        }
        let unasked = operator.run_with(&create[..3], PASSWORD);
        assert_eq!(unasked.status, 2);
        assert!(unasked.stderr.contains("--password-stdin"), "{unasked:?}");
        let secret = "sk upstream with spaces";
        let answer = operator.run_with(
            &[
                "upstream",
                "create",
                "x",
                "--dialect",
                "openai",
                "--base-url",
                "http://x/v1",
                "--secret-stdin",
            ],
            secret,
        );
        assert_eq!(answer.status, 2);
        assert!(answer.stderr.contains("--secret-stdin") && !answer.stderr.contains(secret), "{answer:?}");
        assert_eq!(operator.json(&["user", "list"]).as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn a_database_password_is_never_repeated() {
    for engine in engines() {
        let operator = operator(engine);
        for url in [
            "mysql://ada:hunter2@db/x",
            "postgres://ada:hunter2@127.0.0.1:1/x",
            "postgres://ada:hunter2%zz@127.0.0.1:1/x",
            "postgres://ada:hunter2 hunter2@127.0.0.1:1/x",
            "postgres://ada:a/hunter2@127.0.0.1:1/x",
            "postgres://ada:a@hunter2@127.0.0.1:1/x",
            "postgres://ada@127.0.0.1:1/x?password=hunter2%zz",
            "postgres://ada:hunter2@[::1]5432/x",
            "postgres://ada:hunter2%00@127.0.0.1:1/x",
            "postgres://ada:hunter2/x",
        ] {
            let answer = operator.run(&["user", "list", "--database-url", url]);
            assert_ne!(answer.status, 0);
            assert!(!answer.stderr.contains("hunter2"), "{answer:?}");
        }
        let mut help = operator.command(&["serve", "--help"]);
        help.env("KEYHOUSE_DATABASE_URL", "postgres://ada:hunter2@db/x");
        assert!(!crate::actor::answer(help, "").stdout.contains("hunter2"));
    }
}

#[test]
fn where_no_database_is_none_is_called_sound() {
    let operator = Operator::at_a_new_place(Engine::Sqlite);
    for args in [["doctor"].as_slice(), &["user", "list"], &["key", "list"], &["upstream", "test", "echo"]] {
        let answer = operator.run(args);
        assert_eq!(answer.status, 1, "{args:?}: {answer:?}");
        assert!(answer.stderr.contains("There is no database at"), "{args:?}: {answer:?}");
        assert_eq!(std::fs::read_dir(operator.folder()).expect("a folder").count(), 0, "{args:?}");
    }
    operator.create_user("ada");
    assert_eq!(operator.run(&["doctor"]).status, 0);
}
