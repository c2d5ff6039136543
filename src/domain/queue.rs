//! Who waits for which session, in the order in which they came.
//!
//! A Set waits for its session, a claim for any session of a pool. Whoever frees a session gives it to
//! the one that has waited longest among both, so nobody is overtaken. The queue is not part of what is
//! remembered: a call that waits ends with the server that it asked.

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::domain::call::QueueLimit;
use crate::domain::id::{Labels, Owner, SessionId};
use crate::domain::limits::{WAITERS_PER_POOL_MAX, WAITERS_PER_SESSION_MAX};

/// A place in the queue. Lower ones came earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(u64);

/// What a call waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// This session.
    Session(SessionId),
    /// Any session with all these labels.
    Pool(Labels),
}

/// A call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// On behalf of which thread.
    pub owner: Owner,
    /// The word that it wants to set.
    pub context: u64,
    /// The lease that it wants its thread to have.
    pub lease: Option<Duration>,
    /// What it waits for.
    pub awaited: Awaited,
}

/// Everybody who waits for sessions of one instance.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    next: Ticket,
    waiters: BTreeMap<Ticket, Waiter>,
    sessions: BTreeMap<SessionId, BTreeSet<Ticket>>,
    pools: BTreeMap<Labels, BTreeSet<Ticket>>,
    owners: BTreeMap<Owner, BTreeSet<Ticket>>,
}

impl Queue {
    /// Takes the last place.
    pub fn join(&mut self, waiter: Waiter) -> Ticket {
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        match &waiter.awaited {
            Awaited::Session(session) => {
                self.sessions.entry(*session).or_default().insert(ticket);
            }
            Awaited::Pool(labels) => {
                self.pools.entry(labels.clone()).or_default().insert(ticket);
            }
        }
        self.owners.entry(waiter.owner.clone()).or_default().insert(ticket);
        self.waiters.insert(ticket, waiter);
        ticket
    }

    /// Whether one more may wait for this.
    pub fn room_for(&self, awaited: &Awaited) -> Result<(), QueueLimit> {
        let (max, limit) = match awaited {
            Awaited::Session(_) => (WAITERS_PER_SESSION_MAX, QueueLimit::Session),
            Awaited::Pool(_) => (WAITERS_PER_POOL_MAX, QueueLimit::Pool),
        };
        if self.len_of(awaited) < max { Ok(()) } else { Err(limit) }
    }

    /// Gives a place up, and tells who had it.
    pub fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiters.remove(&ticket)?;
        match &waiter.awaited {
            Awaited::Session(session) => take(self.sessions.entry(*session), ticket),
            Awaited::Pool(labels) => take(self.pools.entry(labels.clone()), ticket),
        }
        take(self.owners.entry(waiter.owner.clone()), ticket);
        Some(waiter)
    }

    /// Who has this place.
    pub fn waiter(&self, ticket: Ticket) -> Option<&Waiter> {
        self.waiters.get(&ticket)
    }

    /// Who has waited longest for this session, which is free: for it alone, or, if it is at level 0, for
    /// any of a pool that it belongs to.
    pub fn first(&self, session: SessionId, labels: &Labels, at_level_0: bool) -> Option<Ticket> {
        if self.waiters.is_empty() {
            return None;
        }
        let own = self.sessions.get(&session).and_then(BTreeSet::first);
        let pools = self.pools.iter().filter(|(wanted, _)| at_level_0 && labels.contain(wanted));
        let pool = pools.filter_map(|(_, tickets)| tickets.first()).min();
        own.into_iter().chain(pool).min().copied()
    }

    /// Those who wait for this session alone, in order.
    pub fn of_session(&self, session: SessionId) -> impl Iterator<Item = (Ticket, &Waiter)> {
        let tickets = self.sessions.get(&session).into_iter().flatten();
        tickets.filter_map(|ticket| Some((*ticket, self.waiters.get(ticket)?)))
    }

    /// Those who wait for pools of which `which` is true, pool by pool.
    pub fn of_pools(&self, which: impl Fn(&Labels) -> bool) -> Vec<Ticket> {
        let pools = self.pools.iter().filter(|(labels, _)| which(labels));
        pools.flat_map(|(_, tickets)| tickets).copied().collect()
    }

    /// Those of one thread, in order.
    pub fn of_thread(&self, owner: &Owner) -> impl Iterator<Item = &Waiter> {
        let tickets = self.owners.get(owner).into_iter().flatten();
        tickets.filter_map(|ticket| self.waiters.get(ticket))
    }

    /// How many wait for what this call would wait for.
    pub fn len_of(&self, awaited: &Awaited) -> usize {
        match awaited {
            Awaited::Session(session) => self.sessions.get(session).map_or(0, BTreeSet::len),
            Awaited::Pool(labels) => self.pools.get(labels).map_or(0, BTreeSet::len),
        }
    }

    /// How many wait for this session alone.
    pub fn waiting_for(&self, session: SessionId) -> u32 {
        let waiting = self.sessions.get(&session).map_or(0, BTreeSet::len);
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Threads after `after` that wait, in order.
    pub(super) fn after(&self, after: Bound<&Owner>) -> impl Iterator<Item = &Owner> {
        self.owners.range::<Owner, _>((after, Bound::Unbounded)).map(|(owner, _)| owner)
    }
}

fn take<K: Ord>(entry: Entry<'_, K, BTreeSet<Ticket>>, ticket: Ticket) {
    if let Entry::Occupied(mut tickets) = entry {
        tickets.get_mut().remove(&ticket);
        if tickets.get().is_empty() {
            tickets.remove();
        }
    }
}
