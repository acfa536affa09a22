//! Forms: images to edit and sounds to hear. What is sent on, what is held, what they cost.

use crate::house::{Answer, House, read};
use crate::support::engines;
use crate::support::upstream::{Act, Asked};
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Price;
use serde_json::json;

const BOUNDARY: &str = "a-callers-boundary";

/// A field, or with a name a file.
fn part(name: &str, file_name: Option<&str>, value: &[u8]) -> Vec<u8> {
    let mut head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"");
    if let Some(file_name) = file_name {
        head.push_str(&format!("; filename=\"{file_name}\"\r\nContent-Type: audio/mpeg\r\nX-Evil: 1"));
    }
    [head.as_bytes(), b"\r\n\r\n", value, b"\r\n"].concat()
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
}

fn send(house: &House, path: &str, body: Vec<u8>) -> Answer {
    let request = house.http.post(format!("{}/v1{path}", house.url)).bearer_auth(&house.key.secret);
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    read(request.header("content-type", content_type).body(body).send().expect("the house answers"))
}

fn sound(bytes: usize) -> Vec<u8> {
    // Letters alone: the fake upstream keeps text.
    (0..bytes).map(|index| b'a' + u8::try_from(index % 23).expect("small")).collect()
}

fn transcribe(house: &House, bytes: usize) -> Answer {
    let parts = [
        part("file", Some("a \u{e9}.mp3"), &sound(bytes)),
        part("model", None, b"m"),
        part("language", None, b"de"),
    ];
    send(house, "/audio/transcriptions", form(&parts))
}

/// The values of the fields that the upstream got, by name.
fn fields(asked: &Asked) -> Vec<(String, String)> {
    let boundary =
        asked.header("content-type").and_then(|kind| kind.split_once("boundary=")).expect("a form").1;
    assert_ne!(boundary, BOUNDARY);
    let boundary = format!("--{boundary}");
    let parts = asked.body.split(&boundary).filter_map(|part| part.strip_prefix("\r\n"));
    let read = |part: &str| {
        let (head, value) = part.split_once("\r\n\r\n").expect("a head");
        let name = head.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a name");
        assert!(!head.to_ascii_lowercase().contains("x-evil"), "{head}");
        (name.to_owned(), value.strip_suffix("\r\n").expect("an end").to_owned())
    };
    parts.map(read).collect()
}

#[test]
fn a_sound_is_sent_on_field_by_field_and_costs_its_length() {
    for engine in engines() {
        let price = Price { per_audio_second_micros: 100, ..Price::FREE };
        let said = json!({"text": "Hallo", "usage": {"type": "duration", "seconds": 9}});
        let (house, upstream) = House::with_priced(engine, price, Act::json(200, said.to_string()));
        // Once in memory, once through a file.
        for bytes in [9_000, 2_000_000] {
            let answer = transcribe(&house, bytes);
            assert_eq!(
                (answer.json(), answer.header("x-keyhouse-credits")),
                (said.clone(), Some("0.000900"))
            );
            let asked = upstream.asked().pop().expect("asked");
            assert_eq!(asked.path, "/v1/audio/transcriptions");
            assert_eq!(asked.header("authorization"), Some("Bearer sk-upstream-secret"));
            let sent = fields(&asked);
            let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["file", "model", "language"]);
            assert!(sent[0].1.as_bytes() == sound(bytes), "the sound changed on its way");
            assert_eq!((sent[1].1.as_str(), sent[2].1.as_str()), ("theirs", "de"));
        }
        let charge = &house.charges(&house.key)[1];
        assert_eq!((charge.audio_ms, charge.usage_source.as_deref()), (Some(9_000), Some("upstream")));
        // 9 000 bytes at 6 kbit/s are twelve seconds.
        assert_eq!((charge.held_micros, charge.settled_micros), (1_200, 900));
        house.is_sound();
    }
}

#[test]
fn a_length_that_nobody_says_is_estimated() {
    for engine in engines() {
        let price = Price { per_audio_second_micros: 100, ..Price::FREE };
        let (house, upstream) = House::with_priced(engine, price, Act::Hang);
        upstream.set(Act::Bytes { content_type: "text/plain", body: b"Hallo\n".to_vec() });
        let answer = transcribe(&house, 80_000);
        assert_eq!(
            (answer.body.as_str(), answer.header("content-type")),
            ("Hallo\n", Some("text/plain; charset=utf-8"))
        );
        let charge = house.charge();
        assert_eq!((charge.audio_ms, charge.usage_source.as_deref()), (Some(10_000), Some("estimated")));
        assert_eq!(house.used_micros(), 1_000);
        upstream.set(Act::json(200, json!({"text": "Hallo", "duration": "8.47"}).to_string()));
        transcribe(&house, 80_000);
        assert_eq!(house.used_micros(), 1_000 + 847);
        house.is_sound();
    }
}

#[test]
fn a_transcript_streams_and_its_tokens_are_charged() {
    for engine in engines() {
        let price = Price { input_micros: 1_000_000, output_micros: 2_000_000, ..Price::FREE };
        let done = json!({"type": "transcript.text.done", "text": "Hallo",
            "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45}});
        let delta = json!({"type": "transcript.text.delta", "delta": "Hallo"});
        let events = format!("data: {delta}\n\ndata: {done}\n\n");
        let (house, upstream) = House::with_priced(engine, price, Act::events(events.clone()));
        let parts = [
            part("model", None, b"m"),
            part("stream", None, b"true"),
            part("file", Some("a.mp3"), &sound(900)),
        ];
        assert_eq!(send(&house, "/audio/transcriptions", form(&parts)).body, events);
        assert_eq!(upstream.asked()[0].header("accept"), Some("text/event-stream"));
        assert_eq!(house.used_micros(), 14 + 2 * 45);
        assert_eq!(send(&house, "/audio/translations", form(&parts)).body, events);
        assert_eq!(upstream.asked()[1].path, "/v1/audio/translations");
        house.is_sound();
    }
}

#[test]
fn an_edit_costs_its_images() {
    for engine in engines() {
        let price = Price { per_image_micros: 40_000, ..Price::FREE };
        let made = json!({"data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}]});
        let (house, upstream) = House::with_priced(engine, price, Act::json(200, made.to_string()));
        let image = |name: &str| part(name, Some("a.png"), &sound(300_000));
        let parts = [
            image("image[]"),
            image("image[]"),
            part("prompt", None, b"a roof"),
            part("model", None, b"m"),
            part("n", None, b"2"),
        ];
        let answer = send(&house, "/images/edits", form(&parts));
        assert_eq!((answer.json(), house.used_micros()), (made, 80_000));
        assert_eq!(fields(&upstream.asked()[0]).len(), 5);
        let many = [image("image"), part("model", None, b"m"), part("n", None, b"11")];
        assert_eq!(send(&house, "/images/edits", form(&many)).json()["error"]["param"], "n");
        house.is_sound();
    }
}

#[test]
fn a_form_that_is_wrong_is_told_so_and_costs_nothing() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, Act::Hang);
        let call = |body: Vec<u8>| send(&house, "/audio/transcriptions", body);
        let (file, model) = (part("file", Some("a.mp3"), b"abc"), part("model", None, b"m"));
        for (parts, param) in [
            (vec![file.clone()], "model"),
            (vec![model.clone()], "file"),
            (vec![file.clone(), model.clone(), model.clone()], "model"),
            (vec![file.clone(), model.clone(), part("Model", None, b"dear")], "model"),
            (vec![file.clone(), model.clone(), part("stream", None, b"maybe")], "stream"),
            (vec![file.clone(), part("model", None, &[b'x'; 9_000])], "model"),
        ] {
            let answer = call(form(&parts));
            assert_eq!(answer.refusal(), (400, "invalid_value".into()), "{param}");
            assert_eq!(answer.json()["error"]["param"], param);
        }
        let unended = [file.clone(), model.clone()].concat();
        assert_eq!(call(unended).refusal(), (400, "malformed_body".into()));
        let many: Vec<Vec<u8>> = (0..70).map(|number| part(&format!("f{number}"), None, b"x")).collect();
        assert_eq!(call(form(&many)).refusal(), (400, "malformed_body".into()));
        let json = house.call("/audio/transcriptions", &json!({"model": "m"}));
        assert_eq!(json.refusal(), (400, "malformed_body".into()));
        let url = format!("{}/v1/audio/transcriptions", house.url);
        let nobody = read(house.http.post(url).body("x").send().expect("answered"));
        assert_eq!(nobody.refusal(), (401, "invalid_api_key".into()));
        let echo = form(&[file, part("model", None, b"echo")]);
        assert_eq!(call(echo).json()["error"]["param"], "model");
        assert!(upstream.asked().is_empty() && house.charges(&house.key).is_empty());
    }
}

#[test]
fn a_form_of_more_than_a_hundred_megabytes_is_too_large() {
    for engine in engines() {
        let (house, upstream) = House::with_upstream(engine, Act::Hang);
        let body = form(&[part("model", None, b"m"), part("file", Some("a.mp3"), &vec![b'a'; 101 << 20])]);
        let request = house.http.post(format!("{}/v1/audio/transcriptions", house.url));
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        // The server does not wait for the rest, so the caller may notice the broken pipe first.
        let request = request.bearer_auth(&house.key.secret).header("content-type", content_type);
        if let Ok(answer) = request.body(body).send() {
            assert_eq!(read(answer).refusal(), (413, "body_too_large".into()));
        }
        assert!(upstream.asked().is_empty() && house.charges(&house.key).is_empty());
    }
}

#[test]
fn a_sound_is_held_at_its_longest() {
    for engine in engines() {
        let price = Price { per_audio_second_micros: 100, ..Price::FREE };
        let (house, upstream) = House::with_priced(engine, price, Act::Hang);
        let draft = KeyDraft { credit_limit: Some("0.0011"), ..KeyDraft::default() };
        let poor = house.seed.key(house.key.user_id, &draft);
        let body = form(&[part("model", None, b"m"), part("file", Some("a.mp3"), &sound(9_000))]);
        let request =
            house.http.post(format!("{}/v1/audio/transcriptions", house.url)).bearer_auth(&poor.secret);
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let answer = read(request.header("content-type", content_type).body(body).send().expect("answered"));
        assert_eq!(answer.refusal(), (429, "key_limit_reached".into()));
        assert!(upstream.asked().is_empty());
    }
}

#[test]
fn the_next_upstream_gets_the_same_form() {
    for engine in engines() {
        let price = Price { per_request_micros: 5, ..Price::FREE };
        let (house, broken) = House::with_upstream(engine, Act::json(500, "{}"));
        let working = crate::support::upstream::Upstream::start(Act::json(200, r#"{"text":"Hallo"}"#));
        let ids = [house.seed.openai("a", &broken.url, "sk-a"), house.seed.openai("b", &working.url, "sk-b")];
        house.seed.model("two", price, 10, &ids);
        let body = form(&[part("file", Some("a.mp3"), &sound(700_000)), part("model", None, b"two")]);
        assert_eq!(send(&house, "/audio/transcriptions", body).json()["text"], "Hallo");
        let (first, second) = (broken.asked().pop().expect("asked"), working.asked().pop().expect("asked"));
        assert!(fields(&first) == fields(&second), "the tries differ");
        assert_eq!(house.used_micros(), 5);
        house.is_sound();
    }
}
