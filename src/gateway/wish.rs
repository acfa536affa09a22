//! What a request asks for, as far as it matters to who decides and what it may cost; from JSON or from a form.

use super::content::Content;
use super::endpoint::{Endpoint, Output};
use super::sound;
use crate::domain::usage::Usage;

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
    /// How many answers; none where output is not counted in tokens.
    pub answers: i64,
    /// Of one answer, beside what the model's maximum bounds.
    pub added_output_tokens: i64,
    /// What the input holds.
    pub content: Content,
    /// Length of the whole body, or of the fields of a form.
    pub body_bytes: usize,
    /// To be made.
    pub images: i64,
    /// To be spoken.
    pub characters: i64,
    /// To be heard.
    pub sound_bytes: u64,
    /// The response that this one continues.
    pub previous_response_id: Option<String>,
    /// Whether the upstream keeps the response, to be asked for again.
    pub store: bool,
}

impl Wish {
    /// A wish for an answer of a route, of `body_bytes`.
    pub fn new(endpoint: Endpoint, model: String, body_bytes: usize) -> Self {
        Self {
            endpoint,
            model,
            stream: false,
            show_usage: true,
            max_tokens: None,
            answers: i64::from(!matches!(endpoint.rules().output, Output::None)),
            added_output_tokens: 0,
            content: Content::default(),
            body_bytes,
            images: 0,
            characters: 0,
            sound_bytes: 0,
            previous_response_id: None,
            store: false,
        }
    }

    /// More than the request can use, its output apart, on top of a context of `context_tokens`.
    pub fn bound(&self, context_tokens: i64) -> Usage {
        let sound = sound::bound(self.sound_bytes);
        let text = self.content.tokens_max(self.body_bytes).saturating_add(context_tokens);
        Usage {
            input_tokens: text.saturating_add(sound.input_tokens),
            images: self.images,
            characters: self.characters,
            audio_ms: sound.audio_ms,
            ..Usage::NONE
        }
    }

    /// A guess at the same, for when an upstream does not say.
    pub fn estimate(&self, context_tokens: i64) -> Usage {
        let sound = sound::estimate(self.sound_bytes);
        let text = self.content.tokens_estimated(self.body_bytes).saturating_add(context_tokens);
        let bound = self.bound(context_tokens);
        let input_tokens = text.saturating_add(sound.input_tokens).min(bound.input_tokens);
        Usage { input_tokens, audio_ms: sound.audio_ms.min(bound.audio_ms), ..bound }
    }
}
