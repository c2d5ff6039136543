//! What the domain costs by itself: deciding a call and applying its events.
//!
//! `cargo bench --bench domain`

use std::collections::BTreeMap;

use divan::{Bencher, black_box};
use jet_session::domain::call::Stamp;
use jet_session::domain::call::context::{ResetContext, SetContext};
use jet_session::domain::call::session::BeginSession;
use jet_session::domain::call::transaction::{BeginTransaction, CommitTransaction};
use jet_session::domain::id::{Labels, Principal, SessionId, Uid};
use jet_session::domain::instance::{Durability, Instance, InstanceRecord, Resting};
use jet_session::domain::lifecycle::Phase;
use jet_session::domain::table::Floor;
use jet_session::domain::time::Timestamp;

fn main() {
    divan::main();
}

/// A ready instance with this many sessions.
fn instance(sessions: u64) -> (Instance, Stamp) {
    let mut instance = Instance::created(InstanceRecord {
        id: "bench".parse().expect("a good id"),
        uid: Uid::new("bench"),
        labels: Labels::default(),
        max_sessions: 10_000_000,
        durability: Durability::Flush,
        created: Timestamp::default(),
        updated: Timestamp::default(),
        floor: Floor::default(),
        resting: Resting::Ready,
    });
    instance.phase = Phase::Ready;
    let stamp = Stamp { now: Timestamp::default(), by: Principal::anonymous() };
    let begin = BeginSession { labels: Labels::new(BTreeMap::new()).expect("no labels") };
    for _ in 0..sessions {
        instance.call(&begin, &stamp, &mut Vec::new()).expect("below the limit");
    }
    (instance, stamp)
}

/// One Set and one Reset, decided and applied.
#[divan::bench(args = [1, 1_000, 1_000_000])]
fn set_and_reset(bencher: Bencher<'_, '_>, sessions: u64) {
    let (mut instance, stamp) = instance(sessions);
    let session = SessionId::new(sessions.div_ceil(2)).expect("not 0");
    let thread: jet_session::domain::id::ThreadId = "worker/1".parse().expect("a good thread id");
    let set = SetContext { session, thread: thread.clone(), context: 7 };
    let reset = ResetContext { session, thread, token: None };
    let mut changes = Vec::new();
    bencher.bench_local(|| {
        changes.clear();
        instance.call(black_box(&set), &stamp, &mut changes).expect("free");
        instance.call(black_box(&reset), &stamp, &mut changes).expect("held");
    });
}

/// A Set that is refused because somebody else holds the session.
#[divan::bench]
fn refused_set(bencher: Bencher<'_, '_>) {
    let (mut instance, stamp) = instance(1);
    let session = SessionId::new(1).expect("not 0");
    let set = |thread: &str| SetContext {
        session,
        thread: thread.parse().expect("a good thread id"),
        context: 7,
    };
    let mut changes = Vec::new();
    instance.call(&set("holder"), &stamp, &mut changes).expect("free");
    let late = set("late");
    bencher.bench_local(|| instance.call(black_box(&late), &stamp, &mut changes).is_err());
}

/// One transaction begun and committed.
#[divan::bench]
fn begin_and_commit(bencher: Bencher<'_, '_>) {
    let (mut instance, stamp) = instance(1);
    let session = SessionId::new(1).expect("not 0");
    let thread: jet_session::domain::id::ThreadId = "worker/1".parse().expect("a good thread id");
    let begin = BeginTransaction { session, thread: thread.clone() };
    let commit = CommitTransaction { session, thread };
    let mut changes = Vec::new();
    bencher.bench_local(|| {
        changes.clear();
        instance.call(black_box(&begin), &stamp, &mut changes).expect("level 0");
        instance.call(black_box(&commit), &stamp, &mut changes).expect("level 1");
    });
}
