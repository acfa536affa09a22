//! Upstreams that fail: the next is tried, the caller learns no secret, and nothing is charged for nothing.

use crate::house::{House, PRICE, ask, ask_with};
use crate::support::upstream::{Act, Upstream, completion};
use crate::support::{Engine, engines};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

fn good() -> Act {
    Act::json(200, completion("hi", &json!({"prompt_tokens": 5, "completion_tokens": 1})))
}

/// The model `pair` on two upstreams; the first is to be tried first.
pub fn pair(engine: Engine, first: Act) -> (House, Upstream, Upstream) {
    let house = House::start(engine);
    let (first, second) = (Upstream::start(first), Upstream::start(good()));
    let ids = [
        house.seed.openai("first", &first.url, "sk-first-secret"),
        house.seed.openai("second", &second.url, "sk-second-secret"),
    ];
    house.seed.model("pair", PRICE, 100, &ids);
    (house, first, second)
}

#[test]
fn the_next_upstream_takes_over_from_one_that_fails() {
    for engine in engines() {
        for act in [Act::json(500, "{}"), Act::json(429, "{}"), Act::json(401, "{}"), Act::Leave, Act::Hang] {
            let (house, first, second) = pair(engine, act.clone());
            assert_eq!(house.chat(&ask("pair")).status, 200, "{act:?}");
            assert_eq!((first.asked().is_empty(), second.asked().len()), (false, 1), "{act:?}");
            assert_eq!(second.asked()[0].header("authorization"), Some("Bearer sk-second-secret"));
            assert_eq!(house.used_micros(), 7);
            house.is_sound();
        }
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_is_passed_over() {
    for engine in engines() {
        let (house, first, second) = pair(engine, good());
        drop(first);
        // The port may still be listening for the moment it takes to stop.
        assert_eq!(house.chat(&ask("pair")).status, 200);
        assert_eq!(house.chat(&ask("pair")).status, 200);
        assert!(!second.asked().is_empty());
    }
}

#[test]
fn when_all_upstreams_are_down_nothing_is_charged() {
    for engine in engines() {
        for stream in [false, true] {
            let (house, _first, second) = pair(engine, Act::json(503, "<html>"));
            second.set(Act::Leave);
            let answer = house.chat(&ask_with("pair", json!({"stream": stream})));
            assert_eq!(answer.refusal(), (503, "upstream_unavailable".into()));
            assert!(answer.header("retry-after").is_some());
            let charge = house.charge();
            assert_eq!((charge.state.as_str(), charge.outcome.as_deref()), ("released", Some("failed")));
            house.is_sound();
        }
    }
}

#[test]
fn an_upstreams_own_refusal_is_passed_on_without_its_secret_and_host() {
    for engine in engines() {
        let (house, first, second) = pair(engine, Act::Hang);
        for status in [400, 403, 404, 413, 422] {
            let host = first.url.trim_start_matches("http://").trim_end_matches("/v1");
            let message = format!("no: sk-first-secret at {} ({host}) is too long", first.url);
            let body = json!({"error": {"message": message, "code": "context_length_exceeded"}}).to_string();
            first.set(Act::json(status, body));
            let answer = house.chat(&ask("pair"));
            assert_eq!(
                (answer.status, &answer.json()["error"]["code"]),
                (status, &json!("context_length_exceeded"))
            );
            assert!(answer.body.contains("is too long"));
            assert!(!answer.body.contains("sk-first-secret") && !answer.body.contains(host), "{answer:?}");
        }
        assert!(second.asked().is_empty());
        assert_eq!(house.used_micros(), 0);
        house.is_sound();
    }
}

#[test]
fn a_refusal_that_is_not_json_is_put_into_words() {
    for engine in engines() {
        let (house, _first, _second) = pair(engine, Act::json(400, "<html>sk-first-secret</html>"));
        let answer = house.chat(&ask("pair"));
        assert_eq!(answer.refusal(), (400, "upstream_refused".into()));
    }
}

#[test]
fn a_busy_upstream_says_when_to_come_back() {
    for engine in engines() {
        let busy = Act::Json {
            status: 429,
            headers: vec![("retry-after", "7".into())],
            body: json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}).to_string(),
        };
        let (house, _upstream) = House::with_upstream(engine, busy);
        let answer = house.chat(&ask("m"));
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
        assert_eq!(answer.header("x-should-retry"), None);
        assert_eq!(house.used_micros(), 0);
    }
}

#[test]
fn long_headers_of_an_answer_do_no_harm() {
    for engine in engines() {
        let Act::Json { status, body, .. } = good() else { panic!("JSON") };
        let headers =
            vec![("set-cookie", "c".repeat(20_000)), ("content-security-policy", "p".repeat(20_000))];
        let (house, _upstream) = House::with_upstream(engine, Act::Json { status, headers, body });
        assert_eq!(house.chat(&ask("m")).status, 200);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    for engine in engines() {
        let trap = Upstream::start(good());
        let location = vec![("location", format!("{}/chat/completions", trap.url))];
        let redirect = Act::Json { status: 307, headers: location, body: String::new() };
        let (house, _upstream) = House::with_upstream(engine, redirect);
        assert_eq!(house.chat(&ask("m")).refusal(), (503, "upstream_unavailable".into()));
        assert!(trap.asked().is_empty());
        assert_eq!(house.used_micros(), 0);
    }
}

#[test]
fn an_upstream_on_this_machine_is_not_called_unless_that_is_allowed() {
    for engine in engines() {
        let house = House::start(engine);
        let trap = Upstream::start(good());
        let port = trap.url.trim_start_matches("http://127.0.0.1");
        // As an address, as a name that leads there, and in the disguise of IPv6.
        for (index, host) in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"].into_iter().enumerate() {
            let name = format!("near-{index}");
            let id = house.seed.public_openai(&name, &format!("http://{host}{port}"));
            house.seed.model(&name, PRICE, 100, &[id]);
            assert_eq!(house.chat(&ask(&name)).refusal(), (503, "upstream_unavailable".into()), "{host}");
            let allowed =
                house.seed.openai(&format!("{name}-allowed"), &format!("http://{host}{port}"), "sk-x");
            house.seed.model(&format!("{name}-allowed"), PRICE, 100, &[allowed]);
            assert!(trap.asked().is_empty(), "{host}");
        }
        assert_eq!(house.used_micros(), 0);
        assert_eq!(house.chat(&ask("near-1-allowed")).status, 200);
        assert_eq!(house.chat(&ask("near-1")).status, 503, "its connection is not shared");
        assert_eq!(trap.asked().len(), 1);
        house.is_sound();
    }
}

#[test]
fn an_answer_that_is_none_costs_nothing() {
    for engine in engines() {
        for act in [
            Act::json(200, "<html>garbage"),
            Act::json(200, ""),
            Act::json(200, r#"{"error":{"message":"sk-upstream-secret"}}"#),
            Act::Half { content_type: "application/json", body: completion("hi", &json!(null)) },
        ] {
            let (house, _upstream) = House::with_upstream(engine, act.clone());
            assert_eq!(house.chat(&ask("m")).refusal(), (503, "upstream_unavailable".into()), "{act:?}");
            assert_eq!(house.charge().state, "released");
            house.is_sound();
        }
    }
}

#[test]
fn an_upstream_that_keeps_failing_is_left_alone() {
    for engine in engines() {
        let (house, first, second) = pair(engine, Act::json(500, "{}"));
        for _ in 0..9 {
            assert_eq!(house.chat(&ask("pair")).status, 200);
        }
        assert_eq!((first.asked().len(), second.asked().len()), (5, 9));
    }
}

#[test]
fn nothing_a_caller_writes_changes_where_a_call_goes_or_which_secret_it_bears() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, good());
        let trap = Upstream::start(good());
        let trap_address = trap.url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        let body = ask("m").to_string();
        let key = &house.key.secret;
        let address = house.url.trim_start_matches("http://");
        for (target, host) in [
            ("/v1/chat/completions".to_owned(), trap_address.clone()),
            (format!("http://{trap_address}/v1/chat/completions"), trap_address.clone()),
            (format!("{}/v1/chat/completions", house.url), address.to_owned()),
        ] {
            let request = format!(
                "POST {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nX-Api-Key: {key}\r\n\
                 X-Forwarded-Host: {host}\r\nX-Forwarded-Proto: ftp\r\nForwarded: host={host}\r\n\
                 X-Original-URL: /admin\r\nOpenAI-Organization: org-caller\r\nOpenAI-Project: proj-caller\r\n\
                 Proxy-Authorization: Basic x\r\nCookie: session=x\r\nContent-Type: application/json\r\n\
                 Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut connection = TcpStream::connect(address).expect("connected");
            connection.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            connection.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        }
        assert!(trap.asked().is_empty());
        let asked = upstream.asked();
        assert_eq!(asked.len(), 3);
        for asked in asked {
            assert_eq!(asked.path, "/v1/chat/completions");
            assert_eq!(asked.header("authorization"), Some("Bearer sk-upstream-secret"));
            let host = upstream.url.trim_start_matches("http://").trim_end_matches("/v1");
            assert_eq!(asked.header("host"), Some(host));
            let ours = ["host", "authorization", "user-agent", "content-type", "content-length", "accept"];
            let others: Vec<_> =
                asked.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())).collect();
            assert!(others.is_empty(), "{others:?}");
            assert!(!format!("{asked:?}").contains(key.as_str()));
        }
        for model in ["../admin", "m/../../admin", "m?x=1", "m#", "m\r\nHost: x", "http://x/"] {
            assert_eq!(house.chat(&ask(model)).refusal().1, "model_not_found", "{model}");
        }
        assert_eq!(upstream.asked().len(), 3);
    }
}
