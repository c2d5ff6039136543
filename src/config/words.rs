//! The words that some settings take, and what each means.

use crate::config::{ClientAuth, LogFormat, LogLevel, TlsVersion};

/// Where to remember, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreWord {
    Log,
    Memory,
}

pub(super) const STORES: [(&str, StoreWord); 2] =
    [("log", StoreWord::Log), ("memory", StoreWord::Memory)];
pub(super) const STORE_NAMES: &[&str] = &names(&STORES);

pub(super) const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
pub(super) const LOG_FORMAT_NAMES: &[&str] = &names(&LOG_FORMATS);

pub(super) const LOG_LEVELS: [(&str, LogLevel); 6] = [
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
pub(super) const LOG_LEVEL_NAMES: &[&str] = &names(&LOG_LEVELS);

pub(super) const CLIENT_AUTHS: [(&str, ClientAuth); 2] =
    [("require", ClientAuth::Require), ("optional", ClientAuth::Optional)];
pub(super) const CLIENT_AUTH_NAMES: &[&str] = &names(&CLIENT_AUTHS);

pub(super) const TLS_VERSIONS: [(&str, TlsVersion); 2] =
    [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
pub(super) const TLS_VERSION_NAMES: &[&str] = &names(&TLS_VERSIONS);

/// The words alone.
const fn names<T, const N: usize>(words: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = words[index].0;
        index += 1;
    }
    names
}

/// What a word means.
pub(super) fn meaning<T: Copy>(words: &[(&str, T)], text: &str) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
}

/// The word that means this.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], wanted: &T) -> &'static str {
    let found = words.iter().find(|(_, meaning)| meaning == wanted);
    found.expect("every meaning has its word").0
}
