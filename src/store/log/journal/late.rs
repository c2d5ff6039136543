//! Late syncs: what a LAZY instance has answered waits in a queue, in order, and a task of its own
//! writes it soon after.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::Revision;
use crate::domain::limits::LAZY_SYNC_MS_MAX;
use crate::domain::table::Floor;
use crate::store::CommitError;
use crate::store::frame::PAYLOAD_BYTES_MAX;
use crate::store::log::disk::Disk;
use crate::store::log::journal::{LogJournal, Shared, commit_error, lock};
use crate::store::log::scan::Cursor;

/// Changes that are answered and wait for their sync.
#[derive(Debug)]
pub(super) struct Late {
    first: Revision,
    last: Revision,
    /// As long as it is one frame's.
    payload: Vec<u8>,
    /// Nothing is added to it any more, because somebody waits for exactly these changes.
    closed: Option<oneshot::Sender<Cursor>>,
}

/// Where a log is at a revision.
pub(super) enum At {
    /// Here.
    Now(Cursor),
    /// Where it will be told, once what waits before it has been written.
    Once(oneshot::Receiver<Cursor>),
}

/// The task that syncs late, ended with the journal.
#[derive(Debug)]
pub(super) struct Lazy {
    pub(super) task: JoinHandle<()>,
    pub(super) taken: Floor,
}

impl Drop for Lazy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<D: Disk> LogJournal<D> {
    /// Answers before the sync, unless too much waits for it, or numbers have to be taken first.
    pub(super) async fn commit_late(
        &mut self,
        changes: &[Change],
        first: Revision,
        last: Revision,
    ) -> Result<(), CommitError> {
        let lazy = self.lazy.as_mut().expect("a LAZY instance has its task");
        let used = Floor { revision: last, sesid: highest_begun(changes) };
        if used.revision > lazy.taken.revision || used.sesid > lazy.taken.sesid {
            let (used, more) = (used.max(lazy.taken), self.shared.log.sizes.taken_numbers);
            // Saturating: at the end of an epoch the domain refuses to begin anything more.
            let wanted = Floor {
                revision: Revision::new(used.revision.get().saturating_add(more)),
                sesid: used.sesid.saturating_add(more),
            };
            // What waits comes first: the log is in the order of its revisions.
            self.shared.write_queue().await?;
            let taken = self.shared.with_writer(move |writer| writer.take_numbers(wanted)).await;
            taken.map_err(commit_error)?;
            lazy.taken = wanted;
        }
        let waiting = {
            let mut queue = lock(&self.shared.queue);
            // What waits may take a fifth of a frame already, and the largest batch takes most of one.
            let fits = |late: &Late| {
                late.closed.is_none()
                    && late.payload.len() + self.payload.len() <= PAYLOAD_BYTES_MAX
            };
            match queue.back_mut().filter(|late| fits(late)) {
                Some(late) => {
                    late.payload.extend_from_slice(&self.payload);
                    late.last = last;
                }
                None => queue.push_back(Late {
                    first,
                    last,
                    payload: self.payload.clone(),
                    closed: None,
                }),
            }
            queue.iter().map(|late| late.payload.len()).sum::<usize>()
        };
        if waiting > self.shared.log.sizes.lazy_max {
            self.shared.write_queue().await?;
        } else {
            self.shared.queued.notify_one();
        }
        Ok(())
    }
}

impl<D: Disk> Shared<D> {
    /// Writes what waits for its sync, in order, a frame and a sync at a time.
    pub(super) async fn write_queue(self: &Arc<Self>) -> Result<(), CommitError> {
        loop {
            let shared = Arc::clone(self);
            let written = self
                .with_writer(move |writer| {
                    // Taken while the writer is ours, so that nobody overtakes.
                    let late = lock(&shared.queue).pop_front()?;
                    let appended = writer.append_changes(late.first, late.last, &late.payload);
                    if let (Ok(()), Some(told)) = (&appended, late.closed) {
                        // Whoever waited may have gone.
                        told.send(writer.cursor()).ok();
                    }
                    Some(appended)
                })
                .await;
            match written {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(commit_error(error)),
                None => return Ok(()),
            }
        }
    }

    /// Where the log is, or will be, when it has come to this revision, which is the last one taken.
    pub(super) fn cursor_at(&self, revision: Revision) -> Option<At> {
        let mut queue = lock(&self.queue);
        if let Some(late) = queue.back_mut() {
            let (tell, written) = oneshot::channel();
            late.closed = Some(tell);
            return Some(At::Once(written));
        }
        let cursor = self.writer.try_lock().ok()?.cursor();
        (cursor.revision == revision).then_some(At::Now(cursor))
    }
}

/// Writes soon after they were answered the changes of a LAZY instance.
pub(super) async fn sync_late<D: Disk>(shared: Arc<Shared<D>>) {
    // Half of what is promised: a sync that is under way may have to end first.
    let pause = Duration::from_millis(LAZY_SYNC_MS_MAX / 2);
    loop {
        shared.queued.notified().await;
        tokio::time::sleep(pause).await;
        if let Err(error) = shared.write_queue().await {
            shared.tell_commit(error);
            return;
        }
    }
}

/// The highest number of a session that began.
fn highest_begun(changes: &[Change]) -> u64 {
    let begun = changes.iter().filter_map(|change| match &change.event {
        SessionEvent::Began { session, .. } => Some(session.get()),
        SessionEvent::ContextSet { .. }
        | SessionEvent::ContextReset { .. }
        | SessionEvent::ContextTransferred { .. }
        | SessionEvent::TransactionBegan { .. }
        | SessionEvent::TransactionCommitted { .. }
        | SessionEvent::TransactionRolledBack { .. }
        | SessionEvent::Ended { .. }
        | SessionEvent::AllEnded
        | SessionEvent::LeaseSet { .. }
        | SessionEvent::LeaseEnded { .. }
        | SessionEvent::ServingBegan { .. }
        | SessionEvent::ServedUntil { .. } => None,
    });
    begun.max().unwrap_or(0)
}
