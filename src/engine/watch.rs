//! What instances look like from outside, and how those who care hear of changes.
//!
//! An owner publishes a view of its instance after each commit and before it answers, so whoever got
//! an answer finds its effect in the view. Views are coalesced: a slow reader misses states that have
//! passed, never the present one, and costs no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{StreamExt, StreamMap};

use crate::domain::id::{InstanceId, Revision, Uid};
use crate::domain::instance::{Instance, InstanceRecord, Resting};
use crate::domain::lifecycle::Phase;
use crate::domain::limits::WATCH_COUNTS_EVERY_MS;
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

/// Tells those who watch instances that counts may have changed, at most once a second. For an owner it
/// is one flag, however many they are.
#[derive(Debug)]
pub(super) struct Pulse {
    touched: AtomicBool,
    bell: Arc<Notify>,
    beats: watch::Sender<()>,
}

impl Pulse {
    /// A pulse that beats when it is touched.
    pub(super) fn start() -> Arc<Self> {
        let bell = Arc::new(Notify::new());
        let (touched, beats) = (AtomicBool::new(false), watch::Sender::new(()));
        let pulse = Arc::new(Self { touched, bell: Arc::clone(&bell), beats });
        let weak = Arc::downgrade(&pulse);
        tokio::spawn(async move {
            loop {
                bell.notified().await;
                let Some(pulse) = weak.upgrade() else {
                    return;
                };
                pulse.touched.store(false, Ordering::Release);
                pulse.beats.send_replace(());
                drop(pulse);
                tokio::time::sleep(Duration::from_millis(WATCH_COUNTS_EVERY_MS)).await;
            }
        });
        pulse
    }

    /// Counts have changed.
    pub(super) fn touch(&self) {
        if !self.touched.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.bell.notify_one();
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

/// Instances as they are now, and from then on whatever changes.
#[derive(Debug)]
pub struct InstanceChanges {
    engine: Engine,
    /// Whom the reader asks for; everybody if nobody is named.
    names: BTreeSet<InstanceId>,
    board: watch::Receiver<()>,
    beats: watch::Receiver<()>,
    /// Of whom the reader knows. It is not `views` that tells: a stream ends with its owner, which may
    /// be before or after its instance leaves the board.
    followed: BTreeMap<InstanceId, Followed>,
    views: StreamMap<InstanceId, WatchStream<InstanceView>>,
    gone: Vec<InstanceId>,
    /// Whose counts have changed.
    counted: Vec<InstanceId>,
}

/// An instance that a reader knows of.
#[derive(Debug)]
struct Followed {
    /// Which of that name.
    uid: Uid,
    view: watch::Receiver<InstanceView>,
    /// How it was last told.
    told: Option<InstanceView>,
}

impl InstanceChanges {
    pub(super) fn new(engine: Engine, names: BTreeSet<InstanceId>) -> Self {
        let mut board = engine.shared.board.0.subscribe();
        board.mark_changed();
        let beats = engine.shared.pulse.beats.subscribe();
        Self {
            engine,
            names,
            board,
            beats,
            followed: BTreeMap::new(),
            views: StreamMap::new(),
            gone: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// The next change; waits for one. Cancel-safe.
    pub async fn next(&mut self) -> InstanceChange {
        loop {
            if let Some(id) = self.gone.pop() {
                return InstanceChange::Gone(id);
            }
            while let Some(id) = self.counted.pop() {
                if let Some(view) = self.followed.get_mut(&id).and_then(Followed::news) {
                    return InstanceChange::Present(view);
                }
            }
            // Errors would mean that the engine is gone, and this stream holds it.
            tokio::select! {
                biased;
                Ok(()) = self.board.changed() => self.renew(),
                Some((id, _)) = self.views.next(), if !self.views.is_empty() => {
                    if let Some(view) = self.followed.get_mut(&id).and_then(Followed::news) {
                        return InstanceChange::Present(view);
                    }
                }
                Ok(()) = self.beats.changed() => self.counted = self.followed.keys().cloned().collect(),
            }
        }
    }

    /// Follows instances that are new, and notes those that are gone.
    fn renew(&mut self) {
        let instances = self.engine.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeMap<_, _> = instances
            .iter()
            .filter(|(id, _)| self.names.is_empty() || self.names.contains(*id))
            .map(|(id, handle)| {
                let uid = handle.view.borrow().record.uid.clone();
                (id.clone(), (uid, handle.view.clone()))
            })
            .collect();
        drop(instances);
        self.followed.retain(|id, followed| {
            let stays = known.get(id).is_some_and(|(found, _)| *found == followed.uid);
            if !stays {
                self.views.remove(id);
                self.gone.push(id.clone());
            }
            stays
        });
        for (id, (uid, view)) in known {
            if !self.followed.contains_key(&id) {
                self.views.insert(id.clone(), WatchStream::new(view.clone()));
                self.followed.insert(id, Followed { uid, view, told: None });
            }
        }
    }
}

impl Followed {
    /// What it looks like now, unless that has been told.
    fn news(&mut self) -> Option<InstanceView> {
        let view = self.view.borrow();
        if self.told.as_ref() == Some(&*view) {
            return None;
        }
        let view = view.clone();
        self.told = Some(view.clone());
        Some(view)
    }
}
