//! What the domain costs by itself: deciding a call and applying its events.
//!
//! `cargo bench --bench domain`

use std::cell::RefCell;
use std::collections::BTreeMap;

use divan::{Bencher, black_box};
use jet_session::domain::call::Stamp;
use jet_session::domain::call::context::{ResetContext, SetContext};
use jet_session::domain::call::session::BeginSession;
use jet_session::domain::call::transaction::{BeginTransaction, CommitTransaction};
use jet_session::domain::event::Batch;
use jet_session::domain::id::{Labels, Principal, Revision, SessionId, Uid};
use jet_session::domain::instance::{Durability, Instance, InstanceRecord, Resting};
use jet_session::domain::lifecycle::Phase;
use jet_session::domain::session::Session;
use jet_session::domain::table::{Floor, SessionTable};
use jet_session::domain::time::{Served, Timestamp};

/// Sessions of a large instance.
const MILLION: u64 = 1_000_000;

fn main() {
    print_memory();
    divan::main();
}

/// What a bound session takes of memory, and what a copy of all of them takes on top.
#[expect(clippy::print_stdout, reason = "a benchmark is read on the terminal")]
fn print_memory() {
    let Some(empty) = resident_bytes() else {
        return;
    };
    let (mut instance, stamp) = bound_instance();
    let full = resident_bytes().unwrap_or_default().saturating_sub(empty);
    println!("a million bound sessions of 1000 threads: {} bytes each", full / MILLION);
    let copy = instance.table.clone();
    for page in 0..MILLION / 64 {
        set_and_reset_once(&mut instance, &stamp, 1 + page * 64);
    }
    let both = resident_bytes().unwrap_or_default().saturating_sub(empty);
    println!("with a copy of which no page is shared: {} bytes each", both / MILLION);
    drop(copy);
}

/// Memory of this process, where the system tells (Linux, pages of 4 KiB).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * 4_096)
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
        ended: Revision::ZERO,
        created_by: None,
        replays: Default::default(),
    });
    instance.phase = Phase::Ready;
    let stamp = Stamp {
        now: Timestamp::default(),
        served: Served::default(),
        by: Principal::anonymous(),
        request: None,
        waited_under: None,
    };
    let begin = BeginSession { labels: Labels::new(BTreeMap::new()).expect("no labels") };
    for _ in 0..sessions {
        instance.call(&begin, &stamp, &mut Batch::default()).expect("below the limit");
    }
    (instance, stamp)
}

/// One Set and one Reset, decided and applied.
#[divan::bench(args = [1, 1_000, 1_000_000])]
fn set_and_reset(bencher: Bencher<'_, '_>, sessions: u64) {
    let (mut instance, stamp) = instance(sessions);
    let session = SessionId::new(sessions.div_ceil(2)).expect("not 0");
    let thread: jet_session::domain::id::ThreadId = "worker/1".parse().expect("a good thread id");
    let set = SetContext::new(session, thread.clone(), 7);
    let reset = ResetContext { session, thread, token: None };
    let mut changes = Batch::default();
    bencher.bench_local(|| {
        changes.clear();
        instance.call(black_box(&set), &stamp, &mut changes).expect("free");
        instance.call(black_box(&reset), &stamp, &mut changes).expect("held");
    });
}

/// A million sessions, all bound, by a thousand threads.
fn bound_instance() -> (Instance, Stamp) {
    let (mut instance, stamp) = instance(MILLION);
    let mut changes = Batch::default();
    for sesid in 1..=MILLION {
        let session = SessionId::new(sesid).expect("not 0");
        let thread = format!("host-17/4711/worker-{}", sesid % 1_000);
        let set = SetContext::new(session, thread.parse().expect("a good id"), sesid);
        changes.clear();
        instance.call(&set, &stamp, &mut changes).expect("free");
    }
    (instance, stamp)
}

/// Sets the context of a bound session anew.
fn set_and_reset_once(instance: &mut Instance, stamp: &Stamp, sesid: u64) {
    let session = SessionId::new(sesid).expect("not 0");
    let held = instance.table.session(session).and_then(Session::binding).expect("all are bound");
    let thread = held.owner.thread().clone();
    let reset = ResetContext { session, thread: thread.clone(), token: None };
    let set = SetContext::new(session, thread, 7);
    instance.call(black_box(&reset), stamp, &mut Batch::default()).expect("held");
    instance.call(black_box(&set), stamp, &mut Batch::default()).expect("free");
}

/// A copy of a million sessions.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn copy_of_a_million(bencher: Bencher<'_, '_>) {
    let (instance, _) = bound_instance();
    bencher.bench_local(|| black_box(&instance.table).clone());
}

/// One Reset and one Set on a page that a copy shares, so that the page is copied.
#[divan::bench(args = [false, true], sample_count = 2_000, sample_size = 1)]
fn reset_and_set_of_a_million(bencher: Bencher<'_, '_>, copy_is_held: bool) {
    let (instance, stamp) = bound_instance();
    let copy = copy_is_held.then(|| instance.table.clone());
    let instance = RefCell::new(instance);
    let mut sesid = 0;
    bencher
        .with_inputs(|| {
            // Another page each time.
            sesid = (sesid + 64 * 7) % MILLION + 1;
            sesid
        })
        .bench_local_values(|sesid| set_and_reset_once(&mut instance.borrow_mut(), &stamp, sesid));
    drop(copy);
}

/// A million sessions read back, all owners looked up again.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn load_a_million(bencher: Bencher<'_, '_>) {
    let (instance, _) = bound_instance();
    let table = instance.table;
    bencher.with_inputs(|| table.after(None).cloned().collect::<Vec<_>>()).bench_local_values(
        |sessions| {
            let mut loaded = SessionTable::loading(table.floor(), table.issued().to_vec());
            for session in sessions {
                assert!(loaded.load(session), "what a table gave is taken back");
            }
            loaded
        },
    );
}

/// A Set that is refused because somebody else holds the session.
#[divan::bench]
fn refused_set(bencher: Bencher<'_, '_>) {
    let (mut instance, stamp) = instance(1);
    let session = SessionId::new(1).expect("not 0");
    let set = |thread: &str| SetContext::new(session, thread.parse().expect("a good thread id"), 7);
    let mut changes = Batch::default();
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
    let mut changes = Batch::default();
    bencher.bench_local(|| {
        changes.clear();
        instance.call(black_box(&begin), &stamp, &mut changes).expect("level 0");
        instance.call(black_box(&commit), &stamp, &mut changes).expect("level 1");
    });
}
