//! The server of the model: what survives its death, what does not, and how it decides.

use crate::monitor::{Event, Monitor};
use crate::{Fault, LATE, TTL};

pub(crate) type Thread = u8;
/// A revision; that of a grant is its fencing token.
pub(crate) type Token = u8;
/// A call as its caller numbers it. Every copy of it carries the same number, which is its request id.
pub(crate) type CallId = (Thread, u8);

/// Restarts without a renewal that give a lease its full time again.
const FULL_GRANTS: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Body {
    Set { wait: bool },
    Reset { token: Token },
    Transfer { to: Thread, token: Token },
    KeepAlive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    pub(crate) id: CallId,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Granted(Token),
    Reset,
    Transferred { to: Thread, token: Token },
    KeptAlive { holds: bool },
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    AlreadySet,
    NotSetByThisThread,
    StaleToken,
    QueueFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reply {
    pub(crate) id: CallId,
    pub(crate) answer: Answer,
    /// It is the answer of an earlier copy of the call.
    pub(crate) remembered: bool,
}

/// How a holder came by the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Came {
    AtOnce,
    Waited,
    Transferred,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    pub(crate) thread: Thread,
    pub(crate) token: Token,
    pub(crate) came: Came,
    pub(crate) lease: Option<Lease>,
}

/// What is written down of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Lease {
    /// Restarts since the last renewal.
    pub(crate) restarts: u8,
    /// Serving time since the last renewal.
    pub(crate) used: u8,
}

/// What a batch makes durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Durable {
    pub(crate) revision: Token,
    pub(crate) binding: Option<Binding>,
    /// The last holder was taken from.
    pub(crate) abandoned: bool,
    /// Answers that had an effect, for retries.
    answers: Vec<(CallId, Answer)>,
}

/// What dies with the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Running {
    state: Durable,
    queue: Vec<CallId>,
    /// Until the holder's lease ends; below zero once it is overdue.
    remaining: i8,
    /// Decided and not yet durable: what happened, and who is to be told.
    events: Vec<Event>,
    replies: Vec<Reply>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) disk: Durable,
    running: Option<Running>,
    leases: bool,
    queue_max: usize,
    fault: Option<Fault>,
}

impl Server {
    pub(crate) fn new(leases: bool, queue_max: usize, fault: Option<Fault>) -> Self {
        let running = Some(Running::default());
        Self { disk: Durable::default(), running, leases, queue_max, fault }
    }

    pub(crate) fn runs(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn queue(&self) -> &[CallId] {
        self.running.as_ref().map_or(&[], |running| &running.queue)
    }

    /// Whether something is decided and not yet durable.
    pub(crate) fn unsynced(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.state != self.disk || !running.replies.is_empty())
    }

    /// What is left of the holder's lease.
    pub(crate) fn lease_remaining(&self) -> Option<i8> {
        let running = self.running.as_ref()?;
        running.state.binding?.lease.map(|_| running.remaining)
    }

    /// Expiries are late, but not for ever: time stands still until they are made.
    pub(crate) fn must_expire(&self) -> bool {
        self.lease_remaining().is_some_and(|remaining| remaining <= -LATE)
    }

    /// One unit of serving time. It is written down at once.
    pub(crate) fn tick(&mut self) {
        let Some(running) = &mut self.running else { return };
        for state in [&mut running.state, &mut self.disk] {
            if let Some(lease) = state.binding.as_mut().and_then(|held| held.lease.as_mut()) {
                // More makes no difference to anybody.
                lease.used = TTL.min(lease.used + 1);
            }
        }
        if running.state.binding.is_some_and(|held| held.lease.is_some()) {
            running.remaining -= 1;
        }
    }

    pub(crate) fn crash(&mut self, monitor: &mut Monitor) {
        self.running = None;
        monitor.crashed();
    }

    pub(crate) fn start(&mut self, monitor: &mut Monitor) {
        if self.fault == Some(Fault::TokenReused) {
            self.disk.revision = self.disk.binding.map_or(0, |held| held.token);
        }
        if self.fault == Some(Fault::AnswersForgotten) {
            self.disk.answers.clear();
        }
        let mut remaining = 0;
        if let Some(lease) = self.disk.binding.as_mut().and_then(|held| held.lease.as_mut()) {
            // One more than counts would only make more states.
            lease.restarts = (FULL_GRANTS + 1).min(lease.restarts + 1);
            let counts = match self.fault {
                Some(Fault::RestartGrantsAlways) => false,
                Some(Fault::RestartGrantsNothing) => true,
                _ => lease.restarts > FULL_GRANTS,
            };
            remaining = signed(if counts { TTL.saturating_sub(lease.used) } else { TTL });
            monitor.restarted(lease.restarts <= FULL_GRANTS);
        }
        let state = self.disk.clone();
        self.running = Some(Running { state, remaining, ..Running::default() });
    }

    /// Makes durable what was decided; only then is anybody told.
    pub(crate) fn sync(&mut self, monitor: &mut Monitor) -> Vec<Reply> {
        let running = self.running.as_mut().expect("it runs");
        self.disk.clone_from(&running.state);
        for event in running.events.drain(..) {
            monitor.happened(event);
        }
        std::mem::take(&mut running.replies)
    }

    /// Replies that leave before what they tell is durable: none, unless that is the fault.
    pub(crate) fn early(&mut self) -> Vec<Reply> {
        match (&mut self.running, self.fault) {
            (Some(running), Some(Fault::AnswersBeforeSync)) => std::mem::take(&mut running.replies),
            _ => Vec::new(),
        }
    }

    /// The holder's lease has run out.
    pub(crate) fn expire(&mut self, monitor: &mut Monitor) {
        let running = self.running();
        let held = running.state.binding.take().expect("a lease is of a holder");
        running.state.abandoned = true;
        let revision = running.next_revision();
        running.events.push(Event::Expired { thread: held.thread, revision });
        self.wake(monitor);
    }

    /// A waiter's time is over, or its caller left.
    pub(crate) fn wait_ends(&mut self, id: CallId, monitor: &mut Monitor) {
        if self.fault != Some(Fault::WaiterKept) {
            self.running().queue.retain(|waiter| *waiter != id);
        }
        monitor.left(id);
        self.reply(id, Answer::Refused(Refusal::AlreadySet));
    }

    /// An operator's forced reset, with the token that he saw.
    pub(crate) fn force(&mut self, token: Token, monitor: &mut Monitor) {
        let running = self.running();
        if running.state.binding.is_none_or(|held| held.token != token) {
            return;
        }
        running.state.binding = None;
        running.state.abandoned = true;
        let revision = running.next_revision();
        running.events.push(Event::Forced { carried: token, revision });
        self.wake(monitor);
    }

    pub(crate) fn decide(&mut self, request: Request, monitor: &mut Monitor) {
        let id = request.id;
        let remembered = &self.running().state.answers;
        if let Some(&(_, answer)) = remembered.iter().find(|(known, _)| *known == id) {
            self.running().replies.push(Reply { id, answer, remembered: true });
            return;
        }
        match request.body {
            Body::Set { wait } => self.set(id, wait, monitor),
            Body::Reset { token } => self.reset(id, token, monitor),
            Body::Transfer { to, token } => self.transfer(id, to, token, monitor),
            Body::KeepAlive => self.keep_alive(id, monitor),
        }
    }

    fn set(&mut self, id: CallId, wait: bool, monitor: &mut Monitor) {
        if self.queue().contains(&id) {
            // Its twin waits already.
            return;
        }
        let state = match self.fault {
            Some(Fault::DoubleGrant) => &self.disk,
            _ => &self.running().state,
        };
        if state.binding.is_none() {
            monitor.granted_at_once();
            self.grant(id, Came::AtOnce, monitor);
        } else if !wait {
            self.reply(id, Answer::Refused(Refusal::AlreadySet));
        } else if self.queue().len() == self.queue_max {
            self.reply(id, Answer::Refused(Refusal::QueueFull));
        } else {
            self.running().queue.push(id);
            monitor.joined(id);
        }
    }

    fn reset(&mut self, id: CallId, token: Token, monitor: &mut Monitor) {
        if let Err(refusal) = self.holds(id.0, token) {
            self.reply(id, Answer::Refused(refusal));
            return;
        }
        let running = self.running();
        running.state.binding = None;
        running.state.abandoned = false;
        let revision = running.next_revision();
        running.events.push(Event::Reset { by: id, carried: token, revision });
        self.done(id, Answer::Reset);
        self.wake(monitor);
    }

    fn transfer(&mut self, id: CallId, to: Thread, carried: Token, monitor: &mut Monitor) {
        if let Err(refusal) = self.holds(id.0, carried) {
            self.reply(id, Answer::Refused(refusal));
            return;
        }
        let (ttl, leases) = (self.ttl(), self.leases);
        let running = self.running();
        let token = running.next_revision();
        let waits = running.queue.iter().position(|waiter| waiter.0 == to);
        // A Set that waits asks for a lease. Else the successor has none until it asks for one.
        let lease = (leases && waits.is_some()).then(Lease::default);
        running.state.binding = Some(Binding { thread: to, token, came: Came::Transferred, lease });
        running.remaining = lease.map_or(0, |_| ttl);
        running.events.push(Event::Transferred { by: id, to, carried, token });
        monitor.renewed();
        if let Some(waiter) = waits.map(|at| running.queue.remove(at)) {
            running.events.push(Event::Answered { id: waiter });
            monitor.left(waiter);
            self.done(waiter, Answer::Granted(token));
        }
        self.done(id, Answer::Transferred { to, token });
    }

    fn keep_alive(&mut self, id: CallId, monitor: &mut Monitor) {
        let ttl = self.ttl();
        let running = self.running();
        let held = running.state.binding.as_mut().filter(|held| held.thread == id.0);
        let holds = held.is_some();
        if let Some(held) = held {
            held.lease = Some(Lease::default());
            running.remaining = ttl;
            monitor.renewed();
        }
        self.reply(id, Answer::KeptAlive { holds });
    }

    fn holds(&self, thread: Thread, token: Token) -> Result<(), Refusal> {
        let state = &self.running.as_ref().expect("it runs").state;
        match state.binding {
            Some(held) if held.thread == thread && held.token == token => Ok(()),
            Some(held) if held.thread == thread && self.fault == Some(Fault::StaleReset) => Ok(()),
            Some(held) if held.token == token => Err(Refusal::NotSetByThisThread),
            Some(_) | None => Err(Refusal::StaleToken),
        }
    }

    /// One release wakes one waiter, the one that has waited longest.
    fn wake(&mut self, monitor: &mut Monitor) {
        let newest_first = self.fault == Some(Fault::WaiterOvertaken);
        let queue = &mut self.running().queue;
        if queue.is_empty() {
            return;
        }
        let waiter = queue.remove(if newest_first { queue.len() - 1 } else { 0 });
        monitor.woken(waiter);
        self.grant(waiter, Came::Waited, monitor);
    }

    fn grant(&mut self, id: CallId, came: Came, monitor: &mut Monitor) {
        let (ttl, leases) = (self.ttl(), self.leases);
        let running = self.running();
        let token = running.next_revision();
        let lease = leases.then(Lease::default);
        running.state.binding = Some(Binding { thread: id.0, token, came, lease });
        running.remaining = if leases { ttl } else { 0 };
        running.events.push(Event::Granted { by: id, token });
        monitor.renewed();
        self.done(id, Answer::Granted(token));
    }

    /// An answer that had an effect: it is kept with it.
    fn done(&mut self, id: CallId, answer: Answer) {
        self.running().state.answers.push((id, answer));
        self.reply(id, answer);
    }

    fn reply(&mut self, id: CallId, answer: Answer) {
        self.running().replies.push(Reply { id, answer, remembered: false });
    }

    fn ttl(&self) -> i8 {
        let early = u8::from(self.fault == Some(Fault::EarlyExpiry));
        signed(TTL - early)
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("only a server that runs is asked")
    }
}

impl Running {
    fn next_revision(&mut self) -> Token {
        self.state.revision += 1;
        self.state.revision
    }
}

fn signed(ticks: u8) -> i8 {
    i8::try_from(ticks).expect("a few ticks")
}
