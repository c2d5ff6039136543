//! Pools: sessions that are told apart only by their labels. Claiming any free one is the second use that
//! the page of `JetSetSessionContext` names: allocating sessions from a pool.

use std::time::Duration;

use crate::domain::call::context::CONTEXT_RULE;
use crate::domain::call::session::BeginSessionRefusal;
use crate::domain::call::{Call, Refused, Stamp, lease_for_taking, shown};
use crate::domain::event::SessionEvent;
use crate::domain::id::{ContextValue, Labels, Owner, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Admission;
use crate::domain::queue::{Awaited, Waiter};
use crate::domain::refusal::{Facts, Refusal};
use crate::domain::session::SessionView;

/// Many sessions at once, all with the same labels: all of them begin, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchBeginSessions {
    /// How many, at most [`limits::BATCH_BEGIN_MAX`].
    ///
    /// [`limits::BATCH_BEGIN_MAX`]: crate::domain::limits::BATCH_BEGIN_MAX
    pub count: u32,
    /// How people find them.
    pub labels: Labels,
}

impl Call for BatchBeginSessions {
    type Answer = Vec<SessionView>;
    type Refusal = BeginSessionRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        _: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<BeginSessionRefusal>> {
        let max = instance.record.max_sessions;
        let out = Refused::Call(BeginSessionRefusal::OutOfSessions(max));
        let after =
            u32::try_from(instance.table.len()).ok().and_then(|n| n.checked_add(self.count));
        if after.is_none_or(|after| after > max) {
            return Err(out);
        }
        let first = instance.table.next_sesid().ok_or(out.clone())?.get();
        let last = first + u64::from(self.count) - 1;
        if !instance.table.has_sesids_up_to(last) {
            return Err(out);
        }
        let began = |session| SessionEvent::Began { session, labels: self.labels.clone() };
        Ok((first..=last).filter_map(SessionId::new).map(began).collect())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> Vec<SessionView> {
        let newest = instance.table.newest().map_or(0, |newest| newest.id.get());
        let before = SessionId::new(newest.saturating_sub(u64::from(self.count)));
        let begun = instance.table.after(before).cloned();
        begun.map(|session| instance.view(session, stamp.served)).collect()
    }
}

/// Sets a context on whichever session of a pool has been free longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimContext {
    /// What the sessions of the pool have in common; all sessions if empty.
    pub labels: Labels,
    /// The thread that wants one.
    pub thread: ThreadId,
    /// The word, not yet judged.
    pub context: u64,
    /// Whether to wait if none is free.
    pub wait: bool,
    /// Puts all that the thread holds under a lease of this length.
    pub lease: Option<Duration>,
}

/// Why a claim is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// The word is one of the two reserved ones.
    ReservedContext,
    /// No session of the pool is free.
    NoneFree {
        /// How many it has.
        pool_size: usize,
        /// How many calls wait for one.
        waiting: usize,
    },
}

impl Call for ClaimContext {
    /// The session that was free, with its new binding.
    type Answer = SessionView;
    type Refusal = ClaimRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<ClaimRefusal>> {
        let context =
            ContextValue::new(self.context).ok_or(Refused::Call(ClaimRefusal::ReservedContext))?;
        let (pool_size, free) = instance.table.pool(&self.labels);
        let Some(session) = free else {
            let waiting = instance.queue.len_of(&Awaited::Pool(self.labels.clone()));
            return Err(Refused::Call(ClaimRefusal::NoneFree { pool_size, waiting }));
        };
        let owner = stamp.owner(&self.thread);
        let mut events = Vec::with_capacity(2);
        events.extend(lease_for_taking(instance, stamp, &owner, self.lease)?);
        events.push(SessionEvent::ContextSet { session, owner, context });
        Ok(events)
    }

    fn renewals(&self, _: &Instance, stamp: &Stamp) -> Vec<(Owner, Duration)> {
        self.lease.map(|ttl| (stamp.owner(&self.thread), ttl)).into_iter().collect()
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionView {
        let claimed = instance.touched.expect("a session has just been claimed");
        shown(instance, claimed, stamp)
    }

    fn waiter(&self, refusal: &ClaimRefusal, stamp: &Stamp) -> Option<Waiter> {
        match refusal {
            ClaimRefusal::NoneFree { pool_size: 1.., .. } if self.wait => Some(Waiter {
                owner: stamp.owner(&self.thread),
                context: self.context,
                lease: self.lease,
                awaited: Awaited::Pool(self.labels.clone()),
            }),
            ClaimRefusal::NoneFree { .. } | ClaimRefusal::ReservedContext => None,
        }
    }
}

impl Refusal for ClaimRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::ReservedContext => JetErr::InvalidParameter,
            Self::NoneFree { .. } => JetErr::SessionContextAlreadySet,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::ReservedContext => {
                Facts { field: Some(("context", CONTEXT_RULE)), ..Facts::default() }
            }
            Self::NoneFree { pool_size, waiting } => Facts {
                pool_size: Some(*pool_size),
                queue_length: Some(*waiting),
                ..Facts::default()
            },
        }
    }
}
