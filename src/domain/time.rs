//! Points in time, as values: the domain never asks what time it is.

use std::time::Duration;

use crate::domain::limits::{RETRY_AFTER_MS_MAX, RETRY_AFTER_MS_MIN};

/// A moment of the wall clock in microseconds since 1970-01-01T00:00:00Z. Only shown to people and
/// never compared to decide who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; nothing if the wall clock was set back in between.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The clock of an instance: how long it has served, over all its starts. Leases are measured by it,
/// because time in which nobody could have renewed a lease does not count. It never runs ahead of real
/// time, and after a start it goes on no later than where it was last recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Served(u64);

impl Served {
    /// After this many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// In microseconds.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long it still is until `later`; nothing if that is over.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }
}

/// How long to wait for something of which `percent` took `elapsed`, if that tells anything. Never
/// shorter than a round trip is worth, never longer than anybody should wait without looking.
pub fn remaining(elapsed: Duration, percent: u8) -> Option<Duration> {
    let done = u32::from(percent.min(100));
    if done == 0 {
        return None;
    }
    let (min, max) = (RETRY_AFTER_MS_MIN, RETRY_AFTER_MS_MAX);
    let left = (elapsed / done).saturating_mul(100 - done);
    Some(left.clamp(Duration::from_millis(min), Duration::from_millis(max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_estimated_from_what_is_done() {
        let ms = Duration::from_millis;
        for (elapsed, percent, expected) in [
            (0, 0, None),
            (60_000, 0, None),
            (1_000, 50, Some(1_000)),
            (1_000, 25, Some(3_000)),
            (9_000, 90, Some(1_000)),
            // Never too short, never too long.
            (0, 1, Some(50)),
            (100, 99, Some(50)),
            (1_000, 100, Some(50)),
            (1_000, 255, Some(50)),
            (10_000, 1, Some(30_000)),
        ] {
            let found = remaining(ms(elapsed), percent);
            assert_eq!(found, expected.map(ms), "{percent} % after {elapsed} ms");
        }
        assert_eq!(remaining(Duration::MAX, 1), Some(ms(30_000)));
    }

    #[test]
    fn a_clock_set_back_makes_no_time_pass() {
        let (early, late) = (Timestamp::from_micros(1), Timestamp::from_micros(1_000_001));
        assert_eq!(late.since(early), Duration::from_secs(1));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
