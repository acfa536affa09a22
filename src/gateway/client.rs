//! The way to upstreams over HTTP: the only file that names the HTTP client and TLS.
//! Goes exactly where it is told, with our own headers alone; follows no redirect; every wait has an end.

use super::body::append;
use super::target::Target;
use crate::domain::network::is_global;
use bytes::Bytes;
use futures_util::stream::{BoxStream, LocalBoxStream, StreamExt};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::{Client as Pooled, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const POOL_IDLE_PER_HOST_MAX: usize = 256;
/// Whether to try again, as OpenAI's and Anthropic's SDKs take it.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
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
    /// It is on this machine or a private network, which nobody allowed.
    #[error(
        "the upstream's address is on this machine or a private network; if it really is there, allow it with \
         `keyhouse upstream edit NAME --allow-private`"
    )]
    Private,
    /// No connection.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// Silence.
    #[error("the upstream did not answer in time")]
    TimedOut,
    /// The connection broke before the end of the answer, or before its beginning.
    #[error("the upstream broke off")]
    BrokeOff,
    /// The answer is larger than is read.
    #[error("the upstream's answer is too large")]
    TooLarge,
    /// What came is no answer to what was asked, whatever its status says.
    #[error("the upstream's answer is not one")]
    NoAnswer,
}

/// An answer's bytes as they come; nothing more after its end or an error.
pub struct AnswerBody {
    /// Comes before what the source has.
    put_back: Bytes,
    source: Source,
    at_end: Option<AtEnd>,
}

/// Told the error that an answer ended with, if it did.
type AtEnd = Box<dyn FnOnce(Option<UpstreamError>)>;

enum Source {
    /// An upstream, which may be silent so long; until when, from the first time that it is waited for. Most answers that
    /// come whole never are.
    Upstream { body: Incoming, idle: Duration, patience: Option<Pin<Box<Sleep>>>, waits: bool },
    /// This house.
    Here(LocalBoxStream<'static, Bytes>),
    /// There is no more.
    Ended,
}

impl Source {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        match self {
            Self::Upstream { body, idle, patience, waits } => {
                let piece = match poll_piece(body, context) {
                    Poll::Ready(piece) => piece,
                    Poll::Pending => {
                        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(*idle)));
                        if !std::mem::replace(waits, true) {
                            patience.as_mut().reset(Instant::now() + *idle);
                        }
                        ready!(patience.as_mut().poll(context));
                        Some(Err(UpstreamError::TimedOut))
                    }
                };
                *waits = false;
                Poll::Ready(piece)
            }
            Self::Here(pieces) => pieces.poll_next_unpin(context).map(|piece| piece.map(Ok)),
            Self::Ended => Poll::Ready(None),
        }
    }
}

impl AnswerBody {
    fn from(source: Source) -> Self {
        Self { put_back: Bytes::new(), source, at_end: None }
    }

    /// Notes that what came was no answer after all, or broke off, by what it says and not by how it came.
    pub fn lost(&mut self, error: UpstreamError) {
        if let Some(tell) = self.at_end.take() {
            tell(Some(error));
        }
    }

    /// Puts the bytes back that came last, to come again.
    pub fn put_back(&mut self, piece: Bytes) {
        self.put_back = piece;
    }

    /// Has `tell` told how it ends: by the error that comes in its place, or else when it is dropped, read to its end or
    /// not.
    pub fn at_end(&mut self, tell: impl FnOnce(Option<UpstreamError>) + 'static) {
        self.at_end = Some(Box::new(tell));
    }

    /// The next bytes.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same, for who keeps no future meanwhile.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        if !self.put_back.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.put_back))));
        }
        let piece = ready!(self.source.poll_next(context));
        match &piece {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.source = Source::Ended;
                if let Some(tell) = self.at_end.take() {
                    tell(Some(*error));
                }
            }
            None => self.source = Source::Ended,
        }
        Poll::Ready(piece)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(tell) = self.at_end.take() {
            tell(None);
        }
    }
}

/// What an upstream answers.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// As it says.
    pub content_type: HeaderValue,
    /// When it wants to be asked again.
    pub retry_after: Option<HeaderValue>,
    /// Whether it does at all, where it says so (OpenAI's and Anthropic's SDKs go by it).
    pub should_retry: Option<HeaderValue>,
    /// The rest.
    pub body: AnswerBody,
}

impl Answer {
    /// An answer made here.
    pub fn new(
        status: StatusCode,
        content_type: &'static str,
        pieces: LocalBoxStream<'static, Bytes>,
    ) -> Self {
        let body = AnswerBody::from(Source::Here(pieces));
        let content_type = HeaderValue::from_static(content_type);
        Self { status, content_type, retry_after: None, should_retry: None, body }
    }

    /// Whether it is a stream of events.
    pub fn is_events(&self) -> bool {
        const EVENTS: &[u8] = b"text/event-stream";
        self.is_of(EVENTS)
    }

    /// Whether it is JSON or text, by its type.
    pub fn is_text(&self) -> bool {
        self.is_of(b"application/json") || self.is_of(b"text/")
    }

    fn is_of(&self, kind: &[u8]) -> bool {
        let said = self.content_type.as_bytes().get(..kind.len());
        said.is_some_and(|said| said.eq_ignore_ascii_case(kind))
    }

    /// All of it, if it is no longer than `bytes_max`.
    ///
    /// # Errors
    /// When it is longer, breaks off or falls silent.
    pub async fn whole(&mut self, bytes_max: usize) -> Result<Bytes, UpstreamError> {
        let mut whole = Bytes::new();
        while let Some(piece) = self.body.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > bytes_max {
                return Err(UpstreamError::TooLarge);
            }
            append(&mut whole, piece);
        }
        Ok(whole)
    }
}

/// What is sent.
pub struct Call<'a> {
    /// How.
    pub method: Method,
    /// Where to; nothing of it comes from the caller.
    pub target: &'a Target,
    /// Behind the target's base URL.
    pub path: &'a str,
    /// What else the upstream is told; nothing that the caller wrote unchecked.
    pub headers: &'a HeaderMap,
    /// The body.
    pub payload: Payload,
    /// Whether events are expected.
    pub stream: bool,
}

/// A body on its way to an upstream.
pub enum Payload {
    /// None.
    Nothing,
    /// As JSON.
    Json(String),
    /// As a form.
    Form(FormBody),
}

/// A form on its way, piece by piece.
pub struct FormBody {
    /// With its boundary.
    pub content_type: String,
    /// Length of all pieces.
    pub bytes: u64,
    /// As they are read.
    pub pieces: BoxStream<'static, io::Result<Bytes>>,
}

/// JSON is there whole; a form is read while it is sent.
type OutgoingBody = Either<Full<Bytes>, UnsyncBoxBody<Bytes, io::Error>>;

/// Pools connections to upstreams, for one worker thread.
#[derive(Clone)]
pub struct Client {
    public: Pools,
    /// Apart, so that no call to a public upstream is sent on a connection that was allowed for a private one.
    private: Pools,
    timeouts: Timeouts,
}

#[derive(Clone)]
struct Pools {
    plain: Pooled<Tcp, OutgoingBody>,
    /// `None` where the system has no certificates to trust: then HTTPS cannot be spoken at all.
    secure: Option<Pooled<HttpsConnector<Tcp>, OutgoingBody>>,
}

type Tcp = HttpConnector<Resolver>;

/// The system's resolver, of whose answers a call to a public upstream sees the public addresses alone: those that are
/// checked are those that are connected to, whatever a name server says the next time.
#[derive(Clone)]
struct Resolver {
    system: GaiResolver,
    allow_private: bool,
}

/// A name that leads to this machine or a private network.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
struct NoPublicAddress;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolving, allow_private) = (self.system.call(name), self.allow_private);
        Box::pin(async move {
            let addresses = resolving.await?.filter(|address| allow_private || is_global(address.ip()));
            let addresses: Vec<SocketAddr> = addresses.collect();
            match addresses.is_empty() && !allow_private {
                true => Err(io::Error::other(NoPublicAddress)),
                false => Ok(addresses.into_iter()),
            }
        })
    }
}

/// What the clients of all workers share: the trusted certificates, read once.
#[derive(Clone)]
pub struct Connectors {
    public: Connector,
    private: Connector,
}

#[derive(Clone)]
struct Connector {
    plain: Tcp,
    secure: Option<HttpsConnector<Tcp>>,
}

impl Connectors {
    /// Reads the system's certificates.
    pub fn load() -> Self {
        let trust = trust();
        if let Err(error) = &trust {
            tracing::warn!(%error, "no trusted certificates found; HTTPS upstreams cannot be reached");
        }
        let trust = trust.ok();
        Self { public: Connector::new(trust.clone(), false), private: Connector::new(trust, true) }
    }
}

/// TLS as it is spoken to upstreams: their certificates are checked against the system's.
fn trust() -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(io::Error::other)?.with_native_roots()?.with_no_client_auth())
}

impl Connector {
    fn new(trust: Option<ClientConfig>, allow_private: bool) -> Self {
        let mut tcp =
            HttpConnector::new_with_resolver(Resolver { system: GaiResolver::new(), allow_private });
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let plain = tcp.clone();
        tcp.enforce_http(false);
        let secure = trust.map(|trust| {
            let builder = HttpsConnectorBuilder::new().with_tls_config(trust);
            builder.https_only().enable_all_versions().wrap_connector(tcp)
        });
        Self { plain, secure }
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
        let pools = |connector: &Connector| Pools {
            plain: builder.build(connector.plain.clone()),
            secure: connector.secure.clone().map(|connector| builder.build(connector)),
        };
        Self { public: pools(&connectors.public), private: pools(&connectors.private), timeouts }
    }

    /// Sends a call and waits for the head of the answer, whatever its status.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, UpstreamError> {
        let patience =
            if call.stream { self.timeouts.first_byte_stream } else { self.timeouts.first_byte_json };
        let pools = if call.target.allow_private() { &self.private } else { &self.public };
        let answering = pools.start(request(call)?)?;
        let response = tokio::time::timeout(patience, answering)
            .await
            .map_err(|_| UpstreamError::TimedOut)?
            .map_err(|error| why_unreachable(&error))?;
        let (head, body) = response.into_parts();
        let source = Source::Upstream { body, idle: self.timeouts.idle, patience: None, waits: false };
        Ok(Answer {
            status: head.status,
            content_type: taken(&head.headers, CONTENT_TYPE).unwrap_or(HeaderValue::from_static("")),
            retry_after: taken(&head.headers, RETRY_AFTER),
            should_retry: taken(&head.headers, SHOULD_RETRY),
            body: AnswerBody::from(source),
        })
    }
}

impl Pools {
    fn start(&self, request: Request<OutgoingBody>) -> Result<ResponseFuture, UpstreamError> {
        match request.uri().scheme_str() {
            Some("http") => Ok(self.plain.request(request)),
            Some("https") => Ok(self.secure.as_ref().ok_or(UpstreamError::Unreachable)?.request(request)),
            _ => Err(UpstreamError::Unusable),
        }
    }
}

fn why_unreachable(error: &hyper_util::client::legacy::Error) -> UpstreamError {
    if !error.is_connect() {
        return UpstreamError::BrokeOff;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<NoPublicAddress>()) {
            return UpstreamError::Private;
        }
        cause = error.source();
    }
    UpstreamError::Unreachable
}

fn request(call: Call<'_>) -> Result<Request<OutgoingBody>, UpstreamError> {
    let whole = |bytes| Either::Left(Full::new(bytes));
    let (body, content_type, length) = match call.payload {
        Payload::Nothing => (whole(Bytes::new()), None, None),
        Payload::Json(json) => {
            (whole(Bytes::from(json)), Some(HeaderValue::from_static("application/json")), None)
        }
        Payload::Form(form) => {
            let content_type =
                HeaderValue::try_from(form.content_type).map_err(|_| UpstreamError::Unusable)?;
            let frames = StreamBody::new(form.pieces.map(|piece| piece.map(Frame::data)));
            (Either::Right(frames.boxed_unsync()), Some(content_type), Some(HeaderValue::from(form.bytes)))
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = call.method;
    *request.uri_mut() = call.target.uri(call.path)?;
    let headers = request.headers_mut();
    *headers = call.target.headers().clone();
    call.headers.iter().for_each(|(name, value)| drop(headers.insert(name, value.clone())));
    headers.extend(content_type.map(|content_type| (CONTENT_TYPE, content_type)));
    headers.extend(length.map(|length| (CONTENT_LENGTH, length)));
    let accept = if call.stream { "text/event-stream" } else { "application/json, */*;q=0.5" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    Ok(request)
}

/// The next data of a body; trailers are passed over.
fn poll_piece(body: &mut Incoming, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(context)) {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
            Some(Err(_)) => return Poll::Ready(Some(Err(UpstreamError::BrokeOff))),
            None => return Poll::Ready(None),
        }
    }
}

fn taken(headers: &HeaderMap, name: http::HeaderName) -> Option<HeaderValue> {
    headers.get(name).cloned()
}
