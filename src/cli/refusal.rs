//! What a server says when it says no: read from a status, told to people and to programs.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::jet_err::JetErr;

use super::failure::Exit;
use super::json;

/// The reason of the one refusal that has no JET code of its own.
const STALE_FENCING_TOKEN: &str = "STALE_FENCING_TOKEN";

/// Facts that the first line has told already.
const TOLD: [&str; 3] = ["jet_error", "jet_error_name", "jet_category"];

/// What is told first, and under which label; all other facts follow under their own names.
const FIRST: [(&str, &str); 8] = [
    ("instance", "instance"),
    ("session", "session"),
    ("thread_id", "called as"),
    ("holder_thread_id", "held by"),
    ("held_for", "held for"),
    ("fencing_token", "token"),
    ("instance_state", "state"),
    ("cause", "cause"),
];

/// A refusal with everything its status carries.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    message: String,
    jet: Option<Jet>,
    reason: Option<String>,
    facts: BTreeMap<String, String>,
    details: ErrorDetails,
    bytes: Vec<u8>,
}

/// A JET error as the server names it, which may be newer than our table.
#[derive(Debug)]
struct Jet {
    code: i32,
    name: String,
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
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
            facts,
            details,
            bytes: status.details().to_vec(),
        }
    }
}

impl Refusal {
    /// With which code the program ends.
    pub(super) fn exit(&self) -> Exit {
        const TAKEN: [JetErr; 4] = [
            JetErr::SessionSharingViolation,
            JetErr::SessionContextAlreadySet,
            JetErr::SessionContextNotSetByThisThread,
            JetErr::SessionInUse,
        ];
        const MISSING: [JetErr; 2] = [JetErr::InvalidInstance, JetErr::InvalidSesid];
        let jet = self.jet.as_ref().and_then(|jet| JetErr::from_code(jet.code));
        match jet {
            _ if self.reason.as_deref() == Some(STALE_FENCING_TOKEN) => Exit::Taken,
            Some(err) if TAKEN.contains(&err) => Exit::Taken,
            Some(err) if MISSING.contains(&err) => Exit::Missing,
            // The health service knows no JET errors.
            None if self.code == Code::NotFound => Exit::Missing,
            Some(_) | None if matches!(self.code, Code::Unavailable | Code::DeadlineExceeded) => {
                Exit::NotReady
            }
            Some(_) | None => Exit::Refused,
        }
    }

    /// For people: the sentence with its name, then the facts.
    pub(super) fn text(&self) -> String {
        let rows = self.rows();
        let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut text = format!("error: {}", self.sentence());
        for (label, fact) in rows {
            text.push_str(&format!("\n  {label:width$}  {fact}"));
        }
        text
    }

    /// The server's sentence, with the name and the number if it does not begin with them itself.
    fn sentence(&self) -> String {
        match &self.jet {
            Some(jet) if self.message.starts_with(&jet.name) => self.message.clone(),
            Some(jet) => format!("{} ({}): {}", jet.name, jet.code, self.message),
            None => format!("{}: {}", code_name(self.code), self.message),
        }
    }

    /// What helps to understand the refusal, and what to do about it.
    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |label: &str, fact: String| {
            // A server is not trusted with the terminal.
            let fact = fact.chars().filter(|c| !c.is_control()).collect();
            rows.push((label.to_owned(), fact));
        };
        // The name of a session begins with that of its instance.
        let told = |key: &str| key == "instance" && self.facts.contains_key("session");
        for (key, label) in FIRST {
            if told(key) {
                continue;
            }
            if let Some(fact) = self.facts.get(key) {
                row(label, fact.clone());
            }
        }
        for (key, fact) in &self.facts {
            if !TOLD.contains(&key.as_str()) && FIRST.iter().all(|(first, _)| first != key) {
                row(&key.replace('_', " "), fact.clone());
            }
        }
        if let Some(bad) = self.details.bad_request() {
            for field in &bad.field_violations {
                row("field", about(&field.field, &field.description));
            }
        }
        if let Some(failed) = self.details.precondition_failure() {
            // Whose phase or whose context is in the way stands among the facts.
            let known = ["instance_state", "holder_thread_id"];
            if !known.iter().any(|fact| self.facts.contains_key(*fact)) {
                for v in &failed.violations {
                    row("in the way", about(&v.subject, &v.description));
                }
            }
        }
        if let Some(quota) = self.details.quota_failure() {
            for v in &quota.violations {
                row("limit", about(&v.subject, &v.description));
            }
        }
        if let Some(delay) = self.details.retry_info().and_then(|info| info.retry_delay) {
            row("retry after", format!("{delay:?}"));
        }
        if let Some(request) = self.details.request_info() {
            row("request", request.request_id.clone());
        }
        rows
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let status = tonic_types::pb::Status::decode(self.bytes.as_slice()).unwrap_or_default();
        let details: Vec<Value> = status
            .details
            .iter()
            .filter_map(|any| json::detail(&any.type_url, &any.value))
            .collect();
        json!({
            "code": self.code as i32,
            "grpc_code": code_name(self.code),
            "jet_error": self.jet.as_ref().map(|jet| jet.code),
            "jet_error_name": self.jet.as_ref().map(|jet| &jet.name),
            "message": self.message,
            "reason": self.reason,
            "details": details,
        })
    }
}

/// What is said about something, or its name if nothing more is said.
fn about(subject: &str, said: &str) -> String {
    let parts = [subject, said].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(": ")
}

/// The name of a gRPC code as everybody writes it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
