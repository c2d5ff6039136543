//! Clients that compete for a few sessions, until the server is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jet_session::proto::api as pb;
use prost::Message;
use tokio::sync::{Mutex, Notify};

use super::call::{outcome, request};
use super::history::{Act, Outcome, Refusal, Thread};
use super::recorder::{Asked, Recorder};
use super::wire::Wire;
use crate::clients::MAIN;
use crate::random::Random;

/// Threads from here on are those of processes that may be stopped or killed: they ask for leases, if
/// there are any.
pub(crate) const PROCESSES: Thread = 100;

/// The lease of a process, the shortest there is, and the longest wait for a session.
const LEASE_NS: u64 = 1_000_000_000;
const WAIT_NS_MAX: u64 = 100_000_000;

/// Longer than the lease of a process and the lateness of its end.
pub(crate) const ASLEEP: Duration = Duration::from_millis(3_200);

/// Which features are used, besides setting, resetting, looking and ending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) waits: bool,
    pub(crate) transfers: bool,
    pub(crate) checks: bool,
    pub(crate) forces: bool,
    pub(crate) leases: bool,
    /// Request ids, and calls that are made again after their answer was lost.
    pub(crate) retries: bool,
}

/// What everybody has in common.
pub(crate) struct Common {
    pub(crate) mix: Mix,
    pub(crate) recorder: Recorder,
    pub(crate) sessions: Mutex<Vec<u64>>,
    /// The server is being killed.
    pub(crate) down: AtomicBool,
    pub(crate) answers: AtomicU64,
    /// So many are enough.
    pub(crate) enough_at: AtomicU64,
    pub(crate) enough: Notify,
    pub(crate) request_ids: AtomicU64,
    /// Answers that were thrown away and asked for again.
    pub(crate) retried: AtomicU64,
}

/// One thread of one client.
pub(crate) struct Worker {
    thread: Thread,
    wire: Wire,
    common: Arc<Common>,
    random: Random,
    /// The tokens of what it holds, as far as it knows, and what it knows of other holders.
    held: BTreeMap<u64, u64>,
    seen: BTreeMap<u64, (Thread, u64)>,
    /// Calls that it will make again when there is another server.
    later: Vec<Pending>,
}

/// A call that has no answer yet and will be made again, whatever happened to the first copy.
pub(crate) struct Pending {
    pub(crate) asked: Asked,
    /// A copy may still be on its way to the same server, over the connection of a process that is dead.
    pub(crate) stray: bool,
    session: u64,
    path: &'static str,
    message: Bytes,
}

/// No answer came: the server is gone, or the process that made the call.
struct Lost;

impl Worker {
    pub(crate) fn new(thread: Thread, wire: Wire, common: &Arc<Common>, random: Random) -> Self {
        let common = Arc::clone(common);
        let (held, seen) = (BTreeMap::new(), BTreeMap::new());
        Self { thread, wire, common, random, held, seen, later: Vec::new() }
    }

    /// Works until no answer comes; hands back the calls that should be made again.
    pub(crate) async fn run(mut self, pending: Vec<Pending>) -> Vec<Pending> {
        let mut pending = pending.into_iter();
        while let Some(call) = pending.next() {
            if let Err(Lost) = self.finish(call).await {
                self.later.extend(pending);
                return self.later;
            }
        }
        loop {
            let sessions = self.common.sessions.lock().await.clone();
            let held = self.held.keys().copied().find(|held| sessions.contains(held));
            let session = match held {
                // Or it would hold nearly all the time.
                Some(held) if self.random.percent(60) => held,
                Some(_) | None => *self.random.one_of(&sessions),
            };
            let act = self.choose(session);
            if let Err(Lost) = self.make(session, act).await {
                return self.later;
            }
        }
    }

    /// Looks at all sessions, so that nothing is left unseen.
    pub(crate) async fn look(mut self) {
        let sessions = self.common.sessions.lock().await.clone();
        for session in sessions {
            let seen = self.make(session, Act::Look).await;
            assert!(seen.is_ok(), "a server that nobody kills answers");
        }
    }

    fn choose(&mut self, session: u64) -> Act {
        let mix = self.common.mix;
        let dice = self.random.within(0..100);
        let leased = mix.leases && self.thread >= PROCESSES;
        let lease = leased.then_some(LEASE_NS);
        if let Some(&token) = self.held.get(&session) {
            return match dice {
                0..15 if mix.transfers => self.transfer(token),
                15..25 if mix.checks => Act::Check { token },
                25..35 if leased => Act::KeepAlive { ttl: LEASE_NS },
                35..45 => Act::Look,
                45..50 => Act::Set { wait: false, lease },
                50..55 => Act::Reset { token: 0 },
                _ => Act::Reset { token },
            };
        }
        // Perhaps it is the current one, but of somebody else.
        let token = self.seen.get(&session).map_or(1, |(_, token)| *token);
        match dice {
            0..4 if mix.transfers => self.transfer(token),
            4..8 if mix.checks => Act::Check { token },
            // Rarely, or nobody's lease would have the time to end.
            8 if mix.forces && self.random.percent(10) => Act::ForceReset { token },
            10..40 if mix.waits => Act::Set { wait: true, lease },
            40..50 => Act::Look,
            50..54 => Act::Reset { token },
            54..57 => Act::Reset { token: 0 },
            57 => Act::End,
            _ => Act::Set { wait: false, lease },
        }
    }

    fn transfer(&mut self, token: u64) -> Act {
        let (threads, processes) = (super::rounds::THREADS, super::rounds::CHILDREN);
        let to = match self.random.within(0..u64::from(threads + processes)) {
            to if to < u64::from(threads) => to,
            to => to - u64::from(threads) + u64::from(PROCESSES),
        };
        let to = Thread::try_from(to).expect("a few threads");
        Act::Transfer { to, token, leased: self.common.mix.leases && to >= PROCESSES }
    }

    /// Makes a call, as often as it takes, and writes down how it ended.
    async fn make(&mut self, session: u64, act: Act) -> Result<(), Lost> {
        let id = if self.common.mix.retries {
            format!("request-{}", self.common.request_ids.fetch_add(1, Ordering::Relaxed))
        } else {
            String::new()
        };
        let wait = self.random.within(1..WAIT_NS_MAX);
        let (path, message) = request(session, self.thread, act, wait, &id);
        let asked = self.common.recorder.asks(session, self.thread, act);
        self.finish(Pending { asked, stray: false, session, path, message }).await
    }

    async fn finish(&mut self, call: Pending) -> Result<(), Lost> {
        const IMPATIENCE_US_MAX: u64 = 3_000;
        let mix = self.common.mix;
        // Some answers are thrown away, wherever they are by then.
        while mix.retries && matches!(self.wire, Wire::Own(_)) && self.random.percent(20) {
            let patience = Duration::from_micros(self.random.within(0..IMPATIENCE_US_MAX));
            let answer = self.wire.call(call.path, &call.message);
            if let Ok(answer) = tokio::time::timeout(patience, answer).await {
                return self.end(call, answer).await;
            }
            self.common.retried.fetch_add(1, Ordering::Relaxed);
        }
        let answer = self.wire.call(call.path, &call.message).await;
        self.end(call, answer).await
    }

    async fn end(
        &mut self,
        call: Pending,
        answer: Result<Bytes, tonic::Status>,
    ) -> Result<(), Lost> {
        let outcome = outcome(call.asked.act, answer);
        if outcome == Outcome::Unknown {
            // Half of them are asked for again when there is a server again, the others never.
            if self.common.mix.retries && self.random.percent(50) {
                self.later.push(call);
            } else {
                self.common.recorder.told(call.asked, outcome);
            }
            return Err(Lost);
        }
        if self.common.mix.retries && self.later.is_empty() && self.random.percent(2) {
            // This answer is lost too, and asked for again when its server is dead.
            self.held.remove(&call.session);
            self.later.push(call);
            return Ok(());
        }
        if call.stray && matches!(outcome, Outcome::Refused(_)) {
            // A refusal is not remembered: the stray copy may be granted what the later one was not.
            self.common.recorder.told(call.asked, Outcome::Unknown);
        }
        self.common.recorder.told(call.asked, outcome);
        let answers = self.common.answers.fetch_add(1, Ordering::Relaxed) + 1;
        if answers == self.common.enough_at.load(Ordering::Relaxed) {
            self.common.enough.notify_one();
        }
        self.learn(call.session, call.asked.act, outcome);
        if matches!((call.asked.act, outcome), (Act::Set { lease: Some(_), .. }, Outcome::Made(_)))
            && self.random.percent(30)
        {
            self.wire.falls_asleep(ASLEEP);
        }
        let ended = outcome == Outcome::Refused(Refusal::Ended)
            || call.asked.act == Act::End && outcome == Outcome::Ok;
        if ended {
            self.replace(call.session).await?;
        }
        Ok(())
    }

    fn learn(&mut self, session: u64, act: Act, outcome: Outcome) {
        let holder = match (act, outcome) {
            (Act::Set { .. }, Outcome::Made(token)) => Some((self.thread, token)),
            (Act::Transfer { to, .. }, Outcome::Made(token)) => Some((to, token)),
            (_, Outcome::Refused(Refusal::AlreadySet { holder, token })) => Some((holder, token)),
            (_, Outcome::Saw(holder)) => holder,
            (_, Outcome::Ok) => return,
            (_, Outcome::Made(_) | Outcome::Refused(_) | Outcome::Unknown) => None,
        };
        self.held.remove(&session);
        if let Some((thread, token)) = holder {
            self.seen.insert(session, (thread, token));
            if thread == self.thread {
                self.held.insert(session, token);
            }
        }
    }

    /// A new session instead of one that has ended.
    async fn replace(&mut self, ended: u64) -> Result<(), Lost> {
        if !self.common.sessions.lock().await.contains(&ended) {
            return Ok(());
        }
        let begun = begin(&mut self.wire).await.ok_or(Lost)?;
        // Somebody else may have been quicker; then one is begun in vain.
        let mut sessions = self.common.sessions.lock().await;
        if let Some(place) = sessions.iter_mut().find(|session| **session == ended) {
            *place = begun;
        }
        Ok(())
    }
}

/// Begins a session; nothing if no answer came.
pub(crate) async fn begin(wire: &mut Wire) -> Option<u64> {
    let request = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
    let path = "/jet.session.v1.SessionService/BeginSession";
    let begun = wire.call(path, &request.encode_to_vec().into()).await.ok()?;
    let begun = pb::BeginSessionResponse::decode(begun).expect("the answer is a message");
    Some(begun.session.expect("the answer has a session").sesid)
}
