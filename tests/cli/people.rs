//! Users come and go, groups are opened and closed: what an admin does at a terminal.

use crate::actor::{Operator, PASSWORD};
use crate::database::engines;
use serde_json::{Value, json};

fn user_names(operator: &Operator) -> Vec<Value> {
    let users = operator.json(&["user", "list"]);
    users.as_array().expect("a list").iter().map(|user| user["name"].clone()).collect()
}

#[test]
fn a_deleted_user_is_gone_and_their_history_stays_proven() {
    for engine in engines() {
        let operator = Operator::new(engine);
        let key = operator.furnish();
        let server = operator.serve(&[]);
        let secret = key["secret"].as_str().expect("text").to_owned();
        assert_eq!(server.chat(&secret, "parrot").0, 200);
        let deleted = operator.json(&["user", "delete", "ada"]);
        assert_eq!(deleted, json!({ "id": "1", "name": "ada", "deleted": true }));
        let (status, body) = server.chat(&secret, "parrot");
        assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
        assert!(user_names(&operator).is_empty());
        assert_eq!(operator.json(&["key", "list"]), json!([]));
        for gone in
            [&["user", "enable", "ada"][..], &["user", "delete", "ada"], &["user", "grant", "ada", "1"]]
        {
            let answer = operator.run(gone);
            assert_eq!(answer.status, 1, "{gone:?}");
            assert!(answer.stderr.contains("There is no user ada"), "{answer:?}");
        }
        assert_eq!(operator.run(&["user", "enable", "ada#1"]).status, 2, "no login is called so");
        // The name is free, and the new account begins with nothing.
        let again = operator.create_user("ada");
        assert_eq!((&again["id"], &again["balance"]), (&json!("2"), &json!("0.000000")));
        assert_eq!(operator.run(&["doctor"]).status, 0);
    }
}

#[test]
fn the_last_admin_stays_one() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.json_with(&["user", "create", "ada", "--admin", "--password-stdin"], PASSWORD);
        operator.create_user("bob");
        // An admin who has never set a password may never come.
        operator.json(&["user", "create", "eve", "--admin", "--sign-in-link"]);
        for act in
            [&["user", "disable", "ada"][..], &["user", "delete", "ada"], &["user", "set-admin", "ada", "no"]]
        {
            let answer = operator.run(act);
            assert_eq!(answer.status, 1, "{act:?}");
            assert!(answer.stderr.contains("the last admin"), "{answer:?}");
        }
        assert_eq!(operator.json(&["user", "set-admin", "bob", "yes"])["is_admin"], true);
        assert_eq!(operator.json(&["user", "set-admin", "ada", "no"])["is_admin"], false);
        assert_eq!(operator.run(&["user", "disable", "bob"]).status, 1);
        assert_eq!(operator.run(&["user", "set-admin", "bob", "perhaps"]).status, 2);
    }
}

#[test]
fn groups_are_renamed_hidden_restricted_and_deleted() {
    for engine in engines() {
        let operator = Operator::new(engine);
        operator.create_user("ada");
        operator.create_user("bob");
        operator.json(&["group", "create", "premium", "--multiplier", "1.5"]);
        assert_eq!(operator.json(&["group", "rename", "premium", "gold"])["name"], "gold");
        assert_eq!(operator.run(&["group", "rename", "gold", "default"]).status, 1);
        assert_eq!(operator.run(&["group", "rename", "default", "normal"]).status, 1);
        let key = |user: &str, group: &[&str]| {
            operator.run(&[&["key", "create", "--user", user, "--name", "k", "--json"][..], group].concat())
        };

        assert_eq!(operator.json(&["group", "hide", "gold"])["hidden"], true);
        let refused = key("ada", &["--group", "gold"]);
        assert_eq!(refused.status, 1);
        assert!(refused.stderr.contains("--group: New keys of this user cannot have this group."));
        assert_eq!(operator.json(&["group", "unhide", "gold"])["hidden"], false);

        assert_eq!(operator.json(&["group", "allow", "gold", "ada"])["users"], json!(["ada"]));
        assert_eq!(key("ada", &["--group", "gold"]).status, 0);
        assert_eq!(key("bob", &["--group", "gold"]).status, 1);
        assert_eq!(operator.json(&["group", "allow", "gold", "bob"])["users"], json!(["ada", "bob"]));
        assert_eq!(operator.json(&["group", "disallow", "gold", "ada"])["users"], json!(["bob"]));
        assert_eq!(key("ada", &["--group", "gold"]).status, 1);
        let unknown = operator.run(&["group", "allow", "gold", "nobody"]);
        assert!(unknown.stderr.contains("USER: There is no user nobody."), "{unknown:?}");
        assert_eq!(operator.json(&["group", "allow", "gold", "--everybody"])["users"], Value::Null);
        assert_eq!(operator.run(&["group", "allow", "gold"]).status, 2);
        assert_eq!(operator.run(&["group", "disallow", "gold", "ada"]).status, 1, "everybody may");

        // Without --group: the default one, or, where nobody may choose it, the first that there is.
        operator.json(&["group", "hide", "default"]);
        let made = key("bob", &[]);
        assert!(made.stdout.contains("\"group\": \"gold\""), "{made:?}");
        operator.json(&["group", "allow", "gold", "ada"]);
        let none = key("bob", &[]);
        assert!(none.stderr.contains("There is no group that bob may choose"), "{none:?}");

        let kept = operator.run(&["group", "delete", "gold"]);
        assert!(kept.stderr.contains("2 keys have this group"), "{kept:?}");
        assert_eq!(operator.run(&["group", "delete", "default"]).status, 1);
        operator.json(&["group", "create", "spare", "--multiplier", "1"]);
        operator.json(&["group", "allow", "spare", "ada"]);
        assert_eq!(operator.json(&["group", "delete", "spare"])["deleted"], true);
        let names: Vec<Value> = operator.json(&["group", "list"]).as_array().expect("a list").clone();
        assert_eq!(names.len(), 2);
        assert_eq!((&names[1]["name"], &names[1]["keys"]), (&json!("gold"), &json!(2)));
    }
}
