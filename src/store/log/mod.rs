//! The embedded log: the default store. One directory, no server to install.
//!
//! ```text
//!  DIR/lock                                    who has the directory
//!  DIR/floor                                   numbers that nobody may use again
//!  DIR/instances/main.UID.deleted/gone         who created and deleted another `main`, for retries
//!  DIR/instances/main/instance                 the record of `main`
//!  DIR/instances/main/1/                       its log, in generation 1:
//!        00000000000000000001.log              segments, named by their first frame
//!        00000000000000004711.snap             snapshots, named by their revision
//!        spare, reserve, next                  zeros that become the next segment
//!        00000000000000000001-8192.torn        what recovery cut off
//!        00000000000000004711.snap.unreadable  a snapshot that recovery did without
//! ```
//!
//! What it promises: what was acknowledged survives kill −9, power loss and a full disk. The first
//! write, sync or rename that fails is the last: nothing is acknowledged after it, and only recovery
//! tells what is true. The exception is making room ahead of time, for spares and snapshots: where the
//! disk is full, that waits. docs/log-format.md draws every byte.
//!
//! In reading order:
//!
//! - [`segment`], [`scan`]: how a segment begins, and how it is walked and judged
//! - `writer`: one frame and one sync at a time
//! - `journal`: commits, late syncs and snapshots of an open log
//! - `walk`, `recover`: from files back to sessions
//! - `compact`: snapshots, and what may be deleted
//! - `history`: what is kept of the past, for those who watch
//! - `catalog`: records of instances, what is kept of deleted ones, and the floor
//! - [`inspect`]: the same files seen by an operator: verified, shown, repaired
//! - [`lock`], [`disk`], `work`, `sizes`, [`fault`]: one server per directory; the disk; who waits for
//!   it; how large everything is; what can go wrong

mod catalog;
mod compact;
pub mod disk;
#[cfg(test)]
mod example;
pub mod fault;
mod history;
pub mod inspect;
mod journal;
pub mod lock;
mod recover;
pub mod scan;
pub mod segment;
mod sizes;
#[cfg(test)]
mod tests;
mod walk;
mod work;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::gone::Gone;
use crate::domain::id::InstanceId;
use crate::domain::instance::InstanceRecord;
use crate::domain::jet_err::JetErr;
use crate::domain::table::{Floor, SessionTable};
use crate::store::log::catalog::{Contents, FIRST_GENERATION, Files};
use crate::store::log::disk::{Disk, RealDisk};
use crate::store::log::fault::Fault;
use crate::store::log::history::Log;
use crate::store::log::journal::OpenLog;
use crate::store::log::recover::Recovered;
use crate::store::log::writer::Writer;
use crate::store::{Catalog, Opened, Progress, Store, StoreError};

pub use journal::LogJournal;
pub use sizes::Sizes;
pub use work::Work;

/// A store in a directory.
#[derive(Debug)]
pub struct LogStore<D: Disk = RealDisk> {
    files: Files<D>,
    work: Work,
    sizes: Sizes,
    known: Mutex<BTreeMap<InstanceId, Known>>,
    /// The floor as it is on disk; whoever raises it holds this.
    floor: tokio::sync::Mutex<Floor>,
}

/// What is known of an instance without asking the disk.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The generation of its log; 0 if its record cannot be read.
    generation: u64,
    /// Held by whoever works on its log: an open journal, and all that goes on beside it.
    hold: Arc<tokio::sync::Mutex<()>>,
}

impl<D: Disk> LogStore<D> {
    /// The store in a directory of this disk. Whoever opens a real one holds its
    /// [`DirLock`](lock::DirLock).
    pub fn new(disk: D, dir: &Path, work: Work) -> Self {
        Self {
            files: Files::new(disk, dir),
            work,
            sizes: Sizes::default(),
            known: Mutex::default(),
            floor: tokio::sync::Mutex::default(),
        }
    }

    /// The same store with logs of other sizes.
    #[must_use]
    pub fn with_sizes(self, sizes: Sizes) -> Self {
        Self { sizes, ..self }
    }

    fn known(&self, id: &InstanceId) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn know(&self, id: &InstanceId, known: Option<Known>) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => drop(all.insert(id.clone(), known)),
            None => drop(all.remove(id)),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Files<D>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = self.files.clone();
        let done = self.work.run(move || work(&files)).await;
        done.map_err(|fault| fault.while_doing(doing))
    }
}

impl<D: Disk> Store for LogStore<D> {
    type Journal = LogJournal<D>;

    async fn load(&self) -> Result<Catalog, StoreError> {
        const DOING: &str = "reading the data directory";
        let mut floor = self.floor.lock().await;
        let contents = self.run(DOING, Files::load).await?;
        let Contents { instances, damaged, gone, floor: found } = contents;
        *floor = found;
        let mut catalog = Catalog { gone, floor: found, ..Catalog::default() };
        for (record, generation) in instances {
            self.know(&record.id, Some(Known { generation, ..Known::default() }));
            catalog.instances.push(record);
        }
        for (id, fault) in damaged {
            self.know(&id, Some(Known::default()));
            catalog.damaged.push((id, fault.while_doing("reading the record of an instance")));
        }
        Ok(catalog)
    }

    async fn create(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        const DOING: &str = "creating an instance";
        if self.known(&record.id).is_some() {
            return Err(misuse(DOING, "the name is in use"));
        }
        let created = record.clone();
        self.run(DOING, move |files| files.create(&created, FIRST_GENERATION)).await?;
        self.know(&record.id, Some(Known { generation: FIRST_GENERATION, ..Known::default() }));
        Ok(())
    }

    async fn update(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        const DOING: &str = "writing the record of an instance";
        let known = self.known(&record.id);
        let Known { generation, .. } =
            known.ok_or_else(|| misuse(DOING, "there is no such instance"))?;
        let record = record.clone();
        self.run(DOING, move |files| files.update(&record, generation)).await
    }

    async fn delete(&self, id: &InstanceId, kept: Option<&Gone>) -> Result<Floor, StoreError> {
        const DOING: &str = "deleting an instance";
        let known = self.known(id).ok_or_else(|| misuse(DOING, "there is no such instance"))?;
        let hold = known.hold.lock_owned().await;
        let mut floor = self.floor.lock().await;
        let (id_there, before, kept) = (id.clone(), *floor, kept.cloned());
        let (raised, deleted) = self
            .run(DOING, move |files| {
                // Held until it is done, also if nobody waits for it.
                let _hold = hold;
                let raised = before.max(used(files, &id_there, before));
                files.write_floor(raised)?;
                // From here on that is the floor, whatever becomes of the instance.
                Ok((raised, files.delete(&id_there, kept.as_ref())))
            })
            .await?;
        *floor = raised;
        deleted.map_err(|fault| fault.while_doing(DOING))?;
        self.know(id, None);
        Ok(raised)
    }

    async fn forget(&self, gone: &Gone) -> Result<(), StoreError> {
        let gone = gone.clone();
        self.run("forgetting a deleted instance", move |files| files.forget(&gone)).await
    }

    async fn raise(&self, to: Floor) -> Result<(), StoreError> {
        let mut floor = self.floor.lock().await;
        let raised = floor.max(to);
        self.run("raising the floor", move |files| files.write_floor(raised)).await?;
        *floor = raised;
        Ok(())
    }

    async fn replace(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
    ) -> Result<(), StoreError> {
        const DOING: &str = "replacing an instance";
        let known = self.known(&record.id);
        let known = known.ok_or_else(|| misuse(DOING, "there is no such instance"))?;
        let hold = Arc::clone(&known.hold).lock_owned().await;
        let replaced = record.clone();
        let generation = self
            .run(DOING, move |files| {
                let _hold = hold;
                let generation = files.newest_log(&replaced.id)? + 1;
                files.replace(&replaced, table, generation)?;
                Ok(generation)
            })
            .await?;
        self.know(&record.id, Some(Known { generation, ..known }));
        Ok(())
    }

    async fn open(
        &self,
        record: &InstanceRecord,
        progress: Progress,
    ) -> Result<Opened<LogJournal<D>>, StoreError> {
        const DOING: &str = "opening a log";
        let known = self.known(&record.id);
        let known = known.ok_or_else(|| misuse(DOING, "there is no such instance"))?;
        let hold = known.hold.lock_owned().await;
        let (record, work, sizes) = (record.clone(), self.work, self.sizes);
        let (opened, writer, recovered, remembered) = self
            .run(DOING, move |files| {
                // What is on disk decides, also about an instance whose record was damaged.
                let (_, generation) = files.read_record(&record.id)?;
                let (disk, dir) = (files.disk.clone(), files.log(&record.id, generation));
                let mut recovered = recover::read(&disk, &dir, &record, &progress)?;
                let remembered = recovered.table.revision();
                files.remove_other_logs(&record.id, generation);
                recover::mend(&disk, &dir, &mut recovered)?;
                let uid = record.uid.clone();
                let (cursor, at) = (recovered.cursor, dir.clone());
                let writer = Writer::new(disk.clone(), at, uid.clone(), cursor, sizes)?;
                progress.report(100);
                let InstanceRecord { id: instance, durability, floor, .. } = record;
                let past = Arc::new(Log { disk: disk.clone(), dir: dir.clone(), uid, floor, work });
                let opened =
                    OpenLog { disk, dir, instance, past, durability, work, sizes, _hold: hold };
                Ok((opened, writer, recovered, remembered))
            })
            .await?;
        let Recovered { table, replayed, snapshot_bytes, .. } = recovered;
        let journal = LogJournal::new(opened, writer, replayed, snapshot_bytes);
        Ok(Opened { journal, table, remembered })
    }
}

/// A floor above every number that an instance ever used. If its log does not tell, the next epoch
/// is above all of them, because none is in an epoch that this directory has not come to.
fn used<D: Disk>(files: &Files<D>, id: &InstanceId, floor: Floor) -> Floor {
    let read = files.read_record(id).and_then(|(record, generation)| {
        let dir = files.log(id, generation);
        let recovered = recover::read(&files.disk, &dir, &record, &Progress::ignored())?;
        Ok(recovered.table.floor().max(recovered.cursor.taken).max(record.floor))
    });
    match read {
        Ok(used) => used,
        Err(fault) => {
            tracing::warn!(
                instance = %id,
                cause = super::with_causes(&fault),
                "the log of a deleted instance cannot be read; numbering goes on in a new epoch",
            );
            floor.next_epoch().unwrap_or(floor)
        }
    }
}

fn misuse(doing: &'static str, cause: &'static str) -> StoreError {
    StoreError { error: JetErr::InternalError, doing, cause: cause.into() }
}
