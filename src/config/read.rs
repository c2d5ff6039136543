//! From what was said to a [`Config`], or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::{KEYS, Key};
use crate::config::sources::{Mistake, Said, Source, Sources, gather};
use crate::config::{
    Auth, ClientAuth, Clients, Config, Log, LogFormat, LogLevel, Otlp, Secret, StoreKind, Tls,
    TlsVersion,
};
use crate::domain::limits::{
    CONNECTIONS_MAX, DRAIN_SECONDS_MAX, INSTANCES_MAX, LISTENERS_MAX, SESSIONS_MAX,
    SILENCE_SECONDS_MAX, THREADS_MAX,
};

/// A configuration, and who said what of it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every setting that has a value, in the order of the table.
    pub settings: Vec<Setting>,
}

/// A setting with its value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Which.
    pub key: &'static Key,
    /// Its value as texts; one unless it is a list.
    pub values: Vec<String>,
    /// Who said so.
    pub source: Source,
}

/// Everything that is wrong with what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration is wrong: {one}"),
            many => {
                write!(f, "the configuration is wrong in {} places:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

impl Loaded {
    /// Reads what was said. All mistakes are told, not only the first.
    pub fn read(sources: &Sources) -> Result<Self, Mistakes> {
        let (said, mistakes) = gather(sources);
        let mut reader = Reader { said, mistakes, settings: BTreeMap::new() };
        let config = reader.config();
        let Reader { mistakes, mut settings, .. } = reader;
        match config {
            Some(config) if mistakes.is_empty() => {
                let in_order = KEYS.iter().filter_map(|key| settings.remove(key.name));
                Ok(Self { config, settings: in_order.collect() })
            }
            _ => Err(Mistakes(mistakes)),
        }
    }
}

struct Reader {
    said: BTreeMap<&'static str, Said>,
    mistakes: Vec<Mistake>,
    settings: BTreeMap<&'static str, Setting>,
}

impl Reader {
    fn config(&mut self) -> Option<Config> {
        let listen = self.list("listen", str::parse);
        let insecure = self.one("insecure", switch);
        let health_listen = self.optional("health_listen", address);
        let metrics_listen = self.optional("metrics_listen", address);
        let store = self.store();
        let default_instance = self.one("default_instance", switch);
        let max_instances =
            self.one("max_instances", |text| number(text, 1..=INSTANCES_MAX as u64));
        let max_sessions = self.one("max_sessions", |text| number(text, 1..=SESSIONS_MAX.into()));
        let max_connections =
            self.one("max_connections", |text| number(text, 1..=CONNECTIONS_MAX as u64));
        let threads = self.optional("threads", |text| number(text, 1..=THREADS_MAX as u64));
        let drain = self.one("drain", |text| duration(text, DRAIN_SECONDS_MAX));
        let format = self.one("log.format", |text| one_of(text, LOG_FORMATS));
        let level = self.one("log.level", |text| one_of(text, LOG_LEVELS));
        let tls = self.tls();
        let auth = Auth {
            tokens: self.optional("auth.tokens", path)?,
            policy: self.optional("auth.policy", path)?,
        };
        let otlp = self.otlp();
        let own = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let config = Config {
            listen: listen?,
            insecure: insecure?,
            health_listen: health_listen?,
            metrics_listen: metrics_listen?,
            store: store?,
            default_instance: default_instance?,
            max_instances: usize::try_from(max_instances?).ok()?,
            max_sessions: u32::try_from(max_sessions?).ok()?,
            max_connections: usize::try_from(max_connections?).ok()?,
            silence: Duration::from_secs(SILENCE_SECONDS_MAX),
            threads: match threads? {
                Some(count) => NonZeroUsize::new(usize::try_from(count).ok()?)?,
                None => own(),
            },
            drain: drain?,
            log: Log { format: format?, level: level? },
            tls: tls?,
            auth,
            otlp: otlp?,
        };
        self.check(&config);
        Some(config)
    }

    fn store(&mut self) -> Option<StoreKind> {
        let dir = self.one("data_dir", path);
        let is_log = self.one("store", |text| match text {
            "log" => Ok(true),
            "memory" => Ok(false),
            "etcd" => Err("etcd is not part of this release yet; use log, or memory".to_owned()),
            _ => Err("must be log or memory".to_owned()),
        });
        Some(if is_log? { StoreKind::Log(dir?) } else { StoreKind::Memory })
    }

    fn tls(&mut self) -> Option<Option<Tls>> {
        let certificate = self.optional("tls.certificate", path);
        let key = self.optional("tls.key", path);
        let ca = self.optional("tls.client_ca", path);
        let auth = self.one("tls.client_auth", |text| {
            one_of(text, &[("require", ClientAuth::Require), ("optional", ClientAuth::Optional)])
        });
        let min_version = self.one("tls.min_version", |text| {
            one_of(text, &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)])
        });
        let (certificate, key, ca) = (certificate?, key?, ca?);
        if ca.is_none() {
            self.needs("tls.client_auth", "tls.client_ca");
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let auth = auth?;
                let clients = ca.map(|ca| Clients { ca, auth });
                Some(Some(Tls { certificate, key, clients, min_version: min_version? }))
            }
            (None, None) => {
                self.needs("tls.client_ca", "tls.certificate");
                self.needs("tls.min_version", "tls.certificate");
                Some(None)
            }
            (Some(_), None) => {
                self.needs("tls.certificate", "tls.key");
                None
            }
            (None, Some(_)) => {
                self.needs("tls.key", "tls.certificate");
                None
            }
        }
    }

    fn otlp(&mut self) -> Option<Option<Otlp>> {
        let endpoint = self.optional("otlp.endpoint", |text| {
            let uri: http::Uri = text.parse().map_err(|_| "is no URL".to_owned())?;
            match (uri.scheme_str(), uri.authority()) {
                (Some("http" | "https"), Some(_)) => Ok(text.to_owned()),
                _ => Err("must be a URL such as http://localhost:4317".to_owned()),
            }
        });
        let headers = self.list("otlp.headers", |text| {
            let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
            let name: http::HeaderName =
                name.trim().parse().map_err(|_| "the name is not one of a header")?;
            http::HeaderValue::from_str(value).map_err(|_| "the value is not one of a header")?;
            Ok((name.to_string(), Secret::new(value)))
        });
        let sample_ratio = self.one("otlp.sample_ratio", |text| {
            let ratio: f64 = text.parse().map_err(|_| "must be a number from 0 to 1".to_owned())?;
            let fits = (0.0..=1.0).contains(&ratio);
            fits.then_some(ratio).ok_or_else(|| "must be from 0 to 1".to_owned())
        });
        let Some(endpoint) = endpoint? else {
            self.needs("otlp.headers", "otlp.endpoint");
            self.needs("otlp.sample_ratio", "otlp.endpoint");
            return Some(None);
        };
        Some(Some(Otlp { endpoint, headers: headers?, sample_ratio: sample_ratio? }))
    }

    /// What is wrong with settings that are right by themselves.
    fn check(&mut self, config: &Config) {
        if config.listen.len() > LISTENERS_MAX || config.listen.is_empty() {
            self.wrong("listen", &format!("must be 1 to {LISTENERS_MAX} places"));
        }
        if config.tls.is_none() && !config.insecure {
            let open = config.listen.iter().filter(|place| !place.is_local()).collect::<Vec<_>>();
            for place in open {
                let what = format!(
                    "{place} can be reached from other machines, and calls would be plaintext: listen on a \
                     loopback address, give tls.certificate and tls.key, or add --insecure if the network is \
                     yours"
                );
                self.wrong("listen", &what);
            }
        }
        if config.auth.policy.is_none() {
            for name in ["tls.client_ca", "auth.tokens"] {
                if self.is_said(name) {
                    self.wrong(
                        name,
                        "needs auth.policy: where clients are told apart, nobody may do anything that no \
                         rule allows",
                    );
                }
            }
        }
    }

    /// The value of a setting that has a default. Nothing if it is wrong.
    fn one<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.optional(name, parse)?
    }

    /// The value of a setting that may have none. Nothing if it is wrong.
    fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let Said { values, source } = self.said(name);
        match values.as_slice() {
            [] => Some(None),
            [text] => match parse(text) {
                Ok(value) => Some(Some(value)),
                Err(rule) => self.refuse(&source, name, text, &rule),
            },
            _ => self.refuse(&source, name, &values.join(","), "may be given once"),
        }
    }

    /// The values of a list. Nothing if one is wrong.
    fn list<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let Said { values, source } = self.said(name);
        let mut good = Some(Vec::new());
        for text in &values {
            match parse(text) {
                Ok(value) => {
                    if let Some(good) = &mut good {
                        good.push(value);
                    }
                }
                Err(rule) => good = self.refuse(&source, name, text, &rule),
            }
        }
        good
    }

    /// What counts of a setting, which is from now on among those that have a value.
    fn said(&mut self, name: &str) -> Said {
        let key = Key::of(name).expect("the table has every setting that is read");
        let defaults = || match key.default {
            "" => Vec::new(),
            default => vec![default.to_owned()],
        };
        let said = self.said.get(name).cloned();
        let said = said.unwrap_or_else(|| Said { values: defaults(), source: Source::Default });
        let Said { values, source } = said.clone();
        if !values.is_empty() {
            self.settings.insert(key.name, Setting { key, values, source });
        }
        said
    }

    fn is_said(&self, name: &str) -> bool {
        self.said.contains_key(name)
    }

    /// A setting that means nothing without another.
    fn needs(&mut self, name: &str, other: &str) {
        if self.is_said(name) {
            self.wrong(name, &format!("means nothing without {other}"));
        }
    }

    fn wrong(&mut self, name: &str, what: &str) {
        let source = self.said(name).source;
        self.mistakes.push(Mistake { source: source.to_string(), what: format!("{name}: {what}") });
    }

    fn refuse<T>(&mut self, source: &Source, name: &str, text: &str, rule: &str) -> Option<T> {
        let secret = Key::of(name).is_some_and(|key| key.secret);
        let shown = if secret { "[redacted]" } else { text };
        let what = format!("{name} = '{shown}': {rule}");
        self.mistakes.push(Mistake { source: source.to_string(), what });
        None
    }
}

const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];

const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", all.join(", "))
    })
}

fn switch(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address is IP:PORT, such as 127.0.0.1:9464 or [::]:9464".to_owned())
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be a path".to_owned()) } else { Ok(text.into()) }
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number
        .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

/// A number of seconds, or numbers with units: `10`, `500ms`, `1m30s`.
fn duration(text: &str, seconds_max: u64) -> Result<Duration, String> {
    let bare = text.parse().ok().map(Duration::from_secs);
    let read = bare.or_else(|| humantime::parse_duration(text).ok());
    read.filter(|duration| *duration <= Duration::from_secs(seconds_max)).ok_or_else(|| {
        format!("must be a duration of at most {seconds_max} seconds, such as 10, 500ms or 1m30s")
    })
}
