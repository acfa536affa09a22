//! The echo's completions, embeddings and moderations, in OpenAI's bytes.

use super::words::{Said, clamped, token_count};
use super::{Events, Play, id};
use serde::Deserialize;
use serde_json::{Value, json};

/// As many numbers as fit a test's eye; who asks for more or fewer gets them.
const DIMENSIONS_DEFAULT: usize = 8;
const DIMENSIONS_MAX: usize = 4_096;
/// In one answer: so many take some ten megabytes.
const NUMBERS_MAX: usize = 1 << 20;
/// As many texts as OpenAI takes at once (API reference, "Create embeddings").
const TEXTS_MAX: usize = 2_048;
/// As many as OpenAI makes for one prompt.
const CHOICES_MAX: usize = 128;
/// What OpenAI's moderations look for.
const CATEGORIES: [&str; 5] = ["harassment", "hate", "self-harm", "sexual", "violence"];

/// A text, several, or tokens.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<i64>),
    Several(Vec<Vec<i64>>),
    Parts(Vec<Value>),
}

impl Input {
    /// Each as a text, with how many tokens it has.
    ///
    /// # Errors
    /// When they are too many to be answered at once.
    fn texts(&self) -> Result<Vec<(String, i64)>, String> {
        let several = match self {
            Self::Texts(texts) => texts.len(),
            Self::Several(several) => several.len(),
            Self::Text(_) | Self::Tokens(_) | Self::Parts(_) => 1,
        };
        at_most(several, TEXTS_MAX, "texts")?;
        let counted = |text: &String| (text.clone(), token_count(text));
        let tokens = |tokens: &Vec<i64>| (format!("{tokens:?}"), clamped(tokens.len()));
        Ok(match self {
            Self::Text(text) => vec![counted(text)],
            Self::Texts(texts) => texts.iter().map(counted).collect(),
            Self::Tokens(one) => vec![tokens(one)],
            Self::Several(several) => several.iter().map(tokens).collect(),
            Self::Parts(parts) => {
                let texts = parts.iter().filter_map(|part| part["text"].as_str());
                vec![counted(&texts.collect::<Vec<_>>().join(" "))]
            }
        })
    }
}

fn at_most(asked: usize, most: usize, what: &str) -> Result<(), String> {
    let why = || format!("I make no more than {most} {what} at once, and this asks for {asked}.");
    if asked > most { Err(why()) } else { Ok(()) }
}

#[derive(Deserialize)]
pub struct Completion {
    model: String,
    prompt: Input,
    max_tokens: Option<usize>,
    n: Option<usize>,
    best_of: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<Value>,
}

impl Completion {
    /// How it is answered.
    ///
    /// # Errors
    /// When it asks for too much.
    pub fn play(&self) -> Result<Play, String> {
        let prompts = self.prompt.texts()?;
        let answers = self.n.unwrap_or(1).max(1);
        at_most(prompts.len().saturating_mul(answers), CHOICES_MAX, "choices")?;
        let said: Vec<Said> =
            prompts.iter().map(|(prompt, _)| Said::answering(prompt, self.max_tokens)).collect();
        let candidates = answers.max(self.best_of.unwrap_or(1));
        let input_tokens: i64 = prompts.iter().map(|(_, tokens)| tokens).sum();
        let output_tokens = clamped(said.iter().map(|said| said.tokens.len()).sum::<usize>() * candidates);
        let usage = json!({
            "prompt_tokens": input_tokens, "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        });
        let envelope = json!({
            "id": id("cmpl-"), "object": "text_completion", "created": crate::clock::now_ms() / 1000,
            "model": self.model, "choices": [],
        });
        let steps = said.iter().map(|said| said.tokens.len()).sum();
        if self.stream != Some(true) {
            let texts = said.iter().flat_map(|said| std::iter::repeat_n(said, answers));
            let choices = texts.enumerate().map(|(index, said)| choice(index, &said.text(), Some(said)));
            let (mut body, choices) = (envelope, choices.collect::<Vec<_>>());
            (body["choices"], body["usage"]) = (json!(choices), usage);
            return Ok(Play::Whole { body, steps });
        }
        let options = self.stream_options.as_ref();
        let include_usage = options.is_some_and(|options| options["include_usage"] == true);
        Ok(Play::Events(events(said, answers, envelope, include_usage.then_some(usage))))
    }
}

fn choice(index: usize, text: &str, ended: Option<&Said>) -> Value {
    let reason = ended.map(|said| if said.cut { "length" } else { "stop" });
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason})
}

/// One choice after the other, a token an event; its reason for the end; usage if it was asked for; `[DONE]`.
fn events(said: Vec<Said>, answers: usize, envelope: Value, usage: Option<Value>) -> Events {
    Box::new(move |step| {
        let mut step = step;
        let mut chunk = envelope.clone();
        for index in 0..said.len() * answers {
            let said = &said[index / answers];
            if step <= said.tokens.len() {
                let token = said.tokens.get(step).map_or("", String::as_str);
                let ended = Some(said).filter(|_| step == said.tokens.len());
                chunk["choices"] = json!([choice(index, token, ended)]);
                return Some(format!("data: {chunk}\n\n"));
            }
            step -= said.tokens.len() + 1;
        }
        match (step, &usage) {
            (0, Some(usage)) => {
                chunk["usage"] = usage.clone();
                Some(format!("data: {chunk}\n\n"))
            }
            (0, None) | (1, Some(_)) => Some("data: [DONE]\n\n".into()),
            _ => None,
        }
    })
}

#[derive(Deserialize)]
pub struct Embedding {
    model: String,
    input: Input,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

impl Embedding {
    /// How it is answered: the same text has the same vector, of length one.
    ///
    /// # Errors
    /// When it asks for too much.
    pub fn play(&self) -> Result<Play, String> {
        let texts = self.input.texts()?;
        let dimensions = self.dimensions.unwrap_or(DIMENSIONS_DEFAULT).clamp(1, DIMENSIONS_MAX);
        at_most(texts.len() * dimensions, NUMBERS_MAX, "numbers")?;
        let as_base64 = self.encoding_format.as_deref() == Some("base64");
        let data = texts.iter().enumerate().map(|(index, (text, _))| {
            let vector = vector(text, dimensions);
            let embedding = if as_base64 { json!(base64(&vector)) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        });
        let tokens: i64 = texts.iter().map(|(_, tokens)| tokens).sum();
        let body = json!({
            "object": "list", "data": data.collect::<Vec<_>>(), "model": self.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        });
        Ok(Play::Whole { body, steps: 0 })
    }
}

fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut of_text = crc32fast::Hasher::new();
    of_text.update(text.as_bytes());
    let number = |index: usize| {
        let mut hasher = of_text.clone();
        hasher.update(&index.to_le_bytes());
        let hash = hasher.finalize();
        f32::from(u16::try_from(hash & 0xffff).unwrap_or_default()) / 32_768.0 - 1.0
    };
    let vector: Vec<f32> = (0..dimensions).map(number).collect();
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    let length = if length > 0.0 { length } else { 1.0 };
    vector.into_iter().map(|number| number / length).collect()
}

/// As OpenAI's SDKs ask for it: little-endian floats.
fn base64(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[derive(Deserialize)]
pub struct Moderation {
    model: String,
    input: Input,
}

impl Moderation {
    /// How it is answered: an echo finds nothing wrong with anything.
    ///
    /// # Errors
    /// When it asks for too much.
    pub fn play(&self) -> Result<Play, String> {
        let fields = |value: Value| -> Value {
            CATEGORIES
                .iter()
                .map(|name| ((*name).to_owned(), value.clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let results = self.input.texts()?.into_iter().map(|_| {
            json!({
                "flagged": false, "categories": fields(json!(false)), "category_scores": fields(json!(0.0)),
                "category_applied_input_types": fields(json!([])),
            })
        });
        let body = json!({"id": id("modr-"), "model": self.model, "results": results.collect::<Vec<_>>()});
        Ok(Play::Whole { body, steps: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_are_the_same_every_time() {
        let (one, other) = (vector("a", 16), vector("b", 16));
        assert_eq!(one, vector("a", 16));
        assert_ne!(one, other);
        let length: f32 = one.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }

    #[test]
    fn who_asks_for_too_much_at_once_is_refused() {
        let embedding = |texts: usize, dimensions: usize| {
            let body = json!({"model": "m", "input": vec!["a"; texts], "dimensions": dimensions});
            serde_json::from_value::<Embedding>(body).expect("a request").play().is_ok()
        };
        assert!(embedding(2_048, 8) && embedding(256, 4_096));
        assert!(!embedding(2_049, 1) && !embedding(257, 4_096));
        let completion = |prompts: usize, n: usize| {
            let body = json!({"model": "m", "prompt": vec!["a"; prompts], "n": n});
            serde_json::from_value::<Completion>(body).expect("a request").play().is_ok()
        };
        assert!(completion(2, 64) && !completion(2, 65) && !completion(1, usize::MAX));
    }

    #[test]
    fn a_completions_stream_says_what_its_json_says() {
        let mut body = json!({"model": "m", "prompt": ["a", "b"], "n": 2, "max_tokens": 3});
        let play =
            |body: &Value| serde_json::from_value::<Completion>(body.clone()).expect("a request").play();
        let Ok(Play::Whole { body: whole, .. }) = play(&body) else { panic!("whole") };
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let Ok(Play::Events(events)) = play(&body) else { panic!("events") };
        let events: Vec<String> = (0..).map_while(events).collect();
        assert_eq!(events.last().map(String::as_str), Some("data: [DONE]\n\n"));
        let mut texts = vec![String::new(); 4];
        for event in &events[..events.len() - 1] {
            let chunk: Value = serde_json::from_str(event["data: ".len()..].trim()).expect("JSON");
            if let Some(index) = chunk["choices"][0]["index"].as_u64() {
                texts[usize::try_from(index).expect("small")] +=
                    chunk["choices"][0]["text"].as_str().expect("text");
            }
        }
        let whole_texts = (0..4).map(|index| whole["choices"][index]["text"].as_str().expect("text"));
        assert!(whole_texts.eq(texts.iter().map(String::as_str)));
        assert_eq!(whole["usage"]["completion_tokens"], 12);
    }
}
