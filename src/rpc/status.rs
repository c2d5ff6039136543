//! Refusals as gRPC statuses: the only file that names gRPC codes.
//!
//! Every JET code has exactly one gRPC code. A refusal carries machine-readable details
//! (`google.rpc.*`, AIP-193) for programs, a sentence for people, and two plain trailers for clients
//! without protobuf: `jet-error` and `jet-error-name`.

mod watch;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use prost::Message as _;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::domain::id::{InstanceId, SessionId, SessionName, ThreadId};
use crate::domain::jet_err::{JetErr, Kind};
use crate::domain::lifecycle::Phase;
use crate::domain::limits::{
    REQUEST_BYTES_MAX, STATUS_DETAILS_BYTES_MAX, UPLOAD_SILENCE_SECONDS_MAX,
};
use crate::domain::refusal::{Cause, Facts, Ours, Quota, Refusal, Retry};
use crate::proto::api;
use crate::rpc::layers::RequestId;

/// The `domain` of our `ErrorInfo`s: who defines their reasons.
pub const DOMAIN: &str = "jet.session.v1";

/// When to try again where a phase passes by itself and its progress is not known.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Bad fields that the message for people names; the details for programs name more.
const TOLD_FIELDS_MAX: usize = 4;

/// How much of a method's path that does not exist is repeated.
const PATH_CHARS_MAX: usize = 128;

/// Rows of a list that the details can hold at most.
const ROWS_MAX: usize = 32;

/// Why writing into a String cannot fail.
const STRING: &str = "a String takes everything";

/// Tells gRPC's own retry logic to leave it be (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

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
    let facts = refusal.facts();
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
        Retry::After(delay) => Some(delay),
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

/// The status of something the contract has and this release does not serve yet.
pub fn unserved(what: &str, about: &About) -> Status {
    let message = format!(
        "{what} is part of the contract but this release does not serve it yet; nothing was done."
    );
    Answer::ours(Code::Unimplemented, "NOT_IMPLEMENTED", message).status(about)
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
        Code::Unimplemented if by_tonic.message().is_empty() => {
            let path: String = path.chars().take(PATH_CHARS_MAX).collect();
            let message = format!(
                "This server has no method {path}. Server reflection, or grpcurl's list and \
                 describe, tell which it has."
            );
            Some(Answer::ours(Code::Unimplemented, "UNKNOWN_METHOD", message).status(about))
        }
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

/// Everything that goes into a status.
struct Answer {
    code: Code,
    reason: String,
    jet: Option<JetErr>,
    message: String,
    facts: Facts,
    bad_fields: Vec<BadField>,
    retry: Option<Duration>,
    shortened: Shortened,
}

/// What has been left out so that the details fit, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shortened {
    /// Nothing.
    No,
    /// The ends of lists.
    Lists,
    /// The texts of the JET error, which stand in the message and in the table too.
    Texts,
    /// Whatever is said twice: the holder outside ErrorInfo.
    Repetitions,
}

impl Answer {
    /// An answer with a JET code.
    fn jet(jet: JetErr) -> Self {
        Self { jet: Some(jet), ..Self::ours(code(jet), &jet.reason(), String::new()) }
    }

    /// An answer that has no JET code.
    fn ours(code: Code, reason: &str, message: String) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            jet: None,
            message,
            facts: Facts::default(),
            bad_fields: Vec::new(),
            retry: None,
            shortened: Shortened::No,
        }
    }

    /// The status, its details shortened until they fit into what clients accept as headers.
    fn status(mut self, about: &About) -> Status {
        let details = loop {
            let details = self.details(about);
            if details.encoded_len() <= STATUS_DETAILS_BYTES_MAX || !self.shorten() {
                break details;
            }
        };
        let metadata = self.trailers(about);
        let bytes = details.encode_to_vec().into();
        Status::with_details_and_metadata(self.code, self.message, bytes, metadata)
    }

    /// Leaves something out; answers whether there was anything.
    fn shorten(&mut self) -> bool {
        // A long list is cut to what can fit at all before it is tried row by row.
        let rows = self.bad_fields.len().max(self.facts.blocking.first.len());
        if rows > 1 {
            self.shortened = self.shortened.max(Shortened::Lists);
            let kept = (rows - 1).min(ROWS_MAX);
            self.bad_fields.truncate(kept);
            self.facts.blocking.first.truncate(kept);
            return true;
        }
        let before = self.shortened;
        self.shortened = match before {
            Shortened::No | Shortened::Lists => Shortened::Texts,
            Shortened::Texts | Shortened::Repetitions => Shortened::Repetitions,
        };
        self.shortened != before
    }

    fn trailers(&self, about: &About) -> MetadataMap {
        let mut trailers = MetadataMap::new();
        if let Some(jet) = self.jet {
            trailers.insert("jet-error", jet.code().into());
            trailers.insert("jet-error-name", MetadataValue::from_static(jet.name()));
            let for_good = matches!(
                jet,
                JetErr::InstanceUnavailable | JetErr::InstanceUnavailableDueToFatalLogDiskFull
            );
            if for_good || (self.code == Code::Unavailable && self.retry.is_none()) {
                trailers.insert(PUSHBACK, MetadataValue::from_static("-1"));
            }
        }
        if let Some(id) = &about.request_id {
            let value = MetadataValue::<Ascii>::try_from(id.as_str());
            trailers.insert("x-request-id", value.expect("a request id is visible ASCII"));
        }
        trailers
    }

    fn details(&self, about: &About) -> pb::Status {
        let mut details = vec![any("google.rpc.ErrorInfo", &self.error_info(about))];
        if let Some(jet) = self.jet {
            let mut row = jet_error(jet);
            if self.shortened >= Shortened::Texts {
                (row.message, row.retry_advice) = (String::new(), String::new());
            }
            details.push(any("jet.session.v1.JetError", &row));
        }
        details.extend(self.resource_info(about).map(|d| any("google.rpc.ResourceInfo", &d)));
        details.extend(
            self.precondition_failure(about).map(|d| any("google.rpc.PreconditionFailure", &d)),
        );
        if !self.bad_fields.is_empty() {
            details.push(any("google.rpc.BadRequest", &self.bad_request()));
        }
        details.extend(self.quota_failure(about).map(|d| any("google.rpc.QuotaFailure", &d)));
        if let Some(delay) = self.retry {
            let retry_delay = prost_types::Duration::try_from(delay).ok();
            details.push(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay }));
        }
        if let Some(id) = &about.request_id {
            let request_id = id.as_str().to_owned();
            let info = pb::RequestInfo { request_id, serving_data: String::new() };
            details.push(any("google.rpc.RequestInfo", &info));
        }
        // Clients that read the details take the message from here too, and not from the trailer.
        pb::Status { code: self.code.into(), message: self.message.clone(), details }
    }

    fn error_info(&self, about: &About) -> pb::ErrorInfo {
        let mut metadata = HashMap::new();
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), value);
            }
        };
        put("jet_error", self.jet.map(|jet| jet.code().to_string()));
        put("jet_error_name", self.jet.map(|jet| jet.name().to_owned()));
        put("jet_category", self.jet.map(|jet| jet.category().path().to_owned()));
        put("instance", about.instance_name());
        put("session", about.session_name());
        put("thread_id", about.thread.as_ref().map(|thread| thread.as_str().to_owned()));
        put("cause", self.facts.cause.map(|cause| cause.as_str().to_owned()));
        put("instance_state", self.facts.phase.as_ref().map(|phase| phase.as_str().to_owned()));
        if let Some(holder) = &self.facts.holder {
            put("holder_thread_id", Some(holder.owner.thread().as_str().to_owned()));
            put("fencing_token", Some(holder.token.to_string()));
            put("held_for", Some(seconds(holder.held_for)));
        }
        for (key, value) in watch::metadata(&self.facts.watch) {
            put(key, value);
        }
        put("truncated", (self.shortened > Shortened::No).then(|| "true".to_owned()));
        pb::ErrorInfo { reason: self.reason.clone(), domain: DOMAIN.to_owned(), metadata }
    }

    fn resource_info(&self, about: &About) -> Option<pb::ResourceInfo> {
        let wanted = matches!(
            self.jet?,
            JetErr::InvalidSesid
                | JetErr::InvalidInstance
                | JetErr::SessionContextAlreadySet
                | JetErr::SessionContextNotSetByThisThread
        );
        let (resource_type, resource_name) = about.resource().filter(|_| wanted)?;
        let holder = self.facts.holder.as_ref().filter(|_| self.shortened < Shortened::Repetitions);
        Some(pb::ResourceInfo {
            resource_type: resource_type.to_owned(),
            resource_name,
            owner: holder.map_or_else(String::new, |h| h.owner.thread().as_str().to_owned()),
            description: String::new(),
        })
    }

    fn precondition_failure(&self, about: &About) -> Option<pb::PreconditionFailure> {
        use pb::precondition_failure::Violation;
        let jet = self.jet?;
        let violation = |kind: &str, subject: Option<String>, description: String| Violation {
            r#type: kind.to_owned(),
            subject: subject.unwrap_or_default(),
            description,
        };
        let mut violations = Vec::new();
        if let Some(phase) = &self.facts.phase {
            let state = format!("the instance is {phase}");
            violations.push(violation("INSTANCE_STATE", about.instance_name(), state));
        }
        if self.facts.cause == Some(Cause::Draining) {
            violations.push(violation("SERVER_STATE", None, "the server is draining".to_owned()));
        }
        if matches!(
            jet,
            JetErr::SessionContextAlreadySet
                | JetErr::SessionContextNotSetByThisThread
                | JetErr::SessionInUse
        ) {
            let state = match (&self.facts.holder, self.facts.cause) {
                (Some(_), _) if self.shortened >= Shortened::Repetitions => "held".to_owned(),
                (Some(holder), _) => format!("held by thread {}", holder.owner.thread()),
                (None, Some(cause)) => cause.as_str().to_owned(),
                (None, None) => String::new(),
            };
            violations.push(violation("SESSION_CONTEXT", about.session_name(), state));
        }
        for session in &self.facts.blocking.first {
            let name = about
                .instance
                .clone()
                .map(|instance| SessionName { instance, session: *session }.to_string());
            violations.push(violation("OPEN_TRANSACTION", name, String::new()));
        }
        (!violations.is_empty()).then_some(pb::PreconditionFailure { violations })
    }

    fn bad_request(&self) -> pb::BadRequest {
        let field_violations = self
            .bad_fields
            .iter()
            .map(|bad| pb::bad_request::FieldViolation {
                field: bad.field.clone(),
                description: bad.rule.clone(),
                ..Default::default()
            })
            .collect();
        pb::BadRequest { field_violations }
    }

    fn quota_failure(&self, about: &About) -> Option<pb::QuotaFailure> {
        let (subject, quota_metric, max) = match self.facts.quota? {
            Quota::Waiters(limit) => {
                let subject =
                    about.resource().map_or_else(|| "server".to_owned(), |(_, name)| name);
                let max = limit.max().map_or(0, |max| i64::try_from(max).unwrap_or(i64::MAX));
                (subject, limit.metric(), max)
            }
            Quota::Leases(max) => {
                (about.instance_name()?, "leases", i64::try_from(max).unwrap_or(i64::MAX))
            }
            Quota::Sessions(max) => (about.instance_name()?, "max_sessions", i64::from(max)),
            Quota::Instances(max) => {
                ("server".to_owned(), "max_instances", i64::try_from(max).unwrap_or(i64::MAX))
            }
        };
        let violation = pb::quota_failure::Violation {
            subject,
            description: format!("{quota_metric} is {max}"),
            quota_metric: quota_metric.to_owned(),
            quota_value: max,
            ..Default::default()
        };
        Some(pb::QuotaFailure { violations: vec![violation] })
    }
}

/// The sentence for people: the code, what is true here, and what to do about such a thing.
fn tell(jet: JetErr, facts: &Facts, about: &About) -> String {
    let mut told = format!("{jet}: ");
    let subject = about.resource().map_or_else(|| "the server".to_owned(), |(_, name)| name);
    let here = here(facts, about, &subject);
    if !here.is_empty() {
        write!(told, "{here}. ").expect(STRING);
    } else if about.resource().is_some() {
        write!(told, "{subject}. ").expect(STRING);
    }
    told.push_str(jet.message());
    told
}

/// The sentence for people where JET has no code: what is true here, and what to do about it.
fn tell_ours(ours: Ours, facts: &Facts, about: &About) -> String {
    let subject = about.resource().map_or_else(|| "the server".to_owned(), |(_, name)| name);
    let here = here(facts, about, &subject);
    let advice = match ours {
        Ours::StaleToken => return tell(JetErr::SessionContextNotSetByThisThread, facts, about),
        Ours::RequestIdReused => {
            "Another call was made under this request id, and its effect stands; nothing was done now. \
             Give every call an id of its own, and repeat it only with the same content."
        }
        Ours::NotSet => {
            "The deadline came while the call waited; the context was not set. Ask again with more time."
        }
        Ours::WaitQueueFull => "Ask again later, or without waiting.",
        Ours::WatchTooSlow => watch::TOO_SLOW,
        Ours::RevisionCompacted => watch::COMPACTED,
        Ours::RevisionNotYet => watch::NOT_YET,
        Ours::TooManyLeases => "End threads that are no more, or wait until their leases end.",
    };
    if here.is_empty() { format!("{subject}: {advice}") } else { format!("{here}. {advice}") }
}

/// What is true of the subject, in a few words.
fn here(facts: &Facts, about: &About, subject: &str) -> String {
    if let Some(phase) = &facts.phase {
        let instance = about.instance_name().unwrap_or_else(|| subject.to_owned());
        return match phase {
            Phase::Failed(failure) => {
                format!("{instance} is FAILED ({}: {})", failure.error, failure.cause)
            }
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => format!("{instance} is {phase}"),
        };
    }
    if let Some(holder) = &facts.holder {
        let stale =
            if facts.ours == Some(Ours::StaleToken) { "the token shown is stale: " } else { "" };
        return format!(
            "{stale}{subject} is held by thread {} under token {} for {}",
            holder.owner.thread(),
            holder.token,
            seconds(holder.held_for),
        );
    }
    if facts.cause == Some(Cause::Draining) {
        return "this server is going down; another, or this one once it is back, may answer"
            .to_owned();
    }
    if let Some(cause) = facts.cause {
        let what = cause.as_str().replace('_', " ");
        let stale =
            if facts.ours == Some(Ours::StaleToken) { ", so the token shown is stale" } else { "" };
        return format!("{subject}: {what}{stale}");
    }
    if facts.blocking.count > 0 {
        return format!("{} sessions of {subject} have open transactions", facts.blocking.count);
    }
    if let Some(detail) = &facts.detail {
        return format!("{subject}: {detail}");
    }
    match facts.quota {
        Some(Quota::Sessions(max)) => format!("{subject} has its {max} sessions"),
        Some(Quota::Instances(max)) => format!("the server has its {max} instances"),
        Some(Quota::Waiters(limit)) => format!("too many {}", limit.as_str()),
        Some(Quota::Leases(max)) => format!("{subject} has its {max} leases"),
        None => String::new(),
    }
}

/// A duration as protobuf's JSON writes it, to the millisecond.
fn seconds(duration: Duration) -> String {
    format!("{}.{:03}s", duration.as_secs(), duration.subsec_millis())
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}
