//! The sessions of an instance: the fold of its changes.
//!
//! This is the only place where sessions change. It decides nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::{Revision, SessionId};
use crate::domain::session::{Binding, Context, Session};

/// Where the numbers of an instance begin. Every instance begins above all numbers that a deleted
/// one ever used, so that no token and no sesid comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Floor {
    /// No event at or below this revision is new.
    pub revision: Revision,
    /// No session at or below this number is new.
    pub sesid: u64,
}

impl Floor {
    /// The floor above both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { revision: self.revision.max(other.revision), sesid: self.sesid.max(other.sesid) }
    }
}

/// All sessions of an instance, and how far its history goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionTable {
    sessions: BTreeMap<SessionId, Session>,
    last: Floor,
    bound: usize,
    in_transaction: usize,
}

impl SessionTable {
    /// No sessions, numbers beginning above `floor`.
    pub fn above(floor: Floor) -> Self {
        Self { last: floor, ..Self::default() }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.last.revision
    }

    /// The last numbers used.
    pub fn floor(&self) -> Floor {
        self.last
    }

    /// The session with this number.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Whether a session with this number ever began here or below the floor.
    pub fn ever_began(&self, id: SessionId) -> bool {
        id.get() <= self.last.sesid
    }

    /// The session that began last, if it still exists.
    pub fn newest(&self) -> Option<&Session> {
        SessionId::new(self.last.sesid).and_then(|id| self.session(id))
    }

    /// The number of the next session, unless all numbers are used up.
    pub fn next_sesid(&self) -> Option<SessionId> {
        self.last.sesid.checked_add(1).and_then(SessionId::new)
    }

    /// Sessions after `after`, or all, in the order of their numbers.
    pub fn after(&self, after: Option<SessionId>) -> impl Iterator<Item = &Session> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions.range((from, Bound::Unbounded)).map(|(_, session)| session)
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many have a context set.
    pub fn bound_count(&self) -> usize {
        self.bound
    }

    /// How many have an open transaction.
    pub fn in_transaction_count(&self) -> usize {
        self.in_transaction
    }

    /// Makes `change` true. Total: a change of a session that does not exist changes only the revision.
    pub fn apply(&mut self, change: &Change) {
        self.last.revision = change.revision;
        match &change.event {
            SessionEvent::Began { session: id, labels } => {
                self.last.sesid = self.last.sesid.max(id.get());
                let session = Session::new(*id, labels.clone(), change.time, change.revision);
                let replaced = self.sessions.insert(*id, session);
                self.forget(replaced);
            }
            SessionEvent::ContextSet { session, owner, context } => {
                self.touch(*session, change, |session| {
                    session.context = Context::Set(Binding {
                        context: *context,
                        owner: owner.clone(),
                        token: change.revision,
                        since: change.time,
                    });
                });
            }
            SessionEvent::ContextReset { session } => {
                self.touch(*session, change, |session| session.context = Context::Reset);
            }
            SessionEvent::TransactionBegan { session, transaction } => {
                self.touch(*session, change, |session| {
                    session.transaction = Some(Box::new(transaction.clone()));
                });
            }
            SessionEvent::TransactionCommitted { session, left }
            | SessionEvent::TransactionRolledBack { session, left } => {
                self.touch(*session, change, |session| {
                    session.transaction = left.clone().map(Box::new);
                });
            }
            SessionEvent::Ended { session, forced: _ } => {
                let ended = self.sessions.remove(session);
                self.forget(ended);
            }
            SessionEvent::AllEnded => {
                self.sessions.clear();
                self.bound = 0;
                self.in_transaction = 0;
            }
        }
    }

    /// Takes a session that is no more out of the counts.
    fn forget(&mut self, session: Option<Session>) {
        if let Some(session) = session {
            self.bound -= usize::from(session.binding().is_some());
            self.in_transaction -= usize::from(session.transaction.is_some());
        }
    }

    /// Changes one session and keeps the counts right.
    fn touch(&mut self, id: SessionId, change: &Change, edit: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let counts = |session: &Session| {
            (usize::from(session.binding().is_some()), usize::from(session.transaction.is_some()))
        };
        let before = counts(session);
        edit(session);
        session.revision = change.revision;
        let after = counts(session);
        self.bound = self.bound + after.0 - before.0;
        self.in_transaction = self.in_transaction + after.1 - before.1;
    }
}
