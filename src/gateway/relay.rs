//! From a call to an upstream's answer: which upstream, in what order, and when to try the next. Once a byte of the
//! answer is on its way there is no second try.

use super::anthropic;
use super::breaker::Breakers;
use super::client::{Answer, Call, Client, Payload, UpstreamError};
use super::echo;
use super::endpoint::Endpoint;
use super::error::{GatewayError, refused_body};
use super::settle::OpenCall;
use crate::domain::upstream::Dialect;
use crate::store::models::Route;
use crate::vault::Vault;
use actix_web::http::StatusCode;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use rand::{Rng, RngExt};
use std::time::Duration;

/// An upstream's refusal longer than this is not passed on.
const REFUSAL_BYTES_MAX: usize = 256 << 10;

/// Where calls go from here.
pub struct Relay<'a> {
    /// Of this worker.
    pub client: &'a Client,
    /// Of all workers.
    pub breakers: &'a Breakers,
    /// Opens the upstreams' secrets.
    pub vault: &'a Vault,
}

/// What is asked of whichever upstream is picked.
pub struct Errand<'a> {
    /// How.
    pub method: Method,
    /// Which route.
    pub endpoint: Endpoint,
    /// Behind the upstream's base URL.
    pub path: &'a str,
    /// What the route's dialect takes over from the caller, checked.
    pub headers: HeaderMap,
    /// Whether events are expected.
    pub stream: bool,
    /// The body, given the upstream's name for the model.
    pub payload_for: &'a dyn Fn(&str) -> Payload,
}

/// What came of a call.
pub enum Relayed {
    /// An answer, its body still to come.
    Answer(Answer),
    /// The upstream refuses the call itself (4xx).
    Refusal(Refusal),
}

/// An upstream's own 4xx, fit to be passed on.
pub struct Refusal {
    /// As it is.
    pub status: StatusCode,
    /// When to try again, if the upstream says.
    pub retry_after: Option<Vec<u8>>,
    /// JSON.
    pub body: String,
}

/// What came of one try.
enum Try {
    Answer(Answer),
    Refusal(Refusal),
    /// Try the next. A refusal that is all there is to say if none is left: the upstream's 429.
    Failed(Option<Refusal>),
}

impl Relay<'_> {
    /// Tries the routes in order until one answers.
    ///
    /// # Errors
    /// [`GatewayError::UpstreamUnavailable`] when none does.
    pub async fn call(
        &self,
        routes: Vec<Route>,
        errand: &Errand<'_>,
        open: &mut OpenCall,
    ) -> Result<Relayed, GatewayError> {
        let mut last_refusal = None;
        for route in in_order(routes, &mut rand::rng()) {
            let Some(attempt) = self.breakers.admit(route.upstream.id) else { continue };
            open.contacting(route.upstream.id);
            let tried = self.try_one(&route, errand).await;
            match tried {
                Ok(Try::Answer(answer)) => {
                    attempt.succeeded();
                    open.first_byte();
                    return Ok(Relayed::Answer(answer));
                }
                Ok(Try::Refusal(refusal)) => {
                    attempt.succeeded();
                    return Ok(Relayed::Refusal(refusal));
                }
                // Busy is not broken.
                Ok(Try::Failed(Some(refusal))) => {
                    attempt.succeeded();
                    last_refusal = Some(refusal);
                }
                Ok(Try::Failed(None)) => attempt.failed(),
                Err(error) => {
                    tracing::warn!(upstream.id = route.upstream.id, %error, "an upstream failed");
                    attempt.failed();
                }
            }
            open.failed_there();
        }
        last_refusal.map(Relayed::Refusal).ok_or(GatewayError::UpstreamUnavailable)
    }

    async fn try_one(&self, route: &Route, errand: &Errand<'_>) -> Result<Try, UpstreamError> {
        let upstream = &route.upstream;
        let secret = self.secret(route)?;
        let payload = (errand.payload_for)(&route.upstream_model);
        let answer = match Dialect::parse(&upstream.dialect) {
            Ok(Dialect::Echo) => {
                let pace = Duration::from_millis(u64::try_from(upstream.pace_ms).unwrap_or(0));
                echo::answer(errand.endpoint, &payload, pace).await?
            }
            Ok(dialect) => {
                let call = Call {
                    method: errand.method.clone(),
                    url: format!("{}{}", upstream.base_url, errand.path),
                    headers: headers(dialect, secret.as_deref(), &errand.headers)?,
                    payload,
                    stream: errand.stream,
                    allow_private: upstream.allow_private,
                };
                self.client.send(call).await?
            }
            Err(_) => return Err(UpstreamError::Unusable),
        };
        let status = answer.status.as_u16();
        match status {
            200..=299 => Ok(Try::Answer(answer)),
            // It is our secret that the upstream does not like, not the caller's; and such answers quote it.
            401 => {
                tracing::error!(
                    upstream.id = upstream.id,
                    "an upstream refuses its secret; store the right one"
                );
                Ok(Try::Failed(None))
            }
            429 => {
                Ok(Try::Failed(Some(refusal(answer, upstream_marks(route, secret.as_deref()), errand).await)))
            }
            400..=499 => {
                Ok(Try::Refusal(refusal(answer, upstream_marks(route, secret.as_deref()), errand).await))
            }
            // Redirects are not followed: the secret goes where an admin sent it and nowhere else.
            _ => {
                tracing::warn!(upstream.id = upstream.id, status, "an upstream failed");
                Ok(Try::Failed(None))
            }
        }
    }

    fn secret(&self, route: &Route) -> Result<Option<String>, UpstreamError> {
        let Some(sealed) = &route.secret_ciphertext else { return Ok(None) };
        self.vault.open_upstream(route.upstream.id, sealed).map(Some).map_err(|error| {
            tracing::error!(upstream.id = route.upstream.id, %error, "an upstream's secret does not open");
            UpstreamError::Unusable
        })
    }
}

/// What an upstream of a dialect is sent: its own secret where it looks for one, and nothing else but what was checked.
pub(super) fn headers(
    dialect: Dialect,
    secret: Option<&str>,
    taken_over: &HeaderMap,
) -> Result<HeaderMap, UpstreamError> {
    let mut headers = taken_over.clone();
    if dialect == Dialect::Anthropic {
        headers.entry(anthropic::VERSION).or_insert(anthropic::VERSION_DEFAULT);
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

/// By priority; among equals at random, by weight.
fn in_order(mut routes: Vec<Route>, rng: &mut impl Rng) -> Vec<Route> {
    let mut ordered = Vec::with_capacity(routes.len());
    while let Some(priority) = routes.iter().map(|route| route.priority).min() {
        let equals = || routes.iter().enumerate().filter(|(_, route)| route.priority == priority);
        let total: i64 = equals().map(|(_, route)| route.weight).sum();
        let mut ticket = rng.random_range(0..total.max(1));
        let drawn = equals().find(|(_, route)| {
            ticket -= route.weight;
            ticket < 0
        });
        let index = drawn.map_or(0, |(index, _)| index);
        ordered.push(routes.remove(index));
    }
    ordered
}

/// What must not reach a caller: the upstream's secret, and where it is.
pub struct Marks(Vec<String>);

/// The marks of a route.
fn upstream_marks(route: &Route, secret: Option<&str>) -> Marks {
    let mut marks: Vec<String> = secret.into_iter().map(str::to_owned).collect();
    if let Ok(url) = url::Url::parse(&route.upstream.base_url) {
        let host = url.host_str().unwrap_or_default();
        marks.push(route.upstream.base_url.clone());
        marks.extend(url.port().map(|port| format!("{host}:{port}")));
        // A bare word may be part of any sentence; a name with a dot is a name.
        marks.extend(Some(host.to_owned()).filter(|host| host.contains('.')));
    }
    Marks(marks)
}

impl Marks {
    /// The text without them.
    fn removed_from(&self, mut text: String) -> String {
        for mark in self.0.iter().filter(|mark| !mark.is_empty()) {
            if text.contains(mark.as_str()) {
                text = text.replace(mark.as_str(), "[upstream]");
            }
        }
        text
    }
}

async fn refusal(mut answer: Answer, marks: Marks, errand: &Errand<'_>) -> Refusal {
    let body = answer.whole(REFUSAL_BYTES_MAX).await.ok();
    let body = body.and_then(|body| String::from_utf8(body.into()).ok());
    let is_json = |body: &String| serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    let said = body.map(|body| marks.removed_from(body)).filter(is_json);
    let status = StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::BAD_REQUEST);
    Refusal {
        status,
        retry_after: answer.retry_after.map(|value| value.as_bytes().to_vec()),
        body: said.unwrap_or_else(|| refused_body(errand.endpoint.dialect(), status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::upstreams::Upstream;
    use rand::SeedableRng;

    fn route(id: i64, priority: i64, weight: i64) -> Route {
        let upstream = Upstream {
            id,
            name: String::new(),
            dialect: "openai".into(),
            base_url: "https://api.example.com:8443/v1".into(),
            pace_ms: 0,
            enabled: true,
            allow_private: false,
            created_at_ms: 0,
        };
        Route { upstream, secret_ciphertext: None, upstream_model: String::new(), priority, weight }
    }

    #[test]
    fn priority_comes_first_and_weight_shares_among_equals() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut firsts = [0; 4];
        for _ in 0..1_000 {
            let routes = vec![route(3, 1, 9), route(1, 0, 3), route(2, 0, 1)];
            let ids: Vec<i64> = in_order(routes, &mut rng).iter().map(|route| route.upstream.id).collect();
            assert_eq!((ids.len(), ids[2]), (3, 3));
            firsts[usize::try_from(ids[0]).expect("small")] += 1;
        }
        assert!((700..800).contains(&firsts[1]) && firsts[3] == 0, "{firsts:?}");
    }

    #[test]
    fn neither_secret_nor_host_is_passed_on() {
        let marks = upstream_marks(&route(1, 0, 1), Some("sk-upstream"));
        let said = marks.removed_from(
            "key sk-upstream at https://api.example.com:8443/v1 (api.example.com:8443), see api.example.com"
                .into(),
        );
        assert!(!said.contains("sk-upstream") && !said.contains("example"), "{said}");
    }
}
