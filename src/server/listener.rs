//! Where clients are listened to: addresses, and sockets in the file system.

mod socket;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::config::Listen;
use crate::domain::limits::LISTEN_BACKLOG;
use crate::server::ServerError;
use crate::server::listener::socket::SocketFile;

/// A place where clients are listened to.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// The file goes first: as long as somebody listens, nobody else takes its name or its number.
    Unix(SocketFile, UnixListener),
}

/// A connection that any thread's runtime can take.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) from: From,
}

/// What is written to and read from.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    Address(SocketAddr),
    /// This machine: through a socket in its file system.
    Here,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Here => f.write_str("unix"),
        }
    }
}

impl Listener {
    /// Begins to listen.
    pub(super) async fn bind(place: &Listen) -> Result<Self, ServerError> {
        let bound = match place {
            Listen::Tcp(address) => tcp(*address).map(Self::Tcp),
            Listen::Unix(path) => {
                SocketFile::listen(path).await.map(|(file, l)| Self::Unix(file, l))
            }
        };
        bound.map_err(|source| ServerError::Listen { place: place.clone(), source })
    }

    /// Where it listens, with the real port.
    pub(super) fn place(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(file, _) => Ok(Listen::Unix(file.path().to_owned())),
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // An answer is a small write that nobody should wait for.
                stream.set_nodelay(true)?;
                let stream = Stream::Tcp(stream.into_std()?);
                Ok(Accepted { stream, from: From::Address(from) })
            }
            Self::Unix(_, listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted { stream: Stream::Unix(stream.into_std()?), from: From::Here })
            }
        }
    }
}

/// Listens at the address where metrics are told.
pub(super) fn metrics(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let place = Listen::Tcp(address);
    tcp(address).map_err(|source| ServerError::Listen { place, source })
}

/// Listens at an address.
pub(super) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server takes its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}
