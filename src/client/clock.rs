//! The clock of the client: tokio's, so that a test under a paused clock or a simulation can drive it.

use tokio::time::Instant;

/// Now, by a clock that never goes back.
#[expect(clippy::disallowed_methods, reason = "the one place where the client reads a clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
