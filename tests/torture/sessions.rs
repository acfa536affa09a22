//! A session is one for all servers of a database, and ends on all of them at once.

use crate::database::{Engine, engines};
use crate::edits::Editor;
use crate::site::Site;
use keyhouse::clock::now_ms;
use keyhouse::store::audit::Actor;
use keyhouse::store::users;
use reqwest::StatusCode;

#[test]
fn whoever_is_signed_in_is_so_on_every_server_until_the_next_request_after_it_ends() {
    if !engines().contains(&Engine::Postgres) {
        return eprintln!("sessions: skipped, no PostgreSQL is named");
    }
    let site = Site::new(Engine::Postgres);
    let (one, other) = (site.serve(), site.serve());
    let mut editor = Editor::sign_in(&site, &one.url);
    editor.url.clone_from(&other.url);
    assert_eq!(editor.get("/keys"), StatusCode::OK);
    assert_eq!(editor.post("/sign-out", &[]), StatusCode::SEE_OTHER);
    for server in [&one, &other] {
        editor.url.clone_from(&server.url);
        assert_eq!(editor.get("/keys"), StatusCode::SEE_OTHER);
    }

    assert_eq!(editor.enter(), StatusCode::SEE_OTHER);
    editor.url.clone_from(&one.url);
    assert_eq!(editor.get("/keys"), StatusCode::OK);
    let disabled =
        site.seed.store.with(|c| users::set_enabled(c, editor.user_id(), false, &Actor::cli(), now_ms()));
    disabled.expect("disabled");
    for server in [&one, &other] {
        editor.url.clone_from(&server.url);
        assert_eq!(editor.get("/keys"), StatusCode::SEE_OTHER);
    }
}
