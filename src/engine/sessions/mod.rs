//! What happens to the sessions of an instance, told to those who watch it: in the order of revisions,
//! once it is committed, each change once.
//!
//! A watch begins with a snapshot, or with what an earlier one was not told any more. That is *fed* to it
//! by a task that holds what it needs, the sessions of a moment, only as long as its reader goes on
//! taking. Then the watch is *live*: a cursor in the ring of its instance, which holds nothing. A reader
//! that does not keep up is told so, and from where on it can go on; nothing is ever left out.
//!
//! - `ring`: what has just happened
//! - `feed`: snapshots, and what the log remembers

mod feed;
pub(super) mod ring;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::domain::call::session::SessionFilter;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::lifecycle::PhaseRefusal;
use crate::domain::limits::{WATCH_HISTORIES_MAX, WATCH_SILENCE_SECONDS_MAX, WATCH_SNAPSHOTS_MAX};
use crate::domain::session::{Session, SessionView};
use crate::domain::table::SessionTable;
use crate::domain::watch::{Told, WatchRefusal};
use crate::engine::sessions::feed::Feed;
use crate::engine::sessions::ring::{Bounds, Budget, Cursor, Found, Place, Ring};
use crate::engine::{Engine, Handle, Unanswered};
use crate::store::History;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// A session as it was at the revision of the snapshot that the watch begins with.
    Present(Revision, Box<SessionView>),
    /// Everything up to this revision has been told: a snapshot has ended, or nothing that is wanted has
    /// happened for a while.
    UpTo(Revision),
    /// Something happened.
    Event(Box<Told>),
}

/// What a watcher asks of an owner.
pub(super) enum Look {
    /// All sessions between two batches.
    Snapshot(oneshot::Sender<Result<Snapshot, WatchRefusal>>),
    /// What is true of sessions only at this moment.
    Now(Vec<Session>, oneshot::Sender<Vec<SessionView>>),
    /// What was committed before.
    History(oneshot::Sender<Result<Box<dyn History>, WatchRefusal>>),
}

/// All sessions of one moment.
pub(super) struct Snapshot {
    pub(super) table: SessionTable,
    /// Whether nobody waits for them and no holder has a lease, so that each is as the table says.
    pub(super) plain: bool,
}

/// What all watches of a server share.
#[derive(Debug)]
pub(super) struct Watches {
    pub(super) bounds: Bounds,
    pub(super) budget: Budget,
    snapshots: Arc<Semaphore>,
    histories: Arc<Semaphore>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            bounds: Bounds::default(),
            budget: Budget::default(),
            snapshots: Arc::new(Semaphore::new(WATCH_SNAPSHOTS_MAX)),
            histories: Arc::new(Semaphore::new(WATCH_HISTORIES_MAX)),
        }
    }
}

impl Engine {
    /// What happens to the sessions of an instance from a revision on, as far as it passes the filter;
    /// from 0 on, the sessions that there are come first.
    pub async fn watch_sessions(
        &self,
        id: &InstanceId,
        from: Revision,
        filter: SessionFilter,
    ) -> Result<SessionWatch, Unanswered<WatchRefusal>> {
        let handle = self.handle(id)?;
        let stage = self.stage(&handle, from, &filter).await.map_err(|refusal| match refusal {
            Unanswered::Refused(refusal) => self.refused(&handle, refusal),
            Unanswered::NoSuchInstance
            | Unanswered::ShuttingDown
            | Unanswered::RequestIdReused
            | Unanswered::NotYet { .. } => refusal,
        })?;
        let heard = handle.ring.listen();
        let mut silence = interval(Duration::from_secs(WATCH_SILENCE_SECONDS_MAX));
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        silence.reset();
        Ok(SessionWatch {
            ring: handle.ring,
            heard,
            draining: self.shared.draining.subscribe(),
            filter,
            next: from,
            stage,
            silence,
            silent: true,
        })
    }

    async fn stage(
        &self,
        handle: &Handle,
        from: Revision,
        filter: &SessionFilter,
    ) -> Result<Stage, Unanswered<WatchRefusal>> {
        let feed = || Feed::new(self, handle, filter.clone());
        // Asked of the snapshot too, for the phase.
        match handle.ring.place(from).map_err(Unanswered::Refused)? {
            _ if from == Revision::ZERO => Ok(feed().start(from)),
            Place::Here(cursor) => Ok(Stage::Live(cursor)),
            Place::Before { oldest, begin } => {
                let feed = feed();
                let history = feed.history().await?;
                feed::oldest(&*history, oldest, begin).await.and_then(|oldest| {
                    if from < oldest {
                        return Err(Unanswered::Refused(WatchRefusal::Compacted { oldest }));
                    }
                    Ok(feed.start(from))
                })
            }
        }
    }
}

/// Where a watch is.
enum Stage {
    /// What it is told comes from a task.
    Fed {
        pieces: mpsc::Receiver<Vec<Watched>>,
        piece: std::vec::IntoIter<Watched>,
        /// Where it goes on when that is over.
        then: oneshot::Receiver<Result<Cursor, Unanswered<WatchRefusal>>>,
    },
    Live(Cursor),
    Over,
}

/// A watch of sessions.
pub struct SessionWatch {
    ring: Arc<Ring>,
    heard: watch::Receiver<()>,
    draining: watch::Receiver<bool>,
    filter: SessionFilter,
    /// The first revision that has not been told; 0 as long as a snapshot is being told.
    next: Revision,
    stage: Stage,
    silence: Interval,
    /// Whether nothing was told since the silence began to be counted.
    silent: bool,
}

impl fmt::Debug for SessionWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionWatch").field("next", &self.next).finish_non_exhaustive()
    }
}

impl SessionWatch {
    /// What is told next; waits for it. After an error there is nothing. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Watched, Unanswered<WatchRefusal>>> {
        let told = self.told().await?.map_err(|unanswered| match unanswered {
            Unanswered::Refused(refusal) | Unanswered::NotYet { refusal, .. } => refusal,
            Unanswered::ShuttingDown => PhaseRefusal::Draining.into(),
            // A watch has no request id.
            Unanswered::NoSuchInstance | Unanswered::RequestIdReused => {
                PhaseRefusal::NotInitialized.into()
            }
        });
        match &told {
            Ok(Watched::Present(..)) => {}
            Ok(Watched::UpTo(revision)) => self.next = revision.next(),
            Ok(Watched::Event(told)) => self.next = told.revision.next(),
            Err(_) => self.stage = Stage::Over,
        }
        self.silent = false;
        let next = self.next;
        Some(told.map_err(|refusal| Unanswered::Refused(refusal.resume_from(next))))
    }

    async fn told(&mut self) -> Option<Result<Watched, Unanswered<WatchRefusal>>> {
        loop {
            let over = matches!(self.stage, Stage::Over);
            if !over && *self.draining.borrow() {
                return Some(Err(Unanswered::ShuttingDown));
            }
            match &mut self.stage {
                Stage::Over => return None,
                Stage::Fed { pieces, piece, then } => {
                    if let Some(told) = piece.next() {
                        return Some(Ok(told));
                    }
                    if let Some(next) = pieces.recv().await {
                        *piece = next.into_iter();
                        continue;
                    }
                    match then.await {
                        Ok(Ok(cursor)) => self.stage = Stage::Live(cursor),
                        Ok(Err(refusal)) => return Some(Err(refusal)),
                        // Its runtime is gone, and with it this server.
                        Err(_) => return Some(Err(Unanswered::ShuttingDown)),
                    }
                }
                Stage::Live(cursor) => {
                    self.heard.mark_unchanged();
                    match self.ring.at(*cursor) {
                        Ok(Found::Told(batch)) => {
                            if let Some(told) = take(&batch, cursor, &self.filter) {
                                return Some(Ok(Watched::Event(Box::new(told))));
                            }
                            // A filter that lets little through must not keep others from running.
                            tokio::task::consume_budget().await;
                        }
                        Ok(Found::Nothing(last)) => {
                            cursor.next = last.next();
                            if !std::mem::replace(&mut self.silent, true) {
                                self.silence.reset();
                            }
                            tokio::select! {
                                biased;
                                // Errors would mean that this server is gone, and it goes after draining.
                                Ok(_) = self.draining.changed() => {}
                                Ok(()) = self.heard.changed() => {}
                                _ = self.silence.tick() => return Some(Ok(Watched::UpTo(last))),
                            }
                        }
                        Err(refusal) => return Some(Err(Unanswered::Refused(refusal))),
                    }
                }
            }
        }
    }
}

/// The first of the batch that the watcher has not been told and wants to be. Its place is behind that
/// then, or behind all of them.
fn take(batch: &[Told], cursor: &mut Cursor, filter: &SessionFilter) -> Option<Told> {
    let from = batch.partition_point(|told| told.revision < cursor.next);
    for told in &batch[from..] {
        cursor.next = told.revision.next();
        if told.passes(filter) {
            return Some(told.clone());
        }
    }
    None
}
