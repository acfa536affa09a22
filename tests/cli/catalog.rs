//! `keyhouse model` beyond prices, `keyhouse model import`, and the rest of `keyhouse upstream`.

use crate::actor::Operator;
use crate::database::engines;
use serde_json::{Value, json};
use std::path::PathBuf;

fn list() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/prices.json");
    path.to_str().expect("a path").to_owned()
}

#[test]
fn a_model_is_edited_hidden_and_deleted() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let key = operator.furnish();
        let secret = key["secret"].as_str().expect("a secret");
        let server = operator.serve(&[]);
        assert_eq!(
            operator.json(&["model", "edit", "parrot", "--max-output", "77"])["max_output_tokens"],
            77
        );
        assert_eq!(operator.run(&["model", "edit", "parrot", "--max-output", "0"]).status, 2);
        assert_eq!(operator.json(&["model", "hide", "parrot"])["hidden"], true);
        assert_eq!(server.chat(secret, "parrot").0, 200);
        assert_eq!(operator.json(&["model", "unhide", "parrot"])["hidden"], false);
        assert_eq!(operator.json(&["model", "delete", "parrot"])["name"], "parrot");
        assert_eq!(server.chat(secret, "parrot").0, 404);
        assert_eq!(operator.run(&["model", "delete", "parrot"]).status, 1);
        assert_eq!(operator.json(&["model", "list"]), json!([]));
        operator.json(&["upstream", "delete", "echo"]);
        assert_eq!(operator.json(&["doctor"])["breaches"], json!([]));
    }
}

#[test]
fn a_price_list_is_imported() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.json(&["upstream", "create", "echo", "--dialect", "echo"]);
        let file = list();
        let import = [
            "model",
            "import",
            &file,
            "--upstream",
            "echo",
            "--credits-per-dollar",
            "2",
            "--provider",
            "acme",
        ];
        let with = |flags: &[&str]| operator.json(&[&import[..], flags].concat());
        let dry = with(&["--dry-run"]);
        assert_eq!((&dry["made"], &dry["dry_run"]), (&json!(5), &json!(true)));
        assert_eq!(operator.json(&["model", "list"]), json!([]));
        let action = |view: &Value, name: &str| {
            let models = view["models"].as_array().expect("models");
            models.iter().find(|model| model["name"] == name).map(|model| model["action"].clone())
        };
        assert_eq!(action(&dry, "acme-small"), Some(json!("new")));
        assert_eq!(action(&dry, "acme-free"), Some(json!("left")));
        assert_eq!(action(&dry, "acme-film"), Some(json!("skipped")));
        assert_eq!(action(&dry, "zeta/llama"), None);

        let done = with(&["--strip-prefix", "--include-free"]);
        assert_eq!((&done["made"], &done["priced"]), (&json!(6), &json!(0)));
        let models = operator.json(&["model", "list"]);
        let small =
            models.as_array().and_then(|all| all.iter().find(|m| m["name"] == "acme-small")).expect("made");
        assert_eq!((&small["input"], &small["output"]), (&json!("0.300000"), &json!("1.200000")));
        let mini = models.as_array().and_then(|all| all.iter().find(|m| m["name"] == "mini")).expect("made");
        assert_eq!(
            (&mini["output"], &mini["upstreams"][0]["upstream_model"]),
            (&json!("0.800000"), &json!("mini"))
        );
        assert_eq!(with(&["--strip-prefix"])["made"], 0);
        let dearer = [
            "model",
            "import",
            &file,
            "--upstream",
            "echo",
            "--credits-per-dollar",
            "3",
            "--mode",
            "embedding",
        ];
        assert_eq!(operator.json(&dearer)["priced"], 1);

        for (flags, status) in [
            (vec!["model", "import", "nowhere.json", "--upstream", "echo", "--credits-per-dollar", "1"], 1),
            (vec!["model", "import", &file, "--upstream", "nobody", "--credits-per-dollar", "1"], 1),
            (vec!["model", "import", &file, "--upstream", "echo", "--credits-per-dollar", "0"], 2),
            (vec!["model", "import", "master.key", "--upstream", "echo", "--credits-per-dollar", "1"], 2),
            (vec!["model", "import", &file, "--upstream", "echo"], 2),
        ] {
            std::fs::write(operator.folder().join("master.key"), "no list").expect("written");
            assert_eq!(operator.run(&flags).status, status, "{flags:?}");
        }
    }
}

#[test]
fn an_upstream_is_renamed_and_loses_its_secret() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let create = ["upstream", "create", "a", "--dialect", "openai", "--base-url", "https://a.example/v1"];
        operator.json_with(&[&create[..], &["--secret-stdin"]].concat(), "sk-secret");
        operator.json(&["upstream", "create", "echo", "--dialect", "echo"]);
        assert_eq!(operator.json(&["upstream", "rename", "a", "b"])["name"], "b");
        let taken = operator.run(&["upstream", "rename", "b", "echo"]);
        assert_eq!(taken.status, 1, "{taken:?}");
        assert_eq!(operator.run(&["upstream", "rename", "b", "a b"]).status, 2);
        assert_eq!(operator.json(&["upstream", "unset-secret", "b"])["has_secret"], false);
        assert_eq!(operator.run(&["upstream", "unset-secret", "a"]).status, 1);
    }
}
