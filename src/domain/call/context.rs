//! Taking a session and letting it go: `JetSetSessionContext` and `JetResetSessionContext`.

use std::time::Duration;

use crate::domain::call::{Call, Refused, Stamp, existing, lease_for_taking, shown, touched};
use crate::domain::event::{HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Owner, Revision, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Admission;
use crate::domain::limits::RETRY_AFTER_MS_MIN;
use crate::domain::queue::{Awaited, Waiter};
use crate::domain::refusal::{Cause, Facts, Holder, Losing, Ours, Refusal, Retry};
use crate::domain::session::{Binding, Context, HowLost, Lost, Session, SessionView};

/// `JetSetSessionContext`: put a context on a session, which claims it for the thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetContext {
    /// Which session.
    pub session: SessionId,
    /// The thread that wants it.
    pub thread: ThreadId,
    /// The word, not yet judged: a session that does not exist is the graver mistake.
    pub context: u64,
    /// Whether to wait for a session that is held. Ours; absent in the engine.
    pub wait: bool,
    /// Puts all that the thread holds under a lease of this length. Ours; absent in the engine.
    pub lease: Option<Duration>,
}

impl SetContext {
    /// As in the engine: without waiting, and for as long as the thread likes.
    pub fn new(session: SessionId, thread: ThreadId, context: u64) -> Self {
        Self { session, thread, context, wait: false, lease: None }
    }
}

/// Why `JetSetSessionContext` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetContextRefusal {
    /// The word is one of the two reserved ones.
    ReservedContext,
    /// A context is set, whoever set it and whatever word: not re-entrant, not counted. So many calls
    /// wait for the session.
    AlreadySet(Holder, usize),
}

/// The rule for a context word, as told to a client.
pub const CONTEXT_RULE: &str = "a context is a 64-bit word other than 0 and 18446744073709551615";

impl Call for SetContext {
    /// The session with its new binding, whose token fences off earlier holders.
    type Answer = SessionView;
    type Refusal = SetContextRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<SetContextRefusal>> {
        let session = existing(instance, self.session)?;
        let context = ContextValue::new(self.context)
            .ok_or(Refused::Call(SetContextRefusal::ReservedContext))?;
        if let Some(binding) = session.binding() {
            let holder = Holder::of(binding, instance, stamp);
            let waiting = instance.queue.len_of(&Awaited::Session(self.session));
            return Err(Refused::Call(SetContextRefusal::AlreadySet(holder, waiting)));
        }
        let owner = stamp.owner(&self.thread);
        let mut events = Vec::with_capacity(2);
        events.extend(lease_for_taking(instance, stamp, &owner, self.lease)?);
        events.push(SessionEvent::ContextSet { session: self.session, owner, context });
        Ok(events)
    }

    fn renewals(&self, _: &Instance, stamp: &Stamp) -> Vec<(Owner, Duration)> {
        self.lease.map(|ttl| (stamp.owner(&self.thread), ttl)).into_iter().collect()
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionView {
        shown(instance, self.session, stamp)
    }

    fn waiter(&self, refusal: &SetContextRefusal, stamp: &Stamp) -> Option<Waiter> {
        match refusal {
            SetContextRefusal::AlreadySet(..) if self.wait => Some(Waiter {
                owner: stamp.owner(&self.thread),
                context: self.context,
                lease: self.lease,
                awaited: Awaited::Session(self.session),
            }),
            SetContextRefusal::AlreadySet(..) | SetContextRefusal::ReservedContext => None,
        }
    }
}

impl Refusal for SetContextRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::ReservedContext => JetErr::InvalidParameter,
            Self::AlreadySet(..) => JetErr::SessionContextAlreadySet,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::ReservedContext => {
                Facts { field: Some(("context", CONTEXT_RULE)), ..Facts::default() }
            }
            Self::AlreadySet(holder, waiting) => Facts {
                holder: Some(holder.clone()),
                queue_length: Some(*waiting),
                // A lease may be renewed, so its end is a good moment to ask and no promise. One that is
                // over is about to be taken away.
                retry: holder.lease_remaining.map_or(Retry::No, |remaining| {
                    Retry::After(remaining.max(Duration::from_millis(RETRY_AFTER_MS_MIN)))
                }),
                ..Facts::default()
            },
        }
    }
}

/// `JetResetSessionContext`: let a session go. Only the thread that set the context can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetContext {
    /// Which session.
    pub session: SessionId,
    /// The thread that set its context.
    pub thread: ThreadId,
    /// The token that Set answered, if the caller wants it checked. Ours; absent in the engine.
    pub token: Option<Revision>,
}

/// Why `JetResetSessionContext` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetContextRefusal {
    /// The calling thread holds no context here.
    NotSetByThisThread(NotHeld),
    /// The token is not that of the binding that is in force, if one is.
    StaleToken(NotHeld),
}

/// How a thread does not hold a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHeld {
    /// Nobody ever did.
    NeverSet,
    /// Nobody does any more.
    AlreadyReset,
    /// Somebody else does, or the caller does under a newer token.
    Held(Holder),
    /// The caller was the last to hold it and lost it; whoever does so now, if anybody does.
    Lost(Lost, Option<Holder>),
}

/// The binding of a session, if this thread holds it and shows the right token or none; else why that
/// is not so.
pub(super) fn held_by<'a>(
    session: &'a Session,
    is_caller: impl Fn(&Owner) -> bool,
    token: Option<Revision>,
    (instance, stamp): (&Instance, &Stamp),
) -> Result<&'a Binding, ResetContextRefusal> {
    let shows = |current: Option<Revision>| token.is_none_or(|shown| Some(shown) == current);
    let lost = session.lost().filter(|lost| is_caller(&lost.owner));
    let (current, refusal) = match &session.context {
        Context::Set(binding) => {
            let mine = is_caller(&binding.owner);
            if mine && shows(Some(binding.token)) {
                return Ok(binding);
            }
            let holder = Holder::of(binding, instance, stamp);
            let refusal = match lost {
                Some(lost) if !mine => NotHeld::Lost(lost.clone(), Some(holder)),
                Some(_) | None => NotHeld::Held(holder),
            };
            (Some(binding.token), refusal)
        }
        Context::NeverSet => (None, NotHeld::NeverSet),
        Context::Reset => {
            let lost = lost.map(|lost| NotHeld::Lost(lost.clone(), None));
            (None, lost.unwrap_or(NotHeld::AlreadyReset))
        }
    };
    Err(if shows(current) {
        ResetContextRefusal::NotSetByThisThread(refusal)
    } else {
        ResetContextRefusal::StaleToken(refusal)
    })
}

impl Call for ResetContext {
    /// The revision of the event that reset the context.
    type Answer = Revision;
    type Refusal = ResetContextRefusal;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<ResetContextRefusal>> {
        let session = existing(instance, self.session)?;
        let is_caller = |owner: &Owner| stamp.is(owner, &self.thread);
        held_by(session, is_caller, self.token, (instance, stamp)).map_err(Refused::Call)?;
        let how = HowReset::ByHolder;
        Ok(vec![SessionEvent::ContextReset { session: self.session, how }])
    }

    fn answer(&self, instance: &Instance, _: &Stamp) -> Revision {
        touched(instance, self.session).revision
    }
}

impl Refusal for ResetContextRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::NotSetByThisThread(_) | Self::StaleToken(_) => {
                JetErr::SessionContextNotSetByThisThread
            }
        }
    }

    fn facts(&self) -> Facts {
        let ours = Some(Ours::StaleToken);
        match self {
            Self::NotSetByThisThread(how) => how.facts(),
            // The holder itself may show an old token, so "held by other" is not what is wrong.
            Self::StaleToken(NotHeld::Held(holder)) => {
                Facts { ours, holder: Some(holder.clone()), ..Facts::default() }
            }
            Self::StaleToken(how) => Facts { ours, ..how.facts() },
        }
    }
}

impl NotHeld {
    pub(super) fn facts(&self) -> Facts {
        let (cause, holder, lost) = match self {
            Self::NeverSet => (Cause::NeverSet, None, None),
            Self::AlreadyReset => (Cause::AlreadyReset, None, None),
            Self::Held(holder) => (Cause::HeldByOther, Some(holder), None),
            Self::Lost(lost, holder) => {
                let cause = match lost.how {
                    HowLost::LeaseExpired => Cause::LeaseExpired,
                    HowLost::Forced(_) => Cause::Forced,
                    HowLost::Transferred => Cause::Transferred,
                };
                (cause, holder.as_ref(), Some(Losing::from(lost)))
            }
        };
        Facts { cause: Some(cause), holder: holder.cloned(), lost, ..Facts::default() }
    }
}
