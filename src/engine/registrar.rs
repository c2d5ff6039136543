//! Creating and deleting instances, one after the other.
//!
//! It is a task of its own so that a caller that vanishes half-way leaves no half-made instance.

use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{mpsc, oneshot};

use crate::domain::id::InstanceId;
use crate::domain::instance::{self, CreateRefusal, InstanceRecord, Resting};
use crate::domain::lifecycle::{Failure, PhaseRefusal};
use crate::domain::limits::OWNER_QUEUE_MAX;
use crate::domain::table::Floor;
use crate::engine::owner::{self, Owner};
use crate::engine::watch::InstanceView;
use crate::engine::{Environment, Handle, NewInstance, Shared, Unanswered, new_record};
use crate::store::{Store, StoreError};

pub(super) use crate::domain::limits::REGISTRAR_QUEUE_MAX as QUEUE_MAX;

/// What the registrar can be asked.
#[derive(Debug)]
pub(super) enum Message {
    Create(NewInstance, oneshot::Sender<Result<InstanceView, Unanswered<CreateRefusal>>>),
    Delete(InstanceId, oneshot::Sender<Result<(), Unanswered<PhaseRefusal>>>),
}

pub(super) struct Registrar<S: Store> {
    store: Arc<S>,
    environment: Arc<dyn Environment>,
    /// Weak, because the engine ends when its last handle goes, not when its own tasks do.
    shared: Weak<Shared>,
    floor: Floor,
}

impl<S: Store> Registrar<S> {
    /// Brings back every instance that the store remembers and starts the registrar.
    pub(super) async fn start(
        store: Arc<S>,
        environment: Arc<dyn Environment>,
        shared: Weak<Shared>,
        inbox: mpsc::Receiver<Message>,
    ) -> Result<(), StoreError> {
        let catalog = store.load().await?;
        let registrar = Self { store, environment, shared, floor: catalog.floor };
        for record in catalog.instances {
            let initialize = match record.resting {
                Resting::Created => false,
                Resting::Ready | Resting::Stopped => true,
            };
            let handle = registrar.register(record);
            if let (Some(handle), true) = (handle, initialize) {
                let message = owner::Message::Initialize(None);
                handle.owner.try_send(message).expect("a new owner has an empty inbox");
            }
        }
        tokio::spawn(registrar.run(inbox));
        Ok(())
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Create(wanted, reply) => {
                    let result = self.create(wanted).await;
                    drop(reply.send(result));
                }
                Message::Delete(id, reply) => {
                    let result = self.delete(&id).await;
                    drop(reply.send(result));
                }
            }
        }
    }

    async fn create(&self, wanted: NewInstance) -> Result<InstanceView, Unanswered<CreateRefusal>> {
        let Some(shared) = self.shared.upgrade() else {
            return Err(Unanswered::ShuttingDown);
        };
        {
            let instances = shared.instances.read().unwrap_or_else(PoisonError::into_inner);
            let taken = instances.contains_key(&wanted.id);
            instance::create(instances.len(), shared.settings.max_instances, taken)
                .map_err(Unanswered::Refused)?;
        }
        let record = new_record(wanted, shared.settings, self.floor, &*self.environment);
        self.store.create(&record).await.map_err(|error| {
            Unanswered::Refused(CreateRefusal::Unavailable(Failure {
                error: error.error,
                cause: error.to_string().into(),
                time: self.environment.now(),
            }))
        })?;
        tracing::info!(instance = %record.id, "instance created");
        let handle = self.register(record).ok_or(Unanswered::ShuttingDown)?;
        let view = handle.view.borrow().clone();
        Ok(view)
    }

    async fn delete(&mut self, id: &InstanceId) -> Result<(), Unanswered<PhaseRefusal>> {
        let Some(shared) = self.shared.upgrade() else {
            return Err(Unanswered::ShuttingDown);
        };
        let owner = {
            let instances = shared.instances.read().unwrap_or_else(PoisonError::into_inner);
            instances.get(id).map(|handle| handle.owner.clone())
        };
        let Some(owner) = owner else {
            return Err(Unanswered::NoSuchInstance);
        };
        let (reply, answer) = oneshot::channel();
        if owner.send(owner::Message::Delete(reply)).await.is_err() {
            return Err(Unanswered::ShuttingDown);
        }
        let floor =
            answer.await.map_err(|_| Unanswered::ShuttingDown)?.map_err(Unanswered::Refused)?;
        self.floor = self.floor.max(floor);
        shared.instances.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        shared.board.changed();
        tracing::info!(instance = %id, "instance deleted");
        Ok(())
    }

    /// Starts the owner of an instance and lets everybody find it.
    fn register(&self, record: InstanceRecord) -> Option<Handle> {
        let shared = self.shared.upgrade()?;
        let id = record.id.clone();
        let (owner, view) =
            Owner::new(Arc::clone(&self.store), Arc::clone(&self.environment), record);
        let (sender, inbox) = mpsc::channel(OWNER_QUEUE_MAX);
        tokio::spawn(owner.run(inbox));
        let handle = Handle { owner: sender, view };
        let mut instances = shared.instances.write().unwrap_or_else(PoisonError::into_inner);
        instances.insert(id, handle.clone());
        drop(instances);
        shared.board.changed();
        Some(handle)
    }
}
