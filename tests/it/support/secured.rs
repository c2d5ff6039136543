//! A guard in front of a real server: it speaks TLS, looks at tokens, and passes on what it lets in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Request;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

use super::TestServer;
use super::certificates::{Authority, Issued};

/// The token that it lets in.
pub(crate) const TOKEN: &str = "s3cret";

/// A guard in front of a server, as long as the test's runtime.
pub(crate) struct Secured {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Mutex<TlsAcceptor>,
    connections: Mutex<JoinSet<()>>,
    channel: Channel,
    /// Whether only those who show the token are let in.
    wants_token: bool,
    calls: Mutex<Vec<String>>,
}

impl Secured {
    /// One that shows this certificate, and lets everybody in who talks to it.
    pub(crate) async fn open(server: &TestServer, shows: &Issued) -> Self {
        Self::start(server, config(shows, None), false).await
    }

    /// One that lets in who shows the token.
    pub(crate) async fn by_token(server: &TestServer, shows: &Issued) -> Self {
        Self::start(server, config(shows, None), true).await
    }

    /// One that lets in whose certificate is signed by `clients`.
    pub(crate) async fn by_certificate(
        server: &TestServer,
        shows: &Issued,
        clients: &Authority,
    ) -> Self {
        Self::start(server, config(shows, Some(clients)), false).await
    }

    async fn start(server: &TestServer, tls: ServerConfig, wants_token: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            tls: Mutex::new(TlsAcceptor::from(Arc::new(tls))),
            connections: Mutex::default(),
            channel: server.channel(),
            wants_token,
            calls: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let tls = accepting.tls.lock().expect("nobody panics here").clone();
                let shared = Arc::clone(&accepting);
                accepting.connections.lock().expect("nobody panics here").spawn(async move {
                    // Who breaks off the handshake has no connection.
                    if let Ok(stream) = tls.accept(tcp).await {
                        shared.serve(stream).await;
                    }
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, by the name in its certificate.
    pub(crate) fn uri(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Shows another certificate from now on, and breaks every connection.
    pub(crate) fn restart(&self, shows: &Issued) {
        *self.shared.tls.lock().expect("nobody panics here") =
            TlsAcceptor::from(Arc::new(config(shows, None)));
        self.shared.connections.lock().expect("nobody panics here").abort_all();
    }

    /// The methods that were called and let in.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().expect("nobody panics here").clone()
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&self);
            async move { shared.answer(request).await }
        });
        let serving = http2::Builder::new(TokioExecutor::new());
        // The client breaks it off when it is done.
        serving.serve_connection(TokioIo::new(stream), service).await.ok();
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<http::Response<Body>, tonic::transport::Error> {
        let shown = request.headers().get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
        if self.wants_token && shown != Some(format!("Bearer {TOKEN}").as_bytes()) {
            return Ok(Status::unauthenticated("a token that is known is needed").into_http());
        }
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        self.calls.lock().expect("nobody panics here").push(method);
        let mut channel = self.channel.clone();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
        channel.call(request.map(Body::new)).await
    }
}

fn config(shows: &Issued, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(clients.pem().as_bytes()).expect("PEM");
            roots.add(root).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let certificate =
        CertificateDer::from_pem_slice(shows.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(shows.key.as_bytes()).expect("a key");
    let mut config =
        builder.with_single_cert(vec![certificate], key).expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
