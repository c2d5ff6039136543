//! Every setting there is.
//!
//! Flags, variables, the file, what is refused and docs/configuration.md are all made from this table.

use crate::config::key::{Key, Kind};
use crate::config::words;
use crate::domain::limits::{
    CONNECTIONS_MAX, DRAIN_SECONDS_MAX, INSTANCES_MAX, LISTENERS_MAX, OTLP_HEADERS_MAX,
    SESSIONS_MAX, THREADS_MAX,
};

/// Where a server keeps its data that was not told where.
pub const DATA_DIR: &str = "jet-session-data";

/// A number of at least one.
const fn up_to(most: u64) -> Kind {
    Kind::Number { least: 1, most }
}

/// Every setting, in the order in which they are told.
pub static KEYS: &[Key] = &[
    Key::new("listen", Kind::Places { most: LISTENERS_MAX }, "ADDR", "Address to listen on, or unix:PATH; may be repeated")
        .default("127.0.0.1:50051")
        .why(
            "Port 0 lets the system choose. Other machines cannot reach the loopback address; for any other \
             either `tls.certificate` or `insecure` is needed. A socket in the file system is for the server's user \
             and group, and as open as its directory.",
        ),
    Key::new("insecure", Kind::Switch, "", "Allow plaintext on an address that other machines can reach")
        .default("false")
        .why(
            "Whoever sees the traffic can read tokens and take sessions, so it must be said. For a network \
             that is encrypted otherwise, such as a service mesh.",
        ),
    Key::new("health_listen", Kind::Address, "ADDR", "Address for plaintext health checks only (grpc.health.v1)")
        .why("A kubelet's probes speak no TLS and show no token. Nothing but health is served there."),
    Key::new("metrics_listen", Kind::Address, "ADDR", "Address for /metrics, /healthz and /readyz over HTTP/1.1")
        .why("Apart from the clients' port, so that it can be kept from clients."),
    Key::new("store", Kind::Word(words::STORE_NAMES), "STORE", "Where to remember")
        .default("log")
        .why(
            "`log` keeps what was answered in `data_dir`. `memory` keeps nothing: after a restart every session \
             is gone. `etcd` is not part of this release.",
        ),
    Key::new("data_dir", Kind::Path, "DIR", "Directory of the store log; it is made if it is not there")
        .default(DATA_DIR)
        .why("One server at a time has it. On a local disk: a network file system may promise less than it keeps."),
    Key::new("default_instance", Kind::Switch, "", "Create and initialise the instance main")
        .default("true")
        .why("So that a fresh server answers at once. On the command line: `--no-default-instance`."),
    Key::new("max_instances", up_to(INSTANCES_MAX as u64), "N", "Instances that the server may have")
        .default("1024")
        .why("An idle instance costs a task and a few KiB of memory; a busy one up to 64 MiB of disk for its history."),
    Key::new("max_sessions", up_to(SESSIONS_MAX as u64), "N", "Sessions that an instance may have when it is created without a number")
        .default("10000")
        .why("A session takes some 110 bytes of memory, up to 1.4 KiB with the longest names and labels."),
    Key::new("max_connections", up_to(CONNECTIONS_MAX as u64), "N", "Connections of clients at a time")
        .default("10000")
        .why(
            "One that is idle takes up to 16 KiB and a file descriptor; one over the bound is closed at once. \
             The limit of open files (`ulimit -n`) must leave room for it.",
        ),
    Key::new("threads", up_to(THREADS_MAX as u64), "N", "Threads that serve connections, by default one a core")
        .why("With one, no call ever crosses from thread to thread."),
    Key::new("drain", Kind::Duration { most: DRAIN_SECONDS_MAX }, "DURATION", "How long calls in flight may take after SIGTERM")
        .default("10s")
        .why(
            "Whatever stops the process must wait a second longer than this before it kills \
             (`terminationGracePeriodSeconds`, `stop_grace_period`, `TimeoutStopSec`).",
        ),
    Key::new("log.format", Kind::Word(words::LOG_FORMAT_NAMES), "FORMAT", "How log lines on stderr look")
        .default("auto")
        .why("`auto` is pretty on a terminal and JSON, one object a line, everywhere else."),
    Key::new("log.level", Kind::Word(words::LOG_LEVEL_NAMES), "LEVEL", "How much is logged on stderr")
        .default("info")
        .why(
            "`info` tells starts, ends, phases and what operators do. `debug` has a line for every call and costs \
             as much as the call.",
        )
        .live(),
    Key::new("tls.certificate", Kind::Path, "FILE", "The server's certificate chain, as PEM")
        .with("tls.key")
        .why("With it all of `listen` but sockets in the file system speak TLS. Read again at a reload; connections go on.")
        .live(),
    Key::new("tls.key", Kind::Path, "FILE", "The private key of tls.certificate, as PEM")
        .with("tls.certificate")
        .why("A file that others may read is refused, and so is one of a foreign group.")
        .live(),
    Key::new("tls.client_ca", Kind::Path, "FILE", "Roots of the certificates that clients show, as PEM")
        .with("tls.certificate")
        .why(
            "The principal is the URI in the certificate (SPIFFE), or else its first DNS name. Needs `auth.policy`: \
             nobody may do anything that no rule allows.",
        )
        .live(),
    Key::new("tls.client_auth", Kind::Word(words::CLIENT_AUTH_NAMES), "WHO", "Whether every client must show a certificate")
        .with("tls.client_ca")
        .default("require")
        .why("`optional` lets in whoever has a token instead, or is `anonymous`."),
    Key::new("tls.min_version", Kind::Word(words::TLS_VERSION_NAMES), "VERSION", "The oldest TLS that is spoken")
        .with("tls.certificate")
        .default("1.3")
        .why("Every gRPC library of the last years speaks 1.3."),
    Key::new("auth.tokens", Kind::Path, "FILE", "Bearer tokens and whose they are, as TOML")
        .why("Only their SHA-256 is in it, so who reads it can do nothing with it. Needs `auth.policy`.")
        .live(),
    Key::new("auth.policy", Kind::Path, "FILE", "Who may do what, as TOML")
        .why("Without it, and without anything that tells clients apart, everybody may do everything.")
        .live(),
    Key::new("otlp.endpoint", Kind::Url, "URL", "Collector that traces are sent to (OTLP over gRPC)")
        .why(
            "A span for every call that is told costs as much as the call. Credentials go into `otlp.headers`, not \
             in here.",
        ),
    Key::new("otlp.headers", Kind::Headers { most: OTLP_HEADERS_MAX }, "NAME=VALUE", "What is sent along with each export; may be repeated")
        .with("otlp.endpoint")
        .why(
            "A collector's credentials. Never printed; but everybody on the machine can read a command line. In the \
             variable a comma ends a header, so a value that has one can only be written in the file.",
        )
        .secret(),
    Key::new("otlp.sample_ratio", Kind::Ratio, "RATIO", "Part of the traces that begin here which is told")
        .with("otlp.endpoint")
        .default("1.0")
        .why("Of a trace that others began they have decided."),
];
