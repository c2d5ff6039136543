//! What concerns a thread in all instances: its leases are renewed, shown and ended wherever they are.
//!
//! Every instance that is ready or stopped is asked, many at a time, and the answers are put together as
//! they come. What one that is neither would say does not count: nothing is held there that could be
//! lost, and no lease ends there. Whoever asks says in which scope: of the others nothing is touched and
//! nothing told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use crate::domain::access::Scope;
use crate::domain::call::Refused;
use crate::domain::call::thread::{
    EndThreads, Ending, GetThread, KeepAlive, Kept, ListThreads, ThreadView, losses_told,
};
use crate::domain::id::{InstanceId, Owner, Principal, SessionName, ThreadId};
use crate::domain::lease::Loss;
use crate::domain::lifecycle::Phase;
use crate::domain::limits::{
    HELD_NAMED_MAX, INSTANCES_ASKED_AT_ONCE, LOSSES_PER_THREAD_MAX, THREADS_LISTED_MAX,
};
use crate::domain::queue::Awaited;
use crate::domain::session::LeaseView;
use crate::engine::{Asker, Engine, Unanswered};

/// A thread whose leases were renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptThread {
    /// Which.
    pub thread: ThreadId,
    /// How much is left of the lease that ends first.
    pub remaining: Duration,
    /// How many sessions it holds.
    pub held_count: usize,
    /// The first of them, if they were asked for; of all threads together no more than a thousand.
    pub held: Vec<SessionName>,
    /// What it lost of late without letting it go, oldest first, and in which instance.
    pub lost: Vec<(InstanceId, Loss)>,
}

impl KeptThread {
    fn add(&mut self, instance: &InstanceId, kept: Kept) {
        self.remaining = self.remaining.min(kept.remaining);
        self.held_count += kept.held_count;
        let name = |session| SessionName { instance: instance.clone(), session };
        self.held.extend(kept.held.into_iter().map(name));
        self.lost.extend(kept.lost.into_iter().map(|loss| (instance.clone(), loss)));
    }
}

/// A thread as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Everywhere {
    /// Which.
    pub owner: Owner,
    /// The lease that ends first.
    pub lease: Option<LeaseView>,
    /// How many sessions it holds.
    pub held_count: usize,
    /// The first of them.
    pub held: Vec<SessionName>,
    /// What it waits for.
    pub waiting_for: Vec<WaitsFor>,
}

/// What a thread waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitsFor {
    /// This session.
    Session(SessionName),
    /// Any session of a pool of this instance.
    Pool(InstanceId),
}

impl Everywhere {
    /// A thread of which nothing is known.
    fn unknown(owner: Owner) -> Self {
        let (lease, held_count) = (None, 0);
        Self { owner, lease, held_count, held: Vec::new(), waiting_for: Vec::new() }
    }

    fn add(&mut self, instance: &InstanceId, view: ThreadView) {
        let leases = self.lease.into_iter().chain(view.lease);
        self.lease = leases.min_by_key(|lease| lease.remaining);
        self.held_count += view.held_count;
        let name = |session| SessionName { instance: instance.clone(), session };
        self.held.extend(view.held.into_iter().map(name));
        self.held.sort_unstable();
        self.held.truncate(HELD_NAMED_MAX);
        self.waiting_for.extend(view.waiting_for.into_iter().map(|awaited| match awaited {
            Awaited::Session(session) => WaitsFor::Session(name(session)),
            Awaited::Pool(_) => WaitsFor::Pool(instance.clone()),
        }));
        self.waiting_for.sort_unstable();
        self.waiting_for.dedup();
        self.waiting_for.truncate(HELD_NAMED_MAX);
    }
}

/// A page of threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPage {
    /// The threads, in order.
    pub threads: Vec<Everywhere>,
    /// Where the next page begins, if there may be more.
    pub next_after: Option<Owner>,
}

impl Engine {
    /// Renews the leases of threads, or begins them. A thread that is named twice is renewed twice.
    pub async fn keep_threads_alive(
        &self,
        by: &Principal,
        scope: &Scope,
        call: &KeepAlive,
    ) -> Result<Vec<KeptThread>, Unanswered<Refused<Infallible>>> {
        let unheld = |thread: &ThreadId| KeptThread {
            thread: thread.clone(),
            remaining: call.ttl,
            held_count: 0,
            held: Vec::new(),
            lost: Vec::new(),
        };
        let mut threads: Vec<_> = call.threads.iter().map(unheld).collect();
        let ask = |engine: Self, id| {
            let (asker, call) = (Asker::once(by.clone()), call.clone());
            async move { engine.ask(&id, asker, call).await }
        };
        let add = |id: &InstanceId, kept: Vec<Kept>| {
            for (thread, kept) in threads.iter_mut().zip(kept) {
                thread.add(id, kept);
            }
            keep_short(&mut threads);
        };
        self.everywhere(scope, ask, add).await?;
        Ok(threads)
    }

    /// What one of the caller's threads has, holds and waits for.
    pub async fn thread(
        &self,
        by: &Principal,
        scope: &Scope,
        thread: &ThreadId,
    ) -> Result<Everywhere, Unanswered<Refused<Infallible>>> {
        let mut found = Everywhere::unknown(Owner::new(by.clone(), thread.clone()));
        let ask = |engine: Self, id| {
            let (asker, call) = (Asker::once(by.clone()), GetThread { thread: thread.clone() });
            async move { engine.ask(&id, asker, call).await }
        };
        self.everywhere(scope, ask, |id, view| found.add(id, view)).await?;
        Ok(found)
    }

    /// Threads of all principals that have a lease, hold something or wait, in order: up to `count` after
    /// `after`, and fewer if so many are too much at a time.
    pub async fn threads(
        &self,
        by: &Principal,
        scope: &Scope,
        after: Option<Owner>,
        count: usize,
    ) -> Result<ThreadPage, Unanswered<Refused<Infallible>>> {
        let count = count.min(THREADS_LISTED_MAX);
        let mut found = Found { threads: BTreeMap::new(), count, whole_until: None };
        let ask = |engine: Self, id| {
            let (asker, call) =
                (Asker::once(by.clone()), ListThreads { after: after.clone(), count });
            async move { engine.ask(&id, asker, call).await }
        };
        self.everywhere(scope, ask, |id, views| found.add(id, views)).await?;
        let Found { threads, whole_until: next_after, .. } = found;
        Ok(ThreadPage { threads: threads.into_values().collect(), next_after })
    }

    /// Ends threads: resets all they hold and drops their leases.
    pub async fn end_threads(
        &self,
        by: &Principal,
        scope: &Scope,
        threads: &[ThreadId],
    ) -> Result<(), Unanswered<Refused<Infallible>>> {
        let ask = |engine: Self, id| {
            let (asker, call) = (Asker::once(by.clone()), EndThreads { threads: threads.to_vec() });
            // One call ends a bounded part of them, so that others have their turn.
            async move {
                while engine.ask(&id, asker.clone(), call.clone()).await? == Ending::More {}
                Ok(())
            }
        };
        self.everywhere(scope, ask, |_, ()| {}).await
    }

    /// Asks every instance of the scope that is ready or stopped, and adds up what they answer. All are asked, also if
    /// one of them refuses.
    async fn everywhere<T, R, F>(
        &self,
        scope: &Scope,
        ask: impl Fn(Self, InstanceId) -> F,
        mut add: impl FnMut(&InstanceId, T),
    ) -> Result<(), Unanswered<Refused<R>>>
    where
        F: Future<Output = Result<T, Unanswered<Refused<R>>>>,
    {
        let asked = self.serving(scope).into_iter().map(|id| {
            let answer = ask(self.clone(), id.clone());
            async move { (id, answer.await) }
        });
        let mut answers = stream::iter(asked).buffer_unordered(INSTANCES_ASKED_AT_ONCE);
        let mut refused = Ok(());
        while let Some((id, answer)) = answers.next().await {
            match answer {
                Ok(answer) => add(&id, answer),
                // It has left its phase since it was chosen.
                Err(
                    Unanswered::NoSuchInstance
                    | Unanswered::NotYet { .. }
                    | Unanswered::Refused(Refused::Phase(_)),
                ) => {}
                Err(refusal) => refused = Err(refusal),
            }
        }
        refused
    }

    /// The instances of the scope that answer about threads.
    fn serving(&self, scope: &Scope) -> Vec<InstanceId> {
        let instances = self.shared.instances.read().unwrap_or_else(PoisonError::into_inner);
        let serving = instances.iter().filter(|(_, handle)| match handle.view.borrow().phase {
            Phase::Ready | Phase::Stopped => true,
            Phase::Created
            | Phase::Initializing
            | Phase::Restoring
            | Phase::Terminating
            | Phase::Failed(_) => false,
        });
        serving.map(|(id, _)| id).filter(|id| scope.holds(id)).cloned().collect()
    }
}

/// Leaves out what is too much for one answer: names in the order of the threads, and old losses.
fn keep_short(threads: &mut [KeptThread]) {
    let mut room = HELD_NAMED_MAX;
    let told = losses_told(threads.iter().map(|thread| thread.lost.len()));
    for thread in threads {
        thread.held.sort_unstable();
        thread.held.truncate(room);
        room -= thread.held.len();
        thread.lost.sort_by_key(|(_, loss)| (loss.time, loss.token));
        let old = thread.lost.len().saturating_sub(told.min(LOSSES_PER_THREAD_MAX));
        thread.lost.drain(..old);
    }
}

/// Threads that were found so far.
struct Found {
    threads: BTreeMap<Owner, Everywhere>,
    /// How many are wanted.
    count: usize,
    /// Nothing is left out up to this one; nothing at all, if there is none.
    whole_until: Option<Owner>,
}

impl Found {
    /// Adds those that an instance knows: the first `count` of them.
    fn add(&mut self, instance: &InstanceId, views: Vec<ThreadView>) {
        if views.len() == self.count {
            self.end_at(views.last().map(|last| last.owner.clone()));
        }
        for view in views {
            let unknown = || Everywhere::unknown(view.owner.clone());
            let thread = self.threads.entry(view.owner.clone()).or_insert_with(unknown);
            thread.add(instance, view);
        }
        let too_many = self.threads.len() > self.count;
        let last =
            self.threads.keys().nth(self.count.saturating_sub(1)).filter(|_| too_many).cloned();
        self.end_at(last);
    }

    /// Leaves out what comes after this one, if there is such a one.
    fn end_at(&mut self, last: Option<Owner>) {
        let ends = self.whole_until.take().into_iter().chain(last);
        self.whole_until = ends.min();
        if let Some(last) = &self.whole_until {
            self.threads.retain(|owner, _| owner <= last);
        }
    }
}
