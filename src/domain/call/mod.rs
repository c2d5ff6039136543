//! The calls of the contract that concern sessions. One file per group of JET functions:
//!
//! - [`context`]: SetSessionContext, ResetSessionContext
//! - [`session`]: BeginSession, DuplicateSession, EndSession, GetSession, ListSessions
//! - [`transaction`]: BeginTransaction, CommitTransaction, RollbackTransaction
//!
//! A new JET call is a struct with its arguments, an enum with its refusals, and an implementation
//! of [`Call`]. The engine, the store and the wire then know nothing new but its name.
//!
//! # Order of checks
//!
//! The phase comes first and is checked once for all calls, in [`Instance::call`]. `decide` then
//! goes on in the order of the contract: the session exists, values, the state of the session.

pub mod context;
pub mod session;
pub mod transaction;

use crate::domain::event::SessionEvent;
use crate::domain::id::{Owner, Principal, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Admission, PhaseRefusal};
use crate::domain::refusal::{Cause, Facts, Refusal};
use crate::domain::session::Session;
use crate::domain::table::SessionTable;
use crate::domain::time::Timestamp;

/// A call that is decided on the state of one instance.
pub trait Call {
    /// What is answered when it succeeds.
    type Answer;
    /// Why it can be refused, beside what any call can be refused for.
    type Refusal: Refusal;
    /// Whether a stopped instance takes it.
    const ADMISSION: Admission;

    /// The events that make the call true, or why not. Looks at nothing but its arguments.
    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<Self::Refusal>>;

    /// The answer, read from the state right after the events.
    fn answer(&self, table: &SessionTable) -> Self::Answer;
}

/// When a call is decided, and on whose behalf.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The wall clock, for people.
    pub now: Timestamp,
    /// The authenticated caller.
    pub by: Principal,
}

impl Stamp {
    /// The caller's thread with this name.
    fn owner(&self, thread: &ThreadId) -> Owner {
        Owner::new(self.by.clone(), thread.clone())
    }

    /// Whether `owner` is the caller's thread with this name.
    fn is(&self, owner: &Owner, thread: &ThreadId) -> bool {
        owner.thread() == thread && *owner.principal() == self.by
    }
}

/// Why a call is refused: for one of the two reasons that all calls share, or for one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<R> {
    /// The phase of the instance does not allow it.
    Phase(PhaseRefusal),
    /// There is no such session.
    NoSuchSession(NoSuchSession),
    /// A reason of this call.
    Call(R),
}

impl<R> From<PhaseRefusal> for Refused<R> {
    fn from(refusal: PhaseRefusal) -> Self {
        Self::Phase(refusal)
    }
}

impl<R> From<NoSuchSession> for Refused<R> {
    fn from(refusal: NoSuchSession) -> Self {
        Self::NoSuchSession(refusal)
    }
}

impl<R: Refusal> Refusal for Refused<R> {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::Phase(refusal) => refusal.jet_err(),
            Self::NoSuchSession(refusal) => refusal.jet_err(),
            Self::Call(refusal) => refusal.jet_err(),
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Phase(refusal) => refusal.facts(),
            Self::NoSuchSession(refusal) => refusal.facts(),
            Self::Call(refusal) => refusal.facts(),
        }
    }
}

/// No session has this number now (`JET_errInvalidSesid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSuchSession {
    /// One had it and has ended.
    Ended,
    /// None ever had it.
    NeverExisted,
}

impl Refusal for NoSuchSession {
    fn jet_err(&self) -> JetErr {
        JetErr::InvalidSesid
    }

    fn facts(&self) -> Facts {
        let cause = match self {
            Self::Ended => Cause::Ended,
            Self::NeverExisted => Cause::NeverExisted,
        };
        Facts { cause: Some(cause), ..Facts::default() }
    }
}

/// Step 9 of the contract's order of checks.
fn existing(instance: &Instance, id: SessionId) -> Result<&Session, NoSuchSession> {
    instance.table.session(id).ok_or_else(|| {
        if instance.table.ever_began(id) {
            NoSuchSession::Ended
        } else {
            NoSuchSession::NeverExisted
        }
    })
}

/// After its own events a call finds the session it was about.
fn touched(table: &SessionTable, id: SessionId) -> Session {
    table.session(id).expect("a decided call leaves its session in place").clone()
}
