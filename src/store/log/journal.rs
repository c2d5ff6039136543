//! The journal of an open log: commits, late syncs, snapshots.
//!
//! The writer is behind a lock and is lent to the thread that waits for the disk. A commit of a FLUSH
//! instance waits there for its own sync. One of a LAZY instance is only put into a queue, which a
//! task of its own writes soon after. Spares and snapshots are made beside both.
//!
//! One frame is one sync, also of a queue: if two frames could be torn at once, the second could stay
//! whole, and recovery would have to take the first for damage.
//!
//! - `late`: the queue of a LAZY instance

mod late;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedMutexGuard, mpsc};
use tokio::task::JoinHandle;

use crate::domain::event::Change;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::instance::Durability;
use crate::domain::jet_err::JetErr;
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::store::log::compact;
use crate::store::log::disk::Disk;
use crate::store::log::fault::{Fault, is_full};
use crate::store::log::history::{Log, LogHistory};
use crate::store::log::journal::late::{At, Late, Lazy, sync_late};
use crate::store::log::scan::Cursor;
use crate::store::log::sizes::Sizes;
use crate::store::log::work::Work;
use crate::store::log::writer::{NotAppended, Writer};
use crate::store::snapshot::About;
use crate::store::{CommitError, History, Journal, StoreError, record};

/// The journal of one instance.
#[derive(Debug)]
pub struct LogJournal<D: Disk> {
    shared: Arc<Shared<D>>,
    /// The last revision that was taken.
    revision: Revision,
    time: Timestamp,
    /// Bytes of the log since the last snapshot.
    since_snapshot: u64,
    payload: Vec<u8>,
    errors: mpsc::Receiver<CommitError>,
    spare: Option<JoinHandle<()>>,
    snapshot: Option<JoinHandle<()>>,
    lazy: Option<Lazy>,
}

/// What a journal and the tasks beside it have in common.
#[derive(Debug)]
struct Shared<D: Disk> {
    log: OpenLog<D>,
    writer: Arc<tokio::sync::Mutex<Writer<D>>>,
    queue: Mutex<VecDeque<Late>>,
    queued: Notify,
    errors: mpsc::Sender<CommitError>,
    /// Whether anything has failed, here or beside the commits. Then nothing is taken any more.
    failed: AtomicBool,
    /// Tells a snapshot that is being written that nobody wants it any more.
    cancelled: AtomicBool,
    snapshot_bytes: AtomicU64,
    on_reserve: AtomicBool,
}

/// A log that nobody else can open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenLog<D> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    pub(super) instance: InstanceId,
    /// The same, for those who read what it remembers.
    pub(super) past: Arc<Log<D>>,
    pub(super) durability: Durability,
    pub(super) work: Work,
    pub(super) sizes: Sizes,
    /// Everything that works on the files keeps this.
    pub(super) _hold: OwnedMutexGuard<()>,
}

impl<D: Disk> LogJournal<D> {
    /// The journal of a log that has been recovered.
    pub(super) fn new(
        log: OpenLog<D>,
        writer: Writer<D>,
        replayed: u64,
        snapshot_bytes: u64,
    ) -> Self {
        let (errors, received) = mpsc::channel(1);
        let Cursor { revision, taken, sealed, .. } = writer.cursor();
        // As long as the log ends in a seal, recovery does not skip what is taken: what is taken then
        // is taken once more, behind the seal, before any of it is used.
        let taken = if sealed { Floor::default() } else { taken };
        let durability = log.durability;
        let shared = Arc::new(Shared {
            log,
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            queue: Mutex::default(),
            queued: Notify::new(),
            errors,
            failed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            snapshot_bytes: AtomicU64::new(snapshot_bytes),
            on_reserve: AtomicBool::new(false),
        });
        let lazy = match durability {
            Durability::Flush => None,
            Durability::Lazy => {
                Some(Lazy { task: tokio::spawn(sync_late(Arc::clone(&shared))), taken })
            }
        };
        Self {
            shared,
            revision,
            time: Timestamp::default(),
            since_snapshot: replayed,
            payload: Vec::new(),
            errors: received,
            spare: None,
            snapshot: None,
            lazy,
        }
    }

    async fn commit_now(&mut self, first: Revision, last: Revision) -> Result<(), CommitError> {
        let payload = std::mem::take(&mut self.payload);
        let (payload, appended) = self
            .shared
            .with_writer(move |writer| {
                let appended = writer.append_changes(first, last, &payload);
                (payload, appended)
            })
            .await;
        self.payload = payload;
        appended.map_err(commit_error)
    }

    /// Begins to make a spare if one is wanted and none is being made.
    fn prepare_spare(&mut self) {
        if self.spare.as_ref().is_some_and(|job| !job.is_finished()) {
            return;
        }
        let Ok(mut writer) = self.shared.writer.try_lock() else {
            return;
        };
        if !writer.wants_spare() {
            return;
        }
        let make = writer.spare_maker();
        drop(writer);
        let shared = Arc::clone(&self.shared);
        self.spare = self.start(async move {
            let made = shared.log.work.run(make).await;
            shared.writer.lock().await.spare_made(made.is_ok());
            match made {
                Ok(()) => {}
                Err(Fault::Io { error, .. }) if is_full(&error) => {
                    tracing::warn!(
                        instance = %shared.log.instance,
                        "the disk is full: there is no room for the next segment of the log",
                    );
                }
                Err(fault) => shared.tell(fault.while_doing("preparing a segment")),
            }
        });
    }

    /// Takes a snapshot of this state, whose changes have all been committed.
    fn begin_snapshot(&mut self, table: &SessionTable) {
        let Some(cursor) = self.shared.cursor_at(self.revision) else {
            // Somebody has the writer; there will be another occasion.
            return;
        };
        self.since_snapshot = 0;
        let (shared, table, created) = (Arc::clone(&self.shared), table.clone(), self.time);
        self.snapshot = self.start(async move {
            let cursor = match cursor {
                At::Now(cursor) => cursor,
                At::Once(written) => {
                    if let Err(error) = shared.write_queue().await {
                        shared.tell_commit(error);
                        return;
                    }
                    // An error means that writing failed elsewhere, where it is told.
                    let Ok(cursor) = written.await else {
                        return;
                    };
                    cursor
                }
            };
            let about = About {
                instance: shared.log.instance.clone(),
                uid: shared.log.past.uid.clone(),
                created,
                position: cursor.position,
                taken: cursor.taken,
            };
            let job = Arc::clone(&shared);
            let done = shared.log.work.run(move || job.snapshot(about, table)).await;
            match done {
                Ok(()) => {}
                Err(Fault::Io { error, .. }) if is_full(&error) => {
                    tracing::warn!(
                        instance = %shared.log.instance,
                        "the disk is full: a snapshot is left for later",
                    );
                }
                Err(fault) => shared.tell(fault.while_doing("taking a snapshot")),
            }
        });
    }

    /// Runs a job beside the journal.
    fn start(&self, job: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        match self.shared.log.work {
            Work::Pool => Some(tokio::spawn(job)),
            Work::Inline => {
                // Nothing else runs, so there is nothing that it could wait for.
                job.now_or_never();
                None
            }
        }
    }

    /// Why nothing is taken any more, if anything has failed.
    fn trouble(&mut self) -> Option<CommitError> {
        self.shared.failed.load(Ordering::Acquire).then(|| {
            self.errors.try_recv().unwrap_or_else(|_| {
                CommitError::Unavailable(StoreError {
                    error: JetErr::DiskIO,
                    doing: "writing to the log",
                    cause: "an earlier failure was told, and nothing is taken since".into(),
                })
            })
        })
    }

    /// The first cause counts, wherever it was met.
    fn fail(&mut self, error: CommitError) -> CommitError {
        if self.shared.failed.swap(true, Ordering::AcqRel) {
            return self.errors.try_recv().unwrap_or(error);
        }
        error
    }
}

impl<D: Disk> Journal for LogJournal<D> {
    async fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
            return Ok(());
        };
        if let Some(error) = self.trouble() {
            return Err(error);
        }
        if first.revision != self.revision.next() {
            let found = self.revision;
            return Err(self.fail(CommitError::Conflict { found }));
        }
        self.payload.clear();
        record::write_changes(changes, &mut self.payload);
        let bytes = self.payload.len() as u64;
        let committed = if self.lazy.is_some() {
            self.commit_late(changes, first.revision, last.revision).await
        } else {
            self.commit_now(first.revision, last.revision).await
        };
        committed.map_err(|error| self.fail(error))?;
        self.revision = last.revision;
        self.time = last.time;
        self.since_snapshot += bytes;
        Ok(())
    }

    fn settle(&mut self, table: &SessionTable) {
        self.prepare_spare();
        let newest = self.shared.snapshot_bytes.load(Ordering::Relaxed);
        let enough = self.shared.log.sizes.snapshot_log_min.max(newest);
        let idle = self.snapshot.as_ref().is_none_or(JoinHandle::is_finished);
        if idle && self.since_snapshot >= enough && table.revision() == self.revision {
            self.begin_snapshot(table);
        }
    }

    fn has_room(&self) -> bool {
        !self.shared.on_reserve.load(Ordering::Relaxed)
    }

    async fn make_room(&mut self) -> Result<(), StoreError> {
        let made = self.shared.with_writer(Writer::make_room).await;
        made.map_err(|fault| fault.while_doing("looking for room"))
    }

    fn history(&self) -> Box<dyn History> {
        Box::new(LogHistory(Arc::clone(&self.shared.log.past)))
    }

    async fn failed(&mut self) -> CommitError {
        match self.errors.recv().await {
            Some(error) => error,
            // This journal holds a sender itself.
            None => std::future::pending().await,
        }
    }

    async fn close(mut self) -> Result<(), StoreError> {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        for job in [self.spare.take(), self.snapshot.take()].into_iter().flatten() {
            // A job that panicked has told so.
            job.await.ok();
        }
        let closing = |error| match error {
            CommitError::Unavailable(error) | CommitError::Unknown(error) => error,
            CommitError::Conflict { .. } => StoreError {
                error: JetErr::InternalError,
                doing: "closing a log",
                cause: "somebody else has written to it".into(),
            },
        };
        if let Some(error) = self.trouble() {
            return Err(closing(error));
        }
        let written = self.shared.write_queue().await;
        written.map_err(|error| closing(self.fail(error)))?;
        let sealed = self.shared.with_writer(Writer::seal).await;
        sealed.map_err(|error| closing(commit_error(error)))
    }
}

impl<D: Disk> Shared<D> {
    /// Lends the writer to the thread that waits for the disk. What it does there is finished, with
    /// the files still held, even if nobody waits for it any more.
    async fn with_writer<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Writer<D>) -> T + Send + 'static,
    ) -> T {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let shared = Arc::clone(self);
        self.log
            .work
            .run(move || {
                let done = work(&mut writer);
                shared.on_reserve.store(!writer.has_room(), Ordering::Relaxed);
                done
            })
            .await
    }

    /// Writes a snapshot and deletes what it makes unnecessary.
    fn snapshot(&self, about: About, table: SessionTable) -> Result<(), Fault> {
        let OpenLog { disk, dir, sizes, .. } = &self.log;
        let written = compact::write_snapshot(disk, dir, about, table, &self.cancelled)?;
        if let Some(bytes) = written {
            self.snapshot_bytes.store(bytes, Ordering::Relaxed);
            compact::prune(disk, dir, sizes.history_max)?;
        }
        Ok(())
    }

    fn tell(&self, error: StoreError) {
        self.tell_commit(CommitError::Unavailable(error));
    }

    /// The first to tell is heard.
    fn tell_commit(&self, error: CommitError) {
        if !self.failed.load(Ordering::Acquire) {
            self.errors.try_send(error).ok();
        }
        self.failed.store(true, Ordering::Release);
    }
}

fn commit_error(error: NotAppended) -> CommitError {
    const DOING: &str = "writing to the log";
    match error {
        NotAppended::Nothing(fault) => CommitError::Unavailable(fault.while_doing(DOING)),
        NotAppended::Unknown(fault) => CommitError::Unknown(fault.while_doing(DOING)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
