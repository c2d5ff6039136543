//! From what was said to a [`Config`], or to everything that is wrong with it.
//!
//! A setting that is wrong has no value, and what goes by several settings goes by those that have one: so each
//! mistake is told, and none because of another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::config::key::Key;
use crate::config::sources::{Gathered, Mistakes, Said, Source, Sources};
use crate::config::value::{self, Rule};
use crate::config::words::{CLIENT_AUTHS, LOG_FORMATS, LOG_LEVELS, StoreWord, TLS_VERSIONS};
use crate::config::{Auth, Clients, Config, KEYS, Listen, Log, Otlp, Secret, StoreKind, Tls};
use crate::domain::limits::SILENCE_SECONDS_MAX;

/// A configuration, and who said what of it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    pub(super) sources: BTreeMap<&'static str, Source>,
}

impl Loaded {
    /// Reads what was said. All mistakes are told, not only the first.
    pub fn read(sources: &Sources) -> Result<Self, Mistakes> {
        let mut reader = Reader(Gathered::from(sources));
        let config = reader.config();
        let Gathered { said, mistakes, .. } = reader.0;
        match config {
            Some(config) if mistakes.is_empty() => {
                let sources = said.into_iter().map(|(name, said)| (name, said.source));
                Ok(Self { config, sources: sources.collect() })
            }
            _ => Err(Mistakes(mistakes)),
        }
    }

    /// Who said what a setting is.
    pub fn source(&self, key: &Key) -> &Source {
        self.sources.get(key.name).unwrap_or(&Source::Default)
    }
}

struct Reader(Gathered);

impl Reader {
    fn config(&mut self) -> Option<Config> {
        let listen = self.list("listen", value::place);
        let insecure = self.one("insecure", value::switch);
        let health_listen = self.optional("health_listen", value::address);
        let metrics_listen = self.optional("metrics_listen", value::address);
        let store = self.store();
        let default_instance = self.one("default_instance", value::switch);
        let max_instances = self.one("max_instances", value::number);
        let max_sessions = self.one("max_sessions", value::number);
        let max_connections = self.one("max_connections", value::number);
        let threads = self.optional("threads", value::number);
        let drain = self.one("drain", value::duration);
        let format = self.one("log.format", value::word(&LOG_FORMATS));
        let level = self.one("log.level", value::word(&LOG_LEVELS));
        let tls = self.tls();
        let tokens = self.optional("auth.tokens", value::path);
        let policy = self.optional("auth.policy", value::path);
        let otlp = self.otlp();

        self.check_company();
        self.check_policy();
        let apart = [("health_listen", health_listen), ("metrics_listen", metrics_listen)];
        self.check_places(listen.as_deref().unwrap_or_default(), apart);
        if let (Some(listen), Some(false), Some(None)) = (&listen, insecure, &tls) {
            self.check_plaintext(listen);
        }

        let own = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Some(Config {
            listen: listen?,
            insecure: insecure?,
            health_listen: health_listen?,
            metrics_listen: metrics_listen?,
            store: store?,
            default_instance: default_instance?,
            max_instances: max_instances?,
            max_sessions: max_sessions?,
            max_connections: max_connections?,
            silence: Duration::from_secs(SILENCE_SECONDS_MAX),
            threads: threads?.and_then(NonZeroUsize::new).unwrap_or_else(own),
            drain: drain?,
            log: Log { format: format?, level: level? },
            tls: tls?,
            auth: Auth { tokens: tokens?, policy: policy? },
            otlp: otlp?,
        })
    }

    fn store(&mut self) -> Option<StoreKind> {
        let dir = self.one("data_dir", value::path);
        match self.one("store", value::store)? {
            StoreWord::Log => dir.map(StoreKind::Log),
            StoreWord::Memory => Some(StoreKind::Memory),
        }
    }

    fn tls(&mut self) -> Option<Option<Tls>> {
        let certificate = self.optional("tls.certificate", value::path);
        let key = self.optional("tls.key", value::path);
        let ca = self.optional("tls.client_ca", value::path);
        let auth = self.one("tls.client_auth", value::word(&CLIENT_AUTHS));
        let min_version = self.one("tls.min_version", value::word(&TLS_VERSIONS));
        match (certificate?, key?) {
            (Some(certificate), Some(key)) => {
                let clients = match ca? {
                    Some(ca) => Some(Clients { ca, auth: auth? }),
                    None => None,
                };
                Some(Some(Tls { certificate, key, clients, min_version: min_version? }))
            }
            (None, None) => Some(None),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    fn otlp(&mut self) -> Option<Option<Otlp>> {
        let endpoint = self.optional("otlp.endpoint", value::url);
        let headers = self.list("otlp.headers", value::header);
        let sample_ratio = self.one("otlp.sample_ratio", value::ratio);
        if let Some(headers) = &headers {
            self.check_headers(headers);
        }
        let Some(endpoint) = endpoint? else {
            return Some(None);
        };
        Some(Some(Otlp { endpoint, headers: headers?, sample_ratio: sample_ratio? }))
    }

    /// Settings that mean nothing without another that nobody has given.
    fn check_company(&mut self) {
        for key in KEYS {
            if let Some(other) = key.with
                && self.is_said(key.name)
                && self.is_absent(other)
            {
                self.wrong(key.name, &format!("means nothing without {other}"));
            }
        }
    }

    /// Whoever can tell clients apart wants them to differ in what they may do.
    fn check_policy(&mut self) {
        for name in ["tls.client_ca", "auth.tokens"] {
            if self.is_said(name) && self.is_absent("auth.policy") {
                self.wrong(
                    name,
                    "needs auth.policy: where clients are told apart, nobody may do anything that no rule \
                     allows",
                );
            }
        }
    }

    fn check_plaintext(&mut self, listen: &[Listen]) {
        for place in listen.iter().filter(|place| !place.is_local()) {
            let what = format!(
                "{place} can be reached from other machines, and calls would be plaintext: listen on a \
                 loopback address, give tls.certificate and tls.key, or add --insecure if the network is \
                 yours"
            );
            self.wrong("listen", &what);
        }
    }

    /// A place is for one thing.
    fn check_places(&mut self, listen: &[Listen], apart: [(&str, Option<Option<SocketAddr>>); 2]) {
        let mut seen: Vec<&Listen> = Vec::new();
        for place in listen {
            if seen.contains(&place) {
                self.wrong("listen", &format!("{place} is there twice"));
            } else if !matches!(place, Listen::Tcp(address) if address.port() == 0) {
                seen.push(place);
            }
        }
        let mut taken: Vec<Listen> = seen.into_iter().cloned().collect();
        for (name, address) in apart {
            let Some(address) = address.flatten().filter(|address| address.port() != 0) else {
                continue;
            };
            let place = Listen::Tcp(address);
            if taken.contains(&place) {
                self.wrong(name, &format!("{place} is listened on already; it needs its own port"));
            }
            taken.push(place);
        }
    }

    fn check_headers(&mut self, headers: &[(String, Secret)]) {
        for (index, (name, _)) in headers.iter().enumerate() {
            if headers[..index].iter().any(|(before, _)| before == name) {
                self.wrong("otlp.headers", &format!("the header {name} is there twice"));
            }
        }
    }

    /// The value of a setting that has a default. Nothing if it is wrong.
    fn one<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Key, &str) -> Result<T, Rule>,
    ) -> Option<T> {
        self.optional(name, parse)?
    }

    /// The value of a setting that may have none. Nothing if it is wrong.
    fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Key, &str) -> Result<T, Rule>,
    ) -> Option<Option<T>> {
        let key = key(name);
        let (values, source) = self.values(key)?;
        match values.as_slice() {
            [] => Some(None),
            [text] => match parse(key, text) {
                Ok(value) => Some(Some(value)),
                Err(rule) => self.refuse(&source, key, text, &rule),
            },
            _ => self.refuse(&source, key, &values.join(","), "may be given once"),
        }
    }

    /// The values of a list. Nothing if one is wrong.
    fn list<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&Key, &str) -> Result<T, Rule>,
    ) -> Option<Vec<T>> {
        let key = key(name);
        let (values, source) = self.values(key)?;
        if let Some((count, rule)) = key.kind.count()
            && !count.contains(&values.len())
        {
            self.wrong(name, &format!("must be {rule}, not {}", values.len()));
            return None;
        }
        let mut good = Some(Vec::new());
        for text in &values {
            match parse(key, text) {
                Ok(value) => good.as_mut().map_or((), |good| good.push(value)),
                Err(rule) => good = self.refuse(&source, key, text, &rule),
            }
        }
        good
    }

    /// The texts that count of a setting, and whose they are. Nothing if that cannot be told.
    fn values(&mut self, key: &'static Key) -> Option<(Vec<String>, Source)> {
        let default = || match key.default {
            "" => Vec::new(),
            default => vec![default.to_owned()],
        };
        match self.0.of(key)?.cloned() {
            Some(Said { values: Ok(values), source }) => Some((values, source)),
            Some(Said { values: Err(rule), .. }) => {
                self.wrong(key.name, &rule);
                None
            }
            None => Some((default(), Source::Default)),
        }
    }

    fn is_said(&self, name: &str) -> bool {
        self.0.said.contains_key(name)
    }

    /// Whether certainly nobody has said anything of a setting.
    fn is_absent(&self, name: &str) -> bool {
        self.0.of(key(name)).is_some_and(|said| said.is_none())
    }

    fn wrong(&mut self, name: &str, what: &str) {
        let source = self.0.said.get(name).map_or(&Source::Default, |said| &said.source);
        self.0.wrong(source.to_string(), format!("{name} {what}"));
    }

    fn refuse<T>(&mut self, source: &Source, key: &Key, text: &str, rule: &str) -> Option<T> {
        let what = format!("{} = '{}' {rule}", key.name, value::repeated(key, text));
        self.0.wrong(source.to_string(), what);
        None
    }
}

fn key(name: &str) -> &'static Key {
    Key::of(name).expect("the table has every setting that is read")
}
