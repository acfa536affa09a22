//! The admins' Models page over HTTP: making, pricing, routing, hiding and deleting, and what calls see of it.

use super::support::seed::{Seed, SeededKey};
use super::support::{Answer, House, PASSWORD, Person, engines};
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use keyhouse::store::{charges, models, prices};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Somebody who may.
pub fn admin(house: &House) -> Person {
    house.add_user("root", true);
    let person = house.anon();
    assert_eq!(person.sign_in("root", PASSWORD).status, StatusCode::SEE_OTHER);
    person
}

pub fn seed(house: &House) -> Seed {
    Seed { store: house.store.clone(), vault: house.vault.clone() }
}

/// A key of an account with credits.
pub fn caller(house: &House) -> SeededKey {
    let seed = seed(house);
    let user_id = seed.user("caller", "100");
    seed.key(user_id, &KeyDraft::default())
}

/// A call, its status, and the code of its error.
pub fn call(house: &House, key: &SeededKey, model: &str) -> (u16, Value) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5});
    let http = reqwest::blocking::Client::new();
    let request = http.post(format!("{}/v1/chat/completions", house.url)).bearer_auth(&key.secret);
    let response = request.json(&body).send().expect("answered");
    let status = response.status().as_u16();
    let body: Value = response.json().expect("JSON");
    (status, body["error"]["code"].clone())
}

fn listed(house: &House, key: &SeededKey) -> Vec<String> {
    let http = reqwest::blocking::Client::new();
    let request = http.get(format!("{}/v1/models", house.url)).bearer_auth(&key.secret);
    let body: Value = request.send().expect("answered").json().expect("JSON");
    let models = body["data"].as_array().expect("a list").iter();
    models.map(|model| model["id"].as_str().expect("a name").to_owned()).collect()
}

fn refused(answer: &Answer, field: &str) {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", answer.body);
    assert!(answer.body.contains(&format!("id=\"{field}-error\"")), "{field}: {}", answer.body);
}

const PRICE: Price = Price { input_micros: 1_000_000, output_micros: 2_000_000, ..Price::FREE };

#[test]
fn a_model_is_made_priced_and_called() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        assert!(admin.get("/models").body.contains("No models yet"));
        let echo = seed(&house).echo("echo", 0).to_string();
        let good = [
            ("name", "parrot"),
            ("upstream", &echo),
            ("input", "1.5"),
            ("output", "3"),
            ("max_output", "100"),
        ];
        let long = "x".repeat(129);
        for (field, value, error) in [
            ("name", "", "name"),
            ("name", "a b", "name"),
            ("name", "a#1", "name"),
            ("name", &long, "name"),
            ("upstream", "", "upstream"),
            ("upstream", "99999", "upstream"),
            ("upstream", "1 OR 1=1", "upstream"),
            ("input", "-1", "input"),
            ("input", "1e-7", "input"),
            ("input", "NaN", "input"),
            ("output", "1,5", "output"),
            ("per_image", "99999999999", "per_image"),
            ("max_output", "0", "max_output"),
            ("max_output", "1.5", "max_output"),
            ("max_output", "", "max_output"),
            ("upstream_model", "a\u{0}b", "upstream_model"),
        ] {
            let mut form = vec![(field, value)];
            form.extend(good.iter().filter(|(name, _)| *name != field));
            refused(&admin.post("/models/new", &form), error);
        }
        let priceless: Vec<_> =
            good.into_iter().filter(|(name, _)| !["input", "output"].contains(name)).collect();
        refused(&admin.post("/models/new", &priceless), "input");
        let made = admin.post("/models/new", &good);
        assert_eq!(made.status, StatusCode::SEE_OTHER, "{made:?}");
        let page = admin.get(made.location()).body;
        refused(&admin.post("/models/new", &good), "name");
        assert!(page.contains("1.5 in, 3 out per 1M tokens") && page.contains("Created “parrot”"), "{page}");
        assert_eq!(call(&house, &key, "parrot").0, 200);
        assert_eq!(house.audit().iter().filter(|act| *act == "root model.create").count(), 1);
        let list = admin.get("/models").body;
        assert!(list.contains("parrot") && list.contains("Offered") && list.contains("echo"));
    }
}

#[test]
fn who_previews_or_mistypes_a_price_is_still_told_of_one_that_was_set_meanwhile() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let id = seed(&house).model("parrot", PRICE, 100, &[]);
        let url = format!("/models/{id}/price");
        let theirs = [("act", "set"), ("version", "1"), ("input", "3"), ("output", "3")];
        assert_eq!(admin.post(&url, &theirs).status, StatusCode::SEE_OTHER);
        let post = |act, version: &str, input| {
            admin.post(&url, &[("act", act), ("version", version), ("input", input), ("output", "4")])
        };
        let version = |answer: &Answer| {
            let field = answer.body.split_once("name=\"version\" value=\"").expect("the form").1;
            field.split('"').next().expect("a value").to_owned()
        };
        let mistyped = post("set", "1", "x");
        assert_eq!(mistyped.status, StatusCode::UNPROCESSABLE_ENTITY);
        let preview = post("preview", &version(&mistyped), "2");
        assert_eq!(preview.status, StatusCode::OK);
        let told = post("set", &version(&preview), "2");
        assert_eq!(told.status, StatusCode::CONFLICT, "{}", told.body);
        assert!(told.body.contains("version 2, 3 in, 3 out"), "{}", told.body);
        assert_eq!(post("set", &version(&told), "2").status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn a_new_price_is_a_version_that_is_previewed_and_never_rewrites_the_past() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let echo = seed(&house).echo("echo", 0);
        let id = seed(&house).model("parrot", PRICE, 100, &[echo]);
        for _ in 0..3 {
            assert_eq!(call(&house, &key, "parrot").0, 200);
        }
        let spent = |house: &House| {
            let charges = house.with(|c| charges::newest_of_key(c, key.user_id, key.id, 10));
            charges.iter().map(|charge| charge.settled_micros).collect::<Vec<_>>()
        };
        let before = spent(&house);
        let url = format!("/models/{id}/price");
        let doubled = [("act", "preview"), ("version", "1"), ("input", "2"), ("output", "4")];
        let preview = admin.post(&url, &doubled);
        assert_eq!(preview.status, StatusCode::OK);
        let total: i64 = before.iter().sum();
        let credits = |micros| keyhouse::domain::credits::Credits::from_micros(micros).for_people();
        for part in ["All", "3 calls", &credits(total), &credits(2 * total), "(+100.0 %)"] {
            assert!(preview.body.contains(part), "{part}: {}", preview.body);
        }
        assert_eq!(house.with(|c| prices::versions(c, id, 10)).len(), 1, "a preview sets nothing");

        let set = [("act", "set"), ("version", "1"), ("input", "2"), ("output", "4")];
        assert_eq!(admin.post(&url, &set).status, StatusCode::SEE_OTHER);
        // Whoever comes second is told.
        let second = admin.post(&url, &set);
        assert_eq!(second.status, StatusCode::CONFLICT);
        assert!(second.body.contains("Somebody else set a price") && second.body.contains("value=\"2\""));
        assert_eq!(house.with(|c| prices::versions(c, id, 10)).len(), 2);
        refused(&admin.post(&url, &[("act", "preview"), ("input", "x")]), "input");

        assert_eq!(call(&house, &key, "parrot").0, 200);
        let after = spent(&house);
        assert_eq!((&after[1..], after[0]), (&before[..], 2 * before[0]));
        let page = admin.get(&format!("/models/{id}")).body;
        assert!(page.contains("2 in, 4 out per 1M tokens") && page.contains("1 in, 2 out per 1M tokens"));
    }
}

#[test]
fn routes_are_added_changed_and_removed_by_the_rule_of_dialects() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let seed = seed(&house);
        let (echo, claude) = (seed.echo("echo", 0), seed.anthropic("claude", "http://127.0.0.1:9/v1", "s"));
        let openai = seed.openai("local", "http://127.0.0.1:9/v1", "s");
        let id = seed.model("parrot", PRICE, 100, &[openai]);
        let url = format!("/models/{id}/routes");
        let (new, echo, claude) = (format!("{url}/new"), echo.to_string(), claude.to_string());
        for (field, value, error) in [
            ("upstream", openai.to_string().as_str(), "upstream"),
            ("upstream", claude.as_str(), "upstream"),
            ("upstream", "x", "upstream"),
            ("upstream", "424242", "upstream"),
            ("priority", "-1", "priority"),
            ("weight", "0", "weight"),
            ("weight", "99999999", "weight"),
        ] {
            let mut form = vec![(field, value)];
            form.extend([("upstream", echo.as_str())].iter().filter(|(name, _)| *name != field));
            refused(&admin.post(&new, &form), error);
        }
        let added = admin.post(&new, &[("upstream", &echo), ("priority", "0"), ("upstream_model", "theirs")]);
        assert_eq!(added.status, StatusCode::SEE_OTHER, "{added:?}");
        let edit = format!("{url}/{openai}");
        assert!(admin.get(&edit).body.contains("Edit route"));
        assert_eq!(admin.post(&edit, &[("priority", "7"), ("weight", "3")]).status, StatusCode::SEE_OTHER);
        assert_eq!(call(&house, &key, "parrot").0, 200);
        let page = admin.get(&format!("/models/{id}")).body;
        assert!(page.contains("theirs") && page.contains(">7<") && page.contains(">3<"), "{page}");

        let remove = format!("{url}/{echo}/remove");
        assert_eq!(admin.post(&remove, &[]).status, StatusCode::SEE_OTHER);
        assert_eq!(admin.post(&remove, &[]).status, StatusCode::NOT_FOUND);
        assert_eq!(admin.post(&format!("{url}/{openai}/remove"), &[]).status, StatusCode::SEE_OTHER);
        assert_eq!(call(&house, &key, "parrot").0, 503);
        assert!(admin.get("/models?show=no-route").body.contains("parrot"));
        for missing in [format!("{url}/{claude}"), "/models/99/routes/new".into(), format!("{url}/x")] {
            assert_eq!(admin.get(&missing).status, StatusCode::NOT_FOUND, "{missing}");
        }
    }
}

#[test]
fn a_hidden_model_is_offered_nowhere_and_works() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let echo = seed(&house).echo("echo", 0);
        let id = seed(&house).model("parrot", PRICE, 100, &[echo]);
        seed(&house).model("finch", PRICE, 100, &[echo]);
        let hide = |hidden| admin.post(&format!("/models/{id}/hidden"), &[("hidden", hidden)]);
        assert_eq!(hide("true").status, StatusCode::SEE_OTHER);
        assert_eq!(listed(&house, &key), ["finch"]);
        assert_eq!(call(&house, &key, "parrot").0, 200);
        let form = admin.htmx_get("/keys/new").body;
        assert!(form.contains("value=\"finch\"") && !form.contains("parrot"), "{form}");
        assert!(admin.get(&format!("/models/{id}")).body.contains("Calls to it work as before"));
        assert!(admin.get("/models?show=hidden").body.contains("parrot"));
        assert!(!admin.get("/models?show=offered").body.contains("parrot"));
        assert_eq!(hide("false").status, StatusCode::SEE_OTHER);
        assert_eq!(listed(&house, &key), ["finch", "parrot"]);
        let acts = house.audit();
        assert!(
            acts.contains(&"root model.hide".into()) && acts.contains(&"root model.unhide".into()),
            "{acts:?}"
        );
    }
}

#[test]
fn a_deleted_model_is_gone_at_once_and_its_charges_stay() {
    for engine in engines() {
        let house = House::start(engine);
        let (admin, key) = (admin(&house), caller(&house));
        let echo = seed(&house).echo("echo", 0);
        let id = seed(&house).model("parrot", PRICE, 100, &[echo]);
        assert_eq!(call(&house, &key, "parrot").0, 200);
        // What a call that was decided before the deletion holds with.
        let decided = house.with(|c| models::find_offer(c, "parrot"));
        assert!(admin.get(&format!("/models/{id}/delete")).body.contains("Delete “parrot”?"));
        let deleted = admin.post(&format!("/models/{id}/delete"), &[]);
        assert_eq!((deleted.status, deleted.location()), (StatusCode::SEE_OTHER, "/models"));
        assert_eq!(call(&house, &key, "parrot"), (404, json!("model_not_found")));
        assert_eq!(call(&house, &key, &format!("parrot#{id}")).0, 404);
        assert!(listed(&house, &key).is_empty());
        for path in ["", "/price", "/edit", "/delete", "/routes/new"] {
            assert_eq!(admin.get(&format!("/models/{id}{path}")).status, StatusCode::NOT_FOUND, "{path}");
        }
        let set = admin.post(&format!("/models/{id}/price"), &[("input", "1"), ("version", "1")]);
        assert_eq!(set.status, StatusCode::NOT_FOUND);
        let charges = house.with(|c| charges::newest_of_key(c, key.user_id, key.id, 10));
        assert_eq!((charges.len(), charges[0].model.as_str()), (1, "parrot"));
        assert_eq!(charges[0].price_id, decided.price.id);

        // The name is free, and so is the upstream.
        let other = seed(&house).model("parrot", PRICE, 100, &[echo]);
        assert_ne!(other, id);
        assert_eq!(call(&house, &key, "parrot").0, 200);
        house.with(|c| models::delete(c, other, &keyhouse::store::audit::Actor::cli(), 1));
        assert_eq!(admin.post(&format!("/upstreams/{echo}/delete"), &[]).status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn hundreds_of_models_are_searched_and_paged() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let echo = seed(&house).echo("echo", 0);
        for number in 0..120 {
            seed(&house).model(&format!("model-{number:03}"), PRICE, 100, &[echo]);
        }
        let names = |body: &str| -> Vec<String> {
            let parts = body.split("<div class=\"row-title\"><a href=\"/models/").skip(1);
            parts.filter_map(|part| Some(part.split_once('>')?.1.split_once('<')?.0.to_owned())).collect()
        };
        let link = |body: &str, id: &str| -> String {
            let part = body.split(&format!("id=\"{id}\"")).nth(1).expect("a link");
            part.split("href=\"")
                .nth(1)
                .and_then(|part| part.split('"').next())
                .expect("a URL")
                .replace("&#38;", "&")
        };
        let first = admin.get("/models").body;
        assert_eq!(names(&first)[0], "model-000");
        let second = admin.get(&link(&first, "next-page")).body;
        assert_eq!((names(&second)[0].as_str(), names(&second).len()), ("model-050", 50));
        let third = admin.htmx_get(&link(&second, "next-page")).body;
        assert_eq!(names(&third).len(), 20);
        assert!(!third.contains("id=\"next-page\"") && !third.contains("<!doctype"));
        let back = admin.get(&link(&third, "previous-page")).body;
        assert_eq!(names(&back), names(&second));
        assert_eq!(names(&admin.get("/models?q=MODEL-11").body).len(), 10);
        assert!(admin.get("/models?q=%25_").body.contains("No model matches"));
        for nonsense in ["/models?after=%00%ff", "/models?before=", "/models?show=x&q=%F0%9F"] {
            assert_eq!(admin.get(nonsense).status, StatusCode::OK, "{nonsense}");
        }
    }
}

#[test]
fn for_others_these_pages_do_not_exist() {
    for engine in engines() {
        let house = House::start(engine);
        let echo = seed(&house).echo("echo", 0);
        let id = seed(&house).model("parrot", PRICE, 100, &[echo]);
        let bob = house.user("bob");
        for path in [
            "/models",
            "/models/new",
            "/models/import",
            "/models/import/preview",
            "/upstreams",
            "/upstreams/new",
        ] {
            assert_eq!(bob.get(path).status, StatusCode::NOT_FOUND, "{path}");
        }
        for noun in [format!("/models/{id}"), format!("/upstreams/{echo}")] {
            for path in ["", "/edit", "/delete"] {
                assert_eq!(bob.get(&format!("{noun}{path}")).status, StatusCode::NOT_FOUND, "{noun}{path}");
            }
            for path in ["/delete", "/hidden", "/price", "/enabled", "/test", "/edit", "/routes/new"] {
                let answer = bob.post(&format!("{noun}{path}"), &[("enabled", "false"), ("input", "0")]);
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{noun}{path}");
            }
        }
        assert!(!bob.get("/keys").body.contains("href=\"/models\""));
        let anon = house.anon().get("/models");
        assert_eq!(anon.status, StatusCode::SEE_OTHER);
        assert_eq!(house.with(models::list).len(), 1);
    }
}

#[test]
fn the_maximum_output_bounds_the_next_call() {
    for engine in engines() {
        let house = House::start(engine);
        let admin = admin(&house);
        let echo = seed(&house).echo("echo", 0);
        let id = seed(&house).model("parrot", PRICE, 100, &[echo]);
        let url = format!("/models/{id}/edit");
        for bad in ["", "0", "-1", "1e3", "1000000001", "many"] {
            refused(&admin.post(&url, &[("max_output", bad)]), "max_output");
        }
        assert_eq!(admin.post(&url, &[("max_output", "2048")]).status, StatusCode::SEE_OTHER);
        let model = house.with(|c| models::find(c, id));
        assert_eq!((model.max_output_tokens, model.revision), (2048, 2));
    }
}
