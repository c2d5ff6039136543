//! The composition root: from a configuration to a running server, and from a signal to its end.
//!
//! Concrete parts meet here and nowhere else: the store, the engine, the services, the clock, the
//! threads and the sockets.
//!
//! ```text
//!  main thread: signals, accepting, owners of instances, connections and their handlers
//!       └─────▶ further threads: connections and their handlers
//! ```
//!
//! Each thread runs a single-threaded runtime of its own (docs/adr/0002).

mod access;
mod check;
mod connection;
mod environment;
mod files;
mod listener;
pub mod metrics;
mod preface;
mod probes;
mod reload;
mod shutdown;
mod tls;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::Layer;

use crate::config::{Config, Listen, Mistake, Mistakes, StoreKind};
use crate::domain::id::{InstanceId, Labels, Principal};
use crate::domain::instance::Durability;
use crate::domain::limits::{CLOSE_SECONDS_MAX, LOG_FORMAT, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use crate::domain::refusal::Refusal;
use crate::engine::{Asker, Engine, NewInstance, Settings, Unanswered};
use crate::proto;
use crate::proto::api::error_service_server::ErrorServiceServer;
use crate::proto::api::instance_service_server::InstanceServiceServer;
use crate::proto::api::session_service_server::SessionServiceServer;
use crate::proto::api::thread_service_server::ThreadServiceServer;
use crate::proto::api::{
    error_service_server, instance_service_server, session_service_server, thread_service_server,
};
use crate::rpc::access::{Access, Guard};
use crate::rpc::ends::EndsWithServer;
use crate::rpc::error::Errors;
use crate::rpc::health;
use crate::rpc::instance::{AboutUs, Instances};
use crate::rpc::layers::CallLayer;
use crate::rpc::session::Sessions;
use crate::rpc::thread::Threads;
use crate::server::connection::Serving;
use crate::server::environment::System;
use crate::server::listener::Listener;
use crate::server::metrics::Metrics;
use crate::server::probes::Probes;
use crate::server::tls::Tls;
use crate::server::worker::Workers;
use crate::store::StoreError;
use crate::store::log::disk::RealDisk;
use crate::store::log::lock::{DirLock, NotLocked};
use crate::store::log::{LogStore, Work};
use crate::store::memory::MemoryStore;

pub use check::check;
pub use files::read as read_file;
pub use reload::{Apply, Reload};
pub use shutdown::{Order, Orders, signals};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit this program was built from.
pub const COMMIT: &str = env!("JET_SESSION_COMMIT");

/// The instance that exists and is initialised unless the operator says otherwise.
pub const DEFAULT_INSTANCE: &str = "main";

/// Why a server did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file that the configuration names cannot be used.
    #[error("{0}")]
    Configuration(Mistakes),
    /// A place cannot be listened at.
    #[error("cannot listen on {place}")]
    Listen {
        /// Where.
        place: Listen,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The address for probes cannot be listened at.
    #[error("cannot answer probes on {address}")]
    Probes {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The system gives no threads or timers.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The data directory cannot be had.
    #[error("cannot use the data directory")]
    Directory(#[source] NotLocked),
    /// What was remembered cannot be read.
    #[error("cannot read what the store remembers")]
    Store(#[source] StoreError),
    /// The default instance could not be made ready.
    #[error("the instance {DEFAULT_INSTANCE} could not be made ready: {0}")]
    DefaultInstance(crate::domain::jet_err::JetErr),
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every call in flight was answered.
    Graceful,
    /// Calls in flight were cut off, because the deadline passed or a second signal came.
    CutOff,
}

/// Where a server that is ready can be reached, with the real ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Where clients are listened to, in the order of the configuration.
    pub listening: Vec<Listen>,
    /// Where probes are listened to that ask for health in plaintext.
    pub health: Option<SocketAddr>,
    /// Where metrics are told, if they are.
    pub metrics: Option<SocketAddr>,
}

impl Ready {
    /// The first address that clients are listened to at, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listening.iter().find_map(|place| match place {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        })
    }
}

/// Runs a server on this thread until `orders` end it. `ready` is told where it can be reached, once calls
/// are answered.
pub fn run(
    config: &Config,
    orders: impl FnOnce() -> io::Result<Orders>,
    ready: impl FnOnce(Ready),
) -> Result<Ending, ServerError> {
    run_with(config, None, orders, ready)
}

/// The same, with a configuration that is read again on SIGHUP and when its files change.
pub fn run_reloading(
    config: &Config,
    reload: Reload,
    orders: impl FnOnce() -> io::Result<Orders>,
    ready: impl FnOnce(Ready),
) -> Result<Ending, ServerError> {
    run_with(config, Some(reload), orders, ready)
}

fn run_with(
    config: &Config,
    reload: Option<Reload>,
    orders: impl FnOnce() -> io::Result<Orders>,
    ready: impl FnOnce(Ready),
) -> Result<Ending, ServerError> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        // From here on SIGHUP does not end the process.
        let reload = reload.map(|reload| reload.begin(config)).transpose();
        let reload = reload.map_err(ServerError::Runtime)?;
        let (tls, access) = loaded(Tls::load(config), access::load(config))?;
        let (tls, guard) = (tls.map(Arc::new), Guard::new(access));
        let mut listeners = Vec::with_capacity(config.listen.len());
        for place in &config.listen {
            listeners.push(Listener::bind(place).await?);
        }
        let places = listeners.iter().map(Listener::place).collect::<io::Result<Vec<_>>>();
        let listening = places.map_err(ServerError::Runtime)?;
        let system = Arc::new(System::new());
        let (metrics, metrics_at) = Metrics::start(config, system.clone(), tls.clone())?;
        let probes = config.health_listen.map(Probes::bind).transpose()?;
        let probed = probes.as_ref().map(Probes::address).transpose();
        let probed = probed.map_err(ServerError::Runtime)?;
        let mut orders = orders().map_err(ServerError::Runtime)?;
        // Before anything is read: a second server on one directory ends here.
        let _lock = match &config.store {
            StoreKind::Memory => None,
            StoreKind::Log(dir) => Some(DirLock::make(dir).map_err(ServerError::Directory)?),
        };
        let reporter = health::reporter().await;
        let calls = |guard| CallLayer::new(metrics.panics.clone(), metrics.observer.clone(), guard);
        if let Some(probes) = probes {
            // From now on: what reads a long log is alive.
            let open = Guard::new(Access::Open);
            probes.answer(calls(open).layer(health::alone(&reporter)));
        }
        let engine = engine(config, system, &metrics).await?;
        let services = services(&engine, &guard, reporter, log_format(&config.store)).await;
        let tally = Arc::clone(&metrics.connections);
        let services = calls(guard.clone()).layer(services);
        let serving = Serving::new(config, services, tls.clone(), Arc::clone(&tally));
        let workers = Workers::start(config.threads, serving)?;
        for place in &listening {
            tracing::info!(address = %place, version = VERSION, commit = COMMIT, "serving");
        }
        if let Some(address) = probed {
            tracing::info!(%address, "answering probes");
        }
        metrics.serves(&engine);
        if let Some(reload) = reload {
            let reload = match tls {
                Some(tls) => reload.part("tls", move |config| tls.reload(config)),
                None => reload,
            };
            let reload = reload.part("auth", move |config| access::reload(&guard, config));
            reload.counted(Arc::clone(&metrics.reloads)).go_on().map_err(ServerError::Runtime)?;
        }
        ready(Ready { listening, health: probed, metrics: metrics_at });
        let most = config.max_connections;
        connection::accept(&listeners, &workers, most, &tally, orders.next()).await;
        drop(listeners);
        let ending = drain(engine, workers, &metrics, orders, config.drain).await;
        let (accepted, refused) = (tally.accepted(), tally.refused_over_limit());
        let (failed, open) = (tally.handshake_failed(), tally.open());
        tracing::info!(?ending, accepted, refused, failed, open, "stopped");
        Ok(ending)
    });
    // Does not wait for a disk that does not answer.
    runtime.shutdown_background();
    ended
}

/// What was read of both, or everything that is wrong with either.
fn loaded<T, A>(
    tls: Result<T, Vec<Mistake>>,
    access: Result<A, Vec<Mistake>>,
) -> Result<(T, A), ServerError> {
    match (tls, access) {
        (Ok(tls), Ok(access)) => Ok((tls, access)),
        (tls, access) => {
            let wrong = [tls.err(), access.err()].into_iter().flatten().flatten();
            Err(ServerError::Configuration(Mistakes(wrong.collect())))
        }
    }
}

/// Answers what is in flight, for so long, and closes the store.
async fn drain(
    engine: Engine,
    workers: Workers,
    metrics: &Metrics,
    mut orders: Orders,
    drain: Duration,
) -> Ending {
    tracing::info!(?drain, "draining");
    engine.drain();
    let deadline = tokio::time::sleep(drain);
    tokio::pin!(deadline);
    let mut ending = tokio::select! {
        () = workers.drain() => Ending::Graceful,
        () = &mut deadline => Ending::CutOff,
        () = orders.next() => Ending::CutOff,
    };
    // A disk that has stopped answering must not keep the process for ever. What was acknowledged is
    // safe without a seal.
    let patience = async {
        if ending == Ending::Graceful {
            deadline.await;
        }
        tokio::time::sleep(Duration::from_secs(CLOSE_SECONDS_MAX)).await;
    };
    // Every call has ended, so every span has too.
    let close = async {
        tokio::join!(engine.close(), metrics.observer.flush());
    };
    tokio::select! {
        () = close => {}
        () = patience => ending = Ending::CutOff,
        () = orders.next() => ending = Ending::CutOff,
    }
    ending
}

/// The engine over the configured store, with the default instance ready.
async fn engine(
    config: &Config,
    system: Arc<System>,
    metrics: &Metrics,
) -> Result<Engine, ServerError> {
    let meter = metrics.owners.clone();
    let settings =
        Settings { max_instances: config.max_instances, max_sessions: config.max_sessions };
    let engine = match &config.store {
        StoreKind::Memory => {
            Engine::start_metered(MemoryStore::default(), system, meter, settings).await
        }
        StoreKind::Log(dir) => {
            let store = LogStore::new(RealDisk, dir, Work::Pool);
            Engine::start_metered(store, system, meter, settings).await
        }
    }
    .map_err(ServerError::Store)?;
    if config.default_instance {
        let id: InstanceId = DEFAULT_INSTANCE.parse().expect("the default instance has a good id");
        if matches!(engine.instance(&id), Err(Unanswered::NoSuchInstance)) {
            let main = NewInstance {
                id,
                labels: Labels::default(),
                max_sessions: None,
                durability: Durability::default(),
                ready: true,
            };
            let unready = |refusal: Unanswered<_>| ServerError::DefaultInstance(refusal.jet_err());
            engine.create(main, Asker::once(Principal::anonymous())).await.map_err(unready)?;
        }
    }
    Ok(engine)
}

/// Everything that answers, as one service.
async fn services(
    engine: &Engine,
    guard: &Guard,
    reporter: HealthReporter,
    log_format: u32,
) -> Routes {
    let health_service = health::service(&reporter, guard.clone());
    const NAMES: [&str; 4] = [
        session_service_server::SERVICE_NAME,
        instance_service_server::SERVICE_NAME,
        thread_service_server::SERVICE_NAME,
        error_service_server::SERVICE_NAME,
    ];
    health::report(engine.clone(), reporter, &NAMES).await;

    let sessions = SessionServiceServer::new(Sessions::new(engine.clone(), guard.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let about_us = AboutUs { version: VERSION, commit: COMMIT, log_format };
    let instances =
        InstanceServiceServer::new(Instances::new(engine.clone(), guard.clone(), about_us))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let threads = ThreadServiceServer::new(Threads::new(engine.clone(), guard.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let errors = ErrorServiceServer::new(Errors::new(guard.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    // Either version of reflection tells of both.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .include_reflection_service(false)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            )
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
    };
    let ours = "our own descriptor set can be read";
    Routes::new(sessions)
        .add_service(instances)
        .add_service(threads)
        .add_service(errors)
        .add_service(health_service)
        .add_service(EndsWithServer::new(reflection().build_v1().expect(ours), engine))
        .add_service(EndsWithServer::new(reflection().build_v1alpha().expect(ours), engine))
        .prepare()
}

/// The format of the logs that a store writes; 0 if it writes none.
fn log_format(store: &StoreKind) -> u32 {
    match store {
        StoreKind::Memory => 0,
        StoreKind::Log(_) => LOG_FORMAT,
    }
}

fn runtime() -> Result<Runtime, ServerError> {
    Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)
}
