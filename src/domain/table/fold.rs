//! What each change makes true: the only place where sessions change. It decides nothing and cannot fail.

use std::sync::Arc;

use super::{Remembered, SessionTable};
use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{Owner, Revision, SessionId};
use crate::domain::lease::{Loss, LossCause};
use crate::domain::request::{Answer, AnswerKind, Begun, Made};
use crate::domain::session::{
    Binding, Context, HowLost, LeaseView, Lost, Session, SessionView, Transaction,
};

impl SessionTable {
    /// Makes `change` true. Total: a change of a session that does not exist changes only the revision.
    pub fn apply(&mut self, change: &Change) {
        self.happen(change);
        for made in &change.made {
            self.remember(made, change);
        }
    }

    /// Makes the event of a change true.
    fn happen(&mut self, change: &Change) {
        self.revision = change.revision;
        self.terminated = false;
        match &change.event {
            SessionEvent::Began { session: id, labels } => {
                self.issued.raise(id.get());
                // Numbers never come twice; a history that says otherwise has two sessions of one number.
                drop(self.take(*id));
                self.put(Session::new(*id, labels.clone(), change.time, change.revision));
            }
            SessionEvent::ContextSet { session, owner, context } => {
                let owner = self.owners.shared(owner);
                self.touch(*session, change, |session| {
                    session.context = Context::Set(Binding {
                        context: *context,
                        owner,
                        token: change.revision,
                        since: change.time,
                    });
                });
            }
            SessionEvent::ContextReset { session, how: HowReset::ByHolder } => {
                self.touch(*session, change, |session| {
                    session.context = Context::Reset;
                    session.let_go();
                });
            }
            SessionEvent::ContextReset { session, how: HowReset::LeaseExpired } => {
                self.lose(*session, change, LossCause::LeaseExpired, HowLost::LeaseExpired);
            }
            SessionEvent::ContextReset { session, how: HowReset::Forced(reason) } => {
                self.lose(*session, change, LossCause::Forced, HowLost::Forced(reason.clone()));
            }
            SessionEvent::ContextTransferred { session, to } => {
                let to = self.owners.shared(to);
                self.touch(*session, change, |session| {
                    let Context::Set(binding) = &mut session.context else {
                        return;
                    };
                    let owner = std::mem::replace(&mut binding.owner, to);
                    let token = std::mem::replace(&mut binding.token, change.revision);
                    binding.since = change.time;
                    session.set_lost(Some(lost(owner, token, HowLost::Transferred, change)));
                });
            }
            SessionEvent::TransactionBegan { session, transaction } => {
                let transaction = self.shared(transaction);
                self.touch(*session, change, |session| session.set_transaction(Some(transaction)));
            }
            SessionEvent::TransactionCommitted { session, left }
            | SessionEvent::TransactionRolledBack { session, left } => {
                let left = left.as_ref().map(|left| self.shared(left));
                self.touch(*session, change, |session| {
                    if left.is_none() {
                        session.set_abandoned(false);
                    }
                    session.set_transaction(left);
                });
            }
            SessionEvent::Ended { session, forced } => {
                let ended = self.take(*session);
                if forced.is_some()
                    && let Some(Context::Set(binding)) = ended.map(|ended| ended.context)
                {
                    self.count_loss(*session, change, LossCause::Ended, &binding);
                }
            }
            SessionEvent::AllEnded => {
                let issued = std::mem::take(&mut self.issued);
                let revision = change.revision;
                let retries = std::mem::take(&mut self.retries);
                *self = Self { revision, issued, terminated: true, retries, ..Self::default() };
            }
            SessionEvent::LeaseSet { owner, ttl, since } => {
                let owner = self.owners.shared(owner);
                Arc::make_mut(&mut self.threads).set_lease(&owner, *ttl, *since);
            }
            SessionEvent::LeaseEnded { owner } => {
                Arc::make_mut(&mut self.threads).end_lease(owner);
            }
            SessionEvent::ServingBegan { at } => {
                Arc::make_mut(&mut self.threads).serving_began(*at);
            }
            SessionEvent::ServedUntil { at } => {
                Arc::make_mut(&mut self.threads).served_until(*at);
            }
        }
    }

    /// Keeps the answer to a request that the last change was made by.
    pub(in crate::domain) fn remember(&mut self, made: &Made, change: &Change) {
        let answer = match made.answer {
            AnswerKind::Session { waiters, lease_remaining } => {
                let session = change.event.session().and_then(|id| self.session(id));
                let Some(session) = session.cloned() else {
                    return;
                };
                let ttl = session
                    .binding()
                    .and_then(|binding| self.threads.lease(&binding.owner))
                    .map(|lease| lease.ttl);
                let lease =
                    ttl.zip(lease_remaining).map(|(ttl, remaining)| LeaseView { ttl, remaining });
                Answer::Session(Box::new(SessionView { session, waiters, lease }))
            }
            AnswerKind::Sessions(count) => match Begun::up_to(change, count) {
                Some(begun) => Answer::Sessions(Box::new(begun)),
                None => return,
            },
            AnswerKind::Revision => Answer::Revision(change.revision),
            AnswerKind::Level => {
                let session = change.event.session().and_then(|id| self.session(id));
                Answer::Level(session.map_or(0, Session::transaction_level))
            }
            AnswerKind::Done => Answer::Done,
        };
        let request = made.request.clone();
        self.retries.remember(&made.by, Remembered { request, time: change.time, answer });
    }

    /// Takes a session from its holder.
    fn lose(&mut self, id: SessionId, change: &Change, cause: LossCause, how: HowLost) {
        let held = self.session(id).and_then(Session::binding).cloned();
        self.touch(id, change, |session| {
            session.context = Context::Reset;
            if let Some(held) = held.clone() {
                session.set_lost(Some(lost(held.owner, held.token, how, change)));
                session.set_abandoned(true);
            }
        });
        if let Some(held) = held {
            self.count_loss(id, change, cause, &held);
        }
    }

    /// Remembers what a thread lost, to tell it.
    fn count_loss(&mut self, id: SessionId, change: &Change, cause: LossCause, held: &Binding) {
        let (token, time) = (held.token, change.time);
        let loss = Loss { session: id, cause, token, time, told_until: time };
        Arc::make_mut(&mut self.threads).lost(&held.owner, loss);
    }

    /// The transaction, under the handle by which its owner is known.
    fn shared(&mut self, transaction: &Transaction) -> Transaction {
        let mut transaction = transaction.clone();
        if let Some(owner) = transaction.owner_mut() {
            *owner = self.owners.shared(owner);
        }
        transaction
    }
}

/// What is told of a holder that lost its session with this change.
fn lost(owner: Owner, token: Revision, how: HowLost, change: &Change) -> Lost {
    Lost { owner, token, how, by: change.by.clone(), time: change.time }
}
