//! Streams: relayed as they come, charged for what was produced, and never ended by a false `[DONE]`.

use crate::house::{House, ask_with, eventually, read};
use crate::support::engines;
use crate::support::upstream::{Act, completion_events};
use serde_json::{Value, json};
use std::io::Read;
use std::time::Duration;

fn usage() -> Value {
    json!({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}})
}

fn ask_stream(options: Value) -> Value {
    ask_with("m", json!({"stream": true, "stream_options": options}))
}

#[test]
fn chunks_reach_the_caller_as_they_were_sent() {
    for engine in engines() {
        let sent = format!(
            ": hello\r\n\r\nevent: x\ndata: {{}}\n\n{}",
            completion_events(&["é", "b"], Some(usage()))
        );
        let (house, upstream) = House::with_upstream(engine, Act::events(sent.clone()));
        for piece_bytes in [1, 3, 1_000] {
            upstream.set(Act::Events {
                bytes: sent.clone().into_bytes(),
                piece_bytes,
                pause: Duration::ZERO,
                cut_at: None,
            });
            let answer = house.chat(&ask_stream(json!({"include_usage": true})));
            assert_eq!(answer.body, sent);
        }
        assert_eq!(house.used_micros(), 3 * (7 + 2 * 3));
        house.is_sound();
    }
}

#[test]
fn usage_is_asked_for_upstream_and_hidden_from_who_did_not_ask() {
    for engine in engines() {
        let sent = completion_events(&["a"], Some(usage()));
        let (house, upstream) = House::with_upstream(engine, Act::events(sent.clone()));
        for options in [json!(null), json!({"include_usage": false})] {
            let answer = house.chat(&ask_stream(options));
            assert_eq!(answer.events().len(), 3, "{answer:?}");
            assert!(!answer.body.contains("prompt_tokens"));
        }
        assert!(house.chat(&ask_stream(json!({"include_usage": true}))).body == sent);
        for asked in upstream.asked() {
            assert_eq!(asked.json()["stream_options"]["include_usage"], true);
        }
        assert_eq!(house.used_micros(), 3 * (7 + 2 * 3));
    }
}

#[test]
fn a_stream_that_dies_is_charged_for_what_was_produced() {
    for engine in engines() {
        let sent = completion_events(&["12345678", "12345678", "12345678"], Some(usage()));
        let after_two = sent.match_indices("\n\n").nth(1).expect("events").0 + 2;
        let act = Act::Events {
            bytes: sent.into_bytes(),
            piece_bytes: 50,
            pause: Duration::ZERO,
            cut_at: Some(after_two + 10),
        };
        let (house, _upstream) = House::with_upstream(engine, act);
        let body = ask_stream(json!(null));
        let answer = house.chat(&body);
        let events = answer.events();
        assert_eq!((events.len(), answer.body.contains("[DONE]")), (3, false), "{answer:?}");
        let error: Value = serde_json::from_str(&events[2]).expect("JSON");
        assert_eq!(error["error"]["code"], "upstream_broke_off");
        let charge = house.charge();
        let input = i64::try_from(body.to_string().len().div_ceil(4)).expect("small");
        assert_eq!(
            (charge.outcome.as_deref(), charge.usage_source.as_deref()),
            (Some("cut"), Some("estimated"))
        );
        assert_eq!((charge.input_tokens, charge.output_tokens), (Some(input), Some(4)));
        assert_eq!(house.used_micros(), input + 2 * 4);
        house.is_sound();
    }
}

#[test]
fn a_stream_that_ends_without_done_has_ended_all_the_same() {
    for engine in engines() {
        let sent = completion_events(&["a"], Some(usage())).replace("data: [DONE]\n\n", "");
        let (house, upstream) = House::with_upstream(engine, Act::events(sent));
        let answer = house.chat(&ask_stream(json!(null)));
        assert_eq!((answer.events().len(), answer.body.contains("error")), (2, false));
        assert_eq!(house.charge().outcome.as_deref(), Some("complete"));
        // But not before its finish reason.
        let cut = completion_events(&["a"], None);
        let (first, _) = cut.split_once("\n\n").expect("events");
        upstream.set(Act::events(format!("{first}\n\n")));
        assert!(house.chat(&ask_stream(json!(null))).body.contains("upstream_broke_off"));
        house.is_sound();
    }
}

#[test]
fn a_last_event_without_its_blank_line_is_read_like_the_others() {
    for engine in engines() {
        let sent = completion_events(&["a", "b"], Some(usage())).replace("data: [DONE]\n\n", "");
        let (house, upstream) = House::with_upstream(engine, Act::events(sent.trim_end()));
        let answer = house.chat(&ask_stream(json!(null)));
        assert!(!answer.body.contains("prompt_tokens") && !answer.body.contains("error"), "{answer:?}");
        let charge = house.charge();
        assert_eq!(
            (charge.outcome.as_deref(), charge.usage_source.as_deref()),
            (Some("complete"), Some("upstream"))
        );
        upstream.set(Act::events(&sent[..sent.len() - 20]));
        assert!(!house.chat(&ask_stream(json!(null))).body.contains("prompt_tokens"));
        house.is_sound();
    }
}

#[test]
fn callers_by_http_1_0_get_no_chunks() {
    for engine in engines() {
        let (house, _upstream) = House::with_upstream(engine, Act::events(completion_events(&["a"], None)));
        let body = ask_stream(json!(null)).to_string();
        let address = house.url.strip_prefix("http://").expect("an address");
        let mut caller = std::net::TcpStream::connect(address).expect("connected");
        let request = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            house.key.secret,
            body.len()
        );
        std::io::Write::write_all(&mut caller, request.as_bytes()).expect("sent");
        let mut answer = String::new();
        caller.read_to_string(&mut answer).expect("read to the end of the connection");
        let (head, stream) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        assert!(stream.starts_with("data: "), "{stream}");
    }
}

#[test]
fn an_upstream_that_fails_before_producing_costs_nothing() {
    for engine in engines() {
        let error = "data: {\"error\":{\"message\":\"sk-upstream-secret is out of order\"}}\n\n";
        let (house, _upstream) = House::with_upstream(engine, Act::events(error));
        let answer = house.chat(&ask_stream(json!(null)));
        // Nothing had reached the caller, who may try again.
        assert_eq!(answer.refusal(), (503, "upstream_unavailable".into()));
        assert!(answer.header("retry-after").is_some() && !answer.body.contains("sk-upstream-secret"));
        let charge = house.charge();
        assert_eq!((charge.state.as_str(), charge.outcome.as_deref()), ("released", Some("failed")));
        assert_eq!(house.used_micros(), 0);
    }
}

#[test]
fn a_caller_who_hangs_up_pays_for_what_was_produced_and_the_upstream_is_left() {
    for engine in engines() {
        let sent = completion_events(&["12345678"; 1_000], Some(usage()));
        let act = Act::Events {
            bytes: sent.into_bytes(),
            piece_bytes: 200,
            pause: Duration::from_millis(5),
            cut_at: None,
        };
        let (house, upstream) = House::with_upstream(engine, act);
        let body = ask_stream(json!(null));
        let mut response = house.post(&house.key.secret, body.to_string()).send().expect("answered");
        response.read_exact(&mut [0; 1_000]).expect("some chunks");
        drop(response);
        let charge = house.charge();
        let input = i64::try_from(body.to_string().len().div_ceil(4)).expect("small");
        let output = charge.output_tokens.expect("counted");
        assert_eq!((charge.outcome.as_deref(), charge.input_tokens), (Some("hung_up"), Some(input)));
        assert!((4..=50).contains(&output), "{charge:?}");
        assert_eq!(house.used_micros(), input + 2 * output);
        eventually("the upstream is left", || (upstream.left_alone() == 1).then_some(()));
        house.is_sound();
    }
}

#[test]
fn a_caller_who_hangs_up_before_the_answer_pays_the_input() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, Act::Hang);
        let body = ask_stream(json!(null)).to_string();
        let impatient = house.post(&house.key.secret, body.clone()).timeout(Duration::from_millis(500));
        assert!(impatient.send().is_err());
        let charge = house.charge();
        assert_eq!((charge.state.as_str(), charge.outcome.as_deref()), ("settled", Some("hung_up")));
        let input = i64::try_from(body.len().div_ceil(4)).expect("small");
        assert_eq!((charge.input_tokens, house.used_micros()), (Some(input), input));
        eventually("the upstream is left", || (upstream.left_alone() == 1).then_some(()));
        house.is_sound();
    }
}

#[test]
fn a_stream_that_falls_silent_is_ended() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, Act::Hang);
        let sent = completion_events(&["12345678"; 2], Some(usage()));
        let middle = sent.len() / 2;
        upstream.set(Act::Events {
            bytes: sent.into_bytes(),
            piece_bytes: middle,
            pause: Duration::from_secs(4),
            cut_at: None,
        });
        let answer = house.chat(&ask_stream(json!(null)));
        assert!(answer.body.contains("upstream_broke_off"), "{answer:?}");
        assert_eq!(house.charge().outcome.as_deref(), Some("cut"));
        house.is_sound();
    }
}

#[test]
fn a_line_of_twenty_megabytes_is_refused() {
    for engine in engines() {
        let line = format!("data: {}\n\n", "x".repeat(20 << 20));
        let (house, _upstream) = House::with_upstream(engine, Act::events(line));
        let answer = house.chat(&ask_stream(json!(null)));
        assert!(answer.body.contains("upstream_broke_off") && answer.body.len() < 1_000);
        house.is_sound();
    }
}

#[test]
fn a_slow_reader_slows_its_own_stream() {
    for engine in engines() {
        let text = "x".repeat(10_000);
        let sent = completion_events(&vec![text.as_str(); 8_000], Some(usage()));
        let total = sent.len();
        let (house, upstream) = House::with_upstream(engine, Act::events(sent));
        let response =
            house.post(&house.key.secret, ask_stream(json!(null)).to_string()).send().expect("answered");
        // What the sockets on the way take in is sent; then it stands still.
        let mut sent_before = usize::MAX;
        let stuck = eventually("the stream stands still", || {
            std::thread::sleep(Duration::from_millis(200));
            let sent = upstream.sent();
            let still = sent == sent_before;
            sent_before = sent;
            still.then_some(sent)
        });
        assert!(stuck < total / 2, "{stuck} of {total} bytes");
        assert_eq!(house.chat(&crate::house::ask("echo")).status, 200);
        assert!(read(response).body.ends_with("data: [DONE]\n\n"));
        assert_eq!(house.charges(&house.key).len(), 2);
        house.is_sound();
    }
}
