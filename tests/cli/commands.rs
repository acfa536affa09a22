//! What the commands make and print.

use crate::actor::{Operator, PASSWORD};
use crate::database::{Engine, engines};
use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

#[test]
fn users_are_made_granted_credits_and_switched() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let made = operator.json_with(&["user", "create", "Ada", "--admin", "--password-stdin"], PASSWORD);
        assert_eq!(
            (&made["id"], &made["name"], &made["is_admin"]),
            (&json!("1"), &json!("ada"), &json!(true))
        );
        assert!(made["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{made}");

        let granted = operator.json(&["user", "grant", "ada", "25.5", "--note", "March"]);
        assert_eq!(granted["balance"], "25.500000");
        let taken = operator.json(&["user", "grant", "ada", "-5"]);
        assert_eq!((&taken["balance"], &taken["held"]), (&json!("20.500000"), &json!("0.000000")));
        assert_eq!(operator.run(&["user", "grant", "ada", "-20.500001"]).status, 1);

        operator.json_with(&["user", "create", "root", "--admin", "--password-stdin"], PASSWORD);
        assert_eq!(operator.json(&["user", "disable", "ada"])["enabled"], false);
        assert_eq!(operator.json(&["user", "enable", "ada"])["enabled"], true);
        let changed = operator
            .run_with(&["user", "set-password", "ada", "--password-stdin"], "other words entirely mine\n");
        assert_eq!(changed.status, 0, "{changed:?}");
        assert_eq!(operator.json(&["user", "list"]).as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn a_user_is_given_a_link_instead_of_a_password() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let made = operator.json(&["user", "create", "ada", "--sign-in-link"]);
        let link = made["sign_in_link"].as_str().expect("a link");
        assert!(link.starts_with("http://127.0.0.1:8080/welcome?token="), "{made}");
        assert!(made["sign_in_link_expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{made}");
        assert_eq!(made["name"], "ada");

        let public = ["user", "sign-in-link", "ada", "--public-url", "https://keys.example"];
        let renewed = operator.json(&public);
        let newer = renewed["sign_in_link"].as_str().expect("a link");
        assert!(newer.starts_with("https://keys.example/welcome?token=") && newer != link, "{renewed}");
        let text = operator.run(&public).stdout;
        assert!(text.contains("https://keys.example/welcome?token="), "{text}");

        std::fs::write(operator.folder().join("keyhouse.toml"), "public_url = \"https://toml.example\"\n")
            .expect("written");
        let of_file = operator.json(&["user", "sign-in-link", "ada"]);
        assert!(
            of_file["sign_in_link"].as_str().is_some_and(|link| link.starts_with("https://toml.example/"))
        );
        assert_eq!(operator.run(&["user", "sign-in-link", "eve"]).status, 1);
        let both = ["user", "create", "bob", "--sign-in-link", "--password-stdin"];
        assert_eq!(operator.run_with(&both, PASSWORD).status, 2);
    }
}

#[test]
fn groups_upstreams_and_models_are_made() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.json(&["group", "create", "premium", "--multiplier", "1.50"]);
        assert_eq!(operator.json(&["group", "set-multiplier", "premium", "2"])["multiplier"], "2");
        let names: Vec<Value> = names(&operator.json(&["group", "list"]));
        assert_eq!(names, ["default", "premium"]);

        let local =
            ["upstream", "create", "local", "--dialect", "openai", "--base-url", "http://127.0.0.1:9/v1/"];
        let made = operator.json_with(
            &[&local[..], &["--secret-stdin", "--allow-private"]].concat(),
            "sk-upstream-secret\n",
        );
        assert_eq!((&made["base_url"], &made["has_secret"]), (&json!("http://127.0.0.1:9/v1"), &json!(true)));
        operator.json(&["upstream", "create", "echo", "--dialect", "echo", "--pace-ms", "5"]);
        assert_eq!(operator.json(&["upstream", "disable", "local"])["enabled"], false);
        let replaced = operator.json_with(&["upstream", "set-secret", "local", "--secret-stdin"], "another");
        assert_eq!(replaced["has_secret"], true);

        let model = operator.json(&[
            "model",
            "create",
            "llama",
            "--upstream",
            "local=meta/llama:70b=q4",
            "--upstream",
            "echo",
            "--input",
            "0.4",
            "--output",
            "0.8",
            "--cached-input",
            "0.1",
            "--cache-write",
            "0.5",
            "--per-request",
            "0.01",
            "--per-image",
            "0.04",
            "--per-audio-second",
            "0.0001",
            "--per-character",
            "15",
            "--max-output",
            "8192",
        ]);
        assert_eq!(
            model["upstreams"],
            json!([
                {"upstream": "local", "upstream_model": "meta/llama:70b=q4", "priority": 0, "weight": 1},
                {"upstream": "echo", "upstream_model": "llama", "priority": 1, "weight": 1},
            ])
        );
        assert_eq!((&model["input"], &model["cached_input"]), (&json!("0.400000"), &json!("0.100000")));
        assert_eq!((&model["per_request"], &model["max_output_tokens"]), (&json!("0.010000"), &json!(8192)));
        assert_eq!((&model["cache_write"], &model["per_image"]), (&json!("0.500000"), &json!("0.040000")));
        assert_eq!(
            (&model["per_audio_second"], &model["per_character"]),
            (&json!("0.000100"), &json!("15.000000"))
        );
        let priced = operator.json(&["model", "set-price", "llama", "--input", "1", "--output", "2"]);
        assert_eq!((&priced["price_version"], &priced["cached_input"]), (&json!(2), &Value::Null));
        assert_eq!((&priced["cache_write"], &priced["per_image"]), (&Value::Null, &json!("0.000000")));
        assert_eq!(names_of(&operator, "model"), ["llama"]);
        assert_eq!(names_of(&operator, "upstream"), ["echo", "local"]);
    }
}

#[test]
fn a_key_is_made_shown_switched_and_deleted() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.create_user("ada");
        operator.create_user("bob");
        operator.json(&["group", "create", "premium", "--multiplier", "1.5"]);
        let made = operator.json(&[
            "key",
            "create",
            "--user",
            "ada",
            "--name",
            "laptop",
            "--expires",
            "2999-01-31",
            "--credit-limit",
            "12.5",
            "--group",
            "premium",
            "--model",
            "gpt-4*",
            "--model",
            "llama",
            "--ip",
            "10.1.2.3/8",
            "--ip",
            "2001:db8::1",
        ]);
        let secret = made["secret"].as_str().expect("a secret").to_owned();
        assert!(secret.starts_with("sk-kh") && secret.len() == 51);
        let expected = json!({
            "id": "1", "user_id": "1", "user": "ada", "name": "laptop",
            "key": format!("sk-kh…{}", &secret[47..]), "status": "active", "enabled": true,
            "group": "premium", "multiplier": "1.5", "credit_limit": "12.500000",
            "credits_used": "0.000000", "credits_held": "0.000000", "expires_at": "2999-02-01T00:00:00Z",
            "models": ["gpt-4*", "llama"], "ip_allowlist": ["10.0.0.0/8", "2001:db8::1"],
            "created_at": made["created_at"], "last_used_at": null,
        });
        assert_eq!(operator.json(&["key", "show", "1"]), expected);

        let plain = operator.json(&["key", "create", "--user", "bob", "--name", "plain"]);
        assert_eq!((&plain["credit_limit"], &plain["expires_at"]), (&Value::Null, &Value::Null));
        assert_eq!((&plain["models"], &plain["group"]), (&json!([]), &json!("default")));
        assert_eq!(names_of(&operator, "key"), ["laptop", "plain"]);
        assert_eq!(names(&operator.json(&["key", "list", "--user", "bob"])), ["plain"]);
        assert!(!operator.run(&["key", "list"]).stdout.contains(&secret), "a list never shows a secret");

        assert_eq!(operator.json(&["key", "disable", "1"])["status"], "disabled");
        assert_eq!(operator.json(&["key", "enable", "1"])["status"], "active");
        assert_eq!(
            operator.json(&["key", "delete", "1"]),
            json!({"id": "1", "name": "laptop", "deleted": true})
        );
        assert_eq!(operator.run(&["key", "show", "1"]).status, 1);
        assert_eq!(names_of(&operator, "key"), ["plain"]);
    }
}

#[test]
fn without_json_lists_are_aligned_and_a_new_key_is_shown_whole() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.furnish();
        let made = operator.run(&["key", "create", "--user", "ada", "--name", "second"]);
        let key = made.stdout.lines().find_map(|line| line.strip_prefix("Key ")).expect("a line").trim();
        assert_eq!(key.len(), 51, "{made:?}");
        let list = operator.run(&["key", "list"]).stdout;
        let columns: Vec<usize> =
            list.lines().map(|line| line.find("active").or(line.find("STATUS")).expect("it")).collect();
        assert_eq!(columns.len(), 3);
        assert!(columns.iter().all(|column| column.abs_diff(columns[0]) <= 2), "{list}"); // "…" is three bytes
        let empty = Operator::new(engine).run(&["key", "list"]);
        assert_eq!((empty.status, empty.stdout.as_str()), (0, ""));
        assert!(empty.stderr.contains("keyhouse key create"));
    }
}

#[test]
fn migrate_says_what_it_applied_once() {
    for engine in engines() {
        let operator = Operator::at_a_new_place(engine);
        let applied = operator.json(&["migrate"]);
        assert!(!applied["applied"].as_array().expect("a list").is_empty());
        assert_eq!(operator.json(&["migrate"])["applied"], json!([]));
    }
}

fn names_of(operator: &Operator, noun: &str) -> Vec<Value> {
    names(&operator.json(&[noun, "list"]))
}

fn names(list: &Value) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|thing| thing["name"].clone()).collect()
}

#[test]
fn what_only_reads_works_while_the_database_cannot_be_written() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let key = operator.furnish();
        let id = key["id"].as_str().expect("text");
        let mut other = operator.database.url.connect().expect("connected");
        let mut url = operator.database.url_argument();
        match engine {
            Engine::Sqlite => other.batch_execute("BEGIN IMMEDIATE").expect("locked"),
            Engine::Postgres => url.push_str("?options=-c%20default_transaction_read_only%3Don"),
        }
        for args in [&["doctor"][..], &["user", "list"], &["key", "show", id], &["migrate"]] {
            let answer = operator.run(&[args, &["--database-url", &url]].concat());
            assert_eq!(answer.status, 0, "{args:?}: {answer:?}");
        }
        let refused = operator.run(&["user", "disable", "ada", "--database-url", &url]);
        assert_eq!(refused.status, 1, "it cannot be written: {refused:?}");
    }
}
