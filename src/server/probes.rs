//! Health for probes that speak no TLS, such as those of a kubelet: grpc.health.v1 in plaintext, and nothing
//! else, on a listener of its own.
//!
//! It answers from before the store is read until the process ends: also while the server drains, when nobody
//! can connect to it any more. A probe must come through whatever others do here, so the connection that is
//! open for longest makes room for a new one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};
use tonic::service::Routes;

use crate::domain::limits::{
    ACCEPT_PAUSE_MS, HEALTH_CONNECTIONS_MAX, HEALTH_STREAMS_MAX, KEEPALIVE_INTERVAL_SECONDS,
    KEEPALIVE_TIMEOUT_SECONDS, LOCAL_ERROR_RESETS_MAX, PENDING_ACCEPT_RESETS_MAX,
    SILENCE_SECONDS_MAX,
};
use crate::rpc::layers::Calls;
use crate::server::preface::Begun;
use crate::server::{ServerError, listener};

/// Where probes are listened to.
#[derive(Debug)]
pub(super) struct Probes(TcpListener);

impl Probes {
    /// Begins to listen.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        listener::tcp(address).map(Self).map_err(|source| ServerError::Probes { address, source })
    }

    /// Where it listens, with the real port.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers probes as long as the runtime lives.
    pub(super) fn answer(self, health: Calls<Routes>) -> JoinHandle<Infallible> {
        tokio::spawn(accept(self.0, health))
    }
}

async fn accept(listener: TcpListener, health: Calls<Routes>) -> Infallible {
    // The one that has been open for longest comes first.
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(HEALTH_CONNECTIONS_MAX);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a probe could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= HEALTH_CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let health = health.clone();
        let connection = tokio::spawn(async move {
            if let Err(error) = serve(stream, health).await {
                tracing::debug!(error = &*error, "a probe ended with an error");
            }
        });
        open.push_back(connection.abort_handle());
    }
}

/// Serves one connection until its peer ends it.
async fn serve(
    stream: TcpStream,
    health: Calls<Routes>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
    let stream = tokio::time::timeout(silence, Begun::of(stream)).await??;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HEALTH_STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .keep_alive_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS))
        .keep_alive_timeout(Duration::from_secs(KEEPALIVE_TIMEOUT_SECONDS));
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(health)).await?;
    Ok(())
}
