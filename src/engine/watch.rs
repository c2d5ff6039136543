//! What instances look like from outside, and how those who care hear of changes.
//!
//! An owner publishes a view of its instance after each commit and before it answers, so whoever got
//! an answer finds its effect in the view. Views are coalesced: a slow reader misses states that have
//! passed, never the present one, and costs no memory.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{StreamExt, StreamMap};

use crate::domain::id::{InstanceId, Revision, Uid};
use crate::domain::instance::{Instance, InstanceRecord, Resting};
use crate::domain::lifecycle::Phase;
use crate::domain::replay::Answered;
use crate::domain::table::SessionTable;
use crate::domain::time::{Timestamp, remaining};
use crate::engine::Engine;

/// An instance as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// What is remembered of it.
    pub record: InstanceRecord,
    /// Its phase.
    pub phase: Phase,
    /// How many sessions it has.
    pub session_count: usize,
    /// How many of them have a context set.
    pub bound_count: usize,
    /// The last committed change.
    pub revision: Revision,
    /// How far an initialisation, a terminate or a restore has come, in per cent.
    pub progress: u8,
}

impl InstanceView {
    pub(super) fn of(instance: &Instance) -> Self {
        let mut view = Self {
            record: instance.record.shown(),
            phase: instance.phase.clone(),
            session_count: 0,
            bound_count: 0,
            revision: Revision::ZERO,
            progress: 0,
        };
        view.count(&instance.table);
        view
    }

    /// What a call on this instance answered that is made once more.
    pub(super) fn repeated(record: &InstanceRecord, answered: &Answered) -> Self {
        Self {
            record: record.as_answered(answered),
            phase: match answered.resting {
                Resting::Created => Phase::Created,
                Resting::Ready => Phase::Ready,
                Resting::Stopped => Phase::Stopped,
            },
            session_count: answered.session_count as usize,
            bound_count: answered.bound_count as usize,
            revision: answered.revision,
            progress: 0,
        }
    }

    /// Takes over what a committed batch changed.
    pub(super) fn count(&mut self, table: &SessionTable) {
        self.session_count = table.len();
        self.bound_count = table.bound_count();
        self.revision = table.revision();
    }

    /// Takes over a new phase. What a failed instance holds is not known.
    pub(super) fn enter(&mut self, instance: &Instance) {
        self.record = instance.record.shown();
        self.phase = instance.phase.clone();
        self.progress = 0;
        match instance.phase {
            Phase::Failed(_) => (self.session_count, self.bound_count) = (0, 0),
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => self.count(&instance.table),
        }
    }

    /// Takes over progress; answers whether it is news. It only rises, and is nothing but 0 in a phase
    /// that does not pass by itself.
    pub(super) fn progress(&mut self, percent: u8) -> bool {
        let passes = match self.phase {
            Phase::Initializing | Phase::Restoring | Phase::Terminating => true,
            Phase::Created | Phase::Ready | Phase::Stopped | Phase::Failed(_) => false,
        };
        let news = passes && percent > self.progress;
        if news {
            self.progress = percent;
        }
        news
    }

    /// When an initialisation or a restore should be over, if its progress tells.
    pub(super) fn over_in(&self, now: impl FnOnce() -> Timestamp) -> Option<Duration> {
        match self.phase {
            Phase::Initializing | Phase::Restoring => {
                remaining(now().since(self.record.updated), self.progress)
            }
            Phase::Created
            | Phase::Ready
            | Phase::Stopped
            | Phase::Terminating
            | Phase::Failed(_) => None,
        }
    }

    /// Whether more than the counts differs.
    pub fn differs_in_more_than_counts(&self, other: &Self) -> bool {
        self.phase != other.phase || self.progress != other.progress || self.record != other.record
    }
}

/// Tells that the set of instances has changed.
#[derive(Debug)]
pub(super) struct Board(watch::Sender<()>);

impl Board {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    pub(super) fn changed(&self) {
        self.0.send_replace(());
    }
}

/// Something about the instances of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceChange {
    /// What the instance looks like now.
    Present(InstanceView),
    /// The instance was deleted.
    Gone(InstanceId),
}

/// All instances as they are now, and from then on whatever changes.
#[derive(Debug)]
pub struct InstanceChanges {
    engine: Engine,
    board: watch::Receiver<()>,
    /// Of whom the reader knows, and whom of that name. It is not `views` that tells: a stream ends
    /// with its owner, which may be before or after its instance leaves the board.
    followed: BTreeMap<InstanceId, Uid>,
    views: StreamMap<InstanceId, WatchStream<InstanceView>>,
    gone: Vec<InstanceId>,
}

impl InstanceChanges {
    pub(super) fn new(engine: Engine) -> Self {
        let mut board = engine.shared.board.0.subscribe();
        board.mark_changed();
        let followed = BTreeMap::new();
        Self { engine, board, followed, views: StreamMap::new(), gone: Vec::new() }
    }

    /// The next change; waits for one. Cancel-safe.
    pub async fn next(&mut self) -> InstanceChange {
        loop {
            if let Some(id) = self.gone.pop() {
                return InstanceChange::Gone(id);
            }
            tokio::select! {
                biased;
                changed = self.board.changed() => match changed {
                    Ok(()) => self.renew(),
                    // The board lives as long as the engine that this stream holds.
                    Err(_) => std::future::pending().await,
                },
                Some((_, view)) = self.views.next(), if !self.views.is_empty() => {
                    return InstanceChange::Present(view);
                }
            }
        }
    }

    /// Follows instances that are new, and notes those that are gone.
    fn renew(&mut self) {
        let instances = self.engine.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeMap<_, _> = instances
            .iter()
            .map(|(id, handle)| {
                let uid = handle.view.borrow().record.uid.clone();
                (id.clone(), (uid, handle.view.clone()))
            })
            .collect();
        drop(instances);
        self.followed.retain(|id, uid| {
            let stays = known.get(id).is_some_and(|(found, _)| found == uid);
            if !stays {
                self.views.remove(id);
                self.gone.push(id.clone());
            }
            stays
        });
        for (id, (uid, view)) in known {
            if self.followed.insert(id.clone(), uid).is_none() {
                self.views.insert(id, WatchStream::new(view));
            }
        }
    }
}
