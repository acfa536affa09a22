//! What surrounds every dashboard page: requests of other sites are refused, forms are bounded, every answer
//! carries the security headers, and every failure is made readable.

use super::error::{self, Asked, PageError};
use crate::config::Reach;
use crate::domain::price_list::LIST_BYTES_MAX;
use crate::error::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PayloadError};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use futures_util::{StreamExt, stream};
use std::io;
use std::time::Duration;
use url::Url;

/// No form of ours comes near it.
pub const FORM_BYTES_MAX: usize = 256 * 1024;
/// But a price list may be brought whole, and takes its time on a bad line.
const LARGE_FORMS: [(&str, usize, Duration); 1] =
    [("/models/import", LIST_BYTES_MAX + FORM_BYTES_MAX, Duration::from_secs(120))];
/// A body up to this size is read and thrown away before it is refused: a browser that is cut off while it sends
/// shows its own error instead of our page.
const THROWN_AWAY_BYTES_MAX: usize = 4 * 1024 * 1024;
const THROWING_AWAY_WAIT: Duration = Duration::from_secs(5);
/// Longest that a form may take to come: a person on a bad line sends its few kilobytes in less.
const FORM_WAIT: Duration = Duration::from_secs(30);

/// Nothing but our own files: no inline scripts or styles, no frames, no other hosts.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

const SECURITY_HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];
const STRICT_TRANSPORT: (&str, &str) = ("strict-transport-security", "max-age=31536000");

/// Whether htmx made the request.
pub fn is_htmx(headers: &HeaderMap) -> bool {
    headers.get("hx-request").is_some_and(|value| value == "true")
}

/// For forms that announce no length: the extractor stops reading at the same bound.
pub fn form_config() -> web::FormConfig {
    web::FormConfig::default().limit(FORM_BYTES_MAX)
}

/// The middleware.
///
/// # Errors
/// Only when no session could be read or written; the error carries its page.
pub async fn protect(
    reach: web::Data<Reach>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let asked = Asked::of(&request);
    let reach = reach.into_inner();
    if let Some(refusal) = refuse(&mut request, &reach).await {
        let response = request.error_response(refusal);
        return Ok(harden(error::dress(asked, response), &reach));
    }
    let (_, wait) = bounds(request.path());
    let form = hurried(request.take_payload(), wait);
    request.set_payload(form);
    match next.call(request).await {
        Ok(response) => Ok(harden(error::dress(asked, response.map_into_boxed_body()), &reach)),
        Err(error) => {
            let mut page = error::without_session(asked, &error);
            insert_security_headers(page.headers_mut(), &reach);
            Err(InternalError::from_response(error, page).into())
        }
    }
}

/// For files: the headers alone.
///
/// # Errors
/// Those of the handlers.
pub async fn secure(
    reach: web::Data<Reach>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let response = next.call(request).await?;
    Ok(harden(response.map_into_boxed_body(), &reach))
}

/// How large the form of this address may be, and how long it may take to come.
fn bounds(path: &str) -> (usize, Duration) {
    let large = LARGE_FORMS.iter().find(|(large, ..)| *large == path);
    large.map_or((FORM_BYTES_MAX, FORM_WAIT), |(_, bytes, wait)| (*bytes, *wait))
}

async fn refuse(request: &mut ServiceRequest, reach: &Reach) -> Option<PageError> {
    if is_cross_site(request.method(), request.headers(), reach.public_url.as_ref()) {
        return Some(PageError::CrossSite);
    }
    let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<usize>().ok()?;
    if length <= bounds(request.path()).0 {
        return None;
    }
    if length <= THROWN_AWAY_BYTES_MAX {
        let mut body = request.take_payload();
        let thrown_away = async { while let Some(Ok(_)) = body.next().await {} };
        if tokio::time::timeout(THROWING_AWAY_WAIT, thrown_away).await.is_err() {
            tracing::debug!("a body that is too large came too slowly");
        }
    }
    Some(PageError::TooLarge)
}

/// The same body, broken off when it has not come whole in time.
fn hurried(body: Payload, wait: Duration) -> Payload {
    let deadline = tokio::time::Instant::now() + wait;
    let pieces = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout_at(deadline, body.next()).await {
            Ok(piece) => Some((piece?, Some(body))),
            Err(_) => Some((Err(PayloadError::Io(io::ErrorKind::TimedOut.into())), None)),
        }
    });
    // Fused: readers of multipart forms ask again after the end.
    Payload::Stream { payload: Box::pin(pieces.fuse()) }
}

/// Whether another site made this browser send the request.
///
/// Browsers say so in `Sec-Fetch-Site`, which no script can set, but only to HTTPS and localhost. On plain HTTP they
/// still send `Origin` with every POST. A request with neither header does not come from a browser that could be
/// tricked: curl and scripts hold no cookies of ours that a stranger could use, so there is nothing to protect.
fn is_cross_site(method: &Method, headers: &HeaderMap, public_url: Option<&Url>) -> bool {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return false;
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none`: the person themselves, by the address bar or a bookmark.
        return site != "same-origin" && site != "none";
    }
    match headers.get(header::ORIGIN) {
        Some(origin) => !is_own_origin(origin, headers.get(header::HOST), public_url),
        None => false,
    }
}

/// Our origin is the public URL's; also whatever host the browser itself asked for, since a server may be reached
/// by several names. `null` (a sandboxed frame, a redirect between sites) is nobody's origin.
fn is_own_origin(origin: &HeaderValue, host: Option<&HeaderValue>, public_url: Option<&Url>) -> bool {
    let Some(origin) = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok()) else {
        return false;
    };
    if public_url.is_some_and(|public_url| public_url.origin() == origin.origin()) {
        return true;
    }
    let https_only = public_url.is_some_and(|public_url| public_url.scheme() == "https");
    if !matches!(origin.scheme(), "http" | "https") || (https_only && origin.scheme() != "https") {
        return false;
    }
    // Parsed with the origin's scheme, so that the default port may be written or not.
    let host = host
        .and_then(|host| host.to_str().ok())
        .and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    host.is_some_and(|host| host.origin() == origin.origin())
}

fn harden(mut response: ServiceResponse<BoxBody>, reach: &Reach) -> ServiceResponse<BoxBody> {
    let headers = response.headers_mut();
    insert_security_headers(headers, reach);
    // What is about a person stays out of every cache, the browser's own included.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(super::page::NO_STORE));
    }
    for name in ["hx-trigger", "hx-trigger-after-swap", "hx-trigger-after-settle"] {
        escape_events(headers, HeaderName::from_static(name));
    }
    response
}

fn insert_security_headers(headers: &mut HeaderMap, reach: &Reach) {
    let strict_transport = reach.is_https().then_some(STRICT_TRANSPORT);
    for (name, value) in SECURITY_HEADERS.into_iter().chain(strict_transport) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// Headers reach scripts as Latin-1. In JSON everything beyond ASCII stands in strings, where it can be escaped.
fn escape_events(headers: &mut HeaderMap, name: HeaderName) {
    let Some(text) = headers.get(&name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()) else {
        return;
    };
    if text.is_ascii() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&super::page::ascii_json(text)) {
        headers.insert(name, value);
    }
}

/// Every address that no page has.
///
/// # Errors
/// Always.
pub async fn not_found() -> Result<HttpResponse, PageError> {
    Err(Error::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_form_that_comes_too_slowly_is_broken_off() {
        let come = |pieces: usize, wait| {
            let body = stream::iter(0..pieces).then(|_| async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<_, PayloadError>(web::Bytes::from_static(b"a"))
            });
            hurried(Payload::Stream { payload: body.boxed_local() }, wait)
                .map(|piece| piece.is_ok())
                .collect::<Vec<bool>>()
        };
        assert_eq!(come(3, Duration::from_secs(60)).await, [true; 3]);
        let broken_off = come(10_000, Duration::from_millis(50)).await;
        assert!(broken_off.len() < 1_000);
        assert_eq!(broken_off.last(), Some(&false));
    }

    fn cross_site(method: &str, headers: &[(&str, &str)], public_url: Option<&str>) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                HeaderName::try_from(*name).expect("a name"),
                HeaderValue::try_from(*value).expect("a value"),
            );
        }
        let method = Method::try_from(method).expect("a method");
        is_cross_site(&method, &map, public_url.map(|url| Url::parse(url).expect("a URL")).as_ref())
    }

    #[test]
    fn reading_is_for_everybody() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(!cross_site(method, &[("sec-fetch-site", "cross-site")], None));
        }
    }

    #[test]
    fn a_browser_says_whose_page_sent_the_form() {
        for (site, refused) in
            [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true), ("", true)]
        {
            // It outweighs an Origin that a proxy may have made unrecognisable.
            for origin in ["https://keys.example", "https://evil.example"] {
                let headers = [("sec-fetch-site", site), ("origin", origin), ("host", "keys.example")];
                assert_eq!(cross_site("POST", &headers, None), refused, "{site}");
            }
        }
        assert!(cross_site("DELETE", &[("sec-fetch-site", "cross-site")], None));
    }

    #[test]
    fn without_it_the_origin_must_be_the_host_that_was_asked() {
        for (origin, host, refused) in [
            ("http://10.0.0.5:8080", "10.0.0.5:8080", false),
            ("http://keys.lan", "keys.lan:80", false),
            ("http://KEYS.lan", "keys.LAN", false),
            ("http://[::1]:8080", "[::1]:8080", false),
            ("http://10.0.0.5:8081", "10.0.0.5:8080", true),
            ("http://evil.example", "keys.lan", true),
            ("http://keys.lan.evil.example", "keys.lan", true),
            ("http://keys.lan@evil.example", "keys.lan", true),
            ("null", "keys.lan", true),
            ("file://", "keys.lan", true),
            ("", "keys.lan", true),
        ] {
            let headers = [("origin", origin), ("host", host)];
            assert_eq!(cross_site("POST", &headers, None), refused, "{origin} {host}");
        }
        assert!(cross_site("POST", &[("origin", "http://keys.lan")], None), "no host at all");
    }

    #[test]
    fn behind_a_proxy_the_public_url_counts() {
        let public_url = Some("https://keys.example/");
        let inside = ("host", "127.0.0.1:8080");
        assert!(!cross_site("POST", &[("origin", "https://keys.example"), inside], public_url));
        assert!(cross_site("POST", &[("origin", "http://keys.example"), inside], public_url));
        assert!(cross_site("POST", &[("origin", "https://evil.example"), inside], public_url));
        let plain = [("origin", "http://keys.example"), ("host", "keys.example")];
        assert!(cross_site("POST", &plain, public_url), "an attacker on the wire speaks plain HTTP");
    }

    #[test]
    fn programs_that_hold_no_cookies_pass() {
        assert!(!cross_site("POST", &[("host", "keys.example")], None));
    }

    #[test]
    fn the_policy_allows_nothing_unsafe() {
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
        assert!(!CONTENT_SECURITY_POLICY.contains('*'));
        assert!(CONTENT_SECURITY_POLICY.starts_with("default-src 'none'"));
    }
}
