//! Counts input tokens exactly, where somebody has published how: only asked when the cheap bound does not fit what a
//! key can afford, since loading a vocabulary takes tens of megabytes and counting a millisecond.

use super::echo;
use super::endpoint::Endpoint;
use super::request::JsonRequest;
use crate::domain::upstream::Dialect;
use crate::store::models::Route;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};
use tokio::sync::Semaphore;

/// Larger bodies are held by the cheap bound alone.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A vocabulary's merging of one unbroken run takes more than linear time.
const RUN_BYTES_MAX: usize = 4 << 10;
/// Calls that may count at once: the rest of the processor is for everybody else.
static COUNTING: Semaphore = Semaphore::const_new(2);

// From OpenAI's cookbook, "How to count tokens with tiktoken": for all chat models since gpt-3.5-turbo-0613.
const TOKENS_PER_MESSAGE: i64 = 3;
const TOKENS_PER_NAME: i64 = 1;
const TOKENS_PRIMING_THE_ANSWER: i64 = 3;

/// How an upstream counts, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Echo,
    O200k,
    Cl100k,
}

/// The messages of a request that has little more than them: what else it may have makes a count a guess.
pub fn countable<'a>(request: &JsonRequest<'a>) -> Option<&'a str> {
    let plain = request.wish.endpoint == Endpoint::ChatCompletions
        && request.wish.body_bytes <= BODY_BYTES_MAX
        && request.wish.content.is_text()
        && !["tools", "functions", "response_format", "audio", "prediction"]
            .iter()
            .any(|name| request.get(name).is_some());
    request.get("messages").filter(|_| plain).map(RawValue::get)
}

/// The input tokens of messages whichever of `routes` serves it, or `None` when nobody can know.
pub async fn input_tokens(messages: &str, routes: &[Arc<Route>]) -> Option<i64> {
    let mut rules = routes.iter().map(|route| rule_of(route)).collect::<Option<Vec<_>>>()?;
    rules.dedup();
    let messages = messages.to_owned();
    let _permit = COUNTING.acquire().await.ok()?;
    tokio::task::spawn_blocking(move || {
        rules.into_iter().map(|rule| count(rule, &messages)).collect::<Option<Vec<_>>>()?.into_iter().max()
    })
    .await
    .ok()?
}

fn rule_of(route: &Route) -> Option<Rule> {
    if route.upstream.dialect == Dialect::Echo.as_str() {
        return Some(Rule::Echo);
    }
    match get_tokenizer(&route.upstream_model)? {
        Tokenizer::O200kBase => Some(Rule::O200k),
        Tokenizer::Cl100kBase => Some(Rule::Cl100k),
        _ => None,
    }
}

fn count(rule: Rule, messages: &str) -> Option<i64> {
    match rule {
        Rule::Echo => echo::input_tokens(messages),
        Rule::O200k => count_by(o200k_base_singleton, messages),
        Rule::Cl100k => count_by(cl100k_base_singleton, messages),
    }
}

/// A message of nothing but what the cookbook counts; any other field makes the count a guess.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: Value,
    name: Option<String>,
}

fn count_by(vocabulary: fn() -> &'static CoreBPE, messages: &str) -> Option<i64> {
    let messages: Vec<Message> = serde_json::from_str(messages).ok()?;
    let mut texts: Vec<&str> = Vec::new();
    let mut tokens = TOKENS_PRIMING_THE_ANSWER;
    for message in &messages {
        tokens += TOKENS_PER_MESSAGE;
        texts.push(&message.role);
        texts.extend(message.name.as_deref());
        tokens += message.name.as_ref().map_or(0, |_| TOKENS_PER_NAME);
        texts.extend(texts_of(&message.content)?);
    }
    if texts.iter().any(|text| longest_run(text) > RUN_BYTES_MAX) {
        return None;
    }
    let vocabulary = vocabulary();
    for text in texts {
        // Ordinary: `<|endoftext|>` in a prompt is text to the model too, and more tokens.
        tokens += i64::try_from(vocabulary.encode_ordinary(text).len()).ok()?;
    }
    Some(tokens)
}

/// A string, or an array of text parts.
fn texts_of(content: &Value) -> Option<Vec<&str>> {
    match content {
        Value::String(text) => Some(vec![text]),
        Value::Array(parts) => parts
            .iter()
            .map(|part| part.get("text").and_then(Value::as_str).filter(|_| part["type"] == "text"))
            .collect(),
        _ => None,
    }
}

fn longest_run(text: &str) -> usize {
    let of_words = text.split([' ', '\n']).map(str::len).max();
    let of_spaces = text.split(|c: char| !c.is_whitespace()).map(str::len).max();
    of_words.max(of_spaces).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example and its 129 tokens (gpt-4o: 124) are the cookbook's own.
    #[test]
    fn the_cookbooks_example_is_counted_as_there() {
        let say = |name: &str, content: &str| serde_json::json!({"role": "system", "name": name, "content": content});
        let messages = serde_json::json!([
            {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
            say("example_user", "New synergies will help drive top-line growth."),
            say("example_assistant", "Things working well together will increase revenue."),
            say("example_user", "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."),
            say("example_assistant", "Let's talk later when we're less busy about how to do better."),
            {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
        ])
        .to_string();
        assert_eq!(count(Rule::Cl100k, &messages), Some(129));
        assert_eq!(count(Rule::O200k, &messages), Some(124));
    }

    #[test]
    fn what_the_cookbook_does_not_count_is_not_counted() {
        for messages in [
            r#"[{"role":"assistant","content":null,"tool_calls":[]}]"#.to_owned(),
            r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#.to_owned(),
            format!(r#"[{{"role":"user","content":"{}"}}]"#, "a".repeat(RUN_BYTES_MAX + 1)),
        ] {
            assert_eq!(count(Rule::O200k, &messages), None);
        }
    }
}
