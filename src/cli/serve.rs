//! `jet-session serve`: run a server until SIGTERM or SIGINT.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::domain::limits;
use crate::server::{self, Config, Ending, ServerError, StoreKind};
use crate::telemetry::{self, LogFormat, LogLevel};

use super::DATA_DIR;

/// Options of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)))]
    listen: SocketAddr,

    /// Allow plaintext on an address that other machines can reach
    #[arg(long)]
    insecure: bool,

    /// Where to remember sessions
    #[arg(long, value_name = "STORE", default_value = "log")]
    store: Store,

    /// Directory of the store `log`; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    data_dir: PathBuf,

    /// Sessions that an instance may have when it is created without a number
    #[arg(long, value_name = "N", default_value_t = limits::SESSIONS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SESSIONS_MAX)))]
    max_sessions: u32,

    /// Instances that the server may have
    #[arg(long, value_name = "N", default_value_t = limits::INSTANCES_DEFAULT)]
    max_instances: usize,

    /// Do not create and initialise the instance `main`
    #[arg(long)]
    no_default_instance: bool,

    /// Threads that serve connections [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Seconds that calls in flight may take after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = limits::DRAIN_SECONDS_DEFAULT)]
    drain: u64,

    /// How log lines on stderr look
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,

    /// How much is logged on stderr
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// In memory: nothing survives the process
    Memory,
    /// An embedded log in a directory: what was answered survives
    Log,
    /// A cluster on etcd (not in this release)
    Etcd,
}

/// Why `serve` ended badly, as one sentence for an operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("--store {0} is not part of this release yet; use --store log, or --store memory")]
    StoreNotYet(&'static str),
    #[error(
        "{0} can be reached from other machines and this release speaks plaintext only; \
         listen on a loopback address, or add --insecure if the network is yours"
    )]
    NotLoopback(IpAddr),
    #[error("cannot listen on {0}: the address is in use; choose another with --listen")]
    InUse(SocketAddr),
    #[error("{0}: {cause}", cause = cause_of(.0))]
    Server(#[source] ServerError),
    #[error("the drain deadline passed and calls in flight were cut off")]
    CutOff,
}

/// Everything behind an error, in one line.
fn cause_of(error: &ServerError) -> String {
    let mut line = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let separator = if line.is_empty() { "" } else { ": " };
        line.push_str(separator);
        line.push_str(&next.to_string());
        cause = next.source();
    }
    if line.is_empty() { "no cause is known".to_owned() } else { line }
}

/// Serves until a signal comes.
pub(super) fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let store = match args.store {
        Store::Memory => StoreKind::Memory,
        Store::Log => StoreKind::Log(args.data_dir.clone()),
        Store::Etcd => return Err(ServeError::StoreNotYet("etcd")),
    };
    let ip = args.listen.ip();
    if !ip.is_loopback() && !args.insecure {
        return Err(ServeError::NotLoopback(ip));
    }
    telemetry::start(args.log_format, args.log_level);
    if !ip.is_loopback() {
        tracing::warn!(listen = %args.listen, "INSECURE: plaintext, and anybody who reaches this address may do anything");
    }
    let defaults = Config::new(args.listen);
    let config = Config {
        store,
        default_instance: !args.no_default_instance,
        max_instances: args.max_instances,
        max_sessions: args.max_sessions,
        threads: args.threads.unwrap_or(defaults.threads),
        drain: Duration::from_secs(args.drain),
        ..defaults
    };
    match server::run(&config, server::signals, |address| say_ready(address, &config.store)) {
        Ok(Ending::Graceful) => Ok(()),
        Ok(Ending::CutOff) => Err(ServeError::CutOff),
        Err(ServerError::Listen { address, source })
            if source.kind() == io::ErrorKind::AddrInUse =>
        {
            Err(ServeError::InUse(address))
        }
        Err(error) => Err(ServeError::Server(error)),
    }
}

/// Lines for whoever started it: the address, where the data is, and a command to paste.
fn say_ready(address: SocketAddr, store: &StoreKind) {
    let data = match store {
        StoreKind::Memory => "in memory; it ends with the process".to_owned(),
        StoreKind::Log(dir) => {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            format!("in {}", dir.display())
        }
    };
    let lines = format!(
        "listening on {address}\n\
         data: {data}\n\
         try: grpcurl -plaintext -d '{{\"instance\":\"instances/main\"}}' {address} \
         jet.session.v1.SessionService/BeginSession\n"
    );
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()) {
        // Nobody reads; the log says the same.
        tracing::debug!(%error, "the ready line could not be written");
    }
}
