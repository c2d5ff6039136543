//! Threads: renewing their leases, looking at them, and ending them. Ours: the engine's threads live and
//! die with their process.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Bound;
use std::time::Duration;

use crate::domain::call::{Call, Refused, Stamp, room_for_leases};
use crate::domain::event::{HowReset, SessionEvent};
use crate::domain::id::{Owner, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::lease::Loss;
use crate::domain::lifecycle::Admission;
use crate::domain::limits::{EXPIRIES_AT_ONCE, HELD_NAMED_MAX, LOSSES_TOLD_MAX};
use crate::domain::queue::Awaited;
use crate::domain::request::{Answer, AnswerKind, Repeatable};
use crate::domain::session::LeaseView;

/// Renews the leases of threads, or begins them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    /// Which threads, at most [`limits::THREADS_PER_CALL_MAX`].
    ///
    /// [`limits::THREADS_PER_CALL_MAX`]: crate::domain::limits::THREADS_PER_CALL_MAX
    pub threads: Vec<ThreadId>,
    /// How long they live from now on without a renewal.
    pub ttl: Duration,
    /// Whether to name what they hold.
    pub include_held: bool,
}

/// A thread whose lease was renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub thread: ThreadId,
    /// How much of its lease is left.
    pub remaining: Duration,
    /// How many sessions it holds.
    pub held_count: usize,
    /// The first of them, if they were asked for; of all threads together no more than a thousand.
    pub held: Vec<SessionId>,
    /// What it lost of late without letting it go, oldest first.
    pub lost: Vec<Loss>,
}

impl Call for KeepAlive {
    /// One for each thread that was named, in that order.
    type Answer = Vec<Kept>;
    type Refusal = Infallible;
    const ADMISSION: Admission = Admission::LetsGo;

    /// A lease is recorded where its thread holds something, and then only what is new about it.
    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<Infallible>> {
        // A set: one that is named twice has one lease.
        let owners: BTreeSet<_> = self.threads.iter().map(|thread| stamp.owner(thread)).collect();
        let new = owners.iter().filter(|owner| instance.deadlines.get(owner).is_none()).count();
        room_for_leases(instance, new)?;
        let threads = instance.table.threads();
        let (ttl, since) = (self.ttl, stamp.served);
        let news = owners.into_iter().filter(|owner| match threads.lease(owner) {
            Some(lease) => lease.ttl != ttl || lease.starts > 0,
            None => instance.table.held_count(owner) > 0,
        });
        Ok(news.map(|owner| SessionEvent::LeaseSet { owner, ttl, since }).collect())
    }

    fn renewals(&self, _: &Instance, stamp: &Stamp) -> Vec<(Owner, Duration)> {
        self.threads.iter().map(|thread| (stamp.owner(thread), self.ttl)).collect()
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> Vec<Kept> {
        let (table, threads) = (&instance.table, instance.table.threads());
        let remembered = |thread: &ThreadId| threads.get(&stamp.owner(thread));
        let losses = |thread| remembered(thread).map_or(0, |thread| thread.losses.len());
        let told = losses_told(self.threads.iter().map(losses));
        let mut room = if self.include_held { HELD_NAMED_MAX } else { 0 };
        let mut kept = |thread: &ThreadId| {
            let owner = stamp.owner(thread);
            let held = table.held(&owner, room);
            room -= held.len();
            let losses = remembered(thread).into_iter().flat_map(|it| it.losses.iter().rev());
            let lost = losses.filter(|loss| loss.told_until >= stamp.now).take(told);
            let mut lost: Vec<_> = lost.cloned().collect();
            lost.reverse();
            let held_count = table.held_count(&owner);
            Kept { thread: thread.clone(), remaining: self.ttl, held_count, held, lost }
        };
        self.threads.iter().map(&mut kept).collect()
    }
}

/// How many losses of each thread are told, the youngest of them, so that all together are not too many.
pub fn losses_told(counts: impl ExactSizeIterator<Item = usize>) -> usize {
    let threads = counts.len().max(1);
    if counts.sum::<usize>() <= LOSSES_TOLD_MAX {
        LOSSES_TOLD_MAX
    } else {
        LOSSES_TOLD_MAX / threads
    }
}

/// What one thread of the caller has, holds and waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetThread {
    /// Which.
    pub thread: ThreadId,
}

/// A thread as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadView {
    /// Which.
    pub owner: Owner,
    /// Its lease, if it has one.
    pub lease: Option<LeaseView>,
    /// How many sessions it holds.
    pub held_count: usize,
    /// The first of them.
    pub held: Vec<SessionId>,
    /// What it waits for.
    pub waiting_for: Vec<Awaited>,
}

impl ThreadView {
    fn of(owner: Owner, instance: &Instance, stamp: &Stamp) -> Self {
        let lease = instance.deadlines.get(&owner).map(|deadline| LeaseView {
            ttl: deadline.ttl,
            remaining: stamp.served.until(deadline.end),
        });
        let waiters = instance.queue.of_thread(&owner).take(HELD_NAMED_MAX);
        Self {
            lease,
            held_count: instance.table.held_count(&owner),
            held: instance.table.held(&owner, HELD_NAMED_MAX),
            waiting_for: waiters.map(|waiter| waiter.awaited.clone()).collect(),
            owner,
        }
    }
}

impl Call for GetThread {
    type Answer = ThreadView;
    type Refusal = Infallible;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(&self, _: &Instance, _: &Stamp) -> Result<Vec<SessionEvent>, Refused<Infallible>> {
        Ok(Vec::new())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> ThreadView {
        ThreadView::of(stamp.owner(&self.thread), instance, stamp)
    }
}

/// Threads of all principals that have a lease, hold something or wait, in order, a page at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListThreads {
    /// The last one seen on the page before.
    pub after: Option<Owner>,
    /// How many at most.
    pub count: usize,
}

impl Call for ListThreads {
    type Answer = Vec<ThreadView>;
    type Refusal = Infallible;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(&self, _: &Instance, _: &Stamp) -> Result<Vec<SessionEvent>, Refused<Infallible>> {
        Ok(Vec::new())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> Vec<ThreadView> {
        let after = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = BTreeSet::from_iter(instance.table.holders(after, self.count));
        found.extend(instance.deadlines.after(after).take(self.count).cloned());
        found.extend(instance.queue.after(after).take(self.count).cloned());
        let found = found.into_iter().take(self.count);
        found.map(|owner| ThreadView::of(owner, instance, stamp)).collect()
    }
}

/// Ends threads: resets all they hold and drops their leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndThreads {
    /// Which, at most [`limits::THREADS_PER_CALL_MAX`].
    ///
    /// [`limits::THREADS_PER_CALL_MAX`]: crate::domain::limits::THREADS_PER_CALL_MAX
    pub threads: Vec<ThreadId>,
}

/// Whether threads have ended, or still hold something: then the call is to be made again. One call makes
/// a bounded number of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// They hold nothing and have no lease.
    Ended,
    /// There is more to reset.
    More,
}

impl Call for EndThreads {
    type Answer = Ending;
    type Refusal = Infallible;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<Infallible>> {
        let mut events = Vec::new();
        let threads: BTreeSet<_> = self.threads.iter().collect();
        for owner in threads.into_iter().map(|thread| stamp.owner(thread)) {
            let room = EXPIRIES_AT_ONCE.saturating_sub(events.len());
            let held = instance.table.held(&owner, room);
            let all = held.len() == instance.table.held_count(&owner);
            let reset = |session| SessionEvent::ContextReset { session, how: HowReset::ByHolder };
            events.extend(held.into_iter().map(reset));
            if all && instance.table.threads().lease(&owner).is_some() {
                events.push(SessionEvent::LeaseEnded { owner });
            }
        }
        Ok(events)
    }

    fn ends(&self, stamp: &Stamp) -> Vec<Owner> {
        self.threads.iter().map(|thread| stamp.owner(thread)).collect()
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> Ending {
        let holds = |thread| instance.table.held_count(&stamp.owner(thread)) > 0;
        if self.threads.iter().any(holds) { Ending::More } else { Ending::Ended }
    }
}

/// None of these is remembered: looking changes nothing, renewing and ending may be repeated.
macro_rules! not_repeatable {
    ($($answer:ty),+) => {$(
        impl Repeatable for $answer {
            fn kind(&self) -> Option<AnswerKind> {
                None
            }

            fn repeated(_: &Answer) -> Option<Self> {
                None
            }
        }
    )+};
}

not_repeatable!(Vec<Kept>, ThreadView, Vec<ThreadView>, Ending);
