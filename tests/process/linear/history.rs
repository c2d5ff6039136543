//! What clients did and were told, with the times of one observer.

use std::fmt;

/// Nanoseconds on the observer's monotonic clock.
pub(crate) type Nanos = u64;
pub(crate) type Thread = u32;

/// What was asked of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    Set {
        wait: bool,
        lease: Option<Nanos>,
    },
    /// A token of 0 is not compared.
    Reset {
        token: u64,
    },
    /// Whether the successor has a lease is for whoever writes it down to know.
    Transfer {
        to: Thread,
        token: u64,
        leased: bool,
    },
    ForceReset {
        token: u64,
    },
    Check {
        token: u64,
    },
    Look,
    KeepAlive {
        ttl: Nanos,
    },
    End,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// It was made; of a Set or a Transfer this is the token.
    Made(u64),
    /// It was made, or so it is, and there is no revision to tell.
    Ok,
    /// What a Look saw: who holds the session, under which token.
    Saw(Option<(Thread, u64)>),
    Refused(Refusal),
    /// The answer never came. It was made at some time after it was asked for, perhaps long after its
    /// caller had given up, or never.
    Unknown,
}

/// Why it was not made, with the facts that were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    AlreadySet { holder: Thread, token: u64 },
    NotSetByThisThread(Unset),
    StaleToken,
    InUse,
    Ended,
    // For reasons that are not in the session: a full queue, a deadline.
    NotSaid,
}

/// What −1913 says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unset {
    Free,
    HeldByOther,
    /// To a last holder: it was taken away.
    TakenAway,
}

/// One call, with all its retries under one request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Operation {
    pub(crate) session: u64,
    pub(crate) by: Thread,
    pub(crate) act: Act,
    /// Before it was sent for the first time.
    pub(crate) invoked: Nanos,
    /// After its answer was there. If there was none, after it can have been made: when the server that
    /// was asked was dead, or never.
    pub(crate) returned: Nanos,
    pub(crate) outcome: Outcome,
}

impl Operation {
    /// The place among all changes that the answer tells.
    pub(crate) fn revision(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Made(revision) => Some(revision),
            Outcome::Ok | Outcome::Saw(_) | Outcome::Refused(_) | Outcome::Unknown => None,
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.outcome == Outcome::Unknown
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, by, act, invoked, returned, outcome } = self;
        write!(f, "session {session}, thread {by}: {act:?} → {outcome:?}, at {invoked} ns")?;
        if *returned == Nanos::MAX { Ok(()) } else { write!(f, " to {returned} ns") }
    }
}
