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

mod connection;
mod environment;
mod shutdown;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tower::Layer;

use crate::domain::id::{InstanceId, Labels, Principal};
use crate::domain::instance::Durability;
use crate::domain::limits::{
    CLOSE_SECONDS_MAX, INSTANCES_DEFAULT, LISTEN_BACKLOG, LOG_FORMAT, REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX, SESSIONS_DEFAULT,
};
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
use crate::rpc::error::Errors;
use crate::rpc::health;
use crate::rpc::instance::{AboutUs, Instances};
use crate::rpc::layers::{CallLayer, Calls};
use crate::rpc::session::Sessions;
use crate::rpc::thread::Threads;
use crate::server::environment::System;
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

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where to remember.
    pub store: StoreKind,
    /// Whether the instance `main` is created and initialised.
    pub default_instance: bool,
    /// How many instances there may be.
    pub max_instances: usize,
    /// How many sessions an instance may have that is created without a number.
    pub max_sessions: u32,
    /// How many threads serve connections.
    pub threads: NonZeroUsize,
    /// How long calls in flight may take when the server goes down.
    pub drain: Duration,
}

impl Config {
    /// What an operator gets who says nothing but where to listen.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            store: StoreKind::Memory,
            default_instance: true,
            max_instances: INSTANCES_DEFAULT,
            max_sessions: SESSIONS_DEFAULT,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            drain: Duration::from_secs(crate::domain::limits::DRAIN_SECONDS_DEFAULT),
        }
    }
}

/// Where to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// In memory: nothing survives the process.
    Memory,
    /// In logs in this directory, which is made if need be.
    Log(PathBuf),
}

impl StoreKind {
    /// The format of the logs that it writes; 0 if it writes none.
    fn log_format(&self) -> u32 {
        match self {
            Self::Memory => 0,
            Self::Log(_) => LOG_FORMAT,
        }
    }
}

/// Why a server did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
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

/// Runs a server on this thread until `orders` end it. `ready` is told the address, with the real
/// port, once calls are answered.
pub fn run(
    config: &Config,
    orders: impl FnOnce() -> io::Result<Orders>,
    ready: impl FnOnce(SocketAddr),
) -> Result<Ending, ServerError> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let listener = listen(config.listen)?;
        let address = listener.local_addr().map_err(ServerError::Runtime)?;
        let orders = orders().map_err(ServerError::Runtime)?;
        // Before anything is read: a second server on one directory ends here.
        let _lock = match &config.store {
            StoreKind::Memory => None,
            StoreKind::Log(dir) => Some(DirLock::make(dir).map_err(ServerError::Directory)?),
        };
        let engine = engine(config).await?;
        let workers = Workers::start(config.threads, services(&engine, config.store.log_format()))?;
        ready(address);
        tracing::info!(%address, version = VERSION, commit = COMMIT, "serving");
        Ok(serve(listener, engine, workers, orders, config.drain).await)
    });
    // Does not wait for a disk that does not answer.
    runtime.shutdown_background();
    ended
}

/// Accepts connections until the first order, then drains.
async fn serve(
    listener: TcpListener,
    engine: Engine,
    workers: Workers,
    mut orders: Orders,
    drain: Duration,
) -> Ending {
    connection::accept(&listener, &workers, orders.next()).await;
    drop(listener);
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
fn services(engine: &Engine, log_format: u32) -> Calls<Routes> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    const NAMES: [&str; 4] = [
        session_service_server::SERVICE_NAME,
        instance_service_server::SERVICE_NAME,
        thread_service_server::SERVICE_NAME,
        error_service_server::SERVICE_NAME,
    ];
    tokio::spawn(health::report(engine.clone(), reporter, &NAMES));

    let sessions = SessionServiceServer::new(Sessions::new(engine.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let about_us = AboutUs { version: VERSION, commit: COMMIT, log_format };
    let instances = InstanceServiceServer::new(Instances::new(engine.clone(), about_us))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let threads = ThreadServiceServer::new(Threads::new(engine.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let errors = ErrorServiceServer::new(Errors)
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
    CallLayer.layer(routes)
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted server takes its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(LISTEN_BACKLOG)
    };
    bind().map_err(|source| ServerError::Listen { address, source })
}

fn runtime() -> Result<Runtime, ServerError> {
    Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)
}
