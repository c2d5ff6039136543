//! How an operation went: done, refused as was to be expected, or wrong.

use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::domain::jet_err::JetErr;

use super::super::failure::Failure;

/// The trailer that names the JET error of a unary call.
const JET_ERROR: &str = "jet-error";

/// The longest message that is kept of an error, in characters: a sentence and its facts.
const MESSAGE_MAX: usize = 300;

/// How an operation went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Somebody else has the session, and the clients were told to fight for it.
    Refused,
    Failed(Trouble),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) cause: Cause,
    pub(super) message: String,
}

/// Errors with the same numbers are counted together. There are not many: a number that is no JET
/// error counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cause {
    /// The gRPC code.
    pub(super) grpc: i32,
    /// The number of the JET error, if there is one.
    pub(super) jet: Option<i32>,
}

impl Cause {
    /// The JET error, if there is one.
    pub(super) fn jet_err(self) -> Option<JetErr> {
        self.jet.and_then(JetErr::from_code)
    }

    /// The gRPC code.
    pub(super) fn code(self) -> Code {
        Code::from(self.grpc)
    }
}

impl Trouble {
    fn new(code: Code, jet: Option<i32>, message: &str) -> Self {
        let jet = jet.filter(|code| JetErr::from_code(*code).is_some());
        // A server is not trusted with the terminal, nor with the memory.
        let message = message.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect();
        Self { cause: Cause { grpc: code.into(), jet }, message }
    }

    /// An answer that the API does not allow.
    pub(super) fn confused(what: &str) -> Self {
        Self::new(Code::Internal, None, &format!("the server's answer makes no sense: {what}"))
    }

    /// The JET error, if there is one.
    pub(super) fn jet_err(&self) -> Option<JetErr> {
        self.cause.jet_err()
    }
}

impl From<&Failure> for Trouble {
    fn from(failure: &Failure) -> Self {
        if let Failure::Refused(status) = failure {
            return Self::from(status.as_ref());
        }
        Self::new(failure.code(), None, &failure.sentence().unwrap_or_default())
    }
}

impl From<&Status> for Trouble {
    fn from(status: &Status) -> Self {
        let trailer = status.metadata().get(JET_ERROR);
        let jet = trailer.and_then(|text| text.to_str().ok()?.parse().ok()).or_else(|| {
            let details = pb::Status::decode(status.details()).ok()?;
            jet_error(&details)
        });
        Self::new(status.code(), jet, status.message())
    }
}

/// The error of one operation of a pipeline.
impl From<&pb::Status> for Trouble {
    fn from(status: &pb::Status) -> Self {
        Self::new(Code::from(status.code), jet_error(status), &status.message)
    }
}

/// The JET error that the details name.
fn jet_error(status: &pb::Status) -> Option<i32> {
    let mut details = status.details.iter();
    let info = details.find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    let info = pb::ErrorInfo::decode(info.value.as_slice()).ok()?;
    info.metadata.get("jet_error")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn refusal(jet: &str) -> Status {
        let metadata = HashMap::from([("jet_error".to_owned(), jet.to_owned())]);
        let details = ErrorDetails::with_error_info("R", "jet.session.v1", metadata);
        Status::with_error_details(Code::FailedPrecondition, "held\x1b[2J", details)
    }

    #[test]
    fn a_refusal_has_the_same_numbers_as_a_status_as_a_result_and_by_its_trailer() {
        let status = refusal("-1912");
        let result = pb::Status::decode(status.details()).unwrap();
        let mut bare = Status::new(Code::FailedPrecondition, "held\x1b[2J");
        bare.metadata_mut().insert(JET_ERROR, "-1912".parse().unwrap());
        for trouble in [
            Trouble::from(&status),
            Trouble::from(&result),
            Trouble::from(&bare),
            Trouble::from(&Failure::Refused(Box::new(status))),
        ] {
            assert_eq!(trouble.cause.code(), Code::FailedPrecondition);
            assert_eq!(trouble.jet_err(), Some(JetErr::SessionContextAlreadySet));
            assert_eq!(trouble.message, "held[2J");
        }
    }

    #[test]
    fn numbers_that_are_no_jet_errors_are_not_told_apart() {
        for jet in ["-77777", "x", ""] {
            assert_eq!(Trouble::from(&refusal(jet)).cause.jet, None, "{jet}");
        }
    }

    #[test]
    fn what_no_server_said_has_a_code_too() {
        let failure = Failure::NoAnswer {
            server: "h:1".to_owned(),
            waited: std::time::Duration::from_secs(1),
        };
        let trouble = Trouble::from(&failure);
        assert_eq!(trouble.cause.code(), Code::DeadlineExceeded);
        assert!(trouble.message.starts_with("no answer from h:1"), "{}", trouble.message);
    }
}
