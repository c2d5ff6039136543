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
//! - [`model`]: random calls against [`plain`], a second reading of the contract
//! - [`fold`]: random histories against the table of sessions

mod context;
mod contract;
mod fold;
mod instance;
mod listing;
mod model;
mod ownership;
mod plain;
mod session;
mod step;
mod transaction;

use crate::domain::call::session::{BeginSession, ListSessions, SessionFilter, SessionPage};
use crate::domain::call::{Call, Stamp};
use crate::domain::event::{Batch, Change, HowReset, SessionEvent};
use crate::domain::id::{Labels, Owner, Principal, Revision, SessionId, Uid};
use crate::domain::instance::{Durability, Instance, InstanceRecord, Resting};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Failure, Phase};
use crate::domain::refusal::Refusal;
use crate::domain::session::Session;
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::{Served, Timestamp};

use step::{Answer, BOBS_T1, C, D, No, Step, T1, T2, T3, Who, thread};

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
    now: i64,
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
        Self { instance, folded: SessionTable::above(floor), changes: Vec::new(), now: 0 }
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
        self.now += 1;
        let stamp = Stamp {
            now: Timestamp::from_micros(self.now),
            served: Served::default(),
            by: principal(who),
            request: None,
        };
        let before = self.instance.clone();
        let mut batch = Batch::default();
        let result = self.instance.call(call, &stamp, &mut batch);
        let pushed = batch.changes;

        assert_eq!(self.instance.phase, before.phase, "a call changes no phase");
        assert_eq!(self.instance.record, before.record, "a call changes no record");
        if result.is_err() {
            assert_eq!(self.instance.table, before.table, "a refused call changes nothing");
            assert_eq!(pushed, [], "a refused call has no events");
        }
        if result.is_ok() {
            let again = call.decide(&before, &stamp).ok();
            let events: Vec<_> = pushed.iter().map(|change| change.event.clone()).collect();
            assert_eq!(again, Some(events), "the same arguments, the same decision");
        }
        for (change, nth) in pushed.iter().zip(1..) {
            assert_eq!(change.revision.get(), before.table.revision().get() + nth);
            assert_eq!((change.time, &change.by), (stamp.now, &stamp.by));
        }
        self.remember(pushed);
        result.map_err(|refused| No {
            code: refused.jet_err().code(),
            facts: Box::new(refused.facts()),
        })
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
            self.folded.apply(&change);
            self.changes.push(change);
        }
        assert_eq!(self.folded, self.instance.table, "the state is the fold of the changes");
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
    Owner::new(principal(who), thread(who))
}
