//! The world outside: the only clock and the only randomness of the program.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::domain::id::Uid;
use crate::domain::time::Timestamp;
use crate::engine::Environment;

/// The machine's clock and randomness.
#[derive(Debug, Clone, Copy)]
pub(super) struct System {
    began: Instant,
}

impl System {
    #[expect(clippy::disallowed_methods, reason = "this is the place where the clock is read")]
    pub(super) fn new() -> Self {
        Self { began: Instant::now() }
    }
}

impl Environment for System {
    #[expect(clippy::disallowed_methods, reason = "this is the place where the clock is read")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 is a broken one; times are only shown, so it may stand at the epoch.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place where the clock is read")]
    fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.began)
    }

    fn uid(&self) -> Uid {
        Uid::new(&Uuid::new_v4().to_string())
    }
}
