//! How people write addresses, durations, names and words.
//!
//! Each function reads one thing that was typed and answers with the value, or with the rule that it
//! breaks. What a name may consist of is the business of `domain::id`; here is only how it may be
//! shortened.

use std::time::Duration;

use http::Uri;

use crate::domain::id::{ContextValue, InstanceId, SessionId, SessionName};

/// A session as it was typed: its full name, `INSTANCE/SESID`, or the bare number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionRef {
    instance: Option<InstanceId>,
    session: SessionId,
}

impl SessionRef {
    /// The full name; a bare number is one of `instance`.
    pub(super) fn name(&self, instance: &InstanceId) -> String {
        let name = SessionName {
            instance: self.instance.as_ref().unwrap_or(instance).clone(),
            session: self.session,
        };
        name.to_string()
    }
}

/// Reads `instances/main/sessions/1`, `main/1` or `1`.
pub(super) fn session(text: &str) -> Result<SessionRef, String> {
    if text.contains("/sessions/") {
        let name: SessionName = text.parse().map_err(rule)?;
        return Ok(SessionRef { instance: Some(name.instance), session: name.session });
    }
    let (instance, sesid) = match text.rsplit_once('/') {
        Some((instance, sesid)) => (Some(self::instance(instance)?), sesid),
        None => (None, text),
    };
    if sesid.is_empty() || !sesid.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a session is written 1, main/1 or instances/main/sessions/1".to_owned());
    }
    Ok(SessionRef { instance, session: sesid.parse().map_err(rule)? })
}

/// Reads `main` or `instances/main`.
pub(super) fn instance(text: &str) -> Result<InstanceId, String> {
    let id = text.strip_prefix("instances/").unwrap_or(text);
    id.parse().map_err(rule)
}

/// Reads a context word: `7`, `0x7`.
pub(super) fn context(text: &str) -> Result<ContextValue, String> {
    let word = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    word.ok_or("a context is a 64-bit number, decimal or hexadecimal with 0x")
        .and_then(|word| {
            ContextValue::new(word).ok_or("0 and 0xFFFFFFFFFFFFFFFF are reserved and no contexts")
        })
        .map_err(str::to_owned)
}

/// Reads a label, `KEY=VALUE`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("a label is written KEY=VALUE".to_owned()),
    }
}

/// The longest duration that makes sense to wait, and fits a `grpc-timeout` header.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Reads a duration such as `500ms`, `10s`, `1m30s` or `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let total = duration_parts(text)
        .ok_or("a duration is written like 500ms, 10s, 1m30s, 2h or 1d".to_owned())?;
    if total.is_zero() || total > DURATION_MAX {
        return Err("a duration is longer than nothing and at most 365d".to_owned());
    }
    Ok(total)
}

fn duration_parts(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    loop {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = tail;
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// Reads the address of a server: `https://HOST:PORT`, `http://HOST:PORT`, `unix:PATH`, or `HOST:PORT`,
/// which is spoken to with TLS if `tls` says so. Answers it in full.
pub(super) fn server(text: &str, tls: bool) -> Result<String, String> {
    const FORM: &str =
        "a server is written https://HOST:PORT, http://HOST:PORT, HOST:PORT or unix:PATH";
    if let Some(path) = text.strip_prefix("unix:") {
        let missing = path.trim_start_matches('/').is_empty();
        return if missing { Err(FORM.to_owned()) } else { Ok(text.to_owned()) };
    }
    let scheme = if tls { "https" } else { "http" };
    let full = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    let uri: Uri = full.parse().map_err(|_| FORM.to_owned())?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
        && uri.authority().is_some_and(|a| !a.as_str().contains('@'));
    let host = uri.host().is_some_and(|host| !host.is_empty());
    let port = uri.port_u16().is_some_and(|port| port != 0);
    if plain && host && port { Ok(uri.to_string()) } else { Err(FORM.to_owned()) }
}

fn rule(broken: crate::domain::id::Malformed) -> String {
    broken.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_may_be_shortened() {
        let here: InstanceId = "here".parse().unwrap();
        for (typed, name) in [
            ("1", "instances/here/sessions/1"),
            ("main/1", "instances/main/sessions/1"),
            ("instances/main/1", "instances/main/sessions/1"),
            (
                "instances/main/sessions/18446744073709551615",
                "instances/main/sessions/18446744073709551615",
            ),
        ] {
            assert_eq!(session(typed).unwrap().name(&here), name, "{typed}");
        }
        for bad in [
            "",
            "0",
            "01",
            "-1",
            "+1",
            "main",
            "main/",
            "main/x",
            "/1",
            "Main/1",
            "a/b/1",
            "sessions/1",
            "1/",
        ] {
            // `sessions/1` is session 1 of the instance `sessions`.
            assert_eq!(session(bad).is_ok(), bad == "sessions/1", "{bad}");
        }
    }

    #[test]
    fn instances_may_be_shortened() {
        assert_eq!(instance("main").unwrap().name(), "instances/main");
        assert_eq!(instance("instances/main").unwrap().name(), "instances/main");
        for bad in ["", "instances/", "Main", "main/1"] {
            assert!(instance(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contexts_are_decimal_or_hexadecimal() {
        for (typed, word) in
            [("7", 7), ("0x7", 7), ("0XfF", 255), ("0xFFFFFFFFFFFFFFFE", u64::MAX - 1)]
        {
            assert_eq!(context(typed).unwrap().get(), word, "{typed}");
        }
        for bad in [
            "",
            "0",
            "0x",
            "0x0",
            "-1",
            "+1",
            "0x+1",
            "ff",
            "1.5",
            "18446744073709551615",
            "18446744073709551616",
            "0xFFFFFFFFFFFFFFFF",
        ] {
            assert!(context(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (typed, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(typed), Ok(Duration::from_millis(ms)), "{typed}");
        }
        for bad in [
            "",
            "10",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "10 s",
            "10sec",
            "1s2",
            "366d",
            "ä",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn servers_are_host_and_port() {
        for (typed, plain, encrypted) in [
            ("localhost:50051", "http://localhost:50051/", "https://localhost:50051/"),
            ("[::1]:50051", "http://[::1]:50051/", "https://[::1]:50051/"),
            ("http://127.0.0.1:1", "http://127.0.0.1:1/", "http://127.0.0.1:1/"),
            ("https://jet.example:443/", "https://jet.example:443/", "https://jet.example:443/"),
            ("unix:run/jet.sock", "unix:run/jet.sock", "unix:run/jet.sock"),
            ("unix:///run/jet.sock", "unix:///run/jet.sock", "unix:///run/jet.sock"),
        ] {
            assert_eq!(server(typed, false).as_deref(), Ok(plain), "{typed}");
            assert_eq!(server(typed, true).as_deref(), Ok(encrypted), "{typed}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:0",
            "localhost:x",
            "localhost:70000",
            ":50051",
            "http://localhost",
            "ftp://localhost:1",
            "https://localhost",
            "unix:",
            "unix:///",
            "user@localhost:1",
            "localhost:1/path",
            "localhost:1?q",
            "a b:1",
        ] {
            assert!(server(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_pairs() {
        let pair = |k: &str, v: &str| Ok((k.to_owned(), v.to_owned()));
        assert_eq!(label("pool=a"), pair("pool", "a"));
        assert_eq!(label("pool="), pair("pool", ""));
        assert_eq!(label("a=b=c"), pair("a", "b=c"));
        assert!(label("pool").is_err());
        assert!(label("=a").is_err());
    }
}
