//! What happened to the sessions of an instance. State is the fold of these and nothing else.
//!
//! An event is a fact with all that is needed to apply it: applying looks at no clock, makes no
//! choice and cannot fail. Stores keep changes, watchers are told them, and a new kind of event is a
//! new line in every document that draws them.

use crate::domain::id::{ContextValue, Labels, Owner, Principal, Reason, Revision, SessionId};
use crate::domain::session::Transaction;
use crate::domain::time::Timestamp;

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
}

/// Something that happened to a session, or to all of them.
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
    /// The thread that had set the context reset it.
    ContextReset {
        /// On which session.
        session: SessionId,
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
}
