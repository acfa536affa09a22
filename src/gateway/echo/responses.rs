//! The echo's responses, in OpenAI's bytes: answers, function calls, events. It keeps none of them.

use super::words::{Said, ToolCall, clamped, text_of, token_count, tokens_of, tool_call};
use super::{Events, Play, id, named};
use serde::Deserialize;
use serde_json::{Value, json};

const TOKENS_PER_MESSAGE: i64 = 3;

#[derive(Deserialize)]
pub struct Request {
    model: String,
    input: Value,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    stream: Option<bool>,
    store: Option<bool>,
    previous_response_id: Option<String>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
}

impl Request {
    /// The items of the input; a text is one of the user's.
    fn items(&self) -> Vec<Value> {
        match &self.input {
            Value::Array(items) => items.clone(),
            text => vec![json!({"role": "user", "content": text})],
        }
    }

    fn input_tokens(&self) -> i64 {
        let items = self.items();
        let items = items.iter().map(|item| TOKENS_PER_MESSAGE + token_count(&text_of(&item["content"])));
        let tools = self.tools.iter().flatten().map(tokens_of);
        items.chain(tools).sum::<i64>() + self.instructions.as_deref().map_or(0, token_count)
    }

    /// The function that the caller insists on: the one named, or the first.
    fn required_tool(&self) -> Option<ToolCall> {
        let named = self.tool_choice["name"].as_str();
        if named.is_none() && self.tool_choice != "required" {
            return None;
        }
        let mut tools = self.tools.iter().flatten();
        let tool = tools.find(|tool| named.is_none_or(|name| tool["name"] == name))?;
        Some(tool_call(tool["name"].as_str()?, &tool["parameters"]))
    }

    /// How it is answered.
    pub fn play(&self) -> Play {
        let items = self.items();
        let question = items.iter().rev().find(|item| item["role"] == "user");
        let question = question.map(|item| text_of(&item["content"])).unwrap_or_default();
        let tool = self.required_tool();
        let said = match &tool {
            Some(tool) => Said::new(&tool.arguments, self.max_output_tokens),
            None => Said::answering(&question, self.max_output_tokens),
        };
        let reply = Reply {
            id: id("resp_"),
            created_at: crate::clock::now_ms() / 1000,
            said,
            tool,
            input_tokens: self.input_tokens(),
            echoed: json!({
                "model": self.model, "instructions": self.instructions, "store": self.store.unwrap_or(true),
                "max_output_tokens": self.max_output_tokens, "previous_response_id": self.previous_response_id,
                "tools": self.tools.clone().unwrap_or_default(),
                "tool_choice": if self.tool_choice.is_null() { json!("auto") } else { self.tool_choice.clone() },
            }),
        };
        if self.stream != Some(true) {
            return Play::Whole { body: reply.whole(), steps: reply.said.tokens.len() };
        }
        let events: Events = Box::new(move |step| {
            let mut event = reply.event(step)?;
            event["sequence_number"] = json!(step);
            Some(named(&event))
        });
        Play::Events(events)
    }
}

struct Reply {
    id: String,
    created_at: i64,
    /// The text, or the arguments of the function.
    said: Said,
    tool: Option<ToolCall>,
    input_tokens: i64,
    /// What of the request is repeated.
    echoed: Value,
}

impl Reply {
    fn response(&self, status: &str, output: &Value, usage: &Value) -> Value {
        let mut response = self.echoed.clone();
        let incomplete =
            if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null };
        let fields = json!({
            "id": self.id, "object": "response", "created_at": self.created_at, "status": status, "error": null,
            "incomplete_details": incomplete, "output": output, "usage": usage, "parallel_tool_calls": true,
            "metadata": {}, "temperature": 1.0, "top_p": 1.0, "truncation": "disabled",
            "text": {"format": {"type": "text"}}, "reasoning": {"effort": null, "summary": null},
        });
        if let (Some(response), Value::Object(fields)) = (response.as_object_mut(), fields) {
            response.extend(fields);
        }
        response
    }

    fn item_id(&self) -> String {
        let prefix = if self.tool.is_some() { "fc_" } else { "msg_" };
        format!("{prefix}{}", &self.id["resp_".len()..])
    }

    fn item(&self, status: &str, text: Option<&str>) -> Value {
        match &self.tool {
            Some(tool) => json!({
                "id": self.item_id(), "type": "function_call", "status": status, "name": tool.name,
                "call_id": format!("call_{}", &self.id["resp_".len()..]), "arguments": text.unwrap_or_default(),
            }),
            None => json!({
                "id": self.item_id(), "type": "message", "status": status, "role": "assistant",
                "content": text.map(part).into_iter().collect::<Vec<_>>(),
            }),
        }
    }

    fn whole(&self) -> Value {
        let status = if self.said.cut { "incomplete" } else { "completed" };
        let output_tokens = clamped(self.said.tokens.len());
        let usage = json!({
            "input_tokens": self.input_tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input_tokens + output_tokens,
        });
        self.response(status, &json!([self.item(status, Some(&self.said.text()))]), &usage)
    }

    /// The payload of one step: what begins, a token each, what ends.
    fn event(&self, step: usize) -> Option<Value> {
        let is_text = self.tool.is_none();
        let kind = if is_text { "response.output_text" } else { "response.function_call_arguments" };
        let mut before = vec!["response.created", "response.in_progress", "response.output_item.added"];
        before.extend(is_text.then_some("response.content_part.added"));
        if let Some(&kind) = before.get(step) {
            return Some(self.beginning(kind));
        }
        let place = |kind: String| {
            let mut event = json!({"type": kind, "item_id": self.item_id(), "output_index": 0});
            if is_text {
                event["content_index"] = json!(0);
            }
            event
        };
        let step = step - before.len();
        if let Some(token) = self.said.tokens.get(step) {
            let mut event = place(format!("{kind}.delta"));
            event["delta"] = json!(token);
            if is_text {
                event["logprobs"] = json!([]);
            }
            return Some(event);
        }
        let text = self.said.text();
        let status = if self.said.cut { "incomplete" } else { "completed" };
        match (step - self.said.tokens.len(), is_text) {
            (0, true) => {
                let mut event = place(format!("{kind}.done"));
                (event["text"], event["logprobs"]) = (json!(text), json!([]));
                Some(event)
            }
            (0, false) => {
                let mut event = place(format!("{kind}.done"));
                event["arguments"] = json!(text);
                event["name"] = json!(self.tool.as_ref().map(|tool| &tool.name));
                Some(event)
            }
            (1, true) => {
                let mut event = place("response.content_part.done".into());
                event["part"] = part(&text);
                Some(event)
            }
            (2, true) | (1, false) => Some(json!({
                "type": "response.output_item.done", "output_index": 0, "item": self.item(status, Some(&text)),
            })),
            (3, true) | (2, false) => {
                Some(json!({"type": format!("response.{status}"), "response": self.whole()}))
            }
            _ => None,
        }
    }

    fn beginning(&self, kind: &str) -> Value {
        match kind {
            "response.output_item.added" => {
                json!({"type": kind, "output_index": 0, "item": self.item("in_progress", None)})
            }
            "response.content_part.added" => json!({
                "type": kind, "item_id": self.item_id(), "output_index": 0, "content_index": 0, "part": part(""),
            }),
            _ => json!({"type": kind, "response": self.response("in_progress", &json!([]), &Value::Null)}),
        }
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
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
    fn a_stream_ends_with_the_whole_response() {
        let events = events(json!({"model": "m", "input": "hi", "stream": true, "max_output_tokens": 4}));
        let last = events.last().expect("events");
        assert_eq!(last["type"], "response.incomplete");
        let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(last["response"]["output"][0]["content"][0]["text"], deltas);
        assert_eq!(last["response"]["usage"]["output_tokens"], 4);
        let numbers: Vec<i64> = events.iter().filter_map(|event| event["sequence_number"].as_i64()).collect();
        assert!(numbers.iter().copied().eq(0..clamped(events.len())));
    }

    #[test]
    fn a_function_is_called_when_one_is_required() {
        let tools = json!([{"type": "function", "name": "f", "parameters": {"required": ["x"],
            "properties": {"x": {"type": "string"}}}}]);
        let events =
            events(json!({"model": "m", "input": [{"role": "user", "content": "hi"}], "stream": true,
            "tools": tools, "tool_choice": "required"}));
        let last = events.last().expect("events");
        let call = &last["response"]["output"][0];
        assert_eq!((&call["type"], &call["arguments"]), (&json!("function_call"), &json!(r#"{"x":"echo"}"#)));
        let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(call["arguments"], deltas);
    }
}
