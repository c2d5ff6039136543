//! From a stream of bytes to a peer that speaks HTTP/2: the TLS handshake and the preface.
//!
//! Both have one bound in time together, so that a peer that says a byte now and then gets no more of it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::rpc::access::Peer;
use crate::server::listener::Stream;
use crate::server::preface::Begun;
use crate::server::tls::Tls;

/// Any stream. What is spoken over it is compiled once and not for each kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// A peer that has begun to speak HTTP/2.
pub(super) struct Greeted {
    pub(super) stream: Begun<Box<dyn Io>>,
    pub(super) peer: Peer,
}

/// Why a peer was never listened to.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum Unheard {
    /// It came and went, as probes do.
    #[error("it went before it had begun")]
    Gone,
    #[error("it had not begun after {0:?}")]
    Silent(Duration),
    #[error("it speaks no TLS, and nothing else is spoken here")]
    NoTls,
    #[error("it speaks TLS, and plaintext is spoken here")]
    Tls,
    #[error("it speaks HTTP/1, and only HTTP/2 is spoken here")]
    Http1,
    #[error("it does not speak HTTP/2")]
    NotHttp2,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
}

impl From<io::Error> for Unheard {
    fn from(error: io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::UnexpectedEof;
        if gone { Self::Gone } else { Self::Broken(error) }
    }
}

/// The type of the TLS record that a client begins with (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Greets a peer, with TLS if there is any; sockets in the file system have none.
pub(super) async fn greet(stream: Stream, tls: Option<&Tls>) -> Result<Greeted, Unheard> {
    match (stream, tls) {
        (Stream::Tcp(stream), None) => plaintext(TcpStream::from_std(stream)?).await,
        (Stream::Tcp(stream), Some(tls)) => secret(TcpStream::from_std(stream)?, tls).await,
        (Stream::Unix(stream), _) => plaintext(UnixStream::from_std(stream)?).await,
    }
}

/// Greets a peer without TLS.
pub(super) async fn plaintext(stream: impl Io + 'static) -> Result<Greeted, Unheard> {
    let stream: Box<dyn Io> = Box::new(stream);
    Ok(Greeted { stream: Begun::of(stream).await?, peer: Peer::Unknown })
}

async fn secret(stream: TcpStream, tls: &Tls) -> Result<Greeted, Unheard> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(Unheard::Gone);
    }
    if first != [HANDSHAKE] {
        return Err(Unheard::NoTls);
    }
    let (stream, peer) = tls.accept(stream).await.map_err(Unheard::Handshake)?;
    let stream: Box<dyn Io> = Box::new(stream);
    Ok(Greeted { stream: Begun::of(stream).await?, peer })
}

/// The methods of HTTP/1, as a request begins.
const METHODS: [&str; 8] =
    ["GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "DELETE ", "CONNECT ", "PATCH "];

/// What a peer speaks that does not begin as HTTP/2 does.
pub(in crate::server) fn other(said: &[u8]) -> Unheard {
    let begins =
        |method: &&str| said.starts_with(method.as_bytes()) || method.as_bytes().starts_with(said);
    if said.first() == Some(&HANDSHAKE) {
        Unheard::Tls
    } else if METHODS.iter().any(begins) {
        Unheard::Http1
    } else {
        Unheard::NotHttp2
    }
}
