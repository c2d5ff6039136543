//! What programs read: the details of a status, and its trailers.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::domain::call::QueueLimit;
use crate::domain::id::SessionName;
use crate::domain::jet_err::JetErr;
use crate::domain::limits::STATUS_DETAILS_BYTES_MAX;
use crate::domain::refusal::{Cause, Facts, Holder, Quota};
use crate::domain::session::HowLost;
use crate::rpc::status::sentence::{rfc3339, seconds};
use crate::rpc::status::{About, BadField, code, jet_error, watch};

/// The `domain` of our `ErrorInfo`s: who defines their reasons.
const DOMAIN: &str = "jet.session.v1";

/// Where words of others are cut if there is no room for all of them.
const WORD_BYTES_CUT: usize = 64;

/// Where the sentence for people is cut if there is no room for all of it.
const MESSAGE_BYTES_CUT: usize = 256;

/// Rows of a list that the details can hold at most.
const ROWS_MAX: usize = 32;

/// Tells gRPC's own retry logic to leave it be (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Everything that goes into a status.
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) jet: Option<JetErr>,
    pub(super) message: String,
    pub(super) facts: Facts,
    pub(super) bad_fields: Vec<BadField>,
    pub(super) retry: Option<Duration>,
    /// Further metadata; what is empty is left out.
    pub(super) also: Vec<(&'static str, String)>,
    pub(super) shortened: Shortened,
}

/// What has been left out so that the details fit, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shortened {
    /// Nothing.
    No,
    /// The ends of lists.
    Lists,
    /// The texts of the JET error, which stand in the message and in the table too.
    Texts,
    /// Whatever is said twice: the holder outside ErrorInfo.
    Repetitions,
    /// The ends of long words of others, and of the sentence for people.
    Words,
}

impl Answer {
    /// An answer with a JET code.
    pub(super) fn jet(jet: JetErr) -> Self {
        Self { jet: Some(jet), ..Self::ours(code(jet), &jet.reason(), String::new()) }
    }

    /// An answer that has no JET code.
    pub(super) fn ours(code: Code, reason: &str, message: String) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            jet: None,
            message,
            facts: Facts::default(),
            bad_fields: Vec::new(),
            retry: None,
            also: Vec::new(),
            shortened: Shortened::No,
        }
    }

    /// The status, its details shortened until they fit into what clients accept as headers.
    pub(super) fn status(mut self, about: &About) -> Status {
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
            Shortened::Texts => Shortened::Repetitions,
            Shortened::Repetitions | Shortened::Words => Shortened::Words,
        };
        if self.shortened == Shortened::Words && before != Shortened::Words {
            self.message = cut(&self.message, MESSAGE_BYTES_CUT);
        }
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
            put("holder_thread_id", holder.thread().map(str::to_owned));
            put("fencing_token", Some(holder.token.to_string()));
            put("held_for", Some(seconds(holder.held_for)));
            put("lease_remaining", holder.lease_remaining.map(seconds));
        }
        put("queue_length", self.facts.queue_length.map(|length| length.to_string()));
        put("pool_size", self.facts.pool_size.map(|size| size.to_string()));
        if let Some(lost) = &self.facts.lost {
            put("time", Some(rfc3339(lost.time)));
            let by = lost.by.as_ref().map(|by| self.word(by.as_str()));
            match &lost.how {
                // Nobody did that.
                HowLost::LeaseExpired => {}
                HowLost::Forced(reason) => {
                    put("by_principal", by);
                    put("reason", Some(self.word(reason.as_str())));
                }
                HowLost::Transferred => put("by_principal", by),
            }
        }
        for (key, value) in watch::metadata(&self.facts.watch) {
            put(key, value);
        }
        for (key, value) in &self.also {
            put(key, (!value.is_empty()).then(|| self.word(value)));
        }
        put("truncated", (self.shortened > Shortened::No).then(|| "true".to_owned()));
        pb::ErrorInfo { reason: self.reason.clone(), domain: DOMAIN.to_owned(), metadata }
    }

    /// What somebody else said, as much of it as there is room for.
    fn word(&self, word: &str) -> String {
        if self.shortened < Shortened::Words { word.to_owned() } else { cut(word, WORD_BYTES_CUT) }
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
            owner: holder.and_then(Holder::thread).unwrap_or_default().to_owned(),
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
                _ if self.facts.pool_size == Some(0) => "no session matches".to_owned(),
                _ if self.facts.pool_size.is_some() => "no session is free".to_owned(),
                (Some(_), _) if self.shortened >= Shortened::Repetitions => "held".to_owned(),
                (Some(holder), _) => match holder.thread() {
                    Some(thread) => format!("held by thread {thread}"),
                    None => "held by another principal".to_owned(),
                },
                (None, Some(cause)) => cause.as_str().to_owned(),
                (None, None) => String::new(),
            };
            let subject = about.resource().map(|(_, name)| name);
            violations.push(violation("SESSION_CONTEXT", subject, state));
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
                let subject = match limit {
                    QueueLimit::Session | QueueLimit::Pool => about.resource()?.1,
                    QueueLimit::Connection => "connection".to_owned(),
                    QueueLimit::Server => "server".to_owned(),
                };
                (subject, limit.metric(), i64::try_from(limit.max()).unwrap_or(i64::MAX))
            }
            Quota::Leases(max) => {
                // Which one is not known: a heartbeat is for all of them.
                let subject = about.instance_name().unwrap_or_else(|| "instance".to_owned());
                (subject, "leases", i64::try_from(max).unwrap_or(i64::MAX))
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

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

/// The beginning of a text that is too long.
fn cut(text: &str, bytes: usize) -> String {
    match text.split_at(text.floor_char_boundary(bytes)) {
        (whole, "") => whole.to_owned(),
        (begin, _) => format!("{begin}…"),
    }
}
