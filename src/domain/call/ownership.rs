//! Handing a session over, asking who holds it, and taking it away. Ours: the engine has neither tokens
//! nor operators.

use std::time::Duration;

use crate::domain::call::context::{ResetContextRefusal, held_by};
use crate::domain::call::{Call, Refused, Stamp, existing, lease_for_taking, shown, touched};
use crate::domain::event::{HowReset, SessionEvent};
use crate::domain::id::{Owner, Principal, Reason, Revision, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::lifecycle::Admission;
use crate::domain::session::SessionView;

/// Hands a session over to another thread: one event, the word stays, and nobody comes in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferContext {
    /// Which session.
    pub session: SessionId,
    /// The thread that holds it.
    pub thread: ThreadId,
    /// The token that its holder was given, if it is to be checked.
    pub token: Option<Revision>,
    /// The thread that is to hold it.
    pub to_thread: ThreadId,
    /// Whose thread that is; the caller's own if absent.
    pub to_principal: Option<Principal>,
}

impl TransferContext {
    /// The successor.
    pub fn to(&self, stamp: &Stamp) -> Owner {
        let principal = self.to_principal.as_ref().unwrap_or(&stamp.by);
        Owner::new(principal.clone(), self.to_thread.clone())
    }

    /// The lease that the successor wants: that of its waiting Set, if this transfer answers one.
    fn wanted(&self, instance: &Instance, to: &Owner) -> Option<Duration> {
        if instance.queue.is_empty() {
            return None;
        }
        instance.queue.waiter(instance.heirs(self.session, to).first?)?.lease
    }
}

impl Call for TransferContext {
    /// The fencing token of the successor.
    type Answer = Revision;
    type Refusal = ResetContextRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<ResetContextRefusal>> {
        let session = existing(instance, self.session)?;
        let is_caller = |owner: &Owner| stamp.is(owner, &self.thread);
        held_by(session, is_caller, self.token, (instance, stamp)).map_err(Refused::Call)?;
        let to = self.to(stamp);
        let mut events = Vec::with_capacity(2);
        let wanted = self.wanted(instance, &to);
        events.extend(lease_for_taking(instance, stamp, &to, wanted)?);
        events.push(SessionEvent::ContextTransferred { session: self.session, to });
        Ok(events)
    }

    fn renewals(&self, instance: &Instance, stamp: &Stamp) -> Vec<(Owner, Duration)> {
        let to = self.to(stamp);
        self.wanted(instance, &to).map(|ttl| (to, ttl)).into_iter().collect()
    }

    fn answer(&self, instance: &Instance, _: &Stamp) -> Revision {
        touched(instance, self.session).revision
    }
}

/// Whether a thread holds a session under this token now. Whoever guards a resource may ask, so the
/// principal plays no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckContext {
    /// Which session.
    pub session: SessionId,
    /// The thread that is said to hold it.
    pub thread: ThreadId,
    /// The token that it shows.
    pub token: Revision,
}

impl Call for CheckContext {
    type Answer = SessionView;
    type Refusal = ResetContextRefusal;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<ResetContextRefusal>> {
        let session = existing(instance, self.session)?;
        let is_holder = |owner: &Owner| *owner.thread() == self.thread;
        held_by(session, is_holder, Some(self.token), (instance, stamp)).map_err(Refused::Call)?;
        Ok(Vec::new())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionView {
        shown(instance, self.session, stamp)
    }
}

/// Takes a session from whoever holds it. For operators, who say why and which holder they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForceReset {
    /// Which session.
    pub session: SessionId,
    /// The token of the holder that is meant: another one may have come since the operator looked.
    pub token: Revision,
    /// Why, for the one who loses it.
    pub reason: Reason,
}

impl Call for ForceReset {
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
        // Whoever holds it is meant. Nobody holds an unbound session, whatever token is shown: that is not
        // a stale one.
        let holder = session.binding();
        let is_holder = |owner: &Owner| holder.is_some_and(|binding| binding.owner == *owner);
        let token = holder.map(|_| self.token);
        held_by(session, is_holder, token, (instance, stamp)).map_err(Refused::Call)?;
        let how = HowReset::Forced(self.reason.clone());
        Ok(vec![SessionEvent::ContextReset { session: self.session, how }])
    }

    fn answer(&self, instance: &Instance, _: &Stamp) -> Revision {
        touched(instance, self.session).revision
    }
}
