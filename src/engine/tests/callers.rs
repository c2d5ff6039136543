//! Callers that go away, callers that compete, and callers at the end of the server.

use crate::domain::access::Scope;
use crate::domain::call::context::SetContext;
use crate::domain::jet_err::JetErr;
use crate::domain::refusal::{Cause, Ours, Retry};
use crate::domain::request::{Fingerprint, Request};
use crate::engine::patience::Patience;

use super::scripted::{Fate, Op};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_before_the_decision_changes_nothing() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Commit, "a");
    let first = sent(world.set(1, "t"));
    gate.reached().await;
    let gone = sent(world.set(2, "t"));
    let stays = sent(world.begin_session("a"));

    drop(gone);
    gate.open();

    first.await.unwrap();
    assert_eq!(stays.await, Ok(4));
    assert_eq!(world.get("a", 2).await.unwrap().binding(), None);
    assert_eq!(world.store.seen(), ["commit a 1", "commit a 1"], "nothing was committed for it");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_after_the_decision_breaks_nothing() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Commit, "a");
    let gone = sent(world.set(1, "gone"));
    let stays = sent(world.set(2, "t"));
    gate.reached().await;

    drop(gone);
    gate.open();

    assert!(stays.await.is_ok());
    assert_eq!(world.set(1, "t").await, Err(ALREADY_SET), "it holds the session");
    assert!(world.reset(1, "gone").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_call_is_finished_without_its_caller() {
    let world = World::empty().await;
    let gate = world.store.stall(Op::Create, "a");
    let create = sent(world.create("a"));
    gate.reached().await;
    drop(create);
    gate.open();
    settle().await;
    assert_eq!(world.phase("a"), Phase::Created);

    let gate = world.store.stall(Op::Open, "a");
    let init = sent(world.initialize("a"));
    gate.reached().await;
    drop(init);
    gate.open();
    world.until("a", "READY").await;

    let gate = world.store.stall(Op::Update, "a");
    let stop = sent(world.stop("a"));
    gate.reached().await;
    drop(stop);
    gate.open();
    world.until("a", "STOPPED").await;

    let gate = world.store.stall(Op::Commit, "a");
    let terminate = sent(world.terminate("a", TerminateMode::Complete));
    gate.reached().await;
    drop(terminate);
    gate.open();
    world.until("a", "CREATED").await;

    let gate = world.store.stall(Op::Delete, "a");
    let delete = sent(world.delete("a"));
    gate.reached().await;
    drop(delete);
    gate.open();
    settle().await;
    assert!(world.engine.instances(&Scope::All, None, 10).is_empty());
    assert!(world.create("a").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_compete_for_a_session_one_wins() {
    const CALLERS: usize = 64;
    const ROUNDS: usize = 50;
    let world = World::ready().await;
    let mut last = 0;
    for round in 0..ROUNDS {
        let racing: Vec<_> = (0..CALLERS)
            .map(|n| {
                let (set, engine) = (world.set(1, &format!("t{n}")), world.engine.clone());
                tokio::spawn(async move {
                    let answer = set.await;
                    // Whoever has an answer finds its effect.
                    let view = engine.instance(&name("a")).unwrap();
                    assert!(answer.is_err() || view.revision.get() >= answer.unwrap_or(0));
                    assert_eq!(view.bound_count, 1);
                    (n, answer)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racing {
            match racer.await.unwrap() {
                (n, Ok(token)) => winners.push((n, token)),
                (_, Err(code)) => assert_eq!(code, ALREADY_SET),
            }
        }

        let [(winner, token)] = winners[..] else { panic!("round {round}: {winners:?}") };
        assert!(token > last, "round {round}: {token} > {last}");
        last = token;
        let reset = world.reset(1, &format!("t{winner}")).await.unwrap();
        assert_eq!(reset, token + 1, "a refusal uses no number");
    }
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_takes_nothing_and_lets_go_of_everything() {
    let world = World::ready().await;
    world.set(1, "t").await.unwrap();
    world.stop("b").await.unwrap();
    world.create("c").await.unwrap();
    let decided = sent(world.set(2, "t"));

    world.engine.drain();

    assert!(decided.await.is_ok(), "it came before");
    let call = SetContext::new(session(3), "t".parse().unwrap(), 7);
    let refusal = world.raw("a", call.clone()).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
    let facts = refusal.facts();
    assert_eq!((facts.cause, facts.phase), (Some(Cause::Draining), None));
    assert_eq!(facts.retry, Retry::Soon, "another server may answer");
    assert_eq!(world.begin_session("a").await, Err(STOPPED));
    assert_eq!(world.begin_transaction(1, "t").await, Err(STOPPED));
    assert_eq!(world.phase("a"), Phase::Ready, "phases do not change");

    assert!(world.reset(1, "t").await.is_ok());
    assert_eq!(world.sessions("a").await.unwrap().len(), 3);

    // The phase comes first where it refuses too.
    let stopped = world.raw("b", call.clone()).await.unwrap_err();
    assert_eq!(stopped.jet_err(), JetErr::ClientRequestToStopJetService);
    assert_eq!((stopped.facts().phase, stopped.facts().retry), (Some(Phase::Stopped), Retry::No));
    assert_eq!(world.begin_session("c").await, Err(NOT_INITIALIZED));
    assert_eq!(world.begin_session("d").await, Err(INVALID_INSTANCE));
}

#[tokio::test(start_paused = true)]
async fn a_closed_server_tells_everybody_that_it_goes_down() {
    let world = World::ready().await;
    world.create("c").await.unwrap();
    world.set(1, "t").await.unwrap();
    let acknowledged = world.sessions("a").await;
    world.store.seen();

    soon(world.engine.close()).await;

    assert_eq!(world.store.seen(), ["close a", "close b"], "each once");
    let reading = world.raw("a", GetSession { session: session(1) }).await;
    assert_eq!(reading, Err(Unanswered::ShuttingDown));
    assert_going_down(&world, world.reset(1, "t")).await;
    assert_going_down(&world, world.sessions("b")).await;
    assert_going_down(&world, world.initialize("c")).await;
    assert_going_down(&world, world.stop("a")).await;
    assert_going_down(&world, world.terminate("a", TerminateMode::Force)).await;
    assert_going_down(&world, world.delete("c")).await;
    assert_going_down(&world, world.create("d")).await;
    soon(world.engine.close()).await;
    assert_eq!(world.store.seen(), Vec::<String>::new(), "closed is closed");

    let world = world.restarted().await;
    world.until("a", "READY").await;
    assert_eq!(world.sessions("a").await, acknowledged);
}

#[tokio::test(start_paused = true)]
async fn closing_finishes_what_was_begun_and_answers_what_waits() {
    let world = World::ready().await;
    world.create("c").await.unwrap();
    let commit = world.store.stall(Op::Commit, "a");
    let decided = sent(world.set(1, "t"));
    commit.reached().await;
    let open = world.store.stall(Op::Open, "c");
    let init = sent(world.initialize("c"));
    open.reached().await;
    let term = world.store.stall(Op::Commit, "b");
    let terminate = sent(world.terminate("b", TerminateMode::Complete));
    term.reached().await;
    let close = tokio::spawn({
        let engine = world.engine.clone();
        async move { engine.close().await }
    });
    settle().await;
    let behind = sent(world.reset(1, "t"));
    world.store.seen();

    for gate in [commit, open, term] {
        gate.open();
    }

    assert!(decided.await.is_ok());
    assert_eq!(init.await, Ok(Phase::Ready));
    assert_eq!(terminate.await, Ok(Phase::Created));
    assert_eq!(behind.await, Err(STOPPED));
    close.await.unwrap();
    let mut closed = world.store.seen();
    closed.retain(|line| line.starts_with("close") || line.starts_with("drop"));
    closed.sort();
    assert_eq!(closed, ["close a", "close b", "close c"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_closes_what_it_can() {
    let world = World::ready().await;
    world.store.next(Op::Close, "a", Fate::Panic);

    soon(world.engine.close()).await;

    assert_eq!(world.store.seen(), ["close a", "close b"]);

    let world = World::ready().await;
    world.store.next(Op::Close, "a", Fate::Unavailable(JetErr::DiskIO));
    world.store.next(Op::Commit, "b", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(world.begin_session("b").await, Err(UNAVAILABLE));
    world.store.seen();

    soon(world.engine.close()).await;

    assert_eq!(world.store.seen(), ["close a"], "what failed is left as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_calls_while_the_server_closes_is_answered() {
    for round in 0..50 {
        let world = World::ready().await;
        let calls: Vec<_> = (0..16)
            .map(|_| (tokio::spawn(world.reset(1, "t")), tokio::spawn(world.create("b"))))
            .collect();
        world.engine.close().await;
        for (reset, create) in calls {
            let reset = reset.await.unwrap();
            let expected = [Err(NOT_SET_BY_THIS_THREAD), Err(STOPPED)];
            assert!(expected.contains(&reset), "round {round}: {reset:?}");
            let create = create.await.unwrap().map(|_| ());
            assert!(
                [Err(NAME_IN_USE), Err(STOPPED)].contains(&create),
                "round {round}: {create:?}"
            );
        }
    }
}

/// The call is told that this server goes down.
async fn assert_going_down<T: std::fmt::Debug + PartialEq>(world: &World, call: Asked<T>) {
    assert_eq!(call.await, Err(STOPPED));
    assert_eq!(world.store.seen(), Vec::<String>::new());
}

/// A request that can come again.
fn request(id: &str, body: u64) -> Asker {
    let request = Request { id: id.parse().unwrap(), body: Fingerprint::new(body) };
    Asker { by: Principal::anonymous(), request: Some(request) }
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_answers_again_what_it_answered_before() {
    let world = World::ready().await;
    let set = |asker: Asker, wait: Duration| {
        let engine = world.engine.clone();
        let call = SetContext {
            wait: !wait.is_zero(),
            ..SetContext::new(session(1), "t".parse().unwrap(), 7)
        };
        let patience = Patience { wait, deadline: None, room: None };
        soon(async move { engine.ask_patiently(&name("a"), asker, call, patience).await })
    };
    let first = set(request("r-1", 1), Duration::ZERO).await.unwrap();
    world.engine.drain();
    let before = world.sessions("a").await;

    for wait in [Duration::ZERO, Duration::from_secs(10)] {
        assert_eq!(set(request("r-1", 1), wait).await, Ok(first.clone()));
        let reused = set(request("r-1", 2), wait).await.unwrap_err();
        assert_eq!(reused.facts().ours, Some(Ours::RequestIdReused));
        let new = set(request("r-2", 1), wait).await.unwrap_err();
        assert_eq!(new.facts().cause, Some(Cause::Draining));
    }
    assert_eq!(world.sessions("a").await, before);
    // The phase comes first, as it does for everybody.
    world.stop("a").await.unwrap();
    assert_eq!(set(request("r-1", 1), Duration::ZERO).await, Ok(first));
    let new = set(request("r-2", 1), Duration::ZERO).await.unwrap_err();
    assert_eq!(new.facts().phase, Some(Phase::Stopped));
    world.terminate("a", TerminateMode::Force).await.unwrap();
    let gone = set(request("r-1", 1), Duration::ZERO).await.unwrap_err();
    assert_eq!(gone.jet_err(), JetErr::NotInitialized);
}
