//! What those who watch sessions are told, and why they are told no more.
//!
//! A change of a session becomes one [`Told`], with the session as it was right after. Whether that is
//! noted while the change is decided or found again by folding an old log, it is the same code:
//! [`apply`].

use crate::domain::call::session::SessionFilter;
use crate::domain::event::{Change, HowReset, Seen, SessionEvent};
use crate::domain::id::{Owner, Principal, Reason, Revision};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::PhaseRefusal;
use crate::domain::refusal::{Facts, Ours, Refusal, WatchFacts};
use crate::domain::session::{Session, SessionView};
use crate::domain::table::SessionTable;
use crate::domain::time::Timestamp;

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The position of the change.
    pub revision: Revision,
    /// When it was decided.
    pub time: Timestamp,
    /// On whose behalf; of an expiry nobody's.
    pub by: Option<Principal>,
    /// What happened.
    pub cause: Cause,
    /// Who held the session before and after.
    pub seen: Seen,
}

/// What can happen to a session, in the words of watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It began.
    Began,
    /// A thread set its context.
    Set,
    /// Its holder reset the context.
    Reset,
    /// Its holder handed the context over.
    Transferred,
    /// The lease of its holder ended.
    LeaseExpired,
    /// An operator took the context away, for this reason.
    Forced(Reason),
    /// It ended; if an operator ended it over the head of its holder, for this reason.
    Ended(Option<Reason>),
    /// A transaction began, or a level more of it.
    TransactionBegan,
    /// A level was committed.
    TransactionCommitted,
    /// One level or all were rolled back.
    TransactionRolledBack,
}

impl Told {
    /// What is told of a change, of which this was to be seen. Nothing if it is not about one session.
    pub fn new(change: Change, seen: Seen) -> Option<Self> {
        let Change { revision, time, by, event, made: _ } = change;
        let cause = match event {
            SessionEvent::Began { .. } => Cause::Began,
            SessionEvent::ContextSet { .. } => Cause::Set,
            SessionEvent::ContextReset { how, .. } => match how {
                HowReset::ByHolder => Cause::Reset,
                HowReset::LeaseExpired => Cause::LeaseExpired,
                HowReset::Forced(reason) => Cause::Forced(reason),
            },
            SessionEvent::ContextTransferred { .. } => Cause::Transferred,
            SessionEvent::TransactionBegan { .. } => Cause::TransactionBegan,
            SessionEvent::TransactionCommitted { .. } => Cause::TransactionCommitted,
            SessionEvent::TransactionRolledBack { .. } => Cause::TransactionRolledBack,
            SessionEvent::Ended { forced, .. } => Cause::Ended(forced),
            SessionEvent::AllEnded
            | SessionEvent::LeaseSet { .. }
            | SessionEvent::LeaseEnded { .. }
            | SessionEvent::ServingBegan { .. }
            | SessionEvent::ServedUntil { .. } => return None,
        };
        let by = (cause != Cause::LeaseExpired).then_some(by);
        Some(Self { revision, time, by, cause, seen })
    }

    /// Whether the session passes the filter before or after. Labels never change.
    pub fn passes(&self, filter: &SessionFilter) -> bool {
        let Seen { before, after } = &self.seen;
        filter.passes(&after.session) || filter.passes_held(before.as_ref(), &after.session.labels)
    }

    /// About how much memory it takes. What it shares with the sessions counts too: it may be the last
    /// to have it.
    pub fn weight(&self) -> usize {
        let owner =
            |owner: &Owner| owner.principal().as_str().len() + owner.thread().as_str().len();
        let Seen { before, after } = &self.seen;
        let holder = after.session.binding().map(|binding| &binding.owner);
        let owners: usize = before.iter().chain(holder).map(owner).sum();
        let labels = after.session.labels.iter();
        let labels: usize = labels.map(|(key, value)| 64 + key.len() + value.len()).sum();
        let reason = match &self.cause {
            Cause::Forced(reason) | Cause::Ended(Some(reason)) => reason.as_str().len(),
            Cause::Began
            | Cause::Set
            | Cause::Reset
            | Cause::Transferred
            | Cause::LeaseExpired
            | Cause::Ended(None)
            | Cause::TransactionBegan
            | Cause::TransactionCommitted
            | Cause::TransactionRolledBack => 0,
        };
        size_of::<Self>() + owners + labels + reason + after.session.rare_bytes()
    }
}

/// Makes a change true. Answers who held the session that it touched before, and the session after; one
/// that ended as it was last, without context and transaction.
pub fn apply(table: &mut SessionTable, change: &Change) -> Option<(Option<Owner>, Session)> {
    let touched = change.event.session();
    let before = touched.and_then(|id| table.session(id));
    let holder = before.and_then(Session::binding).map(|binding| binding.owner.clone());
    let ends = matches!(change.event, SessionEvent::Ended { .. });
    let last = before.filter(|_| ends).map(|before| before.ended(change.revision));
    table.apply(change);
    let after = last.or_else(|| touched.and_then(|id| table.session(id)).cloned());
    after.map(|after| (holder, after))
}

/// What was remembered of a change is made true again, and told. What only the server knew that decided
/// it is not in it: who waited, and how long a lease was still to last.
pub fn recall(table: &mut SessionTable, mut change: Change) -> Option<Told> {
    // Nobody asks a table of the past for answers.
    change.made = Vec::new();
    let (before, session) = apply(table, &change)?;
    let after = SessionView { session, waiters: 0, lease: None };
    Told::new(change, Seen { before, after })
}

/// Why sessions are not watched, or not any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchRefusal {
    /// The phase does not allow it.
    Phase(PhaseRefusal),
    /// The reader did not keep up, and what it would be told next is not kept.
    TooSlow,
    /// What was asked for is not kept.
    Compacted {
        /// The first revision that can be asked for.
        oldest: Revision,
    },
    /// What was asked for has not happened, or was lost after it had been told.
    NotYet {
        /// The last revision.
        current: Revision,
    },
    /// A watch that had begun ends.
    Ended {
        /// Why.
        why: Box<WatchRefusal>,
        /// What to ask for next; 0 if the snapshot was not told to its end.
        resume: Revision,
    },
}

impl WatchRefusal {
    /// The end of a watch that goes on with this revision, if at all.
    pub fn resume_from(self, resume: Revision) -> Self {
        Self::Ended { why: Box::new(self), resume }
    }
}

impl From<PhaseRefusal> for WatchRefusal {
    fn from(refusal: PhaseRefusal) -> Self {
        Self::Phase(refusal)
    }
}

impl Refusal for WatchRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::Phase(refusal) => refusal.jet_err(),
            // The engine watches nothing; nobody is told these.
            Self::TooSlow => JetErr::OutOfBuffers,
            Self::Compacted { .. } | Self::NotYet { .. } => JetErr::InvalidParameter,
            Self::Ended { why, .. } => why.jet_err(),
        }
    }

    fn facts(&self) -> Facts {
        let ours = |ours, watch| Facts { ours: Some(ours), watch, ..Facts::default() };
        match self {
            Self::Phase(refusal) => refusal.facts(),
            Self::TooSlow => ours(Ours::WatchTooSlow, WatchFacts::default()),
            Self::Compacted { oldest } => ours(
                Ours::RevisionCompacted,
                WatchFacts { oldest: Some(*oldest), ..WatchFacts::default() },
            ),
            Self::NotYet { current } => ours(
                Ours::RevisionNotYet,
                WatchFacts { current: Some(*current), ..WatchFacts::default() },
            ),
            Self::Ended { why, resume } => {
                let facts = why.facts();
                let watch = WatchFacts { resume: Some(*resume), ..facts.watch };
                Facts { watch, ..facts }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept for watchers is counted in bytes, and tens of thousands of events are to fit.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Told>() <= 192, "{}", size_of::<Told>());
    }
}
