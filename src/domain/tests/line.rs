//! Calls that wait, as the owner of an instance plays them: each is decided, put in line if it is to
//! wait, and decided again when its turn has come.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::call::context::SetContext;
use crate::domain::call::pool::ClaimContext;
use crate::domain::handover::{Heirs, News};
use crate::domain::queue::Ticket;
use crate::domain::session::SessionView;

/// What a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Set(u64),
    Claim(&'static [&'static str]),
}

/// A call that may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) who: Who,
    pub(super) what: What,
    pub(super) context: u64,
    pub(super) wait: bool,
    pub(super) lease: Option<Duration>,
    /// Its request id, if it has one.
    pub(super) request: Option<usize>,
}

impl Ask {
    /// A Set that waits.
    pub(super) fn set(who: Who, id: u64) -> Self {
        let what = What::Set(id);
        Self { who, what, context: C, wait: true, lease: None, request: None }
    }

    /// A claim that waits.
    pub(super) fn claim(who: Who, keys: &'static [&'static str]) -> Self {
        Self { what: What::Claim(keys), ..Self::set(who, 0) }
    }

    /// Whether both are the same request, sent twice.
    fn is_twin_of(&self, other: &Self) -> bool {
        self.request.is_some()
            && (self.request, self.who.principal) == (other.request, other.who.principal)
    }

    fn to_set(self, id: u64) -> SetContext {
        let Self { who, context, wait, lease, .. } = self;
        SetContext { session: sesid(id), thread: thread_of(who), context, wait, lease }
    }
}

/// An instance with calls that wait.
pub(super) struct Line {
    pub(super) world: World,
    parked: BTreeMap<Ticket, (usize, Ask)>,
    asked: usize,
    /// Calls whose callers have gone, which nobody has noticed.
    dead: BTreeSet<usize>,
    /// Who was answered, in this order.
    pub(super) answers: Vec<(usize, Result<SessionView, No>)>,
}

impl Line {
    pub(super) fn new(world: World) -> Self {
        let (parked, dead) = (BTreeMap::new(), BTreeSet::new());
        Self { world, parked, asked: 0, dead, answers: Vec::new() }
    }

    /// Asks; the answer comes now or later under the number that is answered here.
    pub(super) fn ask(&mut self, ask: Ask) -> usize {
        let nth = self.asked;
        self.asked += 1;
        let from = self.world.changes.len();
        self.put(nth, ask);
        if self.world.changes.len() > from {
            self.answer_twins(ask);
            self.hand_over(from);
        }
        nth
    }

    /// Does something else.
    pub(super) fn step<T>(&mut self, step: impl FnOnce(&mut World) -> T) -> T {
        let from = self.world.changes.len();
        let answer = step(&mut self.world);
        self.hand_over(from);
        answer
    }

    /// Those who wait, in order.
    pub(super) fn waiting(&self) -> Vec<usize> {
        self.parked.values().map(|(nth, _)| *nth).collect()
    }

    /// The answer of a call that has been answered.
    pub(super) fn answer(&self, nth: usize) -> Option<&Result<SessionView, No>> {
        self.answers.iter().find(|(other, _)| *other == nth).map(|(_, answer)| answer)
    }

    /// A call waits no longer, and is told nothing.
    pub(super) fn leave(&mut self, nth: usize) -> bool {
        self.ticket(nth).is_some_and(|ticket| self.take(ticket).is_some())
    }

    /// A caller has gone and nobody has noticed yet.
    pub(super) fn die(&mut self, nth: usize) {
        self.dead.insert(nth);
    }

    /// A call has waited as long as it wanted to.
    pub(super) fn time_out(&mut self, nth: usize) -> bool {
        self.ticket(nth).is_some_and(|ticket| {
            self.settle(ticket);
            true
        })
    }

    /// The server goes down and comes up again: nobody waits any more.
    pub(super) fn restart(&mut self) {
        self.parked.clear();
        self.world.restart();
    }

    fn ticket(&self, nth: usize) -> Option<Ticket> {
        self.parked.iter().find(|(_, (other, _))| *other == nth).map(|(ticket, _)| *ticket)
    }

    fn take(&mut self, ticket: Ticket) -> Option<(usize, Ask)> {
        self.world.instance.queue.leave(ticket);
        self.parked.remove(&ticket)
    }

    fn put(&mut self, nth: usize, ask: Ask) {
        match ask.what {
            What::Set(id) => self.decide(nth, ask, &ask.to_set(id)),
            What::Claim(keys) => {
                let Ask { who, context, wait, lease, .. } = ask;
                let (labels, thread) = (labels(keys), thread_of(who));
                self.decide(nth, ask, &ClaimContext { labels, thread, context, wait, lease });
            }
        }
    }

    fn name(&mut self, ask: Ask) {
        if let Some(request) = ask.request {
            self.world.named(&format!("request-{request}"), request as u64);
        }
    }

    fn decide<T: Call<Answer = SessionView>>(&mut self, nth: usize, ask: Ask, call: &T) {
        self.name(ask);
        let answer = match self.world.decide(ask.who, call) {
            Ok(view) => Ok(view),
            Err(refused) => {
                let stamp = self.world.stamp(ask.who);
                if let Refused::Call(refusal) = &refused
                    && let Some(waiter) = call.waiter(refusal, &stamp)
                {
                    let ticket = self.world.instance.queue.join(waiter);
                    self.parked.insert(ticket, (nth, ask));
                    return;
                }
                Err(No { code: refused.jet_err().code(), facts: Box::new(refused.facts()) })
            }
        };
        self.answers.push((nth, answer));
    }

    /// Gives what the changes from the `from`-th on have freed to those who wait for it.
    fn hand_over(&mut self, from: usize) {
        let mut nth = from;
        while let Some(change) = self.world.changes.get(nth) {
            match News::of(&change.event) {
                Some(News::Freed(session)) => self.grant(session),
                Some(News::HandedOver(session, to)) => self.succeed(session, &to),
                Some(News::Ended(session)) => {
                    for ticket in self.world.instance.in_vain(session) {
                        self.settle(ticket);
                    }
                }
                None => {}
            }
            nth += 1;
        }
    }

    fn grant(&mut self, session: SessionId) {
        while let Some(ticket) = self.world.instance.next_in_line(session) {
            let (nth, ask) = self.take(ticket).unwrap();
            if !self.dead.contains(&nth) {
                self.put(nth, ask);
                self.answer_twins(ask);
            }
        }
    }

    fn succeed(&mut self, session: SessionId, to: &Owner) {
        let Heirs { first, others } = self.world.instance.heirs(session, to);
        if let Some((nth, ask)) = first.and_then(|first| self.take(first)) {
            self.name(ask);
            let view = self.world.adopt(ask.who, &ask.to_set(session.get()));
            self.answers.push((nth, Ok(view)));
            self.answer_twins(ask);
        }
        others.into_iter().for_each(|ticket| self.settle(ticket));
    }

    fn settle(&mut self, ticket: Ticket) {
        if let Some((nth, ask)) = self.take(ticket) {
            self.put(nth, Ask { wait: false, ..ask });
        }
    }

    fn answer_twins(&mut self, of: Ask) {
        let twins = self.parked.iter().filter(|(_, (_, ask))| ask.is_twin_of(&of));
        let twins: Vec<_> = twins.map(|(ticket, _)| *ticket).collect();
        for ticket in twins {
            let (nth, ask) = self.take(ticket).unwrap();
            self.put(nth, ask);
        }
    }
}

impl World {
    /// Gives a call the answer of the change that came last.
    fn adopt<T: Call>(&mut self, who: Who, call: &T) -> T::Answer {
        let stamp = self.stamp(who);
        let answer = call.answer(&self.instance, &stamp);
        let change = self.changes.pop().unwrap();
        let known = change.made.len();
        let mut batch = Batch { changes: vec![change], ..Batch::default() };
        self.instance.remember(&answer, &stamp, &mut batch);
        let change = batch.changes.pop().unwrap();
        for made in &change.made[known..] {
            self.folded.remember(made, &change);
        }
        self.changes.push(change);
        self.remember(Vec::new());
        answer
    }
}
