//! Tries beyond the first: when there is one, who pays for it, and which upstream is left alone for how long.

use crate::house::{House, ask, ask_with, eventually};
use crate::support::engines;
use crate::support::upstream::{Act, completion, completion_events};
use crate::upstreams::pair;
use serde_json::json;
use std::time::Duration;

fn refusing(status: u16, retry_after: Option<&str>) -> Act {
    let headers = retry_after.map(|value| ("retry-after", value.to_owned())).into_iter().collect();
    Act::Json { status, headers, body: json!({"error": {"message": "no"}}).to_string() }
}

#[test]
fn what_may_have_passed_is_tried_once_more_and_nothing_else_is() {
    for engine in engines() {
        for (act, tries) in [
            (Act::json(502, "{}"), 2),
            (Act::json(503, "{}"), 2),
            (Act::json(504, "{}"), 2),
            (Act::Leave, 2),
            (Act::json(500, "{}"), 1),
            (refusing(503, Some("30")), 1),
            (Act::json(401, "{}"), 1),
            (Act::json(429, "{}"), 1),
            (Act::json(400, "{}"), 1),
            (Act::Hang, 1),
        ] {
            let (house, upstream) = House::with_upstream(engine, act.clone());
            assert_ne!(house.chat(&ask("m")).status, 200);
            assert_eq!(upstream.asked().len(), tries, "{act:?}");
            house.comes_to_count(&format!("keyhouse_retries_total {}", tries - 1));
            assert_eq!(house.used_micros(), 0);
            house.is_sound();
        }
    }
}

#[test]
fn who_asks_to_be_left_alone_is_while_there_are_others() {
    for engine in engines() {
        for status in [429, 503] {
            let (house, first, second) = pair(engine, refusing(status, Some("30")));
            for _ in 0..4 {
                assert_eq!(house.chat(&ask("pair")).status, 200);
            }
            assert_eq!((first.asked().len(), second.asked().len()), (1, 4), "{status}");
            second.set(Act::json(500, "{}"));
            let answer = house.chat(&ask("pair"));
            assert_eq!(answer.refusal(), (503, "upstream_unavailable".into()));
            let rest: u64 = answer.header("retry-after").expect("a header").parse().expect("seconds");
            assert!((20..=30).contains(&rest), "{rest}");
            house.is_sound();
        }
    }
}

#[test]
fn a_rest_that_the_only_upstream_asks_for_reaches_the_caller() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, refusing(503, Some("30")));
        assert_eq!(house.chat(&ask("m")).header("retry-after"), Some("30"));
        // Nobody else could answer, so it is asked all the same, and its own refusal is passed on as it is.
        upstream.set(refusing(429, Some("3600")));
        let answer = house.chat(&ask("m"));
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3600")));
        upstream.set(Act::json(200, completion("hi", &json!({"prompt_tokens": 1, "completion_tokens": 1}))));
        assert_eq!(house.chat(&ask("m")).status, 200);
    }
}

#[test]
fn an_answer_that_is_none_is_asked_for_elsewhere_and_counts_against_who_gave_it() {
    for engine in engines() {
        let good = completion_events(&["hi"], None) + "data: [DONE]\n\n";
        let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
        for (act, stream) in [
            (Act::json(200, "oops"), false),
            (Act::json(200, r#"{"error":{"message":"overloaded"}}"#), false),
            (Act::Half { content_type: "application/json", body: completion("hi", &json!({})) }, false),
            (Act::json(200, r#"{"error":{"message":"overloaded"},"usage":{"prompt_tokens":0}}"#), false),
            (Act::json(200, r#"{"error":{"message":"overloaded"},"choices":[]}"#), false),
            (Act::json(200, "{}"), false),
            (Act::events(error), true),
            (Act::events(format!(": wait\n\n: wait\n\n{error}")), true),
            (
                Act::Events {
                    bytes: format!(": wait\n\n{error}").into(),
                    piece_bytes: 12,
                    pause: Duration::from_millis(5),
                    cut_at: None,
                },
                true,
            ),
            (Act::events(error.trim_end()), true),
            (Act::events(": wait\n\n"), true),
            (Act::events("<html>busy</html>"), true),
            (Act::events(""), true),
        ] {
            let (house, first, second) = pair(engine, act.clone());
            if stream {
                second.set(Act::events(good.clone()));
            }
            let answer = house.chat(&ask_with("pair", json!({"stream": stream})));
            assert_eq!((answer.status, first.asked().len()), (200, 1), "{act:?}: {answer:?}");
            assert!(answer.body.contains("hi") && !answer.body.contains("error"), "{act:?}: {answer:?}");
            let lost = |line: &str| {
                line.contains(r#"upstream="first""#) && line.ends_with(r#"result="broke_off"} 1"#)
            };
            eventually("it is counted", || house.metrics().lines().any(lost).then_some(()));
            house.is_sound();
        }
    }
}

#[test]
fn streams_that_end_by_an_error_or_without_an_end_count_and_mistakes_of_callers_do_not() {
    for engine in engines() {
        let begun = completion_events(&["hello", " world"], None);
        let (begun, _) = begun.split_once("\n\n").expect("events");
        let error =
            |kind: &str| format!("data: {{\"error\":{{\"message\":\"no\",\"type\":\"{kind}\"}}}}\n\n");
        for (stream, counts) in [
            (format!("{begun}\n\n{}", error("server_error")), true),
            (format!("{begun}\n\n"), true),
            (format!("{begun}\n\n{}", error("invalid_request_error")), false),
            (error("BadRequestError"), false),
            (error("x").replace("\"type\":\"x\"", "\"code\":400"), false),
        ] {
            let (house, upstream) = House::with_upstream(engine, Act::events(stream.clone()));
            for _ in 0..6 {
                house.chat(&ask_with("m", json!({"stream": true})));
            }
            assert_eq!(upstream.asked().len(), if counts { 5 } else { 6 }, "{stream}");
            house.is_sound();
        }
    }
}

#[test]
fn whether_to_try_again_is_passed_on() {
    for engine in engines() {
        let headers = vec![("x-should-retry", "false".to_owned())];
        let body = json!({"error": {"message": "no quota", "code": "insufficient_quota"}}).to_string();
        let (house, _upstream) = House::with_upstream(engine, Act::Json { status: 429, headers, body });
        let answer = house.chat(&ask("m"));
        assert_eq!((answer.status, answer.header("x-should-retry")), (429, Some("false")));
    }
}

#[test]
fn further_tries_are_paid_for_by_a_budget() {
    for engine in engines() {
        // Busy is not broken: no circuit opens, so each call would try the second.
        let (house, first, second) = pair(engine, Act::json(429, "{}"));
        let answers = (0..30).filter(|_| house.chat(&ask("pair")).status == 200).count();
        // A reserve of 10, and a fifth of 30 calls.
        assert_eq!((answers, first.asked().len(), second.asked().len()), (16, 30, 16));
        house.comes_to_count("keyhouse_failovers_total 16");
        house.comes_to_count("keyhouse_retries_denied_total 14");
        house.is_sound();
    }
}

#[test]
fn a_403_about_our_secret_is_not_the_callers() {
    for engine in engines() {
        let error = json!({"type": "permission_error", "message": "sk-first-secret may not"});
        let (house, first, second) = pair(engine, Act::json(403, json!({"error": error}).to_string()));
        assert_eq!(house.chat(&ask("pair")).status, 200);
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
        second.set(Act::json(401, "{}"));
        let answer = house.chat(&ask("pair"));
        assert_eq!(answer.refusal(), (503, "upstream_unavailable".into()));
        assert!(!answer.body.contains("permission"), "{answer:?}");
    }
}

#[test]
fn an_upstream_whose_streams_break_off_is_left_alone_after_a_while() {
    for engine in engines() {
        let bytes = completion_events(&["hello", " world"], None).into_bytes();
        let cut_at = Some(bytes.len() / 2);
        let cut = Act::Events { bytes, piece_bytes: usize::MAX, pause: std::time::Duration::ZERO, cut_at };
        let (house, upstream) = House::with_upstream(engine, cut);
        for _ in 0..5 {
            let answer = house.chat(&ask_with("m", json!({"stream": true})));
            assert!(answer.body.contains("upstream_broke_off"), "{answer:?}");
        }
        assert_eq!(house.chat(&ask("m")).refusal(), (503, "upstream_unavailable".into()));
        assert_eq!(upstream.asked().len(), 5);
        let page = house.metrics();
        let has =
            |start: &str, end: &str| page.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(has("keyhouse_upstream_state{", r#"upstream="fake"} 2"#), "{page}");
        assert!(has("keyhouse_upstream_calls_total{", r#"result="broke_off"} 5"#), "{page}");
        assert!(has("keyhouse_upstream_breaker_openings_total{", r#"upstream="fake"} 1"#), "{page}");
        house.is_sound();
    }
}

#[test]
fn neither_a_callers_own_mistakes_nor_slowness_open_a_circuit() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, Act::json(400, r#"{"error":{}}"#));
        for _ in 0..7 {
            assert_eq!(house.chat(&ask("m")).status, 400);
        }
        let pause = std::time::Duration::from_millis(20);
        let bytes = completion_events(&["slow"], None).into_bytes();
        upstream.set(Act::Events { bytes, piece_bytes: 40, pause, cut_at: None });
        for _ in 0..6 {
            assert!(house.chat(&ask_with("m", json!({"stream": true}))).body.ends_with("data: [DONE]\n\n"));
        }
        assert_eq!(upstream.asked().len(), 13);
    }
}

#[test]
fn an_upstream_of_two_that_dies_under_load_costs_no_caller_an_answer() {
    for engine in engines() {
        let (house, first, _second) = pair(engine, Act::Leave);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| house.chat(&ask("pair")).status)).collect();
            calls.into_iter().map(|call| call.join().expect("a status")).collect()
        });
        assert_eq!(statuses, [200; 8]);
        assert!(first.asked().len() <= 8);
        house.is_sound();
    }
}
