//! What a change means for the calls that wait: who gets what it has freed, and who waits in vain.
//!
//! Whoever makes a change asks for its [`News`] and decides the calls that are named here in the same
//! batch, so a session is never seen free by somebody who came later.

use crate::domain::event::SessionEvent;
use crate::domain::id::{Owner, SessionId};
use crate::domain::instance::Instance;
use crate::domain::queue::Ticket;

/// What happened to a session, as far as those who wait care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It may be free: ask who is [next in line](Instance::next_in_line) until nobody is.
    Freed(SessionId),
    /// It was handed over to this thread: see its [`Heirs`].
    HandedOver(SessionId, Owner),
    /// It has ended: ask who waits [in vain](Instance::in_vain).
    Ended(SessionId),
}

impl News {
    /// What this event means for those who wait, if anything.
    pub fn of(event: &SessionEvent) -> Option<Self> {
        match event {
            SessionEvent::Began { session, .. }
            | SessionEvent::ContextReset { session, .. }
            | SessionEvent::TransactionCommitted { session, left: None }
            | SessionEvent::TransactionRolledBack { session, left: None } => {
                Some(Self::Freed(*session))
            }
            SessionEvent::ContextTransferred { session, to } => {
                Some(Self::HandedOver(*session, to.clone()))
            }
            SessionEvent::Ended { session, .. } => Some(Self::Ended(*session)),
            SessionEvent::ContextSet { .. }
            | SessionEvent::TransactionBegan { .. }
            | SessionEvent::TransactionCommitted { left: Some(_), .. }
            | SessionEvent::TransactionRolledBack { left: Some(_), .. }
            // The phase that it leads to answers everybody who waits.
            | SessionEvent::AllEnded
            | SessionEvent::LeaseSet { .. }
            | SessionEvent::LeaseEnded { .. }
            | SessionEvent::ServingBegan { .. }
            | SessionEvent::ServedUntil { .. } => None,
        }
    }
}

/// The waiting calls of a thread to which a session is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heirs {
    /// The oldest with the word that stays: the transfer has done what it waits for.
    pub first: Option<Ticket>,
    /// Those with other words: they would wait for their own thread.
    pub others: Vec<Ticket>,
}

impl Instance {
    /// The call that gets this session now: nobody's if it is not free or nobody waits for it.
    pub fn next_in_line(&self, id: SessionId) -> Option<Ticket> {
        if self.queue.is_empty() {
            return None;
        }
        let session = self.table.session(id).filter(|session| session.binding().is_none())?;
        self.queue.first(id, &session.labels, session.transaction().is_none())
    }

    /// What becomes of the waiting calls of a thread when it is handed this session, which is held.
    pub fn heirs(&self, id: SessionId, to: &Owner) -> Heirs {
        let mut heirs = Heirs { first: None, others: Vec::new() };
        let binding = self.table.session(id).and_then(|session| session.binding());
        let Some(word) = binding.map(|binding| binding.context.get()) else {
            return heirs;
        };
        for (ticket, waiter) in self.queue.of_session(id).filter(|(_, it)| it.owner == *to) {
            if waiter.context != word {
                heirs.others.push(ticket);
            } else if heirs.first.is_none() {
                heirs.first = Some(ticket);
            }
        }
        heirs
    }

    /// Calls that wait in vain because this session has ended: for it alone, or for any of a pool that it
    /// was the last of.
    pub fn in_vain(&self, id: SessionId) -> Vec<Ticket> {
        let mut tickets: Vec<_> = self.queue.of_session(id).map(|(ticket, _)| ticket).collect();
        tickets.extend(self.queue.of_pools(|labels| self.table.pool(labels).0 == 0));
        tickets
    }
}
