//! What a client still has to put in order when nobody waits for it any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::domain::limits::{CLEAN_UPS_AT_ONCE, CLEAN_UPS_MAX};

/// Clean-ups, bounded in number and in how many run at a time.
#[derive(Debug, Clone)]
pub(super) struct Background {
    owed: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Background {
    pub(super) fn new() -> Self {
        Self {
            owed: Arc::new(Semaphore::new(CLEAN_UPS_MAX)),
            running: Arc::new(Semaphore::new(CLEAN_UPS_AT_ONCE)),
        }
    }

    /// Does it soon, on the runtime of whoever calls. Without a runtime, or with too much to do already,
    /// it is left: the log says so, and a lease, if there is one, does it in the end.
    pub(super) fn owe(&self, what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else {
            tracing::warn!(what, "dropped outside a runtime: left to the lease, if there is one");
            return;
        };
        let Ok(owed) = Arc::clone(&self.owed).try_acquire_owned() else {
            tracing::warn!(what, "too much is owed already: left to the lease, if there is one");
            return;
        };
        let running = Arc::clone(&self.running);
        runtime.spawn(async move {
            let turn = running.acquire().await;
            work.await;
            drop((turn, owed));
        });
    }

    /// Waits until nothing is owed any more; answers whether that came within `limit`.
    pub(super) async fn settled(&self, limit: Duration) -> bool {
        let all = u32::try_from(CLEAN_UPS_MAX).unwrap_or(u32::MAX);
        tokio::time::timeout(limit, self.owed.acquire_many(all)).await.is_ok()
    }
}
