//! From the text of one value to what it means, or to what is wrong with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::{Key, Kind};
use crate::config::sources::shown;
use crate::config::{Listen, Secret, words};

/// What a value must be.
pub(super) type Rule = String;

fn must_be(key: &Key) -> Rule {
    format!("must be {}", key.kind.takes())
}

pub(super) fn switch(key: &Key, text: &str) -> Result<bool, Rule> {
    text.parse().map_err(|_| must_be(key))
}

/// A number within the bounds of its setting, in whatever type has room for them.
pub(super) fn number<T: TryFrom<u64>>(key: &Key, text: &str) -> Result<T, Rule> {
    let Kind::Number { least, most } = key.kind else { unreachable!("{} is a number", key.name) };
    let number = plain(text).and_then(|text| text.parse().ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| must_be(key))
}

/// A number without the `_` between its digits that TOML allows, and so do we.
fn plain(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('_').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.iter().all(digits).then(|| parts.concat())
}

pub(super) fn ratio(key: &Key, text: &str) -> Result<f64, Rule> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    // There is a negative zero.
    ratio.map(f64::abs).ok_or_else(|| must_be(key))
}

/// A number of seconds, or numbers with units: `10`, `500ms`, `1m30s`.
pub(super) fn duration(key: &Key, text: &str) -> Result<Duration, Rule> {
    let Kind::Duration { most } = key.kind else { unreachable!("{} is a duration", key.name) };
    let seconds = plain(text).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let read = seconds.or_else(|| humantime::parse_duration(text).ok());
    read.filter(|read| *read <= Duration::from_secs(most)).ok_or_else(|| must_be(key))
}

/// One of the words of a setting.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Key, &str) -> Result<T, Rule> {
    move |key, text| words::meaning(words, text).ok_or_else(|| must_be(key))
}

pub(super) fn store(key: &Key, text: &str) -> Result<words::StoreWord, Rule> {
    match text {
        "etcd" => Err("is not part of this release yet; use log, or memory".to_owned()),
        other => word(&words::STORES)(key, other),
    }
}

pub(super) fn address(key: &Key, text: &str) -> Result<SocketAddr, Rule> {
    text.parse().map_err(|_| must_be(key))
}

pub(super) fn path(key: &Key, text: &str) -> Result<PathBuf, Rule> {
    // No system has a path with a NUL.
    if text.is_empty() || text.contains('\0') { Err(must_be(key)) } else { Ok(text.into()) }
}

pub(super) fn place(key: &Key, text: &str) -> Result<Listen, Rule> {
    match text.strip_prefix("unix:") {
        Some(rest) => path(key, rest).map(Listen::Unix).map_err(|_| must_be(key)),
        None => address(key, text).map(Listen::Tcp),
    }
}

pub(super) fn url(key: &Key, text: &str) -> Result<String, Rule> {
    let uri: http::Uri = text.parse().map_err(|_| must_be(key))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("must have no name and password in it; they go into otlp.headers".to_owned())
        }
        (Some("http" | "https"), Some(_)) => Ok(text.to_owned()),
        _ => Err(must_be(key)),
    }
}

pub(super) fn header(key: &Key, text: &str) -> Result<(String, Secret), Rule> {
    let (name, value) = text.split_once('=').ok_or_else(|| must_be(key))?;
    let name: http::HeaderName = name
        .trim()
        .parse()
        .map_err(|_| "must be NAME=VALUE, and NAME one that a header can have")?;
    http::HeaderValue::from_str(value)
        .map_err(|_| "must be NAME=VALUE, and VALUE one that a header can have")?;
    Ok((name.to_string(), Secret::new(value)))
}

/// A value as it may be shown to whoever must find what is wrong.
pub(super) fn repeated(key: &Key, text: &str) -> String {
    match (key.secret, key.kind) {
        (true, _) => "[redacted]".to_owned(),
        // Where it is wrong there may still be a password before the host.
        (false, Kind::Url) => match text.rfind('@') {
            Some(at) => shown(&format!("[redacted]{}", &text[at..])),
            None => shown(text),
        },
        (false, _) => shown(text),
    }
}
