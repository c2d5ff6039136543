//! Values for property tests, and files of the released format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Labels, Owner, Principal, Reason, Revision, SessionId};
use crate::domain::limits::{
    LABELS_MAX, LEASE_SECONDS_MAX, LEASE_SECONDS_MIN, LOG_FORMAT, TRANSACTION_LEVEL_MAX,
};
use crate::domain::request::{AnswerKind, Fingerprint, Made, Request};
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::table::SessionTable;
use crate::domain::time::{Served, Timestamp};

/// Changes that follow each other, of sessions that may or may not be there.
pub(super) fn changes(count: usize) -> impl Strategy<Value = Vec<Change>> {
    let steps = prop::collection::vec((any::<i64>(), principal(), step()), 1..count);
    (1_u64..1 << 40, steps).prop_map(|(first, steps)| {
        let mut changes = Vec::new();
        for (time, by, step) in steps {
            let revision = Revision::new(first + changes.len() as u64);
            let time = Timestamp::from_micros(time);
            changes.extend(step.changes(revision, time, &by));
        }
        changes
    })
}

/// What one call makes.
#[derive(Debug, Clone)]
enum Step {
    /// An event, and the requests that it answers.
    One(SessionEvent, Vec<Made>),
    /// So many sessions from this one on.
    Begun(SessionId, u32, Labels, Option<Request>),
}

impl Step {
    fn changes(self, first: Revision, time: Timestamp, by: &Principal) -> Vec<Change> {
        match self {
            Self::One(event, made) => {
                vec![Change { made, ..Change::new(first, time, by.clone(), event) }]
            }
            Self::Begun(from, count, labels, request) => {
                let began = |nth: u32| {
                    let session = SessionId::new(from.get() + u64::from(nth)).unwrap();
                    let event = SessionEvent::Began { session, labels: labels.clone() };
                    let revision = Revision::new(first.get() + u64::from(nth));
                    Change::new(revision, time, by.clone(), event)
                };
                let mut changes: Vec<_> = (0..count).map(began).collect();
                let answer = AnswerKind::Sessions(count);
                let made = request.map(|request| Made { by: by.clone(), request, answer });
                changes.last_mut().unwrap().made.extend(made);
                changes
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let made = prop_oneof![
        4 => Just(Vec::new()),
        4 => prop::collection::vec(made(), 1),
        1 => prop::collection::vec(made(), 2),
    ];
    prop_oneof![
        12 => (event(), made).prop_map(|(event, made)| Step::One(event, made)),
        1 => (session(), 1..40_u32, labels(), prop::option::of(request()))
            .prop_map(|(from, count, labels, request)| Step::Begun(from, count, labels, request)),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    let micros = any::<u64>().prop_map(Duration::from_micros);
    let answer = prop_oneof![
        (any::<u32>(), prop::option::of(micros)).prop_map(|(waiters, lease_remaining)| {
            AnswerKind::Session { waiters, lease_remaining }
        }),
        Just(AnswerKind::Revision),
        Just(AnswerKind::Level),
        Just(AnswerKind::Done),
    ];
    (principal(), request(), answer).prop_map(|(by, request, answer)| Made { by, request, answer })
}

fn request() -> impl Strategy<Value = Request> {
    // Few names, so that some come again; and UUIDs, which are kept in another way.
    let id = prop_oneof![
        2 => "[ab]",
        1 => "[!-~]{1,64}",
        1 => "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ];
    (id, any::<u64>())
        .prop_map(|(id, body)| Request { id: id.parse().unwrap(), body: Fingerprint::new(body) })
}

fn principal() -> impl Strategy<Value = Principal> {
    "\\PC{1,4}|anonymous".prop_map(|name| Principal::new(&name))
}

/// Any table that changes lead to, the last of which is not the end of all sessions: that it was is
/// told by the log and the record of the instance, and not by a snapshot.
pub(super) fn table() -> impl Strategy<Value = SessionTable> {
    changes(50).prop_map(|changes| {
        let mut table = SessionTable::default();
        changes.iter().for_each(|change| table.apply(change));
        let session = SessionId::new(1).unwrap();
        table.apply(&Change {
            revision: table.revision().next(),
            time: Timestamp::from_micros(1),
            by: Principal::anonymous(),
            event: SessionEvent::ContextReset { session, how: HowReset::ByHolder },
            made: Vec::new(),
        });
        table
    })
}

fn event() -> impl Strategy<Value = SessionEvent> {
    let left = || prop::option::of(transaction());
    prop_oneof![
        8 => (session(), labels())
            .prop_map(|(session, labels)| SessionEvent::Began { session, labels }),
        4 => (session(), owner(), context()).prop_map(|(session, owner, context)| {
            SessionEvent::ContextSet { session, owner, context }
        }),
        2 => session().prop_map(|session| SessionEvent::ContextReset { session, how: HowReset::ByHolder }),
        2 => (session(), transaction()).prop_map(|(session, transaction)| {
            SessionEvent::TransactionBegan { session, transaction }
        }),
        1 => (session(), left())
            .prop_map(|(session, left)| SessionEvent::TransactionCommitted { session, left }),
        1 => (session(), left())
            .prop_map(|(session, left)| SessionEvent::TransactionRolledBack { session, left }),
        1 => (session(), prop::option::of(reason()))
            .prop_map(|(session, forced)| SessionEvent::Ended { session, forced }),
        1 => Just(SessionEvent::AllEnded),
        2 => (session(), reason()).prop_map(|(session, reason)| {
            SessionEvent::ContextReset { session, how: HowReset::Forced(reason) }
        }),
        2 => session().prop_map(|session| {
            SessionEvent::ContextReset { session, how: HowReset::LeaseExpired }
        }),
        2 => (session(), owner())
            .prop_map(|(session, to)| SessionEvent::ContextTransferred { session, to }),
        2 => (owner(), ttl(), served())
            .prop_map(|(owner, ttl, since)| SessionEvent::LeaseSet { owner, ttl, since }),
        1 => owner().prop_map(|owner| SessionEvent::LeaseEnded { owner }),
        1 => served().prop_map(|at| SessionEvent::ServingBegan { at }),
        1 => served().prop_map(|at| SessionEvent::ServedUntil { at }),
    ]
}

/// Few numbers, so that most events meet a session; and a large one.
fn session() -> impl Strategy<Value = SessionId> {
    let number = prop_oneof![9 => 1_u64..12, 1 => 1_u64..1 << 47];
    number.prop_map(|number| SessionId::new(number).unwrap())
}

fn reason() -> impl Strategy<Value = Reason> {
    "[a-zé ]{0,20}[a-z]".prop_map(|why| why.parse().unwrap())
}

fn ttl() -> impl Strategy<Value = Duration> {
    let second = 1_000_000;
    (LEASE_SECONDS_MIN * second..=LEASE_SECONDS_MAX * second).prop_map(Duration::from_micros)
}

fn served() -> impl Strategy<Value = Served> {
    any::<u64>().prop_map(Served::from_micros)
}

fn labels() -> impl Strategy<Value = Labels> {
    let pairs = prop::collection::btree_map("[ -~]{1,63}", "[ -~]{0,63}", 0..=LABELS_MAX);
    prop_oneof![3 => Just(Labels::default()), 1 => pairs.prop_map(|p| Labels::new(p).unwrap())]
}

fn owner() -> impl Strategy<Value = Owner> {
    let thread = prop_oneof![3 => "[ab]", 1 => "[!-~]{1,128}"];
    (principal(), thread)
        .prop_map(|(principal, thread)| Owner::new(principal, thread.parse().unwrap()))
}

fn context() -> impl Strategy<Value = ContextValue> {
    (1..u64::MAX).prop_map(|word| ContextValue::new(word).unwrap())
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let bound_to = prop_oneof![
        context().prop_map(TransactionOwner::Context),
        owner().prop_map(TransactionOwner::Thread),
    ];
    (1..=TRANSACTION_LEVEL_MAX, bound_to)
        .prop_map(|(level, bound_to)| Transaction::at_level(level, bound_to).unwrap())
}

/// The directory in which files of a format are kept.
pub(super) fn released(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/log-format-{format}"))
}

/// What is in them, each once.
pub(super) fn released_files() -> Vec<Vec<u8>> {
    fn collect(dir: &Path, files: &mut Vec<Vec<u8>>) {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                collect(&path, files);
            } else {
                files.push(std::fs::read(path).unwrap());
            }
        }
    }
    let mut files = Vec::new();
    for format in 1..=LOG_FORMAT {
        collect(&released(format).join("data"), &mut files);
    }
    files
}
