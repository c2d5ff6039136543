//! The log as a store that can be held up at the one moment that nothing else makes last: a commit is
//! written, so whoever reads the log finds it, and is not answered yet, so nobody may be told of it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::event::Change;
use crate::domain::gone::Gone;
use crate::domain::id::InstanceId;
use crate::domain::instance::InstanceRecord;
use crate::domain::table::{Floor, SessionTable};
use crate::engine::tests::scripted::Gate;
use crate::store::log::disk::RealDisk;
use crate::store::log::{LogStore, Work};
use crate::store::{Catalog, CommitError, History, Journal, Opened, Progress, Store, StoreError};

type Log = LogStore<RealDisk>;

/// A log in a directory, and the gate at which its next commit waits for the test.
#[derive(Debug, Clone)]
pub(super) struct HeldStore {
    log: Arc<Log>,
    hold: Hold,
}

type Hold = Arc<Mutex<Option<Gate>>>;

impl HeldStore {
    /// Nothing runs beside it, so a test decides the order of everything.
    pub(super) fn new(dir: &std::path::Path) -> Self {
        let log = Arc::new(LogStore::new(RealDisk, dir, Work::Inline));
        Self { log, hold: Hold::default() }
    }

    /// The next commit is written and then waits here.
    pub(super) fn hold(&self) -> Gate {
        let gate = Gate::new();
        *self.hold.lock().unwrap() = Some(gate.clone());
        gate
    }
}

impl Store for HeldStore {
    type Journal = HeldJournal;

    async fn load(&self) -> Result<Catalog, StoreError> {
        self.log.load().await
    }

    async fn create(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.log.create(record).await
    }

    async fn update(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.log.update(record).await
    }

    async fn delete(&self, id: &InstanceId, kept: Option<&Gone>) -> Result<Floor, StoreError> {
        self.log.delete(id, kept).await
    }

    async fn forget(&self, gone: &Gone) -> Result<(), StoreError> {
        self.log.forget(gone).await
    }

    async fn raise(&self, floor: Floor) -> Result<(), StoreError> {
        self.log.raise(floor).await
    }

    async fn replace(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
    ) -> Result<(), StoreError> {
        self.log.replace(record, table).await
    }

    async fn open(
        &self,
        record: &InstanceRecord,
        progress: Progress,
    ) -> Result<Opened<HeldJournal>, StoreError> {
        let Opened { journal, table, remembered } = self.log.open(record, progress).await?;
        let journal = HeldJournal { log: journal, hold: Arc::clone(&self.hold) };
        Ok(Opened { journal, table, remembered })
    }
}

/// The journal of one instance.
#[derive(Debug)]
pub(super) struct HeldJournal {
    log: <Log as Store>::Journal,
    hold: Hold,
}

impl Journal for HeldJournal {
    async fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        self.log.commit(changes).await?;
        let gate = self.hold.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        Ok(())
    }

    fn settle(&mut self, table: &SessionTable) {
        self.log.settle(table);
    }

    fn has_room(&self) -> bool {
        self.log.has_room()
    }

    async fn make_room(&mut self) -> Result<(), StoreError> {
        self.log.make_room().await
    }

    fn history(&self) -> Box<dyn History> {
        self.log.history()
    }

    async fn failed(&mut self) -> CommitError {
        self.log.failed().await
    }

    async fn close(self) -> Result<(), StoreError> {
        self.log.close().await
    }
}
