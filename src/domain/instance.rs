//! An instance: its record, its phase and its sessions, and the decisions that need all three.

mod leases;

use crate::domain::call::{Call, Refused, Stamp};
use crate::domain::event::{Batch, Change, Seen, SessionEvent};
use crate::domain::id::{InstanceId, Labels, Revision, SessionId, Uid};
use crate::domain::jet_err::JetErr;
use crate::domain::lease::Deadlines;
use crate::domain::lifecycle::{Admission, Event, Failure, Phase, PhaseRefusal};
use crate::domain::limits::NAMED_SESSIONS_MAX;
use crate::domain::queue::Queue;
use crate::domain::refusal::{Blocking, Facts, Quota, Refusal};
use crate::domain::replay::{Replay, Replays};
use crate::domain::request::{Made, Repeatable, Request};
use crate::domain::session::{Session, SessionView};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::{Served, Timestamp};
use crate::domain::watch;

/// What is remembered of an instance beside its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRecord {
    /// Its name.
    pub id: InstanceId,
    /// Tells it apart from others that had the name before.
    pub uid: Uid,
    /// How people find it.
    pub labels: Labels,
    /// How many sessions it may have.
    pub max_sessions: u32,
    /// What an answer promises.
    pub durability: Durability,
    /// When it was created.
    pub created: Timestamp,
    /// When its phase, labels or limits last changed.
    pub updated: Timestamp,
    /// Where its numbers began.
    pub floor: Floor,
    /// The phase in which it comes back when the server starts again.
    pub resting: Resting,
    /// The change by which the last terminate that is over ended all sessions. A history that ends with
    /// a later one is that of a terminate which the end of the process cut off.
    pub ended: Revision,
    /// The request that created it, if that can come again.
    pub created_by: Option<Box<Replay>>,
    /// What later calls on it answered, for when they come again.
    pub replays: Replays,
}

impl InstanceRecord {
    /// The record of an instance whose own cannot be read: its name, and besides that what an instance
    /// gets that is created without saying anything. It has a uid of its own, because the former one is
    /// not known.
    pub fn unreadable(
        id: InstanceId,
        uid: Uid,
        max_sessions: u32,
        floor: Floor,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            uid,
            labels: Labels::default(),
            max_sessions,
            durability: Durability::default(),
            created: now,
            updated: now,
            floor,
            resting: Resting::Created,
            ended: Revision::ZERO,
            created_by: None,
            replays: Replays::default(),
        }
    }
}

/// The phases in which an instance can be found at a start of the server; all others are on the way
/// to one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resting {
    /// It waits to be initialised.
    Created,
    /// It is initialised at once.
    Ready,
    /// It is initialised at once and stays stopped.
    Stopped,
}

/// What an answer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing is answered before it is durable.
    #[default]
    Flush,
    /// Answers come first and become durable soon after (`JET_bitCommitLazyFlush` in spirit).
    Lazy,
}

/// How an instance is terminated (`JetTerm2` and its grbits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TerminateMode {
    /// `JET_bitTermComplete`: refuse while transactions are open or a backup runs.
    #[default]
    Complete,
    /// `JET_bitTermAbrupt`: refuse while transactions are open; end a backup.
    Abrupt,
    /// Ours: roll everything back and end it.
    Force,
}

/// The state of an instance while the server runs.
#[derive(Debug, Clone)]
pub struct Instance {
    /// What is remembered beside sessions.
    pub record: InstanceRecord,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its sessions; none unless initialised.
    pub table: SessionTable,
    /// When leases end. Not remembered: see [`begin_serving`](Self::begin_serving).
    pub deadlines: Deadlines,
    /// The session that the last change touched. Not remembered either.
    pub touched: Option<SessionId>,
    /// Who waits. Not remembered: a call that waits ends with the server.
    pub queue: Queue,
}

impl Instance {
    /// An instance that is not initialised.
    pub fn created(record: InstanceRecord) -> Self {
        let table = SessionTable::above(record.floor);
        let (deadlines, queue) = (Deadlines::default(), Queue::default());
        Self { record, phase: Phase::Created, table, deadlines, touched: None, queue }
    }

    /// An instance that has failed before it could be initialised.
    pub fn failed(record: InstanceRecord, failure: Failure) -> Self {
        Self { phase: Phase::Failed(failure), ..Self::created(record) }
    }

    /// Decides a call and makes its changes true here, adding them to `batch` for the store.
    ///
    /// The phase is checked now, in the moment of the decision. A refused call adds nothing and
    /// changes nothing: `decide` sees this instance only through a shared reference. A request that was
    /// answered before is answered likewise and changes nothing either.
    pub fn call<C: Call>(
        &mut self,
        call: &C,
        stamp: &Stamp,
        batch: &mut Batch,
    ) -> Result<C::Answer, Refused<C::Refusal>> {
        if let Some(request) = &stamp.request
            && let Some(repeated) = self.repeated(request, stamp)?
        {
            return Ok(repeated);
        }
        self.phase.admit(C::ADMISSION)?;
        let before = batch.len();
        for event in call.decide(self, stamp)? {
            self.happen(event, stamp, batch);
        }
        for (owner, ttl) in call.renewals(self, stamp) {
            self.deadlines.set(&owner, ttl, stamp.served.after(ttl));
        }
        for owner in call.ends(stamp) {
            if self.table.threads().lease(&owner).is_none() {
                self.deadlines.remove(&owner);
            }
        }
        let answer = call.answer(self, stamp);
        // What changed nothing is decided afresh; the last change of the batch is another call's.
        if batch.len() > before {
            self.remember(&answer, stamp, batch);
        }
        Ok(answer)
    }

    /// Decides a call that would take something on a server that is going down: one that was answered
    /// before is answered likewise, and any other is refused.
    pub fn recall<C: Call>(&self, stamp: &Stamp) -> Result<C::Answer, Refused<C::Refusal>> {
        if let Some(request) = &stamp.request
            && let Some(repeated) = self.repeated(request, stamp)?
        {
            return Ok(repeated);
        }
        self.phase.admit(C::ADMISSION)?;
        Err(PhaseRefusal::Draining.into())
    }

    /// What this request was answered the first time. Phases that answer nobody do not answer it.
    fn repeated<A: Repeatable, R>(
        &self,
        request: &Request,
        stamp: &Stamp,
    ) -> Result<Option<A>, Refused<R>> {
        self.phase.admit(Admission::LetsGo)?;
        if self.record.replayed(&stamp.by, request, stamp.now) != Ok(None) {
            // A call on the instance itself had it.
            return Err(Refused::RequestIdReused);
        }
        match self.table.retries().find(&stamp.by, &request.id, stamp.now) {
            None => Ok(None),
            Some(found) if found.request.body != request.body => Err(Refused::RequestIdReused),
            Some(found) => A::repeated(&found.answer).map(Some).ok_or(Refused::RequestIdReused),
        }
    }

    /// Keeps what is answered, together with the last change of the batch, which made it true.
    pub fn remember<A: Repeatable>(&mut self, answer: &A, stamp: &Stamp, batch: &mut Batch) {
        let Some(request) = &stamp.request else {
            return;
        };
        if let Some(answer) = answer.kind()
            && let Some(change) = batch.changes.last_mut()
        {
            let made = Made { by: stamp.by.clone(), request: request.clone(), answer };
            self.table.remember(&made, change);
            change.made.push(made);
        }
    }

    /// Makes an event true.
    fn happen(&mut self, event: SessionEvent, stamp: &Stamp, batch: &mut Batch) {
        let revision = self.table.revision().next();
        let (time, by) = (stamp.now, stamp.by.clone());
        let change = Change { revision, time, by, event, made: Vec::new() };
        let seen = watch::apply(&mut self.table, &change);
        self.touched = change.event.session();
        if let SessionEvent::LeaseSet { owner, ttl, since } = &change.event {
            self.deadlines.set(owner, *ttl, since.after(*ttl));
        } else if let SessionEvent::LeaseEnded { owner } = &change.event {
            self.deadlines.remove(owner);
        }
        let seen = seen.map(|(before, after)| {
            let after = self.view(after, stamp.served);
            Seen { before, after }
        });
        batch.seen.push(seen);
        batch.changes.push(change);
    }

    /// A session as it is shown now.
    pub fn view(&self, session: Session, now: Served) -> SessionView {
        let waiters = if self.queue.is_empty() { 0 } else { self.queue.waiting_for(session.id) };
        let lease = session.binding().and_then(|binding| self.lease(binding, now));
        SessionView { session, waiters, lease }
    }

    /// The phase after a terminate in this mode, or why it is refused (`JetTerm2`). A backup that runs
    /// is told first: only COMPLETE waits for its end.
    pub fn terminate(
        &self,
        mode: TerminateMode,
        backup_runs: bool,
    ) -> Result<Phase, TerminateRefusal> {
        let next = self.phase.on(Event::Terminate)?;
        match mode {
            TerminateMode::Complete if backup_runs => {
                return Err(TerminateRefusal::BackupInProgress);
            }
            TerminateMode::Complete | TerminateMode::Abrupt | TerminateMode::Force => {}
        }
        let counts_transactions = match (&self.phase, mode) {
            (Phase::Ready | Phase::Stopped, TerminateMode::Complete | TerminateMode::Abrupt) => {
                true
            }
            (Phase::Ready | Phase::Stopped, TerminateMode::Force)
            // A failed instance can always be terminated, and no other has sessions.
            | (
                Phase::Created
                | Phase::Initializing
                | Phase::Restoring
                | Phase::Terminating
                | Phase::Failed(_),
                TerminateMode::Complete | TerminateMode::Abrupt | TerminateMode::Force,
            ) => false,
        };
        if counts_transactions && self.table.in_transaction_count() > 0 {
            return Err(TerminateRefusal::TooManyActiveUsers(Blocking {
                count: self.table.in_transaction_count(),
                first: self
                    .table
                    .after(None)
                    .filter(|session| session.transaction().is_some())
                    .map(|session| session.id)
                    .take(NAMED_SESSIONS_MAX)
                    .collect(),
            }));
        }
        Ok(next)
    }
}

/// Why `JetInit3` does not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitializeRefusal {
    /// The phase does not allow it.
    Phase(PhaseRefusal),
    /// It was tried and failed: the instance stays, failed, and this is why.
    Failed(Failure),
}

impl From<PhaseRefusal> for InitializeRefusal {
    fn from(refusal: PhaseRefusal) -> Self {
        Self::Phase(refusal)
    }
}

impl Refusal for InitializeRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::Phase(refusal) => refusal.jet_err(),
            Self::Failed(failure) => failure.error,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Phase(refusal) => refusal.facts(),
            Self::Failed(failure) => PhaseRefusal::Unavailable(failure.clone()).facts(),
        }
    }
}

/// Why `JetTerm2` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminateRefusal {
    /// The phase does not allow it.
    Phase(PhaseRefusal),
    /// A backup runs.
    BackupInProgress,
    /// Sessions have open transactions.
    TooManyActiveUsers(Blocking),
}

impl From<PhaseRefusal> for TerminateRefusal {
    fn from(refusal: PhaseRefusal) -> Self {
        Self::Phase(refusal)
    }
}

impl Refusal for TerminateRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::Phase(refusal) => refusal.jet_err(),
            Self::BackupInProgress => JetErr::BackupInProgress,
            Self::TooManyActiveUsers(_) => JetErr::TooManyActiveUsers,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Phase(refusal) => refusal.facts(),
            Self::BackupInProgress => Facts::default(),
            Self::TooManyActiveUsers(blocking) => {
                Facts { blocking: blocking.clone(), ..Facts::default() }
            }
        }
    }
}

/// Why `JetCreateInstance2` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateRefusal {
    /// The server has as many instances as it may have.
    TooManyInstances(usize),
    /// The name is taken.
    InstanceNameInUse,
    /// The store could not remember it.
    Unavailable(Failure),
}

/// Whether an instance may be created: the limit comes first, then the name.
pub fn create(count: usize, max: usize, name_taken: bool) -> Result<(), CreateRefusal> {
    if count >= max {
        Err(CreateRefusal::TooManyInstances(max))
    } else if name_taken {
        Err(CreateRefusal::InstanceNameInUse)
    } else {
        Ok(())
    }
}

impl Refusal for CreateRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::TooManyInstances(_) => JetErr::TooManyInstances,
            Self::InstanceNameInUse => JetErr::InstanceNameInUse,
            Self::Unavailable(failure) => failure.refused_with(),
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::TooManyInstances(max) => {
                Facts { quota: Some(Quota::Instances(*max)), ..Facts::default() }
            }
            Self::InstanceNameInUse => Facts::default(),
            Self::Unavailable(failure) => PhaseRefusal::Unavailable(failure.clone()).facts(),
        }
    }
}
