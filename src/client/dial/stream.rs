//! A connection that says what is wrong with it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::trouble::Trouble;

/// The first byte of what a TLS server says to who speaks plaintext: an alert, or part of a handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// Does the same with whichever stream it is.
macro_rules! with {
    ($stream:expr, $inner:ident => $do:expr) => {
        match $stream {
            Io::Tcp($inner) => $do,
            Io::Tls($inner) => $do,
            Io::Unix($inner) => $do,
        }
    };
}

/// A connection to a server.
#[derive(Debug)]
pub(in crate::client) struct Stream {
    io: Io,
    /// Who is to be told what the server says first; nobody after that.
    first: Option<watch::Sender<Heard>>,
}

#[derive(Debug)]
pub(super) enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// What a server has said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) enum Heard {
    Nothing,
    /// Something that can be HTTP/2.
    AWord,
    /// Something else, or that it does not want us.
    No(Trouble),
}

impl Stream {
    pub(super) fn new(io: Io, first: watch::Sender<Heard>) -> Self {
        Self { io, first: Some(first) }
    }

    /// What it comes to that the server ends the connection and has said nothing.
    fn silence(&self) -> Trouble {
        match self.io {
            Io::Tcp(_) => Trouble::HungUpOnPlaintext,
            Io::Tls(_) | Io::Unix(_) => Trouble::HungUp,
        }
    }

    /// What to say of a write that failed. The server may have said why before it hung up: that can still
    /// be read, and comes at once.
    fn farewell(&mut self, cx: &mut Context<'_>, failed: io::Error) -> Poll<io::Error> {
        if self.first.is_none() {
            return Poll::Ready(failed);
        }
        let mut space = [0; 16];
        let read = Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut space));
        Poll::Ready(ready!(read).err().unwrap_or(failed))
    }

    fn done<T>(&mut self, cx: &mut Context<'_>, done: io::Result<T>) -> Poll<io::Result<T>> {
        match done {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(failed) => Poll::Ready(Err(ready!(self.farewell(cx, failed)))),
        }
    }

    fn tell(&mut self, heard: Heard) {
        if let Some(first) = self.first.take() {
            first.send_replace(heard);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let silence = self.silence();
        self.tell(Heard::No(silence));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(with!(&mut this.io, inner => Pin::new(inner).poll_read(cx, buf)));
        let read = read.map_err(explained);
        if this.first.is_none() {
            return Poll::Ready(read);
        }
        let read = read.and_then(|()| match trouble_in(&buf.filled()[before..], this.silence()) {
            Some(trouble) => Err(io::Error::new(io::ErrorKind::InvalidData, trouble)),
            None => Ok(()),
        });
        this.tell(match &read {
            Ok(()) => Heard::AWord,
            Err(error) => Heard::No(Trouble::of(error).unwrap_or(this.silence())),
        });
        Poll::Ready(read)
    }
}

/// An error of TLS in our words; h2 keeps nothing but the words.
fn explained(error: io::Error) -> io::Error {
    match Trouble::in_stream(&error) {
        Some(trouble) => io::Error::new(error.kind(), trouble),
        None => error,
    }
}

/// Why what a server says first cannot be HTTP/2; if it says nothing, that is `silence`.
fn trouble_in(said: &[u8], silence: Trouble) -> Option<Trouble> {
    match said {
        [] => Some(silence),
        [first, ..] if TLS_RECORDS.contains(first) => Some(Trouble::OnlyTls),
        // HTTP/1.1 400 Bad Request. No frame begins so: it would be longer than any may be.
        [b'H', ..] => Some(Trouble::NoHttp2),
        [_, ..] => None,
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = ready!(with!(&mut this.io, inner => Pin::new(inner).poll_write(cx, buf)));
        this.done(cx, done)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done =
            ready!(with!(&mut this.io, inner => Pin::new(inner).poll_write_vectored(cx, bufs)));
        this.done(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        with!(&self.io, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = ready!(with!(&mut this.io, inner => Pin::new(inner).poll_flush(cx)));
        this.done(cx, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = ready!(with!(&mut this.io, inner => Pin::new(inner).poll_shutdown(cx)));
        this.done(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_http_2_is_refused() {
        let trouble = |said: &[u8]| trouble_in(said, Trouble::HungUp);
        // An empty SETTINGS frame, and a large one.
        assert_eq!(trouble(&[0, 0, 0, 4, 0, 0, 0, 0, 0]), None);
        assert_eq!(trouble(&[0, 1, 0, 4, 0]), None);
        assert_eq!(trouble(&[0x15, 3, 3, 0, 2, 2, 10]), Some(Trouble::OnlyTls));
        assert_eq!(trouble(b"HTTP/1.1 400 Bad Request\r\n"), Some(Trouble::NoHttp2));
        assert_eq!(trouble(b""), Some(Trouble::HungUp));
    }
}
