//! Who calls: the key in the headers, and its row. What is no key of ours costs no query.

use super::error::GatewayError;
use super::snapshots::Policy;
use crate::domain::secret::{KeyDigest, KeySecret};
use crate::error::Error;
use crate::store::Connection;
use crate::store::keys;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

/// Where Anthropic's SDKs put a key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The digest of the key that the headers bear: `Authorization: Bearer`, or `x-api-key`.
///
/// # Errors
/// When there is none, when it cannot be a key of ours, or when two differ.
pub fn presented_key(headers: &HeaderMap) -> Result<KeyDigest, GatewayError> {
    let bearer = headers.get_all(AUTHORIZATION).map(bearer_token);
    let mut presented = bearer.chain(headers.get_all(X_API_KEY).map(HeaderValue::as_bytes));
    let first = presented.next().ok_or(GatewayError::NoKey)?;
    if presented.any(|other| other != first) {
        return Err(GatewayError::TwoKeys);
    }
    if first.is_empty() {
        return Err(GatewayError::NoKey);
    }
    let secret = std::str::from_utf8(first).ok().and_then(KeySecret::parse);
    secret.map(|secret| secret.digest()).ok_or(GatewayError::UnknownKey)
}

/// What follows the scheme `Bearer`, in any case; nothing for other schemes.
fn bearer_token(value: &HeaderValue) -> &[u8] {
    const SCHEME: &[u8] = b"bearer";
    let value = value.as_bytes().trim_ascii();
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) && rest.starts_with(b" ") => {
            rest.trim_ascii_start()
        }
        _ => b"",
    }
}

/// The key with its owner and group as the database has them now, and what its clock says.
///
/// # Errors
/// The engine's; when what is stored is damaged.
pub fn find(connection: &mut Connection, digest: &KeyDigest) -> Result<Option<(Policy, i64)>, Error> {
    let Some(snapshot) = keys::find_by_digest(connection, digest)? else { return Ok(None) };
    Ok(Some((Policy::of(snapshot)?, connection.now_ms()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value).expect("a header value");
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    #[test]
    fn a_key_is_read_from_either_header() {
        let secret = KeySecret::generate();
        let key = secret.expose();
        for value in [format!("Bearer {key}"), format!("bearer   {key}"), format!("BEARER {key} ")] {
            assert_eq!(
                presented_key(&headers(&[("authorization", value.as_bytes())])),
                Ok(secret.digest()),
                "{value}"
            );
        }
        let bearer = format!("Bearer {key}");
        let both = headers(&[("x-api-key", key.as_bytes()), ("authorization", bearer.as_bytes())]);
        assert_eq!(presented_key(&both), Ok(secret.digest()));
    }

    #[test]
    fn two_keys_are_one_too_many() {
        let (one, other) = (KeySecret::generate(), KeySecret::generate());
        let bearer = format!("Bearer {}", one.expose());
        let both = headers(&[("authorization", bearer.as_bytes()), ("x-api-key", other.expose().as_bytes())]);
        assert_eq!(presented_key(&both), Err(GatewayError::TwoKeys));
        let second = format!("Bearer {}", other.expose());
        let twice = headers(&[("authorization", bearer.as_bytes()), ("authorization", second.as_bytes())]);
        assert_eq!(presented_key(&twice), Err(GatewayError::TwoKeys));
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_query() {
        assert_eq!(presented_key(&headers(&[])), Err(GatewayError::NoKey));
        for none in ["", "Bearer", "Bearer ", "Basic YTpi", "sk-kh"] {
            assert_eq!(
                presented_key(&headers(&[("authorization", none.as_bytes())])),
                Err(GatewayError::NoKey),
                "{none}"
            );
        }
        let megabyte = format!("Bearer {}", "a".repeat(1 << 20));
        for garbage in ["Bearer ' OR 1=1 --", "Bearer sk-khключ", "Bearer \u{ff}", &megabyte] {
            let refused = presented_key(&headers(&[("authorization", garbage.as_bytes())]));
            assert_eq!(refused, Err(GatewayError::UnknownKey));
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut map = HeaderMap::new();
                map.append(AUTHORIZATION, value.clone());
                prop_assert!(presented_key(&map).is_err());
            }
        }
    }
}
