//! The contract, held against the domain: every phase, every call, every rule.
//!
//! A test here is a script of [`Step`]s with the JET number that each must answer. [`World`] plays
//! scripts and watches over every step what is true of all of them: a refused step changes nothing,
//! and the state is the fold of the changes. Numbers are written out, so that they are compared with
//! the contract and not with the table of codes they would come from.
//!
//! - [`step`]: calls as data
//! - [`contract`]: section 6's table and the order of checks
//! - [`context`], [`session`], [`transaction`], [`instance`]: the rules of sections 4 and 5
//! - [`listing`]: pages of sessions
//! - [`ownership`]: the table of section 4
//! - [`holding`], [`pool`], [`thread`], [`retry`], [`waiting`]: what the engine does not have
//! - [`line`]: calls that wait, as the owner of an instance plays them
//! - [`model`]: random calls against [`plain`], a second reading of the contract
//! - [`crowd`]: random calls that wait, are repeated, and die
//! - [`fold`]: random histories against the table of sessions

mod context;
mod contract;
mod crowd;
mod fold;
mod holding;
mod instance;
mod line;
mod listing;
mod model;
mod ownership;
mod plain;
mod pool;
mod retry;
mod session;
mod step;
mod thread;
mod transaction;
mod waiting;

use std::time::Duration;

use crate::domain::call::session::{BeginSession, ListSessions, SessionFilter, SessionPage};
use crate::domain::call::{Call, Refused, Stamp};
use crate::domain::event::{Batch, Change, HowReset, SessionEvent};
use crate::domain::id::{Labels, Owner, Principal, Revision, SessionId, Uid};
use crate::domain::instance::{Durability, Instance, InstanceRecord, Resting};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Failure, Phase};
use crate::domain::refusal::Refusal;
use crate::domain::request::{Fingerprint, Request};
use crate::domain::session::{Binding, Session};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::{Served, Timestamp};

use step::{Answer, BOBS_T1, C, D, No, Step, T1, T2, T3, Who, thread_of};

use Step::*;

// What a step answers: section 9 of the contract.
const OK: i32 = 0;
const RESTORE_IN_PROGRESS: i32 = -506;
const BACKUP_IN_PROGRESS: i32 = -505;
const TERM_IN_PROGRESS: i32 = -1000;
const INVALID_PARAMETER: i32 = -1003;
const NOT_INITIALIZED: i32 = -1029;
const ALREADY_INITIALIZED: i32 = -1030;
const INIT_IN_PROGRESS: i32 = -1031;
const NOT_IN_TRANSACTION: i32 = -1054;
const TOO_MANY_ACTIVE_USERS: i32 = -1059;
const NAME_IN_USE: i32 = -1086;
const UNAVAILABLE: i32 = -1090;
const UNAVAILABLE_DISK_FULL: i32 = -1092;
const OUT_OF_SESSIONS: i32 = -1101;
const TRANS_TOO_DEEP: i32 = -1103;
const INVALID_SESID: i32 = -1104;
const TOO_MANY_INSTANCES: i32 = -1214;
const STOPPED: i32 = -1329;
const SHARING_VIOLATION: i32 = -1910;
const ALREADY_SET: i32 = -1912;
const NOT_SET_BY_THIS_THREAD: i32 = -1913;
const IN_USE: i32 = -1914;

/// An instance and its history.
struct World {
    instance: Instance,
    /// The fold of `changes`, made apart from the instance.
    folded: SessionTable,
    changes: Vec<Change>,
    /// Microseconds on both clocks.
    now: i64,
    served: u64,
    /// What the next call is called by its caller.
    request: Option<Request>,
}

impl World {
    /// A ready instance without sessions.
    fn ready() -> Self {
        Self::above(Floor::default(), 1_000)
    }

    /// A ready instance that may have this many sessions and whose numbers begin above `floor`.
    fn above(floor: Floor, max_sessions: u32) -> Self {
        let mut instance = Instance::created(InstanceRecord {
            id: "main".parse().unwrap(),
            uid: Uid::new("uid"),
            labels: Labels::default(),
            max_sessions,
            durability: Durability::Flush,
            created: Timestamp::from_micros(0),
            updated: Timestamp::from_micros(0),
            floor,
            resting: Resting::Ready,
            ended: Revision::ZERO,
            created_by: None,
            replays: Default::default(),
        });
        instance.phase = Phase::Ready;
        Self {
            instance,
            folded: SessionTable::above(floor),
            changes: Vec::new(),
            now: 0,
            served: 0,
            request: None,
        }
    }

    /// Lets time pass on both clocks.
    fn pass(&mut self, time: Duration) {
        self.now += i64::try_from(time.as_micros()).unwrap();
        self.served += u64::try_from(time.as_micros()).unwrap();
    }

    /// Gives the next call a request id and a body.
    fn named(&mut self, id: &str, body: u64) -> &mut Self {
        let request = Request { id: id.parse().unwrap(), body: Fingerprint::new(body) };
        self.request = Some(request);
        self
    }

    fn stamp(&mut self, who: Who) -> Stamp {
        Stamp {
            now: Timestamp::from_micros(self.now),
            served: Served::from_micros(self.served),
            by: principal(who),
            request: self.request.take(),
            waited_under: None,
        }
    }

    /// A ready instance after steps that all succeed.
    fn after(steps: &[Step]) -> Self {
        let mut world = Self::ready();
        for step in steps {
            world.ok(*step);
        }
        world
    }

    /// Decides a call, and checks what must be true of all calls.
    fn call<T: Call>(&mut self, who: Who, call: &T) -> Result<T::Answer, No> {
        self.decide(who, call).map_err(|refused| No {
            code: refused.jet_err().code(),
            facts: Box::new(refused.facts()),
        })
    }

    /// As [`call`](Self::call), with the refusal as it is.
    fn decide<T: Call>(&mut self, who: Who, call: &T) -> Result<T::Answer, Refused<T::Refusal>> {
        self.now += 1;
        let stamp = self.stamp(who);
        let before = self.instance.clone();
        let mut batch = Batch::default();
        let result = self.instance.call(call, &stamp, &mut batch);
        let pushed = batch.changes;

        assert_eq!(self.instance.phase, before.phase, "a call changes no phase");
        assert_eq!(self.instance.record, before.record, "a call changes no record");
        let answered_before = stamp.request.as_ref().is_some_and(|request| {
            before.table.retries().find(&stamp.by, &request.id, stamp.now).is_some()
        });
        if result.is_err() || answered_before {
            assert_eq!(self.instance.table, before.table, "a refused call changes nothing");
            assert_eq!(pushed, [], "a refused call has no events");
        } else {
            // The copy has no index and looks at every session.
            let again = call.decide(&before, &stamp).ok();
            let events: Vec<_> = pushed.iter().map(|change| change.event.clone()).collect();
            assert_eq!(again, Some(events), "the same arguments, the same decision");
        }
        for (change, nth) in pushed.iter().zip(1..) {
            assert_eq!(change.revision.get(), before.table.revision().get() + nth);
            assert_eq!((change.time, &change.by), (stamp.now, &stamp.by));
        }
        self.remember(pushed);
        result
    }

    /// Takes back what threads hold whose lease has ended; answers how many changes that made.
    fn expire(&mut self) -> usize {
        let (until, mut changes) = (Served::from_micros(self.served), 0);
        while self.instance.deadlines.first().is_some_and(|first| first <= until) {
            changes += self.expire_some(usize::MAX / 2);
        }
        changes
    }

    /// One turn of it.
    fn expire_some(&mut self, max: usize) -> usize {
        let (until, mut batch) = (Served::from_micros(self.served), Batch::default());
        let stamp = self.stamp(NOBODY);
        self.instance.expire(until, max, &stamp, &mut batch);
        let changes = batch.changes.len();
        self.remember(batch.changes);
        changes
    }

    /// The server goes down, and comes up again as soon as it is told to.
    fn restart(&mut self) {
        self.served = self.instance.table.threads().served().micros();
        if let Some(change) =
            Instance::serving(&self.instance.table, Timestamp::from_micros(self.now))
        {
            self.instance.table.apply(&change);
            self.remember(vec![change]);
        }
        self.instance.begin_serving();
    }

    /// The clock of the instance is written down.
    fn record_served(&mut self) {
        let at = Served::from_micros(self.served);
        let revision = self.instance.table.revision().next();
        let (time, by) = (Timestamp::from_micros(self.now), principal(NOBODY));
        let change = Change::new(revision, time, by, SessionEvent::ServedUntil { at });
        self.instance.table.apply(&change);
        self.remember(vec![change]);
    }

    /// Ends all sessions, as a terminate from READY or STOPPED does.
    fn end_all(&mut self) {
        let change = Change {
            revision: self.instance.table.revision().next(),
            time: Timestamp::from_micros(self.now),
            by: principal(T1),
            event: SessionEvent::AllEnded,
            made: Vec::new(),
        };
        self.instance.table.apply(&change);
        self.remember(vec![change]);
    }

    fn remember(&mut self, changes: Vec<Change>) {
        for change in changes {
            let held = |table: &SessionTable| {
                let session = change.event.session().and_then(|id| table.session(id));
                session.and_then(Session::binding).cloned()
            };
            let before = held(&self.folded);
            self.folded.apply(&change);
            check_holder(before.as_ref(), held(&self.folded).as_ref(), &change);
            self.changes.push(change);
        }
        assert_eq!(self.folded, self.instance.table, "the state is the fold of the changes");
        self.compare_index();
    }

    /// A copy has no index, and answers as the original does.
    fn compare_index(&self) {
        let (table, copy) = (&self.instance.table, self.instance.table.clone());
        for owner in [T1, T2, T3, BOBS_T1].map(owner) {
            assert_eq!(table.held_count(&owner), copy.held_count(&owner));
            assert_eq!(table.held(&owner, 3), copy.held(&owner, 3));
            let after = std::ops::Bound::Excluded(&owner);
            assert_eq!(table.holders(after, 2), copy.holders(after, 2));
        }
        for pool in [&[][..], &["a"], &["b"], &["a", "b"]] {
            assert_eq!(table.pool(&labels(pool)), copy.pool(&labels(pool)));
        }
    }

    fn code(&mut self, step: Step) -> i32 {
        self.play(step).map_or_else(|no| no.code, |_| OK)
    }

    fn ok(&mut self, step: Step) -> Answer {
        self.play(step).unwrap_or_else(|no| panic!("{step:?} is refused: {no:?}"))
    }

    fn no(&mut self, step: Step) -> No {
        self.play(step).expect_err("the step is to be refused")
    }

    /// The session that a step answers.
    fn session(&mut self, step: Step) -> Session {
        self.ok(step).session()
    }
}

/// A holder comes only where there was none or by a transfer, with a token of its own, and stays until it
/// lets go, hands over, or loses the session.
fn check_holder(before: Option<&Binding>, after: Option<&Binding>, change: &Change) {
    let may = match (&change.event, before, after) {
        (SessionEvent::ContextSet { .. }, before, after) => before.is_none() && after.is_some(),
        (SessionEvent::ContextTransferred { .. }, Some(before), Some(after)) => {
            before.context == after.context && before.token < after.token
        }
        (SessionEvent::ContextReset { .. } | SessionEvent::Ended { .. }, _, after) => {
            after.is_none()
        }
        (_, before, after) => before == after,
    };
    assert!(may, "{before:?} became {after:?} by {change:?}");
    if let Some(after) = after {
        let new = before.is_none_or(|before| before.token != after.token);
        assert_eq!(after.token == change.revision, new, "a token is the revision that made it");
    }
}

/// Plays a script on a ready instance without sessions; the n-th session begun has the number n.
fn check(script: &[(Step, i32)]) -> World {
    check_in(World::ready(), script)
}

/// Plays a script on this instance.
fn check_in(mut world: World, script: &[(Step, i32)]) -> World {
    for (nth, (step, expected)) in script.iter().enumerate() {
        assert_eq!(world.code(*step), *expected, "line {nth}: {step:?}");
    }
    world
}

/// Every phase, a failed one with each of its codes, in the order of section 6's columns.
fn phases() -> [Phase; 8] {
    let failed = |error| {
        Phase::Failed(Failure { error, cause: "first".into(), time: Timestamp::from_micros(1) })
    };
    [
        Phase::Created,
        Phase::Initializing,
        Phase::Ready,
        Phase::Stopped,
        failed(JetErr::InstanceUnavailable),
        failed(JetErr::InstanceUnavailableDueToFatalLogDiskFull),
        Phase::Terminating,
        Phase::Restoring,
    ]
}

fn sesid(id: u64) -> SessionId {
    SessionId::new(id).unwrap()
}

fn principal(who: Who) -> Principal {
    Principal::new(who.principal)
}

fn owner(who: Who) -> Owner {
    Owner::new(principal(who), thread_of(who))
}

/// Labels with these keys.
fn labels(keys: &[&str]) -> Labels {
    Labels::new(keys.iter().map(|key| ((*key).to_owned(), String::new())).collect()).unwrap()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// On whose behalf leases end.
const NOBODY: Who = Who { principal: "anonymous", thread: "none" };
