//! What happened to the sessions of an instance. State is the fold of these and nothing else.
//!
//! An event is a fact with all that is needed to apply it: applying looks at no clock, makes no
//! choice and cannot fail. Stores keep changes, watchers are told them, and a new kind of event is a
//! new line in every document that draws them.

use std::time::Duration;

use crate::domain::id::{ContextValue, Labels, Owner, Principal, Reason, Revision, SessionId};
use crate::domain::request::Made;
use crate::domain::session::{SessionView, Transaction};
use crate::domain::time::{Served, Timestamp};

/// One event with its place in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The position: strictly one more than that of the change before.
    pub revision: Revision,
    /// When it was decided.
    pub time: Timestamp,
    /// On whose behalf.
    pub by: Principal,
    /// What happened.
    pub event: SessionEvent,
    /// The requests that it is the effect of, to be answered alike when they come again. Most changes
    /// have none; a transfer to a thread that waits has two.
    pub made: Vec<Made>,
}

impl Change {
    /// A change that nobody asks for again.
    pub fn new(revision: Revision, time: Timestamp, by: Principal, event: SessionEvent) -> Self {
        Self { revision, time, by, event, made: Vec::new() }
    }
}

/// Something that happened to a session, to all of them, or to a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// A session began, with the next free number.
    Began {
        /// Its number.
        session: SessionId,
        /// Its labels.
        labels: Labels,
    },
    /// A thread set a context. The revision of this change is the fencing token.
    ContextSet {
        /// On which session.
        session: SessionId,
        /// The thread that set it.
        owner: Owner,
        /// The word.
        context: ContextValue,
    },
    /// A context was reset.
    ContextReset {
        /// On which session.
        session: SessionId,
        /// How it came to that.
        how: HowReset,
    },
    /// The thread that had set the context handed it over; the word stays. The revision of this change
    /// is the successor's fencing token.
    ContextTransferred {
        /// On which session.
        session: SessionId,
        /// The successor.
        to: Owner,
    },
    /// A transaction began, or one level more of it.
    TransactionBegan {
        /// On which session.
        session: SessionId,
        /// The transaction as it is now.
        transaction: Transaction,
    },
    /// One level was committed.
    TransactionCommitted {
        /// On which session.
        session: SessionId,
        /// What is left of it; nothing at level 0.
        left: Option<Transaction>,
    },
    /// One level or all levels were rolled back.
    TransactionRolledBack {
        /// On which session.
        session: SessionId,
        /// What is left of it; nothing at level 0.
        left: Option<Transaction>,
    },
    /// A session ended; what was open on it was rolled back.
    Ended {
        /// Its number, which is never used again.
        session: SessionId,
        /// Why an operator ended it over the head of its holder, if one did.
        forced: Option<Reason>,
    },
    /// The instance was terminated: every session ended.
    AllEnded,
    /// A thread has a lease from now on, or one of another length, or renewed it for the first time
    /// since the server started. Further renewals are not remembered: a start gives every lease its
    /// full length anyway.
    LeaseSet {
        /// The thread.
        owner: Owner,
        /// How long it lives without a renewal.
        ttl: Duration,
        /// When it was renewed, on the clock of this instance.
        since: Served,
    },
    /// A thread has no lease any more.
    LeaseEnded {
        /// The thread.
        owner: Owner,
    },
    /// The instance serves again after a start, and gives every lease its full length. Only recorded
    /// while there are leases.
    ServingBegan {
        /// The clock of this instance at that moment.
        at: Served,
    },
    /// How long the instance has served. Only recorded while there is a lease that starts no longer
    /// lengthen.
    ServedUntil {
        /// The clock of this instance.
        at: Served,
    },
}

/// How a context came to be reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HowReset {
    /// The thread that had set it let it go.
    ByHolder,
    /// The lease of that thread ended.
    LeaseExpired,
    /// An operator took it away, and said why.
    Forced(Reason),
}

impl SessionEvent {
    /// The session it happened to, if it happened to one.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Began { session, .. }
            | Self::ContextSet { session, .. }
            | Self::ContextReset { session, .. }
            | Self::ContextTransferred { session, .. }
            | Self::TransactionBegan { session, .. }
            | Self::TransactionCommitted { session, .. }
            | Self::TransactionRolledBack { session, .. }
            | Self::Ended { session, .. } => Some(*session),
            Self::AllEnded
            | Self::LeaseSet { .. }
            | Self::LeaseEnded { .. }
            | Self::ServingBegan { .. }
            | Self::ServedUntil { .. } => None,
        }
    }
}

/// Changes that are decided and committed together, and what watchers are told of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// For each change what there was to be seen; nothing if it touched no session.
    pub seen: Vec<Option<Seen>>,
}

/// What there was to be seen of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who held the session before.
    pub before: Option<Owner>,
    /// The session after; one that ended as it was last, without context and transaction.
    pub after: SessionView,
}

impl Batch {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.seen.clear();
    }
}
