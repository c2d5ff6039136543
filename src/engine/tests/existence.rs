//! Creating and deleting instances.

use crate::domain::access::Scope;
use crate::domain::id::Uid;
use crate::domain::jet_err::JetErr;

use super::scripted::{Fate, Op};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_instance_is_created_and_remembered() {
    let world = World::empty().await;

    let view = world.create("a").await.unwrap();

    assert_eq!((view.phase.clone(), view.record.max_sessions), (Phase::Created, 100_000));
    assert_eq!(world.view("a"), view);
    assert_eq!(world.engine.instances(&Scope::All, None, 10), [view]);
    assert_eq!(world.resting("a").await, Some(Resting::Created));
    assert_eq!(world.begin_session("a").await, Err(NOT_INITIALIZED));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_to_be_ready_is_so_whatever_comes_in_between() {
    let wanted = || NewInstance {
        id: name("a"),
        labels: Labels::default(),
        max_sessions: None,
        durability: Durability::Flush,
        ready: true,
    };
    let world = World::empty().await;
    let view = world.engine.create(wanted(), nobody()).await.unwrap();
    assert_eq!((view.phase, world.phase("a")), (Phase::Ready, Phase::Ready));
    assert_eq!(world.store.seen(), ["create a", "open a", "update a Ready"]);

    let world = World::empty().await;
    let gate = world.store.stall(Op::Open, "a");
    let engine = world.engine.clone();
    let create: Asked<_> = asked(async move { engine.create(wanted(), nobody()).await });
    drop(sent(create));
    gate.reached().await;
    let world = world.restarted().await;
    world.until("a", "READY").await;

    let world = World::empty().await;
    world.store.next(Op::Open, "a", Fate::Unavailable(JetErr::DiskIO));
    let refusal = world.engine.create(wanted(), nobody()).await.unwrap_err();
    assert_eq!(refusal.jet_err().code(), UNAVAILABLE);
    assert_eq!(world.failure("a").unwrap().error, JetErr::DiskIO);
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_told_before_the_name() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let before = world.engine.instances(&Scope::All, None, 10);
    assert_eq!(world.create("a").await, Err(NAME_IN_USE));
    assert_eq!(world.engine.instances(&Scope::All, None, 10), before);

    for id in ["b", "c"] {
        world.create(id).await.unwrap();
    }

    assert_eq!(world.create("a").await, Err(TOO_MANY_INSTANCES));
    assert_eq!(world.create("d").await, Err(TOO_MANY_INSTANCES));
    assert_eq!(world.engine.instances(&Scope::All, None, 10).len(), INSTANCES_MAX);
    assert_eq!(world.delete("b").await, Ok(()));
    assert!(world.create("d").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn two_who_create_the_same_instance_make_one() {
    let world = World::empty().await;
    let both = [sent(world.create("a")), sent(world.create("a"))];

    let [first, second] = both;

    assert!(first.await.is_ok());
    assert_eq!(second.await, Err(NAME_IN_USE));
    assert_eq!(world.store.seen(), ["create a"]);
}

#[tokio::test(start_paused = true)]
async fn instances_are_listed_by_name_page_by_page() {
    let world = World::empty().await;
    for id in ["b", "c", "a"] {
        world.create(id).await.unwrap();
    }
    let names = |after: Option<&str>, count| {
        let views = world.engine.instances(&Scope::All, after.map(name).as_ref(), count);
        views.into_iter().map(|view| view.record.id.as_str().to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(names(None, 2), ["a", "b"]);
    assert_eq!(names(Some("b"), 2), ["c"]);
    assert_eq!(names(Some("ab"), 9), ["b", "c"], "the last name seen may be gone");
    assert_eq!(names(Some("c"), 2), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_create_leaves_no_instance() {
    for (fate, code) in [
        (Fate::Unavailable(JetErr::DiskIO), UNAVAILABLE),
        (
            Fate::Unavailable(JetErr::InstanceUnavailableDueToFatalLogDiskFull),
            UNAVAILABLE_DISK_FULL,
        ),
    ] {
        let world = World::empty().await;
        world.store.next(Op::Create, "a", fate);

        assert_eq!(world.create("a").await, Err(code));

        assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
        assert_eq!(world.initialize("a").await, Err(INVALID_INSTANCE));
        assert_eq!(world.resting("a").await, None);
        assert!(world.create("a").await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_instance_that_is_not_initialised_is_deleted() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let gate = world.store.stall(Op::Open, "a");
    let init = sent(world.initialize("a"));
    gate.reached().await;
    assert_eq!(world.delete("a").await, Err(INIT_IN_PROGRESS));
    gate.open();
    init.await.unwrap();
    assert_eq!(world.delete("a").await, Err(ALREADY_INITIALIZED), "READY");
    world.stop("a").await.unwrap();
    assert_eq!(world.delete("a").await, Err(ALREADY_INITIALIZED), "STOPPED");
    let gate = world.store.stall_then(Op::Close, "a", Fate::Unavailable(JetErr::DiskIO));
    let terminated = sent(world.terminate("a", TerminateMode::Complete));
    gate.reached().await;
    assert_eq!(world.delete("a").await, Err(TERM_IN_PROGRESS));
    gate.open();
    assert_eq!(terminated.await, Err(UNAVAILABLE));
    assert_eq!(world.delete("a").await, Err(ALREADY_INITIALIZED), "FAILED");
    assert!(!world.store.seen().contains(&"delete a".to_owned()));
    world.terminate("a", TerminateMode::Complete).await.unwrap();

    assert_eq!(world.delete("a").await, Ok(()));

    assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
    assert_eq!(world.resting("a").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_instance_is_unknown_to_every_call() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    assert_eq!(world.delete("a").await, Ok(()));

    assert_eq!(world.begin_session("a").await, Err(INVALID_INSTANCE));
    assert_eq!(world.initialize("a").await, Err(INVALID_INSTANCE));
    assert_eq!(world.stop("a").await, Err(INVALID_INSTANCE));
    assert_eq!(world.terminate("a", TerminateMode::Force).await, Err(INVALID_INSTANCE));
    assert_eq!(world.delete("a").await, Err(INVALID_INSTANCE));
    assert!(world.engine.instance(&name("a")).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_deletion_finds_no_instance() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let gate = world.store.stall(Op::Delete, "a");
    let delete = sent(world.delete("a"));
    gate.reached().await;
    let begin = sent(world.begin_session("a"));
    let init = sent(world.initialize("a"));
    let terminate = sent(world.terminate("a", TerminateMode::Complete));
    let again = sent(world.delete("a"));

    gate.open();

    assert_eq!(delete.await, Ok(()));
    assert_eq!(begin.await, Err(INVALID_INSTANCE));
    assert_eq!(init.await, Err(INVALID_INSTANCE));
    assert_eq!(terminate.await, Err(INVALID_INSTANCE));
    assert_eq!(again.await, Err(INVALID_INSTANCE));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_waits_behind_an_initialise_meets_it() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let gate = world.store.stall(Op::Open, "a");
    let init = sent(world.initialize("a"));
    // The phase is still CREATED for whoever looks.
    let delete = sent(world.delete("a"));

    assert_eq!(delete.await, Err(INIT_IN_PROGRESS));

    gate.open();
    assert_eq!(init.await, Ok(Phase::Ready));
    assert_eq!(world.store.seen(), ["create a", "open a", "update a Ready"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_takes_a_deletion_for_the_end_of_the_server() {
    let world = World::empty().await;
    for round in 0..200 {
        world.create("a").await.unwrap();
        let calls: Vec<_> = (0..16)
            .map(|n| {
                let call = world.begin_session("a");
                let delete = (n == 8).then(|| world.delete("a"));
                tokio::spawn(async move {
                    if let Some(delete) = delete {
                        assert_eq!(delete.await, Ok(()));
                    }
                    call.await
                })
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            let expected = [Err(NOT_INITIALIZED), Err(INVALID_INSTANCE)];
            assert!(expected.contains(&answer), "round {round}: {answer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_the_store_cannot_forget_stays() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.store.next(Op::Delete, "a", Fate::Unavailable(JetErr::DiskIO));

    assert_eq!(world.delete("a").await, Err(UNAVAILABLE));

    assert_eq!(world.phase("a"), Phase::Created);
    assert_eq!(world.initialize("a").await, Ok(Phase::Ready));
    world.terminate("a", TerminateMode::Complete).await.unwrap();
    assert_eq!(world.delete("a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_numbers_of_a_new_instance_are_above_all_that_were_deleted() {
    let world = World::ready().await;
    let first = world.view("a").record;
    let token = world.set(3, "t").await.unwrap();
    world.terminate("a", TerminateMode::Complete).await.unwrap();
    assert_eq!(world.delete("a").await, Ok(()));
    // Deleting one with lower numbers lowers nothing.
    world.terminate("b", TerminateMode::Complete).await.unwrap();
    assert_eq!(world.delete("b").await, Ok(()));

    let second = recreated(&world, token, 3).await;
    let world = world.restarted().await;
    world.terminate_when_back("a").await;
    assert_eq!(world.delete("a").await, Ok(()));
    let world = world.restarted().await;
    let third = recreated(&world, second.1, 4).await;

    assert_ne!(second.0, first.uid);
    assert_ne!(third.0, second.0);
}

/// Creates `a` again and takes a session of it; what its numbers are above. Answers uid and token.
async fn recreated(world: &World, token: u64, sesid: u64) -> (Uid, u64) {
    let view = world.create("a").await.unwrap();
    world.initialize("a").await.unwrap();
    assert_eq!(world.begin_session("a").await, Ok(sesid + 1));
    let next = world.set(sesid + 1, "t").await.unwrap();
    assert!(next > token, "{next} > {token}");
    (view.record.uid, next)
}

impl World {
    async fn terminate_when_back(&self, id: &str) {
        self.until(id, "READY").await;
        self.terminate(id, TerminateMode::Complete).await.unwrap();
    }
}
