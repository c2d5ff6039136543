//! Making connections: over the network with TLS or without, or through a socket in the file system.
//!
//! A connection that breaks is made anew by the same dialler, with the certificates that there are then.

mod stream;
mod trouble;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::Service;

use super::address::{Address, host};
use super::error::Error;
use super::tls::{HTTP_2, Loaded, Tls};

use stream::{Heard, Io, Stream};
pub(crate) use trouble::Trouble;

/// Makes the connections of a client.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    way: Way,
    /// What the newest server has said.
    heard: watch::Sender<Heard>,
}

#[derive(Debug, Clone)]
enum Way {
    Network { tcp: HttpConnector, uri: Uri, tls: Option<Arc<Encryption>> },
    Socket(Arc<PathBuf>),
}

/// How a server is made sure of.
#[derive(Debug)]
struct Encryption {
    tls: Tls,
    name: ServerName<'static>,
    kept: Mutex<Loaded>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Dialler {
    /// Reads what is needed for connections to this address. One without TLS takes no settings of it:
    /// who gave them would not expect plaintext.
    pub(super) fn new(
        address: Address,
        tls: Option<Tls>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let encrypted = address.is_encrypted();
        let way = match address {
            Address::Network(_) | Address::Socket(_) if tls.is_some() && !encrypted => {
                return Err(Error::malformed(
                    "certificates and server names are for https://HOST:PORT only",
                ));
            }
            Address::Network(uri) => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_connect_timeout(Some(patience));
                let tls = encrypted.then(|| Encryption::new(tls.unwrap_or_default(), host(&uri)));
                Way::Network { tcp, uri, tls: tls.transpose()?.map(Arc::new) }
            }
            Address::Socket(path) => Way::Socket(Arc::new(path)),
        };
        Ok(Self { way, heard: watch::Sender::new(Heard::Nothing) })
    }

    /// Resolves when the server has said something that can be HTTP/2, or fails with what it said
    /// instead. A connection is none before: with TLS 1.3 a server says only then that it does not take
    /// the client's certificate, and one that speaks another protocol shows it only then.
    pub(super) fn heard(&self) -> impl Future<Output = Result<(), Trouble>> + Send + use<> {
        let mut heard = self.heard.subscribe();
        async move {
            match heard.wait_for(|heard| *heard != Heard::Nothing).await.as_deref() {
                Ok(Heard::No(trouble)) => Err(trouble.clone()),
                Ok(Heard::AWord | Heard::Nothing) => Ok(()),
                Err(_) => Err(Trouble::HungUp),
            }
        }
    }
}

impl Encryption {
    fn new(tls: Tls, host: &str) -> Result<Self, Error> {
        let name = tls.name(host).map_err(Error::malformed)?;
        let kept = Mutex::new(tls.load().map_err(Error::malformed)?);
        Ok(Self { tls, name, kept })
    }

    /// What there is now; what cannot be read leaves what there was.
    async fn latest(self: &Arc<Self>) -> Loaded {
        if self.tls.may_change() {
            let this = Arc::clone(self);
            let found = tokio::task::spawn_blocking(move || this.tls.load()).await;
            match found.unwrap_or_else(|_| Err("it was not read".to_owned())) {
                Ok(loaded) => *self.kept() = loaded,
                Err(why) => tracing::warn!(why, "the client's certificates stay as they were"),
            }
        }
        self.kept().clone()
    }

    fn kept(&self) -> MutexGuard<'_, Loaded> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wrap(self: Arc<Self>, tcp: TcpStream) -> Result<Io, BoxError> {
        let Loaded { config, authority } = self.latest().await;
        let connected = TlsConnector::from(config).connect(self.name.clone(), tcp).await;
        let tls = connected.map_err(|error| -> BoxError {
            match Trouble::in_handshake(&error, &authority) {
                Some(trouble) => trouble.into(),
                None => error.into(),
            }
        })?;
        match tls.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => Ok(Io::Tls(Box::new(tls))),
            Some(_) | None => Err(Trouble::NoHttp2.into()),
        }
    }
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.way {
            Way::Network { tcp, .. } => tcp.poll_ready(cx).map_err(Into::into),
            Way::Socket(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let heard = self.heard.clone();
        match &mut self.way {
            Way::Network { tcp, uri, tls } => {
                let (connecting, tls) = (tcp.call(uri.clone()), tls.clone());
                Box::pin(async move {
                    let tcp = connecting.await?.into_inner();
                    let io = match tls {
                        Some(tls) => tls.wrap(tcp).await?,
                        None => Io::Tcp(tcp),
                    };
                    Ok(TokioIo::new(Stream::new(io, heard)))
                })
            }
            Way::Socket(path) => {
                let path = Arc::clone(path);
                Box::pin(async move {
                    let io = Io::Unix(UnixStream::connect(path.as_path()).await?);
                    Ok(TokioIo::new(Stream::new(io, heard)))
                })
            }
        }
    }
}
