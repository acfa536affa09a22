//! The echo's chat, in OpenAI's bytes: answers, tool calls, events.

use super::words::{Said, ToolCall, clamped, text_of, token_count, tokens_of, tool_call};
use super::{Events, Play};
use serde::Deserialize;
use serde_json::{Value, json};

const TOKENS_PER_MESSAGE: i64 = 3;
/// As OpenAI counts an image of low detail.
const TOKENS_PER_IMAGE: i64 = 85;

#[derive(Deserialize)]
pub struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<usize>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
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
    fn input_tokens(&self) -> i64 {
        let images = match &self.content {
            Value::Array(parts) => parts.iter().filter(|part| part["type"] == "image_url").count(),
            _ => 0,
        };
        TOKENS_PER_MESSAGE + token_count(&text_of(&self.content)) + clamped(images) * TOKENS_PER_IMAGE
    }
}

/// Input tokens of a request's `messages`, by the echo's rule; `None` when they are not messages.
pub fn input_tokens(messages: &str) -> Option<i64> {
    let messages: Vec<Message> = serde_json::from_str(messages).ok()?;
    Some(messages.iter().map(Message::input_tokens).sum())
}

impl Request {
    /// The tool that the caller insists on: the one named, or the first.
    fn required_tool(&self) -> Option<ToolCall> {
        let tools = self.tools.as_deref().unwrap_or_default();
        let named = self.tool_choice.pointer("/function/name").and_then(Value::as_str);
        if named.is_none() && self.tool_choice != "required" {
            return None;
        }
        let tool = tools.iter().find(|tool| named.is_none_or(|name| tool["function"]["name"] == name))?;
        Some(tool_call(tool["function"]["name"].as_str()?, &tool["function"]["parameters"]))
    }

    /// How it is answered.
    pub fn play(&self) -> Play {
        let reply = Reply::to(self);
        if self.stream != Some(true) {
            return Play::Whole { body: reply.json(), steps: reply.said.tokens.len() };
        }
        let usage = self.stream_options.as_ref().and_then(|options| options.include_usage);
        let include_usage = usage == Some(true);
        let event: Events =
            Box::new(move |step| reply.event(step, include_usage).map(|event| format!("data: {event}\n\n")));
        Play::Events(event)
    }
}

/// One answer, given `n` times.
pub struct Reply {
    id: String,
    created: i64,
    model: String,
    /// The text, or the arguments of the tool.
    said: Said,
    tool: Option<ToolCall>,
    finish_reason: &'static str,
    answers: usize,
    input_tokens: i64,
}

impl Reply {
    fn to(request: &Request) -> Self {
        let bound = [request.max_tokens, request.max_completion_tokens].into_iter().flatten().min();
        let question = request.messages.iter().rev().find(|message| message.role == "user");
        let question = question.map(|message| text_of(&message.content)).unwrap_or_default();
        let tool = request.required_tool();
        let said = match &tool {
            Some(tool) => Said::new(&tool.arguments, bound),
            None => Said::answering(&question, bound),
        };
        let finish_reason = match (said.cut, &tool) {
            (true, _) => "length",
            (false, Some(_)) => "tool_calls",
            (false, None) => "stop",
        };
        let tools: i64 = request.tools.iter().flatten().map(tokens_of).sum();
        let messages: i64 = request.messages.iter().map(Message::input_tokens).sum();
        Self {
            id: format!("chatcmpl-{:024x}", rand::random::<u128>() >> 32),
            created: crate::clock::now_ms() / 1000,
            model: request.model.clone(),
            said,
            tool,
            finish_reason,
            answers: request.n.unwrap_or(1).max(1),
            input_tokens: messages + tools,
        }
    }

    fn usage(&self) -> Value {
        let output_tokens = clamped(self.said.tokens.len() * self.answers);
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
        let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
        match &self.tool {
            Some(_) => message["tool_calls"] = json!([self.tool_part(&self.said.text(), true)]),
            None => message["content"] = json!(self.said.text()),
        }
        let choice = |index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": self.finish_reason});
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
        if round == 0 {
            let mut role = json!({"role": "assistant", "content": "", "refusal": null});
            if self.tool.is_some() {
                role["content"] = Value::Null;
                role["tool_calls"] = json!([self.tool_part("", true)]);
            }
            return Some(self.chunk(index, &role, None, include_usage));
        }
        if let Some(token) = self.said.tokens.get(round - 1) {
            let delta = match self.tool {
                Some(_) => json!({"tool_calls": [self.tool_part(token, false)]}),
                None => json!({"content": token}),
            };
            return Some(self.chunk(index, &delta, None, include_usage));
        }
        if round == self.said.tokens.len() + 1 {
            return Some(self.chunk(index, &json!({}), Some(self.finish_reason), include_usage));
        }
        match (step - (self.said.tokens.len() + 2) * self.answers, include_usage) {
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

    /// A call of the tool, or a further piece of its arguments.
    fn tool_part(&self, arguments: &str, first: bool) -> Value {
        let mut part = json!({"index": 0, "function": {"arguments": arguments}});
        if let (true, Some(tool)) = (first, &self.tool) {
            part["id"] = json!(format!("call_{}", &self.id["chatcmpl-".len()..]));
            part["type"] = json!("function");
            part["function"]["name"] = json!(tool.name);
        }
        part
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(body: &Value) -> Reply {
        Reply::to(&serde_json::from_value(body.clone()).expect("a request"))
    }

    #[test]
    fn an_answer_is_the_same_every_time_and_respects_its_bound() {
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "n": 2});
        let (one, other) = (reply(&body), reply(&body));
        assert_eq!(one.said, other.said);
        assert_eq!((one.said.text(), one.finish_reason), ("You said:".to_owned(), "length"));
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

    #[test]
    fn a_tool_is_called_when_one_is_required() {
        let tools = json!([
            {"type": "function", "function": {"name": "f", "parameters": {"required": ["x"], "properties": {"x": {"type": "string"}}}}},
            {"type": "function", "function": {"name": "g"}},
        ]);
        let ask = |choice: Value| {
            reply(
                &json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools, "tool_choice": choice}),
            )
        };
        let first = ask(json!("required"));
        let call = &first.json()["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(
            (&call["function"]["name"], &call["function"]["arguments"]),
            (&json!("f"), &json!(r#"{"x":"echo"}"#))
        );
        assert_eq!(first.json()["choices"][0]["finish_reason"], "tool_calls");
        let named = ask(json!({"type": "function", "function": {"name": "g"}}));
        assert_eq!(named.tool.as_ref().map(|tool| tool.name.as_str()), Some("g"));
        assert!(ask(json!("auto")).tool.is_none());
        let arguments: String = first
            .events(false)
            .filter_map(|event| serde_json::from_str::<Value>(&event).ok())
            .filter_map(|chunk| {
                let part = &chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
                part.as_str().map(str::to_owned)
            })
            .collect();
        assert_eq!(arguments, r#"{"x":"echo"}"#);
    }

    proptest! {
        #[test]
        fn the_input_never_exceeds_the_bodys_bytes(texts in proptest::collection::vec("\\PC{0,40}", 0..5)) {
            let messages: Vec<Value> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
            let body = json!({"model": "m", "messages": messages}).to_string();
            let messages = json!(messages).to_string();
            prop_assert!(input_tokens(&messages).expect("messages") <= clamped(body.len()));
        }
    }
}
