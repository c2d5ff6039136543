//! Values for property tests, and files of the released format.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Labels, Owner, Principal, Revision, SessionId};
use crate::domain::limits::{LABELS_MAX, TRANSACTION_LEVEL_MAX};
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::table::SessionTable;
use crate::domain::time::Timestamp;

/// Changes that follow each other, of sessions that may or may not be there.
pub(super) fn changes(count: usize) -> impl Strategy<Value = Vec<Change>> {
    let change = (any::<i64>(), "\\PC{0,8}", event());
    (1_u64..1 << 40, prop::collection::vec(change, 1..count)).prop_map(|(first, changes)| {
        let change = |(n, (time, by, event)): (u64, (i64, String, SessionEvent))| Change {
            revision: Revision::new(first + n),
            time: Timestamp::from_micros(time),
            by: Principal::new(&by),
            event,
            made: Vec::new(),
        };
        (0..).zip(changes).map(change).collect()
    })
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
    // Few numbers, so that most events meet a session; and a large one.
    let session = || {
        let number = prop_oneof![9 => 1_u64..12, 1 => 1_u64..1 << 47];
        number.prop_map(|number| SessionId::new(number).unwrap())
    };
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
        1 => (session(), prop::option::of("[a-zé ]{0,20}[a-z]")).prop_map(|(session, forced)| {
            let forced = forced.map(|why| why.parse().unwrap());
            SessionEvent::Ended { session, forced }
        }),
        1 => Just(SessionEvent::AllEnded),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let pairs = prop::collection::btree_map("[ -~]{1,63}", "[ -~]{0,63}", 0..=LABELS_MAX);
    prop_oneof![3 => Just(Labels::default()), 1 => pairs.prop_map(|p| Labels::new(p).unwrap())]
}

fn owner() -> impl Strategy<Value = Owner> {
    let thread = prop_oneof![3 => "[ab]", 1 => "[!-~]{1,128}"];
    ("\\PC{0,4}", thread).prop_map(|(principal, thread)| {
        Owner::new(Principal::new(&principal), thread.parse().unwrap())
    })
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

/// The directory in which the files of a released format are kept.
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
    collect(&released(1).join("data"), &mut files);
    files
}
