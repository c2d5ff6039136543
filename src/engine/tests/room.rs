//! A full disk: owners let go as long as the reserve lasts, and the first who takes fails the instance.

use crate::domain::jet_err::JetErr;

use super::scripted::{Fate, Gate, Op};
use super::*;

const DISK_FULL: JetErr = JetErr::InstanceUnavailableDueToFatalLogDiskFull;

/// A ready world in which two sessions of `a` are held and there is no room for more.
async fn full() -> World {
    let world = World::ready().await;
    for sesid in [1, 2] {
        world.set(sesid, "t").await.unwrap();
    }
    world.begin_transaction(3, "t").await.unwrap();
    world.store.seen();
    world.store.set_full("a", true);
    world
}

fn no_room(world: &World) {
    world.store.next(Op::MakeRoom, "a", Fate::Unavailable(DISK_FULL));
}

#[tokio::test(start_paused = true)]
async fn room_that_can_be_made_is_made_before_a_batch_and_nobody_notices() {
    let world = full().await;

    assert!(world.reset(1, "t").await.is_ok());
    assert!(world.set(1, "t").await.is_ok());

    assert_eq!(world.store.seen(), ["make room a", "commit a 1", "commit a 1"]);
    assert_eq!(world.phase("a"), Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_owners_let_go_and_the_instance_goes_on() {
    let world = full().await;
    for _ in 0..3 {
        no_room(&world);
    }

    assert!(world.reset(1, "t").await.is_ok());
    assert_eq!(world.sessions("a").await.unwrap().len(), 3, "reading needs no room");
    assert!(world.reset(2, "t").await.is_ok());

    let asked = ["make room a", "commit a 1", "make room a", "make room a", "commit a 1"];
    assert_eq!(world.store.seen(), asked);
    assert_eq!(world.phase("a"), Phase::Ready);
    assert!(world.set(1, "t").await.is_ok(), "room was found again");
}

#[tokio::test(start_paused = true)]
async fn the_first_who_takes_on_a_full_disk_fails_the_instance_after_all_who_let_go() {
    for (error, code) in [(DISK_FULL, UNAVAILABLE_DISK_FULL), (JetErr::DiskIO, UNAVAILABLE)] {
        let world = World::ready().await;
        world.set(1, "t").await.unwrap();
        let gate = busy(&world).await;
        let (take, begin) = (sent(world.set(3, "t")), sent(world.begin_session("a")));
        let (let_go, read) = (sent(world.reset(1, "t")), sent(world.get("a", 2)));
        let refused = sent(world.reset(3, "t"));
        world.store.next(Op::MakeRoom, "a", Fate::Unavailable(error));

        gate.open();

        assert!(let_go.await.is_ok());
        assert!(read.await.is_ok());
        assert_eq!(refused.await, Err(NOT_SET_BY_THIS_THREAD));
        assert_eq!((take.await, begin.await), (Err(code), Err(code)));
        assert_eq!(world.store.seen(), ["make room a", "commit a 1", "close a"]);
        assert_eq!(world.failure("a").unwrap().error, error);
        assert_eq!(world.reset(2, "t").await, Err(code), "nobody can do anything now");
        assert_eq!(world.store.seen(), Vec::<String>::new());

        // What was acknowledged on the full disk is there, and what was refused is not.
        world.store.set_full("a", false);
        world.terminate("a", TerminateMode::Complete).await.unwrap();
        world.initialize("a").await.unwrap();
        let sessions = world.sessions("a").await.unwrap();
        let held: Vec<_> = sessions.iter().map(|it| it.binding().is_some()).collect();
        assert_eq!(held, [false, true, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_closed_on_a_full_disk_changes_no_answer() {
    let world = full().await;
    no_room(&world);
    world.store.next(Op::Close, "a", Fate::Unavailable(JetErr::DiskIO));

    assert_eq!(world.set(3, "t").await, Err(UNAVAILABLE_DISK_FULL));

    assert_eq!(world.failure("a").unwrap().error, DISK_FULL, "the first cause");
    assert_eq!(world.store.open_journals(), 1, "only that of b");
}

#[tokio::test(start_paused = true)]
async fn who_takes_while_the_instance_is_stopped_or_terminated_is_told_so() {
    let world = World::ready().await;
    let gate = busy(&world).await;
    let (take, stop) = (sent(world.set(3, "t")), sent(world.stop("a")));
    no_room(&world);
    gate.open();
    assert_eq!(stop.await, Ok(Phase::Stopped));
    assert_eq!(take.await, Err(STOPPED));
    assert_eq!(world.phase("a"), Phase::Stopped, "and nothing has failed");
    no_room(&world);
    assert_eq!(world.begin_session("a").await, Err(STOPPED));
    assert!(world.reset(2, "t").await.is_ok());

    let world = World::ready().await;
    let gate = busy(&world).await;
    let take = sent(world.set(3, "t"));
    let terminate = sent(world.terminate("a", TerminateMode::Complete));
    no_room(&world);
    gate.open();
    assert_eq!(take.await, Err(TERM_IN_PROGRESS));
    assert_eq!(terminate.await, Ok(Phase::Created), "the reserve takes it");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_gone_fails_nothing() {
    let world = World::ready().await;
    let gate = busy(&world).await;
    drop(sent(world.set(3, "t")));
    let read = sent(world.get("a", 3));
    no_room(&world);

    gate.open();

    assert_eq!(read.await.unwrap().binding(), None);
    assert_eq!(world.phase("a"), Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_is_used_up_fails_the_instance() {
    let world = full().await;
    no_room(&world);
    world.store.next(Op::Commit, "a", Fate::Unavailable(DISK_FULL));

    assert_eq!(world.reset(1, "t").await, Err(UNAVAILABLE_DISK_FULL));

    assert_eq!(world.failure("a").unwrap().error, DISK_FULL);
}

#[tokio::test(start_paused = true)]
async fn a_panic_on_a_full_disk_forgets_nobody() {
    for op in [Op::MakeRoom, Op::Commit, Op::Close] {
        let world = World::ready().await;
        world.set(1, "t").await.unwrap();
        let gate = busy(&world).await;
        let (take, let_go) = (sent(world.set(3, "t")), sent(world.reset(1, "t")));
        if op != Op::MakeRoom {
            no_room(&world);
        }
        world.store.next(op, "a", Fate::Panic);

        gate.open();

        assert_eq!(let_go.await.is_ok(), op == Op::Close, "{op:?}");
        assert_eq!(take.await, Err(UNAVAILABLE), "{op:?}");
        assert_eq!(world.failure("a").unwrap().error, JetErr::InternalError);
    }
}

/// Session 2 of `a` is being taken, and when that is done there is no room left: what is asked before
/// the gate opens is one turn.
async fn busy(world: &World) -> Gate {
    let gate = world.store.stall(Op::Commit, "a");
    let set = sent(world.set(2, "t"));
    soon(gate.reached()).await;
    drop(set);
    world.store.seen();
    world.store.set_full("a", true);
    gate
}
