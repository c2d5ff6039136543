//! Creations and deletions that come again when the instance is no more, or another one has its name.

use super::super::scripted::Fate;
use super::*;
use crate::domain::access::Scope;
use crate::domain::jet_err::JetErr;

async fn delete(world: &World, id: &str, asker: Asker) -> Result<(), i32> {
    let deleted = world.engine.delete(name(id), asker).await;
    deleted.map_err(|refusal| refusal.jet_err().code())
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_comes_again_deletes_no_other_instance_of_that_name() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    world.store.seen();
    // Nobody has the name, then somebody, in one phase and in another.
    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    let new = world.create("a").await.unwrap();
    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    world.initialize("a").await.unwrap();
    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    assert_eq!(world.store.seen(), ["create a", "open a", "update a Ready"]);

    let world = world.restarted().await;
    world.until("a", "READY").await;
    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    assert_eq!(world.view("a").record.uid, new.record.uid);
    // Who asks for the first time is answered what is so.
    assert_eq!(delete(&world, "a", again("q", 1)).await, Err(ALREADY_INITIALIZED));
    let mut somebody = again("r", 1);
    somebody.by = Principal::new("somebody");
    assert_eq!(delete(&world, "a", somebody).await, Err(ALREADY_INITIALIZED));
    assert_eq!(delete(&world, "b", again("r", 1)).await, Err(INVALID_INSTANCE));
}

#[tokio::test(start_paused = true)]
async fn an_id_names_one_call_also_when_the_instance_is_gone() {
    let world = World::empty().await;
    world.engine.create(wanted("a"), again("c", 1)).await.unwrap();
    world.engine.initialize(&name("a"), again("i", 1)).await.unwrap();
    world.terminate("a", TerminateMode::Complete).await.unwrap();
    for id in ["c", "i"] {
        assert!(reused(world.engine.delete(name("a"), again(id, 1)).await), "{id}");
    }
    assert!(reused(world.engine.initialize(&name("a"), again("c", 1)).await));
    assert_eq!(delete(&world, "a", again("d", 1)).await, Ok(()));

    let world = world.restarted().await;
    assert!(reused(world.engine.delete(name("a"), again("d", 2)).await));
    assert!(reused(world.engine.delete(name("a"), again("c", 1)).await));
    assert!(reused(world.engine.create(wanted("a"), again("d", 1)).await));
    assert!(reused(world.engine.create(wanted("a"), again("c", 2)).await));
    assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_create_is_answered_by_a_server_that_was_started_after_the_delete() {
    let world = World::empty().await;
    let first = world.engine.create(wanted("a"), again("c", 1)).await.unwrap();
    // The delete itself cannot come again.
    assert_eq!(world.delete("a").await, Ok(()));
    let world = world.restarted().await;
    assert_eq!(world.engine.create(wanted("a"), again("c", 1)).await, Ok(first.clone()));
    assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
    let second = world.create("a").await.unwrap();
    assert_eq!(world.engine.create(wanted("a"), again("c", 1)).await, Ok(first.clone()));
    assert_eq!(world.view("a").record.uid, second.record.uid);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_was_refused_is_decided_afresh() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.initialize("a").await.unwrap();
    assert_eq!(delete(&world, "a", again("r", 1)).await, Err(ALREADY_INITIALIZED));
    world.terminate("a", TerminateMode::Complete).await.unwrap();
    world.store.next(Op::Delete, "a", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(delete(&world, "a", again("r", 1)).await, Err(UNAVAILABLE));
    assert_eq!(world.phase("a"), Phase::Created);

    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_deletes_at_once_have_one_effect_and_both_are_told() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.store.seen();
    let gate = world.store.stall(Op::Delete, "a");
    let ask = || {
        let engine = world.engine.clone();
        asked(async move { engine.delete(name("a"), again("r", 1)).await })
    };
    let (first, second) = (sent(ask()), sent(ask()));
    gate.reached().await;
    gate.open();

    assert_eq!((first.await, second.await), (Ok(()), Ok(())));
    assert_eq!(world.store.seen(), ["delete a"]);
}

/// The deletion was written and nobody was told: after a restart it is.
#[tokio::test(start_paused = true)]
async fn a_delete_whose_answer_was_lost_with_the_server_is_answered_by_the_next() {
    for (fate, there) in
        [(Fate::UnknownWritten(JetErr::DiskIO), false), (Fate::UnknownLost(JetErr::DiskIO), true)]
    {
        let world = World::empty().await;
        world.create("a").await.unwrap();
        world.store.next(Op::Delete, "a", fate);
        assert_eq!(delete(&world, "a", again("r", 1)).await, Err(UNAVAILABLE));
        let world = world.restarted().await;
        assert_eq!(world.engine.instance(&name("a")).is_ok(), there);

        assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));

        assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
        world.create("a").await.unwrap();
        assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
        assert_eq!(world.phase("a"), Phase::Created);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_forgotten_here_and_in_the_store() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    assert_eq!(delete(&world, "a", again("r", 1)).await, Ok(()));
    let window = i64::try_from(RETRY_WINDOW_SECONDS * 1_000_000).unwrap();
    world.environment.ticks.fetch_add(window, Ordering::Relaxed);
    assert_eq!(delete(&world, "a", again("r", 1)).await, Err(INVALID_INSTANCE));
    assert_eq!(world.store.load().await.unwrap().gone.len(), 1);

    let world = world.restarted().await;

    assert_eq!(world.store.load().await.unwrap().gone, []);
    assert_eq!(delete(&world, "a", again("r", 2)).await, Err(INVALID_INSTANCE));
}
