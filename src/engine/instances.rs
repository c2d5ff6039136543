//! What concerns an instance as a whole: creating and deleting it, its phases, its backups.

use tokio::sync::oneshot;

use crate::domain::backup::{BackupRefusal, RestoreRefusal};
use crate::domain::id::InstanceId;
use crate::domain::instance::{CreateRefusal, InitializeRefusal, TerminateMode, TerminateRefusal};
use crate::domain::lifecycle::{Phase, PhaseRefusal};
use crate::domain::refusal::Refusal;
use crate::engine::ask::Asker;
use crate::engine::backup::{Backup, Upload};
use crate::engine::owner::Message;
use crate::engine::watch::InstanceView;
use crate::engine::{Engine, NewInstance, Unanswered, registrar};

impl Engine {
    /// `JetCreateInstance2`, and `JetInit3` if the instance is to be ready.
    pub async fn create(
        &self,
        wanted: NewInstance,
        asker: Asker,
    ) -> Result<InstanceView, Unanswered<CreateRefusal>> {
        let ready = wanted.ready.then(|| wanted.id.clone());
        let (reply, answer) = oneshot::channel();
        let message = registrar::Message::Create(wanted, asker, reply);
        if self.shared.registrar.send(message).await.is_err() {
            return Err(Unanswered::ShuttingDown);
        }
        let created = answer.await.unwrap_or(Err(Unanswered::ShuttingDown))?;
        match ready {
            Some(id) => self.initialized(&id).await,
            None => Ok(created),
        }
    }

    /// Waits until an instance that is being initialised has been, or has failed to be.
    async fn initialized(
        &self,
        id: &InstanceId,
    ) -> Result<InstanceView, Unanswered<CreateRefusal>> {
        let mut view = self.handle::<CreateRefusal>(id)?.view;
        let over = view.wait_for(|view| match view.phase {
            Phase::Created | Phase::Initializing => false,
            Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating
            | Phase::Failed(_) => true,
        });
        let view = over.await.map_err(|_| Unanswered::ShuttingDown)?.clone();
        match view.phase {
            Phase::Failed(failure) => Err(Unanswered::Refused(CreateRefusal::Unavailable(failure))),
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => Ok(view),
        }
    }

    /// Forgets an instance that is not initialised.
    pub async fn delete(
        &self,
        id: InstanceId,
        asker: Asker,
    ) -> Result<(), Unanswered<PhaseRefusal>> {
        let handle = self.handle(&id);
        let (reply, answer) = oneshot::channel();
        // Also if there is no such instance: it may be gone because of this very request.
        let message = registrar::Message::Delete(id, asker, reply);
        if self.shared.registrar.send(message).await.is_err() {
            return Err(Unanswered::ShuttingDown);
        }
        match (answer.await, handle) {
            (Ok(Err(Unanswered::Refused(refusal))), Ok(handle)) => {
                Err(self.refused(&handle, refusal))
            }
            (Ok(result), _) => result,
            (Err(_), Ok(handle)) => Err(self.lost(&handle)),
            (Err(_), Err(unknown)) => Err(unknown),
        }
    }

    /// `JetInit3`: answers when the instance is initialised, or has failed to be.
    pub async fn initialize(
        &self,
        id: &InstanceId,
        asker: Asker,
    ) -> Result<InstanceView, Unanswered<InitializeRefusal>> {
        self.ask_owner(id, |reply| Message::Initialize(Some((asker, reply)))).await
    }

    /// `JetStopServiceInstance2`, and our way back from it.
    pub async fn stop(
        &self,
        id: &InstanceId,
        resume: bool,
        asker: Asker,
    ) -> Result<InstanceView, Unanswered<PhaseRefusal>> {
        self.ask_owner(id, |reply| Message::Stop { resume, asker, reply }).await
    }

    /// `JetTerm2`: answers when the instance is terminated, or has failed to be.
    pub async fn terminate(
        &self,
        id: &InstanceId,
        mode: TerminateMode,
        asker: Asker,
    ) -> Result<InstanceView, Unanswered<TerminateRefusal>> {
        self.ask_owner(id, |reply| Message::Terminate { mode, asker, reply }).await
    }

    /// `JetBackupInstance`: the sessions as they are now, piece by piece.
    pub async fn backup(&self, id: &InstanceId) -> Result<Backup, Unanswered<BackupRefusal>> {
        let begun = self.ask_owner(id, Message::Backup).await?;
        Ok(Backup::new(self.clone(), begun))
    }

    /// `JetRestoreInstance`: from now on the instance waits for the upload.
    pub async fn restore(&self, id: &InstanceId) -> Result<Upload, Unanswered<RestoreRefusal>> {
        let (registrar, draining) =
            (self.shared.registrar.clone(), self.shared.draining.subscribe());
        self.ask_owner(id, |reply| Message::Restore { reply, registrar, draining }).await
    }

    /// Asks an owner for something that concerns its instance as a whole.
    async fn ask_owner<T, R>(
        &self,
        id: &InstanceId,
        message: impl FnOnce(oneshot::Sender<Result<T, Unanswered<R>>>) -> Message,
    ) -> Result<T, Unanswered<R>>
    where
        R: Refusal + From<PhaseRefusal>,
    {
        let handle = self.handle(id)?;
        let (reply, answer) = oneshot::channel();
        let sent = handle.owner.send(message(reply)).await.is_ok();
        match answer.await {
            Ok(Err(Unanswered::Refused(refusal))) if sent => Err(self.refused(&handle, refusal)),
            Ok(result) if sent => result,
            Ok(_) | Err(_) => Err(self.lost(&handle)),
        }
    }
}
