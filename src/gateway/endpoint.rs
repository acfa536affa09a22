//! The routes that are metered, and what differs between them as data: where they are under an upstream's base URL,
//! whose dialect they are in, and which fields of their bodies Keyhouse acts upon.

use crate::domain::upstream::Dialect;

/// A metered route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
}

/// What a route's JSON body may have that matters here.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The fields that decide where a call goes and what it may cost. Two of one name are refused, in any spelling
    /// that some parser takes for the same: an upstream might read the other one.
    pub acted_upon: &'static [&'static str],
    /// Without it there is nothing to do; an array.
    pub input: &'static str,
    /// Fields that bound one answer's output, the larger of which counts.
    pub bounds: &'static [&'static str],
    /// The field that is sent where the caller set none of them.
    pub imposed: &'static str,
}

impl Endpoint {
    /// Behind `/v1`, and behind an upstream's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
        }
    }

    /// Who made this route up. The built-in upstream speaks every dialect.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions => Dialect::OpenAi,
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
                bounds: &["max_tokens", "max_completion_tokens"],
                // The name that OpenAI's reasoning models insist on; `max_tokens` they refuse.
                imposed: "max_completion_tokens",
            },
        }
    }
}
