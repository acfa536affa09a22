//! What `/v1` refuses and how: OpenAI's error body, the statuses and headers its SDKs act on.
//! A message says what was wrong and what to do; it never repeats a secret, a prompt or an allowlist.

use super::client::SHOULD_RETRY;
use super::endpoint::Endpoint;
use crate::domain::upstream::Dialect;
use crate::error::Error;
use crate::ledger::LedgerError;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use std::borrow::Cow;

/// Seconds after which a database, a ledger or an upstream may be back.
const RETRY_AFTER_S: u64 = 2;

/// Every way `/v1` says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Neither header bears a key.
    #[error("No API key was given. Send it as `Authorization: Bearer sk-…`.")]
    NoKey,
    /// No such key: mistyped, deleted, or another server's.
    #[error("This API key is not known here. Check that it is complete and was made on this server.")]
    UnknownKey,
    /// `Authorization` and `x-api-key` disagree.
    #[error("Two different API keys were given. Send one, as `Authorization: Bearer` or as `x-api-key`.")]
    TwoKeys,
    /// The key or its owner is switched off.
    #[error("This API key is disabled. Its owner can enable it again.")]
    KeyDisabled,
    /// The owner's account is switched off.
    #[error("The account of this API key is disabled. An administrator can enable it again.")]
    AccountDisabled,
    /// The key's last moment has passed.
    #[error("This API key has expired. Its owner can extend it.")]
    KeyExpired,
    /// The caller's address is not on the key's allowlist.
    #[error(
        "This API key may not be used from this address. Its owner can change where it may be used from."
    )]
    IpNotAllowed,
    /// The key is restricted to other models.
    #[error("This API key may not use this model. `GET /v1/models` lists those it may use.")]
    ModelNotAllowed,
    /// No such model, or none with a price.
    #[error("There is no such model. `GET /v1/models` lists those this API key may use.")]
    ModelNotFound,
    /// No such response of this account, or none that is remembered any more.
    #[error("There is no such response. It is kept for 30 days, unless it was made with `store: false`.")]
    ResponseNotFound,
    /// The same, of one that was to be continued.
    #[error(
        "There is no response of the id in `previous_response_id`. It is kept for 30 days, unless it was made with \
         `store: false`."
    )]
    PreviousResponseNotFound,
    /// What the key's limit leaves does not cover what this call may cost.
    #[error(
        "This API key's credit limit does not cover this call. Ask for less (`max_tokens`, `n`, a shorter prompt), or \
         have its owner raise the limit."
    )]
    KeyLimitReached,
    /// What the account's balance leaves does not cover what this call may cost.
    #[error(
        "The account's credits do not cover this call. Ask for less (`max_tokens`, `n`, a shorter prompt), or have an \
         administrator add credits."
    )]
    AccountCreditsExhausted,
    /// The body is not what this route reads.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// One field of the body is not acceptable.
    #[error("{message}")]
    BadField {
        /// Which.
        param: &'static str,
        /// Why, and what would be.
        message: Cow<'static, str>,
    },
    /// The body is larger than this many bytes.
    #[error("The request body is larger than {bytes_max} bytes.")]
    TooLarge {
        /// The most that is read.
        bytes_max: usize,
    },
    /// The body did not come in time.
    #[error("The request body did not arrive in time. Send it again.")]
    BodyTimeout,
    /// No route of this name.
    #[error("There is no such route under /v1.")]
    RouteNotFound,
    /// The route exists, the method does not.
    #[error("This route does not answer this method. Use {allowed}.")]
    MethodNotAllowed {
        /// The one that it does answer.
        allowed: &'static str,
    },
    /// No upstream of the model can be reached or works.
    #[error("No upstream of this model is available at the moment. Try again soon; nothing was charged.")]
    UpstreamUnavailable,
    /// As [`GatewayError::UpstreamUnavailable`], and the upstreams say when they will be back.
    #[error("No upstream of this model is available at the moment. Try again soon; nothing was charged.")]
    UpstreamsRest {
        /// Seconds.
        retry_after_s: u64,
    },
    /// An upstream's stream ended before its end; said in the stream itself.
    #[error("The upstream broke off in the middle of its answer. What it had made is charged. Try again.")]
    StreamBrokeOff,
    /// The database is away: nothing goes through unmetered.
    #[error("The server cannot reach its database at the moment. Try again soon.")]
    DatabaseUnavailable,
    /// More calls wait than the ledger takes.
    #[error("The server is busy at the moment. Try again soon.")]
    Busy,
    /// A defect of the server, logged where it happened.
    #[error(
        "The server failed. Try again; if it goes on, give the administrator this answer's x-request-id."
    )]
    Internal,
}

impl GatewayError {
    /// A refusal of one field of the body.
    pub fn field(param: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::BadField { param, message: message.into() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoKey
            | Self::UnknownKey
            | Self::TwoKeys
            | Self::KeyDisabled
            | Self::AccountDisabled
            | Self::KeyExpired => StatusCode::UNAUTHORIZED,
            Self::IpNotAllowed | Self::ModelNotAllowed => StatusCode::FORBIDDEN,
            Self::ModelNotFound | Self::RouteNotFound | Self::ResponseNotFound => StatusCode::NOT_FOUND,
            Self::KeyLimitReached | Self::AccountCreditsExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Malformed(_) | Self::BadField { .. } | Self::PreviousResponseNotFound => {
                StatusCode::BAD_REQUEST
            }
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpstreamUnavailable
            | Self::UpstreamsRest { .. }
            | Self::StreamBrokeOff
            | Self::DatabaseUnavailable
            | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::IpNotAllowed | Self::ModelNotAllowed => "permission_error",
            Self::KeyLimitReached | Self::AccountCreditsExhausted => "insufficient_quota",
            Self::UpstreamUnavailable
            | Self::UpstreamsRest { .. }
            | Self::StreamBrokeOff
            | Self::DatabaseUnavailable
            | Self::Busy
            | Self::Internal => "api_error",
            _ => "invalid_request_error",
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoKey | Self::UnknownKey | Self::TwoKeys => "invalid_api_key",
            Self::KeyDisabled | Self::AccountDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::ModelNotFound => "model_not_found",
            Self::ResponseNotFound => "response_not_found",
            Self::PreviousResponseNotFound => "previous_response_not_found",
            Self::KeyLimitReached => "key_limit_reached",
            Self::AccountCreditsExhausted => "account_credits_exhausted",
            Self::Malformed(_) => "malformed_body",
            Self::BadField { .. } => "invalid_value",
            Self::TooLarge { .. } => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::UpstreamUnavailable | Self::UpstreamsRest { .. } => "upstream_unavailable",
            Self::StreamBrokeOff => "upstream_broke_off",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::Busy => "server_busy",
            Self::Internal => "internal_error",
        }
    }

    fn param(&self) -> Option<&'static str> {
        match self {
            Self::ModelNotAllowed | Self::ModelNotFound => Some("model"),
            Self::BadField { param, .. } => Some(param),
            Self::PreviousResponseNotFound => Some("previous_response_id"),
            _ => None,
        }
    }

    /// OpenAI's error body.
    fn body(&self) -> String {
        error_body(&self.to_string(), self.kind(), self.param(), self.code())
    }

    /// Anthropic's error body, with our code beside its type.
    fn anthropic_body(&self, request_id: i64) -> String {
        anthropic_body(self.status(), &self.to_string(), self.code(), request_id)
    }

    /// The last event of a stream that cannot go on, as the SDKs of this route understand it.
    pub fn event(&self, endpoint: Endpoint, request_id: i64) -> String {
        match endpoint {
            Endpoint::Messages => format!("event: error\ndata: {}\n\n", self.anthropic_body(request_id)),
            Endpoint::ChatCompletions | Endpoint::Completions => format!("data: {}\n\n", self.body()),
            // Events here say by `type` what they are; `error` is what the SDKs raise.
            _ => {
                let flat = serde_json::json!({
                    "type": "error", "code": self.code(), "message": self.to_string(), "param": null,
                    "error": {"type": self.kind(), "code": self.code(), "message": self.to_string(), "param": null},
                });
                format!("event: error\ndata: {flat}\n\n")
            }
        }
    }

    /// The answer, in the body of a dialect.
    pub fn respond(&self, dialect: Dialect, request_id: i64) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        match self {
            // What the SDKs would otherwise repeat, to no avail.
            Self::KeyLimitReached | Self::AccountCreditsExhausted => {
                response.insert_header((SHOULD_RETRY.as_str(), "false"));
            }
            Self::MethodNotAllowed { allowed } => {
                response.insert_header((ALLOW, *allowed));
            }
            Self::UpstreamsRest { retry_after_s } => {
                response.insert_header((RETRY_AFTER, *retry_after_s));
            }
            _ => match self.status() {
                StatusCode::UNAUTHORIZED => {
                    response.insert_header((WWW_AUTHENTICATE, "Bearer"));
                }
                StatusCode::SERVICE_UNAVAILABLE => {
                    response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
                }
                _ => {}
            },
        }
        response.content_type("application/json").body(match dialect {
            Dialect::Anthropic => self.anthropic_body(request_id),
            Dialect::OpenAi | Dialect::Echo => self.body(),
        })
    }
}

/// What an upstream's refusal is called that gives no reason, in the body of a dialect.
pub(super) fn refused_body(dialect: Dialect, status: StatusCode, request_id: i64) -> String {
    const MESSAGE: &str = "The upstream of this model refuses this request, and does not say why.";
    const CODE: &str = "upstream_refused";
    match dialect {
        Dialect::Anthropic => anthropic_body(status, MESSAGE, CODE, request_id),
        Dialect::OpenAi | Dialect::Echo => error_body(MESSAGE, "invalid_request_error", None, CODE),
    }
}

/// OpenAI's error body.
pub(super) fn error_body(message: &str, kind: &str, param: Option<&str>, code: &str) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Detail<'a>,
    }
    #[derive(Serialize)]
    struct Detail<'a> {
        message: &'a str,
        r#type: &'a str,
        param: Option<&'a str>,
        code: &'a str,
    }
    serde_json::to_string(&Body { error: Detail { message, r#type: kind, param, code } })
        .expect("strings always serialize")
}

/// Anthropic's error body; its types follow from the status.
pub(super) fn anthropic_body(status: StatusCode, message: &str, code: &str, request_id: i64) -> String {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 if code == "server_busy" => "overloaded_error",
        _ => "api_error",
    };
    serde_json::json!({
        "type": "error",
        "error": {"type": kind, "message": message, "code": code},
        "request_id": request_id.to_string(),
    })
    .to_string()
}

impl ResponseError for GatewayError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(Dialect::OpenAi, 0)
    }
}

impl From<Error> for GatewayError {
    /// Logged here, the boundary; callers learn only what they can act on.
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(reason) => {
                tracing::warn!(%reason, "the database is away");
                Self::DatabaseUnavailable
            }
            other => {
                tracing::error!(error = %other, "a call failed");
                Self::Internal
            }
        }
    }
}

impl From<LedgerError> for GatewayError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Busy => Self::Busy,
            LedgerError::Unavailable => Self::DatabaseUnavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_table_is_kept() {
        let rows = [
            (GatewayError::NoKey, 401, "invalid_request_error", "invalid_api_key"),
            (GatewayError::UnknownKey, 401, "invalid_request_error", "invalid_api_key"),
            (GatewayError::KeyDisabled, 401, "invalid_request_error", "key_disabled"),
            (GatewayError::AccountDisabled, 401, "invalid_request_error", "key_disabled"),
            (GatewayError::KeyExpired, 401, "invalid_request_error", "key_expired"),
            (GatewayError::IpNotAllowed, 403, "permission_error", "ip_not_allowed"),
            (GatewayError::ModelNotAllowed, 403, "permission_error", "model_not_allowed"),
            (GatewayError::ModelNotFound, 404, "invalid_request_error", "model_not_found"),
            (GatewayError::KeyLimitReached, 429, "insufficient_quota", "key_limit_reached"),
            (GatewayError::AccountCreditsExhausted, 429, "insufficient_quota", "account_credits_exhausted"),
            (GatewayError::UpstreamUnavailable, 503, "api_error", "upstream_unavailable"),
            (GatewayError::DatabaseUnavailable, 503, "api_error", "database_unavailable"),
        ];
        for (error, status, kind, code) in rows {
            let response = error.error_response();
            assert_eq!((response.status().as_u16(), error.kind(), error.code()), (status, kind, code));
            let header = |name: &str| response.headers().contains_key(name);
            assert_eq!(header("www-authenticate"), status == 401, "{code}");
            assert_eq!(header("x-should-retry"), status == 429, "{code}");
            assert_eq!(header("retry-after"), status == 503, "{code}");
        }
    }

    #[test]
    fn anthropics_types_follow_from_the_status() {
        for (error, kind) in [
            (GatewayError::NoKey, "authentication_error"),
            (GatewayError::IpNotAllowed, "permission_error"),
            (GatewayError::ModelNotFound, "not_found_error"),
            (GatewayError::field("n", "No."), "invalid_request_error"),
            (GatewayError::TooLarge { bytes_max: 1 }, "request_too_large"),
            (GatewayError::KeyLimitReached, "rate_limit_error"),
            (GatewayError::UpstreamUnavailable, "api_error"),
            (GatewayError::Busy, "overloaded_error"),
        ] {
            let body: serde_json::Value = serde_json::from_str(&error.anthropic_body(7)).expect("JSON");
            assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &"7".into()));
            assert_eq!(body["error"]["type"], kind);
            assert_eq!(body["error"]["code"], error.code());
        }
    }

    #[test]
    fn a_refused_field_is_named() {
        let error = GatewayError::field("n", "Too \"many\".");
        assert_eq!(
            error.body(),
            r#"{"error":{"message":"Too \"many\".","type":"invalid_request_error","param":"n","code":"invalid_value"}}"#
        );
    }
}
