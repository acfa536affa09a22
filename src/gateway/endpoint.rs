//! The routes that are metered, and what differs between them as data: where they are under an upstream's base URL,
//! whose dialect they are in, and which fields of their bodies Keyhouse acts upon.

use crate::domain::upstream::Dialect;

/// A metered route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`, which is free.
    CountTokens,
    /// `POST /v1/images/generations`
    ImageGenerations,
    /// `POST /v1/images/edits`, a form.
    ImageEdits,
    /// `POST /v1/audio/speech`
    Speech,
    /// `POST /v1/audio/transcriptions`, a form.
    Transcriptions,
    /// `POST /v1/audio/translations`, a form.
    Translations,
    /// `POST /v1/moderations`
    Moderations,
    /// `POST /v1/rerank`
    Rerank,
}

/// What a route's output is bounded by.
#[derive(Debug, Clone, Copy)]
pub enum Output {
    /// There is none that would be counted in tokens.
    None,
    /// By fields, of which the largest counts; `imposed` is sent where the caller set none of them, and is then at most
    /// `default`, where the route has a default of its own.
    Bounded {
        /// That the caller may set.
        fields: &'static [&'static str],
        /// That is set for the caller; `None`: it is the caller's to set.
        imposed: Option<&'static str>,
        /// What the caller expects who sets none.
        default: Option<i64>,
        /// Less than this no upstream takes.
        least: i64,
    },
    /// By the model's own maximum; no field bounds it.
    Fixed,
}

/// What a route's body may have that matters here.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The fields that decide where a call goes and what it may cost. Two of one name are refused, in any spelling
    /// that some parser takes for the same: an upstream might read the other one.
    pub acted_upon: &'static [&'static str],
    /// Without it there is nothing to do.
    pub input: &'static str,
    /// What that may be, in words, and how such JSON begins.
    pub input_kind: (&'static str, &'static [u8]),
    /// Fields that may hold images, files and sounds.
    pub surveyed: &'static [&'static str],
    /// What bounds one answer's tokens.
    pub output: Output,
    /// The field that asks for several answers, and the most it may ask for.
    pub answers: Option<(&'static str, i64)>,
}

const ARRAY: (&str, &[u8]) = ("an array", b"[");
const TEXT: (&str, &[u8]) = ("a text", b"\"");
const TEXT_OR_ARRAY: (&str, &[u8]) = ("a text or an array", b"\"[");
/// OpenAI's own bound.
const ANSWERS_MAX: i64 = 128;
/// OpenAI's own bound.
const IMAGES_MAX: i64 = 10;

/// A route whose answers are not text made by a model.
const PLAIN: Rules = Rules {
    acted_upon: &["model", "input"],
    input: "input",
    input_kind: TEXT_OR_ARRAY,
    surveyed: &["input"],
    output: Output::None,
    answers: None,
};

impl Endpoint {
    /// Behind `/v1`, and behind an upstream's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
            Self::ImageGenerations => "/images/generations",
            Self::ImageEdits => "/images/edits",
            Self::Speech => "/audio/speech",
            Self::Transcriptions => "/audio/transcriptions",
            Self::Translations => "/audio/translations",
            Self::Moderations => "/moderations",
            Self::Rerank => "/rerank",
        }
    }

    /// Who made this route up. The built-in upstream speaks every dialect.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether an upstream of a dialect may serve it. Nothing is translated from one dialect to the other.
    pub fn is_served_by(self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::Echo => !self.is_media() && self != Self::Rerank,
            _ => dialect == self.dialect(),
        }
    }

    /// Whether what it answers is made of tokens that are charged as output.
    pub const fn has_output(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Moderations | Self::Rerank | Self::CountTokens)
    }

    /// Whether it makes or hears something that may be priced by other things than tokens.
    pub const fn is_media(self) -> bool {
        self.answers_with_text() || matches!(self, Self::ImageGenerations | Self::ImageEdits | Self::Speech)
    }

    /// Whether its answer may be plain text, if that was asked for.
    pub const fn answers_with_text(self) -> bool {
        matches!(self, Self::Transcriptions | Self::Translations)
    }

    /// Whether its body is a form.
    pub const fn is_form(self) -> bool {
        matches!(self, Self::ImageEdits | Self::Transcriptions | Self::Translations)
    }

    /// The model of a caller who names none.
    pub const fn default_model(self) -> Option<&'static str> {
        match self {
            Self::Moderations => Some("omni-moderation-latest"),
            _ => None,
        }
    }

    /// What its body may have.
    pub const fn rules(self) -> Rules {
        match self {
            Self::ChatCompletions => Rules {
                acted_upon: &[
                    "model",
                    "messages",
                    "stream",
                    "stream_options",
                    "max_tokens",
                    "max_completion_tokens",
                    "n",
                ],
                input: "messages",
                input_kind: ARRAY,
                surveyed: &["messages"],
                output: Output::Bounded {
                    fields: &["max_tokens", "max_completion_tokens"],
                    // The name that OpenAI's reasoning models insist on; `max_tokens` they refuse.
                    imposed: Some("max_completion_tokens"),
                    default: None,
                    least: 1,
                },
                answers: Some(("n", ANSWERS_MAX)),
            },
            Self::Completions => Rules {
                acted_upon: &["model", "prompt", "stream", "stream_options", "max_tokens", "n", "best_of"],
                input: "prompt",
                input_kind: TEXT_OR_ARRAY,
                surveyed: &[],
                // 16 is OpenAI's documented default.
                output: Output::Bounded {
                    fields: &["max_tokens"],
                    imposed: Some("max_tokens"),
                    default: Some(16),
                    least: 1,
                },
                answers: Some(("n", ANSWERS_MAX)),
            },
            Self::Responses => Rules {
                acted_upon: &[
                    "model",
                    "input",
                    "stream",
                    "max_output_tokens",
                    "store",
                    "previous_response_id",
                    "background",
                    "conversation",
                    "prompt",
                ],
                surveyed: &["input"],
                output: Output::Bounded {
                    fields: &["max_output_tokens"],
                    imposed: Some("max_output_tokens"),
                    default: None,
                    // OpenAI's API reference, "Create a model response".
                    least: 16,
                },
                ..PLAIN
            },
            Self::Messages => Rules {
                acted_upon: &["model", "messages", "stream", "max_tokens", "system", "tools"],
                input: "messages",
                input_kind: ARRAY,
                surveyed: &["messages", "system"],
                output: Output::Bounded { fields: &["max_tokens"], imposed: None, default: None, least: 1 },
                answers: None,
            },
            Self::CountTokens => Rules {
                acted_upon: &["model", "messages"],
                input: "messages",
                input_kind: ARRAY,
                surveyed: &[],
                ..PLAIN
            },
            Self::ImageGenerations | Self::ImageEdits => Rules {
                acted_upon: &["model", "prompt", "n", "stream", "partial_images", "response_format"],
                input: "prompt",
                input_kind: TEXT,
                surveyed: &[],
                output: Output::Fixed,
                answers: Some(("n", IMAGES_MAX)),
            },
            Self::Speech => Rules {
                acted_upon: &["model", "input", "stream_format"],
                input_kind: TEXT,
                surveyed: &[],
                output: Output::Fixed,
                ..PLAIN
            },
            Self::Transcriptions | Self::Translations => Rules {
                acted_upon: &["model", "stream", "response_format"],
                input: "file",
                surveyed: &[],
                output: Output::Fixed,
                ..PLAIN
            },
            Self::Rerank => Rules {
                acted_upon: &["model", "query", "documents"],
                input: "documents",
                input_kind: ARRAY,
                surveyed: &["query", "documents"],
                ..PLAIN
            },
            Self::Embeddings | Self::Moderations => PLAIN,
        }
    }

    /// Whether a field asks for events.
    pub fn streams(self) -> bool {
        self.rules().acted_upon.contains(&"stream")
    }
}
