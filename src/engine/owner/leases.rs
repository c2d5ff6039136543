//! Leases: the clock of the instance, and taking back what threads hold that are no more.
//!
//! A lease is not taken away the moment it ends. The renewal may lie in a socket that nobody has read,
//! because the process was stopped or the machine was busy. So the owner first lets a moment pass in
//! which everything that has arrived is taken, and if it finds that it has slept, another one.

use std::time::Duration;

use crate::domain::call::Stamp;
use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::Principal;
use crate::domain::limits::{
    EXPIRIES_AT_ONCE, LEASE_GRACE_MS, SERVED_RECORDED_SECONDS_MAX, SLEPT_MS_MIN,
};
use crate::domain::time::Served;
use crate::engine::ask::Now;
use crate::engine::owner::Owner;
use crate::engine::owner::batch::Batch;
use crate::store::Store;

/// How often in a row the owner believes that it has slept: a machine that is always busy would
/// otherwise never take a lease away.
const SLEEPS_BELIEVED: u8 = 3;

/// The clock of an instance while it serves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// Where it stood when the instance began to serve.
    base: Served,
    /// The monotonic clock at that moment.
    began: Duration,
}

impl Clock {
    pub(super) fn start(base: Served, monotonic: Duration) -> Self {
        Self { base, began: monotonic }
    }

    pub(super) fn served(&self, monotonic: Duration) -> Served {
        self.base.after(monotonic.saturating_sub(self.began))
    }

    /// When it stands there, on the monotonic clock.
    fn when(&self, served: Served) -> Duration {
        self.began + self.base.until(served)
    }
}

/// What the owner has to do about leases, and when.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Leases that have ended by then are taken away at that moment of the monotonic clock.
    armed: Option<Armed>,
    /// When the clock is recorded next.
    record: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    until: Served,
    at: Duration,
    sleeps: u8,
}

impl<S: Store> Owner<S> {
    /// What time it is.
    pub(super) fn now(&self) -> Now {
        let served = self.clock.served(self.environment.monotonic());
        Now { time: self.environment.now(), served }
    }

    /// Begins to count the time of leases, after what was remembered has been read.
    pub(super) fn begin_serving(&mut self) {
        let monotonic = self.environment.monotonic();
        self.clock = Clock::start(self.instance.table.threads().served(), monotonic);
        self.expiry = Expiry::default();
        self.instance.begin_serving();
        self.plan_record(monotonic);
    }

    /// When there is something to do about leases, on the monotonic clock.
    fn lease_work_at(&self) -> Option<Duration> {
        self.journal.as_ref()?;
        let expiry = match self.expiry.armed {
            Some(armed) => Some(armed.at),
            None => self.instance.deadlines.first().map(|end| self.clock.when(end)),
        };
        match (expiry, self.expiry.record) {
            (Some(expiry), Some(record)) => Some(expiry.min(record)),
            (expiry, record) => expiry.or(record),
        }
    }

    /// How long it still is until then.
    pub(super) fn lease_work_in(&self) -> Option<Duration> {
        self.lease_work_at().map(|at| at.saturating_sub(self.environment.monotonic()))
    }

    /// Does what there is to do about leases now: at most a bounded part of it, so that calls wait for no
    /// more than that. Without leases it does not even look at the clock.
    pub(super) async fn lease_work(&mut self, batch: &mut Batch) {
        let Some(at) = self.lease_work_at() else {
            return;
        };
        let monotonic = self.environment.monotonic();
        if at > monotonic {
            return;
        }
        let now = self.now();
        if self.expiry.record.is_some_and(|at| at <= monotonic) {
            self.record_served(now, batch);
            self.plan_record(monotonic);
        }
        match self.expiry.armed {
            None => self.arm(now.served, monotonic, 0),
            Some(Armed { at, .. }) if at > monotonic => {}
            Some(Armed { at, sleeps, .. }) if slept(monotonic - at) && sleeps < SLEEPS_BELIEVED => {
                self.arm(now.served, monotonic, sleeps + 1);
            }
            Some(armed) => self.expire(armed, monotonic, batch).await,
        }
        self.commit(batch).await;
        if self.expiry.armed.is_some_and(|armed| armed.at <= monotonic) {
            // There is more. A store that never waits would give nobody else a turn.
            tokio::task::yield_now().await;
        }
    }

    /// Leases that have ended by `until` are taken away in a moment.
    fn arm(&mut self, until: Served, monotonic: Duration, sleeps: u8) {
        if self.instance.deadlines.first().is_none_or(|first| first > until) {
            self.expiry.armed = None;
            return;
        }
        let at = monotonic + Duration::from_millis(LEASE_GRACE_MS);
        self.expiry.armed = Some(Armed { until, at, sleeps });
    }

    async fn expire(&mut self, armed: Armed, monotonic: Duration, batch: &mut Batch) {
        if self.make_room().await.is_err() {
            // Letting go may use the reserve, but a storm of it would use it up: calls come first.
            let at = monotonic + Duration::from_millis(LEASE_GRACE_MS);
            self.expiry.armed = Some(Armed { at, ..armed });
            return;
        }
        let now = self.now();
        let stamp = Stamp {
            now: now.time,
            served: now.served,
            by: Principal::anonymous(),
            request: None,
            waited_under: None,
        };
        let from = batch.happened.len();
        self.instance.expire(armed.until, EXPIRIES_AT_ONCE, &stamp, &mut batch.happened);
        batch.hand_over(from, &mut self.instance, &mut self.parked, now);
        let more = self.instance.deadlines.first().is_some_and(|first| first <= armed.until);
        self.expiry.armed = more.then_some(Armed { at: monotonic, ..armed });
    }

    /// Records how long the instance has served, for leases that starts no longer lengthen.
    fn record_served(&mut self, now: Now, batch: &mut Batch) {
        let change = Change {
            revision: self.instance.table.revision().next(),
            time: now.time,
            by: Principal::anonymous(),
            event: SessionEvent::ServedUntil { at: now.served },
            made: Vec::new(),
        };
        self.instance.table.apply(&change);
        batch.happened.changes.push(change);
        batch.happened.seen.push(None);
    }

    fn plan_record(&mut self, monotonic: Duration) {
        let shortest = self.instance.table.threads().shortest_unforgiven();
        self.expiry.record = shortest
            .map(|ttl| monotonic + (ttl / 4).min(Duration::from_secs(SERVED_RECORDED_SECONDS_MAX)));
    }
}

/// Whether a timer was so late that the process has slept.
fn slept(late: Duration) -> bool {
    late > Duration::from_millis(SLEPT_MS_MIN)
}

/// Waits for so long; for ever if there is nothing to wait for.
pub(super) async fn lease_time(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}
