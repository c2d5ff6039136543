//! Why a call did not do what was asked, and whether it may have done it all the same.

use std::error;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

use crate::domain::id::Malformed;
use crate::domain::jet_err::{Effect, JetErr};

use super::dial::Trouble;
use super::refusal::{Holder, Refusal};

/// What came of a call that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server said no, and nothing changed.
    Refused,
    /// The server does not know who asks (UNAUTHENTICATED): without a token or certificate, or with one
    /// that it does not take or that is over. Nothing changed.
    Unauthenticated,
    /// The server knows who asks and does not allow it (PERMISSION_DENIED). Nothing changed.
    NotAllowed,
    /// A call that waited came to its deadline, and the server proved that nothing was set.
    NotSet,
    /// Nobody knows whether it was done: the answer was lost, or did not come in time.
    Unknown,
    /// There was no connection: nothing was done.
    Unreachable,
    /// The request cannot be, or what was given to connect with: nothing was sent.
    Malformed,
    /// The server's answer makes no sense.
    Confused,
}

/// Why a call did not do what was asked.
///
/// [`Error::kind`] says whether it may have been done all the same, [`Error::jet_err`] which JET error it
/// is, and the further methods why. Behind it stands the [`tonic::Status`] of the last try, if there was
/// one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    sentence: String,
    attempts: u32,
    answered: Option<(Status, Refusal)>,
    /// Why there is no connection.
    source: Option<BoxError>,
}

type BoxError = Box<dyn error::Error + Send + Sync>;

impl Error {
    /// The error of a call whose last try was answered so. `unanswered` says whether an earlier try may
    /// have been carried out without its answer being heard.
    pub(super) fn answered(status: Status, unanswered: bool, attempts: u32) -> Self {
        let refusal = Refusal::of(&status);
        let kind = match lost(&status) {
            Some(Lost::NothingSent) if !unanswered => ErrorKind::Unreachable,
            Some(Lost::NothingSent | Lost::MaybeDone) => ErrorKind::Unknown,
            None => verdict(&refusal, unanswered),
        };
        let sentence = match kind {
            ErrorKind::Unreachable => format!("cannot reach the server: {}", innermost(&status)),
            ErrorKind::Unknown if error::Error::source(&status).is_some() => {
                format!("the connection broke: {}; the call may have been done", innermost(&status))
            }
            ErrorKind::Refused
            | ErrorKind::Unauthenticated
            | ErrorKind::NotAllowed
            | ErrorKind::NotSet
            | ErrorKind::Unknown
            | ErrorKind::Malformed
            | ErrorKind::Confused => status.message().to_owned(),
        };
        let answered = Some((status, refusal));
        Self(Box::new(Inner { kind, sentence, attempts, answered, source: None }))
    }

    /// The error of a call whose time is over by the client's own clock, which proves nothing.
    pub(super) fn no_answer(limit: Duration, attempts: u32) -> Self {
        let sentence = format!("no answer within {limit:?}; the call may have been done");
        Self::own(ErrorKind::Unknown, sentence, attempts)
    }

    /// The server said something that the API does not allow.
    pub(super) fn confused(what: &str) -> Self {
        Self::own(ErrorKind::Confused, format!("the server's answer makes no sense: {what}"), 1)
    }

    /// There is no connection, because of the causes behind `error`.
    pub(super) fn unreachable(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let sentence = format!("cannot reach the server: {}", innermost(error.as_ref()));
        let own = Self::own(ErrorKind::Unreachable, sentence, 0);
        Self(Box::new(Inner { source: Some(error), ..*own.0 }))
    }

    /// The request cannot be.
    pub(super) fn malformed(sentence: impl Into<String>) -> Self {
        Self::own(ErrorKind::Malformed, sentence.into(), 0)
    }

    fn own(kind: ErrorKind, sentence: String, attempts: u32) -> Self {
        Self(Box::new(Inner { kind, sentence, attempts, answered: None, source: None }))
    }

    /// What came of the call.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether it may have been done although there is no answer that says so.
    pub fn may_have_been_done(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unknown | ErrorKind::Confused)
    }

    /// How often the call was sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The status of the last try, if it ended with one.
    pub fn status(&self) -> Option<&Status> {
        self.0.answered.as_ref().map(|(status, _)| status)
    }

    /// The status of the last try, to be had.
    pub fn into_status(self) -> Option<Status> {
        self.0.answered.map(|(status, _)| status)
    }

    /// All that the status says.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.answered.as_ref().map(|(_, refusal)| refusal)
    }

    /// The JET error, if there is one.
    pub fn jet_err(&self) -> Option<JetErr> {
        self.refusal()?.jet_err()
    }

    /// The reason in `ErrorInfo`, such as `SESSION_CONTEXT_ALREADY_SET`.
    pub fn reason(&self) -> Option<&str> {
        self.refusal()?.reason()
    }

    /// Which of the several causes of its JET error it is, such as `never_set` or `held_by_other`.
    pub fn cause(&self) -> Option<&str> {
        self.refusal()?.cause()
    }

    /// Who holds the session, where that is why.
    pub fn holder(&self) -> Option<Holder> {
        self.refusal()?.holder()
    }

    /// How long to wait before the same call is worth another try, if the server says that it is.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after()
    }

    /// Whether a fencing token was shown that is not the current one: somebody else came after.
    pub fn is_stale_token(&self) -> bool {
        self.refusal().is_some_and(Refusal::is_stale_token)
    }
}

/// How an answer got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// There was no connection, or none that a request could get through.
    NothingSent,
    /// The connection broke after the request had gone out.
    MaybeDone,
}

/// Whether the status was made on this side, because no answer was heard. Those of the server have no
/// source.
pub(super) fn lost(status: &Status) -> Option<Lost> {
    let mut cause = error::Error::source(status)?;
    if Trouble::of(cause).is_some_and(|trouble| trouble.is_before_all()) {
        return Some(Lost::NothingSent);
    }
    loop {
        if cause.is::<tonic::ConnectError>() {
            return Some(Lost::NothingSent);
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None => return Some(Lost::MaybeDone),
        }
    }
}

/// What an answer says about the call, and about an earlier try of it whose answer was not heard.
fn verdict(refusal: &Refusal, unanswered: bool) -> ErrorKind {
    let effect = refusal.jet_err().map(JetErr::effect);
    match refusal.code() {
        // The server knows of no other try with this request id, unless one is still on its way.
        _ if refusal.is_not_set() && !unanswered => ErrorKind::NotSet,
        _ if effect == Some(Effect::Unknown) => ErrorKind::Unknown,
        // Judged by the state of the session: an earlier try with this request id would have been
        // remembered before.
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented => ErrorKind::Refused,
        // Judged before anything was remembered: an earlier try may have been carried out.
        Code::Unauthenticated if !unanswered => ErrorKind::Unauthenticated,
        Code::PermissionDenied if !unanswered => ErrorKind::NotAllowed,
        Code::ResourceExhausted if !unanswered => ErrorKind::Refused,
        Code::Unavailable if !unanswered && refusal.is_ours() => ErrorKind::Refused,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => ErrorKind::Unknown,
    }
}

/// What happened: the outer errors only say where, such as "transport error".
pub(crate) fn innermost(error: &dyn error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("attempts", &self.0.attempts)
            .field("sentence", &self.0.sentence)
            .field("status", &self.status())
            .finish()
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        let status = self.status().map(|status| status as &(dyn error::Error + 'static));
        status.or(self.0.source.as_deref().map(|source| source as _))
    }
}

impl From<Malformed> for Error {
    fn from(rule: Malformed) -> Self {
        Self::malformed(rule.to_string())
    }
}
