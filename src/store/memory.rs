//! The plainest backend that satisfies the trait: nothing survives the process.
//!
//! It is what tests compare other backends with, and what serves where sessions may be forgotten.
//! It keeps a second copy of every session, as any backend does, so that a failed instance can be
//! initialised again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;

use crate::domain::event::Change;
use crate::domain::gone::Gone;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::instance::InstanceRecord;
use crate::domain::jet_err::JetErr;
use crate::domain::table::{Floor, SessionTable};
use crate::store::{
    Catalog, CommitError, History, Journal, NoHistory, Opened, Past, Progress, Store, StoreError,
};

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    instances: BTreeMap<InstanceId, (InstanceRecord, Arc<Mutex<SessionTable>>)>,
    gone: Vec<Gone>,
    floor: Floor,
}

/// The journal of one instance of a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryJournal {
    table: Arc<Mutex<SessionTable>>,
}

impl Store for MemoryStore {
    type Journal = MemoryJournal;

    async fn load(&self) -> Result<Catalog, StoreError> {
        let kept = lock(&self.kept);
        Ok(Catalog {
            instances: kept.instances.values().map(|(record, _)| record.clone()).collect(),
            damaged: Vec::new(),
            gone: kept.gone.clone(),
            floor: kept.floor,
        })
    }

    async fn create(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let mut kept = lock(&self.kept);
        if kept.instances.contains_key(&record.id) {
            return Err(misuse("creating an instance", "the name is in use"));
        }
        let table = Arc::new(Mutex::new(SessionTable::above(record.floor)));
        kept.instances.insert(record.id.clone(), (record.clone(), table));
        Ok(())
    }

    async fn update(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let mut kept = lock(&self.kept);
        let (found, _) = kept
            .instances
            .get_mut(&record.id)
            .ok_or_else(|| misuse("updating an instance", "there is no such instance"))?;
        *found = record.clone();
        Ok(())
    }

    async fn delete(&self, id: &InstanceId, gone: Option<&Gone>) -> Result<Floor, StoreError> {
        let mut kept = lock(&self.kept);
        let (_, table) = kept
            .instances
            .remove(id)
            .ok_or_else(|| misuse("deleting an instance", "there is no such instance"))?;
        kept.floor = kept.floor.max(lock(&table).floor());
        kept.gone.extend(gone.cloned());
        Ok(kept.floor)
    }

    async fn forget(&self, gone: &Gone) -> Result<(), StoreError> {
        lock(&self.kept).gone.retain(|kept| kept.record.uid != gone.record.uid);
        Ok(())
    }

    async fn raise(&self, floor: Floor) -> Result<(), StoreError> {
        let mut kept = lock(&self.kept);
        kept.floor = kept.floor.max(floor);
        Ok(())
    }

    async fn replace(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
    ) -> Result<(), StoreError> {
        let mut kept = lock(&self.kept);
        let found = kept
            .instances
            .get_mut(&record.id)
            .ok_or_else(|| misuse("replacing an instance", "there is no such instance"))?;
        *found = (record.clone(), Arc::new(Mutex::new(table)));
        Ok(())
    }

    async fn open(
        &self,
        record: &InstanceRecord,
        progress: Progress,
    ) -> Result<Opened<MemoryJournal>, StoreError> {
        let kept = lock(&self.kept);
        let (_, table) = kept
            .instances
            .get(&record.id)
            .ok_or_else(|| misuse("opening an instance", "there is no such instance"))?;
        progress.report(100);
        let journal = MemoryJournal { table: Arc::clone(table) };
        let table = lock(table).clone();
        let remembered = table.revision();
        Ok(Opened { journal, table, remembered })
    }
}

impl Journal for MemoryJournal {
    async fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        let mut table = lock(&self.table);
        if changes.first().is_some_and(|first| first.revision != table.revision().next()) {
            return Err(CommitError::Conflict { found: table.revision() });
        }
        for change in changes {
            table.apply(change);
        }
        Ok(())
    }

    fn settle(&mut self, _: &SessionTable) {}

    fn has_room(&self) -> bool {
        true
    }

    async fn make_room(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn history(&self) -> Box<dyn History> {
        Box::new(Nothing { table: Arc::clone(&self.table) })
    }

    async fn failed(&mut self) -> CommitError {
        std::future::pending().await
    }

    async fn close(self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The history of a journal that keeps only what is.
struct Nothing {
    table: Arc<Mutex<SessionTable>>,
}

impl History for Nothing {
    fn oldest(&self) -> BoxFuture<'_, Result<Option<Revision>, NoHistory>> {
        Box::pin(async { Ok(None) })
    }

    fn since(&self, _: Revision) -> BoxFuture<'_, Result<Past, NoHistory>> {
        let next = lock(&self.table).revision().next();
        Box::pin(async move { Err(NoHistory::Before(next)) })
    }
}

/// Applying is total and never panics half-way, so a poisoned table is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn misuse(doing: &'static str, cause: &'static str) -> StoreError {
    StoreError { error: JetErr::InternalError, doing, cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn memory_conforms() {
        conformance::check(|| async { MemoryStore::default() }).await;
    }
}
