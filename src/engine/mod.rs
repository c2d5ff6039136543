//! One owner per instance: whoever wants something of an instance asks its owner and waits.
//!
//! [`Engine`] is a handle that can be cloned; behind it stand one *owner* task per instance and one
//! *registrar* that creates and deletes instances. An owner drains what waits for it, decides it in
//! order, commits it as one batch and only then answers. While a batch is being committed the next
//! one gathers, so batches grow with the load and nobody ever waits for a timer.
//!
//! Handlers only wait: a caller that vanishes tears nothing.
//!
//! - [`Engine`]: find an instance, ask it something
//! - `owner`: the task that decides, commits, applies and answers
//! - `instances`: what concerns an instance as a whole
//! - `ask`: a call on its way to the owner and back
//! - [`patience`]: calls that wait for a session, and how they stop waiting
//! - [`pipeline`]: many calls sent together and answered as they are decided
//! - [`threads`]: what concerns a thread in all instances
//! - `registrar`: creating and deleting instances
//! - [`backup`]: backups on their way out and in
//! - [`meter`]: what is told to whoever counts, and how many of everything there are
//! - [`sessions`]: what happens to sessions, told to those who want to know
//! - [`watch`]: what instances look like, told to those who want to know
//!
//! Must never: read a clock, draw a random number, name a backend or know a wire type.

mod ask;
pub mod backup;
mod instances;
pub mod meter;
mod owner;
pub mod patience;
pub mod pipeline;
mod registrar;
pub mod sessions;
#[cfg(test)]
mod tests;
pub mod threads;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as watch_channel};

use crate::domain::access::Scope;
use crate::domain::call::{Call, Refused};
use crate::domain::id::{InstanceId, Labels, Revision, Uid};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Admission, Failure, Phase, PhaseRefusal};
use crate::domain::refusal::{Facts, Refusal, Retry};
use crate::domain::replay::Replays;
use crate::domain::table::Floor;
use crate::domain::time::Timestamp;
pub use crate::engine::ask::Asker;
use crate::engine::ask::{MayWait, Todo, ask};
use crate::engine::meter::{Meter, Published, Unmetered};
use crate::engine::owner::Message;
use crate::engine::registrar::Registrar;
use crate::engine::sessions::ring::Ring;
use crate::engine::watch::{Board, InstanceChanges, InstanceView, Pulse};
use crate::store::{Store, StoreError};

/// Time and chance, which only the outside of the program may read.
pub trait Environment: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// A clock that is never set, from any beginning. It goes at the pace of the runtime's timers.
    fn monotonic(&self) -> Duration;

    /// A uid that nobody has drawn before.
    fn uid(&self) -> Uid;
}

/// What an operator decided about all instances.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many instances there may be.
    pub max_instances: usize,
    /// How many sessions an instance may have that is created without a number.
    pub max_sessions: u32,
}

/// A new instance as somebody wants it.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its name.
    pub id: InstanceId,
    /// How people find it.
    pub labels: Labels,
    /// How many sessions it may have; the server's default if absent.
    pub max_sessions: Option<u32>,
    /// What its answers promise.
    pub durability: Durability,
    /// Whether it is initialised as well. It is remembered so: whatever comes in between, the next
    /// start of the server initialises it.
    pub ready: bool,
}

/// The way to every instance. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    environment: Arc<dyn Environment>,
    instances: RwLock<BTreeMap<InstanceId, Handle>>,
    registrar: mpsc::Sender<registrar::Message>,
    board: Board,
    draining: watch_channel::Sender<bool>,
    waiting: patience::Waiting,
    watches: sessions::Watches,
    pulse: Arc<Pulse>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The way to one instance.
#[derive(Debug, Clone)]
struct Handle {
    owner: mpsc::Sender<Message>,
    view: watch_channel::Receiver<InstanceView>,
    ring: Arc<Ring>,
    published: Arc<Published>,
}

/// Why a question to an instance was not answered with yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered<R> {
    /// There is no such instance.
    NoSuchInstance,
    /// This server is going down.
    ShuttingDown,
    /// The instance was asked and refused.
    Refused(R),
    /// It refused because of a phase that passes by itself.
    NotYet {
        /// What it said.
        refusal: R,
        /// How long the phase should still take.
        over_in: Duration,
    },
    /// Another call had this request id.
    RequestIdReused,
}

impl<R: Refusal> Refusal for Unanswered<R> {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::NoSuchInstance => JetErr::InvalidInstance,
            Self::ShuttingDown => PhaseRefusal::Draining.jet_err(),
            Self::Refused(refusal) | Self::NotYet { refusal, .. } => refusal.jet_err(),
            Self::RequestIdReused => Refused::<Infallible>::RequestIdReused.jet_err(),
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::NoSuchInstance => Facts::default(),
            Self::ShuttingDown => PhaseRefusal::Draining.facts(),
            Self::Refused(refusal) => refusal.facts(),
            Self::NotYet { refusal, over_in } => {
                Facts { retry: Retry::After(*over_in), ..refusal.facts() }
            }
            Self::RequestIdReused => Refused::<Infallible>::RequestIdReused.facts(),
        }
    }
}

impl Engine {
    /// Starts the owners of all instances that the store remembers. Those that were initialised are
    /// initialised again, in the background.
    pub async fn start<S: Store>(
        store: S,
        environment: Arc<dyn Environment>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        Self::start_metered(store, environment, Arc::new(Unmetered), settings).await
    }

    /// As [`start`](Self::start), with somebody who is told what owners do.
    pub async fn start_metered<S: Store>(
        store: S,
        environment: Arc<dyn Environment>,
        meter: Arc<dyn Meter>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let (registrar, messages) = mpsc::channel(registrar::QUEUE_MAX);
        let shared = Arc::new(Shared {
            settings,
            environment: Arc::clone(&environment),
            instances: RwLock::default(),
            registrar,
            board: Board::new(),
            draining: watch_channel::Sender::new(false),
            waiting: patience::Waiting::new(),
            watches: sessions::Watches::new(),
            pulse: Pulse::start(),
        });
        let weak = Arc::downgrade(&shared);
        Registrar::start(Arc::new(store), environment, meter, weak, messages).await?;
        Ok(Self { shared })
    }

    /// What the operator decided.
    pub fn settings(&self) -> Settings {
        self.shared.settings
    }

    /// Asks an instance for a call and waits for the answer, which is as durable as the instance
    /// promises. The call is refused rather than that it waits for a session.
    pub async fn ask<C>(
        &self,
        instance: &InstanceId,
        asker: Asker,
        call: C,
    ) -> Result<C::Answer, Unanswered<Refused<C::Refusal>>>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        let handle = self.handle(instance)?;
        let todo = self.admit::<C>(&handle, &asker)?;
        let (question, answer) = ask(call, asker, todo, MayWait::No);
        let sent = handle.owner.send(Message::Call(question)).await.is_ok();
        match answer.await {
            Ok(Some(result)) if sent => result.map_err(|refusal| self.refused(&handle, refusal)),
            Ok(_) | Err(_) => Err(self.lost(&handle)),
        }
    }

    /// A draining server refuses what a stopped instance would refuse. Whether a request was answered
    /// before, and then is again, only the owner knows.
    fn admit<C: Call>(
        &self,
        handle: &Handle,
        asker: &Asker,
    ) -> Result<Todo, Unanswered<Refused<C::Refusal>>> {
        if C::ADMISSION == Admission::LetsGo || !self.draining() {
            return Ok(Todo::Decide);
        }
        if asker.request.is_some() {
            return Ok(Todo::Recall);
        }
        let refusal = match handle.view.borrow().phase.admit(C::ADMISSION) {
            Ok(()) => PhaseRefusal::Draining,
            Err(refusal) => refusal,
        };
        Err(self.refused(handle, refusal.into()))
    }

    /// An instance as it is now: everything that was answered is in it.
    pub fn instance(&self, id: &InstanceId) -> Result<InstanceView, Unanswered<Infallible>> {
        Ok(self.handle(id)?.view.borrow().clone())
    }

    /// Up to `count` instances of the scope after `after`, in the order of their names.
    pub fn instances(
        &self,
        scope: &Scope,
        after: Option<&InstanceId>,
        count: usize,
    ) -> Vec<InstanceView> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let instances = self.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
        instances
            .range((from, Bound::Unbounded))
            .filter(|(id, _)| scope.holds(id))
            .take(count)
            .map(|(_, handle)| handle.view.borrow().clone())
            .collect()
    }

    /// These instances, or all if none is named, as they are now, and from then on whatever changes:
    /// counts when the pulse beats, all else at once.
    pub fn watch_instances(&self, names: BTreeSet<InstanceId>) -> InstanceChanges {
        InstanceChanges::new(self.clone(), names)
    }

    /// From now on nobody takes a session: this process is going down and another may answer.
    pub fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    /// Whether it does.
    pub fn draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    /// Waits until the server drains.
    pub async fn drained(&self) {
        let mut draining = self.shared.draining.subscribe();
        // An error would mean that the sender is gone, and this handle holds it.
        draining.wait_for(|draining| *draining).await.ok();
    }

    /// Closes every journal in good order. Whoever asks afterwards is told that the server goes down.
    pub async fn close(&self) {
        self.drain();
        // First the registrar: what it creates meanwhile is among the owners.
        let (reply, closed) = oneshot::channel();
        if self.shared.registrar.send(registrar::Message::Close(reply)).await.is_ok() {
            closed.await.unwrap_or(());
        }
        let handles: Vec<Handle> = {
            let instances = self.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
            instances.values().cloned().collect()
        };
        let mut closing = Vec::with_capacity(handles.len());
        for handle in handles {
            let (reply, closed) = oneshot::channel();
            if handle.owner.send(Message::Close(reply)).await.is_ok() {
                closing.push(closed);
            }
        }
        for closed in closing {
            // An owner that ends without a word has ended all the same.
            closed.await.unwrap_or(());
        }
    }

    fn handle<R>(&self, id: &InstanceId) -> Result<Handle, Unanswered<R>> {
        let instances = self.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
        instances.get(id).cloned().ok_or(Unanswered::NoSuchInstance)
    }

    /// A refusal, with how long it will stand if its phase passes by itself and tells.
    fn refused<R: Refusal>(&self, handle: &Handle, refusal: R) -> Unanswered<R> {
        let over_in = handle.view.borrow().over_in(|| self.shared.environment.now());
        match over_in {
            Some(over_in) if refusal.facts().retry == Retry::Soon => {
                Unanswered::NotYet { refusal, over_in }
            }
            Some(_) | None => Unanswered::Refused(refusal),
        }
    }

    /// What to say when an owner took a question with it: it is gone with its instance, the server
    /// goes down, or it panicked over the question and the instance has failed.
    fn lost<R: From<PhaseRefusal>>(&self, handle: &Handle) -> Unanswered<R> {
        if handle.owner.is_closed() {
            return if self.draining() {
                Unanswered::ShuttingDown
            } else {
                Unanswered::NoSuchInstance
            };
        }
        let view = handle.view.borrow();
        let failure = match &view.phase {
            Phase::Failed(failure) => failure.clone(),
            // It is about to be, or has already been mended since.
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => Failure {
                error: JetErr::InternalError,
                cause: "the call was lost when its instance failed".into(),
                time: view.record.updated,
            },
        };
        Unanswered::Refused(PhaseRefusal::Unavailable(failure).into())
    }
}

/// The record of an instance that is about to be created.
fn new_record(
    wanted: NewInstance,
    settings: Settings,
    floor: Floor,
    environment: &dyn Environment,
) -> InstanceRecord {
    let now = environment.now();
    InstanceRecord {
        id: wanted.id,
        uid: environment.uid(),
        labels: wanted.labels,
        max_sessions: wanted.max_sessions.unwrap_or(settings.max_sessions),
        durability: wanted.durability,
        created: now,
        updated: now,
        floor,
        resting: if wanted.ready { Resting::Ready } else { Resting::Created },
        ended: Revision::ZERO,
        created_by: None,
        replays: Replays::default(),
    }
}
