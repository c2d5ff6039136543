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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::{Config, Mistakes};
use crate::engine::{Engine, Environment};
use crate::rpc::layers::Panics;
use crate::rpc::telemetry::Observer;
use crate::server::connection::Tally;
use crate::server::metrics::engine::EngineTally;
use crate::server::tls::Tls;
use crate::server::{ServerError, VERSION, listener};
use crate::telemetry::traces::Traces;

/// Everything that is counted in a server.
#[derive(Debug)]
pub(super) struct Metrics {
    /// Calls.
    pub(super) observer: Observer,
    /// Handlers that broke.
    pub(super) panics: Panics,
    /// What owners do.
    pub(super) owners: Arc<EngineTally>,
    /// Connections.
    pub(super) connections: Arc<Tally>,
    /// What new connections are greeted with.
    tls: Option<Arc<Tls>>,
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
        tls: Option<Arc<Tls>>,
    ) -> Result<(Arc<Self>, Option<SocketAddr>), ServerError> {
        let listener = config.metrics_listen.map(listener::metrics).transpose()?;
        let traces = Traces::load(config, VERSION)
            .map_err(|wrong| ServerError::Configuration(Mistakes(wrong)))?;
        let metrics = Arc::new(Self::new(Observer::new(clock, traces), tls));
        let Some(listener) = listener else {
            return Ok((metrics, None));
        };
        let address = listener.local_addr().map_err(ServerError::Runtime)?;
        // Until the runtime ends: a server that starts, drains or ends tells so.
        tokio::spawn(endpoint::serve(listener, Arc::clone(&metrics)));
        Ok((metrics, Some(address)))
    }

    fn new(observer: Observer, tls: Option<Arc<Tls>>) -> Self {
        Self {
            observer,
            panics: Panics::default(),
            owners: Arc::default(),
            connections: Arc::default(),
            tls,
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
