//! The echo's messages, in Anthropic's bytes: answers, tool uses, events, and the counting of tokens.

use super::words::{Said, ToolCall, clamped, text_of, tokens_of, tool_call};
use super::{Events, Play, id, named};
use serde::Deserialize;
use serde_json::{Value, json};

const TOKENS_PER_MESSAGE: i64 = 3;

#[derive(Deserialize)]
pub struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    system: Value,
    max_tokens: Option<usize>,
    stream: Option<bool>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Value,
}

impl Request {
    fn input_tokens(&self) -> i64 {
        let messages = self
            .messages
            .iter()
            .map(|message| TOKENS_PER_MESSAGE + super::words::token_count(&text_of(&message.content)));
        let tools = self.tools.iter().flatten().map(tokens_of);
        messages.chain(tools).sum::<i64>() + super::words::token_count(&text_of(&self.system))
    }

    /// The tool that the caller insists on: the one named, or the first.
    fn required_tool(&self) -> Option<ToolCall> {
        let named = match self.tool_choice["type"].as_str() {
            Some("any") => None,
            Some("tool") => Some(self.tool_choice["name"].as_str()?),
            _ => return None,
        };
        let mut tools = self.tools.iter().flatten();
        let tool = tools.find(|tool| named.is_none_or(|name| tool["name"] == name))?;
        Some(tool_call(tool["name"].as_str()?, &tool["input_schema"]))
    }

    /// How many tokens it has.
    pub fn count(&self) -> Play {
        Play::Whole { body: json!({"input_tokens": self.input_tokens()}), steps: 0 }
    }

    /// How it is answered.
    pub fn play(&self) -> Play {
        let question = self.messages.iter().rev().find(|message| message.role == "user");
        let question = question.map(|message| text_of(&message.content)).unwrap_or_default();
        let tool = self.required_tool();
        let said = match &tool {
            Some(tool) => Said::new(&tool.arguments, self.max_tokens),
            None => Said::answering(&question, self.max_tokens),
        };
        let stop_reason = match (said.cut, &tool) {
            (true, _) => "max_tokens",
            (false, Some(_)) => "tool_use",
            (false, None) => "end_turn",
        };
        let (id, model, input_tokens) = (id("msg_"), self.model.clone(), self.input_tokens());
        let reply = Reply { id, model, said, tool, stop_reason, input_tokens };
        if self.stream != Some(true) {
            return Play::Whole { body: reply.json(), steps: reply.said.tokens.len() };
        }
        let events: Events = Box::new(move |step| reply.event(step).map(|event| named(&event)));
        Play::Events(events)
    }
}

struct Reply {
    id: String,
    model: String,
    /// The text, or the input of the tool.
    said: Said,
    tool: Option<ToolCall>,
    stop_reason: &'static str,
    input_tokens: i64,
}

impl Reply {
    fn usage(&self, output_tokens: usize) -> Value {
        json!({
            "input_tokens": self.input_tokens, "output_tokens": clamped(output_tokens),
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        })
    }

    fn message(&self, content: &Value, stop_reason: Option<&str>, output_tokens: usize) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": self.usage(output_tokens),
        })
    }

    /// The block of the answer, with this much in it.
    fn block(&self, text: &str, input: &Value) -> Value {
        match &self.tool {
            Some(tool) => {
                let id = format!("toolu_{}", &self.id["msg_".len()..]);
                json!({"type": "tool_use", "id": id, "name": tool.name, "input": input})
            }
            None => json!({"type": "text", "text": text}),
        }
    }

    fn json(&self) -> Value {
        let text = self.said.text();
        // Cut short it is no JSON any more.
        let input = serde_json::from_str(&text).unwrap_or(json!({}));
        let content = json!([self.block(&text, &input)]);
        self.message(&content, Some(self.stop_reason), self.said.tokens.len())
    }

    fn event(&self, step: usize) -> Option<Value> {
        if let Some(token) = step.checked_sub(2).and_then(|index| self.said.tokens.get(index)) {
            let delta = match self.tool {
                Some(_) => json!({"type": "input_json_delta", "partial_json": token}),
                None => json!({"type": "text_delta", "text": token}),
            };
            return Some(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        let count = self.said.tokens.len();
        match step.checked_sub(count) {
            _ if step == 0 => {
                Some(json!({"type": "message_start", "message": self.message(&json!([]), None, 1)}))
            }
            _ if step == 1 => {
                let block = self.block("", &json!({}));
                Some(json!({"type": "content_block_start", "index": 0, "content_block": block}))
            }
            Some(2) => Some(json!({"type": "content_block_stop", "index": 0})),
            Some(3) => Some(json!({
                "type": "message_delta", "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
                "usage": {"output_tokens": clamped(count)},
            })),
            Some(4) => Some(json!({"type": "message_stop"})),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(body: Value) -> Vec<Value> {
        let request: Request = serde_json::from_value(body).expect("a request");
        let Play::Events(events) = request.play() else { panic!("events") };
        let payload = |event: String| event.split_once("data: ").expect("data").1.trim().to_owned();
        let parse = |text: String| serde_json::from_str(&text).expect("JSON");
        (0..).map_while(events).map(payload).map(parse).collect()
    }

    #[test]
    fn a_stream_begins_and_ends_as_anthropics_do() {
        let body = json!({"model": "m", "max_tokens": 3, "stream": true,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]});
        let events = events(body);
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        let delta = "content_block_delta";
        let expected = [
            "message_start",
            "content_block_start",
            delta,
            delta,
            delta,
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(events[6]["delta"]["stop_reason"], "max_tokens");
        assert_eq!(
            (&events[0]["message"]["usage"]["input_tokens"], &events[6]["usage"]["output_tokens"]),
            (&json!(4), &json!(3))
        );
    }

    #[test]
    fn a_tool_is_used_when_one_is_required() {
        let body = json!({"model": "m", "max_tokens": 90, "stream": true, "tool_choice": {"type": "any"},
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"name": "f", "input_schema": {"required": ["x"], "properties": {"x": {"type": "integer"}}}}]});
        let events = events(body);
        assert_eq!(
            (&events[1]["content_block"]["type"], &events[1]["content_block"]["name"]),
            (&json!("tool_use"), &json!("f"))
        );
        let pieces = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str());
        assert_eq!(pieces.collect::<String>(), r#"{"x":1}"#);
    }
}
