//! When the next request begins: at once, or by a schedule.

use std::time::Duration;

use super::window::{Nanos, nanos};

/// The turns of one client.
///
/// In a closed loop a turn comes as soon as it is asked for. In an open one it comes by the schedule,
/// and a request that is late, because the one before it took long, began when it should have: what a
/// slow server makes others wait is part of their latency. The time that a timer overslept is not.
#[derive(Debug)]
pub(super) struct Pace {
    schedule: Option<Schedule>,
}

#[derive(Debug)]
struct Schedule {
    next: Nanos,
    interval: Nanos,
    /// Whether the next turn was waited for.
    waited: bool,
}

impl Pace {
    /// No schedule: each request begins when the one before it is answered.
    pub(super) fn closed() -> Self {
        Self { schedule: None }
    }

    /// The share of client number `turn` of `of` clients that make `rate` requests a second together.
    pub(super) fn open(rate: f64, turn: usize, of: usize) -> Self {
        let after = |requests: usize| {
            Duration::try_from_secs_f64(requests as f64 / rate).map_or(Nanos::MAX, nanos)
        };
        let (next, interval) = (after(turn), after(of).max(1));
        Self { schedule: Some(Schedule { next, interval, waited: false }) }
    }

    /// Until when the next turn is to be waited for, if it has not come.
    pub(super) fn wait(&mut self, now: Nanos) -> Option<Nanos> {
        let schedule = self.schedule.as_mut()?;
        let early = now < schedule.next;
        schedule.waited |= early;
        early.then_some(schedule.next)
    }

    /// Takes the turn. Answers the moment from which its latency counts.
    pub(super) fn begin(&mut self, now: Nanos) -> Nanos {
        let Some(schedule) = &mut self.schedule else {
            return now;
        };
        let intended = schedule.next;
        schedule.next = intended.saturating_add(schedule.interval);
        if std::mem::take(&mut schedule.waited) { now } else { intended.min(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_loop_never_waits() {
        let mut pace = Pace::closed();
        assert_eq!(pace.wait(7), None);
        assert_eq!(pace.begin(7), 7);
    }

    #[test]
    fn clients_share_a_rate_by_turns() {
        // A request each 100 ns, by four clients.
        let mut first = Pace::open(1e7, 0, 4);
        let mut third = Pace::open(1e7, 2, 4);
        assert_eq!((first.wait(0), third.wait(0)), (None, Some(200)));
        assert_eq!(first.begin(0), 0);
        assert_eq!(first.wait(0), Some(400));
        assert_eq!(third.begin(200), 200);
        assert_eq!(third.wait(200), Some(600));
    }

    #[test]
    fn a_late_request_began_when_it_should_have() {
        let mut pace = Pace::open(1e7, 0, 1);
        assert_eq!(pace.begin(0), 0);
        // The first was answered at 350: two turns have passed.
        for intended in [100, 200, 300] {
            assert_eq!(pace.wait(350), None);
            assert_eq!(pace.begin(350), intended);
        }
        assert_eq!(pace.wait(350), Some(400));
    }

    #[test]
    fn what_a_timer_overslept_is_not_the_servers() {
        let mut pace = Pace::open(1e7, 0, 1);
        assert_eq!(pace.begin(0), 0);
        assert_eq!(pace.wait(50), Some(100));
        assert_eq!(pace.wait(130), None);
        assert_eq!(pace.begin(130), 130);
        // The schedule did not move.
        assert_eq!(pace.wait(130), Some(200));
    }
}
