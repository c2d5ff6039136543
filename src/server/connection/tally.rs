//! How many connections there are, and how many there were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts of connections, for whoever tells metrics.
#[derive(Debug, Default)]
pub(in crate::server) struct Tally {
    accepted: AtomicU64,
    refused_over_limit: AtomicU64,
    handshake_failed: AtomicU64,
    open: AtomicUsize,
}

impl Tally {
    /// Connections that were accepted, those included that were closed at once.
    pub(in crate::server) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once because there were as many as may be.
    pub(in crate::server) fn refused_over_limit(&self) -> u64 {
        self.refused_over_limit.load(Ordering::Relaxed)
    }

    /// Connections that never became one: their TLS handshake failed, they did not speak HTTP/2, or they said
    /// too little for too long. Those that only came and went, as probes do, are not among them.
    pub(in crate::server) fn handshake_failed(&self) -> u64 {
        self.handshake_failed.load(Ordering::Relaxed)
    }

    /// Connections that are open, those included that have said nothing yet.
    pub(in crate::server) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection that was accepted; its place among the `most` that there may be, if one is free.
    pub(in crate::server) fn admit(self: &Arc<Self>, most: usize) -> Option<Place> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < most).then_some(open + 1)
        });
        if taken.is_err() {
            self.refused_over_limit.fetch_add(1, Ordering::Relaxed);
        }
        taken.ok().map(|_| Place(Arc::clone(self)))
    }

    /// Counts a connection that never became one.
    pub(in crate::server) fn failed(&self) {
        self.handshake_failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The place of an open connection; free again when dropped.
#[derive(Debug)]
pub(in crate::server) struct Place(Arc<Tally>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let tally = Arc::new(Tally::default());
        let first = tally.admit(2).unwrap();
        let _second = tally.admit(2).unwrap();
        assert!(tally.admit(2).is_none());
        assert_eq!(tally.open(), 2);

        drop(first);

        assert_eq!(tally.open(), 1);
        assert!(tally.admit(2).is_some());
        assert_eq!((tally.accepted(), tally.refused_over_limit()), (4, 1));
    }
}
