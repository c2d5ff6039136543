//! What must be true, judged from what became durable and what clients heard, and from nothing else.

use crate::server::{Answer, CallId, Reply, Thread, Token};
use crate::{LATE, TTL};

/// What became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Granted {
        by: CallId,
        token: Token,
    },
    Reset {
        by: CallId,
        carried: Token,
        revision: Token,
    },
    Transferred {
        by: CallId,
        to: Thread,
        carried: Token,
        token: Token,
    },
    /// A waiting Set had its answer from a transfer.
    Answered {
        id: CallId,
    },
    Expired {
        thread: Thread,
        revision: Token,
    },
    Forced {
        carried: Token,
        revision: Token,
    },
}

/// A promise that can be broken. Its bit is set when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Promise {
    OneHolder,
    OnlyTheHolderLetsGo,
    TokensRise,
    StaleTokensChangeNothing,
    StaleWritesAreRefused,
    OneEffectPerRequestId,
    OneAnswerPerRequestId,
    AnswersAreDurable,
    FirstComeFirstServed,
    WhoLeftIsNotGranted,
    LeaseLastsForItsHolder,
    LeaseLastsInServingTime,
    RestartGivesFullTime,
    LeaseEnds,
}

/// Serving time after which a lease without a renewal has ended, whatever restarts came between: one
/// term before the first restart, three full ones after it, each ending as late as it may, and the
/// lateness of the last.
const LEASE_MAX: u8 = 4 * (TTL + LATE.unsigned_abs()) + LATE.unsigned_abs();

/// It sees everything and influences nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Monitor {
    pub(crate) holder: Option<(Thread, Token)>,
    highest: Token,
    /// Who was given which token.
    given: Vec<(Token, Thread)>,
    /// Calls that had their effect, and what was answered to calls that had one.
    effects: Vec<CallId>,
    answers: Vec<(CallId, Answer)>,
    queue: Vec<CallId>,
    /// The newest token with which the guarded resource was written.
    written: Token,
    /// Serving time since the holder's last renewal, and since the last restart.
    served: u8,
    since_restart: Option<u8>,
    broken: u16,
}

impl Monitor {
    pub(crate) fn keeps(&self, promise: Promise) -> bool {
        self.broken & 1 << promise as u8 == 0
    }

    fn must(&mut self, promise: Promise, kept: bool) {
        if !kept {
            self.broken |= 1 << promise as u8;
        }
    }

    /// Something became durable.
    pub(crate) fn happened(&mut self, event: Event) {
        match event {
            Event::Granted { by, token } => {
                self.must(Promise::OneHolder, self.holder.is_none());
                self.rises(token);
                self.takes(by.0, token);
                self.effect(by);
            }
            Event::Reset { by, carried, revision } => {
                self.lets_go(Some(by.0), Some(carried));
                self.rises(revision);
                self.effect(by);
            }
            Event::Transferred { by, to, carried, token } => {
                self.lets_go(Some(by.0), Some(carried));
                self.rises(token);
                self.takes(to, token);
                self.effect(by);
            }
            Event::Answered { id } => self.effect(id),
            Event::Expired { thread, revision } => {
                self.lets_go(Some(thread), None);
                self.rises(revision);
            }
            Event::Forced { carried, revision } => {
                self.lets_go(None, Some(carried));
                self.rises(revision);
            }
        }
    }

    fn rises(&mut self, revision: Token) {
        self.must(Promise::TokensRise, revision > self.highest);
        self.highest = self.highest.max(revision);
    }

    fn takes(&mut self, thread: Thread, token: Token) {
        self.given.push((token, thread));
        self.holder = Some((thread, token));
    }

    fn lets_go(&mut self, by: Option<Thread>, carried: Option<Token>) {
        let (thread, token) = self.holder.take().unzip();
        self.must(Promise::OnlyTheHolderLetsGo, thread.is_some() && (by.is_none() || by == thread));
        let current = carried.is_none() || carried == token;
        self.must(Promise::StaleTokensChangeNothing, current);
    }

    fn effect(&mut self, id: CallId) {
        self.must(Promise::OneEffectPerRequestId, !self.effects.contains(&id));
        if !self.effects.contains(&id) {
            self.effects.push(id);
        }
    }

    /// An answer leaves the server.
    pub(crate) fn answered(&mut self, reply: Reply) {
        let Reply { id, answer, .. } = reply;
        match answer {
            Answer::Granted(_) | Answer::Reset | Answer::Transferred { .. } => {}
            // Neither is kept: a refusal had no effect, and a renewal has another one each time.
            Answer::KeptAlive { .. } | Answer::Refused(_) => return,
        }
        self.must(Promise::AnswersAreDurable, self.effects.contains(&id));
        if let Answer::Granted(token) = answer {
            self.must(Promise::AnswersAreDurable, self.given.contains(&(token, id.0)));
        }
        match self.answers.iter().find(|(known, _)| *known == id) {
            Some(&(_, before)) => self.must(Promise::OneAnswerPerRequestId, before == answer),
            None => self.answers.push((id, answer)),
        }
    }

    /// The guarded resource has let a write through.
    pub(crate) fn written(&mut self, token: Token) {
        self.must(Promise::StaleWritesAreRefused, token >= self.written);
        self.written = self.written.max(token);
    }

    pub(crate) fn joined(&mut self, id: CallId) {
        self.queue.push(id);
    }

    pub(crate) fn left(&mut self, id: CallId) {
        self.queue.retain(|waiter| *waiter != id);
    }

    /// A waiter is given the session.
    pub(crate) fn woken(&mut self, id: CallId) {
        self.must(Promise::WhoLeftIsNotGranted, self.queue.contains(&id));
        self.must(Promise::FirstComeFirstServed, self.queue.first() == Some(&id));
        self.left(id);
    }

    /// Somebody is given the session who has not waited.
    pub(crate) fn granted_at_once(&mut self) {
        self.must(Promise::FirstComeFirstServed, self.queue.is_empty());
    }

    pub(crate) fn crashed(&mut self) {
        self.queue.clear();
    }

    /// The server runs again while somebody holds the session under a lease.
    pub(crate) fn restarted(&mut self, full_time: bool) {
        self.since_restart = full_time.then_some(0);
    }

    pub(crate) fn renewed(&mut self) {
        (self.served, self.since_restart) = (0, None);
    }

    /// One unit of serving time of the holder's lease is over.
    pub(crate) fn served(&mut self) {
        self.served = (LEASE_MAX + 1).min(self.served + 1);
        self.since_restart = self.since_restart.map(|ticks| TTL.min(ticks + 1));
        self.must(Promise::LeaseEnds, self.served <= LEASE_MAX);
    }

    /// The holder's lease has run out. `counted` is the time since it sent its last renewal that was
    /// answered, if one was.
    pub(crate) fn expires(&mut self, counted: Option<u8>) {
        self.must(Promise::LeaseLastsForItsHolder, counted.is_none_or(|ticks| ticks >= TTL));
        self.must(Promise::LeaseLastsInServingTime, self.served >= TTL);
        let full = self.since_restart.is_none_or(|ticks| ticks >= TTL);
        self.must(Promise::RestartGivesFullTime, full);
    }
}
