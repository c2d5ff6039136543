//! The words that every HTTP/2 client begins with (RFC 9113, section 3.4).
//!
//! They are awaited here and not by hyper, whose graceful shutdown waits for ever on a peer that has not
//! said all of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::server::connection::{Unheard, other};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that began as HTTP/2 does. Whoever reads from it reads the beginning too.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    /// What of the beginning is still to be read.
    left: &'static [u8],
}

impl<S: AsyncRead + Unpin> Begun<S> {
    /// Waits until the peer has begun. An error if it begins in any other way, or ends.
    pub(super) async fn of(mut stream: S) -> Result<Self, Unheard> {
        let mut said = [0; PREFACE.len()];
        let mut count = 0;
        while count < PREFACE.len() {
            let more = stream.read(&mut said[count..]).await?;
            if more == 0 {
                return Err(Unheard::Gone);
            }
            count += more;
            if said[..count] != PREFACE[..count] {
                return Err(other(&said[..count]));
            }
        }
        Ok(Self { stream, left: PREFACE })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let (now, later) = self.left.split_at(self.left.len().min(into.remaining()));
        into.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
