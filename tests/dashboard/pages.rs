//! What every page has: headers, files, errors with a way back.

use super::support::{House, engines, send};
use keyhouse::config::Reach;
use reqwest::StatusCode;

#[test]
fn every_answer_carries_a_strict_policy_and_is_kept_by_no_cache() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        for path in ["/", "/sign-in", "/account/password", "/nothing/here", "/setup"] {
            let answer = ada.get(path);
            let policy = answer.header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
                "{path}: {policy}"
            );
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
            assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert_eq!(answer.header("strict-transport-security"), "", "{path}: plain HTTP has none");
            assert!(!answer.header("x-request-id").is_empty(), "{path}");
            for forbidden in ["<script>", "<style", " style=", " onclick=", "hx-on"] {
                assert!(!answer.body.contains(forbidden), "{path} has {forbidden}");
            }
        }
    }
}

#[test]
fn https_is_asked_for_again_where_there_is_https() {
    for engine in engines() {
        let reach = Reach {
            public_url: Some("https://keys.example".parse().expect("a URL")),
            trusted_proxies: Vec::new(),
        };
        let house = House::start_with(engine, reach);
        assert_eq!(house.anon().get("/sign-in").header("strict-transport-security"), "max-age=31536000");
    }
}

#[test]
fn the_gateway_and_probes_know_no_sessions() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        for path in ["/healthz", "/readyz"] {
            let answer = send(ada.http.get(ada.url(path)).header("cookie", "keyhouse=garbage"));
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-security-policy"), "");
        }
    }
}

#[test]
fn files_are_kept_for_ever_under_their_fingerprint() {
    for engine in engines() {
        let house = House::start(engine);
        let anon = house.anon();
        let page = anon.get("/sign-in").body;
        let mut files: Vec<&str> = page.split('"').filter(|part| part.starts_with("/static/")).collect();
        files.dedup();
        assert!(files.len() >= 5, "{files:?}");
        for url in &files {
            let answer = anon.get(url.split('#').next().expect("a part"));
            assert_eq!(answer.status, StatusCode::OK, "{url}");
            assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(answer.header("set-cookie").is_empty());
            let kind = answer.header("content-type");
            let right = [(".css", "text/css"), (".js", "text/javascript"), (".svg", "image/svg+xml")];
            assert!(
                right.iter().any(|(end, start)| url.contains(end) && kind.starts_with(start)),
                "{url}: {kind}"
            );
        }
        let css = files.iter().find(|url| url.contains("tabler.min.css")).expect("Tabler");
        let css = anon.http.get(anon.url(css)).header("accept-encoding", "gzip").send().expect("answered");
        assert_eq!(css.headers().get("content-encoding").map(|value| value.as_bytes()), Some(&b"gzip"[..]));
        for gone in ["/static/000000000000/app.css", "/static/x/y", "/static/", "/static/../Cargo.toml"] {
            assert_eq!(anon.get(gone).status, StatusCode::NOT_FOUND, "{gone}");
        }
    }
}

#[test]
fn an_address_that_no_page_has_offers_a_way_back() {
    for engine in engines() {
        let house = House::start(engine);
        for path in ["/nothing/here", "/keys.php", "/%00", "/%ff%fe", "/setup?token=wrong"] {
            let answer = house.anon().get(path);
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
            assert!(answer.header("content-type").starts_with("text/html"), "{path}");
            assert!(answer.body.contains("href=\"/\"") && answer.body.contains("Not found"), "{path}");
        }
        let wrong_method = house.anon().get("/sign-out");
        assert!(wrong_method.status.is_client_error());
        assert!(wrong_method.body.contains("href=\"/\""), "{wrong_method:?}");
    }
}

#[test]
fn htmx_gets_its_errors_as_toasts() {
    for engine in engines() {
        let house = House::start(engine);
        let answer = house.anon().htmx_get("/nothing/here");
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.header("hx-reswap"), "none");
        assert!(answer.header("hx-trigger").starts_with(r#"{"toast":{"kind":"error","text":"#), "{answer:?}");
        assert!(answer.body.is_empty());
    }
}

#[test]
fn htmx_is_told_to_sign_in_by_a_header_and_comes_back_to_the_page_it_was_on() {
    for engine in engines() {
        let house = House::start(engine);
        let anon = house.anon();
        let request = anon.http.get(anon.url("/account/password")).header("hx-request", "true");
        let answer = send(request.header("hx-current-url", anon.url("/keys?status=active")));
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("hx-redirect"), "/sign-in?next=%2Fkeys%3Fstatus%3Dactive");
        let request = anon.http.get(anon.url("/account/password")).header("hx-request", "true");
        let answer = send(request.header("hx-current-url", "javascript:alert(1)"));
        assert_eq!(answer.header("hx-redirect"), "/sign-in");
    }
}

#[test]
fn a_form_that_comes_after_its_session_is_not_lost_to_htmx_and_found_again_without() {
    for engine in engines() {
        let house = House::start(engine);
        let anon = house.anon();
        for path in ["/keys/new", "/users/1/grant", "/keys/1/enabled"] {
            let answer = send(anon.form(path, &[("name", "typed")]).header("hx-request", "true"));
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!((answer.header("hx-redirect"), answer.header("hx-reswap")), ("", "none"));
            assert!(answer.header("hx-trigger").contains("Your session ended. Sign in in another tab"));
        }
        for (path, page, next) in [
            ("/keys/new", "/keys/new", "/sign-in?next=%2Fkeys%2Fnew"),
            ("/keys/1/enabled", "/keys", "/sign-in"),
            ("/keys/1/reveal", "/keys/1/reveal", "/sign-in"),
        ] {
            let answer = send(anon.form(path, &[]).header("referer", anon.url(page)));
            assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, next), "{path}");
        }
    }
}

#[test]
fn a_database_that_is_away_is_said_to_be_so() {
    for engine in engines() {
        let house = House::start(engine);
        let ada = house.user("ada");
        house.with(|connection| {
            use diesel::connection::SimpleConnection;
            Ok(connection.batch_execute("ALTER TABLE sessions RENAME TO lost")?)
        });
        let answer = ada.get("/account/password");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.body.contains("Not available right now"), "{}", answer.body);
        assert!(!answer.body.contains("sessions") && !answer.body.contains("SQL"), "{}", answer.body);
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        assert!(!answer.header("x-request-id").is_empty());
        assert!(answer.header("set-cookie").is_empty(), "nobody is signed out by an outage");
        let toast = ada.htmx_get("/account/password");
        assert!(toast.header("hx-trigger").contains("toast"), "{toast:?}");
    }
}
