//! `keyhouse upstream` and `keyhouse model route`: where calls may go, and whether anybody answers there.

use crate::actor::Operator;
use crate::database::engines;
use crate::upstream::{Act, Upstream};
use keyhouse::store::{Store, audit};
use serde_json::{Value, json};

const SECRET: &str = "sk-upstream-secret";

impl Operator {
    fn upstream(&self, name: &str, url: &str) {
        let create =
            ["upstream", "create", name, "--dialect", "openai", "--base-url", url, "--allow-private"];
        self.json_with(&[&create[..], &["--secret-stdin"]].concat(), SECRET);
    }
}

#[test]
fn an_upstream_near_by_must_be_allowed() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let create = ["upstream", "create", "local", "--dialect", "openai", "--base-url"];
        for url in
            ["http://localhost:1/v1", "http://127.1/v1", "http://[fd00::1]/v1", "http://169.254.169.254/"]
        {
            let refused = operator.run(&[&create[..], &[url]].concat());
            assert_eq!(refused.status, 2, "{refused:?}");
            assert!(refused.stderr.contains("--allow-private"), "{refused:?}");
        }
        let public = operator.json(&[&create[..], &["https://api.example.com/v1"]].concat());
        assert_eq!(public["allow_private"], false);
        let moved = operator.run(&["upstream", "edit", "local", "--base-url", "http://10.0.0.7/v1"]);
        assert_eq!(moved.status, 2, "{moved:?}");
        let edit = ["upstream", "edit", "local", "--base-url", "http://10.0.0.7/v1", "--allow-private"];
        let moved = operator.json(&edit);
        assert_eq!(
            (&moved["base_url"], &moved["allow_private"]),
            (&json!("http://10.0.0.7/v1"), &json!(true))
        );
        assert_eq!(operator.run(&["upstream", "edit", "local", "--public-only"]).status, 2);
        assert_eq!(operator.run(&["upstream", "edit", "local"]).status, 2);
    }
}

#[test]
fn an_upstream_moves_with_a_secret_for_its_new_address_or_with_none() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.upstream("local", "http://127.0.0.1:9/v1");
        let refused = operator.run(&["upstream", "edit", "local", "--base-url", "https://a.example/v1"]);
        assert_eq!(refused.status, 2, "{refused:?}");
        for way_out in ["--secret-stdin", "keyhouse upstream unset-secret local"] {
            assert!(refused.stderr.contains(way_out), "{refused:?}");
        }
        assert_eq!(operator.json(&["upstream", "list"])[0]["base_url"], "http://127.0.0.1:9/v1");
        operator.json(&["upstream", "edit", "local", "--base-url", "http://127.0.0.1:9/v2"]);
        let edit = ["upstream", "edit", "local", "--base-url", "https://a.example/v1", "--secret-stdin"];
        let moved = operator.json_with(&edit, "sk-another");
        assert_eq!(
            (&moved["base_url"], &moved["has_secret"]),
            (&json!("https://a.example/v1"), &json!(true))
        );
        operator.json(&["upstream", "unset-secret", "local"]);
        operator.json(&["upstream", "edit", "local", "--base-url", "https://b.example/v1"]);
        assert_eq!(operator.run(&["upstream", "edit", "local", "--secret-stdin"]).status, 2);
    }
}

#[test]
fn a_test_says_how_an_upstream_answers_and_never_its_secret() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let models = json!({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}).to_string();
        let upstream = Upstream::start(Act::json(200, models));
        operator.upstream("local", &upstream.url);
        let mut command = operator.command(&["upstream", "test", "local", "--json"]);
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env(name, "http://127.0.0.1:1");
        }
        let answer = crate::actor::answer(command, "");
        assert_eq!(answer.status, 0, "{answer:?}");
        let view: Value = serde_json::from_str(&answer.stdout).expect("JSON");
        assert_eq!((&view["works"], &view["status"]), (&json!(true), &json!(200)));
        assert_eq!(view["answer"], "It offers 2 models: a, b");
        let asked = upstream.asked().pop().expect("asked");
        assert_eq!((asked.path.as_str(), asked.body.as_str()), ("/v1/models", ""));
        assert_eq!(asked.header("authorization"), Some("Bearer sk-upstream-secret"));

        let quoting = json!({"error": {"message": format!("no such key: {SECRET}")}}).to_string();
        let elsewhere = vec![("location", "http://example.com/".to_owned())];
        for (act, said) in [
            (Act::json(401, quoting.clone()), "refuses its secret"),
            (Act::json(500, quoting), "answers 500"),
            (Act::json(200, "<html>\u{1b}[2J"), "no list of models"),
            (Act::Json { status: 302, headers: elsewhere, body: String::new() }, "redirects"),
            (Act::Leave, "broke off"),
        ] {
            upstream.set(act);
            let answer = operator.run(&["upstream", "test", "local"]);
            assert_eq!(answer.status, 1, "{answer:?}");
            assert!(answer.stdout.contains(said) && answer.stderr.contains(said), "{said}: {answer:?}");
            assert!(!answer.stdout.contains(SECRET) && !answer.stderr.contains(SECRET), "{answer:?}");
            assert!(!answer.stdout.contains('\u{1b}'), "{answer:?}");
        }
        operator.json(&["upstream", "create", "echo", "--dialect", "echo"]);
        assert_eq!(operator.json(&["upstream", "test", "echo"])["works"], true);
        assert_eq!(operator.run(&["upstream", "test", "nobody"]).status, 1);
        let store = Store::open(&operator.database.url).expect("it opens");
        let event = store.with(|c| audit::newest(c, 1)).expect("it is read").remove(0);
        assert_eq!((event.actor.as_str(), event.action.as_str()), ("cli", "upstream.test"));
        let id = operator.json(&["upstream", "list"])[0]["id"].clone();
        assert_eq!(event.subject, format!("upstream {}", id.as_str().expect("an id")));
    }
}

#[test]
fn routes_are_added_changed_and_removed_for_the_next_call() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let key = operator.furnish();
        let secret = key["secret"].as_str().expect("a secret");
        let server = operator.serve(&[]);
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 1});
        let upstream = Upstream::start(Act::json(200, crate::upstream::completion("hi", &usage)));
        operator.upstream("local", &upstream.url);
        assert_eq!(server.chat(secret, "parrot").0, 200);

        let route =
            |flags: &[&str]| operator.json(&[&["model", "route", "parrot", "--upstream"], flags].concat());
        let added = route(&["local=theirs"]);
        let echo = json!({"upstream": "echo", "upstream_model": "parrot", "priority": 0, "weight": 1});
        let local = json!({"upstream": "local", "upstream_model": "theirs", "priority": 1, "weight": 1});
        assert_eq!(added["upstreams"], json!([echo, local]));
        assert_eq!(server.chat(secret, "parrot").0, 200);
        assert!(upstream.asked().is_empty());

        let first = route(&["echo", "--priority", "2", "--weight", "3"]);
        assert_eq!(first["upstreams"][1]["weight"], 3);
        assert_eq!(server.chat(secret, "parrot").0, 200);
        assert_eq!(upstream.asked()[0].json()["model"], "theirs");

        let refused = operator.run(&["upstream", "delete", "local"]);
        assert_eq!(refused.status, 1, "{refused:?}");
        assert!(refused.stderr.contains("keyhouse model route"), "{refused:?}");
        assert_eq!(route(&["local", "--remove"])["upstreams"].as_array().map(Vec::len), Some(1));
        assert_eq!(server.chat(secret, "parrot").0, 200);
        assert_eq!(upstream.asked().len(), 1);
        let again = operator.run(&["model", "route", "parrot", "--upstream", "local", "--remove"]);
        assert_eq!(again.status, 1, "{again:?}");
        operator.json(&["upstream", "delete", "local"]);
        assert_eq!(operator.json(&["upstream", "list"]).as_array().map(Vec::len), Some(1));
        assert_eq!(operator.json(&["doctor"])["breaches"], json!([]));
    }
}
