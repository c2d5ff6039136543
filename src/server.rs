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
mod connection;
mod environment;
mod listener;
mod preface;
mod shutdown;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::Layer;

use crate::config::{Config, Listen, Mistakes, StoreKind};
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
use crate::rpc::access::Guard;
use crate::rpc::error::Errors;
use crate::rpc::health;
use crate::rpc::instance::{AboutUs, Instances};
use crate::rpc::layers::{CallLayer, Calls};
use crate::rpc::session::Sessions;
use crate::rpc::thread::Threads;
use crate::server::environment::System;
use crate::server::listener::Listener;
use crate::server::worker::Workers;
use crate::store::StoreError;
use crate::store::log::disk::RealDisk;
use crate::store::log::lock::{DirLock, NotLocked};
use crate::store::log::{LogStore, Work};
use crate::store::memory::MemoryStore;

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
    /// A place cannot be listened at.
    #[error("cannot listen on {place}")]
    Listen {
        /// Where.
        place: Listen,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The system gives no threads or timers.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// Who may do what cannot be read.
    #[error("cannot tell who may do what")]
    Access(#[source] Mistakes),
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
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let listeners = config.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let places = listeners.iter().map(Listener::place).collect::<io::Result<Vec<_>>>();
        let listening = places.map_err(ServerError::Runtime)?;
        let orders = orders().map_err(ServerError::Runtime)?;
        // Before anything is read: a second server on one directory ends here.
        let _lock = match &config.store {
            StoreKind::Memory => None,
            StoreKind::Log(dir) => Some(DirLock::make(dir).map_err(ServerError::Directory)?),
        };
        let guard = access::load(config)
            .map(Guard::new)
            .map_err(|wrong| ServerError::Access(Mistakes(wrong)))?;
        let engine = engine(config).await?;
        let services = services(&engine, guard, log_format(&config.store));
        let workers = Workers::start(config.threads, services)?;
        for place in &listening {
            tracing::info!(address = %place, version = VERSION, commit = COMMIT, "serving");
        }
        ready(Ready { listening });
        Ok(serve(listeners, engine, workers, orders, config.drain).await)
    });
    // Does not wait for a disk that does not answer.
    runtime.shutdown_background();
    ended
}

/// Accepts connections until the first order, then drains.
async fn serve(
    listeners: Vec<Listener>,
    engine: Engine,
    workers: Workers,
    mut orders: Orders,
    drain: Duration,
) -> Ending {
    connection::accept(&listeners, &workers, orders.next()).await;
    drop(listeners);
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
    tokio::select! {
        () = engine.close() => {}
        () = patience => ending = Ending::CutOff,
        () = orders.next() => ending = Ending::CutOff,
    }
    tracing::info!(?ending, "stopped");
    ending
}

/// The engine over the configured store, with the default instance ready.
async fn engine(config: &Config) -> Result<Engine, ServerError> {
    let settings =
        Settings { max_instances: config.max_instances, max_sessions: config.max_sessions };
    let engine = match &config.store {
        StoreKind::Memory => {
            Engine::start(MemoryStore::default(), Arc::new(System::new()), settings).await
        }
        StoreKind::Log(dir) => {
            let store = LogStore::new(RealDisk, dir, Work::Pool);
            Engine::start(store, Arc::new(System::new()), settings).await
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
fn services(engine: &Engine, guard: Guard, log_format: u32) -> Calls<Routes> {
    let reporter = HealthReporter::new();
    let health_service = health::service(reporter.clone(), guard.clone());
    const NAMES: [&str; 4] = [
        session_service_server::SERVICE_NAME,
        instance_service_server::SERVICE_NAME,
        thread_service_server::SERVICE_NAME,
        error_service_server::SERVICE_NAME,
    ];
    tokio::spawn(health::report(engine.clone(), reporter, &NAMES));

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
    let routes = Routes::new(sessions)
        .add_service(instances)
        .add_service(threads)
        .add_service(errors)
        .add_service(health_service)
        .add_service(reflection().build_v1().expect(ours))
        .add_service(reflection().build_v1alpha().expect(ours))
        .prepare();
    CallLayer::new(guard).layer(routes)
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
