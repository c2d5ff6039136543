//! What the calls of one connection have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::domain::limits::{
    DRAIN_QUIET_MS, DRAIN_QUIET_MS_MAX, DRAIN_SILENCE_SECONDS_MAX, WAITERS_PER_CONNECTION_MAX,
};

/// What the calls of one connection leave of those that may wait there, and how many are under way. The server
/// puts it among the extensions of each request.
#[derive(Debug, Clone)]
pub struct WaitingRoom {
    waiting: Arc<Semaphore>,
    calls: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    underway: AtomicUsize,
}

impl WaitingRoom {
    /// The room of a new connection.
    pub fn new() -> Self {
        let waiting = Arc::new(Semaphore::new(WAITERS_PER_CONNECTION_MAX));
        Self { waiting, calls: Arc::default() }
    }

    /// A permit for each call that may still come to wait.
    pub(in crate::rpc) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.waiting)
    }

    /// A call has begun; it is over when the guard is dropped.
    pub(super) fn begin(&self) -> Underway {
        self.calls.begun.fetch_add(1, Ordering::Relaxed);
        self.calls.underway.fetch_add(1, Ordering::Relaxed);
        Underway(Arc::clone(&self.calls))
    }

    fn is_empty(&self) -> bool {
        self.calls.underway.load(Ordering::Relaxed) == 0
    }

    /// Waits for a good moment to say goodbye: no call is under way, and none has been for a little while. Waits
    /// for a second at most.
    pub async fn quiet(&self) {
        let quiet = async {
            loop {
                let before = self.calls.begun.load(Ordering::Relaxed);
                let was_empty = self.is_empty();
                sleep(Duration::from_millis(DRAIN_QUIET_MS)).await;
                if was_empty && self.calls.begun.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        // Late, it is as good a moment as any.
        timeout(Duration::from_millis(DRAIN_QUIET_MS_MAX), quiet).await.ok();
    }

    /// Waits until a connection on which goodbye has been said need not be waited for: no call is under way, and
    /// the peer has not even answered, for longer than an answer takes. It is frozen, or gone.
    pub async fn deserted(&self) {
        loop {
            sleep(Duration::from_secs(DRAIN_SILENCE_SECONDS_MAX)).await;
            if self.is_empty() {
                return;
            }
        }
    }
}

impl Default for WaitingRoom {
    fn default() -> Self {
        Self::new()
    }
}

/// A call that is under way, until its answer has been sent or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Underway(Arc<Counts>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.underway.fetch_sub(1, Ordering::Relaxed);
    }
}
