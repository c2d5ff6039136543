//! The ring and its cursors, without an owner.

use super::*;
use crate::domain::event::{Change, Seen, SessionEvent};
use crate::domain::id::{Labels, Owner, Principal, SessionId};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Failure;
use crate::domain::refusal::Refusal;
use crate::domain::session::{Session, SessionView};
use crate::domain::time::Timestamp;

const ROOMY: Bounds = Bounds { events: 8, bytes: 1 << 20, bytes_min: 1, server_bytes: 1 << 20 };

#[test]
fn a_cursor_is_told_everything_once_and_in_order() {
    let ring = serving(ROOMY, 0);
    let mut cursor = here(&ring, 1);
    assert_eq!(read(&ring, &mut cursor), Ok(vec![]));

    push(&ring, 1, 3);
    push(&ring, 4, 1);

    assert_eq!(read(&ring, &mut cursor), Ok(vec![1, 2, 3, 4]));
    assert_eq!(read(&ring, &mut cursor), Ok(vec![]));
    push(&ring, 5, 2);
    assert_eq!(read(&ring, &mut cursor), Ok(vec![5, 6]));
}

#[test]
fn every_revision_that_is_kept_can_be_asked_for() {
    let ring = serving(ROOMY, 0);
    for (first, count) in [(1, 3), (4, 1), (5, 2)] {
        push(&ring, first, count);
    }
    for from in 1..=7 {
        let mut cursor = here(&ring, from);
        assert_eq!(read(&ring, &mut cursor), Ok((from..=6).collect()), "from {from}");
    }
    let current = Revision::new(6);
    assert_eq!(ring.place(Revision::new(8)), Err(WatchRefusal::NotYet { current }));
}

#[test]
fn what_touches_no_session_is_passed_over_and_keeps_its_number() {
    let ring = serving(ROOMY, 0);
    let mut cursor = here(&ring, 1);
    let mut batch = Batch::default();
    for revision in 1..=3 {
        let owner = Owner::new(Principal::anonymous(), "t".parse().unwrap());
        let event = SessionEvent::LeaseEnded { owner };
        batch.changes.push(change(revision, event));
        batch.seen.push(None);
    }
    ring.push(&mut batch);

    assert!(batch.is_empty());
    assert_eq!(read(&ring, &mut cursor), Ok(vec![]));
    assert_eq!(cursor.next, Revision::new(4));
    push(&ring, 4, 1);
    assert_eq!(read(&ring, &mut cursor), Ok(vec![4]));
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let ring = serving(ROOMY, 0);
    let (mut stalled, mut quick) = (here(&ring, 1), here(&ring, 1));
    for n in 0..100 {
        push(&ring, 2 * n + 1, 2);
        assert!(ring.kept().0 <= ROOMY.events, "{:?}", ring.kept());
        assert_eq!(read(&ring, &mut quick), Ok(vec![2 * n + 1, 2 * n + 2]));
    }
    assert_eq!(ring.kept().0, 8);
    assert_eq!(read(&ring, &mut stalled), Err(WatchRefusal::TooSlow));
    // A cursor whose next is the first that is kept has missed nothing.
    assert_eq!(read(&ring, &mut here(&ring, 193)), Ok((193..=200).collect()));
    let before = Place::Before { oldest: Revision::new(1), begin: Revision::new(193) };
    assert_eq!(ring.place(Revision::new(192)), Ok(before));
}

#[test]
fn the_oldest_go_when_they_take_too_much() {
    let one = weight();
    let ring = serving(Bounds { bytes: 5 * one, events: 1_000, ..ROOMY }, 0);
    for n in 1..=50 {
        push(&ring, n, 1);
        assert!(ring.kept().1 <= 5 * one);
    }
    assert_eq!(ring.kept(), (5, 5 * one));
    // A batch that is too large by itself is told to nobody, and nobody waits for it.
    push(&ring, 51, 6);
    assert_eq!(ring.kept(), (0, 0));
    assert_eq!(read(&ring, &mut here(&ring, 57)), Ok(vec![]));
}

#[test]
fn a_server_has_one_budget() {
    let one = weight();
    let bounds =
        Bounds { events: 1_000, bytes: 1_000 * one, bytes_min: 2 * one, server_bytes: 20 * one };
    let budget = Budget::default();
    let rings: Vec<_> = (0..4).map(|_| serving_on(bounds, 0, budget.clone())).collect();
    for n in 1..=20 {
        push(&rings[0], n, 1);
    }
    assert_eq!(rings[0].kept().0, 20, "one alone may use all of it");
    for (ring, share) in rings[1..].iter().zip([10, 6, 5]) {
        for n in 1..=20 {
            push(ring, n, 1);
        }
        assert_eq!(ring.kept().0, share, "each may keep as much as the others");
    }
    for ring in &rings {
        push(ring, 21, 1);
        assert_eq!(ring.kept().0, 5, "who has more gives it up");
    }
    assert_eq!(budget.used(), 20 * one);

    rings[0].enter(&Phase::Terminating);
    rings[0].enter(&Phase::Created);
    assert_eq!(budget.used(), 15 * one);
    push(&rings[1], 22, 1);
    assert_eq!(rings[1].kept().0, 6, "there is room again");
    let poor = serving_on(Bounds { server_bytes: one, ..bounds }, 0, budget.clone());
    for n in 1..=20 {
        push(&poor, n, 1);
    }
    assert_eq!(poor.kept().0, 2, "however much the others keep");
    drop(poor);
    drop(rings);
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_is_committed_is_told_before_the_end() {
    let ring = serving(ROOMY, 0);
    let mut cursor = here(&ring, 1);
    push(&ring, 1, 2);
    let failure = Failure {
        error: JetErr::DiskIO,
        cause: "the disk is gone".into(),
        time: Timestamp::default(),
    };

    ring.enter(&Phase::Failed(failure));

    assert_eq!(read(&ring, &mut cursor).unwrap_err().jet_err(), JetErr::InstanceUnavailable);
    assert_eq!(cursor.next, Revision::new(3));
    // It is terminated and initialised again; whoever comes back late hears of the first.
    ring.enter(&Phase::Terminating);
    ring.enter(&Phase::Created);
    ring.enter(&Phase::Initializing);
    assert_eq!(ring.place(Revision::new(3)).unwrap_err().jet_err(), JetErr::NotInitialized);
    ring.open(opened(2));
    assert_eq!(read(&ring, &mut cursor).unwrap_err().jet_err(), JetErr::InstanceUnavailable);
    assert_eq!(read(&ring, &mut here(&ring, 3)), Ok(vec![]));
}

#[test]
fn a_stop_ends_nothing() {
    let ring = serving(ROOMY, 0);
    let mut cursor = here(&ring, 1);
    ring.enter(&Phase::Stopped);
    push(&ring, 1, 1);
    ring.enter(&Phase::Ready);
    assert_eq!(read(&ring, &mut cursor), Ok(vec![1]));
}

#[test]
fn numbers_that_may_have_been_told_and_lost_are_not_passed_over() {
    // Up to 10 is remembered; 11 to 20 may have been told; numbering goes on behind 20.
    let ring = Ring::new(&Phase::Created, ROOMY, Budget::default());
    let number = Revision::new;
    ring.open(Opened { oldest: number(1), remembered: number(10), current: number(20) });

    assert_eq!(ring.place(number(10)), Ok(Place::Before { oldest: number(1), begin: number(21) }),);
    assert_eq!(here(&ring, 11).next, number(21), "10 was the last that was told");
    for lost in 12..=20 {
        let oldest = number(21);
        assert_eq!(ring.place(number(lost)), Err(WatchRefusal::Compacted { oldest }), "{lost}");
    }
    assert_eq!(here(&ring, 21).next, number(21));
    push(&ring, 21, 8);
    push(&ring, 29, 1);
    assert_eq!(
        ring.place(number(11)),
        Ok(Place::Before { oldest: number(1), begin: number(29) }),
        "then the log tells",
    );
    assert!(matches!(ring.place(number(12)), Err(WatchRefusal::Compacted { .. })));
}

#[tokio::test]
async fn one_bell_wakes_all_and_nobody_is_left_behind() {
    let ring = serving(ROOMY, 0);
    for round in 0..50 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (ring, mut heard) = (Arc::clone(&ring), ring.listen());
            let mut cursor = here(&ring, round + 1);
            tasks.spawn(async move {
                loop {
                    heard.mark_unchanged();
                    match read(&ring, &mut cursor) {
                        Ok(told) if told.is_empty() => heard.changed().await.unwrap(),
                        told => return told,
                    }
                }
            });
        }
        tokio::task::yield_now().await;
        push(&ring, round + 1, 1);
        for told in tasks.join_all().await {
            assert_eq!(told, Ok(vec![round + 1]));
        }
    }
    // The crier goes with the last watcher.
    while ring.cried.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
}

fn opened(revision: u64) -> Opened {
    let revision = Revision::new(revision);
    Opened { oldest: Revision::new(1), remembered: revision, current: revision }
}

fn serving(bounds: Bounds, revision: u64) -> Arc<Ring> {
    serving_on(bounds, revision, Budget::default())
}

fn serving_on(bounds: Bounds, revision: u64, budget: Budget) -> Arc<Ring> {
    let ring = Ring::new(&Phase::Created, bounds, budget);
    ring.open(opened(revision));
    Arc::new(ring)
}

fn here(ring: &Ring, from: u64) -> Cursor {
    match ring.place(Revision::new(from)) {
        Ok(Place::Here(cursor)) => cursor,
        other => panic!("{other:?}"),
    }
}

/// The revisions that a cursor has not been told.
fn read(ring: &Ring, cursor: &mut Cursor) -> Result<Vec<u64>, WatchRefusal> {
    let mut told = Vec::new();
    loop {
        match ring.at(*cursor)? {
            Found::Told(batch) => {
                let new = batch.iter().map(|told| told.revision).filter(|new| *new >= cursor.next);
                told.extend(new.map(Revision::get));
                cursor.next = batch.last().unwrap().revision.next();
            }
            Found::Nothing(last) => {
                cursor.next = last.next();
                return Ok(told);
            }
        }
    }
}

fn push(ring: &Ring, first: u64, count: u64) {
    ring.push(&mut batch(first, count));
}

fn batch(first: u64, count: u64) -> Batch {
    let mut batch = Batch::default();
    for revision in first..first + count {
        let session = SessionId::new(revision).unwrap();
        batch
            .changes
            .push(change(revision, SessionEvent::Began { session, labels: Labels::default() }));
        let (number, time) = (Revision::new(revision), Timestamp::default());
        let session = Session::new(session, Labels::default(), time, number);
        let after = SessionView { session, waiters: 0, lease: None };
        batch.seen.push(Some(Seen { before: None, after }));
    }
    batch
}

fn change(revision: u64, event: SessionEvent) -> Change {
    Change::new(Revision::new(revision), Timestamp::default(), Principal::anonymous(), event)
}

/// What one event weighs.
fn weight() -> usize {
    let mut batch = batch(1, 1);
    let (change, seen) = (batch.changes.remove(0), batch.seen.remove(0).unwrap());
    Told::new(change, seen).unwrap().weight()
}
