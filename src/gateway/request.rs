//! A chat request: what Keyhouse acts upon is checked, everything else passes through as it was written.

use super::content::{self, Content};
use super::error::GatewayError;
use crate::domain::usage::TOKENS_MAX;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Most answers that may be asked for at once; OpenAI's own bound.
const ANSWERS_MAX: i64 = 128;
/// The fields that decide where a call goes and what it may cost. Two of one name are refused, in any spelling that
/// some parser takes for the same: an upstream might read the other one.
const ACTED_UPON: [&str; 7] =
    ["model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"];

/// A checked chat request. Borrows from the body.
#[derive(Debug)]
pub struct ChatRequest<'a> {
    fields: Vec<(String, &'a RawValue)>,
    /// As the caller named it.
    pub model: String,
    /// Whether to answer as events.
    pub stream: bool,
    /// Whether the caller asked for usage in the stream.
    pub include_usage: bool,
    /// The most that one answer may have, by either of the two fields.
    pub max_tokens: Option<i64>,
    /// How many answers.
    pub answers: i64,
    /// What the messages hold.
    pub content: Content,
    /// Length of the whole body.
    pub body_bytes: usize,
}

impl<'a> ChatRequest<'a> {
    /// Checks a body.
    ///
    /// # Errors
    /// Says where the JSON breaks, or which field is wrong.
    pub fn parse(body: &'a [u8]) -> Result<Self, GatewayError> {
        let Object(fields) = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        refuse_doubles(&fields, &ACTED_UPON)?;
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
            found.filter(|value| value.get() != "null")
        };
        let stream = boolean(field("stream"), "stream")?;
        let messages = field("messages")
            .filter(|messages| messages.get().starts_with('['))
            .ok_or(GatewayError::field("messages", "`messages` must be an array."))?;
        Ok(Self {
            model: text(field("model"))?,
            stream,
            include_usage: include_usage(field("stream_options"))?,
            max_tokens: max_tokens(field("max_tokens"), field("max_completion_tokens"))?,
            answers: integer(field("n"), "n", ANSWERS_MAX)?.unwrap_or(1),
            content: content::survey(messages).map_err(|error| malformed(&error))?,
            body_bytes: body.len(),
            fields,
        })
    }

    /// The messages as written.
    pub fn messages(&self) -> &'a str {
        self.fields.iter().find(|(key, _)| key == "messages").map_or("[]", |(_, value)| value.get())
    }

    /// Whether the body has a field of this name.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(key, value)| key == name && value.get() != "null")
    }

    /// The body for an upstream: its own name for the model, usage asked for in a stream, and `max_completion_tokens`
    /// where the caller set no bound.
    pub fn for_upstream(&self, upstream_model: &str, max_completion_tokens: Option<i64>) -> String {
        let mut body = String::with_capacity(self.body_bytes + 128);
        let mut put = |name: &str, value: &str| {
            body.push(if body.is_empty() { '{' } else { ',' });
            body.push_str(&quoted(name));
            body.push(':');
            body.push_str(value);
        };
        for (name, value) in &self.fields {
            match name.as_str() {
                "model" => put(name, &quoted(upstream_model)),
                "stream_options" if self.stream => {}
                "max_completion_tokens" | "max_tokens" if max_completion_tokens.is_some() => {}
                _ => put(name, value.get()),
            }
        }
        if let Some(tokens) = max_completion_tokens {
            put("max_completion_tokens", &tokens.to_string());
        }
        if self.stream {
            put("stream_options", &self.stream_options());
        }
        body.push('}');
        body
    }

    /// The caller's options, with usage on.
    fn stream_options(&self) -> String {
        let mut options = String::from("{\"include_usage\":true");
        let given = self.fields.iter().find(|(key, _)| key == "stream_options");
        if let Some(Ok(Object(given))) = given.map(|(_, value)| serde_json::from_str::<Object>(value.get())) {
            for (name, value) in given.iter().filter(|(name, _)| name != "include_usage") {
                options.push_str(&format!(",{}:{}", quoted(name), value.get()));
            }
        }
        options.push('}');
        options
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn malformed(error: &serde_json::Error) -> GatewayError {
    // serde's message may quote the input after the position; only the position is ours to tell.
    let what = if error.is_eof() { "ends too early" } else { "is not a JSON object that can be read" };
    GatewayError::Malformed(
        format!("The body {what}, at line {} column {}.", error.line(), error.column()).into(),
    )
}

fn refuse_doubles(
    fields: &[(String, &RawValue)],
    acted_upon: &'static [&'static str],
) -> Result<(), GatewayError> {
    for &name in acted_upon {
        let mut same = fields.iter().filter(|(key, _)| folded(key) == folded(name));
        match (same.next(), same.next()) {
            (Some(_), Some(_)) => {
                return Err(GatewayError::field(name, format!("`{name}` is given twice. Give it once.")));
            }
            (Some((key, _)), None) if key != name => {
                return Err(GatewayError::field(name, format!("Write `{name}` in lower case.")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names that Go's `encoding/json` takes for one, it being lax about case (ſ and K, the Kelvin sign, included).
fn folded(name: &str) -> String {
    if name.is_ascii() { name.to_ascii_uppercase() } else { name.to_lowercase().to_uppercase() }
}

fn text(value: Option<&RawValue>) -> Result<String, GatewayError> {
    value
        .and_then(|value| serde_json::from_str(value.get()).ok())
        .ok_or(GatewayError::field("model", "`model` must be the name of a model."))
}

fn boolean(value: Option<&RawValue>, name: &'static str) -> Result<bool, GatewayError> {
    match value.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(GatewayError::field(name, format!("`{name}` must be true or false."))),
    }
}

fn integer(value: Option<&RawValue>, name: &'static str, max: i64) -> Result<Option<i64>, GatewayError> {
    let Some(value) = value else { return Ok(None) };
    // Digits only: 1e3 and 5.0 are integers to some parsers and not to others.
    let parsed = value.get().parse::<i64>().ok().filter(|number| (1..=max).contains(number));
    parsed.map(Some).ok_or_else(|| {
        GatewayError::field(name, format!("`{name}` must be a whole number between 1 and {max}."))
    })
}

/// The larger of the two: which one an upstream obeys is not for us to guess.
fn max_tokens(older: Option<&RawValue>, newer: Option<&RawValue>) -> Result<Option<i64>, GatewayError> {
    let older = integer(older, "max_tokens", TOKENS_MAX)?;
    let newer = integer(newer, "max_completion_tokens", TOKENS_MAX)?;
    Ok(older.max(newer))
}

fn include_usage(options: Option<&RawValue>) -> Result<bool, GatewayError> {
    let Some(options) = options else { return Ok(false) };
    let Object(fields) = serde_json::from_str(options.get())
        .map_err(|_| GatewayError::field("stream_options", "`stream_options` must be an object."))?;
    let mut asked = fields.iter().filter(|(name, _)| name == "include_usage").map(|(_, value)| *value);
    let first = asked.next().filter(|value| value.get() != "null");
    if asked.next().is_some() {
        return Err(GatewayError::field("stream_options", "`include_usage` is given twice. Give it once."));
    }
    boolean(first, "stream_options.include_usage")
}

/// A JSON object in its own order, its values unread.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &str) -> Result<ChatRequest<'_>, GatewayError> {
        ChatRequest::parse(body.as_bytes())
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
        assert!(request.stream && !request.include_usage);
        let sent = request.for_upstream("m", Some(9));
        assert!(
            sent.ends_with(r#""max_completion_tokens":9,"stream_options":{"include_usage":true,"x":1}}"#)
        );
        let asked = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        assert!(parse(asked).expect("valid").include_usage);
    }

    #[test]
    fn null_is_as_if_not_given() {
        let body =
            r#"{"model":"m","messages":[],"n":null,"stream":null,"max_tokens":null,"stream_options":null}"#;
        let request = parse(body).expect("valid");
        assert_eq!((request.answers, request.stream, request.max_tokens), (1, false, None));
        assert!(request.for_upstream("m", Some(7)).contains(r#""max_completion_tokens":7"#));
    }

    #[test]
    fn the_larger_of_two_bounds_counts() {
        let body = r#"{"model":"m","messages":[],"max_tokens":5,"max_completion_tokens":50}"#;
        assert_eq!(parse(body).expect("valid").max_tokens, Some(50));
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
            prop_assert!(ChatRequest::parse(&body).is_err());
        }

        #[test]
        fn what_is_sent_can_be_read_again(text in "\\PC{0,20}", bound in proptest::option::of(1i64..1000), stream: bool) {
            let body = serde_json::json!({
                "model": "m", "messages": [{"role": "user", "content": text}], &text: {"a": text}, "stream": stream,
            })
            .to_string();
            prop_assume!(!ACTED_UPON.iter().any(|name| folded(name) == folded(&text)));
            let sent = ChatRequest::parse(body.as_bytes()).expect("valid").for_upstream("theirs", bound);
            let sent: serde_json::Value = serde_json::from_str(&sent).expect("JSON");
            prop_assert_eq!(&sent["model"], "theirs");
            prop_assert_eq!(&sent[&text]["a"], &text);
            prop_assert_eq!(sent["max_completion_tokens"].as_i64(), bound);
        }
    }
}
