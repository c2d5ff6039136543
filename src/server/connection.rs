//! Accepting connections and serving HTTP/2 on them.
//!
//! hyper is driven directly. tonic's own server would lift hyper's flood limits where they are left
//! unset, answer deadlines itself with CANCELLED, and wait for ever, when it shuts down, for peers
//! that say nothing.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::domain::limits::{
    ACCEPT_PAUSE_MS, KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_TIMEOUT_SECONDS, LOCAL_ERROR_RESETS_MAX,
    PENDING_ACCEPT_RESETS_MAX, SILENCE_SECONDS_MAX, STREAMS_PER_CONNECTION_MAX,
};
use crate::rpc::layers::{Calls, WaitingRoom};
use crate::server::worker::Workers;

/// Accepts connections and hands them to workers, until told to end.
pub(super) async fn accept(
    listener: &TcpListener,
    workers: &Workers,
    end: impl Future<Output = ()>,
) {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            biased;
            () = &mut end => return,
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| detach(stream)) {
                Ok(stream) => workers.serve(stream).await,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors: accepting again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            },
        }
    }
}

/// A connection that any thread's runtime can take.
fn detach(stream: TcpStream) -> io::Result<StdTcpStream> {
    // An answer is a small write that nobody should wait for.
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// Serves one connection until its peer ends it, or until its calls in flight are answered after
/// `drain` has become true.
pub(super) async fn serve(
    stream: StdTcpStream,
    services: Calls<Routes>,
    mut drain: watch::Receiver<bool>,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be taken over");
            return;
        }
    };
    // A peer that has not said a word has no call in flight, so a draining server does not wait for it.
    let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
    let mut first = [0];
    tokio::select! {
        spoke = tokio::time::timeout(silence, stream.peek(&mut first)) => {
            if !matches!(spoke, Ok(Ok(1..))) {
                return;
            }
        }
        () = drained(&mut drain) => return,
    }
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .keep_alive_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS))
        .keep_alive_timeout(Duration::from_secs(KEEPALIVE_TIMEOUT_SECONDS));
    let room = WaitingRoom::new();
    let services = services.map_request(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(room.clone());
        request
    });
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(services));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = drained(&mut drain) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Peers come and go as they please; only somebody who debugs wants to know.
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Waits until the server drains; a server that is gone drains too.
async fn drained(drain: &mut watch::Receiver<bool>) {
    drain.wait_for(|draining| *draining).await.map(drop).unwrap_or(());
}
