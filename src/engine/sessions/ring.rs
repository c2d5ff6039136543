//! What has just happened to the sessions of an instance, kept for those who watch it.
//!
//! ```text
//!            begin                                  last
//!  (the log)   │ batch │ batch │  batch  │ … │ batch │
//!              └───────┴───────┴─────────┴───┴───────┘
//!                 ▲ cursor         ▲ cursor           ▲ cursor: waits
//! ```
//!
//! The owner puts each committed batch at the end and drops from the front what is too much. Watchers
//! are cursors: a number, and nothing else, so one that stalls holds no memory and holds up nobody. One
//! that the front has passed has lost its place.
//!
//! The owner rings one bell for each batch, however many watchers there are. A task of the watchers'
//! own, the *crier*, hears it and wakes them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Notify, watch};

use crate::domain::event::Batch;
use crate::domain::id::Revision;
use crate::domain::lifecycle::{Admission, Phase, PhaseRefusal};
use crate::domain::limits::{
    WATCH_BYTES_MAX, WATCH_BYTES_MIN, WATCH_EVENTS_MAX, WATCH_SERVER_BYTES_MAX,
};
use crate::domain::watch::{Told, WatchRefusal};

/// How much is kept at most.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Bounds {
    pub(in crate::engine) events: usize,
    pub(in crate::engine) bytes: usize,
    /// However much the others keep.
    pub(in crate::engine) bytes_min: usize,
    /// In all rings of a server.
    pub(in crate::engine) server_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            events: WATCH_EVENTS_MAX,
            bytes: WATCH_BYTES_MAX,
            bytes_min: WATCH_BYTES_MIN,
            server_bytes: WATCH_SERVER_BYTES_MAX,
        }
    }
}

/// What all rings of a server keep together. Where it is too much, each may keep the same share.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Budget(Arc<Used>);

#[derive(Debug, Default)]
struct Used {
    bytes: AtomicUsize,
    /// How many rings keep anything.
    rings: AtomicUsize,
}

impl Budget {
    pub(in crate::engine) fn used(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// A ring keeps so many bytes that kept so many before.
    fn changed(&self, before: usize, after: usize) {
        let Used { bytes, rings } = &*self.0;
        if after >= before {
            bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
        match (before, after) {
            (0, 1..) => drop(rings.fetch_add(1, Ordering::Relaxed)),
            (1.., 0) => drop(rings.fetch_sub(1, Ordering::Relaxed)),
            (_, _) => {}
        }
    }

    /// How much a ring may keep, if all together may keep so much.
    fn share(&self, all: usize) -> usize {
        if self.used() <= all {
            return all;
        }
        all / self.0.rings.load(Ordering::Relaxed).max(1)
    }

    /// As if other rings kept more than all may.
    #[cfg(test)]
    pub(in crate::engine) fn exhaust(&self) {
        self.0.bytes.fetch_add(WATCH_SERVER_BYTES_MAX, Ordering::Relaxed);
        self.0.rings.fetch_add(WATCH_SERVER_BYTES_MAX, Ordering::Relaxed);
    }
}

/// The ring of one instance.
#[derive(Debug)]
pub(in crate::engine) struct Ring {
    kept: RwLock<Kept>,
    bounds: Bounds,
    budget: Budget,
    bell: Notify,
    /// Wakes watchers. Nobody but the crier uses it.
    heard: watch::Sender<()>,
    /// Whether there is a crier, and so anybody whom the bell could concern.
    cried: AtomicBool,
}

/// Part of the ring: what was committed together.
#[derive(Debug)]
struct Part {
    told: Arc<[Told]>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    /// None is empty.
    parts: VecDeque<Part>,
    events: usize,
    bytes: usize,
    /// From here on all that happened is in the ring.
    begin: Revision,
    /// The last change that is committed, told or not.
    last: Revision,
    /// Where the instance stood when it began to serve.
    opened: Opened,
    /// How often it has begun to serve.
    period: u64,
    serves: bool,
    /// Why it does not serve, if it does not.
    closed: PhaseRefusal,
    /// Why it last ceased to serve. It stays for those who have not heard of it yet.
    ended: PhaseRefusal,
}

/// Where an instance stands when it begins to serve.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Opened {
    /// Before this one there is nothing that could be told: all sessions had ended, or were others.
    pub(in crate::engine) oldest: Revision,
    /// The last change that is remembered.
    pub(in crate::engine) remembered: Revision,
    /// Where numbering goes on. Later than that if what was told after it may have been lost.
    pub(in crate::engine) current: Revision,
}

/// The place of a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Cursor {
    /// Of which time of serving it is.
    period: u64,
    /// What it is told next.
    pub(in crate::engine) next: Revision,
}

/// Where a watch that asks for a revision begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Place {
    /// In the ring.
    Here(Cursor),
    /// Before it, but not before this.
    Before { oldest: Revision, begin: Revision },
}

/// What a cursor finds.
#[derive(Debug)]
pub(in crate::engine) enum Found {
    /// Something from its place on, or from before it in the same batch.
    Told(Arc<[Told]>),
    /// Nothing yet; everything up to this has been told.
    Nothing(Revision),
}

impl Ring {
    /// The ring of an instance in this phase, which does not serve.
    pub(in crate::engine) fn new(phase: &Phase, bounds: Bounds, budget: Budget) -> Self {
        let closed = phase.admit(Admission::LetsGo).err().unwrap_or(PhaseRefusal::NotInitialized);
        let kept = Kept {
            parts: VecDeque::new(),
            events: 0,
            bytes: 0,
            begin: Revision::ZERO,
            last: Revision::ZERO,
            opened: Opened::default(),
            period: 0,
            serves: false,
            ended: closed.clone(),
            closed,
        };
        Self {
            kept: RwLock::new(kept),
            bounds,
            budget,
            bell: Notify::new(),
            heard: watch::Sender::new(()),
            cried: AtomicBool::new(false),
        }
    }

    /// The instance serves from now on.
    pub(in crate::engine) fn open(&self, opened: Opened) {
        let mut kept = self.write();
        self.clear(&mut kept);
        kept.opened = opened;
        kept.last = opened.current;
        kept.begin = opened.current.next();
        kept.period += 1;
        kept.serves = true;
        drop(kept);
        self.ring();
    }

    /// The instance is in this phase now.
    pub(in crate::engine) fn enter(&self, phase: &Phase) {
        let Err(closed) = phase.admit(Admission::LetsGo) else {
            return;
        };
        let mut kept = self.write();
        if *phase == Phase::Created {
            // Whoever has not read it by now is too late.
            self.clear(&mut kept);
        }
        kept.closed = closed;
        if std::mem::take(&mut kept.serves) {
            kept.ended = kept.closed.clone();
        }
        drop(kept);
        self.ring();
    }

    /// Takes what a committed batch tells, and leaves the batch empty but for its room.
    pub(in crate::engine) fn push(&self, batch: &mut Batch) {
        let Some(last) = batch.changes.last().map(|change| change.revision) else {
            return;
        };
        let mut told = Vec::with_capacity(batch.changes.len());
        for (change, seen) in batch.changes.drain(..).zip(batch.seen.drain(..)) {
            told.extend(seen.and_then(|seen| Told::new(change, seen)));
        }
        let told: Arc<[Told]> = told.into();
        let bytes = told.iter().map(Told::weight).sum();
        let mut dropped = Vec::new();
        let mut kept = self.write();
        kept.last = last;
        if !told.is_empty() {
            kept.events += told.len();
            self.weigh(&mut kept, |before| before + bytes);
            kept.parts.push_back(Part { told, bytes });
        }
        while self.has_too_much(&kept) {
            let Some(first) = kept.parts.pop_front() else {
                break;
            };
            kept.events -= first.told.len();
            self.weigh(&mut kept, |before| before - first.bytes);
            kept.begin = first.told.last().map_or(kept.begin, |told| told.revision.next());
            dropped.push(first);
        }
        drop(kept);
        self.ring();
        // Not under the lock: watchers would wait for it.
        drop(dropped);
    }

    fn has_too_much(&self, kept: &Kept) -> bool {
        let Bounds { events, bytes, bytes_min, server_bytes } = self.bounds;
        let share = self.budget.share(server_bytes).max(bytes_min);
        kept.events > events || kept.bytes > bytes.min(share)
    }

    fn weigh(&self, kept: &mut Kept, bytes: impl FnOnce(usize) -> usize) {
        let before = kept.bytes;
        kept.bytes = bytes(before);
        self.budget.changed(before, kept.bytes);
    }

    /// How often the instance has begun to serve.
    pub(in crate::engine) fn period(&self) -> u64 {
        self.read().period
    }

    /// Whether the instance still serves as it did then, or why not.
    pub(in crate::engine) fn serves(&self, period: u64) -> Result<(), WatchRefusal> {
        let kept = self.read();
        if kept.serves && kept.period == period { Ok(()) } else { Err(kept.ended.clone().into()) }
    }

    /// Where a watch begins that wants to be told this revision first.
    pub(in crate::engine) fn place(&self, wanted: Revision) -> Result<Place, WatchRefusal> {
        let kept = self.read();
        if !kept.serves {
            return Err(kept.closed.clone().into());
        }
        let Opened { oldest, remembered, current } = kept.opened;
        let here = |next| Place::Here(Cursor { period: kept.period, next });
        if wanted > kept.last.next() {
            return Err(WatchRefusal::NotYet { current: kept.last });
        }
        if wanted >= kept.begin {
            return Ok(here(wanted));
        }
        if wanted == remembered.next() && kept.begin == current.next() {
            // Nothing is between it and the beginning of the ring but numbers that were left out.
            return Ok(here(kept.begin));
        }
        if wanted > remembered.next() && wanted <= current {
            // What was told there has been lost.
            return Err(WatchRefusal::Compacted { oldest: current.next() });
        }
        Ok(Place::Before { oldest, begin: kept.begin })
    }

    /// What is at this place, or why nothing ever will be.
    pub(in crate::engine) fn at(&self, cursor: Cursor) -> Result<Found, WatchRefusal> {
        let kept = self.read();
        if cursor.period != kept.period {
            return Err(kept.ended.clone().into());
        }
        if cursor.next < kept.begin {
            return Err(if kept.serves {
                WatchRefusal::TooSlow
            } else {
                kept.ended.clone().into()
            });
        }
        let ends_before =
            |part: &Part| part.told.last().is_none_or(|told| told.revision < cursor.next);
        match kept.parts.get(kept.parts.partition_point(ends_before)) {
            Some(part) => Ok(Found::Told(Arc::clone(&part.told))),
            None if kept.serves => Ok(Found::Nothing(kept.last)),
            None => Err(kept.ended.clone().into()),
        }
    }

    /// Hears of everything from now on.
    pub(in crate::engine) fn listen(self: &Arc<Self>) -> watch::Receiver<()> {
        let heard = self.heard.subscribe();
        if !self.cried.swap(true, Ordering::AcqRel) {
            tokio::spawn(cry(Arc::clone(self)));
        }
        heard
    }

    /// How many listen.
    pub(in crate::engine) fn watches(&self) -> usize {
        self.heard.receiver_count()
    }

    /// How many events are kept, and how many bytes they take.
    #[cfg(test)]
    pub(in crate::engine) fn kept(&self) -> (usize, usize) {
        let kept = self.read();
        (kept.events, kept.bytes)
    }

    fn ring(&self) {
        if self.cried.load(Ordering::Acquire) {
            self.bell.notify_one();
        }
    }

    fn clear(&self, kept: &mut Kept) {
        self.weigh(kept, |_| 0);
        kept.events = 0;
        kept.parts = VecDeque::new();
        kept.begin = kept.last.next();
    }

    /// Whoever holds the lock leaves everything whole, so a panic elsewhere tears nothing.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.changed(self.read().bytes, 0);
    }
}

/// Wakes the watchers whenever the bell rings, until none is left. What the bell rings for meanwhile is
/// heard together.
async fn cry(ring: Arc<Ring>) {
    /// Should the runtime end before the ring does, the next watcher brings another crier.
    struct Crier(Arc<Ring>);
    impl Drop for Crier {
        fn drop(&mut self) {
            self.0.cried.swap(false, Ordering::AcqRel);
        }
    }
    loop {
        let crier = Crier(Arc::clone(&ring));
        // What happened before there was a crier.
        ring.heard.send_replace(());
        loop {
            tokio::select! {
                () = ring.bell.notified() => ring.heard.send_replace(()),
                () = ring.heard.closed() => break,
            }
        }
        drop(crier);
        // Somebody may have come who still saw a crier.
        if ring.heard.receiver_count() == 0 || ring.cried.swap(true, Ordering::AcqRel) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
