//! Answers and events as upstreams send them, and what the meter makes of them.

use super::*;
use proptest::prelude::*;

const DELTA: &[u8] = br#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"12345678"},"finish_reason":null}],"usage":null}"#;
const USAGE: &[u8] = br#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}"#;

fn meter(endpoint: Endpoint, input_tokens: i64, output_tokens: i64) -> Meter {
    let price = Price { input_micros: 1, ..Price::FREE };
    let estimate = Usage { input_tokens, ..Usage::NONE };
    Meter::new(endpoint, estimate, Usage { output_tokens, images: 2, ..estimate }, &price)
}

fn tokens(meter: &Meter) -> (i64, i64, i64, UsageSource) {
    let (usage, source) = meter.usage();
    (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, source)
}

#[test]
fn a_stream_is_charged_as_its_last_event_says() {
    let mut meter = meter(Endpoint::ChatCompletions, 100, 1_000);
    assert_eq!(meter.read_event(DELTA), Seen::Part);
    assert_eq!(tokens(&meter), (100, 0, 2, UsageSource::Estimated));
    assert_eq!(meter.read_event(USAGE), Seen::UsageOnly);
    assert_eq!(tokens(&meter), (9, 3, 4, UsageSource::Upstream));
    assert_eq!(meter.read_event(b" [DONE] "), Seen::Done);
    assert!(meter.has_begun() && meter.has_finished());
}

#[test]
fn a_report_that_text_followed_is_a_lower_bound() {
    let mut meter = meter(Endpoint::ChatCompletions, 100, 1_000);
    meter.read_event(USAGE);
    for _ in 0..10 {
        meter.read_event(DELTA);
    }
    assert_eq!(tokens(&meter), (9, 3, 20, UsageSource::Estimated));
}

#[test]
fn an_explicit_zero_is_a_report() {
    let mut meter = meter(Endpoint::ChatCompletions, 100, 1_000);
    assert!(meter.read_whole(
        br#"{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#
    ));
    assert_eq!(tokens(&meter), (0, 0, 0, UsageSource::Upstream));
}

#[test]
fn unusable_reports_are_estimated_within_the_bound() {
    for usage in [
        "null",
        "{}",
        "7",
        "[9,null,null,null,null,null,2]",
        r#"{"prompt_tokens":1,"prompt_tokens":2,"completion_tokens":1}"#,
        r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1,"completion_tokens":-1}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1e30}"#,
        r#"{"prompt_tokens":1,"completion_tokens":"3"}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"12345678"}}}}],"usage":{usage}}}"#);
        let mut meter = meter(Endpoint::ChatCompletions, 100, 1);
        assert!(meter.read_whole(body.as_bytes()));
        assert_eq!(tokens(&meter), (100, 0, 1, UsageSource::Estimated), "{usage}");
    }
}

#[test]
fn tool_calls_count_and_log_probabilities_do_not() {
    let mut meter = meter(Endpoint::ChatCompletions, 0, 1_000);
    meter.read_event(
            br#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1234","type":"function","function":{"name":"f\u00e9","arguments":"{}12"}}]},"logprobs":{"content":[{"token":"xxxxxxxx"}]}}]}"#,
        );
    assert_eq!(meter.produced_bytes, 7);
}

#[test]
fn what_is_no_answer_is_known() {
    for body in ["", "<html>", "[]", "{\"error\":{}}", "\u{0}"] {
        assert!(!meter(Endpoint::ChatCompletions, 0, 0).read_whole(body.as_bytes()), "{body}");
    }
    assert_eq!(
        meter(Endpoint::ChatCompletions, 0, 9).read_event(br#"{"error":{"message":"x"}}"#),
        Seen::Error
    );
    let reads = |body: &str| meter(Endpoint::ChatCompletions, 2_000, 9).read_whole(body.as_bytes());
    for body in [
        r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#,
        r#"{"choices":[],"error":{"message":"x"},"usage":{"prompt_tokens":7,"completion_tokens":0}}"#,
        r#"{"object":"error","message":"x"}"#,
    ] {
        assert!(!reads(body), "{body}");
    }
    // Who was read and said nothing has answered.
    assert!(reads(r#"{"choices":null,"usage":{"prompt_tokens":1396,"completion_tokens":0}}"#));
}

#[test]
fn whose_fault_an_error_is_is_told_by_its_type_or_code() {
    let seen = |endpoint, event: &str| meter(endpoint, 0, 9).read_event(event.as_bytes());
    for (event, refused) in [
        (r#"{"error":{"type":"invalid_request_error","message":"x"}}"#, true),
        (r#"{"error":{"code":400,"message":"x"}}"#, true),
        (r#"{"error":{"code":"context_length_exceeded","message":"x"}}"#, true),
        (r#"{"error":{"type":"server_error","code":500}}"#, false),
        (r#"{"error":{"code":429}}"#, false),
        (r#"{"error":"x"}"#, false),
    ] {
        let expected = if refused { Seen::Refused } else { Seen::Error };
        assert_eq!(seen(Endpoint::ChatCompletions, event), expected, "{event}");
    }
    let flat = r#"{"type":"error","code":"invalid_prompt","message":"x","param":null}"#;
    assert_eq!(seen(Endpoint::Responses, flat), Seen::Refused);
    assert_eq!(seen(Endpoint::Responses, r#"{"type":"error","code":"server_error"}"#), Seen::Error);
}

#[test]
fn a_message_is_counted_by_its_first_and_its_last_report() {
    let mut meter = meter(Endpoint::Messages, 100, 1_000);
    meter.read_event(
        br#"{"type":"message_start","message":{"id":"msg_1","content":[],"usage":{"input_tokens":3,
            "cache_creation_input_tokens":20,"cache_read_input_tokens":100,"output_tokens":1}}}"#,
    );
    assert!(!meter.has_begun());
    assert_eq!(meter.read_event(br#"{"type":"ping"}"#), Seen::Part);
    meter
        .read_event(br#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#);
    let delta =
        br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"12345678"}}"#;
    meter.read_event(delta);
    assert!(meter.has_begun() && !meter.has_finished());
    assert_eq!(tokens(&meter), (123, 100, 2, UsageSource::Estimated));
    meter.read_event(
            br#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
        );
    assert!(meter.has_finished());
    assert_eq!(tokens(&meter), (123, 100, 15, UsageSource::Upstream));
    assert_eq!(meter.read_event(br#"{"type":"message_stop"}"#), Seen::Done);
    let overloaded = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert_eq!(meter.read_event(overloaded), Seen::Error);
}

#[test]
fn a_responses_last_event_has_its_usage() {
    let mut meter = meter(Endpoint::Responses, 100, 1_000);
    meter.read_event(
        br#"{"type":"response.created","response":{"id":"resp_1","error":null,"usage":null,"output":[]}}"#,
    );
    meter.read_event(br#"{"type":"response.output_text.delta","item_id":"msg_1","delta":"12345678"}"#);
    meter.read_event(br#"{"type":"response.output_text.done","item_id":"msg_1","text":"12345678"}"#);
    assert_eq!(tokens(&meter), (100, 0, 2, UsageSource::Estimated));
    assert_eq!(meter.response_id(), Some("resp_1"));
    let completed = br#"{"type":"response.completed","response":{"id":"resp_1","output":[],"usage":{"input_tokens":9,
            "input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":5}}}}"#;
    assert_eq!(meter.read_event(completed), Seen::Done);
    assert_eq!(tokens(&meter), (9, 4, 7, UsageSource::Upstream));
    assert_eq!(meter.usage().0.reasoning_tokens, 5);
    let failed = br#"{"type":"response.failed","response":{"id":"resp_1","error":{"code":"server_error"}}}"#;
    assert_eq!(meter.read_event(failed), Seen::Failed);
}

#[test]
fn routes_without_output_are_counted_by_their_input() {
    for (endpoint, body, input) in [
        (Endpoint::Embeddings, r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#, 8),
        (Endpoint::Rerank, r#"{"results":[],"usage":{"total_tokens":815}}"#, 815),
        (Endpoint::Rerank, r#"{"results":[],"meta":{"billed_units":{"input_tokens":31}}}"#, 31),
    ] {
        let mut meter = meter(endpoint, 100, 0);
        assert!(meter.read_whole(body.as_bytes()));
        assert_eq!(tokens(&meter), (input, 0, 0, UsageSource::Upstream), "{body}");
    }
    let mut unsaid = meter(Endpoint::Rerank, 100, 0);
    assert!(unsaid.read_whole(br#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#));
    assert_eq!(tokens(&unsaid), (100, 0, 0, UsageSource::Estimated));
}

fn media(endpoint: Endpoint, price: Price) -> Meter {
    let estimate = Usage { input_tokens: 10, audio_ms: 5_000, ..Usage::NONE };
    let bound = Usage { audio_ms: 60_000, images: 2, characters: 30, output_tokens: 100, ..estimate };
    Meter::new(endpoint, estimate, bound, &price)
}

#[test]
fn images_are_counted_as_they_came_and_their_tokens_only_where_they_cost() {
    let price = Price { per_image_micros: 1, ..Price::FREE };
    let mut by_image = media(Endpoint::ImageGenerations, price);
    assert!(by_image.read_whole(br#"{"created":1,"data":[{"b64_json":"AAAA"}]}"#));
    let one = Usage { images: 1, characters: 30, ..Usage::NONE };
    assert_eq!(by_image.usage(), (one, UsageSource::Upstream));
    let mut by_token = media(Endpoint::ImageGenerations, Price { output_micros: 1, ..price });
    assert!(by_token.read_whole(br#"{"data":[{}]}"#));
    let (usage, source) = by_token.usage();
    assert_eq!((usage.images, usage.output_tokens, source), (1, 50, UsageSource::Estimated));
    let mut events = media(Endpoint::ImageGenerations, price);
    let partial = br#"{"type":"image_generation.partial_image","b64_json":"AAAA"}"#;
    let completed = br#"{"type":"image_generation.completed","b64_json":"AAAA","usage":{"input_tokens":5,"output_tokens":7}}"#;
    assert_eq!(events.read_event(partial), Seen::Part);
    assert_eq!(events.read_event(completed), Seen::Part);
    assert_eq!(events.read_event(completed), Seen::Done);
    let (usage, source) = events.usage();
    assert_eq!((usage.images, usage.output_tokens, source), (2, 7, UsageSource::Upstream));
}

#[test]
fn speech_in_events_has_begun_with_its_first_piece() {
    let mut meter = media(Endpoint::Speech, Price { per_character_micros: 1, ..Price::FREE });
    assert!(!meter.has_begun());
    assert_eq!(meter.read_event(br#"{"type":"speech.audio.delta","audio":"AAAA"}"#), Seen::Part);
    assert!(meter.has_begun());
    assert_eq!(meter.usage(), (Usage { characters: 30, ..Usage::NONE }, UsageSource::Upstream));
    let done =
        br#"{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}"#;
    assert_eq!(meter.read_event(done), Seen::Done);
    assert_eq!((meter.usage().0.input_tokens, meter.usage().0.output_tokens), (14, 101));
}

#[test]
fn sound_is_counted_by_whoever_says_and_else_estimated() {
    let by_second = Price { per_audio_second_micros: 1, ..Price::FREE };
    for (body, audio_ms, expected) in [
        (r#"{"text":"hi","usage":{"type":"duration","seconds":9}}"#, 9_000, UsageSource::Upstream),
        (r#"{"text":"hi","duration":8.47,"segments":[]}"#, 8_470, UsageSource::Upstream),
        (r#"{"text":"hi"}"#, 5_000, UsageSource::Estimated),
        (
            "1
00:00:00,000 --> 00:00:01,000
hi
",
            5_000,
            UsageSource::Estimated,
        ),
    ] {
        let mut meter = media(Endpoint::Transcriptions, by_second);
        assert!(meter.read_whole(body.as_bytes()), "{body}");
        let (usage, source) = meter.usage();
        assert_eq!((usage.audio_ms, source), (audio_ms, expected), "{body}");
    }
    let by_token = Price { input_micros: 1, ..Price::FREE };
    let mut meter = media(Endpoint::Transcriptions, by_token);
    let done = br#"{"type":"transcript.text.done","text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":45}}"#;
    assert_eq!(meter.read_event(br#"{"type":"transcript.text.delta","delta":"hi"}"#), Seen::Part);
    assert_eq!(meter.read_event(done), Seen::Done);
    let (usage, source) = meter.usage();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.audio_ms), (14, 45, 0));
    assert_eq!(source, UsageSource::Upstream);
}

proptest! {
    #[test]
    fn no_bytes_panic_nor_exceed_the_bound(
        data in proptest::collection::vec(any::<u8>(), 0..300),
        endpoint in prop::sample::select(vec![
            Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Messages, Endpoint::Transcriptions,
        ]),
    ) {
        let mut meter = meter(endpoint, 5, 7);
        meter.read_event(&data);
        meter.read_whole(&data);
        prop_assert!(meter.usage().0.output_tokens <= 7);
    }
}
