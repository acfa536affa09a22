//! Upstreams by HTTPS: the certificate checked against the system's roots, HTTP/2 where it is offered.

use crate::actor::{Operator, Server};
use crate::database::engines;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A provider on `localhost` with a certificate that it signed itself; its thread ends with the tests.
struct Provider {
    port: u16,
    certificate: PathBuf,
    /// The protocol of each request.
    spoken: Arc<Mutex<Vec<Version>>>,
    _folder: tempfile::TempDir,
}

impl Provider {
    /// Offers these protocols, by their names in TLS (ALPN).
    fn start(offered: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = folder.path().join("provider.pem");
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a certificate and its key");
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("set");
        let port = listener.local_addr().expect("an address").port();
        let spoken = Arc::<Mutex<Vec<Version>>>::default();
        let (acceptor, heard) = (TlsAcceptor::from(Arc::new(config)), spoken.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((connection, _)) = listener.accept().await {
                    tokio::spawn(serve(acceptor.clone(), connection, heard.clone()));
                }
            });
        });
        Self { port, certificate, spoken, _folder: folder }
    }

    fn spoken(&self) -> Vec<Version> {
        self.spoken.lock().expect("not poisoned").clone()
    }
}

async fn serve(acceptor: TlsAcceptor, connection: tokio::net::TcpStream, heard: Arc<Mutex<Vec<Version>>>) {
    // Whoever does not trust the certificate leaves here.
    let Ok(stream) = acceptor.accept(connection).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let answer = service_fn(move |request: Request<Incoming>| {
        heard.lock().expect("not poisoned").push(request.version());
        let completion = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
        });
        let response = Response::builder().header("content-type", "application/json");
        let body = Full::new(Bytes::from(completion.to_string()));
        async move { Ok::<_, Infallible>(response.body(body).expect("an answer")) }
    });
    let io = TokioIo::new(stream);
    // However the caller ends it.
    let _ = match is_http2 {
        true => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, answer).await
        }
        false => hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await,
    };
}

#[test]
fn a_provider_by_https_is_spoken_to_in_the_best_protocol_it_offers() {
    for engine in engines() {
        for (offered, expected) in
            [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11)]
        {
            let provider = Provider::start(offered);
            let operator = Operator::new(engine);
            let key = operator.furnish();
            let url = format!("https://localhost:{}/v1", provider.port);
            let create =
                ["upstream", "create", "p", "--dialect", "openai", "--base-url", &url, "--allow-private"];
            operator.json(&create);
            operator.json(&["model", "create", "m", "--upstream", "p", "--input", "1", "--output", "1"]);
            let serve = || operator.command(&["serve", "--listen", "127.0.0.1:0"]);
            let secret = key["secret"].as_str().expect("text");

            // The system does not know who signed it.
            let server = Server::start(serve());
            assert_eq!(server.chat(secret, "m").0, 503);
            assert!(provider.spoken().is_empty());
            drop(server);

            let mut trusting = serve();
            trusting.env("SSL_CERT_FILE", &provider.certificate);
            let server = Server::start(trusting);
            for _ in 0..3 {
                assert_eq!(server.chat(secret, "m").0, 200);
            }
            assert_eq!(provider.spoken(), [expected; 3]);
        }
    }
}
