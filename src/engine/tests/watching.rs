//! What watchers of instances are told.

use crate::domain::jet_err::JetErr;

use super::scripted::{Fate, Op};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_there() {
    let world = World::ready().await;
    world.create("c").await.unwrap();

    let mut changes = world.engine.watch_instances(BTreeSet::new());

    let mut present =
        [next(&mut changes).await, next(&mut changes).await, next(&mut changes).await];
    present.sort();
    assert_eq!(present, ["a READY", "b READY", "c CREATED"]);
    assert_quiet(&mut changes).await;
}

#[tokio::test(start_paused = true)]
async fn phases_are_told_in_order() {
    let world = World::empty().await;
    let mut changes = world.engine.watch_instances(BTreeSet::new());
    assert_quiet(&mut changes).await;

    world.create("a").await.unwrap();
    assert_eq!(next(&mut changes).await, "a CREATED");

    let gate = world.store.stall(Op::Open, "a");
    let init = sent(world.initialize("a"));
    gate.reached().await;
    assert_eq!(next(&mut changes).await, "a INITIALIZING");
    gate.open();
    init.await.unwrap();
    assert_eq!(next(&mut changes).await, "a READY");

    world.stop("a").await.unwrap();
    assert_eq!(next(&mut changes).await, "a STOPPED");
    world.resume("a").await.unwrap();
    assert_eq!(next(&mut changes).await, "a READY");

    world.store.next(Op::Commit, "a", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(world.begin_session("a").await, Err(UNAVAILABLE));
    assert_eq!(next(&mut changes).await, "a FAILED");

    world.terminate("a", TerminateMode::Complete).await.unwrap();
    assert_eq!(next(&mut changes).await, "a CREATED");
    world.delete("a").await.unwrap();
    assert_eq!(next(&mut changes).await, "a gone");
    assert_quiet(&mut changes).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_told_the_present_and_not_the_past() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let mut changes = world.engine.watch_instances(BTreeSet::new());
    assert_eq!(next(&mut changes).await, "a CREATED");

    world.initialize("a").await.unwrap();
    for sesid in 1..=100 {
        world.begin_session("a").await.unwrap();
        world.set(sesid, "t").await.unwrap();
    }
    world.stop("a").await.unwrap();

    let InstanceChange::Present(view) = soon(changes.next()).await else { panic!("it is there") };
    assert_eq!(view, world.view("a"));
    assert_eq!((view.session_count, view.bound_count), (100, 100));
    assert_quiet(&mut changes).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_created_and_deleted_meanwhile_is_not_told() {
    let world = World::empty().await;
    let mut changes = world.engine.watch_instances(BTreeSet::new());
    assert_quiet(&mut changes).await;

    world.create("a").await.unwrap();
    world.create("b").await.unwrap();
    world.delete("a").await.unwrap();

    assert_eq!(next(&mut changes).await, "b CREATED");
    assert_quiet(&mut changes).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_the_same_name_is_another_one() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let mut changes = world.engine.watch_instances(BTreeSet::new());
    assert_eq!(next(&mut changes).await, "a CREATED");

    world.delete("a").await.unwrap();
    world.create("a").await.unwrap();

    assert_eq!(next(&mut changes).await, "a gone");
    assert_eq!(next(&mut changes).await, "a CREATED");
    world.initialize("a").await.unwrap();
    assert_eq!(next(&mut changes).await, "a READY");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_watcher_misses_that_an_instance_is_gone() {
    let world = World::empty().await;
    let mut changes = world.engine.watch_instances(BTreeSet::new());
    for _ in 0..200 {
        world.create("a").await.unwrap();
        assert_eq!(next(&mut changes).await, "a CREATED");
        let delete = tokio::spawn(world.delete("a"));
        assert_eq!(next(&mut changes).await, "a gone");
        delete.await.unwrap().unwrap();
    }
}

/// There is nothing more to tell, however long one waits.
async fn assert_quiet(changes: &mut InstanceChanges) {
    settle().await;
    assert!(changes.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn counts_are_told_once_a_second_however_often_they_change() {
    let world = World::ready().await;
    let mut changes = world.engine.watch_instances([name("a")].into());
    assert_eq!(next(&mut changes).await, "a READY");
    let mut told_at = Vec::new();
    let mut sessions = 3;
    for _ in 0..5 {
        for _ in 0..50 {
            world.begin_session("a").await.unwrap();
        }
        sessions += 50;
        loop {
            let InstanceChange::Present(view) = soon(changes.next()).await else {
                panic!("it is there");
            };
            told_at.push(world.environment.monotonic());
            if view.session_count == sessions {
                break;
            }
        }
    }
    assert!(told_at.len() <= 10, "{told_at:?}");
    let second = Duration::from_secs(1);
    assert!(told_at.windows(2).all(|pair| pair[1] - pair[0] >= second), "{told_at:?}");
    world.begin_session("b").await.unwrap();
    tokio::time::advance(2 * second).await;
    assert_quiet(&mut changes).await;
}
