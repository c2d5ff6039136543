//! Why a command did not do what was asked, and with which code the program then ends.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tonic::{Code, Status};

use crate::client::Trouble;

use super::refusal::{Refusal, code_name};

/// How the program ends: what scripts go by. The numbers are in the help and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It was refused for another reason, or failed on this side.
    Refused = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Somebody else has it.
    Taken = 3,
    /// There is no such instance or session.
    Missing = 4,
    /// The server cannot be reached, is not ready, or did not answer in time.
    NotReady = 5,
    /// Whoever asks may not, or one side does not trust the other.
    Denied = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong in a way that only shows when it is used, or the configuration is.
    Usage(String),
    /// The server said no.
    Refused(Box<Status>),
    /// There is no server at this address, or none that we can talk to.
    Unreachable { server: String, cause: String, trouble: Option<Trouble> },
    /// The connection broke before the answer; what became of the call is not known.
    Broken { server: String, cause: String, trouble: Option<Trouble> },
    /// The server did not answer; what became of the call is not known.
    NoAnswer { server: String, waited: Duration },
    /// The server answered the health check with another word than SERVING, which was shown.
    NotServing,
    /// The server said something that the API does not allow.
    Confused(&'static str),
    /// A benchmark did not go as it should; what it measured was shown.
    Bench(String),
    /// `serve` ended with this sentence.
    Serve(String),
    /// A data directory is in use, damaged, or none.
    Directory(String),
    /// The system gives us no runtime.
    Runtime(io::Error),
    /// A file could not be read or written.
    File { path: PathBuf, error: io::Error },
    /// The answer could not be written.
    Output(io::Error),
    /// The reader of the answer closed the pipe.
    EnoughRead,
}

impl Failure {
    /// There is no server there, because of the causes behind `error`.
    pub(super) fn unreachable(server: &str, error: &(dyn Error + 'static)) -> Self {
        let (cause, trouble) = (innermost(error), Trouble::of(error));
        Self::Unreachable { server: server.to_owned(), cause, trouble }
    }

    /// The connection to the server broke, because of the causes behind `error`.
    pub(super) fn broken(server: &str, error: &(dyn Error + 'static)) -> Self {
        let (cause, trouble) = (innermost(error), Trouble::of(error));
        Self::Broken { server: server.to_owned(), cause, trouble }
    }

    /// With which code the program ends.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused(status) => Refusal::from(status.as_ref()).exit(),
            Self::Unreachable { trouble: Some(trouble), .. } if trouble.is_distrust() => {
                Exit::Denied
            }
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::NoAnswer { .. }
            | Self::NotServing => Exit::NotReady,
            Self::Confused(_)
            | Self::Bench(_)
            | Self::Serve(_)
            | Self::Directory(_)
            | Self::Runtime(_)
            | Self::File { .. }
            | Self::Output(_) => Exit::Refused,
            Self::EnoughRead => Exit::Done,
        }
    }

    /// What a person is told, if anything.
    pub(super) fn text(&self) -> Option<String> {
        if let Self::Refused(status) = self {
            return Some(Refusal::from(status.as_ref()).text());
        }
        self.sentence().map(|sentence| format!("error: {sentence}"))
    }

    /// What a program is told, if anything: one JSON object on one line.
    pub(super) fn json(&self) -> Option<String> {
        if let Self::Refused(status) = self {
            return Some(Refusal::from(status.as_ref()).json().to_string());
        }
        let code = self.code();
        let object = json!({
            "code": code as i32,
            "grpc_code": code_name(code),
            "jet_error": null,
            "jet_error_name": null,
            "message": self.sentence()?,
        });
        Some(object.to_string())
    }

    /// The gRPC code of the server, or the one that says the same.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Refused(status) => status.code(),
            Self::Unreachable { .. } | Self::Broken { .. } => Code::Unavailable,
            Self::NoAnswer { .. } => Code::DeadlineExceeded,
            Self::Usage(_) => Code::InvalidArgument,
            Self::Directory(_) => Code::FailedPrecondition,
            Self::NotServing
            | Self::Confused(_)
            | Self::Bench(_)
            | Self::Serve(_)
            | Self::Runtime(_)
            | Self::File { .. }
            | Self::Output(_)
            | Self::EnoughRead => Code::Unknown,
        }
    }

    /// What happened, without what the server added to it.
    pub(super) fn sentence(&self) -> Option<String> {
        match self {
            Self::Refused(status) => Some(status.message().to_owned()),
            Self::Usage(sentence)
            | Self::Bench(sentence)
            | Self::Serve(sentence)
            | Self::Directory(sentence) => Some(sentence.clone()),
            Self::Unreachable { server, cause, trouble } => {
                let hint = hint(trouble.as_ref());
                Some(format!("cannot reach the server at {server}: {cause}{hint}"))
            }
            Self::Broken { server, cause, trouble } => Some(format!(
                "the connection to {server} broke: {cause}{}; the call may have been carried out",
                hint(trouble.as_ref())
            )),
            Self::NoAnswer { server, waited } => Some(format!(
                "no answer from {server} within {waited:?}; the call may have been carried out"
            )),
            Self::Confused(what) => Some(format!("the server's answer makes no sense: {what}")),
            Self::Runtime(error) => Some(format!("cannot start: {error}")),
            Self::File { path, error } => Some(format!("{}: {error}", path.display())),
            Self::Output(error) => Some(format!("cannot write the answer: {error}")),
            Self::NotServing | Self::EnoughRead => None,
        }
    }
}

/// What to do about it, where that can be said.
fn hint(trouble: Option<&Trouble>) -> &'static str {
    match trouble {
        Some(Trouble::NotSigned(_)) => "; give the authority that has signed it with --ca",
        Some(Trouble::OtherName { .. }) => {
            "; if it is the right server, give the name in its certificate with --server-name"
        }
        Some(Trouble::Unidentified) => "; give one with --cert and --key",
        Some(Trouble::NoTls | Trouble::HungUpOnTls) => "; if it speaks plaintext, write http://",
        Some(Trouble::OnlyTls) => "; write https://",
        Some(Trouble::HungUpOnPlaintext) => "; if it speaks TLS, write https://",
        Some(Trouble::NoHttp2) => "; it may be the wrong port",
        Some(
            Trouble::BadCertificate(_)
            | Trouble::NotAccepted(_)
            | Trouble::HungUp
            | Trouble::Tls(_),
        )
        | None => "",
    }
}

/// What happened: the outer errors only say where, such as "transport error".
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_there_is_told_apart() {
        let inner = io::Error::other("Connection refused (os error 111)");
        let failure = Failure::unreachable("h:1", &inner);
        assert_eq!(failure.exit(), Exit::NotReady);
        expect_test::expect![
            "error: cannot reach the server at h:1: Connection refused (os error 111)"
        ]
        .assert_eq(&failure.text().unwrap());
        expect_test::expect![[r#"{"code":14,"grpc_code":"UNAVAILABLE","jet_error":null,"jet_error_name":null,"message":"cannot reach the server at h:1: Connection refused (os error 111)"}"#]]
        .assert_eq(&failure.json().unwrap());
    }

    #[test]
    fn an_answer_that_did_not_come_proves_nothing() {
        let failure =
            Failure::NoAnswer { server: "h:1".to_owned(), waited: Duration::from_secs(10) };
        assert_eq!(failure.exit(), Exit::NotReady);
        expect_test::expect![
            "error: no answer from h:1 within 10s; the call may have been carried out"
        ]
        .assert_eq(&failure.text().unwrap());
    }

    #[test]
    fn a_closed_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Done);
        assert_eq!((failure.text(), failure.json()), (None, None));
    }
}
