//! How a server is to be: one typed value, complete and right before anything starts.
//!
//! A setting has one name, written four ways: `tls.key` is `--tls-key` on the command line,
//! `JET_SESSION_TLS_KEY` in the environment, `key` in the table `[tls]` of the file, and `tls.key` wherever
//! we speak of it.
//!
//! Must never: read a file, a socket or the environment. What was found there is an argument.
//!
//! In reading order: `key` and `keys`, the table that everything else goes by; `sources`, with `environment` and
//! `file`, for what was said and by whom; `read`, with `value` and `words`, for what it comes to; `print` and
//! `change` for the way back; `reference` for docs/configuration.md.

mod change;
mod environment;
mod file;
mod key;
mod keys;
mod policy;
mod print;
mod read;
mod reference;
mod sources;
mod tables;
mod tokens;
mod value;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::limits::{
    CONNECTIONS_DEFAULT, DRAIN_SECONDS_DEFAULT, INSTANCES_DEFAULT, SESSIONS_DEFAULT,
    SILENCE_SECONDS_MAX,
};

pub use key::{CONFIG_VARIABLE, Key, Kind, PREFIX, Takes};
pub use keys::{DATA_DIR, KEYS};
pub use policy::policy;
pub use read::Loaded;
pub use reference::markdown;
pub use sources::{File, Mistake, Mistakes, Source, Sources};
pub use tables::Document;
pub use tokens::{Entry, token_principal, tokens};

/// How a server is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients are listened to; at least one place.
    pub listen: Vec<Listen>,
    /// Whether plaintext is allowed on an address that other machines can reach.
    pub insecure: bool,
    /// Where kubelets and other probes that speak no TLS ask for health.
    pub health_listen: Option<SocketAddr>,
    /// Where metrics are told.
    pub metrics_listen: Option<SocketAddr>,
    /// Where to remember.
    pub store: StoreKind,
    /// Whether the instance `main` is created and initialised.
    pub default_instance: bool,
    /// How many instances there may be.
    pub max_instances: usize,
    /// How many sessions an instance may have that is created without a number.
    pub max_sessions: u32,
    /// How many connections of clients there may be.
    pub max_connections: usize,
    /// How long a new connection may take to become one. No setting: nobody needs another, and tests cannot
    /// wait that long.
    pub silence: Duration,
    /// How many threads serve connections.
    pub threads: NonZeroUsize,
    /// How long calls in flight may take when the server goes down.
    pub drain: Duration,
    /// What is logged, and how it looks.
    pub log: Log,
    /// How clients are spoken to in secret; in plaintext if absent.
    pub tls: Option<Tls>,
    /// Who is who, and who may do what.
    pub auth: Auth,
    /// Where traces go, if anywhere.
    pub otlp: Option<Otlp>,
}

impl Config {
    /// What an operator gets who says nothing but where to listen, and keeps nothing.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen: vec![Listen::Tcp(listen)],
            insecure: false,
            health_listen: None,
            metrics_listen: None,
            store: StoreKind::Memory,
            default_instance: true,
            max_instances: INSTANCES_DEFAULT,
            max_sessions: SESSIONS_DEFAULT,
            max_connections: CONNECTIONS_DEFAULT,
            silence: Duration::from_secs(SILENCE_SECONDS_MAX),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            drain: Duration::from_secs(DRAIN_SECONDS_DEFAULT),
            log: Log::default(),
            tls: None,
            auth: Auth::default(),
            otlp: None,
        }
    }

    /// Whether anybody can be told from anybody else, or may do less than everything.
    pub fn restricts(&self) -> bool {
        let identifies = self.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        identifies || self.auth.tokens.is_some() || self.auth.policy.is_some()
    }
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket in the file system, which only this machine reaches.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
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

/// What is logged, and how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// How log lines look.
    pub format: LogFormat,
    /// How much is logged.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For programs: one JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What an operator must look at.
    Error,
    /// What an operator may want to look at.
    Warn,
    /// Starts, ends, phases, operators' acts.
    #[default]
    Info,
    /// Every call, as a span with instance, session, thread and JET code.
    Debug,
    /// Everything, libraries included.
    Trace,
}

/// How clients are spoken to in secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate and those that lead to its root, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// Whose certificates clients must or may show; nobody's if absent.
    pub clients: Option<Clients>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// Whose certificates clients show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The roots that they lead to, as PEM.
    pub ca: PathBuf,
    /// Whether every client must show one.
    pub auth: ClientAuth,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Without one there is no connection.
    #[default]
    Require,
    /// Whoever shows none is known by a token, or is `anonymous`.
    Optional,
}

/// A version of TLS (RFC 8446, RFC 5246).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// 1.2, for clients that cannot do better.
    V1_2,
    /// 1.3.
    #[default]
    V1_3,
}

/// Who is who, and who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// The file of bearer tokens.
    pub tokens: Option<PathBuf>,
    /// The file that says who may do what.
    pub policy: Option<PathBuf>,
}

/// Where traces go (OpenTelemetry protocol, over gRPC).
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The collector, such as `http://localhost:4317`.
    pub endpoint: String,
    /// What is sent along with each export, such as a collector's credentials.
    pub headers: Vec<(String, Secret)>,
    /// How many of the traces that begin here are told, between 0 and 1. Of those that others began, they
    /// have decided.
    pub sample_ratio: f64,
}

/// What nobody may read in a log or in a printed configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
