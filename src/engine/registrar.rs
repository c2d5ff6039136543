//! Creating and deleting instances, one after the other.
//!
//! It is a task of its own so that a caller that vanishes half-way leaves no half-made instance.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, Weak};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::domain::backup::RestoreRefusal;
use crate::domain::gone::AllGone;
use crate::domain::id::InstanceId;
use crate::domain::instance::{self, CreateRefusal, Instance, InstanceRecord, Resting};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Event, Failure, PhaseRefusal};
use crate::domain::limits::OWNER_QUEUE_MAX;
use crate::domain::replay::{Replay, Reused};
use crate::domain::table::{Floor, SessionTable};
use crate::engine::meter::{Meter, Published};
use crate::engine::owner::{self, Deleted, Owner, Told};
use crate::engine::sessions::ring::Ring;
use crate::engine::watch::InstanceView;
use crate::engine::{Asker, Environment, Handle, NewInstance, Shared, Unanswered, new_record};
use crate::store::{Store, StoreError, with_causes};

pub(super) use crate::domain::limits::REGISTRAR_QUEUE_MAX as QUEUE_MAX;

/// What the registrar can be asked.
#[derive(Debug)]
pub(super) enum Message {
    Create(NewInstance, Asker, oneshot::Sender<Result<InstanceView, Unanswered<CreateRefusal>>>),
    Delete(InstanceId, Asker, oneshot::Sender<Result<(), Unanswered<PhaseRefusal>>>),
    /// Begins an epoch that nobody has used and that is above these numbers too.
    Raise(Floor, oneshot::Sender<Result<Floor, RestoreRefusal>>),
    /// The server goes down: nothing is created or deleted any more.
    Close(oneshot::Sender<()>),
}

pub(super) struct Registrar<S: Store> {
    store: Arc<S>,
    environment: Arc<dyn Environment>,
    meter: Arc<dyn Meter>,
    /// Weak, because the engine ends when its last handle goes, not when its own tasks do.
    shared: Weak<Shared>,
    floor: Floor,
    /// Instances that were created by requests that may come again, as they were then.
    created: Vec<InstanceRecord>,
    /// What is kept of instances that were deleted.
    gone: AllGone,
}

impl<S: Store> Registrar<S> {
    /// Brings back every instance that the store remembers and starts the registrar.
    pub(super) async fn start(
        store: Arc<S>,
        environment: Arc<dyn Environment>,
        meter: Arc<dyn Meter>,
        shared: Weak<Shared>,
        inbox: mpsc::Receiver<Message>,
    ) -> Result<(), StoreError> {
        let catalog = store.load().await?;
        let created = catalog.instances.iter().filter(|record| record.created_by.is_some());
        let created = created.cloned().collect();
        let (floor, gone) = (catalog.floor, AllGone::new(catalog.gone));
        let mut registrar = Self { store, environment, meter, shared, floor, created, gone };
        registrar.forget().await;
        for (id, error) in catalog.damaged {
            registrar.register_damaged(id, &error);
        }
        for record in catalog.instances {
            registrar.register(Instance::created(record));
        }
        tokio::spawn(registrar.run(inbox));
        Ok(())
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Create(wanted, asker, reply) => {
                    // A panic of the store must not take the registrar with it.
                    let create = AssertUnwindSafe(self.create(wanted, asker)).catch_unwind();
                    let result = create.await.unwrap_or_else(|panic| {
                        self.meter.panicked();
                        Err(self.unavailable(JetErr::InternalError, owner::panic_message(&*panic)))
                    });
                    drop(reply.send(result));
                }
                Message::Delete(id, asker, reply) => {
                    if let Some(result) = self.delete(&id, &asker).await {
                        drop(reply.send(result));
                    }
                }
                Message::Raise(above, reply) => {
                    let raise = AssertUnwindSafe(self.raise(above)).catch_unwind();
                    let result = raise.await.unwrap_or_else(|panic| {
                        self.meter.panicked();
                        let cause = owner::panic_message(&*panic);
                        Err(RestoreRefusal::Unavailable(self.failure(JetErr::InternalError, cause)))
                    });
                    drop(reply.send(result));
                }
                Message::Close(reply) => {
                    inbox.close();
                    reply.send(()).ok();
                    // Not dropped: what somebody is sending at this moment must be dropped too.
                    while inbox.recv().await.is_some() {}
                    return;
                }
            }
        }
    }

    async fn create(
        &mut self,
        wanted: NewInstance,
        asker: Asker,
    ) -> Result<InstanceView, Unanswered<CreateRefusal>> {
        let Some(shared) = self.shared.upgrade() else {
            return Err(Unanswered::ShuttingDown);
        };
        self.forget().await;
        let repeated = self.repeated(&wanted.id, &asker);
        if let Some(view) = repeated.map_err(|Reused| Unanswered::RequestIdReused)? {
            return Ok(view);
        }
        {
            let instances = shared.instances.read().unwrap_or_else(PoisonError::into_inner);
            let taken = instances.contains_key(&wanted.id);
            instance::create(instances.len(), shared.settings.max_instances, taken)
                .map_err(Unanswered::Refused)?;
        }
        let mut record = new_record(wanted, shared.settings, self.floor, &*self.environment);
        let answer = owner::answered(&record, &SessionTable::above(record.floor));
        let (by, time) = (asker.by, record.created);
        let kept = asker.request.map(|request| Box::new(Replay { by, request, time, answer }));
        record.created_by = kept;
        let created = self.store.create(&record).await;
        created.map_err(|error| self.unavailable(error.error, with_causes(&error)))?;
        tracing::info!(instance = %record.id, "instance created");
        self.created.extend(record.created_by.is_some().then(|| record.clone()));
        let handle = self.register(Instance::created(record)).ok_or(Unanswered::ShuttingDown)?;
        let view = handle.view.borrow().clone();
        Ok(view)
    }

    /// Forgets what nobody asks for any more.
    async fn forget(&mut self) {
        let now = self.environment.now();
        let made = |record: &InstanceRecord| record.created_by.clone();
        self.created.retain(|record| made(record).is_some_and(|made| !made.is_too_old(now)));
        for gone in self.gone.outdated(now) {
            if let Err(error) = self.store.forget(&gone).await {
                // It takes room and does no harm; the next start tries again.
                let cause = with_causes(&error);
                tracing::warn!(instance = %gone.record.id, cause, "a deleted instance stays");
            }
        }
    }

    /// What this request was answered when it created an instance, be it still there or not.
    fn repeated(&self, id: &InstanceId, asker: &Asker) -> Result<Option<InstanceView>, Reused> {
        let now = self.environment.now();
        let Some(request) = &asker.request else {
            return Ok(None);
        };
        for record in &self.created {
            if let Some(made) = &record.created_by
                && made.answers(&asker.by, request, now)?
            {
                return Ok(Some(InstanceView::repeated(record, &made.answer)));
            }
        }
        let found = self.gone.created(id, &asker.by, request, now)?;
        Ok(found.map(|(record, made)| InstanceView::repeated(record, &made.answer)))
    }

    async fn raise(&mut self, above: Floor) -> Result<Floor, RestoreRefusal> {
        let next = self.floor.max(above).next_epoch().ok_or(RestoreRefusal::NoNumbersLeft)?;
        let raised = self.store.raise(next).await;
        raised.map_err(|error| {
            RestoreRefusal::Unavailable(self.failure(error.error, with_causes(&error)))
        })?;
        self.floor = next;
        Ok(next)
    }

    fn unavailable(&self, error: JetErr, cause: String) -> Unanswered<CreateRefusal> {
        Unanswered::Refused(CreateRefusal::Unavailable(self.failure(error, cause)))
    }

    fn failure(&self, error: JetErr, cause: String) -> Failure {
        Failure { error, cause: cause.into(), time: self.environment.now() }
    }

    /// Answers nothing where the owner takes the question with it.
    async fn delete(
        &mut self,
        id: &InstanceId,
        asker: &Asker,
    ) -> Option<Result<(), Unanswered<PhaseRefusal>>> {
        let shared = self.shared.upgrade()?;
        if let Some(request) = &asker.request {
            match self.gone.deleted(id, &asker.by, request, self.environment.now()) {
                Ok(true) => return Some(Ok(())),
                Ok(false) => {}
                Err(Reused) => return Some(Err(Unanswered::RequestIdReused)),
            }
        }
        let handle = {
            let instances = shared.instances.read().unwrap_or_else(PoisonError::into_inner);
            instances.get(id).cloned()
        };
        let Some(handle) = handle else {
            return Some(Err(Unanswered::NoSuchInstance));
        };
        // Creating others must not wait for an owner that is busy and would refuse.
        let phase = handle.view.borrow().phase.on(Event::Delete);
        if let Err(refusal) = phase {
            return Some(Err(Unanswered::Refused(refusal)));
        }
        let (reply, answer) = oneshot::channel();
        handle.owner.send(owner::Message::Delete(asker.clone(), reply)).await.ok()?;
        let Deleted { floor, kept } = match answer.await.ok()? {
            Ok(deleted) => deleted,
            Err(refusal) => return Some(Err(refusal)),
        };
        self.floor = self.floor.max(floor);
        self.created.retain(|record| record.id != *id);
        if let Some(gone) = kept {
            self.gone.keep(gone);
        }
        self.forget().await;
        shared.instances.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        shared.board.changed();
        tracing::info!(instance = %id, "instance deleted");
        Some(Ok(()))
    }

    /// An instance whose record cannot be read has failed from the start, and can be seen,
    /// terminated, restored and deleted.
    fn register_damaged(&self, id: InstanceId, error: &StoreError) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let failure = self.failure(error.error, with_causes(error));
        tracing::error!(
            instance = %id,
            jet_error = failure.error.code(),
            cause = &*failure.cause,
            "the record of an instance cannot be read",
        );
        let (uid, now) = (self.environment.uid(), self.environment.now());
        let max_sessions = shared.settings.max_sessions;
        let record = InstanceRecord::unreadable(id, uid, max_sessions, self.floor, now);
        self.register(Instance::failed(record, failure));
    }

    /// Starts the owner of an instance and lets everybody find it. If the instance does not rest in
    /// CREATED, it is initialised.
    fn register(&self, instance: Instance) -> Option<Handle> {
        let shared = self.shared.upgrade()?;
        let id = instance.record.id.clone();
        let initialize = match instance.record.resting {
            Resting::Created => false,
            Resting::Ready | Resting::Stopped => true,
        };
        let watches = &shared.watches;
        let ring = Arc::new(Ring::new(&instance.phase, watches.bounds, watches.budget.clone()));
        let published = Arc::new(Published::default());
        let told = Told { meter: Arc::clone(&self.meter), published: Arc::clone(&published) };
        let (owner, view) = Owner::new(
            Arc::clone(&self.store),
            Arc::clone(&self.environment),
            told,
            instance,
            Arc::clone(&ring),
            Arc::clone(&shared.pulse),
        );
        let (sender, inbox) = mpsc::channel(OWNER_QUEUE_MAX);
        if initialize {
            let message = owner::Message::Initialize(None);
            sender.try_send(message).expect("a new owner has an empty inbox");
        }
        tokio::spawn(owner.run(inbox));
        let handle = Handle { owner: sender, view, ring, published };
        let mut instances = shared.instances.write().unwrap_or_else(PoisonError::into_inner);
        instances.insert(id, handle.clone());
        drop(instances);
        shared.board.changed();
        Some(handle)
    }
}
