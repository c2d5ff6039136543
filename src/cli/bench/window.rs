//! The time of a run: when it began, what part of it is measured, and when it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment: nanoseconds since the run began.
pub(super) type Nanos = u64;

/// A length of time in nanoseconds; one that does not fit is for ever.
pub(super) fn nanos(length: Duration) -> Nanos {
    Nanos::try_from(length.as_nanos()).unwrap_or(Nanos::MAX)
}

/// The clock of a run. All of its threads read the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock(Instant);

impl Clock {
    /// A clock that shows 0 now.
    #[expect(
        clippy::disallowed_methods,
        reason = "who measures reads a clock: here, and only here"
    )]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    #[expect(
        clippy::disallowed_methods,
        reason = "who measures reads a clock: here, and only here"
    )]
    pub(super) fn now(self) -> Nanos {
        nanos(self.0.elapsed())
    }

    /// When it will show `at`, for a timer.
    pub(super) fn instant(self, at: Nanos) -> tokio::time::Instant {
        (self.0 + Duration::from_nanos(at)).into()
    }
}

/// What is measured: from the end of the warm-up until the duration is over, or until it is closed
/// before its time.
#[derive(Debug)]
pub(super) struct Window {
    opens: Nanos,
    closes: AtomicU64,
}

impl Window {
    /// The part of a run that is measured.
    pub(super) fn new(warm_up: Duration, duration: Duration) -> Self {
        let opens = nanos(warm_up);
        Self { opens, closes: AtomicU64::new(opens.saturating_add(nanos(duration))) }
    }

    /// When measuring begins.
    pub(super) fn opens(&self) -> Nanos {
        self.opens
    }

    /// When measuring ends.
    pub(super) fn closes(&self) -> Nanos {
        self.closes.load(Ordering::Relaxed)
    }

    /// Whether what happens at `at` is measured.
    pub(super) fn holds(&self, at: Nanos) -> bool {
        self.opens <= at && at < self.closes()
    }

    /// Whether nothing more is to begin.
    pub(super) fn is_over(&self, at: Nanos) -> bool {
        at >= self.closes()
    }

    /// Ends the measuring at `at`, if it would go on longer.
    pub(super) fn close(&self, at: Nanos) {
        self.closes.fetch_min(at, Ordering::Relaxed);
    }

    /// How long was measured.
    pub(super) fn length(&self) -> Duration {
        Duration::from_nanos(self.closes().saturating_sub(self.opens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_and_what_comes_after_are_not_measured() {
        let window = Window::new(Duration::from_nanos(10), Duration::from_nanos(5));
        for (at, holds, is_over) in
            [(0, false, false), (9, false, false), (10, true, false), (14, true, false)]
        {
            assert_eq!((window.holds(at), window.is_over(at)), (holds, is_over), "{at}");
        }
        assert!(!window.holds(15) && window.is_over(15));
        assert_eq!(window.length(), Duration::from_nanos(5));
    }

    #[test]
    fn a_window_is_closed_early_but_never_late() {
        let window = Window::new(Duration::from_nanos(10), Duration::from_nanos(5));
        window.close(20);
        assert_eq!(window.length(), Duration::from_nanos(5));
        window.close(12);
        assert_eq!(window.length(), Duration::from_nanos(2));
        assert!(window.is_over(12));
        window.close(3);
        assert_eq!(window.length(), Duration::ZERO);
    }
}
