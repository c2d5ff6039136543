//! Refusals as gRPC statuses: only this file and those below it name gRPC codes.
//!
//! Every JET code has exactly one gRPC code. A refusal carries machine-readable details
//! (`google.rpc.*`, AIP-193) for programs, a sentence for people, and two plain trailers for clients
//! without protobuf: `jet-error` and `jet-error-name`.
//!
//! - `access`: callers who are not known, or may not
//! - `details`: what programs read
//! - `sentence`: what people read
//! - `watch`: the ends of watches

mod access;
mod details;
mod sentence;
mod watch;

use std::fmt::Write as _;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::domain::id::{InstanceId, SessionId, SessionName, ThreadId};
use crate::domain::jet_err::{JetErr, Kind};
use crate::domain::lifecycle::PhaseRefusal;
use crate::domain::limits::{REQUEST_BYTES_MAX, RETRY_AFTER_MS_MIN, UPLOAD_SILENCE_SECONDS_MAX};
use crate::domain::refusal::{Ours, Refusal, Retry};
use crate::proto::api;
use crate::rpc::access::Sight;
use crate::rpc::layers::RequestId;
use crate::rpc::status::details::Answer;
use crate::rpc::status::sentence::{STRING, tell, tell_ours};

pub(super) use access::{denied, unauthenticated};

/// When to try again where a phase passes by itself and its progress is not known.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Bad fields that the message for people names; the details for programs name more.
const TOLD_FIELDS_MAX: usize = 4;

/// How much of a method's path that does not exist is repeated.
const PATH_CHARS_MAX: usize = 128;

/// What a call was about, as far as its request could be understood.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The instance.
    pub instance: Option<InstanceId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The calling thread.
    pub thread: Option<ThreadId>,
    /// The client's own id of the call, from the metadata `x-request-id`.
    pub request_id: Option<RequestId>,
    /// Of whom its caller may learn.
    pub(in crate::rpc) sight: Sight,
}

impl About {
    fn instance_name(&self) -> Option<String> {
        self.instance.as_ref().map(InstanceId::name)
    }

    fn session_name(&self) -> Option<String> {
        let instance = self.instance.clone()?;
        self.session.map(|session| SessionName { instance, session }.to_string())
    }

    /// The resource that the call was about, as type and name.
    fn resource(&self) -> Option<(&'static str, String)> {
        match self.session_name() {
            Some(session) => Some(("jet.session.v1.Session", session)),
            None => Some(("jet.session.v1.Instance", self.instance_name()?)),
        }
    }
}

/// One field of a request and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// The path of the field, as the .proto file names it.
    pub field: String,
    /// The rule.
    pub rule: String,
}

/// The status of a refusal.
pub fn refused(refusal: &impl Refusal, about: &About) -> Status {
    let jet = refusal.jet_err();
    // Here and nowhere else what a caller may not know is left out, before anything is said.
    let facts = refusal.facts().seen_by(|principal| about.sight.sees(principal));
    if let (Some((field, rule)), None) = (facts.field, facts.ours) {
        let bad = BadField { field: field.to_owned(), rule: rule.to_owned() };
        return malformed(vec![bad], about);
    }
    let message = match facts.ours {
        Some(ours) => tell_ours(ours, &facts, about),
        None => tell(jet, &facts, about),
    };
    let retry = match facts.retry {
        Retry::No => None,
        Retry::Soon => Some(RETRY_AFTER),
        // What is as near as that is over when the next call comes.
        Retry::After(delay) => Some(delay.max(Duration::from_millis(RETRY_AFTER_MS_MIN))),
    };
    let answer = match facts.ours {
        None => Answer::jet(jet),
        Some(Ours::StaleToken) => {
            let code = Code::Aborted;
            Answer { code, reason: "STALE_FENCING_TOKEN".to_owned(), ..Answer::jet(jet) }
        }
        Some(Ours::RequestIdReused) => {
            Answer::ours(Code::InvalidArgument, "REQUEST_ID_REUSED", String::new())
        }
        Some(Ours::NotSet) => Answer::ours(Code::DeadlineExceeded, "NOT_SET", String::new()),
        Some(Ours::WaitQueueFull) => {
            Answer::ours(Code::ResourceExhausted, "WAIT_QUEUE_FULL", String::new())
        }
        Some(Ours::TooManyLeases) => {
            Answer::ours(Code::ResourceExhausted, "TOO_MANY_LEASES", String::new())
        }
        Some(Ours::WatchTooSlow) => watch::too_slow(),
        Some(Ours::RevisionCompacted) => watch::compacted(),
        Some(Ours::RevisionNotYet) => watch::not_yet(),
    };
    let bad = |(field, rule): (&str, &str)| BadField { field: field.into(), rule: rule.into() };
    let bad_fields = facts.field.map(bad).into_iter().collect();
    Answer { message, retry, facts, bad_fields, ..answer }.status(about)
}

/// The status of a request that cannot be understood: every bad field at once.
pub fn malformed(bad_fields: Vec<BadField>, about: &About) -> Status {
    let jet = JetErr::InvalidParameter;
    let mut message = format!("{jet}: ");
    for (i, bad) in bad_fields.iter().take(TOLD_FIELDS_MAX).enumerate() {
        let separator = if i == 0 { "" } else { "; " };
        let named = if bad.field.is_empty() { "" } else { ": " };
        write!(message, "{separator}{}{named}{}", bad.field, bad.rule).expect(STRING);
    }
    match bad_fields.len().saturating_sub(TOLD_FIELDS_MAX) {
        0 => message.push_str(". "),
        more => write!(message, "; and {more} more. ").expect(STRING),
    }
    message.push_str(jet.message());
    Answer { message, bad_fields, ..Answer::jet(jet) }.status(about)
}

/// The status of a call whose deadline has passed. What it asked for may or may not have been done.
pub fn deadline_exceeded(about: &About) -> Status {
    let message =
        "The call's deadline passed before its answer; it may or may not have been done. \
                   Read the session again before you go on."
            .to_owned();
    Answer::ours(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message).status(about)
}

/// The status of a call whose deadline had passed before it began.
pub fn came_too_late(about: &About) -> Status {
    let message = "The call's deadline had passed before it began; nothing was done.".to_owned();
    Answer::ours(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message).status(about)
}

/// The end of a stream whose server goes down: another, or this one once it is back, goes on.
pub fn draining(about: &About) -> Status {
    refused(&PhaseRefusal::Draining, about)
}

/// A status as a message, for streams in which a refusal is one answer among many.
pub fn as_message(status: &Status) -> pb::Status {
    pb::Status::decode(status.details()).unwrap_or_else(|_| pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// The status of an upload whose client says nothing more and does not leave.
pub fn silent(about: &About) -> Status {
    let message = format!(
        "The upload was silent for {UPLOAD_SILENCE_SECONDS_MAX} s and has been ended; the instance is \
         what it was before. Begin it again."
    );
    Answer::ours(Code::DeadlineExceeded, "UPLOAD_SILENT", message).status(about)
}

/// The status of a call that made this program break an invariant of its own.
pub fn panicked(about: &About) -> Status {
    let message = "The server broke an invariant of its own; its log says which. Whether the call \
                   was done is not known."
        .to_owned();
    Answer::ours(Code::Internal, "INTERNAL", message).status(about)
}

/// The status that replaces one which tonic made up by itself: about a message that is too large (it
/// says OUT_OF_RANGE) or cannot be decoded (it says INTERNAL), or a method that does not exist (it says
/// nothing). `None` for any other.
pub fn of_untaken_message(by_tonic: &Status, path: &str, about: &About) -> Option<Status> {
    if !by_tonic.details().is_empty() {
        // One of ours.
        return None;
    }
    match by_tonic.code() {
        Code::OutOfRange => {
            let message =
                format!("The message is too large: at most {REQUEST_BYTES_MAX} bytes are taken.");
            Some(Answer::ours(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message).status(about))
        }
        Code::Internal => {
            let rule =
                format!("must be a message of the method's request type: {}", by_tonic.message());
            Some(malformed(vec![BadField { field: String::new(), rule }], about))
        }
        Code::Unimplemented if by_tonic.message().is_empty() => Some(unknown_method(path, about)),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

/// The status of a call of a method that does not exist.
pub fn unknown_method(path: &str, about: &About) -> Status {
    let path: String = path.chars().take(PATH_CHARS_MAX).collect();
    let message = format!(
        "This server has no method {path}. Server reflection, or grpcurl's list and describe, tell which \
         it has."
    );
    Answer::ours(Code::Unimplemented, "UNKNOWN_METHOD", message).status(about)
}

/// A row of the JET error table as the API shows it.
pub fn jet_error(jet: JetErr) -> api::JetError {
    api::JetError {
        code: jet.code(),
        name: jet.name().to_owned(),
        category: jet.category().path().to_owned(),
        message: jet.message().to_owned(),
        retry_advice: jet.retry().sentence().to_owned(),
        grpc_code: jet.kind().grpc_name().to_owned(),
    }
}

/// One JET code, one gRPC code.
fn code(jet: JetErr) -> Code {
    match jet.kind() {
        Kind::Ok => Code::Ok,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Transient => Code::Unavailable,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Conflict => Code::Aborted,
        Kind::Internal => Code::Internal,
        Kind::DataLoss => Code::DataLoss,
        Kind::Unsupported => Code::Unimplemented,
    }
}
