//! The way to upstreams over HTTP: the only file that names the HTTP client and TLS.
//! Goes exactly where it is told, with our own headers alone; follows no redirect; every wait has an end.

use bytes::Bytes;
use futures_util::stream::{LocalBoxStream, StreamExt};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pooled, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const POOL_IDLE_PER_HOST_MAX: usize = 256;
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long an upstream may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Before a stream begins.
    pub first_byte_stream: Duration,
    /// Before a JSON answer begins: by then it is made whole.
    pub first_byte_json: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte_stream: Duration::from_secs(120),
            first_byte_json: Duration::from_secs(600),
            idle: Duration::from_secs(120),
        }
    }
}

/// Why an upstream gave no answer, or not to its end. Says nothing of where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Its address or secret cannot be used as they are stored.
    #[error("the upstream's URL or secret cannot be used")]
    Unusable,
    /// No connection, or it broke.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// Silence.
    #[error("the upstream did not answer in time")]
    TimedOut,
    /// The answer ended before its end.
    #[error("the upstream's answer broke off")]
    BrokeOff,
    /// The answer is larger than is read.
    #[error("the upstream's answer is too large")]
    TooLarge,
}

/// An answer's bytes as they come.
pub type AnswerBody = LocalBoxStream<'static, Result<Bytes, UpstreamError>>;

/// What an upstream answers.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// As it says.
    pub content_type: HeaderValue,
    /// When it wants to be asked again.
    pub retry_after: Option<HeaderValue>,
    /// The rest.
    pub body: AnswerBody,
}

impl Answer {
    /// An answer made here.
    pub fn new(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Self {
        Self { status, content_type: HeaderValue::from_static(content_type), retry_after: None, body }
    }

    /// Whether it is a stream of events.
    pub fn is_events(&self) -> bool {
        self.content_type.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream")
    }

    /// All of it, if it is no longer than `bytes_max`.
    ///
    /// # Errors
    /// When it is longer, breaks off or falls silent.
    pub async fn whole(&mut self, bytes_max: usize) -> Result<Bytes, UpstreamError> {
        let mut whole = bytes::BytesMut::new();
        while let Some(piece) = self.body.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > bytes_max {
                return Err(UpstreamError::TooLarge);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// What is sent.
pub struct Call {
    /// How.
    pub method: Method,
    /// Where to; nothing of it comes from the caller.
    pub url: String,
    /// The upstream's own secret, and what else its dialect wants; nothing that the caller wrote unchecked.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
    /// Whether events are expected.
    pub stream: bool,
}

/// A body on its way to an upstream.
pub enum Payload {
    /// As JSON.
    Json(String),
}

/// Pools connections to upstreams, for one worker thread.
#[derive(Clone)]
pub struct Client {
    plain: Pooled<HttpConnector, Full<Bytes>>,
    /// `None` where the system has no certificates to trust: then HTTPS cannot be spoken at all.
    secure: Option<Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>>,
    timeouts: Timeouts,
}

/// What the clients of all workers share: the trusted certificates, read once.
#[derive(Clone)]
pub struct Connectors {
    plain: HttpConnector,
    secure: Option<HttpsConnector<HttpConnector>>,
}

impl Connectors {
    /// Reads the system's certificates.
    pub fn load() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let plain = tcp.clone();
        tcp.enforce_http(false);
        let secure = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map(|builder| builder.https_only().enable_all_versions().wrap_connector(tcp));
        if let Err(error) = &secure {
            tracing::warn!(%error, "no trusted certificates found; HTTPS upstreams cannot be reached");
        }
        Self { plain, secure: secure.ok() }
    }
}

impl Client {
    /// A client with connections of its own.
    pub fn new(connectors: &Connectors, timeouts: Timeouts) -> Self {
        let mut builder = Pooled::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX);
        Self {
            plain: builder.build(connectors.plain.clone()),
            secure: connectors.secure.clone().map(|connector| builder.build(connector)),
            timeouts,
        }
    }

    /// Sends a call and waits for the head of the answer, whatever its status.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn send(&self, call: Call) -> Result<Answer, UpstreamError> {
        let patience =
            if call.stream { self.timeouts.first_byte_stream } else { self.timeouts.first_byte_json };
        let request = request(call)?;
        let answering = self.start(request)?;
        let response = tokio::time::timeout(patience, answering)
            .await
            .map_err(|_| UpstreamError::TimedOut)?
            .map_err(|_| UpstreamError::Unreachable)?;
        let (head, body) = response.into_parts();
        let idle = self.timeouts.idle;
        let pieces = futures_util::stream::unfold(Some(body), move |body| async move {
            let mut body = body?;
            match tokio::time::timeout(idle, next_piece(&mut body)).await {
                Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => None,
                Err(_) => Some((Err(UpstreamError::TimedOut), None)),
            }
        });
        Ok(Answer {
            status: head.status,
            content_type: taken(&head.headers, CONTENT_TYPE).unwrap_or(HeaderValue::from_static("")),
            retry_after: taken(&head.headers, RETRY_AFTER),
            body: pieces.boxed_local(),
        })
    }

    fn start(&self, request: Request<Full<Bytes>>) -> Result<ResponseFuture, UpstreamError> {
        match request.uri().scheme_str() {
            Some("http") => Ok(self.plain.request(request)),
            Some("https") => Ok(self.secure.as_ref().ok_or(UpstreamError::Unreachable)?.request(request)),
            _ => Err(UpstreamError::Unusable),
        }
    }
}

fn request(call: Call) -> Result<Request<Full<Bytes>>, UpstreamError> {
    let uri: Uri = call.url.parse().map_err(|_| UpstreamError::Unusable)?;
    let Payload::Json(json) = call.payload;
    let mut request = Request::new(Full::new(Bytes::from(json)));
    *request.method_mut() = call.method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    *headers = call.headers;
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("keyhouse/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if call.stream { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    Ok(request)
}

/// The next data of a body; trailers are passed over.
async fn next_piece(body: &mut hyper::body::Incoming) -> Option<Result<Bytes, UpstreamError>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(_) => return Some(Err(UpstreamError::BrokeOff)),
        }
    }
}

fn taken(headers: &HeaderMap, name: http::HeaderName) -> Option<HeaderValue> {
    headers.get(name).cloned()
}
