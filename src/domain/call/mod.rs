//! The calls of the contract that concern sessions. One file per group of JET functions:
//!
//! - [`context`]: SetSessionContext, ResetSessionContext
//! - [`ownership`]: TransferSessionContext, CheckSessionContext, ForceResetSessionContext
//! - [`pool`]: BatchBeginSessions, ClaimSessionContext
//! - [`session`]: BeginSession, DuplicateSession, EndSession, GetSession, ListSessions
//! - [`thread`]: KeepThreadsAlive, GetThread, ListThreads, EndThreads
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
pub mod ownership;
pub mod pool;
pub mod session;
pub mod thread;
pub mod transaction;

use std::time::Duration;

use crate::domain::event::SessionEvent;
use crate::domain::id::{Owner, Principal, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Admission, PhaseRefusal};
use crate::domain::limits::{
    LEASES_MAX, QUEUE_FULL_RETRY_MS, WAITERS_MAX, WAITERS_PER_CONNECTION_MAX, WAITERS_PER_POOL_MAX,
    WAITERS_PER_SESSION_MAX,
};
use crate::domain::queue::Waiter;
use crate::domain::refusal::{Cause, Facts, Ours, Quota, Refusal, Retry};
use crate::domain::request::{Repeatable, Request};
use crate::domain::session::{Session, SessionView};
use crate::domain::time::{Served, Timestamp};

/// A call that is decided on the state of one instance.
pub trait Call {
    /// What is answered when it succeeds.
    type Answer: Repeatable;
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

    /// Leases that are renewed although no event says so, with their lengths.
    fn renewals(&self, _: &Instance, _: &Stamp) -> Vec<(Owner, Duration)> {
        Vec::new()
    }

    /// Threads that have no lease from now on, although no event may say so.
    fn ends(&self, _: &Stamp) -> Vec<Owner> {
        Vec::new()
    }

    /// The answer, read from the state right after the events.
    fn answer(&self, instance: &Instance, stamp: &Stamp) -> Self::Answer;

    /// What the call waits for, if it waits instead of being refused like this.
    fn waiter(&self, _: &Self::Refusal, _: &Stamp) -> Option<Waiter> {
        None
    }
}

/// When a call is decided, and on whose behalf.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The wall clock, for people.
    pub now: Timestamp,
    /// The clock of the instance, for leases.
    pub served: Served,
    /// The authenticated caller.
    pub by: Principal,
    /// What the caller calls this call, if it may make it again.
    pub request: Option<Request>,
    /// How long the lease was that its thread had when the call began to wait, if it has waited.
    pub waited_under: Option<Duration>,
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

/// Why a call is refused: for one of the reasons that all calls share, or for one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<R> {
    /// The phase of the instance does not allow it.
    Phase(PhaseRefusal),
    /// There is no such session.
    NoSuchSession(NoSuchSession),
    /// Another call had this request id.
    RequestIdReused,
    /// It waited, and its deadline came: nothing was set.
    NotSet,
    /// It would wait, and too many do.
    QueueFull(QueueLimit),
    /// It wants a lease for a thread that has none, and too many have one.
    TooManyLeases,
    /// A reason of this call.
    Call(R),
}

/// Which of the bounds on waiting is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// For one session.
    Session,
    /// For one pool.
    Pool,
    /// On one connection.
    Connection,
    /// On the whole server.
    Server,
}

impl QueueLimit {
    /// What is bounded, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "calls that wait for this session",
            Self::Pool => "calls that wait for this pool",
            Self::Connection => "calls that wait on this connection",
            Self::Server => "calls that wait on this server",
        }
    }

    /// The name of the bound, for programs.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Session => "waiters_per_session",
            Self::Pool => "waiters_per_pool",
            Self::Connection => "waiters_per_connection",
            Self::Server => "waiters",
        }
    }

    /// The bound.
    pub fn max(self) -> usize {
        match self {
            Self::Session => WAITERS_PER_SESSION_MAX,
            Self::Pool => WAITERS_PER_POOL_MAX,
            Self::Connection => WAITERS_PER_CONNECTION_MAX,
            Self::Server => WAITERS_MAX,
        }
    }
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
            Self::RequestIdReused => JetErr::InvalidParameter,
            Self::NotSet | Self::QueueFull(_) => JetErr::SessionContextAlreadySet,
            Self::TooManyLeases => JetErr::OutOfMemory,
            Self::Call(refusal) => refusal.jet_err(),
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Phase(refusal) => refusal.facts(),
            Self::NoSuchSession(refusal) => refusal.facts(),
            Self::RequestIdReused => Facts {
                ours: Some(Ours::RequestIdReused),
                field: Some((
                    "request_id",
                    "names one call: another method or body needs another one",
                )),
                ..Facts::default()
            },
            Self::NotSet => Facts { ours: Some(Ours::NotSet), ..Facts::default() },
            Self::QueueFull(limit) => Facts {
                ours: Some(Ours::WaitQueueFull),
                quota: Some(Quota::Waiters(*limit)),
                retry: Retry::After(Duration::from_millis(QUEUE_FULL_RETRY_MS)),
                ..Facts::default()
            },
            Self::TooManyLeases => Facts {
                ours: Some(Ours::TooManyLeases),
                quota: Some(Quota::Leases(LEASES_MAX)),
                retry: Retry::Soon,
                ..Facts::default()
            },
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
fn touched(instance: &Instance, id: SessionId) -> &Session {
    instance.table.session(id).expect("a decided call leaves its session in place")
}

/// As [`touched`], with what is true of it at this moment.
fn shown(instance: &Instance, id: SessionId, stamp: &Stamp) -> SessionView {
    instance.view(touched(instance, id).clone(), stamp.served)
}

/// What must be recorded of the lease of a thread that takes something: nothing if it has none, or if
/// nothing about it is new. Whoever says how long a lease is to be renews it.
fn lease_for_taking<R>(
    instance: &Instance,
    stamp: &Stamp,
    owner: &Owner,
    wanted: Option<Duration>,
) -> Result<Option<SessionEvent>, Refused<R>> {
    let deadline = instance.deadlines.get(owner);
    if wanted.is_some() && deadline.is_none() {
        room_for_leases(instance, 1)?;
    }
    let (ttl, since) = match (wanted, instance.table.threads().lease(owner)) {
        (Some(ttl), Some(lease)) if lease.ttl == ttl && lease.starts == 0 => return Ok(None),
        (Some(ttl), _) => (ttl, stamp.served),
        (None, Some(_)) => return Ok(None),
        (None, None) => match (deadline, stamp.waited_under) {
            // The thread held nothing here, so that it has a lease was nobody's business.
            (Some(deadline), _) => (deadline.ttl, deadline.renewed()),
            // It ended while the call waited. What is granted now must not outlive its thread either.
            (None, Some(ttl)) => {
                room_for_leases(instance, 1)?;
                (ttl, stamp.served)
            }
            (None, None) => return Ok(None),
        },
    };
    Ok(Some(SessionEvent::LeaseSet { owner: owner.clone(), ttl, since }))
}

/// Whether so many more threads may have a lease.
fn room_for_leases<R>(instance: &Instance, more: usize) -> Result<(), Refused<R>> {
    if instance.deadlines.len() + more > LEASES_MAX { Err(Refused::TooManyLeases) } else { Ok(()) }
}
