//! A world in which no time passes.

use std::time::Duration;

use jet_session::domain::id::Uid;
use jet_session::domain::time::Timestamp;
use jet_session::engine::Environment;

pub(crate) struct Still;

impl Environment for Still {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn uid(&self) -> Uid {
        Uid::new("bench")
    }
}
