//! A session: its context binding and its transaction.
//!
//! A *context* is an opaque word that a thread puts on a session (`JetSetSessionContext`). It does
//! two things. As long as it is there nobody else can put one, so it claims the session. And a
//! transaction begun while it is there belongs to the word instead of the thread, so that it can go
//! on under whichever thread sets the same word next.

use std::time::Duration;

use crate::domain::id::{ContextValue, Labels, Owner, Principal, Reason, Revision, SessionId};
use crate::domain::limits::TRANSACTION_LEVEL_MAX;
use crate::domain::time::Timestamp;

/// A session (`JET_SESID`) and everything known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// How people find it.
    pub labels: Labels,
    /// When it began.
    pub created: Timestamp,
    /// The last event that touched it.
    pub revision: Revision,
    /// Its context.
    pub context: Context,
    /// What few of many sessions have.
    rare: Option<Box<Rare>>,
}

/// What few of many sessions have, in one box so that the others pay for one pointer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rare {
    transaction: Option<Transaction>,
    lost: Option<Lost>,
    abandoned: bool,
}

impl Session {
    /// A session that has just begun: level 0, no context.
    pub fn new(id: SessionId, labels: Labels, created: Timestamp, revision: Revision) -> Self {
        Self { id, labels, created, revision, context: Context::NeverSet, rare: None }
    }

    /// Its open transaction; nothing at level 0.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.rare.as_ref()?.transaction.as_ref()
    }

    /// How the last holder lost it, if that was not by letting it go.
    pub fn lost(&self) -> Option<&Lost> {
        self.rare.as_ref()?.lost.as_ref()
    }

    /// Whether its last holder did not let it go and nobody has put it in order since.
    pub fn abandoned(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.abandoned)
    }

    /// How many bytes it takes beside itself for what few sessions have.
    pub(super) fn rare_bytes(&self) -> usize {
        if self.rare.is_some() { size_of::<Rare>() } else { 0 }
    }

    /// Replaces the open transaction.
    pub fn set_transaction(&mut self, transaction: Option<Transaction>) {
        self.edit(|rare| rare.transaction = transaction);
    }

    /// Replaces how the last holder lost it.
    pub fn set_lost(&mut self, lost: Option<Lost>) {
        self.edit(|rare| rare.lost = lost);
    }

    /// Says whether it is abandoned.
    pub fn set_abandoned(&mut self, abandoned: bool) {
        self.edit(|rare| rare.abandoned = abandoned);
    }

    /// It as it is shown when it has ended: what was open on it is rolled back.
    pub(super) fn ended(&self, revision: Revision) -> Self {
        let mut ended = self.clone();
        ended.revision = revision;
        ended.context = Context::Reset;
        ended.rare = None;
        ended
    }

    /// The holder lets it go: who lost it before is history, and at level 0 it is in order again.
    pub(super) fn let_go(&mut self) {
        if self.rare.is_none() {
            return;
        }
        self.edit(|rare| {
            rare.lost = None;
            rare.abandoned &= rare.transaction.is_some();
        });
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Rare)) {
        let Some(rare) = &mut self.rare else {
            let mut rare = Rare::default();
            edit(&mut rare);
            self.rare = (rare != Rare::default()).then(|| Box::new(rare));
            return;
        };
        edit(rare);
        if **rare == Rare::default() {
            self.rare = None;
        }
    }

    /// The binding, if a context is set.
    pub fn binding(&self) -> Option<&Binding> {
        match &self.context {
            Context::Set(binding) => Some(binding),
            Context::NeverSet | Context::Reset => None,
        }
    }

    /// The level of the open transaction, 0 to 7.
    pub fn transaction_level(&self) -> u8 {
        self.transaction().map_or(0, Transaction::level)
    }

    /// Whether the caller may go on with `transaction`, which is open on this session; `is_caller`
    /// tells the caller's thread from others.
    ///
    /// Bound to a context: that word must be set now, and set by the caller. Bound to a thread: the
    /// caller must be that thread, and the context plays no part.
    pub fn may_continue(
        &self,
        transaction: &Transaction,
        is_caller: impl Fn(&Owner) -> bool,
    ) -> bool {
        match transaction.bound_to() {
            TransactionOwner::Context(word) => self
                .binding()
                .is_some_and(|binding| binding.context == *word && is_caller(&binding.owner)),
            TransactionOwner::Thread(owner) => is_caller(owner),
        }
    }
}

/// A session as it is shown, with what is true of it only at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// The session.
    pub session: Session,
    /// How many calls wait for it.
    pub waiters: u32,
    /// The lease of its holder, if that has one.
    pub lease: Option<LeaseView>,
}

/// A lease as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// How long it lives without a renewal.
    pub ttl: Duration,
    /// How much of that is left.
    pub remaining: Duration,
}

/// The context of a session. That it was once set and reset is remembered, because a thread that is
/// told "not set by you" needs to know whether it ever was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// No thread ever set one.
    NeverSet,
    /// It was set and then reset.
    Reset,
    /// A thread holds the session.
    Set(Binding),
}

/// A context that is set: word and thread, always both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The word.
    pub context: ContextValue,
    /// The thread that set it, the only one that may reset it.
    pub owner: Owner,
    /// The revision of the event that set it: the fencing token.
    pub token: Revision,
    /// When it was set.
    pub since: Timestamp,
}

/// How a thread lost a session that it had not let go. Kept until the next holder lets it go, so that
/// the thread is told when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The thread.
    pub owner: Owner,
    /// Its fencing token.
    pub token: Revision,
    /// How.
    pub how: HowLost,
    /// On whose behalf.
    pub by: Principal,
    /// When.
    pub time: Timestamp,
}

/// How a session can be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HowLost {
    /// The thread's lease ended without a renewal.
    LeaseExpired,
    /// An operator took it away, and said why.
    Forced(Reason),
    /// The thread handed it over.
    Transferred,
}

/// To whom a transaction belongs. Decided once, when its outermost level begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionOwner {
    /// To whoever has this word set.
    Context(ContextValue),
    /// To the thread that began it.
    Thread(Owner),
}

/// An open transaction: 1 to 7 levels deep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    level: u8,
    bound_to: TransactionOwner,
}

impl Transaction {
    /// The outermost level.
    pub fn outermost(bound_to: TransactionOwner) -> Self {
        Self { level: 1, bound_to }
    }

    /// A transaction that was open at this level, read from a record; `None` if there is no such level.
    pub fn at_level(level: u8, bound_to: TransactionOwner) -> Option<Self> {
        (1..=TRANSACTION_LEVEL_MAX).contains(&level).then_some(Self { level, bound_to })
    }

    /// How deep it is, 1 to 7.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// To whom it belongs.
    pub fn bound_to(&self) -> &TransactionOwner {
        &self.bound_to
    }

    /// The owner, if it belongs to a thread: to be replaced by an equal one that is shared.
    pub(super) fn owner_mut(&mut self) -> Option<&mut Owner> {
        match &mut self.bound_to {
            TransactionOwner::Thread(owner) => Some(owner),
            TransactionOwner::Context(_) => None,
        }
    }

    /// One level more, unless it is as deep as can be.
    #[must_use]
    pub fn deeper(&self) -> Option<Self> {
        Self::at_level(self.level + 1, self.bound_to.clone())
    }

    /// One level less; nothing after the outermost.
    #[must_use]
    pub fn shallower(&self) -> Option<Self> {
        Self::at_level(self.level - 1, self.bound_to.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million of them are to fit into 128 MiB together with the rest of the server.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 80, "{}", size_of::<Session>());
    }
}
