//! What the echo says, and how it counts: a token is a run of letters and digits with the white space before it, or
//! one other character. No text has more tokens than bytes.

use serde_json::{Map, Value, json};

/// What it says after repeating the question, chosen by the question.
const REMARKS: [&str; 4] = [
    "I am the echo of this house: I repeat what I hear, I count every token, and I never tire.",
    "Nobody far away was asked; this answer was made right here, and it costs what the price list says.",
    "Ask me again and I shall say the same, for an echo has no second thoughts.",
    "When a real upstream takes my place, your program will not have to change a single line.",
];
/// Of a question, this much is repeated.
const QUOTE_CHARS_MAX: usize = 4_000;

/// How deep the arguments of a tool are made up.
const DEPTH_MAX: usize = 4;

/// A tool that is called, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Its name.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

/// The call of a tool by a schema: as little as it asks for.
pub fn tool_call(name: &str, schema: &Value) -> ToolCall {
    ToolCall { name: name.to_owned(), arguments: plausible(schema, 0).to_string() }
}

/// A value of a JSON schema.
fn plausible(schema: &Value, depth: usize) -> Value {
    if let Some(value) = schema.get("const").or_else(|| schema.pointer("/enum/0")) {
        return value.clone();
    }
    let kind = schema.get("type").map(|kind| kind.get(0).unwrap_or(kind)).and_then(Value::as_str);
    match kind {
        Some("string") => json!("echo"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("null") => Value::Null,
        _ if depth >= DEPTH_MAX => json!({}),
        _ => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let fields = required
                .filter_map(Value::as_str)
                .map(|name| (name.to_owned(), plausible(&schema["properties"][name], depth + 1)));
            Value::Object(fields.collect::<Map<String, Value>>())
        }
    }
}

/// What is said, cut to a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// In order; joined they are the text.
    pub tokens: Vec<String>,
    /// Whether the bound cut it.
    pub cut: bool,
}

impl Said {
    /// A text, of at most so many tokens.
    pub fn new(text: &str, bound: Option<usize>) -> Self {
        let mut tokens: Vec<String> = split(text).map(str::to_owned).collect();
        let cut = bound.is_some_and(|bound| bound < tokens.len());
        tokens.truncate(bound.unwrap_or(usize::MAX));
        Self { tokens, cut }
    }

    /// The answer to a question.
    pub fn answering(question: &str, bound: Option<usize>) -> Self {
        Self::new(&compose(question), bound)
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// The text of a content that is a string or an array of parts.
pub fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// Tokens of every string in a value.
pub fn tokens_of(value: &Value) -> i64 {
    match value {
        Value::String(text) => token_count(text),
        Value::Array(values) => values.iter().map(tokens_of).sum(),
        Value::Object(fields) => fields.values().map(tokens_of).sum(),
        _ => 0,
    }
}

fn compose(question: &str) -> String {
    let quote: String = question.chars().take(QUOTE_CHARS_MAX).collect();
    let remark = REMARKS[crc32fast::hash(question.as_bytes()) as usize % REMARKS.len()];
    if quote.is_empty() { remark.to_owned() } else { format!("You said: {quote}\n\n{remark}") }
}

/// The tokens of a text, in order; joined again they are the text.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let spaces = rest.len() - rest.trim_start().len();
        let word = rest[spaces..].find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len() - spaces);
        let end = match word {
            // No word follows: white space stands alone at the end, or goes with the one other character.
            0 => spaces + rest[spaces..].chars().next().map_or(0, char::len_utf8),
            word => spaces + word,
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        (!token.is_empty()).then_some(token)
    })
}

/// How many tokens a text has.
pub fn token_count(text: &str) -> i64 {
    clamped(split(text).count())
}

/// A count as it is reported.
pub fn clamped(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_words_with_their_space_and_single_signs() {
        let tokens: Vec<&str> = split("Hello,  wörld 42!\n").collect();
        assert_eq!(tokens, ["Hello", ",", "  wörld", " 42", "!", "\n"]);
    }

    #[test]
    fn a_tool_is_called_with_as_little_as_its_schema_asks_for() {
        let schema = json!({"type": "object", "required": ["city", "unit", "days", "at"], "properties": {
            "city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": ["integer", "null"]},
            "at": {"type": "object", "required": ["here"], "properties": {"here": {"type": "boolean"}}},
            "more": {"type": "string"},
        }});
        let call = tool_call("weather", &schema);
        let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
        assert_eq!(arguments, json!({"city": "echo", "unit": "C", "days": 1, "at": {"here": true}}));
        let mut endless = json!({"required": ["a"], "properties": {}});
        for _ in 0..20 {
            endless = json!({"required": ["a"], "properties": {"a": endless}});
        }
        assert!(tool_call("f", &endless).arguments.len() < 100);
    }

    proptest! {
        #[test]
        fn no_text_has_more_tokens_than_bytes_and_none_is_lost(text in "\\PC{0,200}") {
            prop_assert_eq!(split(&text).collect::<String>(), text.clone());
            prop_assert!(token_count(&text) <= clamped(text.len()));
        }
    }
}
