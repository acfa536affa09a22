//! The built-in upstream: answers by itself, deterministically, in the bytes an OpenAI-compatible provider would send,
//! so that the same meter reads them. For demos, tests and trying out a key.
//!
//! Its tokens are honest by a rule of its own: a token is a run of letters and digits with the white space before
//! it, or one other character. No text has more tokens than bytes.

use super::client::{Answer, Payload, UpstreamError};
use super::endpoint::Endpoint;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What it says after repeating the question, chosen by the question.
const REMARKS: [&str; 4] = [
    "I am the echo of this house: I repeat what I hear, I count every token, and I never tire.",
    "Nobody far away was asked; this answer was made right here, and it costs what the price list says.",
    "Ask me again and I shall say the same, for an echo has no second thoughts.",
    "When a real upstream takes my place, your program will not have to change a single line.",
];
/// Of a question, this much is repeated.
const QUOTE_CHARS_MAX: usize = 4_000;
const TOKENS_PER_MESSAGE: i64 = 3;
/// As OpenAI counts an image of low detail.
const TOKENS_PER_IMAGE: i64 = 85;
/// A JSON answer comes after the time its stream would take, but no later than this.
const JSON_PAUSE_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<usize>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Value,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        }
    }

    fn input_tokens(&self) -> i64 {
        let images = match &self.content {
            Value::Array(parts) => parts.iter().filter(|part| part["type"] == "image_url").count(),
            _ => 0,
        };
        TOKENS_PER_MESSAGE + token_count(&self.text()) + clamped(images) * TOKENS_PER_IMAGE
    }
}

/// Input tokens of a request's `messages`, by the rule above; `None` when they are not messages.
pub fn input_tokens(messages: &str) -> Option<i64> {
    let messages: Vec<Message> = serde_json::from_str(messages).ok()?;
    Some(messages.iter().map(Message::input_tokens).sum())
}

/// Answers a request, `pace` apart from chunk to chunk.
///
/// # Errors
/// Never in practice; in the type of every upstream's answer.
pub async fn answer(endpoint: Endpoint, payload: &Payload, pace: Duration) -> Result<Answer, UpstreamError> {
    let (Endpoint::ChatCompletions, Payload::Json(body)) = (endpoint, payload) else {
        return Err(UpstreamError::Unusable);
    };
    let request: Request = match serde_json::from_str(body) {
        Ok(request) => request,
        Err(error) => return Ok(refusal(&error)),
    };
    let reply = Reply::to(&request);
    if request.stream == Some(true) {
        let usage = request.stream_options.as_ref().and_then(|options| options.include_usage);
        let include_usage = usage == Some(true);
        let paced = stream::unfold((reply, 0), move |(reply, step)| async move {
            let event = reply.event(step, include_usage)?;
            if step > 0 && !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            Some((Ok(Bytes::from(format!("data: {event}\n\n"))), (reply, step + 1)))
        });
        return Ok(Answer::new(StatusCode::OK, "text/event-stream", paced.boxed_local()));
    }
    let steps = u32::try_from(reply.tokens.len()).unwrap_or(u32::MAX);
    tokio::time::sleep(pace.saturating_mul(steps).min(JSON_PAUSE_MAX)).await;
    Ok(whole(StatusCode::OK, reply.json().to_string()))
}

fn whole(status: StatusCode, body: String) -> Answer {
    Answer::new(status, "application/json", stream::iter([Ok(Bytes::from(body))]).boxed_local())
}

fn refusal(error: &serde_json::Error) -> Answer {
    let place = format!("The request is not one I can read, at column {}.", error.column());
    let body = super::error::error_body(&place, "invalid_request_error", None, "invalid_value");
    whole(StatusCode::BAD_REQUEST, body)
}

/// One answer, given `n` times.
struct Reply {
    id: String,
    created: i64,
    model: String,
    tokens: Vec<String>,
    finish_reason: &'static str,
    answers: usize,
    input_tokens: i64,
}

impl Reply {
    fn to(request: &Request) -> Self {
        let question = request.messages.iter().rev().find(|message| message.role == "user");
        let text = compose(&question.map(Message::text).unwrap_or_default());
        let bound = [request.max_tokens, request.max_completion_tokens].into_iter().flatten().min();
        let mut tokens: Vec<String> = split(&text).map(str::to_owned).collect();
        let cut = bound.is_some_and(|bound| bound < tokens.len());
        tokens.truncate(bound.unwrap_or(usize::MAX));
        Self {
            id: format!("chatcmpl-{:024x}", rand::random::<u128>() >> 32),
            created: crate::clock::now_ms() / 1000,
            model: request.model.clone(),
            tokens,
            finish_reason: if cut { "length" } else { "stop" },
            answers: request.n.unwrap_or(1).max(1),
            input_tokens: request.messages.iter().map(Message::input_tokens).sum(),
        }
    }

    fn usage(&self) -> Value {
        let output_tokens = clamped(self.tokens.len() * self.answers);
        json!({
            "prompt_tokens": self.input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": self.input_tokens + output_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        })
    }

    fn json(&self) -> Value {
        let text = self.tokens.concat();
        let choice = |index| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": null, "annotations": []},
                "logprobs": null,
                "finish_reason": self.finish_reason,
            })
        };
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": (0..self.answers).map(choice).collect::<Vec<_>>(),
            "usage": self.usage(), "service_tier": "default", "system_fingerprint": null,
        })
    }

    /// The payload of one step of a stream: roles, a token each, the reasons for the end, usage if asked for,
    /// `[DONE]`. Made one by one, since 128 long answers at once would be a lot to keep.
    fn event(&self, step: usize, include_usage: bool) -> Option<String> {
        let (round, index) = (step / self.answers, step % self.answers);
        let role = || json!({"role": "assistant", "content": "", "refusal": null});
        if round == 0 {
            return Some(self.chunk(index, &role(), None, include_usage));
        }
        if let Some(token) = self.tokens.get(round - 1) {
            return Some(self.chunk(index, &json!({"content": token}), None, include_usage));
        }
        if round == self.tokens.len() + 1 {
            return Some(self.chunk(index, &json!({}), Some(self.finish_reason), include_usage));
        }
        match (step - (self.tokens.len() + 2) * self.answers, include_usage) {
            (0, true) => {
                let mut chunk = self.envelope();
                chunk["choices"] = json!([]);
                chunk["usage"] = self.usage();
                Some(chunk.to_string())
            }
            (0, false) | (1, true) => Some("[DONE]".into()),
            _ => None,
        }
    }

    #[cfg(test)]
    fn events(&self, include_usage: bool) -> impl Iterator<Item = String> + '_ {
        (0..).map_while(move |step| self.event(step, include_usage))
    }

    fn chunk(&self, index: usize, delta: &Value, finish_reason: Option<&str>, include_usage: bool) -> String {
        let mut chunk = self.envelope();
        chunk["choices"] =
            json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
        if include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk.to_string()
    }

    fn envelope(&self) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "service_tier": "default", "system_fingerprint": null,
        })
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

fn token_count(text: &str) -> i64 {
    clamped(split(text).count())
}

fn clamped(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(body: &Value) -> Reply {
        Reply::to(&serde_json::from_value(body.clone()).expect("a request"))
    }

    #[test]
    fn tokens_are_words_with_their_space_and_single_signs() {
        let tokens: Vec<&str> = split("Hello,  wörld 42!\n").collect();
        assert_eq!(tokens, ["Hello", ",", "  wörld", " 42", "!", "\n"]);
    }

    #[test]
    fn an_answer_is_the_same_every_time_and_respects_its_bound() {
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "n": 2});
        let (one, other) = (reply(&body), reply(&body));
        assert_eq!(one.tokens, other.tokens);
        assert_eq!((one.tokens.concat(), one.finish_reason), ("You said:".to_owned(), "length"));
        let usage = one.usage();
        assert_eq!(
            (usage["prompt_tokens"].as_i64(), usage["completion_tokens"].as_i64()),
            (Some(4), Some(6))
        );
    }

    #[test]
    fn a_stream_says_what_the_json_says() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]});
        let whole = reply(&body).json();
        let events: Vec<String> = reply(&body).events(true).collect();
        let chunks: Vec<Value> = events[..events.len() - 1]
            .iter()
            .map(|event| serde_json::from_str(event).expect("JSON"))
            .collect();
        let text: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(whole["choices"][0]["message"]["content"].as_str(), Some(text.as_str()));
        assert_eq!(chunks.last().map(|chunk| &chunk["usage"]), Some(&whole["usage"]));
        assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    }

    proptest! {
        #[test]
        fn no_text_has_more_tokens_than_bytes_and_none_is_lost(text in "\\PC{0,200}") {
            prop_assert_eq!(split(&text).collect::<String>(), text.clone());
            prop_assert!(token_count(&text) <= clamped(text.len()));
        }

        #[test]
        fn the_input_never_exceeds_the_bodys_bytes(texts in proptest::collection::vec("\\PC{0,40}", 0..5)) {
            let messages: Vec<Value> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
            let body = json!({"model": "m", "messages": messages}).to_string();
            let messages = json!(messages).to_string();
            prop_assert!(input_tokens(&messages).expect("messages") <= clamped(body.len()));
        }
    }
}
