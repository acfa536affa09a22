//! From a call to an upstream's answer: which upstream, in what order, and when to try the next. Once a byte of the
//! answer is on its way there is no second try.

use super::begin::begun;
use super::breaker::{Attempt, Breakers, Failure};
use super::call::Ids;
use super::client::{Answer, Call, Client, Payload, UpstreamError};
use super::echo;
use super::error::{GatewayError, refused_body};
use super::figures::TryFigures;
use super::retry::{self, Budget};
use super::settle::OpenCall;
use super::snapshots::Snapshots;
use super::tried::{Failing, Tried};
use crate::domain::upstream::Dialect;
use crate::metrics::Counter;
use crate::store::models::Route;
use crate::vault::Vault;
use actix_web::http::StatusCode;
use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderValue};
use rand::{Rng, RngExt};
use serde::Deserialize;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// An upstream's refusal longer than this is not passed on.
const REFUSAL_BYTES_MAX: usize = 256 << 10;
/// Before an upstream is tried again; at random, so that calls that failed together do not come back together.
const RETRY_PAUSE_MS: Range<u64> = 50..250;

/// Where calls go from here.
pub struct Relay<'a> {
    /// Of this worker.
    pub client: &'a Client,
    /// Of all workers.
    pub breakers: &'a Breakers,
    /// Of all workers.
    pub budget: &'a Budget,
    /// Counts further tries.
    pub tries: &'a TryFigures,
    /// Opens the upstreams' secrets,
    pub vault: &'a Vault,
    /// and remembers them.
    pub snapshots: &'a Snapshots,
}

/// What is asked of whichever upstream is picked.
pub struct Errand<'a> {
    /// How.
    pub method: Method,
    /// Which route, and which request.
    pub ids: Ids,
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
    /// An answer that came whole, read by the call's meter.
    Whole {
        /// Of the answer.
        status: StatusCode,
        /// All of it.
        body: Bytes,
    },
    /// Events, or a sound: its body is still to come.
    Answer(Answer),
    /// The upstream refuses the call itself (4xx).
    Refusal(Refusal),
}

/// An upstream's own 4xx, fit to be passed on.
pub struct Refusal {
    /// As it is.
    pub status: StatusCode,
    /// When to try again, and whether to, if the upstream says.
    pub retry_after: Option<HeaderValue>,
    pub should_retry: Option<HeaderValue>,
    /// JSON.
    pub body: String,
}

/// What came of one try.
enum Try {
    Answer(Answer),
    Refusal(Refusal),
    Failed(Failing),
}

impl Relay<'_> {
    /// Tries the routes in order until one answers, and once more the one whose failure may have passed. Each try
    /// after the first is paid for by the budget.
    ///
    /// # Errors
    /// [`GatewayError::UpstreamUnavailable`] when none does, or [`GatewayError::UpstreamsRest`] when they say until when.
    pub async fn call(
        &self,
        routes: Vec<Arc<Route>>,
        errand: &Errand<'_>,
        open: &mut OpenCall,
    ) -> Result<Relayed, GatewayError> {
        let mut tried = Tried::default();
        for route in self.awake(in_order(routes, &mut rand::rng()), &mut tried) {
            let Some(attempt) = self.breakers.admit(&route.upstream) else { continue };
            if !self.may_try(&tried, &self.tries.failovers) {
                return tried.nobody();
            }
            tried.any = true;
            match self.attempt(&route, errand, open, attempt).await {
                Ok(relayed) => return Ok(relayed),
                Err(failing) => tried.learn(route, failing),
            }
        }
        let Some((route, rest)) = tried.again.take() else { return tried.nobody() };
        let pause = Duration::from_millis(rand::rng().random_range(RETRY_PAUSE_MS)).max(rest);
        tokio::time::sleep(pause).await;
        match self.breakers.admit(&route.upstream) {
            Some(attempt) if self.may_try(&tried, &self.tries.retries) => {
                match self.attempt(&route, errand, open, attempt).await {
                    Ok(relayed) => return Ok(relayed),
                    Err(failing) => tried.learn(route, failing),
                }
            }
            _ => {}
        }
        tried.nobody()
    }

    /// Without those that asked to be left alone, if there are others.
    fn awake(&self, routes: Vec<Arc<Route>>, tried: &mut Tried) -> Vec<Arc<Route>> {
        let rest = |route: &Arc<Route>| self.breakers.rest(route.upstream.id);
        let at_rest = routes.iter().filter(|route| rest(route).is_some()).count();
        if at_rest == 0 || at_rest == routes.len() {
            return routes;
        }
        let (resting, awake): (Vec<Arc<Route>>, Vec<Arc<Route>>) =
            routes.into_iter().partition(|route| rest(route).is_some());
        resting.iter().for_each(|route| tried.rest_of(rest(route)));
        awake
    }

    /// Whether a try is paid for: a call's first always is.
    fn may_try(&self, tried: &Tried, figure: &Counter) -> bool {
        if !tried.any {
            self.budget.deposit();
            return true;
        }
        let paid = self.budget.spend();
        if paid {
            figure.inc()
        } else {
            self.tries.denied.inc()
        };
        paid
    }

    /// One try, judged for the upstream's breaker; that of an answer comes with its end.
    async fn attempt(
        &self,
        route: &Route,
        errand: &Errand<'_>,
        open: &mut OpenCall,
        mut attempt: Attempt,
    ) -> Result<Relayed, Failing> {
        open.contacting(route.upstream.id);
        let failing = match self.try_one(route, errand).await {
            Ok(Try::Answer(mut answer)) => {
                let first_byte = open.age();
                attempt.answered();
                match begun(&mut answer, errand.ids.endpoint, open).await {
                    Ok(whole) => {
                        open.first_byte(first_byte);
                        let Some(body) = whole else { return Ok(Relayed::Answer(watched(answer, attempt))) };
                        attempt.succeeded();
                        return Ok(Relayed::Whole { status: status_of(&answer), body });
                    }
                    Err(error) => {
                        tracing::warn!(upstream.id = route.upstream.id, %error, "an upstream's answer is lost");
                        // Something else than text may be what the caller asked for, and only we cannot read it.
                        let is_text = answer.is_text() || answer.is_events();
                        let counts =
                            error != UpstreamError::NoAnswer || (is_text && !open.meter.is_refused());
                        let failing = Failing::from(error);
                        // Made once already, it may be paid for: not again by the same upstream.
                        Failing { failure: failing.failure.filter(|_| counts), passing: false, ..failing }
                    }
                }
            }
            Ok(Try::Refusal(refusal)) => {
                attempt.succeeded();
                return Ok(Relayed::Refusal(refusal));
            }
            Ok(Try::Failed(failing)) => failing,
            Err(error) => {
                tracing::warn!(upstream.id = route.upstream.id, %error, "an upstream failed");
                error.into()
            }
        };
        attempt.rests(failing.rest);
        match failing.failure {
            Some(failure) => attempt.failed(failure),
            None => attempt.busy(),
        }
        open.failed_there();
        Err(failing)
    }

    async fn try_one(&self, route: &Route, errand: &Errand<'_>) -> Result<Try, UpstreamError> {
        let upstream = &route.upstream;
        let dialect = route.dialect().ok_or(UpstreamError::Unusable)?;
        let payload = (errand.payload_for)(&route.upstream_model);
        let (answer, opened) = if dialect == Dialect::Echo {
            let pace = Duration::from_millis(u64::try_from(upstream.pace_ms).unwrap_or(0));
            (echo::answer(errand.ids.endpoint, &payload, pace).await?, None)
        } else {
            let opened = self.snapshots.open_upstream(self.vault, route, dialect)?;
            let call = Call {
                method: errand.method.clone(),
                target: &opened.target,
                path: errand.path,
                headers: &errand.headers,
                payload,
                stream: errand.stream,
            };
            (self.client.send(call).await?, Some(opened))
        };
        let marks = || upstream_marks(route, opened.as_ref().and_then(|opened| opened.secret.as_deref()));
        let status = answer.status.as_u16();
        let rest = answer.retry_after.as_ref().filter(|_| matches!(status, 429 | 503));
        let rest = rest.and_then(|value| retry::rest(value.as_bytes(), SystemTime::now()));
        match status {
            200..=299 => Ok(Try::Answer(answer)),
            // It is our secret that the upstream does not like, not the caller's; and such answers quote it.
            401 => Ok(Try::Failed(bad_secret(upstream.id))),
            403 => {
                let refusal = refusal(answer, marks(), errand).await;
                Ok(if is_about_the_secret(&refusal.body) {
                    Try::Failed(bad_secret(upstream.id))
                } else {
                    Try::Refusal(refusal)
                })
            }
            429 => {
                let refusal = refusal(answer, marks(), errand).await;
                Ok(Try::Failed(Failing { failure: None, refusal: Some(refusal), rest, passing: false }))
            }
            400..=499 => Ok(Try::Refusal(refusal(answer, marks(), errand).await)),
            // Redirects are not followed: the secret goes where an admin sent it and nowhere else.
            _ => {
                tracing::warn!(upstream.id = upstream.id, status, "an upstream failed");
                let passing = matches!(status, 502..=504);
                Ok(Try::Failed(Failing { failure: Some(Failure::Status), refusal: None, rest, passing }))
            }
        }
    }
}

/// An answer whose end tells the upstream's breaker how it went. A caller who leaves in the middle tells nothing bad.
fn watched(mut answer: Answer, attempt: Attempt) -> Answer {
    answer.body.at_end(|error| match error {
        Some(error) => attempt.failed(Failure::Error(error)),
        None => attempt.succeeded(),
    });
    answer
}

fn bad_secret(upstream_id: i64) -> Failing {
    tracing::error!(upstream.id = upstream_id, "an upstream refuses its secret; store the right one");
    Failing { failure: Some(Failure::Secret), refusal: None, rest: None, passing: false }
}

/// Whether a 403 speaks of who asks: an upstream knows nobody but us. Others speak of what is asked.
fn is_about_the_secret(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Body {
        error: Detail,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        r#type: Option<String>,
        #[serde(default)]
        code: Option<String>,
    }
    let Ok(Body { error }) = serde_json::from_str(body) else { return false };
    [error.r#type, error.code].into_iter().flatten().any(|word| {
        ["authentication_error", "permission_error", "invalid_api_key", "insufficient_permissions"]
            .contains(&word.as_str())
    })
}

/// By priority; among equals at random, by weight.
fn in_order(mut routes: Vec<Arc<Route>>, rng: &mut impl Rng) -> Vec<Arc<Route>> {
    if routes.len() < 2 {
        return routes;
    }
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
    /// The JSON without them.
    fn removed_from(&self, json: String) -> String {
        let mut text = if json.contains('\\') { plainly(&json) } else { json };
        for mark in self.0.iter().filter(|mark| !mark.is_empty()) {
            if text.contains(mark.as_str()) {
                text = text.replace(mark.as_str(), "[upstream]");
            }
        }
        text
    }
}

/// The same JSON, in which what need not be escaped is not: some escape `/`, others all that is not a letter.
fn plainly(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = escape.get(1..5).filter(|_| escape.starts_with('u'));
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        let printable = code.filter(|c| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\'));
        let (written, length) = match (printable, escape.chars().next()) {
            (Some(c), _) => (c.to_string(), 5),
            (None, Some('/')) => ("/".to_owned(), 1),
            (None, Some(c)) => (format!("\\{c}"), c.len_utf8()),
            (None, None) => ("\\".to_owned(), 0),
        };
        plain.push_str(&written);
        rest = &escape[length..];
    }
    plain + rest
}

/// As actix has it.
pub fn status_of(answer: &Answer) -> StatusCode {
    StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY)
}

async fn refusal(mut answer: Answer, marks: Marks, errand: &Errand<'_>) -> Refusal {
    let body = answer.whole(REFUSAL_BYTES_MAX).await.ok();
    let body = body.and_then(|body| String::from_utf8(body.into()).ok());
    let is_json = |body: &String| serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    let said = body.map(|body| marks.removed_from(body)).filter(is_json);
    let status = status_of(&answer);
    Refusal {
        status,
        retry_after: answer.retry_after,
        should_retry: answer.should_retry,
        body: said
            .unwrap_or_else(|| refused_body(errand.ids.endpoint.dialect(), status, errand.ids.request_id)),
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
            let routes = [route(3, 1, 9), route(1, 0, 3), route(2, 0, 1)].map(Arc::new).to_vec();
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
        let escaped =
            r#"{"a":"sk-up\u0073tream","b":"https:\/\/api.example.com","c":"\u0022\\u0073\\/é\n\ud83d"}"#;
        let said = marks.removed_from(escaped.into());
        assert_eq!(said, r#"{"a":"[upstream]","b":"https://[upstream]","c":"\u0022\\u0073\\/é\n\ud83d"}"#);
    }
}
