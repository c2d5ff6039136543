//! A store that refuses and a program that panics: the instance fails, once, and nothing is lost that
//! was acknowledged.

use crate::domain::access::Scope;
use crate::domain::jet_err::JetErr;

use super::scripted::{Fate, Op};
use super::*;

/// Every way in which a commit can fail, the code that callers get, and the code that is kept.
const FAILURES: [(Fate, i32, JetErr); 6] = [
    (Fate::Unavailable(JetErr::LogWriteFail), UNAVAILABLE, JetErr::LogWriteFail),
    (Fate::Unavailable(DISK_FULL), UNAVAILABLE_DISK_FULL, DISK_FULL),
    (Fate::UnknownWritten(JetErr::DiskIO), UNAVAILABLE, JetErr::DiskIO),
    (Fate::UnknownLost(JetErr::DiskIO), UNAVAILABLE, JetErr::DiskIO),
    (Fate::UnknownLost(DISK_FULL), UNAVAILABLE_DISK_FULL, DISK_FULL),
    (Fate::Conflict, UNAVAILABLE, JetErr::InstanceUnavailable),
];
const DISK_FULL: JetErr = JetErr::InstanceUnavailableDueToFatalLogDiskFull;

#[tokio::test(start_paused = true)]
async fn after_the_first_failed_commit_nothing_is_acknowledged() {
    for (fate, code, error) in FAILURES {
        let world = World::ready().await;
        world.set(2, "t").await.unwrap();
        let gate = world.store.stall_then(Op::Commit, "a", fate);
        let set = sent(world.set(1, "t1"));
        let refused = sent(world.set(1, "t2"));
        let read = sent(world.sessions("a"));
        gate.reached().await;
        let later = sent(world.reset(2, "t"));
        let stop = sent(world.stop("a"));
        world.store.seen();

        gate.open();

        assert_eq!(set.await, Err(code), "{fate:?}");
        assert_eq!(refused.await, Err(code), "{fate:?}: it may rest on what is lost");
        assert_eq!(read.await, Err(code), "{fate:?}: and so may this");
        assert_eq!(later.await, Err(code), "{fate:?}");
        assert_eq!(stop.await, Err(code), "{fate:?}");
        assert_unavailable(&world, code).await;
        let failure = world.failure("a").unwrap();
        assert_eq!(failure.error, error, "{fate:?}");
        let told = if fate == Fate::Conflict { "revision 4711" } else { "script: it says so" };
        assert!(failure.cause.contains(told), "{fate:?}: {}", failure.cause);
        let view = world.view("a");
        assert_eq!((view.session_count, view.bound_count), (0, 0), "nobody knows");
        assert_eq!(world.store.seen(), ["drop a"], "{fate:?}: and nothing is tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_beside_a_commit_fails_the_instance_at_once() {
    for (error, code) in [(JetErr::DiskIO, UNAVAILABLE), (DISK_FULL, UNAVAILABLE_DISK_FULL)] {
        let world = World::ready().await;
        world.set(2, "t").await.unwrap();
        let acknowledged = world.sessions("a").await.unwrap();
        world.store.seen();

        world.store.fail_late("a", error);
        world.until("a", "FAILED").await;

        let failure = world.failure("a").unwrap();
        assert_eq!(failure.error, error);
        assert!(failure.cause.contains("it says so"), "{}", failure.cause);
        assert_eq!(world.store.seen(), ["drop a"], "nothing more is asked of it");
        assert_unavailable(&world, code).await;
        assert_eq!(world.begin_session("b").await, Ok(1), "others go on");
        assert_mends(&world).await;
        assert_eq!(world.sessions("a").await.unwrap(), acknowledged);
    }
}

#[tokio::test(start_paused = true)]
async fn other_instances_go_on_when_one_fails() {
    let world = World::ready().await;
    fail(&world).await;

    assert_eq!(world.begin_session("b").await, Ok(1));
    assert!(world.set_at("b", 1, "t").await.is_ok());
    assert!(world.create("c").await.is_ok());
    assert_eq!(world.phase("b"), Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn terminating_a_failed_instance_writes_nothing_and_initialising_it_recovers() {
    for (fate, code, _) in FAILURES {
        let world = World::ready().await;
        let token = world.set(2, "t").await.unwrap();
        // Open transactions do not matter to an instance that has failed.
        world.begin_transaction(2, "t").await.unwrap();
        let acknowledged = world.sessions("a").await.unwrap();
        world.store.next(Op::Commit, "a", fate);
        assert_eq!(world.set(1, "t").await, Err(code));
        world.store.seen();

        let terminated = world.terminate("a", TerminateMode::Complete).await;

        assert_eq!(terminated, Ok(Phase::Created), "{fate:?}");
        assert_eq!(world.store.seen(), Vec::<String>::new(), "{fate:?}");
        assert_eq!(world.set(3, "t").await, Err(NOT_INITIALIZED));

        assert_eq!(world.initialize("a").await, Ok(Phase::Ready), "{fate:?}");

        let recovered = world.sessions("a").await.unwrap();
        assert_eq!(recovered[1..], acknowledged[1..], "{fate:?}");
        let written = matches!(fate, Fate::UnknownWritten(_));
        assert_eq!(super::token(&recovered[0]).is_some(), written, "{fate:?}");
        let above = super::token(&recovered[0]).unwrap_or(token);
        assert!(world.set(3, "t").await.unwrap() > above, "{fate:?}: tokens go on rising");
        assert_eq!(world.begin_session("a").await, Ok(4), "{fate:?}: and so do sesids");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_cause_stays() {
    let world = World::ready().await;
    fail(&world).await;
    let first = world.failure("a");

    world.environment.panic_once();
    assert_eq!(world.set(1, "t").await, Err(UNAVAILABLE));

    assert_eq!(world.failure("a"), first);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_only_its_instance() {
    let world = World::ready().await;
    let token = world.set(2, "t").await.unwrap();
    let gate = world.store.stall_then(Op::Commit, "a", Fate::Panic);
    let mut batch = vec![sent(world.set(1, "t1")), sent(world.set(1, "t2"))];
    gate.reached().await;
    batch.push(sent(world.reset(2, "t")));
    let stop = sent(world.stop("a"));
    let init = sent(world.initialize("a"));
    batch.push(sent(world.begin_session("a")));

    gate.open();

    for call in batch {
        assert_eq!(call.await, Err(UNAVAILABLE));
    }
    assert_eq!(stop.await, Err(UNAVAILABLE));
    assert_eq!(init.await, Err(ALREADY_INITIALIZED));
    assert_panicked(&world);
    assert_eq!(world.begin_session("b").await, Ok(1));
    assert_mends(&world).await;
    let recovered = world.sessions("a").await.unwrap();
    assert_eq!(recovered.iter().map(super::token).collect::<Vec<_>>(), [None, Some(token), None]);
    assert!(world.set(1, "t").await.unwrap() > token);
}

#[tokio::test(start_paused = true)]
async fn whatever_waits_with_a_panic_is_answered() {
    let world = World::ready().await;
    let calls = [sent(world.set(1, "t")), sent(world.set(2, "t")), sent(world.begin_session("a"))];
    let stop = sent(world.stop("a"));
    world.environment.panic_once();

    for call in calls {
        assert_eq!(call.await, Err(UNAVAILABLE));
    }
    assert_eq!(stop.await, Err(UNAVAILABLE));
    assert_panicked(&world);
    assert_mends(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_opening_fails_the_instance() {
    let world = World::ready().await;
    assert_eq!(world.terminate("b", TerminateMode::Complete).await, Ok(Phase::Created));
    fail(&world).await;
    assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
    let gate = world.store.stall_then(Op::Open, "a", Fate::Panic);
    let init = sent(world.initialize("a"));
    gate.reached().await;

    gate.open();

    assert_eq!(init.await, Err(UNAVAILABLE));
    assert_panicked(&world);
    assert_eq!(world.initialize("b").await, Ok(Phase::Ready), "others go on");
    assert_mends(&world).await;
    assert_eq!(world.sessions("a").await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_stopping_or_closing_fails_the_instance() {
    for (op, ended) in [(Op::Update, true), (Op::Commit, false), (Op::Close, true)] {
        let world = World::ready().await;
        world.store.next(op, "a", Fate::Panic);
        assert_eq!(world.terminate("a", TerminateMode::Complete).await, Err(UNAVAILABLE), "{op:?}");
        assert_panicked(&world);
        assert_mends(&world).await;
        assert_eq!(world.sessions("a").await.unwrap().is_empty(), ended, "{op:?}");

        world.store.next(Op::Update, "a", Fate::Panic);
        assert_eq!(world.stop("a").await, Err(UNAVAILABLE));
        assert_panicked(&world);
        assert_mends(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_creating_or_deleting_leaves_the_server_whole() {
    let world = World::empty().await;
    world.store.next(Op::Create, "a", Fate::Panic);
    assert!(world.create("a").await.is_err());
    assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
    assert!(world.create("a").await.is_ok());

    world.store.next(Op::Delete, "a", Fate::Panic);
    assert!(world.delete("a").await.is_err());
    assert_eq!(world.phase("a"), Phase::Created);
    assert_eq!(world.delete("a").await, Ok(()));
}

/// Every kind of call, and what it does not change.
async fn assert_unavailable(world: &World, code: i32) {
    let before = world.view("a");
    assert_eq!(world.set(3, "t").await, Err(code));
    assert_eq!(world.reset(2, "t").await, Err(code));
    assert_eq!(world.begin_session("a").await, Err(code));
    assert_eq!(world.begin_transaction(3, "t").await, Err(code));
    assert_eq!(world.get("a", 2).await, Err(code));
    assert_eq!(world.sessions("a").await, Err(code));
    assert_eq!(world.stop("a").await, Err(code));
    assert_eq!(world.resume("a").await, Err(code));
    assert_eq!(world.initialize("a").await, Err(ALREADY_INITIALIZED));
    assert_eq!(world.delete("a").await, Err(ALREADY_INITIALIZED));
    assert_eq!(world.view("a"), before);
}

fn assert_panicked(world: &World) {
    let failure = world.failure("a").unwrap();
    assert_eq!(failure.error, JetErr::InternalError);
    assert!(failure.cause.ends_with("scripted panic"), "{}", failure.cause);
}

async fn assert_mends(world: &World) {
    assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
    assert_eq!(world.initialize("a").await, Ok(Phase::Ready));
}

async fn fail(world: &World) {
    world.store.next(Op::Commit, "a", Fate::Unavailable(JetErr::LogWriteFail));
    assert_eq!(world.set(1, "t").await, Err(UNAVAILABLE));
}
