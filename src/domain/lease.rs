//! Leases: how a thread that is no more gives back what it held.
//!
//! A lease belongs to a thread and lives a while without a renewal. It has two halves. What must
//! survive a restart, that there is a lease and how long it is, is made of events ([`Threads`]). When
//! it ends is known only to the process that takes the renewals ([`Deadlines`]).
//!
//! Time is [`Served`], the instance's own: after a start every lease gets its full length, because
//! nobody could renew it meanwhile. It does so [`STARTS_FORGIVEN`] times; a server that keeps dying
//! would otherwise keep the sessions of dead threads for ever.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::domain::id::{Owner, Revision, SessionId};
use crate::domain::limits::{LOSS_KEPT_SECONDS_MIN, LOSSES_MAX, LOSSES_PER_THREAD_MAX};
use crate::domain::time::{Served, Timestamp};

/// How many starts in a row give a lease its full length without a renewal.
pub const STARTS_FORGIVEN: u8 = 3;

/// A lease, as far as it survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// How long it lives without a renewal.
    pub ttl: Duration,
    /// From when that counts.
    pub since: Served,
    /// How many starts there were since it was renewed.
    pub starts: u8,
}

/// A session that a thread lost without letting it go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Which session.
    pub session: SessionId,
    /// How.
    pub cause: LossCause,
    /// The fencing token that is worth nothing any more.
    pub token: Revision,
    /// When.
    pub time: Timestamp,
    /// Until when it is told.
    pub told_until: Timestamp,
}

/// How a thread can lose a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCause {
    /// Its lease ended.
    LeaseExpired,
    /// An operator took it away.
    Forced,
    /// The session was ended by force.
    Ended,
}

/// What is remembered of threads beside what they hold.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    known: BTreeMap<Owner, Thread>,
    /// Every loss in the order in which it came, to find the oldest.
    order: VecDeque<(Owner, Revision)>,
    served: Served,
    leases: usize,
}

/// What is remembered of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thread {
    /// Its lease.
    pub lease: Option<Lease>,
    /// What it lost, oldest first. Their tokens tell them apart.
    pub losses: VecDeque<Loss>,
}

impl Threads {
    /// What is remembered of a thread.
    pub fn get(&self, owner: &Owner) -> Option<&Thread> {
        self.known.get(owner)
    }

    /// The lease of a thread.
    pub fn lease(&self, owner: &Owner) -> Option<Lease> {
        self.known.get(owner)?.lease
    }

    /// How far the clock of the instance is known to have come.
    pub fn served(&self) -> Served {
        self.served
    }

    /// How many leases there are.
    pub fn leases(&self) -> usize {
        self.leases
    }

    /// Whether nothing is remembered of anybody.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All threads of which something is remembered, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Owner, &Thread)> {
        self.known.iter()
    }

    /// The leases of threads after `after`, in order.
    pub fn leases_after(&self, after: Bound<&Owner>) -> impl Iterator<Item = (&Owner, Lease)> {
        let known = self.known.range::<Owner, _>((after, Bound::Unbounded));
        known.filter_map(|(owner, thread)| Some((owner, thread.lease?)))
    }

    /// How many losses are remembered.
    pub fn losses(&self) -> usize {
        self.known.values().map(|thread| thread.losses.len()).sum()
    }

    /// What threads lost, in the order in which it came, without the first `from` places. A place may be
    /// empty: that of a loss which its thread is told no more because it lost too much since.
    pub fn losses_from(&self, from: usize) -> impl Iterator<Item = Option<(&Owner, &Loss)>> {
        self.order.range(from.min(self.order.len())..).map(|(owner, token)| {
            let losses = &self.known.get(owner)?.losses;
            Some((owner, losses.iter().find(|loss| loss.token == *token)?))
        })
    }

    /// The shortest length of a lease that starts no longer lengthen.
    pub fn shortest_unforgiven(&self) -> Option<Duration> {
        let leases = self.known.values().filter_map(|thread| thread.lease);
        leases.filter(|lease| lease.starts >= STARTS_FORGIVEN).map(|lease| lease.ttl).min()
    }

    /// A thread has a lease, which counts from `since`.
    pub(super) fn set_lease(&mut self, owner: &Owner, ttl: Duration, since: Served) {
        self.put_lease(owner, Lease { ttl, since, starts: 0 });
    }

    /// Takes a lease as it was remembered.
    pub fn put_lease(&mut self, owner: &Owner, lease: Lease) {
        self.served = self.served.max(lease.since);
        let thread = self.known.entry(owner.clone()).or_default();
        self.leases += usize::from(thread.lease.is_none());
        thread.lease = Some(lease);
    }

    /// A thread has none any more.
    pub(super) fn end_lease(&mut self, owner: &Owner) {
        let Some(thread) = self.known.get_mut(owner) else {
            return;
        };
        self.leases -= usize::from(thread.lease.take().is_some());
        self.forget_if_nothing(owner);
    }

    /// The instance serves again, and its clock stands there.
    pub(super) fn serving_began(&mut self, at: Served) {
        self.served_until(at);
        for lease in self.known.values_mut().filter_map(|thread| thread.lease.as_mut()) {
            if lease.starts < STARTS_FORGIVEN {
                lease.since = at;
            }
            lease.starts = lease.starts.saturating_add(1);
        }
    }

    /// The clock of the instance stands there.
    pub fn served_until(&mut self, at: Served) {
        self.served = self.served.max(at);
    }

    /// A thread lost a session. It is told for three times the length of its lease, and never for less
    /// than a few minutes.
    pub(super) fn lost(&mut self, owner: &Owner, mut loss: Loss) {
        let ttl = self.lease(owner).map_or(Duration::ZERO, |lease| lease.ttl);
        let told = ttl.saturating_mul(3).max(Duration::from_secs(LOSS_KEPT_SECONDS_MIN));
        let now = loss.time;
        loss.told_until = now.after(told);
        self.push_loss(owner, loss);
        self.forget_losses(now);
    }

    /// Takes a loss as it was remembered, after all older ones. Answers false and takes nothing if there
    /// are as many as are kept.
    #[must_use = "a loss that is refused shows that what was remembered is damaged"]
    pub fn put_loss(&mut self, owner: &Owner, loss: Loss) -> bool {
        let of_thread = self.known.get(owner).map_or(0, |thread| thread.losses.len());
        let fits = self.order.len() < LOSSES_MAX && of_thread < LOSSES_PER_THREAD_MAX;
        if fits {
            self.push_loss(owner, loss);
        }
        fits
    }

    fn push_loss(&mut self, owner: &Owner, loss: Loss) {
        self.order.push_back((owner.clone(), loss.token));
        let losses = &mut self.known.entry(owner.clone()).or_default().losses;
        losses.push_back(loss);
        if losses.len() > LOSSES_PER_THREAD_MAX {
            losses.pop_front();
        }
    }

    /// Forgets some of the oldest losses, while there are too many or nobody need be told any more: more
    /// than come in, and never very many.
    fn forget_losses(&mut self, now: Timestamp) {
        for _ in 0..4 {
            let Some((oldest, token)) = self.order.front() else {
                return;
            };
            let first = self.known.get(oldest).and_then(|thread| thread.losses.front());
            let kept = first.is_some_and(|first| first.token == *token && first.told_until >= now);
            if kept && self.order.len() <= LOSSES_MAX {
                return;
            }
            let (oldest, token) = self.order.pop_front().expect("it was seen just now");
            if let Some(thread) = self.known.get_mut(&oldest) {
                if thread.losses.front().is_some_and(|first| first.token == token) {
                    thread.losses.pop_front();
                }
                self.forget_if_nothing(&oldest);
            }
        }
    }

    /// As after a restore: nobody is told what was lost, and every lease counts as renewed.
    pub(super) fn restore(&mut self) {
        self.order.clear();
        self.known.retain(|_, thread| thread.lease.is_some());
        for thread in self.known.values_mut() {
            thread.losses.clear();
            if let Some(lease) = &mut thread.lease {
                (lease.since, lease.starts) = (self.served, 0);
            }
        }
    }

    fn forget_if_nothing(&mut self, owner: &Owner) {
        let nothing = |thread: &Thread| thread.lease.is_none() && thread.losses.is_empty();
        if self.known.get(owner).is_some_and(nothing) {
            self.known.remove(owner);
        }
    }
}

/// Equal are those who remember the same of everybody; the order of losses keeps places for some that are
/// forgotten.
impl PartialEq for Threads {
    fn eq(&self, other: &Self) -> bool {
        (&self.known, self.served) == (&other.known, other.served)
    }
}

impl Eq for Threads {}

/// When leases end, as the process knows that takes the renewals.
///
/// A lease may be here and not among [`Threads`]: that of a thread which holds nothing here. It then
/// takes under it what the thread comes to hold, and nobody need remember it before.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    ends: BTreeMap<Owner, Deadline>,
    /// Not later than each end. A renewal leaves the entry where it is: it is looked at when its time
    /// has come, so that a renewal costs one write.
    queue: BTreeSet<(Served, Owner)>,
}

/// When a lease ends without another renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// How long the lease is.
    pub ttl: Duration,
    /// When it ends.
    pub end: Served,
    /// Under which time it is in the queue.
    queued: Served,
}

impl Deadline {
    /// When the lease was renewed last.
    pub fn renewed(self) -> Served {
        self.end.before(self.ttl)
    }
}

impl Deadlines {
    /// The deadline of a thread.
    pub fn get(&self, owner: &Owner) -> Option<Deadline> {
        if self.ends.is_empty() { None } else { self.ends.get(owner).copied() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A lease of this length ends then.
    pub fn set(&mut self, owner: &Owner, ttl: Duration, end: Served) {
        match self.ends.get_mut(owner) {
            Some(deadline) if deadline.queued <= end => {
                (deadline.ttl, deadline.end) = (ttl, end);
            }
            Some(deadline) => {
                self.queue.remove(&(deadline.queued, owner.clone()));
                self.queue.insert((end, owner.clone()));
                *deadline = Deadline { ttl, end, queued: end };
            }
            None => {
                self.queue.insert((end, owner.clone()));
                self.ends.insert(owner.clone(), Deadline { ttl, end, queued: end });
            }
        }
    }

    /// A thread has no lease any more.
    pub fn remove(&mut self, owner: &Owner) {
        if let Some(deadline) = self.ends.remove(owner) {
            self.queue.remove(&(deadline.queued, owner.clone()));
        }
    }

    /// Not later than the first end. Nothing if there is no lease.
    pub fn first(&self) -> Option<Served> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Threads whose lease has ended by `until`, about in the order of their ends. Looks at no more than
    /// `max`, and puts those that were renewed where they now belong; an empty answer may mean that it
    /// only met such, so ask [`first`](Self::first) whether more is due. Those that are due stay until
    /// they are [removed](Self::remove).
    pub fn due(&mut self, until: Served, max: usize) -> Vec<Owner> {
        let front = self.queue.iter().take_while(|(at, _)| *at <= until).take(max);
        let front: Vec<_> = front.cloned().collect();
        let mut due = Vec::new();
        for (queued, owner) in front {
            match self.ends.get_mut(&owner) {
                Some(deadline) if deadline.end <= until => due.push(owner),
                Some(deadline) => {
                    deadline.queued = deadline.end;
                    let end = deadline.end;
                    self.queue.remove(&(queued, owner.clone()));
                    self.queue.insert((end, owner));
                }
                None => drop(self.queue.remove(&(queued, owner))),
            }
        }
        due
    }

    /// Those after `after`, in order.
    pub(super) fn after(&self, after: Bound<&Owner>) -> impl Iterator<Item = &Owner> {
        self.ends.range::<Owner, _>((after, Bound::Unbounded)).map(|(owner, _)| owner)
    }
}
