//! The world around the server: clients, the network between, a guarded resource, an operator, time and
//! crashes. What may happen next is every action that the scope leaves room for.

mod properties;

use stateright::{Model, Property};

use crate::monitor::Monitor;
use crate::server::{Answer, Body, CallId, Came, Refusal, Reply, Request, Server, Thread, Token};
use crate::{Fault, TTL};

/// How much may happen at most: what makes the number of states finite.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope {
    pub(crate) threads: u8,
    /// Calls of each thread.
    pub(crate) calls: u8,
    /// Further copies of a call, of all threads together.
    pub(crate) retries: u8,
    pub(crate) crashes: u8,
    pub(crate) queue: usize,
    pub(crate) transfers: bool,
    /// Forced resets.
    pub(crate) forces: u8,
    /// Writes of each thread to the guarded resource.
    pub(crate) writes: u8,
    /// Whether holders have leases, and time goes on: for ever, as what has lasted long enough is not
    /// counted any further.
    pub(crate) time: bool,
    /// Whether several decisions may become durable together, or none.
    pub(crate) batches: bool,
}

/// What a thread knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Client {
    calls: u8,
    call: Option<Call>,
    /// An answer on its way. A thread that never hears it is one that lost it, or died.
    reply: Option<Reply>,
    holds: Option<Token>,
    /// Writes that it has begun, and the token of the one that has not arrived.
    writes: u8,
    writing: Option<Token>,
    /// Time since it sent the last renewal that was answered.
    counted: Option<u8>,
}

/// A call that is not answered yet, and the time since it was first sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Call {
    request: Request,
    age: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    server: Server,
    clients: Vec<Client>,
    /// Requests on their way, sorted: any of them may be next, or never arrive.
    network: Vec<Request>,
    /// What the operator saw.
    seen: Option<Token>,
    guarded: Guarded,
    left: Left,
    monitor: Monitor,
}

/// A resource that refuses older tokens than the newest it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Guarded {
    newest: Token,
    refused: bool,
}

/// What the scope leaves room for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Left {
    retries: u8,
    crashes: u8,
    forces: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Send(Thread, Body),
    /// The client sends its call once more, whether the first copy is lost or slow.
    Retry(Thread),
    Arrives(Request),
    Hears(Thread),
    WaitEnds(CallId),
    /// A holder, or one who believes it, writes to the guarded resource; the write arrives some time.
    BeginsWrite(Thread),
    WriteArrives(Thread),
    OperatorLooks,
    OperatorForces,
    Tick,
    LeaseExpires,
    Syncs,
    Crashes,
    Starts,
}

/// A scope, and one thing that is wrong in it, if any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) scope: Scope,
    pub(crate) fault: Option<Fault>,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let Scope { threads, retries, crashes, forces, time, queue, .. } = self.scope;
        vec![State {
            server: Server::new(time, queue, self.fault),
            clients: vec![Client::default(); usize::from(threads)],
            network: Vec::new(),
            seen: None,
            guarded: Guarded::default(),
            left: Left { retries, crashes, forces },
            monitor: Monitor::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (thread, client) in (0..).zip(&state.clients) {
            self.actions_of(thread, client, state, actions);
        }
        let server = &state.server;
        if server.runs() {
            // Copies of one request are alike.
            let mut next = state.network.clone();
            next.dedup();
            actions.extend(next.into_iter().map(Action::Arrives));
            actions.extend(server.queue().iter().copied().map(Action::WaitEnds));
            if server.lease_remaining().is_some_and(|remaining| remaining <= 0) {
                actions.push(Action::LeaseExpires);
            }
            if self.scope.batches && server.unsynced() {
                actions.push(Action::Syncs);
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crashes);
            }
        } else {
            actions.push(Action::Starts);
        }
        if state.left.forces > 0 {
            match state.seen {
                None if server.disk.binding.is_some() => actions.push(Action::OperatorLooks),
                Some(_) if server.runs() => actions.push(Action::OperatorForces),
                Some(_) | None => {}
            }
        }
        if self.scope.time && !server.must_expire() {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.happens(action, self.fault);
        let told = if next.server.runs() && (!self.scope.batches || action == Action::Syncs) {
            next.server.sync(&mut next.monitor)
        } else {
            next.server.early()
        };
        next.tell(told);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = properties::promises();
        properties.extend(self.possible());
        properties
    }
}

impl Protocol {
    fn actions_of(
        &self,
        thread: Thread,
        client: &Client,
        state: &State,
        actions: &mut Vec<Action>,
    ) {
        if client.reply.is_some() {
            actions.push(Action::Hears(thread));
        }
        if client.call.is_some() {
            if state.left.retries > 0 {
                actions.push(Action::Retry(thread));
            }
        } else if client.calls < self.scope.calls {
            let mut send = |body| actions.push(Action::Send(thread, body));
            if let Some(token) = client.holds {
                send(Body::Reset { token });
                if self.scope.time {
                    send(Body::KeepAlive);
                }
                if self.scope.transfers {
                    for to in (0..self.scope.threads).filter(|to| *to != thread) {
                        send(Body::Transfer { to, token });
                    }
                }
            } else {
                send(Body::Set { wait: self.scope.queue > 0 });
            }
        }
        if client.writing.is_some() {
            actions.push(Action::WriteArrives(thread));
        } else if client.holds.is_some() && client.writes < self.scope.writes {
            actions.push(Action::BeginsWrite(thread));
        }
    }
}

impl State {
    fn happens(&mut self, action: Action, fault: Option<Fault>) {
        match action {
            Action::Send(thread, body) => {
                let client = self.client(thread);
                client.calls += 1;
                let request = Request { id: (thread, client.calls), body };
                client.call = Some(Call { request, age: 0 });
                self.post(request);
            }
            Action::Retry(thread) => {
                self.left.retries -= 1;
                let call = self.client(thread).call.expect("it waits for an answer");
                self.post(call.request);
            }
            Action::Arrives(request) => {
                let at = self.network.iter().position(|sent| *sent == request);
                self.network.remove(at.expect("it was sent"));
                self.server.decide(request, &mut self.monitor);
            }
            Action::Hears(thread) => self.hears(thread, fault),
            Action::WaitEnds(waiter) => self.server.wait_ends(waiter, &mut self.monitor),
            Action::BeginsWrite(thread) => {
                let client = self.client(thread);
                client.writes += 1;
                client.writing = client.holds;
            }
            Action::WriteArrives(thread) => {
                let token = self.client(thread).writing.take().expect("it writes");
                self.guarded.refused = token < self.guarded.newest;
                if !self.guarded.refused || fault == Some(Fault::Unfenced) {
                    self.guarded.newest = self.guarded.newest.max(token);
                    self.monitor.written(token);
                }
            }
            Action::OperatorLooks => {
                self.seen = self.server.disk.binding.map(|held| held.token);
            }
            Action::OperatorForces => {
                self.left.forces -= 1;
                let token = self.seen.take().expect("he has looked");
                self.server.force(token, &mut self.monitor);
            }
            Action::Tick => self.tick(),
            Action::LeaseExpires => {
                let holder = self.server.disk.binding.expect("a lease is of a holder").thread;
                let counted = self.client(holder).counted;
                self.monitor.expires(counted);
                self.server.expire(&mut self.monitor);
            }
            Action::Syncs => {}
            Action::Crashes => {
                self.left.crashes -= 1;
                self.server.crash(&mut self.monitor);
            }
            Action::Starts => self.server.start(&mut self.monitor),
        }
    }

    fn post(&mut self, request: Request) {
        let at = self.network.partition_point(|sent| *sent <= request);
        self.network.insert(at, request);
    }

    fn tick(&mut self) {
        if self.server.lease_remaining().is_some() {
            self.monitor.served();
        }
        self.server.tick();
        for client in &mut self.clients {
            let ages = client.call.as_mut().map(|call| &mut call.age).into_iter();
            for age in ages.chain(&mut client.counted) {
                *age = TTL.min(*age + 1);
            }
        }
    }

    /// Answers leave the server. One to a call that is over is dropped where it arrives.
    fn tell(&mut self, replies: Vec<Reply>) {
        for reply in replies {
            self.monitor.answered(reply);
            let client = self.client(reply.id.0);
            if client.call.is_some_and(|call| call.request.id == reply.id) {
                client.reply = Some(reply);
            }
        }
    }

    fn hears(&mut self, thread: Thread, fault: Option<Fault>) {
        let client = self.client(thread);
        let answer = client.reply.take().expect("an answer is on its way").answer;
        let call = client.call.take().expect("it waits for an answer");
        // From when it was sent: whenever the server took it was later.
        let age = if fault == Some(Fault::CountsFromAnswer) { 0 } else { call.age };
        match (answer, call.request.body) {
            (Answer::Granted(token), _) => {
                client.holds = Some(token);
                client.counted = Some(age);
            }
            (Answer::KeptAlive { holds: true }, _) => client.counted = Some(age),
            (Answer::Transferred { to, token }, _) => {
                client.lets_go();
                // It tells its successor, who may wait for that answer himself.
                let successor = self.client(to);
                if successor.call.is_none() && successor.holds < Some(token) {
                    successor.holds = Some(token);
                    successor.counted = None;
                }
            }
            (Answer::Refused(_), Body::Set { .. }) => {}
            (Answer::Reset | Answer::KeptAlive { holds: false } | Answer::Refused(_), _) => {
                client.lets_go();
            }
        }
    }

    fn client(&mut self, thread: Thread) -> &mut Client {
        &mut self.clients[usize::from(thread)]
    }

    fn came(&self, how: Came) -> bool {
        self.server.disk.binding.is_some_and(|held| held.came == how)
    }

    fn replies(&self) -> impl Iterator<Item = &Reply> {
        self.clients.iter().filter_map(|client| client.reply.as_ref())
    }

    fn told(&self, refusal: Refusal) -> bool {
        self.replies().any(|reply| reply.answer == Answer::Refused(refusal))
    }

    fn restarts(&self) -> u8 {
        let lease = self.server.disk.binding.and_then(|held| held.lease);
        lease.map_or(0, |lease| lease.restarts)
    }
}

impl Client {
    fn lets_go(&mut self) {
        self.holds = None;
        self.counted = None;
    }
}
