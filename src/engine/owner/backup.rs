//! Backups: taken of the state between two batches, and read in beside the inbox.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::backup::{BackupRefusal, RestoreRefusal};
use crate::domain::instance::{InstanceRecord, Resting};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Event, Failure, PhaseRefusal};
use crate::domain::table::Floor;
use crate::engine::backup::{Begun, Upload, Uploaded};
use crate::engine::owner::lifecycle::Done;
use crate::engine::owner::{Owner, panic_message};
use crate::engine::{Environment, Unanswered, registrar};
use crate::store::snapshot::{About, Position};
use crate::store::{Progress, Store, with_causes};

/// What a restore comes to: the new record, and where numbers go on.
pub(super) type Restored = Result<(InstanceRecord, Floor), Unanswered<RestoreRefusal>>;

impl<S: Store> Owner<S> {
    pub(super) fn backup(&mut self) -> Result<Begun, BackupRefusal> {
        self.instance.backup(self.backup_runs())?;
        let (end, ended) = oneshot::channel();
        self.backup = Some(end);
        let about = About {
            instance: self.instance.record.id.clone(),
            uid: self.instance.record.uid.clone(),
            created: self.environment.now(),
            position: Position::default(),
            taken: Floor::default(),
        };
        Ok(Begun { about, table: self.instance.table.clone(), ended })
    }

    /// Whoever took the last backup tells its end by dropping their side.
    pub(super) fn backup_runs(&self) -> bool {
        self.backup.as_ref().is_some_and(|backup| !backup.is_closed())
    }

    pub(super) fn end_backup(&mut self, because: PhaseRefusal) {
        if let Some(backup) = self.backup.take() {
            drop(backup.send(because));
        }
    }

    /// Begins to read a backup in. `draining` ends that, should the upload last.
    pub(super) fn restore(
        &mut self,
        registrar: mpsc::Sender<registrar::Message>,
        draining: watch::Receiver<bool>,
    ) -> Result<Upload, RestoreRefusal> {
        let phase = self.instance.phase.on(Event::Restore)?;
        self.enter(phase);
        let (uploaded, upload) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let view = Arc::clone(&self.view);
        let progress = Progress::new(move |percent| {
            view.send_if_modified(|view| view.progress(percent));
        });
        let record = self.instance.record.clone();
        let upload_of_caller = Upload::new(record.max_sessions, progress, uploaded, answer);
        let environment = Arc::clone(&self.environment);
        let restore = Restore { store: Arc::clone(&self.store), environment, record, registrar };
        self.running = Some(Box::pin(async move {
            let environment = Arc::clone(&restore.environment);
            // A panic must not leave the instance where no event leads out.
            let restored = AssertUnwindSafe(restore.run(upload, draining)).catch_unwind().await;
            let result = restored.unwrap_or_else(|panic| {
                let cause = panic_message(&*panic);
                Err(unavailable(JetErr::InternalError, cause, &*environment))
            });
            Done::Restored { result, reply }
        }));
        Ok(upload_of_caller)
    }
}

/// What a restore needs while the owner does something else.
struct Restore<S> {
    store: Arc<S>,
    environment: Arc<dyn Environment>,
    record: InstanceRecord,
    registrar: mpsc::Sender<registrar::Message>,
}

impl<S: Store> Restore<S> {
    async fn run(
        self,
        upload: oneshot::Receiver<Uploaded>,
        mut draining: watch::Receiver<bool>,
    ) -> Restored {
        let drained = async {
            // An error would mean that the server is gone.
            draining.wait_for(|draining| *draining).await.ok();
        };
        let uploaded = tokio::select! {
            biased;
            uploaded = upload => uploaded,
            () = drained => return Err(Unanswered::ShuttingDown),
        };
        // An upload that was given up has nobody who would hear why.
        let mut table = uploaded.unwrap_or(Err(Unanswered::ShuttingDown))?;
        let floor = self.raise(table.floor()).await?;
        table.restore(floor);
        let record = InstanceRecord {
            uid: self.environment.uid(),
            floor,
            updated: self.environment.now(),
            resting: Resting::Created,
            ..self.record
        };
        let replaced = self.store.replace(&record, table).await;
        replaced.map_err(|e| unavailable(e.error, with_causes(&e), &*self.environment))?;
        Ok((record, floor))
    }

    /// The beginning of an epoch that nobody has used, above the numbers of the backup.
    async fn raise(&self, above: Floor) -> Result<Floor, Unanswered<RestoreRefusal>> {
        let (reply, answer) = oneshot::channel();
        let asked = self.registrar.send(registrar::Message::Raise(above, reply)).await;
        match answer.await {
            Ok(result) if asked.is_ok() => result.map_err(Unanswered::Refused),
            Ok(_) | Err(_) => Err(Unanswered::ShuttingDown),
        }
    }
}

fn unavailable(
    error: JetErr,
    cause: String,
    environment: &dyn Environment,
) -> Unanswered<RestoreRefusal> {
    let failure = Failure { error, cause: cause.into(), time: environment.now() };
    Unanswered::Refused(RestoreRefusal::Unavailable(failure))
}
