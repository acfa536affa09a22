//! Where an upstream is, and what it is told in every call: worked out once for many.

use super::anthropic;
use super::client::UpstreamError;
use crate::domain::network::is_global;
use crate::domain::upstream::Dialect;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use std::net::IpAddr;

/// An upstream as calls are addressed to it.
pub struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Before the path of each call.
    path: String,
    headers: HeaderMap,
    allow_private: bool,
}

impl Target {
    /// An upstream of this dialect behind this base URL, with its own secret, if it wants one.
    ///
    /// # Errors
    /// When the URL is none, or the address of this machine or a private network, which nobody allowed; when the secret cannot
    /// be sent.
    pub fn new(
        base_url: &str,
        dialect: Dialect,
        secret: Option<&str>,
        allow_private: bool,
    ) -> Result<Self, UpstreamError> {
        let base: Uri = base_url.parse().map_err(|_| UpstreamError::Unusable)?;
        if !allow_private && is_private_literal(&base) {
            return Err(UpstreamError::Private);
        }
        let mut headers = headers(dialect, secret)?;
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("keyhouse/", env!("CARGO_PKG_VERSION"))));
        let path = base.path().trim_end_matches('/').to_owned();
        let Parts { scheme: Some(scheme), authority: Some(authority), .. } = base.into_parts() else {
            return Err(UpstreamError::Unusable);
        };
        Ok(Self { scheme, authority, path, headers, allow_private })
    }

    /// Whether it may be on this machine or a private network.
    pub fn allow_private(&self) -> bool {
        self.allow_private
    }

    /// What the upstream is told in every call.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Of a call; `path` is what comes behind the base URL, its query included.
    ///
    /// # Errors
    /// When that is no path.
    pub fn uri(&self, path: &str) -> Result<Uri, UpstreamError> {
        let path = Bytes::from([self.path.as_str(), path].concat());
        let path = PathAndQuery::from_maybe_shared(path).map_err(|_| UpstreamError::Unusable)?;
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|_| UpstreamError::Unusable)
    }
}

/// What an upstream of a dialect is told in every call: its own secret where it looks for one.
fn headers(dialect: Dialect, secret: Option<&str>) -> Result<HeaderMap, UpstreamError> {
    let mut headers = HeaderMap::new();
    if dialect == Dialect::Anthropic {
        headers.insert(anthropic::VERSION, anthropic::VERSION_DEFAULT);
    }
    if let Some(secret) = secret {
        let (name, value) = match dialect {
            Dialect::OpenAi | Dialect::Echo => (AUTHORIZATION, format!("Bearer {secret}")),
            Dialect::Anthropic => (HeaderName::from_static("x-api-key"), secret.to_owned()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| UpstreamError::Unusable)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// An address instead of a name is not resolved, and so checked here.
fn is_private_literal(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().is_ok_and(|address| !is_global(address))
}
