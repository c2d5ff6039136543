//! Calls that wait for a session, and who gets it when it is free.
//!
//! Whoever frees a session decides in the same batch who has it next, so it is never seen free by
//! somebody who came later. A call that waits is a question that has been decided once, to the answer
//! that it would get without waiting; it is decided again when its turn has come.

use std::collections::{BTreeMap, HashMap};

use crate::domain::handover::News;
use crate::domain::id::{Owner as Thread, Principal, SessionId};
use crate::domain::instance::Instance;
use crate::domain::queue::{Queue, Ticket, Waiter};
use crate::domain::request::RequestId;
use crate::engine::ask::{Now, Question, WaiterId};
use crate::engine::owner::Owner;
use crate::engine::owner::batch::Batch;
use crate::store::Store;

/// Why a call stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Left {
    /// It has waited as long as it wanted to.
    TimedOut,
    /// Its deadline is near.
    Deadline,
    /// Its caller has gone, or knows another reason.
    Gone,
}

/// Questions that wait.
#[derive(Default)]
pub(super) struct Parked {
    questions: BTreeMap<Ticket, (WaiterId, Box<dyn Question>)>,
    tickets: HashMap<WaiterId, Ticket>,
    /// Those that carry a request id: the same request may wait twice, and has one effect.
    requests: HashMap<(Principal, RequestId), Vec<Ticket>>,
}

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    pub(super) fn park(
        &mut self,
        id: WaiterId,
        waiter: Waiter,
        question: Box<dyn Question>,
        queue: &mut Queue,
    ) {
        let ticket = queue.join(waiter);
        if let Some((by, request)) = question.request() {
            self.requests.entry((by.clone(), request.clone())).or_default().push(ticket);
        }
        self.tickets.insert(id, ticket);
        self.questions.insert(ticket, (id, question));
    }

    /// The question that has this place, which it gives up.
    fn take(&mut self, ticket: Ticket, queue: &mut Queue) -> Option<Box<dyn Question>> {
        queue.leave(ticket);
        let (id, question) = self.questions.remove(&ticket)?;
        self.tickets.remove(&id);
        if let Some((by, request)) = question.request() {
            let key = (by.clone(), request.clone());
            if let Some(twins) = self.requests.get_mut(&key) {
                twins.retain(|twin| *twin != ticket);
                if twins.is_empty() {
                    self.requests.remove(&key);
                }
            }
        }
        Some(question)
    }

    /// The other questions of a request that has just had its effect.
    fn take_twins(&mut self, of: &dyn Question, queue: &mut Queue) -> Vec<Box<dyn Question>> {
        if self.requests.is_empty() {
            return Vec::new();
        }
        let key = of.request().map(|(by, request)| (by.clone(), request.clone()));
        let twins = key.and_then(|key| self.requests.get(&key).cloned()).unwrap_or_default();
        twins.into_iter().filter_map(|ticket| self.take(ticket, queue)).collect()
    }

    /// Everybody, in order.
    fn drain(&mut self, queue: &mut Queue) -> Vec<Box<dyn Question>> {
        let tickets: Vec<_> = self.questions.keys().copied().collect();
        tickets.into_iter().filter_map(|ticket| self.take(ticket, queue)).collect()
    }
}

impl Batch {
    /// Gives what the changes from the `from`-th on have freed to those who wait for it.
    pub(super) fn hand_over(
        &mut self,
        from: usize,
        instance: &mut Instance,
        parked: &mut Parked,
        now: Now,
    ) {
        if let Some(question) = self.questions.last() {
            for twin in parked.take_twins(&**question, &mut instance.queue) {
                self.put(twin, instance, parked, now);
            }
        }
        let mut nth = from;
        // Those who get something make changes too, and may free nothing by that.
        while let Some(change) = self.happened.changes.get(nth) {
            match News::of(&change.event) {
                Some(News::Freed(session)) => self.grant(session, instance, parked, now),
                Some(News::HandedOver(session, to)) => {
                    self.succeed(session, &to, instance, parked, now);
                }
                Some(News::Ended(session)) => {
                    for ticket in instance.in_vain(session) {
                        self.settle(ticket, instance, parked, now);
                    }
                }
                None => {}
            }
            nth += 1;
        }
    }

    /// Gives a session that may be free to the one who has waited longest and is still there.
    fn grant(&mut self, id: SessionId, instance: &mut Instance, parked: &mut Parked, now: Now) {
        while let Some(ticket) = instance.next_in_line(id) {
            let Some(question) = parked.take(ticket, &mut instance.queue) else {
                continue;
            };
            if !question.waits() {
                continue;
            }
            self.put(question, instance, parked, now);
            if let Some(granted) = self.questions.last() {
                for twin in parked.take_twins(&**granted, &mut instance.queue) {
                    self.put(twin, instance, parked, now);
                }
            }
        }
    }

    /// A session has been handed over to a thread. If that waits for it with the word that stays, its
    /// oldest call has what it wants; its calls with other words never will.
    fn succeed(
        &mut self,
        id: SessionId,
        to: &Thread,
        instance: &mut Instance,
        parked: &mut Parked,
        now: Now,
    ) {
        let mut heirs = instance.heirs(id, to);
        while let Some(mut question) =
            heirs.first.and_then(|first| parked.take(first, &mut instance.queue))
        {
            if !question.waits() {
                heirs = instance.heirs(id, to);
                continue;
            }
            question.adopt(instance, now, &mut self.happened);
            let twins = parked.take_twins(&*question, &mut instance.queue);
            self.questions.push(question);
            for twin in twins {
                self.put(twin, instance, parked, now);
            }
            break;
        }
        for ticket in heirs.others {
            self.settle(ticket, instance, parked, now);
        }
    }

    /// Answers a call that waits with what it would be answered now.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        instance: &mut Instance,
        parked: &mut Parked,
        now: Now,
    ) {
        if let Some(mut question) = parked.take(ticket, &mut instance.queue) {
            // Whether it would wait again is not asked: its answer is there either way.
            drop(question.decide(instance, now, &mut self.happened));
            self.questions.push(question);
        }
    }
}

impl<S: Store> Owner<S> {
    /// A call stops waiting, if it still does; else its answer is on its way.
    pub(super) fn leave(&mut self, id: WaiterId, why: Left, batch: &mut Batch, now: Now) {
        let Some(ticket) = self.parked.tickets.get(&id).copied() else {
            return;
        };
        match why {
            Left::TimedOut => batch.settle(ticket, &mut self.instance, &mut self.parked, now),
            Left::Deadline | Left::Gone => {
                if let Some(mut question) = self.parked.take(ticket, &mut self.instance.queue) {
                    match why {
                        Left::Deadline => question.not_set(),
                        Left::Gone | Left::TimedOut => question.leave(),
                    }
                    batch.questions.push(question);
                }
            }
        }
    }

    /// Answers everybody who waits, because the phase has become one in which nobody gets anything.
    pub(super) fn tell_waiters(&mut self) {
        let now = self.now();
        for mut question in self.parked.drain(&mut self.instance.queue) {
            let mut nothing = Default::default();
            drop(question.decide(&mut self.instance, now, &mut nothing));
            question.answer(Ok(()));
        }
    }
}
