//! Beginning, ending and looking at sessions: `JetBeginSession`, `JetDupSession`, `JetEndSession`,
//! `JetGetSessionInfo`.

use std::convert::Infallible;

use crate::domain::call::{Call, Refused, Stamp, existing, shown};
use crate::domain::event::SessionEvent;
use crate::domain::id::{Labels, Owner, Reason, SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Admission;
use crate::domain::limits::LIST_SCAN_MAX;
use crate::domain::refusal::{Facts, Holder, Quota, Refusal};
use crate::domain::request::{Answer, AnswerKind, Repeatable};
use crate::domain::session::{Session, SessionView, Transaction, TransactionOwner};

/// `JetBeginSession`: a new session at level 0 without a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginSession {
    /// How people find it.
    pub labels: Labels,
}

/// `JetDupSession`: a new session on the instance of another one; inherits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateSession {
    /// The other one.
    pub session: SessionId,
}

/// Why `JetBeginSession` and `JetDupSession` are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginSessionRefusal {
    /// The instance has as many sessions as it may have.
    OutOfSessions(u32),
}

impl Call for BeginSession {
    type Answer = SessionView;
    type Refusal = BeginSessionRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        _: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<BeginSessionRefusal>> {
        begin(instance, self.labels.clone())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionView {
        newest(instance, stamp)
    }
}

impl Call for DuplicateSession {
    type Answer = SessionView;
    type Refusal = BeginSessionRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        _: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<BeginSessionRefusal>> {
        existing(instance, self.session)?;
        begin(instance, Labels::default())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionView {
        newest(instance, stamp)
    }
}

fn begin(
    instance: &Instance,
    labels: Labels,
) -> Result<Vec<SessionEvent>, Refused<BeginSessionRefusal>> {
    let max = instance.record.max_sessions;
    let below_limit = u32::try_from(instance.table.len()).is_ok_and(|count| count < max);
    match instance.table.next_sesid() {
        Some(session) if below_limit => Ok(vec![SessionEvent::Began { session, labels }]),
        Some(_) | None => Err(Refused::Call(BeginSessionRefusal::OutOfSessions(max))),
    }
}

fn newest(instance: &Instance, stamp: &Stamp) -> SessionView {
    let newest = instance.table.newest().expect("a session has just begun");
    instance.view(newest.clone(), stamp.served)
}

impl Refusal for BeginSessionRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::OutOfSessions(_) => JetErr::OutOfSessions,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::OutOfSessions(max) => {
                Facts { quota: Some(Quota::Sessions(*max)), ..Facts::default() }
            }
        }
    }
}

/// `JetEndSession`: end a session; what is open on it is rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndSession {
    /// Which session.
    pub session: SessionId,
    /// Who ends it, and with what right.
    pub how: EndHow,
}

/// With what right a session is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndHow {
    /// By a thread, under the engine's rules.
    By(ThreadId),
    /// By an operator, whatever holds it. Ours: the only remedy for the transaction of a thread that
    /// is no more.
    Forced(Reason),
}

/// Why `JetEndSession` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndSessionRefusal {
    /// A context is set, be it the caller's own.
    InUse(Holder),
    /// Its transaction belongs to another thread.
    SharingViolation,
}

impl Call for EndSession {
    type Answer = ();
    type Refusal = EndSessionRefusal;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<EndSessionRefusal>> {
        let session = existing(instance, self.session)?;
        let forced = match &self.how {
            EndHow::Forced(reason) => Some(reason.clone()),
            EndHow::By(thread) => {
                if let Some(binding) = session.binding() {
                    let holder = Holder::of(binding, instance, stamp);
                    return Err(Refused::Call(EndSessionRefusal::InUse(holder)));
                }
                // With the context reset, a transaction bound to a context is anybody's to end.
                match session.transaction().map(Transaction::bound_to) {
                    Some(TransactionOwner::Thread(owner)) if !stamp.is(owner, thread) => {
                        return Err(Refused::Call(EndSessionRefusal::SharingViolation));
                    }
                    Some(TransactionOwner::Thread(_) | TransactionOwner::Context(_)) | None => None,
                }
            }
        };
        Ok(vec![SessionEvent::Ended { session: self.session, forced }])
    }

    fn answer(&self, _: &Instance, _: &Stamp) {}
}

impl Refusal for EndSessionRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::InUse(_) => JetErr::SessionInUse,
            Self::SharingViolation => JetErr::SessionSharingViolation,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::InUse(holder) => Facts { holder: Some(holder.clone()), ..Facts::default() },
            Self::SharingViolation => Facts::default(),
        }
    }
}

/// `JetGetSessionInfo`: one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetSession {
    /// Which.
    pub session: SessionId,
}

impl Call for GetSession {
    type Answer = SessionView;
    type Refusal = Infallible;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(
        &self,
        instance: &Instance,
        _: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<Infallible>> {
        existing(instance, self.session)?;
        Ok(Vec::new())
    }

    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionView {
        shown(instance, self.session, stamp)
    }
}

/// Sessions in the order of their numbers, a page at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSessions {
    /// Which sessions.
    pub filter: SessionFilter,
    /// The last session seen on the page before.
    pub after: Option<SessionId>,
    /// How many at most.
    pub count: usize,
}

/// Which sessions are wanted. All conditions must hold; an empty filter lets every session through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFilter {
    /// With or without a context.
    pub bound: Option<bool>,
    /// Held by a thread of this name.
    pub thread: Option<ThreadId>,
    /// With all of these labels.
    pub labels: Labels,
}

impl SessionFilter {
    /// Whether the session is wanted.
    pub fn passes(&self, session: &Session) -> bool {
        let holder = session.binding().map(|binding| &binding.owner);
        self.passes_held(holder, &session.labels)
    }

    /// Whether a session with these labels is wanted while it is held like this.
    pub fn passes_held(&self, holder: Option<&Owner>, labels: &Labels) -> bool {
        let holds = |thread: &ThreadId| holder.is_some_and(|holder| holder.thread() == thread);
        self.bound.is_none_or(|bound| bound == holder.is_some())
            && self.thread.as_ref().is_none_or(holds)
            && labels.contain(&self.labels)
    }
}

/// A page of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// Where the next page begins, if there may be more.
    pub next_after: Option<SessionId>,
}

/// A page changes nothing, so there is nothing to remember.
impl Repeatable for SessionPage {
    fn kind(&self) -> Option<AnswerKind> {
        None
    }

    fn repeated(_: &Answer) -> Option<Self> {
        None
    }
}

impl Call for ListSessions {
    type Answer = SessionPage;
    type Refusal = Infallible;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(&self, _: &Instance, _: &Stamp) -> Result<Vec<SessionEvent>, Refused<Infallible>> {
        Ok(Vec::new())
    }

    /// Looks at a bounded number of sessions, so that a filter that lets few through delays nobody:
    /// a page may then be short, or empty, and still have a next one.
    fn answer(&self, instance: &Instance, stamp: &Stamp) -> SessionPage {
        let mut sessions = Vec::new();
        let mut last = None;
        for (looked_at, session) in instance.table.after(self.after).enumerate() {
            if sessions.len() == self.count || looked_at == LIST_SCAN_MAX {
                return SessionPage { sessions, next_after: last };
            }
            if self.filter.passes(session) {
                sessions.push(instance.view(session.clone(), stamp.served));
            }
            last = Some(session.id);
        }
        SessionPage { sessions, next_after: None }
    }
}
