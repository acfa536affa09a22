//! A JSON request: what Keyhouse acts upon is checked, everything else passes through as it was written.

use super::endpoint::{Endpoint, Output};
use super::error::GatewayError;
use super::json::{Name, Object, Writer, each, object, quoted, read};
use super::wish::Wish;
use crate::domain::usage::TOKENS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most candidates of which the best is answered; OpenAI's own bound.
const CANDIDATES_MAX: i64 = 20;
/// What Anthropic adds to a request that has tools: 346 to 530 tokens, by model ("Tool use with Claude", pricing), and
/// for each tool of its own up to 735 more ("Computer use tool", pricing). Rounded up.
const TOOLS_TOKENS_MAX: i64 = 1_000;
/// A partial image costs a hundred tokens more (OpenAI's guide "Image generation", partial images).
const PARTIAL_IMAGE_TOKENS: i64 = 100;
const PARTIAL_IMAGES_MAX: i64 = 3;

/// A checked JSON request. Borrows from the body.
#[derive(Debug)]
pub struct JsonRequest<'a> {
    fields: Object<'a>,
    /// What matters of it.
    pub wish: Wish,
}

impl<'a> JsonRequest<'a> {
    /// Checks a body.
    ///
    /// # Errors
    /// Says where the JSON breaks, or which field is wrong.
    pub fn parse(endpoint: Endpoint, body: &'a [u8]) -> Result<Self, GatewayError> {
        let fields = Object::parse(body)?;
        let rules = endpoint.rules();
        fields.refuse_doubles(rules.acted_upon)?;
        let mut wish = Wish::new(endpoint, model(&fields, endpoint)?, body.len());
        wish.stream = endpoint.streams() && fields.boolean("stream")?;
        let (kind, beginnings) = rules.input_kind;
        fields
            .get(rules.input)
            .filter(|input| input.get().as_bytes().first().is_some_and(|first| beginnings.contains(first)))
            .ok_or_else(|| GatewayError::field(rules.input, format!("`{}` must be {kind}.", rules.input)))?;
        for name in rules.surveyed {
            let unreadable = |_| {
                let why = "it is nested too deep, or has half a surrogate pair";
                GatewayError::field(name, format!("`{name}` cannot be read: {why}."))
            };
            fields.get(name).map_or(Ok(()), |part| wish.content.survey(part)).map_err(unreadable)?;
        }
        if let Output::Bounded { fields: bounds, .. } = rules.output {
            wish.max_tokens = max_tokens(&fields, bounds)?;
        }
        let answers = rules.answers.map(|(name, max)| fields.integer(name, max)).transpose()?.flatten();
        specifics(&mut wish, &fields, answers.unwrap_or(1))?;
        Ok(Self { fields, wish })
    }

    /// A field as written.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.get(name)
    }

    /// The body for an upstream: its own name for the model, usage asked for in a stream, and the bound on the output
    /// where the caller set none.
    pub fn for_upstream(&self, upstream_model: &str, imposed_max: Option<i64>) -> String {
        let (bounds, imposed) = match self.wish.endpoint.rules().output {
            Output::Bounded { fields, imposed, .. } => (fields, imposed),
            Output::None | Output::Fixed => (&[][..], None),
        };
        let imposed = imposed.zip(imposed_max);
        let asks_usage = self.wish.stream
            && matches!(self.wish.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let mut body = Writer::with_capacity(self.wish.body_bytes + 128);
        if self.fields.get("model").is_none() {
            body.put("model", &quoted(upstream_model));
        }
        for (name, value) in &self.fields.0 {
            match name.as_ref() {
                "model" if value.get() == "null" => {}
                "model" => body.put(name, &quoted(upstream_model)),
                "stream_options" if asks_usage => {}
                name if imposed.is_some() && bounds.contains(&name) => {}
                _ => body.put(name, value.get()),
            }
        }
        if let Some((name, tokens)) = imposed {
            body.put(name, &tokens.to_string());
        }
        if asks_usage {
            body.put("stream_options", &self.stream_options());
        }
        body.finish()
    }

    /// The caller's options, with usage on.
    fn stream_options(&self) -> String {
        let mut options = Writer::with_capacity(64);
        options.put("include_usage", "true");
        let given = self.fields.get("stream_options");
        if let Some(Ok(Object(given))) = given.map(|value| serde_json::from_str::<Object>(value.get())) {
            for (name, value) in given.iter().filter(|(name, _)| name != "include_usage") {
                options.put(name, value.get());
            }
        }
        options.finish()
    }
}

/// What only some routes have.
fn specifics(wish: &mut Wish, fields: &Object<'_>, answers: i64) -> Result<(), GatewayError> {
    match wish.endpoint {
        Endpoint::ChatCompletions => {
            wish.show_usage = include_usage(fields.get("stream_options"))?;
            wish.answers = answers;
        }
        Endpoint::Completions => {
            wish.show_usage = include_usage(fields.get("stream_options"))?;
            // All candidates are made and paid for, for each of the prompts.
            let candidates = fields.integer("best_of", CANDIDATES_MAX)?.unwrap_or(1);
            wish.answers = answers.max(candidates).saturating_mul(prompts(fields.get("prompt")));
        }
        Endpoint::Responses => response(wish, fields)?,
        Endpoint::Messages => {
            if wish.max_tokens.is_none() {
                return Err(GatewayError::field("max_tokens", "`max_tokens` must be given."));
            }
            wish.content.add_tokens(added_by_tools(fields.get("tools")));
        }
        Endpoint::Rerank => {
            wish.content.add_tokens(added_by_documents(fields.get("query"), fields.get("documents")));
        }
        Endpoint::ImageGenerations => {
            images(wish, answers, fields.integer("partial_images", PARTIAL_IMAGES_MAX))
        }
        Endpoint::Speech => {
            let text = fields.get("input").and_then(|text| serde_json::from_str::<String>(text.get()).ok());
            let characters = text.map_or(wish.body_bytes, |text| text.chars().count());
            wish.characters = i64::try_from(characters).unwrap_or(i64::MAX);
            let format: Option<Name> = fields.get("stream_format").and_then(read);
            wish.stream = format.is_some_and(|Name(format)| format == "sse");
        }
        _ => {}
    }
    Ok(())
}

/// Notes how many images are to be made. (An upstream that does not like the number of partial ones says so itself.)
pub fn images(wish: &mut Wish, images: i64, partial: Result<Option<i64>, GatewayError>) {
    (wish.images, wish.answers) = (images, images);
    let partial = partial.map_or(PARTIAL_IMAGES_MAX, Option::unwrap_or_default);
    wish.added_output_tokens = partial * PARTIAL_IMAGE_TOKENS;
}

fn response(wish: &mut Wish, fields: &Object<'_>) -> Result<(), GatewayError> {
    if fields.boolean("background")? {
        let why = "What a response made in the background costs is not known when it is answered. Leave `background` out.";
        return Err(GatewayError::field("background", why));
    }
    if fields.get("conversation").is_some() {
        let why = "How long a stored conversation is is not known here. Use `previous_response_id`, or send its items.";
        return Err(GatewayError::field("conversation", why));
    }
    if fields.get("prompt").is_some() {
        let why = "How long a stored prompt is is not known here. Send its text as `instructions`.";
        return Err(GatewayError::field("prompt", why));
    }
    if wish.content.has_references() {
        let why = "How long a stored item is is not known here. Send the item itself instead of an `item_reference`.";
        return Err(GatewayError::field("input", why));
    }
    wish.store = fields.switch("store")?.unwrap_or(true);
    let previous = fields.get("previous_response_id").map(|id| serde_json::from_str(id.get()));
    wish.previous_response_id = previous.transpose().map_err(|_| {
        GatewayError::field("previous_response_id", "`previous_response_id` must be the id of a response.")
    })?;
    Ok(())
}

fn model(fields: &Object<'_>, endpoint: Endpoint) -> Result<String, GatewayError> {
    let refused = GatewayError::field("model", "`model` must be the name of a model.");
    match (fields.get("model"), endpoint.default_model()) {
        (None, Some(model)) => Ok(model.to_owned()),
        (value, _) => value.and_then(|value| serde_json::from_str(value.get()).ok()).ok_or(refused),
    }
}

/// The largest: which one an upstream obeys is not for us to guess.
fn max_tokens(fields: &Object<'_>, bounds: &'static [&'static str]) -> Result<Option<i64>, GatewayError> {
    bounds.iter().try_fold(None, |max, name| Ok(fields.integer(name, TOKENS_MAX)?.max(max)))
}

/// A text is one prompt, and so is an array of tokens; an array of either are several.
fn prompts(prompt: Option<&RawValue>) -> i64 {
    let (mut elements, mut several) = (0, false);
    if let Some(prompt) = prompt {
        each(prompt, |element| {
            elements += 1;
            several |= element.get().starts_with(['"', '[']);
        });
    }
    if several { elements } else { 1 }
}

/// What Anthropic adds by itself to a request that has tools; most for those that are its own, and for what cannot be read.
fn added_by_tools(tools: Option<&RawValue>) -> i64 {
    #[derive(Deserialize)]
    struct Tool<'a> {
        #[serde(borrow)]
        r#type: Option<Name<'a>>,
    }
    let is_callers = |tool: &RawValue| {
        object::<Tool<'_>>(tool).is_some_and(|tool| tool.r#type.is_none_or(|Name(kind)| kind == "custom"))
    };
    let (mut some, mut own) = (0, 0);
    if let Some(tools) = tools {
        each(tools, |tool| {
            some = 1;
            own += i64::from(!is_callers(tool));
        });
    }
    TOOLS_TOKENS_MAX.saturating_mul(some + own)
}

/// The query is read again beside each document (Voyage AI's pricing: query tokens times documents, and all documents).
fn added_by_documents(query: Option<&RawValue>, documents: Option<&RawValue>) -> i64 {
    let (bytes, mut tokens) = (query.map_or(0, |query| query.get().len()), 0_usize);
    if let Some(documents) = documents {
        each(documents, |_| tokens = tokens.saturating_add(bytes));
    }
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn include_usage(options: Option<&RawValue>) -> Result<bool, GatewayError> {
    let Some(options) = options else { return Ok(false) };
    let refused = || GatewayError::field("stream_options", "`stream_options` must be an object.");
    let options: Object = read(options).ok_or_else(refused)?;
    options.refuse_doubles(&["include_usage"])?;
    options.boolean("include_usage")
}

#[cfg(test)]
mod tests {
    use super::super::json::is_spelling;
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &str) -> Result<JsonRequest<'_>, GatewayError> {
        JsonRequest::parse(Endpoint::ChatCompletions, body.as_bytes())
    }

    fn refused_field(body: &str) -> &'static str {
        match parse(body).map(|_| ()).expect_err(body) {
            GatewayError::BadField { param, .. } => param,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_fields_pass_as_they_were_written() {
        let body =
            r#"{ "model":"m", "x":{"a" : 1.0e2,"a":[ ]}, "messages":[], "temperature":0.10, "é\n":1 }"#;
        let sent = parse(body).expect("valid").for_upstream("their \"name\"", None);
        let expected = r#"{"model":"their \"name\"","x":{"a" : 1.0e2,"a":[ ]},"messages":[],"temperature":0.10,"é\n":1}"#;
        assert_eq!(sent, expected);
    }

    #[test]
    fn usage_is_always_asked_for_in_a_stream() {
        let body =
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":false,"x":1}}"#;
        let request = parse(body).expect("valid");
        assert!(request.wish.stream && !request.wish.show_usage);
        let sent = request.for_upstream("m", Some(9));
        assert!(
            sent.ends_with(r#""max_completion_tokens":9,"stream_options":{"include_usage":true,"x":1}}"#)
        );
        let asked = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        assert!(parse(asked).expect("valid").wish.show_usage);
    }

    #[test]
    fn null_is_as_if_not_given() {
        let body =
            r#"{"model":"m","messages":[],"n":null,"stream":null,"max_tokens":null,"stream_options":null}"#;
        let request = parse(body).expect("valid");
        assert_eq!((request.wish.answers, request.wish.stream, request.wish.max_tokens), (1, false, None));
        assert!(request.for_upstream("m", Some(7)).contains(r#""max_completion_tokens":7"#));
    }

    #[test]
    fn the_larger_of_two_bounds_counts() {
        let body = r#"{"model":"m","messages":[],"max_tokens":5,"max_completion_tokens":50}"#;
        assert_eq!(parse(body).expect("valid").wish.max_tokens, Some(50));
    }

    #[test]
    fn bad_numbers_name_their_field() {
        for number in ["-1", "0", "1.5", "1e3", "1e308", "99999999999999999999", "\"5\"", "[]", "true"] {
            for field in ["max_tokens", "max_completion_tokens", "n"] {
                let body = format!(r#"{{"model":"m","messages":[],"{field}":{number}}}"#);
                assert_eq!(refused_field(&body), field, "{number}");
            }
        }
        assert_eq!(refused_field(r#"{"model":"m","messages":[],"n":129}"#), "n");
        assert_eq!(refused_field(r#"{"model":1,"messages":[]}"#), "model");
        assert_eq!(refused_field(r#"{"messages":[]}"#), "model");
        assert_eq!(refused_field(r#"{"model":"m"}"#), "messages");
        assert_eq!(refused_field(r#"{"model":"m","messages":{}}"#), "messages");
        assert_eq!(refused_field(r#"{"model":"m","messages":[],"stream":1}"#), "stream");
        assert_eq!(refused_field(r#"{"model":"m","messages":[],"stream_options":[1]}"#), "stream_options");
        for options in [r#"{"Include_Usage":false}"#, r#"{"include_usage":false,"include_usage":true}"#] {
            let body = format!(r#"{{"model":"m","messages":[],"stream_options":{options}}}"#);
            assert_eq!(refused_field(&body), "include_usage");
        }
    }

    #[test]
    fn doubles_of_what_is_acted_upon_are_refused_in_every_spelling() {
        for (double, field) in [
            (r#""model":"dear""#, "model"),
            (r#""mod\u0065l":"dear""#, "model"),
            (r#""Model":"dear""#, "model"),
            (r#""max_tokenſ":9"#, "max_tokens"),
            (r#""max_tokens":1,"max_tokens":9"#, "max_tokens"),
            (r#""MAX_TOKENS":9"#, "max_tokens"),
            (r#""stream":true,"stream":false"#, "stream"),
        ] {
            let body = format!(r#"{{"model":"m","messages":[],{double}}}"#);
            assert_eq!(refused_field(&body), field, "{double}");
        }
        assert!(parse(r#"{"model":"m","messages":[],"x":1,"x":2}"#).is_ok());
        let with = |fields: usize| format!(r#"{{"model":"m","messages":[]{}}}"#, r#","x":1"#.repeat(fields));
        assert!(parse(&with(1_000)).is_ok() && parse(&with(1_100)).is_err());
    }

    #[test]
    fn broken_json_is_told_where() {
        let GatewayError::Malformed(message) = parse("{\"model\":\n \"m\",}").expect_err("broken") else {
            panic!("malformed")
        };
        assert!(message.contains("line 2 column 6"), "{message}");
        for body in ["", "[]", "null", "{", "{\"a\":1}x", "\u{FEFF}{}", "{\"a\":\"\\ud800\"}"] {
            assert!(parse(body).is_err(), "{body}");
        }
        let deep = format!("{{\"model\":\"m\",\"messages\":{}{}}}", "[".repeat(9_999), "]".repeat(9_999));
        assert_eq!(refused_field(&deep), "messages");
        assert_eq!(refused_field(r#"{"model":"m","messages":[{"content":"\ud83d"}]}"#), "messages");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(JsonRequest::parse(Endpoint::ChatCompletions, &body).is_err());
        }

        #[test]
        fn what_is_sent_can_be_read_again(text in "\\PC{0,20}", bound in proptest::option::of(1i64..1000), stream: bool) {
            let body = serde_json::json!({
                "model": "m", "messages": [{"role": "user", "content": text}], &text: {"a": text}, "stream": stream,
            })
            .to_string();
            prop_assume!(!Endpoint::ChatCompletions.rules().acted_upon.iter().any(|name| is_spelling(name, &text)));
            let sent = parse(&body).expect("valid").for_upstream("theirs", bound);
            let sent: serde_json::Value = serde_json::from_str(&sent).expect("JSON");
            prop_assert_eq!(&sent["model"], "theirs");
            prop_assert_eq!(&sent[&text]["a"], &text);
            prop_assert_eq!(sent["max_completion_tokens"].as_i64(), bound);
        }
    }

    fn wish(endpoint: Endpoint, body: &str) -> Result<Wish, GatewayError> {
        JsonRequest::parse(endpoint, body.as_bytes()).map(|request| request.wish)
    }

    #[test]
    fn candidates_and_prompts_of_a_completion_multiply() {
        for (body, answers) in [
            (r#"{"model":"m","prompt":"a"}"#, 1),
            (r#"{"model":"m","prompt":["a","b"],"n":3}"#, 6),
            (r#"{"model":"m","prompt":[1,2,3],"n":2,"best_of":5}"#, 5),
            (r#"{"model":"m","prompt":[[1,2],[3]],"best_of":2}"#, 4),
            (r#"{"model":"m","prompt":[1,"b"]}"#, 2),
        ] {
            assert_eq!(wish(Endpoint::Completions, body).expect("valid").answers, answers, "{body}");
        }
        assert!(wish(Endpoint::Completions, r#"{"model":"m","prompt":{}}"#).is_err());
    }

    #[test]
    fn a_response_whose_cost_cannot_be_bounded_is_refused() {
        let with = |field: &str| format!(r#"{{"model":"m","input":"hi",{field}}}"#);
        for (field, param) in [
            (r#""background":true"#, "background"),
            (r#""conversation":"conv_1""#, "conversation"),
            (r#""prompt":{"id":"pmpt_1"}"#, "prompt"),
            (r#""previous_response_id":7"#, "previous_response_id"),
            (r#""store":"no""#, "store"),
        ] {
            let refused = wish(Endpoint::Responses, &with(field)).map(|_| ()).expect_err(field);
            assert!(
                matches!(refused, GatewayError::BadField { param: named, .. } if named == param),
                "{field}"
            );
        }
        let reference = r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}"#;
        assert!(wish(Endpoint::Responses, reference).is_err());
        let plain =
            wish(Endpoint::Responses, &with(r#""background":false,"conversation":null"#)).expect("valid");
        assert!(plain.store && plain.previous_response_id.is_none());
        assert!(!wish(Endpoint::Responses, &with(r#""store":false"#)).expect("valid").store);
    }

    #[test]
    fn a_message_must_say_how_long_it_may_be() {
        let body = r#"{"model":"m","messages":[]}"#;
        assert!(matches!(
            wish(Endpoint::Messages, body),
            Err(GatewayError::BadField { param: "max_tokens", .. })
        ));
        let tools = r#"{"model":"m","messages":[],"max_tokens":5,"tools":[{"name":"f","input_schema":{}},{"type":"bash_20250124","name":"bash"}]}"#;
        let (wish, bytes) = (wish(Endpoint::Messages, tools).expect("valid"), tools.len());
        assert_eq!(wish.bound(0).input_tokens, i64::try_from(bytes).expect("small") + 2_000);
        let named_twice = r#"[{"type":"custom","name":"f","type":"bash_20250124"}]"#;
        assert_eq!(added_by_tools(serde_json::from_str(named_twice).ok()), 2_000);
    }

    #[test]
    fn a_query_is_paid_for_with_each_document() {
        let body = format!(r#"{{"model":"m","query":"{}","documents":["a","b","c"]}}"#, "q".repeat(1_000));
        let most = wish(Endpoint::Rerank, &body).expect("valid").bound(0).input_tokens;
        assert!(most >= 3 * 1_000 + 3, "{most}");
    }

    #[test]
    fn images_and_characters_are_counted() {
        let two = wish(Endpoint::ImageGenerations, r#"{"model":"m","prompt":"a cat","n":2}"#).expect("valid");
        assert_eq!((two.images, two.answers), (2, 2));
        assert!(wish(Endpoint::ImageGenerations, r#"{"model":"m","prompt":"a cat","n":11}"#).is_err());
        let speech =
            wish(Endpoint::Speech, r#"{"model":"m","input":"h\u00e9 🙂","voice":"v"}"#).expect("valid");
        assert_eq!((speech.characters, speech.stream), (4, false));
        let events = r#"{"model":"m","input":"hi","voice":"v","stream_format":"ss\u0065"}"#;
        assert!(wish(Endpoint::Speech, events).expect("valid").stream);
    }

    #[test]
    fn moderations_have_a_model_of_their_own() {
        let body = br#"{"input":"hi","model":null}"#;
        let request = JsonRequest::parse(Endpoint::Moderations, body).expect("valid");
        assert_eq!(request.wish.model, "omni-moderation-latest");
        assert_eq!(request.for_upstream("theirs", None), r#"{"model":"theirs","input":"hi"}"#);
        assert!(wish(Endpoint::Embeddings, r#"{"input":"hi"}"#).is_err());
    }
}
