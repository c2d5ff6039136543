//! An instance and its leases: when they begin to count, and what is taken back when they end.

use std::time::Duration;

use super::Instance;
use crate::domain::call::Stamp;
use crate::domain::event::{Batch, Change, HowReset, SessionEvent};
use crate::domain::id::Principal;
use crate::domain::lease::Deadlines;
use crate::domain::limits::STAGGER_SECONDS_MAX;
use crate::domain::queue::Queue;
use crate::domain::session::{Binding, LeaseView};
use crate::domain::table::SessionTable;
use crate::domain::time::{Served, Timestamp};

impl Instance {
    /// The lease under which a context is held.
    pub fn lease(&self, binding: &Binding, now: Served) -> Option<LeaseView> {
        let deadline = self.deadlines.get(&binding.owner)?;
        Some(LeaseView { ttl: deadline.ttl, remaining: now.until(deadline.end) })
    }

    /// What must be recorded before the instance serves, and from when its clock goes on. Then
    /// [`begin_serving`](Self::begin_serving).
    pub fn serving(table: &SessionTable, now: Timestamp) -> Option<Change> {
        let at = table.threads().served();
        (table.threads().leases() > 0).then(|| Change {
            revision: table.revision().next(),
            time: now,
            by: Principal::anonymous(),
            event: SessionEvent::ServingBegan { at },
            made: Vec::new(),
        })
    }

    /// Begins to count the time of leases. Their ends are spread a little, so that the threads of a
    /// server that was away do not all lose what they hold in the same moment.
    pub fn begin_serving(&mut self) {
        // A store may give a copy of what it keeps.
        self.table.ensure_index();
        self.deadlines = Deadlines::default();
        self.queue = Queue::default();
        let threads = self.table.threads();
        let count = threads.leases().max(1);
        let leases = threads.iter().filter_map(|(owner, thread)| Some((owner, thread.lease?)));
        for ((owner, lease), nth) in leases.zip(0_u32..) {
            let spread = (lease.ttl / 4).min(Duration::from_secs(STAGGER_SECONDS_MAX));
            let share = u32::try_from(count).map_or(spread, |count| spread * nth / count);
            self.deadlines.set(owner, lease.ttl, lease.since.after(lease.ttl).after(share));
        }
    }

    /// Takes back what threads hold whose lease ended by `until`, in at most `max` changes and one. There is
    /// more to do as long as the first of the deadlines is not later than `until`.
    pub fn expire(&mut self, until: Served, max: usize, stamp: &Stamp, batch: &mut Batch) {
        let enough = batch.len() + max;
        for owner in self.deadlines.due(until, max) {
            if batch.len() >= enough {
                return;
            }
            // The lease ends last: until then a restart knows that there is still something to do.
            for session in self.table.held(&owner, enough.saturating_sub(batch.len())) {
                let how = HowReset::LeaseExpired;
                self.happen(SessionEvent::ContextReset { session, how }, stamp, batch);
            }
            if self.table.held_count(&owner) > 0 {
                return;
            }
            if self.table.threads().lease(&owner).is_some() {
                self.happen(SessionEvent::LeaseEnded { owner }, stamp, batch);
            } else {
                self.deadlines.remove(&owner);
            }
        }
    }
}
