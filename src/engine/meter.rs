//! What owners tell whoever counts, and how many of everything there are.
//!
//! The engine counts nothing by itself and knows no library that does. What happens is told to a
//! [`Meter`] of the outside; what *is* can be asked at any time ([`Engine::census`]) and is read from
//! what owners publish anyway.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::domain::event::Change;
use crate::domain::instance::Instance;
use crate::domain::lifecycle::Phase;
use crate::domain::time::Timestamp;
use crate::engine::Engine;

/// Hears what owners do. It is told in the middle of their work, so it must not wait.
pub trait Meter: Send + Sync + 'static {
    /// A batch was committed.
    fn committed(&self, committed: Committed<'_>);

    /// The program broke an invariant of its own.
    fn panicked(&self);
}

/// A batch that was committed.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// Its changes.
    pub changes: &'a [Change],
    /// How long the store took, its sync included.
    pub took: Duration,
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn committed(&self, _: Committed<'_>) {}

    fn panicked(&self) {}
}

/// How many of everything there are, in all instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Instances, by the name of their phase; every phase is there.
    pub instances: BTreeMap<&'static str, usize>,
    /// Sessions.
    pub sessions: usize,
    /// Of them, those with a context.
    pub bound: usize,
    /// Calls that may be waiting for a session.
    pub waiting: usize,
    /// Threads that have a lease in an instance.
    pub leases: usize,
    /// Watches of sessions.
    pub watches: usize,
    /// Messages that owners have not taken yet.
    pub queued: usize,
    /// The age of the oldest answer that is kept for a retry.
    pub oldest_answer: Option<Duration>,
}

/// What an owner publishes beside the view of its instance, for the census alone.
#[derive(Debug)]
pub(super) struct Published {
    leases: AtomicUsize,
    /// In microseconds since 1970; [`NONE`] if no answer is kept.
    oldest_answer: AtomicI64,
}

const NONE: i64 = i64::MIN;

impl Default for Published {
    fn default() -> Self {
        Self { leases: AtomicUsize::new(0), oldest_answer: AtomicI64::new(NONE) }
    }
}

impl Published {
    /// Tells how things stand.
    pub(super) fn publish(&self, instance: &Instance) {
        self.leases.store(instance.deadlines.len(), Ordering::Relaxed);
        let oldest = instance.table.retries().oldest().map_or(NONE, Timestamp::micros);
        self.oldest_answer.store(oldest, Ordering::Relaxed);
    }

    fn oldest_answer(&self) -> Option<Timestamp> {
        let micros = self.oldest_answer.load(Ordering::Relaxed);
        (micros != NONE).then(|| Timestamp::from_micros(micros))
    }
}

impl Engine {
    /// How many of everything there are now. It looks at each instance once and holds nobody up.
    pub fn census(&self) -> Census {
        let mut census = Census {
            instances: Phase::NAMES.iter().map(|name| (*name, 0)).collect(),
            sessions: 0,
            bound: 0,
            waiting: self.waiting(),
            leases: 0,
            watches: 0,
            queued: 0,
            oldest_answer: None,
        };
        let mut oldest: Option<Timestamp> = None;
        let instances = self.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
        for handle in instances.values() {
            {
                let view = handle.view.borrow();
                *census.instances.entry(view.phase.as_str()).or_default() += 1;
                census.sessions += view.session_count;
                census.bound += view.bound_count;
            }
            census.leases += handle.published.leases.load(Ordering::Relaxed);
            census.watches += handle.ring.watches();
            census.queued += handle.owner.max_capacity() - handle.owner.capacity();
            let answer = handle.published.oldest_answer();
            oldest = match (oldest, answer) {
                (Some(oldest), Some(answer)) => Some(oldest.min(answer)),
                (oldest, answer) => oldest.or(answer),
            };
        }
        drop(instances);
        census.oldest_answer = oldest.map(|time| self.shared.environment.now().since(time));
        census
    }
}
