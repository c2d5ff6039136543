//! Every setting there is: its name, its default, what it means, and why.
//!
//! Flags, variables, the file and docs/configuration.md are all made from this table.

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Switch,
    /// A whole number.
    Number,
    /// A number with a fraction.
    Fraction,
    /// A number of seconds, or a text such as `1m30s`.
    Duration,
    /// A text.
    Text,
    /// Texts: an array in the file, separated by commas in the environment, a flag each.
    List,
}

/// When a change of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// At the next reload: SIGHUP, or a change of the file that it names.
    Reload,
    /// At the next start.
    Restart,
}

/// A setting.
#[derive(Debug)]
pub struct Key {
    /// Its name, such as `tls.key`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What stands for its value in help, such as `FILE`; empty for a switch.
    pub value: &'static str,
    /// Its value if nobody gives one, as it would be written; empty if it then has none.
    pub default: &'static str,
    /// What it means, as a line of help.
    pub help: &'static str,
    /// Why it has its default, or its bounds, and what else an operator should know.
    pub why: &'static str,
    /// When a change takes effect.
    pub takes: Takes,
    /// Whether nobody may read its value.
    pub secret: bool,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Self {
        let (default, why) = ("", "");
        Self { name, kind, value, default, help, why, takes: Takes::Restart, secret: false }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn why(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    const fn live(self) -> Self {
        Self { takes: Takes::Reload, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// The variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The key of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }
}

/// What all our variables begin with.
pub const PREFIX: &str = "JET_SESSION_";

/// Where a server keeps its data that was not told where.
pub const DATA_DIR: &str = "jet-session-data";

/// Variables that begin so and are not settings of a server: most are the command line's own.
pub(super) const OTHER_VARIABLES: &[&str] = &[
    // Of the build: cargo passes it on to what it runs.
    "JET_SESSION_COMMIT",
    "JET_SESSION_CA",
    "JET_SESSION_CERT",
    "JET_SESSION_CONFIG",
    "JET_SESSION_INSTANCE",
    "JET_SESSION_KEY",
    "JET_SESSION_SERVER",
    "JET_SESSION_SERVER_NAME",
    "JET_SESSION_THREAD",
    "JET_SESSION_TOKEN",
    "JET_SESSION_TOKEN_FILE",
];

/// Every setting, in the order in which they are told.
pub static KEYS: &[Key] = &[
    Key::new("listen", Kind::List, "ADDR", "Address to listen on, or unix:PATH; may be repeated")
        .default("127.0.0.1:50051")
        .why(
            "Port 0 lets the system choose. Other machines cannot reach the loopback address; for any other \
             either `tls.certificate` or `insecure` is needed. A socket in the file system is as open as its \
             directory.",
        ),
    Key::new("insecure", Kind::Switch, "", "Allow plaintext on an address that other machines can reach")
        .default("false")
        .why(
            "Whoever sees the traffic can read tokens and take sessions, so it must be said. For a network \
             that is encrypted otherwise, such as a service mesh.",
        ),
    Key::new("health_listen", Kind::Text, "ADDR", "Address for plaintext health checks only (grpc.health.v1)")
        .why(
            "A kubelet's probes speak no TLS and show no token. Nothing but health is served there. Off unless \
             given.",
        ),
    Key::new("metrics_listen", Kind::Text, "ADDR", "Address for /metrics, /healthz and /readyz over HTTP/1.1")
        .why("Apart from the clients' port, so that it can be kept from clients. Off unless given."),
    Key::new("store", Kind::Text, "STORE", "Where to remember: log or memory")
        .default("log")
        .why(
            "`log` keeps what was answered in `data_dir`. `memory` keeps nothing: after a restart every session \
             is gone. `etcd` is not part of this release.",
        ),
    Key::new("data_dir", Kind::Text, "DIR", "Directory of the store log; it is made if it is not there")
        .default(DATA_DIR)
        .why("One server at a time has it. On a local disk: a network file system may promise less than it keeps."),
    Key::new("default_instance", Kind::Switch, "", "Create and initialise the instance main")
        .default("true")
        .why("So that a fresh server answers at once. On the command line: `--no-default-instance`."),
    Key::new("max_instances", Kind::Number, "N", "Instances that the server may have")
        .default("1024")
        .why("An idle instance costs a task and a few KiB of memory; a busy one up to 64 MiB of disk for its history."),
    Key::new("max_sessions", Kind::Number, "N", "Sessions that an instance may have when it is created without a number")
        .default("10000")
        .why("From 1 to 10,000,000. A session takes some 110 bytes of memory, up to 1.4 KiB with the longest names and labels."),
    Key::new("max_connections", Kind::Number, "N", "Connections of clients at a time")
        .default("10000")
        .why(
            "One that is idle takes up to 16 KiB and a file descriptor; one over the bound is closed at once. \
             The limit of open files (`ulimit -n`) must leave room for it.",
        ),
    Key::new("threads", Kind::Number, "N", "Threads that serve connections")
        .why("One per core unless given. With one, no call ever crosses from thread to thread."),
    Key::new("drain", Kind::Duration, "DURATION", "How long calls in flight may take after SIGTERM")
        .default("10s")
        .why(
            "Up to an hour. Whatever stops the process must wait a second longer than this before it kills \
             (`terminationGracePeriodSeconds`, `stop_grace_period`, `TimeoutStopSec`).",
        ),
    Key::new("log.format", Kind::Text, "FORMAT", "How log lines on stderr look: auto, pretty or json")
        .default("auto")
        .why("`auto` is pretty on a terminal and JSON, one object a line, everywhere else."),
    Key::new("log.level", Kind::Text, "LEVEL", "How much is logged on stderr: off, error, warn, info, debug or trace")
        .default("info")
        .why(
            "`info` tells starts, ends, phases and what operators do. `debug` has a line for every call and costs \
             as much as the call.",
        )
        .live(),
    Key::new("tls.certificate", Kind::Text, "FILE", "The server's certificate chain, as PEM")
        .why("With it all of `listen` but sockets in the file system speak TLS. Read again at a reload; connections go on.")
        .live(),
    Key::new("tls.key", Kind::Text, "FILE", "The private key of tls.certificate, as PEM")
        .why("A file that others may read is refused, and so is one of a foreign group.")
        .live(),
    Key::new("tls.client_ca", Kind::Text, "FILE", "Roots of the certificates that clients show, as PEM")
        .why(
            "The principal is the URI in the certificate (SPIFFE), or else its first DNS name. Needs `auth.policy`: \
             nobody may do anything that no rule allows.",
        )
        .live(),
    Key::new("tls.client_auth", Kind::Text, "WHO", "Whether every client must show a certificate: require or optional")
        .default("require")
        .why("`optional` lets in whoever has a token instead, or is `anonymous`."),
    Key::new("tls.min_version", Kind::Text, "VERSION", "The oldest TLS that is spoken: 1.2 or 1.3")
        .default("1.3")
        .why("Every gRPC library of the last years speaks 1.3."),
    Key::new("auth.tokens", Kind::Text, "FILE", "Bearer tokens and whose they are, as TOML")
        .why("Only their SHA-256 is in it, so who reads it can do nothing with it. Needs `auth.policy`.")
        .live(),
    Key::new("auth.policy", Kind::Text, "FILE", "Who may do what, as TOML")
        .why("Without it, and without anything that tells clients apart, everybody may do everything.")
        .live(),
    Key::new("otlp.endpoint", Kind::Text, "URL", "Collector that traces are sent to (OTLP over gRPC)")
        .why("Off unless given: a span for every call that is told costs as much as the call."),
    Key::new("otlp.headers", Kind::List, "NAME=VALUE", "What is sent along with each export; may be repeated")
        .why("A collector's credentials. Never printed.")
        .secret(),
    Key::new("otlp.sample_ratio", Kind::Fraction, "RATIO", "Part of the traces that begin here which is told")
        .default("1.0")
        .why("From 0 to 1. Of a trace that others began they have decided."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_four_ways() {
        let key = Key::of("tls.client_ca").unwrap();
        assert_eq!(key.flag(), "tls-client-ca");
        assert_eq!(key.variable(), "JET_SESSION_TLS_CLIENT_CA");
        let mut variables: Vec<_> = KEYS.iter().map(Key::variable).collect();
        variables.extend(OTHER_VARIABLES.iter().map(ToString::to_string));
        let count = variables.len();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), count, "two settings share a variable");
    }

    #[test]
    fn every_setting_says_what_it_means_and_why() {
        for key in KEYS {
            assert!(!key.help.is_empty() && !key.help.ends_with('.'), "{}", key.name);
            assert!(key.why.ends_with('.'), "{}", key.name);
            assert_eq!(key.value.is_empty(), key.kind == Kind::Switch, "{}", key.name);
        }
    }
}
