//! What is found in a request's input.

use super::*;

fn survey_of(messages: &serde_json::Value) -> (Content, usize) {
    let text = messages.to_string();
    let raw = serde_json::from_str::<&RawValue>(&text).expect("JSON");
    let mut content = Content::default();
    content.survey(raw).expect("shallow");
    (content, text.len())
}

#[test]
fn text_is_bounded_by_its_bytes() {
    let messages = serde_json::json!([{"role": "user", "content": [{"type": "text", "text": "image_url"}]}]);
    let (content, bytes) = survey_of(&messages);
    assert!(content.is_text());
    assert_eq!(content.tokens_max(bytes), clamped(bytes));
}

#[test]
fn an_inline_image_counts_as_an_image_and_not_by_its_bytes() {
    let data = format!("data:image/png;base64,{}", "A".repeat(5_000_000));
    let messages = serde_json::json!([{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]}]);
    let (content, bytes) = survey_of(&messages);
    let most = content.tokens_max(bytes);
    assert!((2 * IMAGE_TOKENS_MAX..2 * IMAGE_TOKENS_MAX + 200).contains(&most), "{most}");
    assert!(content.tokens_estimated(bytes) < most);
}

#[test]
fn files_and_sounds_are_seen() {
    let messages = serde_json::json!([{"content": [
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "input_audio", "input_audio": {"data": "A".repeat(12_800), "format": "mp3"}},
    ]}]);
    let (content, bytes) = survey_of(&messages);
    assert!(!content.is_text());
    assert!(content.tokens_max(bytes) >= FILE_TOKENS_MAX + 100);
    let by_url = |url: &str| serde_json::json!([{"type": "audio_url", "audio_url": {"url": url}}]);
    assert_eq!(survey_of(&by_url("https://example.com/an-hour.mp3")).0.files, 1);
    let inline = survey_of(&by_url("data:audio/mpeg;base64,AAAA")).0;
    assert!(inline.files == 0 && inline.sound_bytes > 0);
}

#[test]
fn anthropics_blocks_are_what_their_type_says() {
    let messages = serde_json::json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A".repeat(9_000)}},
        {"source": {"type": "url", "url": "https://example.com/a.png"}, "type": "image"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "source": {"type": "content", "content": [
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
        ]}},
    ]}]);
    let (content, bytes) = survey_of(&messages);
    assert_eq!((content.images, content.files), (3, 0));
    assert!(content.tokens_max(bytes) < 3 * IMAGE_TOKENS_MAX + 2_000);
    let pdf = serde_json::json!([{"type": "document", "source": {"type": "base64", "data": "A"}}]);
    assert_eq!(survey_of(&pdf).0.files, 1);
}

#[test]
fn items_of_a_response_are_counted_once_each() {
    let input = serde_json::json!([{"role": "user", "content": [
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "file_data": "AAAA", "filename": "a.pdf"},
    ]}]);
    let (content, _) = survey_of(&input);
    assert_eq!((content.images, content.files, content.has_references()), (2, 1, false));
    let reference = serde_json::json!([{"type": "item_reference", "id": "msg_1"}]);
    assert!(survey_of(&reference).0.has_references());
}

#[test]
fn an_item_with_nothing_but_an_id_is_a_reference() {
    let has_references = |input: &serde_json::Value| survey_of(input).0.has_references();
    assert!(has_references(&serde_json::json!([{"id": "msg_1"}])));
    assert!(has_references(&serde_json::json!([{"type": null, "id": "msg_1"}])));
    assert!(has_references(&serde_json::json!([{"id": "msg_1", "role": null, "content": null}])));
    assert!(!has_references(&serde_json::json!([{"id": "msg_1", "role": "user", "content": "hi"}])));
    assert!(!has_references(&serde_json::json!([
        {"type": "computer_call", "id": "c", "pending_safety_checks": [{"id": "s", "code": "x"}]},
    ])));
}

#[test]
fn nobody_looks_too_deep_whatever_it_is_nested_in() {
    let survey = |text: &str| Content::default().survey(serde_json::from_str(text).expect("JSON"));
    let nested =
        |before: &str, after: &str, times: usize| format!("{}0{}", before.repeat(times), after.repeat(times));
    assert!(survey(&nested("[", "]", 10_000)).is_err());
    let arrays = nested("[", "]", 60);
    for (before, after, readable) in [
        (r#"{"source":"#.to_owned(), "}".to_owned(), true),
        (format!(r#"{{"source":{}"#, &arrays[..60]), format!("{}}}", &arrays[61..]), false),
        (r#"{"type":"document","source":{"type":"content","content":"#.to_owned(), "}}".to_owned(), true),
    ] {
        assert!(survey(&nested(&before, &after, 1)).is_ok(), "{before}");
        assert_eq!(survey(&nested(&before, &after, 10_000)).is_ok(), readable, "{before}");
    }
}

#[test]
fn a_part_is_what_it_says_however_that_is_written() {
    let survey = |text: &str| {
        let mut content = Content::default();
        content.survey(serde_json::from_str(text).expect("JSON")).map(|()| content)
    };
    let images = |text: &str| survey(text).expect("readable").images;
    assert_eq!(
        images(r#"[{"type": "imag\u0065", "source": {"type": "url", "url": "https://example.com"}}]"#),
        1
    );
    assert_eq!(images(r#"[{"Type": "image", "\u017fource": {"type": "file", "file_id": "f"}}]"#), 1);
    assert_eq!(images(r#"[{"type": "x", "Image_URL": {"url": "https://example.com/a.png"}}]"#), 1);
    assert_eq!(images(r#"[{"type": ["image"], "text": "image"}]"#), 0);
    assert!(survey(r#"[{"type": "item_referenc\u0065", "id": "m"}]"#).expect("readable").has_references());
    // Of two the upstream may read either.
    for doubled in [
        r#"[{"type": "text", "type": "image", "source": {"type": "file", "file_id": "f"}}]"#,
        r#"[{"type": "image", "typ\u0065": "text", "source": {"type": "file", "file_id": "f"}}]"#,
    ] {
        assert_eq!(images(doubled), 1, "{doubled}");
    }
    let files = |text: &str| survey(text).expect("readable").files;
    for file in [
        r#"[{"type": "document", "source": {"type": "file"}, "source": {"type": "text", "data": "a"}}]"#,
        r#"[{"type": "document", "source": {"type": "text", "Type": "url", "url": "https://example.com"}}]"#,
        r#"[{"type": "audio_url", "Audio_URL": {"url": "https://example.com/an-hour.mp3"}}]"#,
        r#"[{"type": "audio_url", "audio_url": {"url": "data:x", "URL": "https://example.com/an-hour.mp3"}}]"#,
        r#"[{"type": "input_audio", "input_audio": {"url": "https://example.com/an-hour.mp3"}}]"#,
        r#"[{"type": "input_audio", "input_audio": {"data": "AAAA", "file_id": "f"}}]"#,
    ] {
        assert_eq!(files(file), 1, "{file}");
    }
    let both = r#"[{"type": "document", "source": {"type": "content", "content": "a", "Content": [{"type": "image", "source": {}}]}}]"#;
    assert_eq!(images(both), 1);
    assert!(survey(r#"[{"role": "user", "content": "hi", "x": {"type": "a", "Type": "b"}}]"#).is_ok());
}

#[test]
fn what_the_upstream_made_before_counts_by_what_it_is() {
    let tokens = |input: serde_json::Value| {
        let (content, bytes) = survey_of(&input);
        content.tokens_max(bytes)
    };
    let by_id = tokens(serde_json::json!([{"type": "image_generation_call", "id": "ig_1"}]));
    assert!(by_id >= IMAGE_TOKENS_MAX, "{by_id}");
    let result = "A".repeat(5_000_000);
    let inline =
        tokens(serde_json::json!([{"type": "image_generation_call", "id": "ig_1", "result": result}]));
    assert!((IMAGE_TOKENS_MAX..IMAGE_TOKENS_MAX + 200).contains(&inline), "{inline}");
    let said = tokens(serde_json::json!([{"role": "assistant", "audio": {"id": "audio_1"}}]));
    assert!(said >= SAID_TOKENS_MAX, "{said}");
}

#[test]
fn what_a_tool_is_called_with_is_text() {
    let nested =
        (0..9).fold(serde_json::json!({"file": "a.py"}), |inner, _| serde_json::json!({"result": inner}));
    let messages = serde_json::json!([{"role": "assistant", "content": [
        {"type": "tool_use", "id": "t", "name": "read", "input": {"file": "a.py", "image": "b.png"}},
        {"type": "tool_use", "id": "u", "name": "nested", "input": nested},
        {"type": "text", "text": "hi", "image_url": null, "file": null},
    ]}]);
    let (content, bytes) = survey_of(&messages);
    assert!(content.is_text() && content.tokens_max(bytes) <= clamped(bytes), "{content:?}");
    // An upstream might read the other type.
    let doubled =
        r#"[{"type": "tool_use", "type": "x", "input": [{"type": "image_url", "image_url": "a.png"}]}]"#;
    let mut content = Content::default();
    content.survey(serde_json::from_str(doubled).expect("JSON")).expect("readable");
    assert_eq!(content.images, 1);
}

#[test]
fn a_file_is_estimated_by_what_it_is_likely_to_have() {
    let (content, bytes) = survey_of(&serde_json::json!([{"type": "file", "file": {"file_id": "f"}}]));
    assert!(content.tokens_estimated(bytes) >= FILE_TOKENS_TYPICAL);
    let data = "A".repeat(24_000_000);
    let (content, bytes) = survey_of(&serde_json::json!([{"type": "file", "file": {"file_data": data}}]));
    assert!(content.tokens_estimated(bytes) >= 1_000_000);
}
