//! What every refusal can say about itself.
//!
//! Each call has its own refusal enum, as each JET function has its own list of codes. This trait is
//! what they have in common: the code, and the facts that let a person or a program act on it. The
//! edge turns both into a gRPC status in one place and adds nothing of its own.

use std::convert::Infallible;
use std::time::Duration;

use crate::domain::call::{QueueLimit, Stamp};
use crate::domain::id::{Owner, Principal, Revision, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Phase;
use crate::domain::session::{Binding, HowLost, Lost};
use crate::domain::time::Timestamp;

/// A call was decided, the answer is no, and nothing changed.
pub trait Refusal {
    /// The engine's code for it.
    fn jet_err(&self) -> JetErr;

    /// What is true that makes the answer no.
    fn facts(&self) -> Facts;
}

/// The facts behind a refusal. Most refusals know one or two of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The phase of the instance, where the phase is what refuses.
    pub phase: Option<Phase>,
    /// Which of the several causes of the code it is.
    pub cause: Option<Cause>,
    /// Who holds the session.
    pub holder: Option<Holder>,
    /// What is wrong, where JET has no word for it.
    pub ours: Option<Ours>,
    /// How the caller lost the session that it held last.
    pub lost: Option<Losing>,
    /// How many calls wait for the session or the pool.
    pub queue_length: Option<usize>,
    /// How many sessions the pool has.
    pub pool_size: Option<usize>,
    /// Sessions that stand in the way, at most [`limits::NAMED_SESSIONS_MAX`] of them.
    ///
    /// [`limits::NAMED_SESSIONS_MAX`]: crate::domain::limits::NAMED_SESSIONS_MAX
    pub blocking: Blocking,
    /// A limit that is reached.
    pub quota: Option<Quota>,
    /// The field that holds a bad value, and the rule it breaks.
    pub field: Option<(&'static str, &'static str)>,
    /// What is wrong in particular, in words.
    pub detail: Option<String>,
    /// Where a watch can begin or go on.
    pub watch: WatchFacts,
    /// Whether the same call can succeed soon without anybody's doing.
    pub retry: Retry,
}

impl Facts {
    /// The facts as somebody may know them who sees only some principals: who the others are, and what
    /// their threads are called, is left out. All else stays, so that the answer is of the same use.
    #[must_use]
    pub fn seen_by(mut self, sees: impl Fn(&Principal) -> bool) -> Self {
        if let Some(holder) = &mut self.holder {
            holder.owner = holder.owner.take().filter(|owner| sees(owner.principal()));
        }
        if let Some(lost) = &mut self.lost {
            lost.by = lost.by.take().filter(&sees);
        }
        self
    }
}

/// How a thread lost a session, as told to the one who had declared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Losing {
    /// The thread.
    pub thread: ThreadId,
    /// How.
    pub how: HowLost,
    /// On whose behalf; nothing where whoever asks may not know.
    pub by: Option<Principal>,
    /// When.
    pub time: Timestamp,
}

impl From<&Lost> for Losing {
    fn from(lost: &Lost) -> Self {
        let Lost { owner, how, by, time, .. } = lost;
        let (thread, by) = (owner.thread().clone(), Some(by.clone()));
        Self { thread, how: how.clone(), by, time: *time }
    }
}

/// Where a watch of sessions can begin or go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchFacts {
    /// The first revision that was not told.
    pub resume: Option<Revision>,
    /// The first revision that is kept.
    pub oldest: Option<Revision>,
    /// The last revision that there is.
    pub current: Option<Revision>,
}

/// A refusal that JET has no code of its own for, because the engine does not know what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// The token the caller showed is not the current one.
    StaleToken,
    /// Another call had this request id.
    RequestIdReused,
    /// The deadline came while the call waited; nothing was set.
    NotSet,
    /// Too many calls wait.
    WaitQueueFull,
    /// Too many threads have a lease.
    TooManyLeases,
    /// A watcher did not keep up.
    WatchTooSlow,
    /// A watcher asked for what is not kept.
    RevisionCompacted,
    /// A watcher asked for what has not happened.
    RevisionNotYet,
}

/// Whether the same call can succeed soon without anybody's doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retry {
    /// Somebody must do something first, or it will never succeed.
    #[default]
    No,
    /// It can; nobody knows when.
    Soon,
    /// It can, after about so long.
    After(Duration),
}

/// One of several causes that share a JET code. The text is what clients compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No context was ever set on the session.
    NeverSet,
    /// The context was reset before.
    AlreadyReset,
    /// Another thread holds the session.
    HeldByOther,
    /// The caller held it last, and its lease ended.
    LeaseExpired,
    /// The caller held it last, and an operator took it away.
    Forced,
    /// The caller held it last, and handed it over.
    Transferred,
    /// The session existed and has ended.
    Ended,
    /// No such session was ever begun.
    NeverExisted,
    /// This server process goes down; another, or this one after its restart, may answer.
    Draining,
}

impl Cause {
    /// The word in `metadata.cause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverSet => "never_set",
            Self::AlreadyReset => "already_reset",
            Self::HeldByOther => "held_by_other",
            Self::LeaseExpired => "lease_expired",
            Self::Forced => "forced",
            Self::Transferred => "transferred",
            Self::Ended => "ended",
            Self::NeverExisted => "never_existed",
            Self::Draining => "draining",
        }
    }
}

/// Who holds a session, as told to somebody who wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The thread that set the context; nothing where whoever asks may not know.
    pub owner: Option<Owner>,
    /// The fencing token it was given.
    pub token: Revision,
    /// How long it has been holding the session.
    pub held_for: Duration,
    /// How long it still does so without a renewal, if it has a lease.
    pub lease_remaining: Option<Duration>,
}

impl Holder {
    /// The holder of this binding of an instance, at this moment.
    pub fn of(binding: &Binding, instance: &Instance, stamp: &Stamp) -> Self {
        Self {
            owner: Some(binding.owner.clone()),
            token: binding.token,
            held_for: stamp.now.since(binding.since),
            lease_remaining: instance.lease(binding, stamp.served).map(|lease| lease.remaining),
        }
    }

    /// The name of its thread, if that may be known.
    pub fn thread(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| owner.thread().as_str())
    }
}

/// A call that is never refused for a reason of its own.
impl Refusal for Infallible {
    fn jet_err(&self) -> JetErr {
        match *self {}
    }

    fn facts(&self) -> Facts {
        match *self {}
    }
}

/// Sessions in the way of something: how many, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocking {
    /// All of them.
    pub count: usize,
    /// The first few, in the order of their ids.
    pub first: Vec<SessionId>,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// `max_sessions` of an instance (`JET_paramMaxSessions`).
    Sessions(u32),
    /// Instances of the server (`JET_paramMaxInstances`).
    Instances(usize),
    /// Calls that wait.
    Waiters(QueueLimit),
    /// Threads of an instance that have a lease.
    Leases(usize),
}
