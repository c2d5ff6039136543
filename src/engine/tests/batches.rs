//! What is committed together, and when anybody hears of it.

use crate::domain::access::Scope;
use crate::domain::jet_err::JetErr;
use crate::domain::limits::BATCH_CALLS_MAX;

use super::scripted::{Fate, Op};
use super::*;

#[tokio::test(start_paused = true)]
async fn calls_that_arrive_during_a_commit_are_the_next_batch() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Commit, "a");
    let first = sent(world.set(1, "t"));
    gate.reached().await;
    let waiting: Vec<_> = (0..10).map(|_| sent(world.begin_session("a"))).collect();

    gate.open();

    assert!(first.await.is_ok());
    for (call, sesid) in waiting.into_iter().zip(4..) {
        assert_eq!(call.await, Ok(sesid), "in the order of arrival");
    }
    assert_eq!(world.store.seen(), ["commit a 1", "commit a 10"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Commit, "a");
    let first = sent(world.set(1, "t"));
    gate.reached().await;
    let calls = BATCH_CALLS_MAX + 100;
    let waiting: Vec<_> = (0..calls).map(|_| sent(world.begin_session("a"))).collect();

    gate.open();

    first.await.unwrap();
    for call in waiting {
        call.await.unwrap();
    }
    let full = format!("commit a {BATCH_CALLS_MAX}");
    assert_eq!(world.store.seen(), ["commit a 1", &full, "commit a 100"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_a_change_before_it_is_committed() {
    let world = World::ready().await;
    let mut changes = world.engine.watch_instances(BTreeSet::new());
    assert_eq!([next(&mut changes).await, next(&mut changes).await].len(), 2);
    let before = (world.view("a"), world.engine.instances(&Scope::All, None, 10));
    let gate = world.store.stall(Op::Commit, "a");
    let mut set = sent(world.set(1, "t"));
    let mut begun = sent(world.begin_session("a"));
    gate.reached().await;
    let mut read = sent(world.get("a", 1));

    settle().await;

    assert_unanswered(&mut set);
    assert_unanswered(&mut begun);
    assert_unanswered(&mut read);
    assert_eq!((world.view("a"), world.engine.instances(&Scope::All, None, 10)), before);
    assert!(changes.next().now_or_never().is_none(), "watchers neither");

    gate.open();

    let token = set.await.unwrap();
    let after = world.view("a");
    assert_eq!((after.bound_count, after.session_count), (1, 4));
    assert_eq!(after.revision.get(), token + 1, "the whole batch");
    assert_eq!(begun.await, Ok(4));
    assert_eq!(read.await.unwrap().binding().unwrap().token.get(), token);
    assert_eq!(next(&mut changes).await, "a READY");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_change_it_rests_on() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Commit, "a");
    let mut set = sent(world.set(1, "t1"));
    let mut refused = sent(world.set(1, "t2"));
    let mut read = sent(world.sessions("a"));
    gate.reached().await;

    settle().await;

    assert_unanswered(&mut set);
    assert_unanswered(&mut refused);
    assert_unanswered(&mut read);
    gate.open();
    let token = set.await.unwrap();
    assert_eq!(refused.await, Err(ALREADY_SET));
    assert_eq!(super::token(&read.await.unwrap()[0]), Some(token));
    assert_eq!(world.store.seen(), ["commit a 1"], "a refusal adds nothing");
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_not_committed() {
    let world = World::ready().await;

    assert_eq!(world.reset(1, "t").await, Err(NOT_SET_BY_THIS_THREAD));
    assert_eq!(world.set(9, "t").await, Err(INVALID_SESID));
    assert_eq!(world.sessions("a").await.unwrap().len(), 3);

    assert_eq!(world.store.seen(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_journal_is_offered_the_state_after_each_batch_that_changed_it() {
    let world = World::ready().await;
    let before = world.view("a").revision.get();
    world.store.settled();

    let token = world.set(1, "t").await.unwrap();
    settle().await;
    assert_eq!(world.store.settled(), [token], "committed and answered");
    assert_eq!(token, before + 1);

    assert_eq!(world.set(1, "t").await, Err(ALREADY_SET));
    world.store.next(Op::Commit, "a", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(world.reset(1, "t").await, Err(UNAVAILABLE));
    settle().await;
    assert_eq!(world.store.settled(), [0; 0], "neither a refusal nor a failure");
}

#[tokio::test(start_paused = true)]
async fn calls_before_a_stop_are_committed_before_it_and_calls_after_it_meet_it() {
    let world = World::ready().await;
    let before = sent(world.set(1, "t"));
    let stop = sent(world.stop("a"));
    let take = sent(world.set(2, "t"));
    let let_go = sent(world.reset(1, "t"));

    assert!(before.await.is_ok());
    assert_eq!(stop.await, Ok(Phase::Stopped));
    assert_eq!(take.await, Err(STOPPED));
    assert!(let_go.await.is_ok());
    assert_eq!(world.store.seen(), ["commit a 1", "update a Stopped", "commit a 1"]);
}

#[tokio::test(start_paused = true)]
async fn one_instance_never_waits_for_another() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Commit, "a");
    let mut stalled = sent(world.set(1, "t"));
    gate.reached().await;

    assert_eq!(world.begin_session("b").await, Ok(1));
    assert_eq!(world.stop("b").await, Ok(Phase::Stopped));
    assert_eq!(world.terminate("b", TerminateMode::Complete).await, Ok(Phase::Created));
    // Not even for one that somebody tries to delete.
    let deletion = tokio::spawn(world.delete("a"));
    settle().await;
    assert!(world.create("c").await.is_ok());
    assert_eq!(world.delete("b").await, Ok(()));

    assert_unanswered(&mut stalled);
    gate.open();
    assert!(stalled.await.is_ok());
    assert_eq!(deletion.await.unwrap(), Err(ALREADY_INITIALIZED));
}
