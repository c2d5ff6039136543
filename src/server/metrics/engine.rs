//! What the owners of instances tell.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::event::{HowReset, SessionEvent};
use crate::engine::meter::{Committed, Meter};
use crate::telemetry::histogram::{Histogram, LATENCIES, Samples};

/// Upper ends of how many changes a batch has.
const CHANGES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// What can happen to sessions, in the words of watchers.
const CAUSES: [&str; 11] = [
    "began",
    "set",
    "reset",
    "transferred",
    "lease_expired",
    "forced",
    "ended",
    "transaction_began",
    "transaction_committed",
    "transaction_rolled_back",
    "terminated",
];

/// Everything that owners have told.
#[derive(Debug)]
pub(in crate::server) struct EngineTally {
    commits: Histogram,
    changes: Histogram,
    /// By cause, in the order of [`CAUSES`].
    events: [AtomicU64; CAUSES.len()],
    panics: AtomicU64,
}

impl Default for EngineTally {
    fn default() -> Self {
        Self {
            commits: Histogram::new(LATENCIES),
            changes: Histogram::new(CHANGES),
            events: Default::default(),
            panics: AtomicU64::new(0),
        }
    }
}

impl EngineTally {
    /// How long commits took, in nanoseconds.
    pub(super) fn commits(&self) -> Samples {
        self.commits.samples()
    }

    /// How many changes they had.
    pub(super) fn changes(&self) -> Samples {
        self.changes.samples()
    }

    /// What happened to sessions, and how often.
    pub(super) fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.events.iter().map(|count| count.load(Ordering::Relaxed));
        CAUSES.into_iter().zip(counts)
    }

    /// How often an owner panicked.
    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

impl Meter for EngineTally {
    fn committed(&self, Committed { changes, took }: Committed<'_>) {
        let mut causes = [0; CAUSES.len()];
        for cause in changes.iter().filter_map(|change| cause(&change.event)) {
            causes[cause] += 1;
        }
        for (total, count) in self.events.iter().zip(causes) {
            // Most batches have few causes.
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
        self.commits.took(took);
        self.changes.observe(changes.len() as u64);
    }

    fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }
}

/// The place of an event's cause in [`CAUSES`]; nothing if no session is touched.
fn cause(event: &SessionEvent) -> Option<usize> {
    Some(match event {
        SessionEvent::Began { .. } => 0,
        SessionEvent::ContextSet { .. } => 1,
        SessionEvent::ContextReset { how: HowReset::ByHolder, .. } => 2,
        SessionEvent::ContextTransferred { .. } => 3,
        SessionEvent::ContextReset { how: HowReset::LeaseExpired, .. } => 4,
        SessionEvent::ContextReset { how: HowReset::Forced(_), .. } => 5,
        SessionEvent::Ended { .. } => 6,
        SessionEvent::TransactionBegan { .. } => 7,
        SessionEvent::TransactionCommitted { .. } => 8,
        SessionEvent::TransactionRolledBack { .. } => 9,
        SessionEvent::AllEnded => 10,
        SessionEvent::LeaseSet { .. }
        | SessionEvent::LeaseEnded { .. }
        | SessionEvent::ServingBegan { .. }
        | SessionEvent::ServedUntil { .. } => return None,
    })
}
