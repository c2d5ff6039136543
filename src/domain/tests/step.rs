//! Calls as data: a step is one call with its arguments.

use super::{World, principal, sesid};
use crate::domain::call::context::{ResetContext, SetContext};
use crate::domain::call::ownership::{CheckContext, ForceReset, TransferContext};
use crate::domain::call::session::{
    BeginSession, DuplicateSession, EndHow, EndSession, GetSession, ListSessions, SessionFilter,
    SessionPage,
};
use crate::domain::call::transaction::{BeginTransaction, CommitTransaction, RollbackTransaction};
use crate::domain::id::{Labels, Revision, ThreadId};
use crate::domain::refusal::Facts;
use crate::domain::session::{Session, SessionView};

use Step::*;

/// A thread and the principal that declared it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) principal: &'static str,
    pub(super) thread: &'static str,
}

pub(super) const T1: Who = Who { principal: "ann", thread: "t1" };
pub(super) const T2: Who = Who { principal: "ann", thread: "t2" };
pub(super) const T3: Who = Who { principal: "ann", thread: "t3" };
/// Another principal's thread of the same name as [`T1`].
pub(super) const BOBS_T1: Who = Who { principal: "bob", thread: "t1" };

/// Somebody who observes and operates, and holds nothing.
pub(super) const GUARD: Who = Who { principal: "guard", thread: "g" };

/// Two context words.
pub(super) const C: u64 = 0xC0FFEE;
pub(super) const D: u64 = 0xFFFF_FFFF;

/// One call with its arguments, as data. Sessions are named by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    Duplicate(u64),
    Set(Who, u64, u64),
    Reset(Who, u64),
    /// With this fencing token.
    ResetWith(Who, u64, u64),
    Transfer(Who, u64, Who),
    /// With this fencing token.
    TransferWith(Who, u64, Who, u64),
    Check(Who, u64, u64),
    Force(u64, u64),
    End(Who, u64),
    ForceEnd(u64),
    Get(u64),
    List,
    BeginTx(Who, u64),
    Commit(Who, u64),
    Rollback(Who, u64),
    RollbackAll(Who, u64),
}

/// What a successful step answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Session(Box<Session>),
    Revision(Revision),
    Level(u8),
    Page(SessionPage),
    Nothing,
}

impl Answer {
    pub(super) fn session(self) -> Session {
        match self {
            Self::Session(session) => *session,
            Self::Revision(_) | Self::Level(_) | Self::Page(_) | Self::Nothing => {
                panic!("not a session: {self:?}")
            }
        }
    }
}

/// Why a refused step is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct No {
    pub(super) code: i32,
    pub(super) facts: Box<Facts>,
}

impl World {
    /// Makes the call that the step describes.
    pub(super) fn play(&mut self, step: Step) -> Result<Answer, No> {
        let begun = |view: SessionView| Answer::Session(Box::new(view.session));
        match step {
            Begin => self.call(T1, &BeginSession { labels: Labels::default() }).map(begun),
            Duplicate(id) => self.call(T1, &DuplicateSession { session: sesid(id) }).map(begun),
            Set(who, id, context) => {
                let call = SetContext::new(sesid(id), thread_of(who), context);
                self.call(who, &call).map(begun)
            }
            Reset(who, id) => {
                let call = ResetContext { session: sesid(id), thread: thread_of(who), token: None };
                self.call(who, &call).map(Answer::Revision)
            }
            ResetWith(who, id, token) => {
                let token = Some(Revision::new(token));
                let call = ResetContext { session: sesid(id), thread: thread_of(who), token };
                self.call(who, &call).map(Answer::Revision)
            }
            Transfer(who, id, to) => {
                self.call(who, &transfer(who, id, to, None)).map(Answer::Revision)
            }
            TransferWith(who, id, to, token) => {
                self.call(who, &transfer(who, id, to, Some(token))).map(Answer::Revision)
            }
            Check(who, id, token) => {
                let (session, token) = (sesid(id), Revision::new(token));
                let call = CheckContext { session, thread: thread_of(who), token };
                // Whoever guards a resource is none of those who use it.
                self.call(GUARD, &call).map(begun)
            }
            Force(id, token) => {
                let (session, token) = (sesid(id), Revision::new(token));
                let reason = "its host is gone".parse().unwrap();
                let call = ForceReset { session, token, reason };
                self.call(GUARD, &call).map(Answer::Revision)
            }
            End(who, id) => {
                let call = EndSession { session: sesid(id), how: EndHow::By(thread_of(who)) };
                self.call(who, &call).map(|()| Answer::Nothing)
            }
            ForceEnd(id) => {
                let how = EndHow::Forced("its host is gone".parse().unwrap());
                self.call(T1, &EndSession { session: sesid(id), how }).map(|()| Answer::Nothing)
            }
            Get(id) => self.call(T1, &GetSession { session: sesid(id) }).map(begun),
            List => {
                let call =
                    ListSessions { filter: SessionFilter::default(), after: None, count: 100 };
                self.call(T1, &call).map(Answer::Page)
            }
            BeginTx(who, id) => {
                let call = BeginTransaction { session: sesid(id), thread: thread_of(who) };
                self.call(who, &call).map(Answer::Level)
            }
            Commit(who, id) => {
                let call = CommitTransaction { session: sesid(id), thread: thread_of(who) };
                self.call(who, &call).map(Answer::Level)
            }
            Rollback(who, id) => self.call(who, &rollback(who, id, false)).map(Answer::Level),
            RollbackAll(who, id) => self.call(who, &rollback(who, id, true)).map(Answer::Level),
        }
    }
}

pub(super) fn thread_of(who: Who) -> ThreadId {
    who.thread.parse().unwrap()
}

fn rollback(who: Who, id: u64, all_levels: bool) -> RollbackTransaction {
    RollbackTransaction { session: sesid(id), thread: thread_of(who), all_levels }
}

fn transfer(who: Who, id: u64, to: Who, token: Option<u64>) -> TransferContext {
    TransferContext {
        session: sesid(id),
        thread: thread_of(who),
        token: token.map(Revision::new),
        to_thread: thread_of(to),
        to_principal: (to.principal != who.principal).then(|| principal(to)),
    }
}
