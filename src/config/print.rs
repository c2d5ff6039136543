//! A configuration as a file that says the same, and who said what.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::config::words::{
    CLIENT_AUTHS, LOG_FORMATS, LOG_LEVELS, STORES, StoreWord, TLS_VERSIONS, word,
};
use crate::config::{Auth, Clients, Config, KEYS, Loaded, Log, Otlp, StoreKind, Tls};

/// The value of a setting, as it is written in the file. It may be secret, so it cannot be printed.
#[derive(PartialEq, Eq)]
pub(super) struct Value(String);

impl Loaded {
    /// The configuration as TOML, each line with who said so. What is secret is left out.
    pub fn to_toml(&self) -> String {
        let values = self.config.values();
        let mut text = String::new();
        let mut within = "";
        for key in KEYS {
            let Some(Value(value)) = values.get(key.name) else {
                continue;
            };
            let (table, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if table != within {
                within = table;
                put(&mut text, &format!("\n[{table}]"));
            }
            let source = self.source(key);
            if key.secret {
                put(&mut text, &format!("# {name} = [redacted]  # {source}"));
            } else {
                put(&mut text, &format!("{name} = {value}  # {source}"));
            }
        }
        text
    }
}

impl Config {
    /// Every setting that has a value and means something beside the others.
    pub(super) fn values(&self) -> BTreeMap<&'static str, Value> {
        let Self {
            listen,
            insecure,
            health_listen,
            metrics_listen,
            store,
            default_instance,
            max_instances,
            max_sessions,
            max_connections,
            threads,
            drain,
            log: Log { format, level },
            tls,
            auth: Auth { tokens, policy },
            otlp,
            // No setting.
            silence: _,
        } = self;
        let mut values = BTreeMap::new();
        let mut say = |name, value| {
            values.insert(name, Value(value));
        };
        say("listen", array(listen.iter().map(ToString::to_string)));
        say("insecure", insecure.to_string());
        health_listen.iter().for_each(|at| say("health_listen", quoted(&at.to_string())));
        metrics_listen.iter().for_each(|at| say("metrics_listen", quoted(&at.to_string())));
        match store {
            StoreKind::Memory => say("store", quoted(word(&STORES, &StoreWord::Memory))),
            StoreKind::Log(dir) => {
                say("store", quoted(word(&STORES, &StoreWord::Log)));
                say("data_dir", quoted(&dir.to_string_lossy()));
            }
        }
        say("default_instance", default_instance.to_string());
        say("max_instances", max_instances.to_string());
        say("max_sessions", max_sessions.to_string());
        say("max_connections", max_connections.to_string());
        say("threads", threads.to_string());
        say("drain", quoted(&humantime::format_duration(*drain).to_string()));
        say("log.format", quoted(word(&LOG_FORMATS, format)));
        say("log.level", quoted(word(&LOG_LEVELS, level)));
        if let Some(Tls { certificate, key, clients, min_version }) = tls {
            say("tls.certificate", quoted(&certificate.to_string_lossy()));
            say("tls.key", quoted(&key.to_string_lossy()));
            if let Some(Clients { ca, auth }) = clients {
                say("tls.client_ca", quoted(&ca.to_string_lossy()));
                say("tls.client_auth", quoted(word(&CLIENT_AUTHS, auth)));
            }
            say("tls.min_version", quoted(word(&TLS_VERSIONS, min_version)));
        }
        tokens.iter().for_each(|file| say("auth.tokens", quoted(&file.to_string_lossy())));
        policy.iter().for_each(|file| say("auth.policy", quoted(&file.to_string_lossy())));
        if let Some(Otlp { endpoint, headers, sample_ratio }) = otlp {
            say("otlp.endpoint", quoted(endpoint));
            if !headers.is_empty() {
                let headers = headers.iter();
                let texts = headers.map(|(name, secret)| format!("{name}={}", secret.reveal()));
                say("otlp.headers", array(texts));
            }
            say("otlp.sample_ratio", format!("{sample_ratio:?}"));
        }
        values
    }
}

fn array(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.map(|text| quoted(&text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            char if char.is_control() => put_to(&mut quoted, char),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

fn put_to(text: &mut String, control: char) {
    write!(text, "\\u{:04X}", u32::from(control)).expect("a String takes everything");
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}
