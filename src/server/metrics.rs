//! What is counted in a server, and the page that tells it to Prometheus.
//!
//! Counts are values that the parts of a server hold, not globals; what can be read from the engine is read
//! when somebody asks. No label ever holds an id: every series comes from a table that is part of the
//! program. docs/telemetry.md has the list.
//!
//! - `engine`: what the owners of instances tell
//! - `page`: all of it in Prometheus' words
//! - `process`: what the system knows of this process
//! - `endpoint`: HTTP, on a listener of its own

mod endpoint;
mod engine;
mod page;
mod process;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::Config;
use crate::engine::{Engine, Environment};
use crate::rpc::telemetry::Observer;
use crate::server::metrics::engine::EngineTally;
use crate::server::{ServerError, VERSION, listener};
use crate::telemetry::traces::Traces;

/// Everything that is counted in a server.
#[derive(Debug)]
pub(super) struct Metrics {
    /// Calls.
    pub(super) observer: Observer,
    /// What owners do.
    pub(super) owners: Arc<EngineTally>,
    /// Connections.
    pub(super) connections: Arc<Connections>,
    /// Reloads of the configuration.
    pub(super) reloads: Arc<Reloads>,
    /// The engine, once it answers.
    serving: OnceLock<Engine>,
}

impl Metrics {
    /// Begins to count, and to tell those who ask where that is configured. Answers where.
    pub(super) fn start(
        config: &Config,
        clock: Arc<dyn Environment>,
    ) -> Result<(Arc<Self>, Option<SocketAddr>), ServerError> {
        let listener = config.metrics_listen.map(listener::metrics).transpose()?;
        let traces = Traces::load(config, VERSION).map_err(ServerError::Configuration)?;
        let metrics = Arc::new(Self::new(Observer::new(clock, traces)));
        let Some(listener) = listener else {
            return Ok((metrics, None));
        };
        let address = listener.local_addr().map_err(ServerError::Runtime)?;
        // Until the runtime ends: a server that starts, drains or ends tells so.
        tokio::spawn(endpoint::serve(listener, Arc::clone(&metrics)));
        Ok((metrics, Some(address)))
    }

    fn new(observer: Observer) -> Self {
        Self {
            observer,
            owners: Arc::default(),
            connections: Arc::default(),
            reloads: Arc::default(),
            serving: OnceLock::new(),
        }
    }

    /// From now on calls are answered by this engine.
    pub(super) fn serves(&self, engine: &Engine) {
        // It is said once.
        self.serving.get_or_init(|| engine.clone());
    }

    fn state(&self) -> State {
        match self.serving.get() {
            None => State::Starting,
            Some(engine) if engine.draining() => State::Draining,
            Some(_) => State::Serving,
        }
    }
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Serving,
    Draining,
}

/// The connections of a server, counted by whoever accepts them.
#[derive(Debug)]
pub struct Connections {
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    handshakes_failed: AtomicU64,
    /// In seconds since 1970; [`NEVER`] if there is no certificate.
    certificate_ends: AtomicI64,
}

const NEVER: i64 = i64::MIN;

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            certificate_ends: AtomicI64::new(NEVER),
        }
    }
}

impl Connections {
    /// One was accepted and is served until what is answered is dropped.
    #[must_use = "the connection is open as long as this lives"]
    pub fn open(self: &Arc<Self>) -> OpenConnection {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// One was closed at once, because there are too many.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A peer and this server could not agree on TLS.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The certificate that is shown from now on is good until then, in seconds since 1970.
    pub fn certificate_ends(&self, at: i64) {
        self.certificate_ends.store(at, Ordering::Relaxed);
    }
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Connections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often what can change while the server runs was read again.
#[derive(Debug, Default)]
pub struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// It was taken over, or it was wrong and everything stays as it was.
    pub fn reloaded(&self, taken_over: bool) {
        let count = if taken_over { &self.done } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
