//! What Anthropic's dialect has of its own in headers: the version and the betas that a caller asks for.

use super::error::GatewayError;
use actix_web::http::header::{self, HeaderMap};
use http::header::{HeaderName, HeaderValue};

/// Where its SDKs look for a request's id.
pub const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("request-id");
/// Which version of the dialect is spoken.
pub const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// The one that its documentation tells everybody to send.
pub const VERSION_DEFAULT: HeaderValue = HeaderValue::from_static("2023-06-01");
const BETA: &str = "anthropic-beta";
const BETA_BYTES_MAX: usize = 1024;

/// Whether the caller speaks this dialect, on the routes that both have.
pub fn is_spoken(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION.as_str())
}

/// What is sent on to the upstream.
///
/// # Errors
/// When the betas are too long or not plain words.
pub fn headers(caller: &HeaderMap) -> Result<http::HeaderMap, GatewayError> {
    let version =
        caller.get(VERSION.as_str()).map(header::HeaderValue::as_bytes).filter(|value| is_date(value));
    let version = version.and_then(|value| HeaderValue::from_bytes(value).ok());
    let mut headers = http::HeaderMap::new();
    headers.insert(VERSION, version.unwrap_or(VERSION_DEFAULT));
    let betas: Vec<&[u8]> = caller.get_all(BETA).map(header::HeaderValue::as_bytes).collect();
    let betas = betas.join(&b","[..]);
    let plain = betas.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    if betas.len() > BETA_BYTES_MAX || !plain {
        let why = "The header anthropic-beta must be names with commas between them, at most 1024 bytes.";
        return Err(GatewayError::Malformed(why.into()));
    }
    if !betas.is_empty() {
        let betas = HeaderValue::from_bytes(&betas).map_err(|_| GatewayError::Internal)?;
        headers.insert(HeaderName::from_static(BETA), betas);
    }
    Ok(headers)
}

/// `2023-06-01`
fn is_date(value: &[u8]) -> bool {
    value.len() == 10
        && value.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pairs: &[(&'static str, &str)]) -> Result<(String, Option<String>), GatewayError> {
        let mut caller = HeaderMap::new();
        for (name, value) in pairs {
            let value = header::HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            caller.append(header::HeaderName::from_static(name), value);
        }
        let headers = headers(&caller)?;
        let text =
            |name| headers.get(name).map(|value: &HeaderValue| value.to_str().expect("ASCII").to_owned());
        Ok((text("anthropic-version").expect("always"), text(BETA)))
    }

    #[test]
    fn a_sane_version_is_the_callers_own() {
        assert_eq!(sent(&[]), Ok(("2023-06-01".into(), None)));
        assert_eq!(sent(&[("anthropic-version", "2024-10-22")]), Ok(("2024-10-22".into(), None)));
        for odd in ["", "latest", "2023-06-01x", "2023/06/01"] {
            assert_eq!(sent(&[("anthropic-version", odd)]), Ok(("2023-06-01".into(), None)), "{odd}");
        }
    }

    #[test]
    fn betas_are_joined_and_bounded() {
        let two = sent(&[(BETA, "a-2024"), (BETA, "b, c")]).expect("fine").1;
        assert_eq!(two.as_deref(), Some("a-2024,b, c"));
        assert!(sent(&[(BETA, &"x".repeat(1025))]).is_err());
        assert!(sent(&[(BETA, "é")]).is_err());
    }
}
