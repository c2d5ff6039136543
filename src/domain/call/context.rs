//! Taking a session and letting it go: `JetSetSessionContext` and `JetResetSessionContext`.

use crate::domain::call::{Call, Refused, Stamp, existing, touched};
use crate::domain::event::SessionEvent;
use crate::domain::id::{ContextValue, Revision, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Admission;
use crate::domain::refusal::{Cause, Facts, Holder, Refusal};
use crate::domain::session::{Context, Session};
use crate::domain::table::SessionTable;

/// `JetSetSessionContext`: put a context on a session, which claims it for the thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetContext {
    /// Which session.
    pub session: SessionId,
    /// The thread that wants it.
    pub thread: ThreadId,
    /// The word, not yet judged: a session that does not exist is the graver mistake.
    pub context: u64,
}

/// Why `JetSetSessionContext` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetContextRefusal {
    /// The word is one of the two reserved ones.
    ReservedContext,
    /// A context is set, whoever set it and whatever word: not re-entrant, not counted.
    AlreadySet(Holder),
}

/// The rule for a context word, as told to a client.
pub const CONTEXT_RULE: &str = "a context is a 64-bit word other than 0 and 18446744073709551615";

impl Call for SetContext {
    /// The session with its new binding, whose token fences off earlier holders.
    type Answer = Session;
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
            return Err(Refused::Call(SetContextRefusal::AlreadySet(Holder::of(
                binding, stamp.now,
            ))));
        }
        let owner = stamp.owner(&self.thread);
        Ok(vec![SessionEvent::ContextSet { session: self.session, owner, context }])
    }

    fn answer(&self, table: &SessionTable) -> Session {
        touched(table, self.session)
    }
}

impl Refusal for SetContextRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::ReservedContext => JetErr::InvalidParameter,
            Self::AlreadySet(_) => JetErr::SessionContextAlreadySet,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::ReservedContext => {
                Facts { field: Some(("context", CONTEXT_RULE)), ..Facts::default() }
            }
            Self::AlreadySet(holder) => Facts { holder: Some(holder.clone()), ..Facts::default() },
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
        use ResetContextRefusal::{NotSetByThisThread, StaleToken};
        let session = existing(instance, self.session)?;
        let held_as = |token| self.token.is_none_or(|shown| Some(shown) == token);
        let (current, refusal) = match &session.context {
            Context::Set(binding) => {
                let mine = stamp.is(&binding.owner, &self.thread);
                if mine && held_as(Some(binding.token)) {
                    return Ok(vec![SessionEvent::ContextReset { session: self.session }]);
                }
                (Some(binding.token), NotHeld::Held(Holder::of(binding, stamp.now)))
            }
            Context::NeverSet => (None, NotHeld::NeverSet),
            Context::Reset => (None, NotHeld::AlreadyReset),
        };
        Err(Refused::Call(if held_as(current) {
            NotSetByThisThread(refusal)
        } else {
            StaleToken(refusal)
        }))
    }

    fn answer(&self, table: &SessionTable) -> Revision {
        touched(table, self.session).revision
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
        match self {
            Self::NotSetByThisThread(how) => how.facts(),
            // The holder itself may show an old token, so "held by other" is not what is wrong.
            Self::StaleToken(NotHeld::Held(holder)) => {
                Facts { stale_token: true, holder: Some(holder.clone()), ..Facts::default() }
            }
            Self::StaleToken(how) => Facts { stale_token: true, ..how.facts() },
        }
    }
}

impl NotHeld {
    fn facts(&self) -> Facts {
        let (cause, holder) = match self {
            Self::NeverSet => (Cause::NeverSet, None),
            Self::AlreadyReset => (Cause::AlreadyReset, None),
            Self::Held(holder) => (Cause::HeldByOther, Some(holder.clone())),
        };
        Facts { cause: Some(cause), holder, ..Facts::default() }
    }
}
