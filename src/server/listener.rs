//! Where clients are listened to: addresses, and sockets in the file system.

use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::config::Listen;
use crate::domain::limits::LISTEN_BACKLOG;
use crate::server::ServerError;

/// A place where clients are listened to.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A connection that any thread's runtime can take.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(StdTcpStream),
    Unix(StdUnixStream),
}

impl Listener {
    /// Begins to listen.
    pub(super) fn bind(place: &Listen) -> Result<Self, ServerError> {
        let bound = match place {
            Listen::Tcp(address) => tcp(*address).map(Self::Tcp),
            Listen::Unix(path) => SocketFile::bind(path).map(|(l, file)| Self::Unix(l, file)),
        };
        bound.map_err(|source| ServerError::Listen { place: place.clone(), source })
    }

    /// Where it listens, with the real port.
    pub(super) fn place(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(_, file) => Ok(Listen::Unix(file.0.clone())),
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is a small write that nobody should wait for.
                stream.set_nodelay(true)?;
                stream.into_std().map(Accepted::Tcp)
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Accepted::Unix)
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

/// The file of a socket, which goes with its listener.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        // What a killed server left behind: nobody listens there any more.
        if StdUnixStream::connect(path).is_err_and(|error| refused(&error)) {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        Ok((listener, Self(path.to_owned())))
    }
}

fn refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        std::fs::remove_file(&self.0).ok();
    }
}
