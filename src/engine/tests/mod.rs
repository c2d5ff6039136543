//! The engine, held against a store that fails, stalls and panics when it is told to.
//!
//! Nothing here sleeps. A test polls a call once, which puts it into its owner's inbox, stops the
//! store at a gate, and lets everything run that can. Time is paused: should an answer never come,
//! everything is idle, the clock jumps, and the wait ends in a failure at once.
//!
//! - [`scripted`]: the store
//! - [`batches`]: what is committed together, and what is visible when
//! - [`failure`]: refused commits and panics
//! - [`leases`]: threads that are no more
//! - [`lifecycle`]: initialise, stop, terminate; restarts of the server
//! - [`repeating`]: calls on instances that come again
//! - [`room`]: full disks
//! - [`existence`]: creating and deleting instances
//! - [`backups`]: backups taken and read in
//! - [`callers`]: callers that go away, calls that compete, and the end of the server
//! - [`threads`]: what concerns a thread in all instances
//! - [`waiting`]: calls that wait
//! - [`watching`], [`sessions`]: what those are told who watch instances, and sessions
//! - [`history`]: watches that go on in the log
//! - [`held`]: the log, which can be held between a write and its answer

mod backups;
mod batches;
mod callers;
mod existence;
mod failure;
mod held;
mod history;
mod leases;
mod lifecycle;
mod repeating;
mod room;
mod scripted;
mod sessions;
mod threads;
mod waiting;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::unconstrained;

use crate::domain::call::context::{ResetContext, SetContext};
use crate::domain::call::session::{BeginSession, GetSession, ListSessions, SessionFilter};
use crate::domain::call::transaction::BeginTransaction;
use crate::domain::call::{Call, Refused};
use crate::domain::id::{InstanceId, Labels, Principal, SessionId, Uid};
use crate::domain::instance::{Durability, Resting, TerminateMode};
use crate::domain::lifecycle::{Failure, Phase};
use crate::domain::refusal::Refusal;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use crate::engine::watch::{InstanceChange, InstanceChanges, InstanceView};
use crate::engine::{Asker, Engine, Environment, NewInstance, Settings, Unanswered};
use crate::store::Store;

use scripted::ScriptedStore;

// Section 9 of the contract.
const TERM_IN_PROGRESS: i32 = -1000;
const NOT_INITIALIZED: i32 = -1029;
const ALREADY_INITIALIZED: i32 = -1030;
const INIT_IN_PROGRESS: i32 = -1031;
const TOO_MANY_ACTIVE_USERS: i32 = -1059;
const NAME_IN_USE: i32 = -1086;
const UNAVAILABLE: i32 = -1090;
const UNAVAILABLE_DISK_FULL: i32 = -1092;
const INVALID_SESID: i32 = -1104;
const INVALID_INSTANCE: i32 = -1115;
const TOO_MANY_INSTANCES: i32 = -1214;
const STOPPED: i32 = -1329;
const ALREADY_SET: i32 = -1912;
const NOT_SET_BY_THIS_THREAD: i32 = -1913;

/// Instances that a server here may have.
const INSTANCES_MAX: usize = 3;

/// A call on its way: its answer, or the JET number of its refusal.
type Asked<T> = BoxFuture<'static, Result<T, i32>>;

/// A call on its way: its answer, or its refusal as it is.
type Raw<C> =
    BoxFuture<'static, Result<<C as Call>::Answer, Unanswered<Refused<<C as Call>::Refusal>>>>;

/// A server and the store under it.
struct World {
    engine: Engine,
    store: ScriptedStore,
    environment: Arc<TestEnvironment>,
}

impl World {
    /// A server that remembers nothing.
    async fn empty() -> Self {
        Self::start(ScriptedStore::default(), Arc::default()).await
    }

    /// A server on a store that may remember something.
    async fn start(store: ScriptedStore, environment: Arc<TestEnvironment>) -> Self {
        let settings = Settings { max_instances: INSTANCES_MAX, max_sessions: 100_000 };
        let outside = Arc::<TestEnvironment>::clone(&environment);
        let engine = Engine::start(store.clone(), outside, settings).await.unwrap();
        Self { engine, store, environment }
    }

    /// A server with the instances `a` and `b`, both READY; `a` has the sessions 1, 2 and 3.
    async fn ready() -> Self {
        let world = Self::empty().await;
        for id in ["a", "b"] {
            world.create(id).await.unwrap();
            world.initialize(id).await.unwrap();
        }
        for sesid in 1..=3 {
            assert_eq!(world.begin_session("a").await, Ok(sesid));
        }
        world.store.seen();
        world
    }

    /// The server ends, by a crash unless it was closed, and starts again.
    async fn restarted(self) -> Self {
        let (store, environment) = (self.store.clone(), Arc::clone(&self.environment));
        drop(self);
        while store.open_journals() > 0 {
            tokio::task::yield_now().await;
        }
        Self::start(store, environment).await
    }

    fn create(&self, id: &str) -> Asked<InstanceView> {
        let wanted = NewInstance {
            id: name(id),
            labels: Labels::default(),
            max_sessions: None,
            durability: Durability::Flush,
            ready: false,
        };
        let engine = self.engine.clone();
        asked(async move { engine.create(wanted, nobody()).await })
    }

    fn delete(&self, id: &str) -> Asked<()> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move { engine.delete(id, nobody()).await })
    }

    fn initialize(&self, id: &str) -> Asked<Phase> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move {
            Ok(engine.initialize(&id, nobody()).await?.phase) as Result<_, Unanswered<_>>
        })
    }

    fn stop(&self, id: &str) -> Asked<Phase> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move {
            Ok(engine.stop(&id, false, nobody()).await?.phase) as Result<_, Unanswered<_>>
        })
    }

    fn resume(&self, id: &str) -> Asked<Phase> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move {
            Ok(engine.stop(&id, true, nobody()).await?.phase) as Result<_, Unanswered<_>>
        })
    }

    fn terminate(&self, id: &str, mode: TerminateMode) -> Asked<Phase> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move {
            Ok(engine.terminate(&id, mode, nobody()).await?.phase) as Result<_, Unanswered<_>>
        })
    }

    /// Answers the new sesid.
    fn begin_session(&self, id: &str) -> Asked<u64> {
        let call = BeginSession { labels: Labels::default() };
        self.call(id, call, |view| view.session.id.get())
    }

    /// Sets a context on a session of `a`; answers the token.
    fn set(&self, sesid: u64, thread: &str) -> Asked<u64> {
        self.set_at("a", sesid, thread)
    }

    fn set_at(&self, id: &str, sesid: u64, thread: &str) -> Asked<u64> {
        let call = SetContext::new(session(sesid), thread.parse().unwrap(), 7);
        self.call(id, call, |view| token(&view.session).unwrap())
    }

    /// Resets the context of a session of `a`; answers the revision.
    fn reset(&self, sesid: u64, thread: &str) -> Asked<u64> {
        let thread = thread.parse().unwrap();
        let call = ResetContext { session: session(sesid), thread, token: None };
        self.call("a", call, |revision| revision.get())
    }

    /// Begins a transaction on a session of `a`; answers the level.
    fn begin_transaction(&self, sesid: u64, thread: &str) -> Asked<u8> {
        let call = BeginTransaction { session: session(sesid), thread: thread.parse().unwrap() };
        self.call("a", call, |level| level)
    }

    fn get(&self, id: &str, sesid: u64) -> Asked<Session> {
        self.call(id, GetSession { session: session(sesid) }, |view| view.session)
    }

    fn sessions(&self, id: &str) -> Asked<Vec<Session>> {
        let call = ListSessions { filter: SessionFilter::default(), after: None, count: 1_000 };
        self.call(id, call, |page| page.sessions.into_iter().map(|view| view.session).collect())
    }

    fn call<C, T>(
        &self,
        id: &str,
        call: C,
        read: impl FnOnce(C::Answer) -> T + Send + 'static,
    ) -> Asked<T>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        let answer = self.raw(id, call);
        asked(async move { answer.await.map(read) })
    }

    /// A call with its refusal as it is.
    fn raw<C>(&self, id: &str, call: C) -> Raw<C>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        let (engine, id) = (self.engine.clone(), name(id));
        Box::pin(async move { engine.ask(&id, Asker::once(Principal::anonymous()), call).await })
    }

    fn view(&self, id: &str) -> InstanceView {
        self.engine.instance(&name(id)).unwrap()
    }

    fn phase(&self, id: &str) -> Phase {
        self.view(id).phase
    }

    /// Waits until the instance is in the phase.
    async fn until(&self, id: &str, phase: &str) {
        let mut seen = self.engine.handle::<Failure>(&name(id)).unwrap().view;
        let there = seen.wait_for(|view| view.phase.as_str() == phase);
        soon(there).await.unwrap();
    }

    /// The first cause, if the instance has failed.
    fn failure(&self, id: &str) -> Option<Failure> {
        match self.phase(id) {
            Phase::Failed(failure) => Some(failure),
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => None,
        }
    }

    /// The phase in which the store would bring the instance back.
    async fn resting(&self, id: &str) -> Option<Resting> {
        let catalog = self.store.load().await.unwrap();
        catalog.instances.iter().find(|record| record.id == name(id)).map(|record| record.resting)
    }
}

/// Whatever a test did, the engine kept its promises to the store.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.store.misuse(), Vec::<String>::new());
        }
    }
}

/// A clock that ticks each time it is read, and uids in order.
#[derive(Debug)]
struct TestEnvironment {
    ticks: AtomicI64,
    panics: AtomicBool,
    /// On the clock of the runtime, which stands still unless nothing else is to be done.
    began: tokio::time::Instant,
}

impl Default for TestEnvironment {
    #[expect(clippy::disallowed_methods, reason = "the clock of the runtime is the test's own")]
    fn default() -> Self {
        let (ticks, panics) = Default::default();
        Self { ticks, panics, began: tokio::time::Instant::now() }
    }
}

impl TestEnvironment {
    /// The next look at the clock panics.
    fn panic_once(&self) {
        self.panics.store(true, Ordering::Relaxed);
    }
}

impl Environment for TestEnvironment {
    fn now(&self) -> Timestamp {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "scripted panic");
        Timestamp::from_micros(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    #[expect(clippy::disallowed_methods, reason = "the clock of the runtime is the test's own")]
    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }

    fn uid(&self) -> Uid {
        Uid::new(&format!("uid-{}", self.now().micros()))
    }
}

fn asked<T, R: Refusal>(call: impl Future<Output = Result<T, R>> + Send + 'static) -> Asked<T> {
    Box::pin(async move { soon(call).await.map_err(|refusal| refusal.jet_err().code()) })
}

/// Waits for what must come; with time paused a wait in vain fails at once.
async fn soon<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), coming).await.expect("it comes")
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Puts a call into its inbox.
fn sent<T>(mut call: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
    assert_unanswered(&mut call);
    call
}

fn assert_unanswered<T>(call: &mut BoxFuture<'static, T>) {
    // Unconstrained: after many polls in a row tokio would make any call wait.
    let polled = unconstrained(call).now_or_never();
    assert!(polled.is_none(), "it has no answer yet");
}

/// The next change of the set of instances, as in `a READY`.
async fn next(changes: &mut InstanceChanges) -> String {
    match soon(changes.next()).await {
        InstanceChange::Present(view) => format!("{} {}", view.record.id, view.phase),
        InstanceChange::Gone(id) => format!("{id} gone"),
    }
}

/// Somebody who asks once.
fn nobody() -> Asker {
    Asker::once(Principal::anonymous())
}

fn name(id: &str) -> InstanceId {
    id.parse().unwrap()
}

fn session(sesid: u64) -> SessionId {
    SessionId::new(sesid).unwrap()
}

/// The token of the binding in force.
fn token(session: &Session) -> Option<u64> {
    session.binding().map(|binding| binding.token.get())
}
