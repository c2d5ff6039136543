//! Accepting connections and serving HTTP/2 on them.
//!
//! hyper is driven directly (docs/adr/0001). tonic's own server would lift hyper's flood limits where they are
//! left unset, answer deadlines itself with CANCELLED, and wait for ever, when it shuts down, for peers
//! that say nothing.
//!
//! A connection has its place among all that there may be from the moment it is accepted. One more is closed at
//! once: its client knows at once and can go to another server, where in a backlog it would wait for its own
//! deadline and nobody would see why. What comes then, handshake and preface, happens in a task of its own, so
//! that whoever is slow holds up nobody.

mod greeting;
mod tally;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::service::Routes;
use tower::ServiceExt;

use crate::config::Config;
use crate::domain::limits::{
    ACCEPT_PAUSE_MS, DRAIN_PREFACE_MS_MAX, HEADERS_BYTES_MAX, HTTP_FRAME_BYTES_MAX,
    KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_TIMEOUT_SECONDS, LISTEN_BACKLOG, LOCAL_ERROR_RESETS_MAX,
    PENDING_ACCEPT_RESETS_MAX, REFUSING_SAID_EVERY_SECONDS, STREAMS_PER_CONNECTION_MAX,
};
use crate::rpc::layers::{Calls, WaitingRoom};
use crate::server::connection::greeting::{Greeted, greet};
use crate::server::connection::tally::Place;
use crate::server::listener::{Accepted, Listener};
use crate::server::tls::Tls;
use crate::server::worker::Workers;

pub(super) use greeting::{Unheard, other};
pub(super) use tally::Tally;

/// A connection that has its place.
#[derive(Debug)]
pub(super) struct Admitted {
    accepted: Accepted,
    _place: Place,
}

/// Accepts connections and hands them to workers, until told to end. Whoever has connected by then is served,
/// and told to go on elsewhere.
pub(super) async fn accept(
    listeners: &[Listener],
    workers: &Workers,
    most: usize,
    tally: &Arc<Tally>,
    end: impl Future<Output = ()>,
) {
    let (failing, refusing) = (Seldom(None), Seldom(None));
    let door = |listener| Door { listener, workers, most, tally, failing, refusing };
    {
        let accepting = join_all(listeners.iter().map(|listener| door(listener).open()));
        tokio::select! {
            biased;
            () = end => {}
            _ = accepting => {}
        }
    }
    // Lets the system say who is there.
    tokio::task::yield_now().await;
    for listener in listeners {
        let mut door = door(listener);
        for _ in 0..LISTEN_BACKLOG {
            let Some(Ok(accepted)) = listener.accept().now_or_never() else {
                break;
            };
            door.admit(accepted).await;
        }
    }
}

/// Where connections of one listener come in.
struct Door<'a> {
    listener: &'a Listener,
    workers: &'a Workers,
    most: usize,
    tally: &'a Arc<Tally>,
    failing: Seldom,
    refusing: Seldom,
}

impl Door<'_> {
    async fn open(mut self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => self.admit(accepted).await,
                Err(error) if is_of_the_peer(&error) => {
                    tracing::debug!(%error, "a peer went before it was accepted");
                }
                Err(error) => {
                    if self.failing.now() {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    // Out of file descriptors: accepting again at once would only spin.
                    sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    }

    async fn admit(&mut self, accepted: Accepted) {
        match self.tally.admit(self.most) {
            Some(place) => self.workers.serve(Admitted { accepted, _place: place }).await,
            None => {
                tracing::debug!(peer = %accepted.from, "there are as many connections as may be");
                if self.refusing.now() {
                    let most = self.most;
                    tracing::warn!(
                        max_connections = most,
                        "connections are refused: there are as many as may be"
                    );
                }
            }
        }
    }
}

/// Whether a connection could not be accepted because its peer had gone by then.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}

/// What is said again only after some time.
#[derive(Debug, Clone, Copy)]
struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it is to be said now.
    #[expect(clippy::disallowed_methods, reason = "how often a line is logged decides nothing")]
    fn now(&mut self) -> bool {
        let now = Instant::now();
        let every = Duration::from_secs(REFUSING_SAID_EVERY_SECONDS);
        let due = self.0.is_none_or(|last| now.duration_since(last) >= every);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// What connections are served with.
#[derive(Clone)]
pub(super) struct Serving {
    services: Calls<Routes>,
    tls: Option<Arc<Tls>>,
    silence: Duration,
    tally: Arc<Tally>,
}

impl Serving {
    /// Serving these services, in secret if there is anything to greet with.
    pub(super) fn new(
        config: &Config,
        services: Calls<Routes>,
        tls: Option<Arc<Tls>>,
        tally: Arc<Tally>,
    ) -> Self {
        Self { services, tls, silence: config.silence, tally }
    }

    /// Serves one connection until its peer ends it, or until its calls in flight are answered after
    /// `drain` has become true.
    pub(super) async fn serve(self, admitted: Admitted, drain: watch::Receiver<bool>) {
        let Admitted { accepted: Accepted { stream, from }, _place } = admitted;
        let tls = self.tls.clone();
        let greeting = greet(stream, tls.as_deref());
        let over = over(drain.clone());
        let ended = tokio::select! {
            ended = self.attend(greeting, drain) => ended,
            () = over => Ok(()),
        };
        if let Err(ended) = ended {
            // Peers come and go as they please, and scanners come often: only somebody who debugs wants to know.
            let error: &dyn std::error::Error = &ended;
            tracing::debug!(peer = %from, error, "a connection ended badly");
        }
    }

    /// Serves a peer once it is greeted. One that is not has no call in flight, so a draining server does not
    /// wait for it.
    async fn attend(
        self,
        greeting: impl Future<Output = Result<Greeted, Unheard>>,
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        let greeted = tokio::select! {
            greeted = tokio::time::timeout(self.silence, greeting) => {
                greeted.unwrap_or(Err(Unheard::Silent(self.silence)))
            }
            // What is on its way may still arrive.
            () = drained(&mut drain).then(|()| sleep(Duration::from_millis(DRAIN_PREFACE_MS_MAX))) => {
                return Ok(());
            }
        };
        match greeted {
            Ok(greeted) => self.speak(greeted, drain).await.map_err(Ended::Broken),
            Err(Unheard::Gone) => Err(Ended::Unheard(Unheard::Gone)),
            Err(unheard) => {
                self.tally.failed();
                Err(Ended::Unheard(unheard))
            }
        }
    }

    async fn speak(
        self,
        Greeted { stream, peer }: Greeted,
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), hyper::Error> {
        let room = WaitingRoom::new();
        let calls = room.clone();
        let services = self.services.map_request(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(room.clone());
            request.extensions_mut().insert(peer.clone());
            request
        });
        let service = TowerToHyperService::new(services);
        let connection = http2().serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            () = drained(&mut drain).then(|()| calls.quiet()) => {
                connection.as_mut().graceful_shutdown();
            }
        }
        tokio::select! {
            ended = connection => ended,
            // hyper waits until its peer has acknowledged the end, and a dead one never does.
            () = calls.deserted() => Ok(()),
        }
    }
}

/// Why a connection did not end as it should.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Unheard(Unheard),
    #[error("HTTP/2 broke")]
    Broken(#[source] hyper::Error),
}

/// HTTP/2 with every bound said, whatever the defaults of hyper are or come to be.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_frame_size(HTTP_FRAME_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS))
        .keep_alive_timeout(Duration::from_secs(KEEPALIVE_TIMEOUT_SECONDS));
    builder
}

/// Waits until the drain is over: whoever is still there is cut off, on whichever thread.
async fn over(mut drain: watch::Receiver<bool>) {
    while drain.changed().await.is_ok() {}
}

/// Waits until the server drains; a server that is gone drains too.
async fn drained(drain: &mut watch::Receiver<bool>) {
    drain.wait_for(|draining| *draining).await.map(drop).unwrap_or(());
}
