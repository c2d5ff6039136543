//! Clients that call on sessions until the server is gone, and write down what they are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jet_session::proto::api as pb;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use tokio::sync::Notify;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::ledger::{CALL, Ledger, Seen, Sent, TASK, Told};
use crate::model::{Act, State, Task};
use crate::random::Random;
use crate::server::{now, within};

pub(crate) const MAIN: &str = "instances/main";
pub(crate) const LAZY: &str = "instances/lazy";

/// How many clients there are, and how many connections they share.
pub(crate) const TASKS: Task = 64;
const CONNECTIONS: u32 = 8;

/// Sessions that a task has of its own on an instance.
const OWN_MAX: usize = 3;
/// Few, so that tasks find the transactions of others under their own word.
const WORDS: [u64; 3] = [1, 2, u64::MAX - 1];

const NOT_IN_SERVICE: [i32; 2] = [-1090, -1092];
const DRAINING: i32 = -1329;

/// What all clients have in common.
pub(crate) struct Shared {
    pub(crate) main: Mutex<Ledger>,
    pub(crate) lazy: Mutex<Ledger>,
    /// The server was told to end.
    pub(crate) ending: AtomicBool,
    answers: AtomicU64,
    /// Told when there have been so many answers.
    enough_at: AtomicU64,
    enough: Notify,
    calls: AtomicU64,
    /// What instances refused that had failed.
    pub(crate) failed: Mutex<Vec<Status>>,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            main: Mutex::new(Ledger::new(MAIN, false)),
            lazy: Mutex::new(Ledger::new(LAZY, true)),
            ending: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            enough_at: AtomicU64::new(0),
            enough: Notify::new(),
            calls: AtomicU64::new(0),
            failed: Mutex::default(),
        })
    }

    pub(crate) fn expect_answers(&self, count: u64) {
        self.answers.store(0, Ordering::Relaxed);
        self.enough_at.store(count, Ordering::Relaxed);
    }

    pub(crate) async fn enough(&self) {
        self.enough.notified().await;
    }

    fn answered(&self) {
        let before = self.answers.fetch_add(1, Ordering::Relaxed);
        if before + 1 == self.enough_at.load(Ordering::Relaxed) {
            self.enough.notify_one();
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Connections that the clients of one server share.
pub(crate) async fn connect(address: std::net::SocketAddr) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        channels.push(within("a connection", endpoint.connect()).await.expect("it accepts"));
    }
    channels
}

/// One client. It goes on until a call of its own has no answer, or the server refuses everything.
pub(crate) struct Client {
    task: Task,
    sessions: SessionServiceClient<Channel>,
    shared: Arc<Shared>,
    random: Random,
}

/// The client has stopped.
struct Stopped;

/// How a call ended.
enum Outcome<T> {
    Answer(T),
    Refused(i32, Status),
}

impl Client {
    pub(crate) fn new(
        task: Task,
        channels: &[Channel],
        shared: &Arc<Shared>,
        random: Random,
    ) -> Self {
        let channel = channels[task as usize % channels.len()].clone();
        let sessions = SessionServiceClient::new(channel);
        Self { task, sessions, shared: Arc::clone(shared), random }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let done = match self.random.within(0..100) {
                0..50 => self.on_own(MAIN).await,
                50..75 => self.on_shared().await,
                _ => self.on_own(LAZY).await,
            };
            if let Err(Stopped) = done {
                break;
            }
        }
    }

    fn ledger(&self, instance: &str) -> MutexGuard<'_, Ledger> {
        lock(if instance == MAIN { &self.shared.main } else { &self.shared.lazy })
    }

    // --- sessions of its own: every answer is known beforehand -------------------------------------

    async fn on_own(&mut self, instance: &'static str) -> Result<(), Stopped> {
        let own: Vec<(u64, State)> = {
            let ledger = self.ledger(instance);
            let own = ledger.sessions_of(Some(self.task)).into_iter();
            own.filter_map(|session| Some((session, ledger.state(session)?))).collect()
        };
        if own.is_empty() || own.len() < OWN_MAX && self.random.percent(30) {
            return self.begin(instance).await;
        }
        let (session, state) = self.random.one_of(&own).clone();
        // What a LAZY instance answers must tell a revision, to know what is lost.
        let acts: &[Act] = if instance == LAZY {
            &[Act::Set(0), Act::Reset]
        } else {
            &[
                Act::Set(0),
                Act::Set(0),
                Act::Reset,
                Act::Reset,
                Act::Begin,
                Act::Begin,
                Act::Commit,
                Act::Rollback,
                Act::End,
                Act::End,
                Act::End,
            ]
        };
        if self.random.percent(10) {
            let seen = self.look(instance, session).await?;
            let seen = seen.expect("a session of one's own is not ended by others");
            assert_eq!(seen.state, state, "WHAT IS READ IS NOT SO: {instance}/sessions/{session}");
            return Ok(());
        }
        let act = match *self.random.one_of(acts) {
            Act::Set(_) => Act::Set(*self.random.one_of(&WORDS)),
            act @ (Act::Reset | Act::Begin | Act::Commit | Act::Rollback | Act::End) => act,
        };
        let expected = state.after(act, self.task);
        let outcome = self.call(instance, session, act, None).await?;
        match (outcome, expected) {
            (Outcome::Answer(Told::Level(level)), Ok(next)) => {
                let expected = next.map_or(0, |state| state.level());
                assert_eq!(level, expected, "{act:?} on {instance}/sessions/{session}");
            }
            (Outcome::Answer(_), Ok(_)) => {}
            (Outcome::Refused(code, _), Err(expected)) if code == expected => {}
            (Outcome::Refused(DRAINING, _), _) if self.shared.ending.load(Ordering::Relaxed) => {
                return Err(Stopped);
            }
            (Outcome::Answer(told), Err(expected)) => panic!(
                "A REFUSAL IS MISSING: {act:?} on {instance}/sessions/{session} was answered \
                 {told:?} instead of refused with {expected}; it is {state}"
            ),
            (Outcome::Refused(code, status), expected) => panic!(
                "A WRONG REFUSAL: {act:?} on {instance}/sessions/{session} was refused with \
                 {code}, expected {expected:?}; it is {state}: {status:?}"
            ),
        }
        Ok(())
    }

    async fn begin(&mut self, instance: &'static str) -> Result<(), Stopped> {
        let call = format!("{}-{}", self.task, self.shared.calls());
        let task = format!("task-{}", self.task);
        let sent = self.ledger(instance).send();
        let request = begin_request(instance, &call, &task);
        let answer = self.sessions.begin_session(request).await;
        match self.outcome(answer) {
            Some(Outcome::Answer(begun)) => {
                let seen = Seen::of(&begun.session.expect("the answer has a session"));
                self.ledger(instance).began(seen, sent, now());
                Ok(())
            }
            Some(Outcome::Refused(DRAINING, _)) if self.shared.ending.load(Ordering::Relaxed) => {
                self.ledger(instance).refused();
                Err(Stopped)
            }
            Some(Outcome::Refused(code, status)) => {
                panic!("A WRONG REFUSAL: BeginSession on {instance}: {code}: {status:?}")
            }
            None => {
                self.ledger(instance).begin_unknown(call);
                Err(Stopped)
            }
        }
    }

    // --- sessions that all compete for -----------------------------------------------------------

    /// Takes a shared session, works under its transaction, and lets it go.
    async fn on_shared(&mut self) -> Result<(), Stopped> {
        let all = self.ledger(MAIN).sessions_of(None);
        let session = *self.random.one_of(&all);
        // Held since before the restart, or asked for now.
        let mut token = self.ledger(MAIN).still_held(session, self.task);
        let mut step = 1;
        if token.is_none() {
            let word = *self.random.one_of(&WORDS);
            match self.call(MAIN, session, Act::Set(word), Some((0, 0))).await? {
                Outcome::Answer(Told::Revision(taken)) => token = Some(taken),
                Outcome::Answer(Told::Level(_) | Told::Nothing) => unreachable!("Set has a token"),
                Outcome::Refused(-1912, status) => {
                    // Whoever is told of a binding has seen it.
                    let token = fact(&status, "fencing_token").parse().expect("a token");
                    self.ledger(MAIN).read(session, token);
                    return Ok(());
                }
                Outcome::Refused(code, status) => return self.must_drain(code, &status),
            }
        }
        let token = token.expect("it is held");
        for _ in 0..self.random.within(0..4) {
            let act = *self.random.one_of(&[Act::Begin, Act::Commit, Act::Rollback]);
            match self.call(MAIN, session, act, Some((token, step))).await? {
                Outcome::Answer(_) => step += 1,
                // Of another's word, none at all, or too deep.
                Outcome::Refused(-1910 | -1054 | -1103, _) => {}
                Outcome::Refused(code, status) => return self.must_drain(code, &status),
            }
            if self.random.percent(20) {
                let seen = self.look(MAIN, session).await?.expect("a shared session stays");
                let by = seen.state.bound.as_ref().map(|bound| (bound.by, bound.token));
                assert_eq!(by, Some((self.task, Some(token))), "THE HOLDER DOES NOT HOLD");
            }
        }
        match self.call(MAIN, session, Act::Reset, Some((token, step))).await? {
            Outcome::Answer(_) => Ok(()),
            Outcome::Refused(code, status) => panic!(
                "THE HOLDER DOES NOT HOLD: Reset of {MAIN}/sessions/{session} under token {token} \
                 was refused with {code}: {status:?}"
            ),
        }
    }

    fn must_drain(&self, code: i32, status: &Status) -> Result<(), Stopped> {
        assert!(
            code == DRAINING && self.shared.ending.load(Ordering::Relaxed),
            "A WRONG REFUSAL: {code}: {status:?}",
        );
        Err(Stopped)
    }

    // --- calls -----------------------------------------------------------------------------------

    /// Makes a change, and writes down how that ended.
    async fn call(
        &mut self,
        instance: &'static str,
        sesid: u64,
        act: Act,
        order: Option<(u64, u32)>,
    ) -> Result<Outcome<Told>, Stopped> {
        let (session, thread_id) = (format!("{instance}/sessions/{sesid}"), self.thread());
        let sent = self.ledger(instance).send();
        let mut asked = self.sessions.clone();
        let outcome = match act {
            Act::Set(context) => {
                let request = pb::SetSessionContextRequest {
                    session,
                    thread_id,
                    context,
                    ..Default::default()
                };
                let answer = asked.set_session_context(request).await;
                self.told(answer, |set| Told::Revision(set.fencing_token))
            }
            Act::Reset => {
                let fencing_token = order.map_or(0, |(token, _)| token);
                let request = pb::ResetSessionContextRequest {
                    session,
                    thread_id,
                    fencing_token,
                    ..Default::default()
                };
                let answer = asked.reset_session_context(request).await;
                self.told(answer, |reset| Told::Revision(reset.revision))
            }
            Act::Begin => {
                let request =
                    pb::BeginTransactionRequest { session, thread_id, ..Default::default() };
                let answer = asked.begin_transaction(request).await;
                self.told(answer, |begun| Told::Level(begun.transaction_level))
            }
            Act::Commit => {
                let request =
                    pb::CommitTransactionRequest { session, thread_id, ..Default::default() };
                let answer = asked.commit_transaction(request).await;
                self.told(answer, |left| Told::Level(left.transaction_level))
            }
            Act::Rollback => {
                let request =
                    pb::RollbackTransactionRequest { session, thread_id, ..Default::default() };
                let answer = asked.rollback_transaction(request).await;
                self.told(answer, |left| Told::Level(left.transaction_level))
            }
            Act::End => {
                let request = pb::EndSessionRequest { session, thread_id, ..Default::default() };
                let answer = asked.end_session(request).await;
                self.told(answer, |_| Told::Nothing)
            }
        };
        let mut ledger = self.ledger(instance);
        match outcome {
            Some(Outcome::Answer(told)) => {
                let order = match (act, told, order) {
                    // The token that orders all that its holder does.
                    (Act::Set(_), Told::Revision(token), Some(_)) => Some((token, 0)),
                    (_, _, order) => order,
                };
                ledger.acknowledged(sesid, self.task, act, order, sent, told, now());
                Ok(Outcome::Answer(told))
            }
            Some(Outcome::Refused(code, status)) => {
                ledger.refused();
                Ok(Outcome::Refused(code, status))
            }
            None => {
                ledger.unknown(sesid, self.task, act, sent);
                Err(Stopped)
            }
        }
    }

    async fn look(
        &mut self,
        instance: &'static str,
        session: u64,
    ) -> Result<Option<Seen>, Stopped> {
        let request = pb::GetSessionRequest { name: format!("{instance}/sessions/{session}") };
        let answer = self.sessions.get_session(request).await;
        match self.outcome(answer) {
            Some(Outcome::Answer(found)) => {
                let seen = Seen::of(&found.session.expect("the answer has a session"));
                // What a LAZY instance shows may still be lost.
                if instance == MAIN {
                    self.ledger(instance).read(session, seen.revision);
                }
                Ok(Some(seen))
            }
            Some(Outcome::Refused(-1104, _)) => Ok(None),
            Some(Outcome::Refused(code, status)) => {
                self.must_drain(code, &status)?;
                Ok(None)
            }
            None => Err(Stopped),
        }
    }

    fn told<T>(
        &self,
        answer: Result<Response<T>, Status>,
        told: impl FnOnce(T) -> Told,
    ) -> Option<Outcome<Told>> {
        self.outcome(answer).map(|outcome| match outcome {
            Outcome::Answer(answer) => Outcome::Answer(told(answer)),
            Outcome::Refused(code, status) => Outcome::Refused(code, status),
        })
    }

    /// An answer or a refusal by the server; nothing if it is not known what was done.
    fn outcome<T>(&self, answer: Result<Response<T>, Status>) -> Option<Outcome<T>> {
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = match answer {
            Ok(answer) => Outcome::Answer(answer.into_inner()),
            Err(status) => {
                let code = jet_error(&status)?;
                if NOT_IN_SERVICE.contains(&code) {
                    // It may have been this very change whose write failed.
                    lock(&self.shared.failed).push(status);
                    return None;
                }
                Outcome::Refused(code, status)
            }
        };
        self.shared.answered();
        Some(outcome)
    }

    fn thread(&self) -> String {
        format!("task-{}", self.task)
    }
}

/// The code of a refusal that the server made, and not the connection's end.
pub(crate) fn jet_error(status: &Status) -> Option<i32> {
    status.metadata().get("jet-error")?.to_str().ok()?.parse().ok()
}

/// A fact that a refusal tells.
pub(crate) fn fact(status: &Status, key: &str) -> String {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let told = details.error_info().and_then(|info| info.metadata.get(key).cloned());
    told.unwrap_or_default()
}

/// A session with as much to write down as one can have, so that logs grow quickly.
pub(crate) fn begin_request(instance: &str, call: &str, task: &str) -> pb::BeginSessionRequest {
    const PADDING: usize = 6;
    let mut labels: BTreeMap<String, String> =
        (0..PADDING).map(|n| (format!("{n:-<63}"), "-".repeat(63))).collect();
    labels.insert(CALL.to_owned(), call.to_owned());
    labels.insert(TASK.to_owned(), task.to_owned());
    pb::BeginSessionRequest { instance: instance.to_owned(), labels, ..Default::default() }
}

/// What is behind a lock, also after one client has found something wrong and panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that begins a session before there are clients.
pub(crate) async fn begin(
    sessions: &mut SessionServiceClient<Channel>,
    ledger: &Mutex<Ledger>,
    task: &str,
) -> u64 {
    let (instance, sent): (&str, Sent) = {
        let mut ledger = lock(ledger);
        (ledger.instance, ledger.send())
    };
    let request = begin_request(instance, "first", task);
    let begun = sessions.begin_session(request).await.expect("it begins").into_inner();
    let seen = Seen::of(&begun.session.expect("the answer has a session"));
    let sesid = seen.sesid;
    lock(ledger).began(seen, sent, now());
    sesid
}
