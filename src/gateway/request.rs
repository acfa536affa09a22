//! A JSON request: what Keyhouse acts upon is checked, everything else passes through as it was written.

use super::content::{self, Content};
use super::endpoint::Endpoint;
use super::error::GatewayError;
use super::json::{Object, Writer, malformed, quoted};
use crate::domain::usage::TOKENS_MAX;
use serde_json::value::RawValue;

/// Most answers that may be asked for at once; OpenAI's own bound.
const ANSWERS_MAX: i64 = 128;

/// What a request asks for, as far as it matters to who decides and what it may cost.
#[derive(Debug)]
pub struct Wish {
    /// Of this route.
    pub endpoint: Endpoint,
    /// As the caller named it.
    pub model: String,
    /// Whether to answer as events.
    pub stream: bool,
    /// Whether the caller asked for the event that has nothing but usage.
    pub show_usage: bool,
    /// The most that one answer may have, by any of the fields that say so.
    pub max_tokens: Option<i64>,
    /// How many answers.
    pub answers: i64,
    /// What the input holds.
    pub content: Content,
    /// Length of the whole body.
    pub body_bytes: usize,
}

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
        let stream = fields.boolean("stream")?;
        let input =
            fields.get(rules.input).filter(|input| input.get().starts_with('[')).ok_or_else(|| {
                GatewayError::field(rules.input, format!("`{}` must be an array.", rules.input))
            })?;
        let wish = Wish {
            endpoint,
            model: model(&fields)?,
            stream,
            show_usage: include_usage(fields.get("stream_options"))?,
            max_tokens: max_tokens(&fields, rules.bounds)?,
            answers: fields.integer("n", ANSWERS_MAX)?.unwrap_or(1),
            content: content::survey(input).map_err(|error| malformed(&error))?,
            body_bytes: body.len(),
        };
        Ok(Self { fields, wish })
    }

    /// A field as written.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.get(name)
    }

    /// The body for an upstream: its own name for the model, usage asked for in a stream, and the bound on the output
    /// where the caller set none.
    pub fn for_upstream(&self, upstream_model: &str, imposed_max: Option<i64>) -> String {
        let rules = self.wish.endpoint.rules();
        let mut body = Writer::with_capacity(self.wish.body_bytes + 128);
        for (name, value) in &self.fields.0 {
            match name.as_str() {
                "model" => body.put(name, &quoted(upstream_model)),
                "stream_options" if self.wish.stream => {}
                name if imposed_max.is_some() && rules.bounds.contains(&name) => {}
                _ => body.put(name, value.get()),
            }
        }
        if let Some(tokens) = imposed_max {
            body.put(rules.imposed, &tokens.to_string());
        }
        if self.wish.stream {
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

fn model(fields: &Object<'_>) -> Result<String, GatewayError> {
    let model = fields.get("model").and_then(|value| serde_json::from_str(value.get()).ok());
    model.ok_or(GatewayError::field("model", "`model` must be the name of a model."))
}

/// The largest: which one an upstream obeys is not for us to guess.
fn max_tokens(fields: &Object<'_>, bounds: &'static [&'static str]) -> Result<Option<i64>, GatewayError> {
    bounds.iter().try_fold(None, |max, name| Ok(fields.integer(name, TOKENS_MAX)?.max(max)))
}

fn include_usage(options: Option<&RawValue>) -> Result<bool, GatewayError> {
    let Some(options) = options else { return Ok(false) };
    let refused = |message: &'static str| GatewayError::field("stream_options", message);
    let Object(fields) =
        serde_json::from_str(options.get()).map_err(|_| refused("`stream_options` must be an object."))?;
    let mut asked = fields.iter().filter(|(name, _)| name == "include_usage").map(|(_, value)| value.get());
    let first = asked.next();
    if asked.next().is_some() {
        return Err(refused("`include_usage` is given twice. Give it once."));
    }
    match first {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(refused("`include_usage` must be true or false.")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::folded;
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
        assert!(matches!(parse(&deep), Err(GatewayError::Malformed(_))));
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
            prop_assume!(!Endpoint::ChatCompletions.rules().acted_upon.iter().any(|name| folded(name) == folded(&text)));
            let sent = parse(&body).expect("valid").for_upstream("theirs", bound);
            let sent: serde_json::Value = serde_json::from_str(&sent).expect("JSON");
            prop_assert_eq!(&sent["model"], "theirs");
            prop_assert_eq!(&sent[&text]["a"], &text);
            prop_assert_eq!(sent["max_completion_tokens"].as_i64(), bound);
        }
    }
}
