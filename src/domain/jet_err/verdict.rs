//! What we make of a code: what kind of trouble it is, whether trying again helps, and whether
//! anything changed.

use super::{Category, JetErr, Retryable};

impl JetErr {
    /// What kind of trouble this is: a decision of our own for the codes this service answers, and
    /// that of the category for all others.
    pub fn kind(self) -> Kind {
        self.kind_of_its_own().unwrap_or_else(|| self.category().kind())
    }

    /// What a caller should do about trying again.
    pub fn retry(self) -> RetryAdvice {
        RetryAdvice::of(self.kind(), self.retryable())
    }

    /// Whether a call of this service that was answered so has changed anything.
    pub fn effect(self) -> Effect {
        match self.kind() {
            Kind::Ok => Effect::Done,
            Kind::InvalidArgument
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::Exhausted
            | Kind::Transient
            | Kind::Conflict
            | Kind::Unsupported => Effect::None,
            Kind::Internal | Kind::DataLoss => Effect::Unknown,
            // The call whose own write failed is answered with the fatal code itself.
            Kind::Precondition if self.category() == Category::Fatal => Effect::Unknown,
            Kind::Precondition => Effect::None,
        }
    }

    /// The three answers every code gives: what kind of trouble, does trying again help, did
    /// anything change.
    pub fn verdict(self) -> Verdict {
        Verdict { kind: self.kind(), retry: self.retry(), effect: self.effect() }
    }

    /// The codes whose kind is not that of their category, or which the API promises by name.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other codes go by their category, and that match is exhaustive"
    )]
    pub(super) const fn kind_of_its_own(self) -> Option<Kind> {
        match self {
            Self::Success => Some(Kind::Ok),

            Self::InvalidParameter => Some(Kind::InvalidArgument),
            Self::InvalidInstance | Self::InvalidSesid => Some(Kind::NotFound),
            Self::InstanceNameInUse => Some(Kind::AlreadyExists),
            Self::OutOfSessions | Self::TooManyInstances => Some(Kind::Exhausted),

            // A phase that ends by itself, or that another server does not share.
            Self::NotInitialized
            | Self::InitInProgress
            | Self::RestoreInProgress
            | Self::TermInProgress
            | Self::ClientRequestToStopJetService => Some(Kind::Transient),

            // A state that somebody must change.
            Self::InstanceUnavailable
            | Self::InstanceUnavailableDueToFatalLogDiskFull
            | Self::SessionContextAlreadySet
            | Self::SessionContextNotSetByThisThread
            | Self::SessionInUse
            | Self::AlreadyInitialized
            | Self::NotInTransaction
            | Self::TransTooDeep
            | Self::TooManyActiveUsers
            | Self::BackupInProgress => Some(Kind::Precondition),

            Self::SessionSharingViolation => Some(Kind::Conflict),

            _ => None,
        }
    }
}

/// What kind of trouble a code is, for any transport: one kind is one gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// No trouble: the call succeeded.
    Ok,
    /// The request is wrong whatever the state.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// What the request would make exists already.
    AlreadyExists,
    /// A supply or a limit is used up.
    Exhausted,
    /// A phase that ends by itself; callers and load balancers may try again.
    Transient,
    /// A state that somebody must change first; nobody should hammer it.
    Precondition,
    /// A collision with what somebody else does.
    Conflict,
    /// Something broke on this side.
    Internal,
    /// Stored data is lost or damaged.
    DataLoss,
    /// Nothing here answers it.
    Unsupported,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = &[
        Self::Ok,
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Exhausted,
        Self::Transient,
        Self::Precondition,
        Self::Conflict,
        Self::Internal,
        Self::DataLoss,
        Self::Unsupported,
    ];

    /// The name of the gRPC code for this kind, as in `FAILED_PRECONDITION`.
    pub const fn grpc_name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Exhausted => "RESOURCE_EXHAUSTED",
            Self::Transient => "UNAVAILABLE",
            Self::Precondition => "FAILED_PRECONDITION",
            Self::Conflict => "ABORTED",
            Self::Internal => "INTERNAL",
            Self::DataLoss => "DATA_LOSS",
            Self::Unsupported => "UNIMPLEMENTED",
        }
    }
}

/// What a caller should do about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryAdvice {
    /// It succeeded.
    NotNeeded,
    /// The call is wrong as it stands.
    NeverUnchanged,
    /// Somebody must change a state first.
    AfterChange,
    /// A phase ends by itself.
    WithBackOff,
    /// The call collided with another.
    AfterReading,
    /// Something is used up for the moment.
    WhenFreed,
    /// It may have been passing trouble.
    Sparingly,
    /// Data must be restored first.
    AfterRestore,
    /// The code is obsolete.
    NotReturned,
}

impl RetryAdvice {
    /// Every advice.
    pub const ALL: &'static [RetryAdvice] = &[
        Self::NotNeeded,
        Self::NeverUnchanged,
        Self::AfterChange,
        Self::WithBackOff,
        Self::AfterReading,
        Self::WhenFreed,
        Self::Sparingly,
        Self::AfterRestore,
        Self::NotReturned,
    ];

    /// Our kind says how to retry; ESE's word decides where the kind leaves it open.
    const fn of(kind: Kind, retryable: Retryable) -> Self {
        match kind {
            Kind::Ok => Self::NotNeeded,
            Kind::InvalidArgument | Kind::NotFound | Kind::AlreadyExists => Self::NeverUnchanged,
            Kind::Transient => Self::WithBackOff,
            Kind::Conflict => Self::AfterReading,
            Kind::DataLoss => Self::AfterRestore,
            Kind::Unsupported => Self::NotReturned,
            Kind::Precondition => match retryable {
                Retryable::Yes => Self::AfterReading,
                Retryable::No | Retryable::Unknown => Self::AfterChange,
            },
            Kind::Exhausted => match retryable {
                Retryable::Yes | Retryable::Unknown => Self::WhenFreed,
                Retryable::No => Self::AfterChange,
            },
            Kind::Internal => match retryable {
                Retryable::Yes | Retryable::Unknown => Self::Sparingly,
                Retryable::No => Self::AfterChange,
            },
        }
    }

    /// Two or three words for a column.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotNeeded => "not needed",
            Self::NeverUnchanged => "never unchanged",
            Self::AfterChange => "after a change",
            Self::WithBackOff => "with back-off",
            Self::AfterReading => "after reading",
            Self::WhenFreed => "when freed",
            Self::Sparingly => "sparingly",
            Self::AfterRestore => "after a restore",
            Self::NotReturned => "not returned",
        }
    }

    /// The advice for a user.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotNeeded => "The call succeeded, so there is nothing to retry.",
            Self::NeverUnchanged => {
                "Do not retry the call unchanged: the answer stays the same until the request is \
                 corrected."
            }
            Self::AfterChange => {
                "Do not retry before somebody has changed the state that refuses the call, unless \
                 the answer carries RetryInfo."
            }
            Self::WithBackOff => {
                "Retry with growing pauses, the first as long as RetryInfo says; if there is no \
                 RetryInfo, wait until the state of the instance changes."
            }
            Self::AfterReading => {
                "The call collided with another: read the present state, then decide whether to \
                 call again."
            }
            Self::WhenFreed => {
                "Retry later, with growing pauses, when others have released what is used up."
            }
            Self::Sparingly => {
                "The trouble may pass: retry a few times with growing pauses, then tell whoever \
                 runs the server."
            }
            Self::AfterRestore => {
                "Do not retry: data is lost or damaged and must be restored or repaired first."
            }
            Self::NotReturned => {
                "Nothing to plan for: the code is obsolete and this service never answers it."
            }
        }
    }
}

/// Whether the call that was answered with a code has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It did what was asked.
    Done,
    /// It changed nothing.
    None,
    /// It may have; only a read can tell.
    Unknown,
}

/// The three answers every code gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What kind of trouble it is.
    pub kind: Kind,
    /// Whether trying again helps.
    pub retry: RetryAdvice,
    /// Whether anything changed.
    pub effect: Effect,
}
