//! Accepting connections and serving HTTP/2 on them.
//!
//! hyper is driven directly. tonic's own server would lift hyper's flood limits where they are left
//! unset, answer deadlines itself with CANCELLED, and wait for ever, when it shuts down, for peers
//! that say nothing.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::domain::limits::{
    ACCEPT_PAUSE_MS, DRAIN_PREFACE_MS_MAX, KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_TIMEOUT_SECONDS,
    LISTEN_BACKLOG, LOCAL_ERROR_RESETS_MAX, PENDING_ACCEPT_RESETS_MAX, SILENCE_SECONDS_MAX,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::rpc::layers::{Calls, WaitingRoom};
use crate::server::listener::{Accepted, Listener};
use crate::server::preface::Begun;
use crate::server::worker::Workers;

/// Accepts connections and hands them to workers, until told to end.
pub(super) async fn accept(
    listeners: &[Listener],
    workers: &Workers,
    end: impl Future<Output = ()>,
) {
    let accepting = join_all(listeners.iter().map(|listener| accept_at(listener, workers)));
    tokio::select! {
        biased;
        () = end => {}
        _ = accepting => {}
    }
}

/// Accepts whoever has connected by now: they are served, and told to go on elsewhere.
pub(super) async fn accept_waiting(listeners: &[Listener], workers: &Workers) {
    // Lets the system say who is there.
    tokio::task::yield_now().await;
    for listener in listeners {
        for _ in 0..LISTEN_BACKLOG {
            let Some(Ok(accepted)) = listener.accept().now_or_never() else {
                break;
            };
            workers.serve(accepted).await;
        }
    }
}

async fn accept_at(listener: &Listener, workers: &Workers) -> Infallible {
    loop {
        match listener.accept().await {
            Ok(accepted) => workers.serve(accepted).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: accepting again at once would only spin.
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

/// Serves one connection until its peer ends it, or until its calls in flight are answered after
/// `drain` has become true.
pub(super) async fn serve(
    accepted: Accepted,
    services: Calls<Routes>,
    drain: watch::Receiver<bool>,
) {
    let over = over(drain.clone());
    let served = async {
        match accepted {
            Accepted::Tcp(stream) => begin(TcpStream::from_std(stream)?, services, drain).await,
            Accepted::Unix(stream) => begin(UnixStream::from_std(stream)?, services, drain).await,
        }
    };
    let ended = tokio::select! {
        ended = served => ended,
        () = over => Ok(()),
    };
    if let Err(error) = ended {
        // Peers come and go as they please; only somebody who debugs wants to know.
        tracing::debug!(error = &*error, "a connection ended with an error");
    }
}

/// Why a connection ended.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Serves a peer if it speaks HTTP/2, and soon. One that has not said so has no call in flight, so a
/// draining server does not wait for it.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    services: Calls<Routes>,
    mut drain: watch::Receiver<bool>,
) -> Result<(), Error> {
    let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
    let stream = tokio::select! {
        begun = tokio::time::timeout(silence, Begun::of(stream)) => {
            begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        }
        // What is on its way may still arrive.
        () = drained(&mut drain).then(|()| sleep(Duration::from_millis(DRAIN_PREFACE_MS_MAX))) => {
            return Ok(());
        }
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .keep_alive_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS))
        .keep_alive_timeout(Duration::from_secs(KEEPALIVE_TIMEOUT_SECONDS));
    let room = WaitingRoom::new();
    let calls = room.clone();
    let services = services.map_request(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(room.clone());
        request
    });
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(services));
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => ended?,
        () = drained(&mut drain).then(|()| calls.quiet()) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended?,
                () = calls.deserted() => {}
            }
        }
    }
    Ok(())
}

/// Waits until the drain is over: whoever is still there is cut off, on whichever thread.
async fn over(mut drain: watch::Receiver<bool>) {
    while drain.changed().await.is_ok() {}
}

/// Waits until the server drains; a server that is gone drains too.
async fn drained(drain: &mut watch::Receiver<bool>) {
    drain.wait_for(|draining| *draining).await.map(drop).unwrap_or(());
}
