//! Calls on instances that come again, because their client heard no answer.

mod gone;

use super::scripted::Op;
use super::*;
use crate::domain::access::Scope;
use crate::domain::limits::RETRY_WINDOW_SECONDS;
use crate::domain::request::{Fingerprint, Request};

/// Somebody who may ask again.
fn again(id: &str, body: u64) -> Asker {
    let request = Request { id: id.parse().unwrap(), body: Fingerprint::new(body) };
    Asker { by: Principal::anonymous(), request: Some(request) }
}

fn wanted(id: &str) -> NewInstance {
    NewInstance {
        id: name(id),
        labels: Labels::default(),
        max_sessions: None,
        durability: Durability::Flush,
        ready: false,
    }
}

/// The sessions of `a`.
async fn numbers(world: &World) -> Vec<u64> {
    let sessions = world.sessions("a").await.unwrap();
    sessions.iter().map(|session| session.id.get()).collect()
}

/// That the id names another call.
fn reused<T: std::fmt::Debug, R: std::fmt::Debug>(answer: Result<T, Unanswered<R>>) -> bool {
    matches!(answer, Err(Unanswered::RequestIdReused))
}

#[tokio::test(start_paused = true)]
async fn an_initialize_that_comes_again_is_answered_and_not_done() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let first = world.engine.initialize(&name("a"), again("r", 1)).await.unwrap();
    assert_eq!((first.phase.clone(), world.begin_session("a").await), (Phase::Ready, Ok(1)));
    world.store.seen();

    assert_eq!(world.engine.initialize(&name("a"), again("r", 1)).await, Ok(first.clone()));
    assert!(reused(world.engine.initialize(&name("a"), again("r", 2)).await));
    assert!(reused(world.engine.stop(&name("a"), false, again("r", 3)).await));
    let mut somebody = again("r", 1);
    somebody.by = Principal::new("somebody");
    let refused = world.engine.initialize(&name("a"), somebody).await.unwrap_err();
    assert_eq!(refused.jet_err().code(), ALREADY_INITIALIZED);
    assert_eq!(world.store.seen(), [""; 0], "nothing was written");

    let world = world.restarted().await;
    world.until("a", "READY").await;
    assert_eq!(world.engine.initialize(&name("a"), again("r", 1)).await, Ok(first));
    assert_eq!(numbers(&world).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn two_that_ask_for_the_same_at_once_have_one_effect_and_both_are_told() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.store.seen();
    let gate = world.store.stall(Op::Open, "a");
    let initialize = |body| {
        let engine = world.engine.clone();
        asked(async move { engine.initialize(&name("a"), again("r", body)).await })
    };
    let (first, second) = (sent(initialize(1)), sent(initialize(1)));
    gate.reached().await;
    assert!(reused(world.engine.initialize(&name("a"), again("r", 2)).await));
    gate.open();

    let told = first.await.unwrap();
    assert_eq!(second.await, Ok(told));
    assert_eq!(world.store.seen(), ["open a", "update a Ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_effect_was_undone_is_answered_and_not_done_again() {
    let world = World::ready().await;
    let stopped = world.engine.stop(&name("a"), false, again("s", 1)).await.unwrap();
    let resumed = world.engine.stop(&name("a"), true, again("t", 1)).await.unwrap();
    assert_eq!((&stopped.phase, &resumed.phase), (&Phase::Stopped, &Phase::Ready));
    // This one changes nothing, and is remembered all the same: later it would.
    let nothing = world.engine.stop(&name("a"), true, again("u", 1)).await.unwrap();
    assert_eq!(nothing, resumed);
    world.stop("a").await.unwrap();
    world.store.seen();

    for (resume, id, answer) in [(false, "s", stopped), (true, "t", resumed), (true, "u", nothing)]
    {
        let found = world.engine.stop(&name("a"), resume, again(id, 1)).await;
        assert_eq!(found, Ok(answer), "{id}");
    }
    assert_eq!((world.phase("a"), world.store.seen().len()), (Phase::Stopped, 0));
}

#[tokio::test(start_paused = true)]
async fn a_terminate_that_comes_again_ends_nothing_that_began_since() {
    let world = World::ready().await;
    let complete = TerminateMode::Complete;
    let ended = world.engine.terminate(&name("a"), complete, again("r", 1)).await.unwrap();
    assert_eq!((ended.phase.clone(), ended.session_count), (Phase::Created, 0));
    world.initialize("a").await.unwrap();
    world.begin_session("a").await.unwrap();

    for _ in 0..2 {
        let found = world.engine.terminate(&name("a"), complete, again("r", 1)).await;
        assert_eq!(found, Ok(ended.clone()));
    }
    let world = world.restarted().await;
    world.until("a", "READY").await;
    let found = world.engine.terminate(&name("a"), complete, again("r", 1)).await;
    assert_eq!(found, Ok(ended));
    assert_eq!(numbers(&world).await, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_terminate_without_effect_is_remembered_too() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let complete = TerminateMode::Complete;
    let nothing = world.engine.terminate(&name("a"), complete, again("r", 1)).await.unwrap();
    world.initialize("a").await.unwrap();
    let world = world.restarted().await;
    world.until("a", "READY").await;

    let found = world.engine.terminate(&name("a"), complete, again("r", 1)).await;
    assert_eq!((found, world.phase("a")), (Ok(nothing), Phase::Ready));
}

/// The sessions have ended, and the record does not say so yet: the history knows who asked.
#[tokio::test(start_paused = true)]
async fn whoever_asked_for_a_terminate_that_was_cut_off_may_ask_again() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Update, "a");
    let terminate = |engine: Engine| {
        asked(
            async move { engine.terminate(&name("a"), TerminateMode::Complete, again("r", 1)).await },
        )
    };
    let cut_off = sent(terminate(world.engine.clone()));
    gate.reached().await;
    drop(cut_off);
    let world = world.restarted().await;
    // The start opens it, and finishes the terminate first.
    while world.initialize("a").await == Err(INIT_IN_PROGRESS) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.phase("a"), Phase::Ready);
    world.begin_session("a").await.unwrap();

    let found = terminate(world.engine.clone()).await.unwrap();
    assert_eq!((found.phase, found.session_count), (Phase::Created, 0));
    assert_eq!((world.phase("a"), numbers(&world).await), (Phase::Ready, vec![4]));
}

#[tokio::test(start_paused = true)]
async fn a_create_that_comes_again_is_answered_whatever_became_of_the_instance() {
    let world = World::empty().await;
    let first = world.engine.create(wanted("a"), again("r", 1)).await.unwrap();
    assert_eq!(world.view("a"), first);
    world.initialize("a").await.unwrap();

    let world = world.restarted().await;
    world.until("a", "READY").await;
    assert_eq!(world.engine.create(wanted("a"), again("r", 1)).await, Ok(first.clone()));
    assert!(reused(world.engine.create(wanted("b"), again("r", 2)).await));
    assert_eq!(world.create("a").await, Err(NAME_IN_USE));
    assert_eq!(world.engine.instances(&Scope::All, None, 10).len(), 1);

    let window = i64::try_from(RETRY_WINDOW_SECONDS * 1_000_000).unwrap();
    world.environment.ticks.fetch_add(window, Ordering::Relaxed);
    let late = world.engine.create(wanted("a"), again("r", 1)).await.unwrap_err();
    assert_eq!(late.jet_err().code(), NAME_IN_USE);
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_session_cannot_have_the_id_of_one_on_the_instance() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.engine.initialize(&name("a"), again("r", 1)).await.unwrap();
    let begin = async |id| {
        let call = BeginSession { labels: Labels::default() };
        world.engine.ask(&name("a"), again(id, 1), call).await
    };
    let refused = begin("r").await.unwrap_err();
    assert_eq!(refused, Unanswered::Refused(Refused::RequestIdReused));
    begin("q").await.unwrap();
    assert!(reused(world.engine.stop(&name("a"), false, again("q", 1)).await));
    assert_eq!((world.phase("a"), numbers(&world).await), (Phase::Ready, vec![1]));
}
