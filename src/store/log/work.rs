//! Where blocking work is done.

use std::future;
use std::panic;

/// Who waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A thread of the runtime's pool for blocking work: nobody else is held up.
    Pool,
    /// Whoever asks: nothing runs at the same time, so a test decides the order of everything.
    Inline,
}

impl Work {
    /// Does something that may block. It is finished even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self {
            Self::Inline => work(),
            Self::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                // The runtime is going down, and with it whoever waits here.
                Err(_) => future::pending().await,
            },
        }
    }
}
