//! The Groups page by HTTP: prices change from the next call, and who may choose what for new keys.

use super::keys::{create, keys_of, make_key, names};
use super::support::{House, Person, engines, send};
use super::users::{add_admin, house_with_admin};
use keyhouse::clock::now_ms;
use keyhouse::store::audit::Actor;
use keyhouse::store::groups::{self, Change, Group};
use reqwest::StatusCode;

fn group(house: &House, name: &str) -> Group {
    house.with(|connection| groups::find_by_name(connection, name))
}

/// Edits a group by its form, as it is now but for these fields.
fn edit(house: &House, admin: &Person, name: &str, fields: &[(&str, &str)]) -> super::support::Answer {
    let stored = group(house, name);
    let (revision, multiplier) = (stored.revision.to_string(), stored.multiplier().to_string());
    let mut all = fields.to_vec();
    for (field, value) in
        [("name", name), ("multiplier", &multiplier), ("who", "everybody"), ("revision", &revision)]
    {
        if !fields.iter().any(|(name, _)| *name == field) {
            all.push((field, value));
        }
    }
    send(admin.form(&format!("/groups/{}/edit", stored.id), &all).header("hx-request", "true"))
}

/// The names of the groups that the key form offers, the chosen one first.
fn offered(person: &Person) -> Vec<String> {
    let html = person.get("/keys/new").body;
    let (_, select) = html.split_once("id=\"key-form-group\"").expect("the group's field");
    let options = select.split("</select>").next().expect("options").split("<option ").skip(1);
    let mut names: Vec<(bool, String)> = options
        .map(|option| {
            let label = option.split_once('>').expect("a label").1;
            (!option.contains(" selected"), label.split(" (×").next().expect("a name").to_owned())
        })
        .collect();
    names.sort_by_key(|(other, _)| *other);
    names.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn a_group_is_made_edited_and_deleted() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let made =
            admin.post("/groups/new", &[("name", "gold"), ("multiplier", "1.5"), ("who", "everybody")]);
        assert_eq!((made.status, made.location()), (StatusCode::SEE_OTHER, "/groups"));
        let page = admin.get("/groups").body;
        assert_eq!(names(&page), ["default", "gold", "premium"]);
        assert!(page.contains("×1.5") && page.contains("Everybody") && page.contains("Saved “gold”"));
        let edited =
            edit(&house, &admin, "gold", &[("name", "silver"), ("multiplier", "0.0001"), ("hidden", "on")]);
        assert_eq!(edited.status, StatusCode::OK, "{}", edited.body);
        assert!(edited.body.contains("silver") && edited.body.contains("Hidden"));
        let acts = house.audit();
        assert_eq!(acts[..3], ["root group.hide", "root group.set_multiplier", "root group.rename"]);
        edit(&house, &admin, "silver", &[("hidden", "on")]);
        assert_eq!(house.audit(), acts, "what is so already leaves no trace");

        let id = group(&house, "silver").id;
        assert!(admin.get(&format!("/groups/{id}/delete")).body.contains("Delete “silver”?"));
        assert_eq!(admin.post(&format!("/groups/{id}/delete"), &[]).location(), "/groups");
        assert_eq!(names(&admin.get("/groups").body), ["default", "premium"]);
        for path in ["edit", "delete"] {
            assert_eq!(admin.get(&format!("/groups/{id}/{path}")).status, StatusCode::NOT_FOUND);
            assert_eq!(admin.post(&format!("/groups/{id}/{path}"), &[]).status, StatusCode::NOT_FOUND);
        }
    }
}

#[test]
fn a_group_that_keys_have_and_the_default_one_stay() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let ada = house.user("ada");
        let premium = group(&house, "premium").id;
        create(&house, &ada, true, &[("name", "k"), ("group_id", &premium.to_string())]);
        let refused = admin.post(&format!("/groups/{premium}/delete"), &[]);
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains("1 key has this group"), "{}", refused.body);
        let default = group(&house, "default").id;
        let refused = admin.post(&format!("/groups/{default}/delete"), &[]);
        assert!(refused.body.contains("so it stays"), "{}", refused.body);
        let renamed = edit(&house, &admin, "default", &[("name", "normal")]);
        assert_eq!(renamed.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(renamed.body.contains("id=\"name-error\""));
        assert_eq!(names(&admin.get("/groups").body).len(), 2);
    }
}

#[test]
fn what_is_typed_wrong_is_refused_beside_its_field() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let long = "x".repeat(61);
        let many: String = (0..1_001).map(|n| format!("user{n}\n")).collect();
        for (field, value, error) in [
            ("name", "", "name-error"),
            ("name", "premium", "name-error"),
            ("name", &long, "name-error"),
            ("multiplier", "", "multiplier-error"),
            ("multiplier", "0", "multiplier-error"),
            ("multiplier", "0.00001", "multiplier-error"),
            ("multiplier", "1000.1", "multiplier-error"),
            ("multiplier", "-1", "multiplier-error"),
            ("multiplier", "NaN", "multiplier-error"),
            ("users", "nobody", "users-error"),
            ("users", "<b>", "users-error"),
            ("users", &many, "users-error"),
        ] {
            let mut fields = vec![(field, value), ("who", "chosen")];
            for (other, kept) in [("name", "kept"), ("multiplier", "1.25"), ("users", "root")] {
                if field != other {
                    fields.push((other, kept));
                }
            }
            let answer = admin.post("/groups/new", &fields);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}={value:.20}");
            assert!(answer.body.contains(&format!("id=\"{error}\"")), "{field}={value:.20}");
            assert!(field == "multiplier" || answer.body.contains("value=\"1.25\""), "what was typed stays");
        }
        assert_eq!(house.with(groups::list).len(), 2);
    }
}

#[test]
fn hidden_and_restricted_groups_are_not_offered_and_not_taken() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let (ada, bob) = (house.user("ada"), house.user("bob"));
        let premium = group(&house, "premium").id.to_string();
        let take =
            |person: &Person| create(&house, person, true, &[("name", "k"), ("group_id", &premium)]).status;
        assert_eq!(offered(&ada), ["default", "premium"]);
        let saved = edit(&house, &admin, "premium", &[("who", "chosen"), ("users", "ADA\nada\n")]);
        assert!(saved.body.contains("1 chosen user"), "{}", saved.body);
        assert_eq!((offered(&ada).len(), offered(&bob)), (2, vec!["default".to_owned()]));
        assert_eq!(take(&ada), StatusCode::OK);
        assert_eq!(take(&bob), StatusCode::UNPROCESSABLE_ENTITY, "a forged form");
        let form = admin.get(&format!("/groups/{premium}/edit")).body;
        assert!(form.contains("\nada</textarea>") && form.contains("value=\"chosen\" checked"), "{form}");

        edit(&house, &admin, "premium", &[("hidden", "on")]);
        assert_eq!(offered(&ada), ["default"]);
        assert_eq!(take(&ada), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(keys_of(&house, "ada").len(), 1, "the key made before keeps its group");
        let page = ada.get("/keys").body;
        assert!(page.contains("premium"), "{page}");

        edit(&house, &admin, "premium", &[]);
        edit(&house, &admin, "default", &[("hidden", "on")]);
        assert_eq!(offered(&ada), ["premium"], "the first there is");
        edit(&house, &admin, "premium", &[("who", "chosen"), ("users", "")]);
        assert!(ada.get("/keys/new").body.contains("There is no group that you may choose"));
    }
}

#[test]
fn of_two_who_edit_a_group_the_second_is_told_and_decides() {
    for engine in engines() {
        let (house, admin) = house_with_admin(engine);
        let other = add_admin(&house, "other");
        let seen = group(&house, "premium").revision.to_string();
        assert_eq!(edit(&house, &admin, "premium", &[("multiplier", "3")]).status, StatusCode::OK);
        let late = edit(&house, &other, "premium", &[("multiplier", "4"), ("revision", &seen)]);
        assert_eq!(late.status, StatusCode::CONFLICT);
        assert!(late.body.contains("Stored now: “premium”, ×3") && late.body.contains("value=\"4\""));
        assert_eq!(group(&house, "premium").multiplier().to_string(), "3");
        assert_eq!(edit(&house, &other, "premium", &[("multiplier", "4")]).status, StatusCode::OK);
        assert_eq!(group(&house, "premium").multiplier().to_string(), "4");
    }
}

#[test]
fn a_group_is_not_deleted_under_a_key_that_is_being_made() {
    for engine in engines() {
        let (house, _) = house_with_admin(engine);
        let ada = house.user("ada");
        make_key(&house, &ada, "first");
        for round in 0..6 {
            let name = format!("g{round}");
            let one = keyhouse::domain::price::Multiplier::ONE;
            let id = house.with(|c| groups::create(c, &name, one, &Actor::cli(), now_ms()));
            std::thread::scope(|scope| {
                scope.spawn(|| house.store.with(|c| groups::delete(c, id, &Actor::cli(), now_ms())));
                let status =
                    create(&house, &ada, true, &[("name", &name), ("group_id", &id.to_string())]).status;
                assert!([StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY].contains(&status), "{status}");
            });
            let made = keys_of(&house, "ada").iter().any(|key| key.name == name);
            let stays = house.with(groups::list).iter().any(|group| group.name == name);
            assert_eq!(made, stays, "round {round}");
        }
    }
}

#[test]
fn a_change_of_the_multiplier_counts_at_once_and_is_written_down() {
    for engine in engines() {
        let (house, _) = house_with_admin(engine);
        let premium = group(&house, "premium");
        let three = keyhouse::domain::price::Multiplier::parse("3").expect("a multiplier");
        house.with(|c| {
            groups::change(c, premium.id, None, &[Change::Multiplier(three)], &Actor::cli(), now_ms())
        });
        let changed = group(&house, "premium");
        assert!(changed.revision > premium.revision, "a call that was decided before is decided again");
        let events = house.with(|c| keyhouse::store::audit::newest(c, 1));
        assert_eq!(events[0].subject, format!("group {} 2 → 3", premium.id));
    }
}
