//! What a server says when it says no: read from a status.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::jet_err::JetErr;

/// Who defines the reasons in our `ErrorInfo`s.
pub const DOMAIN: &str = "jet.session.v1";

/// The reason of the one refusal that has no JET code of its own.
const STALE_FENCING_TOKEN: &str = "STALE_FENCING_TOKEN";

/// The reason that proves that a waiting Set or Claim has set nothing.
const NOT_SET: &str = "NOT_SET";

/// A refusal with everything its status carries.
///
/// ```
/// use jet_session::client::Refusal;
/// use tonic::{Code, Status, metadata::MetadataMap};
///
/// // A proxy may drop the details and keep the plain trailers.
/// let mut trailers = MetadataMap::new();
/// trailers.insert("jet-error", "-1912".parse().unwrap());
/// let refusal = Refusal::of(&Status::with_metadata(Code::FailedPrecondition, "Taken.", trailers));
///
/// assert_eq!(refusal.jet_name(), Some("JET_errSessionContextAlreadySet"));
/// ```
#[derive(Debug, Clone)]
pub struct Refusal {
    code: Code,
    message: String,
    jet: Option<Jet>,
    reason: Option<String>,
    ours: bool,
    facts: BTreeMap<String, String>,
    details: ErrorDetails,
    bytes: Vec<u8>,
}

/// A JET error as the server names it, which may be newer than our table.
#[derive(Debug, Clone)]
struct Jet {
    code: i32,
    name: String,
}

impl Refusal {
    /// Reads a status.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let facts: BTreeMap<String, String> =
            info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default();
        // Proxies may drop the details and keep the plain trailers.
        let told = |fact: &str, trailer: &str| {
            let trailer = || status.metadata().get(trailer)?.to_str().ok();
            let fact = facts.get(fact).map(String::as_str);
            fact.or_else(trailer).map(str::to_owned)
        };
        let jet =
            told("jet_error", "jet-error").and_then(|code| code.parse().ok()).map(|code| Jet {
                code,
                name: told("jet_error_name", "jet-error-name")
                    .or_else(|| Some(JetErr::from_code(code)?.name().to_owned()))
                    .unwrap_or_else(|| "JET error".to_owned()),
            });
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            jet,
            reason: info.map(|info| info.reason.clone()),
            ours: info.is_some_and(|info| info.domain == DOMAIN),
            facts,
            details,
            bytes: status.details().to_vec(),
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The JET error, if it has one that this release knows.
    pub fn jet_err(&self) -> Option<JetErr> {
        JetErr::from_code(self.jet_code()?)
    }

    /// The number of the JET error, which may be newer than this release.
    pub fn jet_code(&self) -> Option<i32> {
        self.jet.as_ref().map(|jet| jet.code)
    }

    /// The name of the JET error, which may be newer than this release.
    pub fn jet_name(&self) -> Option<&str> {
        self.jet.as_ref().map(|jet| jet.name.as_str())
    }

    /// The reason in `ErrorInfo`, such as `SESSION_CONTEXT_ALREADY_SET`.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether our own server said it, and not a proxy on the way or this side of the connection.
    pub fn is_ours(&self) -> bool {
        self.ours || self.jet.is_some()
    }

    /// One fact of the `ErrorInfo`'s metadata.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }

    /// All facts of the `ErrorInfo`'s metadata.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.facts
    }

    /// Which of the several causes of its JET error it is, such as `already_reset`.
    pub fn cause(&self) -> Option<&str> {
        self.fact("cause")
    }

    /// Whether a fencing token was shown that is not the current one.
    pub fn is_stale_token(&self) -> bool {
        self.reason() == Some(STALE_FENCING_TOKEN)
    }

    /// Whether it proves that a call that waited has set nothing: the server said so before the deadline.
    pub fn is_not_set(&self) -> bool {
        self.code == Code::DeadlineExceeded && self.ours && self.reason() == Some(NOT_SET)
    }

    /// How long to wait before the same call is worth another try, if it is.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_info().and_then(|info| info.retry_delay)
    }

    /// Who holds the session, where that is why.
    pub fn holder(&self) -> Option<Holder> {
        let number = |key: &str| self.fact(key).and_then(|text| text.parse().ok());
        Some(Holder {
            thread_id: self.fact("holder_thread_id")?.to_owned(),
            fencing_token: number("fencing_token"),
            held_for: self.duration("held_for"),
            lease_remaining: self.duration("lease_remaining"),
            queue_length: number("queue_length"),
        })
    }

    /// All details of the types of google.rpc.
    pub fn details(&self) -> &ErrorDetails {
        &self.details
    }

    /// The `google.rpc.Status` with all details, as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        seconds(self.fact(key)?)
    }
}

/// Who holds a session, as told to somebody who wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The thread that holds it.
    pub thread_id: String,
    /// The token it holds it with.
    pub fencing_token: Option<u64>,
    /// How long it has been holding it.
    pub held_for: Option<Duration>,
    /// How long its lease lasts if it is not renewed; absent without a lease.
    pub lease_remaining: Option<Duration>,
    /// How many calls wait for it.
    pub queue_length: Option<u64>,
}

/// Reads `42s` and `1.500s`, as proto3 JSON writes durations.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let nanos = if part.is_empty() { 0 } else { format!("{part:0<9}").parse().ok()? };
    Some(Duration::new(whole.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_holder_is_told_with_all_that_is_known_of_it() {
        let told = [
            ("holder_thread_id", "worker-3"),
            ("fencing_token", "17"),
            ("held_for", "42.5s"),
            ("lease_remaining", "3s"),
            ("queue_length", "2"),
        ];
        let facts: HashMap<_, _> =
            told.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let details = ErrorDetails::with_error_info("SESSION_CONTEXT_ALREADY_SET", DOMAIN, facts);
        let refusal =
            Refusal::of(&Status::with_error_details(Code::FailedPrecondition, "", details));
        let holder = Holder {
            thread_id: "worker-3".to_owned(),
            fencing_token: Some(17),
            held_for: Some(Duration::from_millis(42_500)),
            lease_remaining: Some(Duration::from_secs(3)),
            queue_length: Some(2),
        };
        assert_eq!(refusal.holder(), Some(holder));
        assert_eq!(Refusal::of(&Status::not_found("")).holder(), None);
    }

    #[test]
    fn only_our_own_word_proves_that_nothing_was_set() {
        let status = |code, reason, domain| {
            let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
            Refusal::of(&Status::with_error_details(code, "", details))
        };
        assert!(status(Code::DeadlineExceeded, NOT_SET, DOMAIN).is_not_set());
        assert!(!status(Code::DeadlineExceeded, NOT_SET, "some.proxy").is_not_set());
        assert!(!status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", DOMAIN).is_not_set());
        assert!(!status(Code::Unavailable, NOT_SET, DOMAIN).is_not_set());
        assert!(!Refusal::of(&Status::deadline_exceeded("")).is_not_set());
    }

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, ms) in [("0s", 0), ("42s", 42_000), ("1.5s", 1_500), ("1.500s", 1_500)] {
            assert_eq!(seconds(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "1", "-1s", ".5s", "1e3s", "1.0000000001s", "99999999999999999999s"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
