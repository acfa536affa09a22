//! A call to an upstream for its own sake: whether it answers, how fast, and what. Costs nothing: it asks for the list
//! of models.

use super::client::{Answer, Call, Client, Connectors, Payload, Timeouts, UpstreamError};
use super::echo;
use super::endpoint::Endpoint;
use super::target::Target;
use crate::domain::upstream::Dialect;
use crate::store::upstreams::Upstream;
use crate::upstream_watch::Probe;
use http::{HeaderMap, Method};
use serde::Deserialize;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// Less than a page waits for its answer.
const WHOLE_PATIENCE: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Of what an upstream says, this much is repeated.
const SAID_CHARS_MAX: usize = 200;
const MODELS_NAMED_MAX: usize = 3;

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// Calls an upstream with its secret.
pub async fn probe(upstream: &Upstream, secret: Option<&str>) -> Probe {
    probe_by(&Connectors::load(), upstream, secret).await
}

/// As [`probe`], with certificates that are read already.
pub(super) async fn probe_by(connectors: &Connectors, upstream: &Upstream, secret: Option<&str>) -> Probe {
    let began = Instant::now();
    let answered = async {
        let mut answer = ask(connectors, upstream, secret).await?;
        let body = answer.whole(ANSWER_BYTES_MAX).await?;
        Ok::<_, UpstreamError>((answer.status.as_u16(), body))
    };
    // More: for an answer that drips.
    let answered =
        tokio::time::timeout(WHOLE_PATIENCE, answered).await.unwrap_or(Err(UpstreamError::TimedOut));
    let latency = began.elapsed();
    let (status, body) = match answered {
        Ok(answered) => answered,
        Err(error) => return Probe { works: false, status: None, latency, answer: format!("{error}.") },
    };
    let built_in = Dialect::parse(&upstream.dialect) == Ok(Dialect::Echo);
    let models = serde_json::from_slice::<Models>(&body).ok();
    let (works, answer) = match (status, models) {
        (200..=299, Some(models)) => (true, named(&models.data)),
        (200..=299, None) if built_in => (true, "It is built in and repeats what it hears.".to_owned()),
        (200..=299, None) => (
            false,
            format!("Its answer is no list of models; check the base URL. It says: {}", said(&body, secret)),
        ),
        (401 | 403, _) => {
            (false, format!("It refuses its secret; store the right one. It says: {}", said(&body, secret)))
        }
        (300..=399, _) => {
            (false, "It redirects, which is never followed; store the URL it leads to.".to_owned())
        }
        _ => (false, format!("It answers {status}: {}", said(&body, secret))),
    };
    let answer = without(&answer, secret);
    Probe { works, status: Some(status), latency, answer }
}

async fn ask(
    connectors: &Connectors,
    upstream: &Upstream,
    secret: Option<&str>,
) -> Result<Answer, UpstreamError> {
    let dialect = Dialect::parse(&upstream.dialect).map_err(|_| UpstreamError::Unusable)?;
    if dialect == Dialect::Echo {
        let question = r#"{"model":"echo","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
        return echo::answer(Endpoint::ChatCompletions, &Payload::Json(question.into()), Duration::ZERO)
            .await;
    }
    let timeouts = Timeouts { first_byte_stream: PATIENCE, first_byte_json: PATIENCE, idle: PATIENCE };
    let target = Target::new(&upstream.base_url, dialect, secret, upstream.allow_private)?;
    let call = Call {
        method: Method::GET,
        target: &target,
        path: "/models",
        headers: &HeaderMap::new(),
        payload: Payload::Nothing,
        stream: false,
    };
    Client::new(connectors, timeouts).send(call).await
}

fn named(models: &[Model]) -> String {
    let names: Vec<String> = models.iter().take(MODELS_NAMED_MAX).map(|model| line(&model.id)).collect();
    match models.len() {
        0 => "It offers no models.".to_owned(),
        count if count > names.len() => format!("It offers {count} models: {}, …", names.join(", ")),
        count => format!("It offers {count} models: {}", names.join(", ")),
    }
}

fn said(body: &[u8], secret: Option<&str>) -> String {
    // The secret first: cut in the middle it would not be found.
    line(&without(&String::from_utf8_lossy(body), secret))
}

fn without(text: &str, secret: Option<&str>) -> String {
    secret.map_or_else(|| text.to_owned(), |secret| text.replace(secret, "[secret]"))
}

/// One line that a terminal can take.
fn line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(SAID_CHARS_MAX).collect()
}
