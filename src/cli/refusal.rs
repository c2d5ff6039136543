//! What a server says when it says no: told to people and to programs.

use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::client;
use crate::domain::jet_err::JetErr;

use super::failure::Exit;
use super::json;

/// Facts that the first line has told already.
const TOLD: [&str; 3] = ["jet_error", "jet_error_name", "jet_category"];

/// How to be somebody whom the server knows.
const KNOWN: &str = "a token that the server knows, with --token-file or in JET_SESSION_TOKEN, or a \
                     certificate with --cert and --key";

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

/// A refusal, as the command line shows it.
#[derive(Debug)]
pub(super) struct Refusal(client::Refusal);

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        Self(client::Refusal::of(status))
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
        let code = self.0.code();
        match self.0.jet_err() {
            _ if self.0.is_stale_token() => Exit::Taken,
            Some(err) if TAKEN.contains(&err) => Exit::Taken,
            Some(err) if MISSING.contains(&err) => Exit::Missing,
            // The health service knows no JET errors.
            None if code == Code::NotFound => Exit::Missing,
            None if matches!(code, Code::Unauthenticated | Code::PermissionDenied) => Exit::Denied,
            Some(_) | None if matches!(code, Code::Unavailable | Code::DeadlineExceeded) => {
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
        let message = self.0.message();
        match (self.0.jet_name(), self.0.jet_code()) {
            (Some(name), _) if message.starts_with(name) => message.to_owned(),
            (Some(name), Some(code)) => format!("{name} ({code}): {message}"),
            (_, _) => format!("{}: {message}", code_name(self.0.code())),
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
        let facts = self.0.facts();
        let told = |key: &str| key == "instance" && facts.contains_key("session");
        for (key, label) in FIRST {
            if told(key) {
                continue;
            }
            if let Some(fact) = facts.get(key) {
                row(label, fact.clone());
            }
        }
        for (key, fact) in facts {
            if !TOLD.contains(&key.as_str()) && FIRST.iter().all(|(first, _)| first != key) {
                row(&key.replace('_', " "), fact.clone());
            }
        }
        let details = self.0.details();
        if let Some(bad) = details.bad_request() {
            for field in &bad.field_violations {
                row("field", about(&field.field, &field.description));
            }
        }
        if let Some(failed) = details.precondition_failure() {
            // Whose phase or whose context is in the way stands among the facts.
            let known = ["instance_state", "holder_thread_id"];
            if !known.iter().any(|fact| facts.contains_key(*fact)) {
                for v in &failed.violations {
                    row("in the way", about(&v.subject, &v.description));
                }
            }
        }
        if let Some(quota) = details.quota_failure() {
            for v in &quota.violations {
                row("limit", about(&v.subject, &v.description));
            }
        }
        if self.0.code() == Code::Unauthenticated {
            row("what helps", KNOWN.to_owned());
        }
        if let Some(delay) = self.0.retry_after() {
            row("retry after", format!("{delay:?}"));
        }
        if let Some(request) = details.request_info() {
            row("request", request.request_id.clone());
        }
        rows
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let status = tonic_types::pb::Status::decode(self.0.bytes()).unwrap_or_default();
        let details: Vec<Value> = status
            .details
            .iter()
            .filter_map(|any| json::detail(&any.type_url, &any.value))
            .collect();
        json!({
            "code": self.0.code() as i32,
            "grpc_code": code_name(self.0.code()),
            "jet_error": self.0.jet_code(),
            "jet_error_name": self.0.jet_name(),
            "message": self.0.message(),
            "reason": self.0.reason(),
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
