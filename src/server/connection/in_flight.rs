//! Which of a connection's calls are not yet answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::rt::Executor;
use tokio::sync::Notify;

/// Runs the calls of one connection, and knows when there are none. hyper runs a call from its headers to the
/// last byte of its answer as one task.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Calls>);

#[derive(Debug, Default)]
struct Calls {
    /// How many have begun, ever.
    begun: AtomicUsize,
    /// How many are not yet answered.
    count: AtomicUsize,
    none: Notify,
}

impl InFlight {
    /// How many calls have begun so far.
    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Waits until there is no call.
    pub(super) async fn none(&self) {
        while self.0.count.load(Ordering::Acquire) > 0 {
            self.0.none.notified().await;
        }
    }
}

impl<F> Executor<F> for InFlight
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        let ended = Ended(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _ended = ended;
            call.await;
        });
    }
}

/// Counts a call off, whether it was answered or its task was dropped.
struct Ended(Arc<Calls>);

impl Drop for Ended {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Release) == 1 {
            // Kept for whoever asks next, if nobody waits now.
            self.0.none.notify_one();
        }
    }
}
