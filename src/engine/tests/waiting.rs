//! Calls that wait: who gets a session, and how waiting ends.

use crate::domain::call::QueueLimit;
use crate::domain::call::ownership::TransferContext;
use crate::domain::call::pool::ClaimContext;
use crate::domain::call::session::{EndHow, EndSession};
use crate::domain::id::ThreadId;
use crate::domain::limits::{NOT_SET_BEFORE_DEADLINE_MS, WAITERS_PER_SESSION_MAX};
use crate::domain::request::{Fingerprint, Request};
use crate::engine::patience::Patience;

use super::scripted::{Fate, Op};
use super::*;

/// How a waiting call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Set(u64),
    /// It was refused with this JET number; so many calls waited.
    Refused(i32, Option<usize>),
    NotSet,
    Full(QueueLimit),
}

impl World {
    fn set_waiting(&self, sesid: u64, thread: &str, wait: Duration) -> BoxFuture<'static, End> {
        self.wait_with(sesid, thread, 7, Asker::once(Principal::anonymous()), patient(wait))
    }

    fn wait_with(
        &self,
        sesid: u64,
        thread: &str,
        word: u64,
        asker: Asker,
        patience: Patience,
    ) -> BoxFuture<'static, End> {
        let call = SetContext { wait: true, ..SetContext::new(session(sesid), tid(thread), word) };
        self.patiently(call, asker, patience)
    }

    fn claim(&self, thread: &str, wait: Duration) -> BoxFuture<'static, End> {
        let (labels, thread) = (Labels::default(), tid(thread));
        let call = ClaimContext { labels, thread, context: 7, wait: true, lease: None };
        self.patiently(call, Asker::once(Principal::anonymous()), patient(wait))
    }

    fn patiently<C>(&self, call: C, asker: Asker, patience: Patience) -> BoxFuture<'static, End>
    where
        C: Call<Answer = crate::domain::session::SessionView> + Send + 'static,
        C::Refusal: Send,
    {
        let engine = self.engine.clone();
        Box::pin(async move {
            match engine.ask_patiently(&name("a"), asker, call, patience).await {
                Ok(view) => End::Set(token(&view.session).unwrap()),
                Err(Unanswered::Refused(Refused::NotSet)) => End::NotSet,
                Err(Unanswered::Refused(Refused::QueueFull(limit))) => End::Full(limit),
                Err(refused) => {
                    End::Refused(refused.jet_err().code(), refused.facts().queue_length)
                }
            }
        })
    }

    fn end_by_force(&self, sesid: u64) -> Asked<()> {
        let how = EndHow::Forced("over".parse().unwrap());
        self.call("a", EndSession { session: session(sesid), how }, |()| ())
    }

    async fn waiters(&self, sesid: u64) -> u32 {
        let get = GetSession { session: session(sesid) };
        self.call("a", get, |view| view.waiters).await.unwrap()
    }
}

fn tid(thread: &str) -> ThreadId {
    thread.parse().unwrap()
}

fn patient(wait: Duration) -> Patience {
    Patience { wait, deadline: None, room: None }
}

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_release_is_handed_to_the_first_who_waits_and_to_nobody_else() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let mut waiting: Vec<_> =
        (0..3).map(|n| sent(world.set_waiting(1, &format!("w{n}"), LONG))).collect();
    settle().await;
    assert_eq!(world.waiters(1).await, 3);
    world.store.seen();
    for (left, thread) in [(2, "holder"), (1, "w0"), (0, "w1")] {
        let reset = world.reset(1, thread).await.unwrap();
        let granted = soon(waiting.remove(0)).await;
        assert_eq!(granted, End::Set(reset + 1), "the change after the reset");
        assert_eq!(world.waiters(1).await, left);
        assert_eq!(world.store.seen(), ["commit a 2"], "both in one batch");
        for other in &mut waiting {
            assert_unanswered(other);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_those_who_wait() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let waits = sent(world.set_waiting(1, "w", LONG));
    settle().await;
    let gate = world.store.stall(Op::Commit, "a");
    let reset = sent(world.reset(1, "holder"));
    gate.reached().await;
    let late = sent(world.set(1, "late"));
    gate.open();
    let revision = reset.await.unwrap();
    assert_eq!(soon(waits).await, End::Set(revision + 1));
    assert_eq!(late.await, Err(ALREADY_SET));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_a_refusal_that_tells_how_many_wait() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let mut longer = sent(world.set_waiting(1, "longer", LONG));
    let began = world.environment.monotonic();
    let end = world.set_waiting(1, "w", Duration::from_secs(5)).await;
    assert_eq!(end, End::Refused(ALREADY_SET, Some(1)));
    assert!(world.environment.monotonic() - began >= Duration::from_secs(5));
    assert_unanswered(&mut longer);
    assert_eq!(world.waiters(1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn before_its_deadline_a_call_certainly_has_not_set() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let deadline = Duration::from_secs(2);
    let at = tokio::time::sleep(deadline).deadline();
    let patience = Patience { wait: LONG, deadline: Some(at), room: None };
    let asker = Asker::once(Principal::anonymous());
    let began = world.environment.monotonic();
    let end = world.wait_with(1, "w", 7, asker, patience).await;
    assert_eq!(end, End::NotSet);
    let early = Duration::from_millis(NOT_SET_BEFORE_DEADLINE_MS);
    let took = world.environment.monotonic() - began;
    assert!(took >= deadline - early && took < deadline, "{took:?}");
    world.reset(1, "holder").await.unwrap();
    assert_eq!(world.get("a", 1).await.unwrap().binding(), None);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_being_committed_is_answered_although_patience_ends() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let mut waits = sent(world.set_waiting(1, "w", Duration::from_secs(5)));
    settle().await;
    let gate = world.store.stall(Op::Commit, "a");
    let reset = sent(world.reset(1, "holder"));
    gate.reached().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_unanswered(&mut waits);
    gate.open();
    assert_eq!(soon(waits).await, End::Set(reset.await.unwrap() + 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_vanishes_leaves_at_once_and_is_never_granted() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let gone = sent(world.set_waiting(1, "gone", LONG));
    let stays = sent(world.set_waiting(1, "stays", LONG));
    settle().await;
    assert_eq!(world.waiters(1).await, 2);
    drop(gone);
    settle().await;
    assert_eq!(world.waiters(1).await, 1);
    let reset = world.reset(1, "holder").await.unwrap();
    assert_eq!(soon(stays).await, End::Set(reset + 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_vanishes_in_the_same_batch_is_passed_over() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let gone = sent(world.set_waiting(1, "gone", LONG));
    let stays = sent(world.set_waiting(1, "stays", LONG));
    settle().await;
    let gate = world.store.stall(Op::Commit, "a");
    let busy = sent(world.set(2, "t"));
    gate.reached().await;
    // The reset is in the inbox before the owner can hear that the first has gone.
    let reset = sent(world.reset(1, "holder"));
    drop(gone);
    gate.open();
    busy.await.unwrap();
    assert_eq!(soon(stays).await, End::Set(reset.await.unwrap() + 1));
}

#[tokio::test(start_paused = true)]
async fn phases_in_which_nobody_takes_anything_end_the_waiting() {
    for (what, code) in [("stop", STOPPED), ("terminate", TERM_IN_PROGRESS), ("fail", UNAVAILABLE)]
    {
        let world = World::ready().await;
        world.set(1, "holder").await.unwrap();
        let waits = sent(world.set_waiting(1, "w", LONG));
        settle().await;
        match what {
            "stop" => drop(world.stop("a").await.unwrap()),
            "terminate" => drop(world.terminate("a", TerminateMode::Force).await.unwrap()),
            _ => {
                world.store.next(
                    Op::Commit,
                    "a",
                    Fate::Unavailable(crate::domain::jet_err::JetErr::LogWriteFail),
                );
                assert!(world.reset(1, "holder").await.is_err());
            }
        }
        let End::Refused(found, _) = soon(waits).await else { panic!("{what}: it was set") };
        assert_eq!(found, code, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn draining_ends_the_waiting() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let waits = sent(world.set_waiting(1, "w", LONG));
    settle().await;
    world.engine.drain();
    assert_eq!(soon(waits).await, End::Refused(STOPPED, None));
    world.reset(1, "holder").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_ends_the_waiting_for_it() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let waits = sent(world.set_waiting(1, "w", LONG));
    settle().await;
    world.end_by_force(1).await.unwrap();
    assert_eq!(soon(waits).await, End::Refused(INVALID_SESID, None));
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_in_one_line_with_those_who_want_the_session_itself() {
    let world = World::ready().await;
    for sesid in 1..=3 {
        world.set(sesid, "holder").await.unwrap();
    }
    let first = sent(world.claim("c1", LONG));
    let second = sent(world.set_waiting(2, "w", LONG));
    let third = sent(world.claim("c2", LONG));
    settle().await;
    let reset = world.reset(2, "holder").await.unwrap();
    assert_eq!(soon(first).await, End::Set(reset + 1));
    let reset = world.reset(2, "c1").await.unwrap();
    assert_eq!(soon(second).await, End::Set(reset + 1));
    // A session that begins is free as well.
    let begun = world.begin_session("a").await.unwrap();
    let End::Set(_) = soon(third).await else { panic!("it was not set") };
    let holder = world.get("a", begun).await.unwrap().binding().unwrap().owner.clone();
    assert_eq!(holder.thread().as_str(), "c2");
}

#[tokio::test(start_paused = true)]
async fn the_last_session_of_a_pool_takes_those_who_wait_for_it_along() {
    let world = World::ready().await;
    for sesid in 1..=3 {
        world.set(sesid, "holder").await.unwrap();
    }
    let mut claim = sent(world.claim("c", LONG));
    settle().await;
    world.end_by_force(1).await.unwrap();
    world.end_by_force(2).await.unwrap();
    assert_unanswered(&mut claim);
    world.end_by_force(3).await.unwrap();
    assert_eq!(soon(claim).await, End::Refused(ALREADY_SET, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_answers_the_successor_who_waits() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let other_word = {
        let asker = Asker::once(Principal::anonymous());
        sent(world.wait_with(1, "next", 8, asker, patient(LONG)))
    };
    let mut before = sent(world.set_waiting(1, "before", LONG));
    let same_word = sent(world.set_waiting(1, "next", LONG));
    settle().await;
    let transfer = TransferContext {
        session: session(1),
        thread: tid("holder"),
        token: None,
        to_thread: tid("next"),
        to_principal: None,
    };
    let token = world.call("a", transfer, |token| token.get()).await.unwrap();
    assert_eq!(soon(same_word).await, End::Set(token));
    assert_eq!(soon(other_word).await, End::Refused(ALREADY_SET, Some(1)));
    assert_unanswered(&mut before);
}

#[tokio::test(start_paused = true)]
async fn waiting_twins_have_one_effect_and_one_answer() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let asker = || Asker {
        by: Principal::anonymous(),
        request: Some(Request { id: "r".parse().unwrap(), body: Fingerprint::new(1) }),
    };
    let short = sent(world.wait_with(1, "w", 7, asker(), patient(Duration::from_secs(1))));
    let first = sent(world.wait_with(1, "w", 7, asker(), patient(LONG)));
    let second = sent(world.wait_with(1, "w", 7, asker(), patient(LONG)));
    // One of them leaves, and the others stay.
    let End::Refused(ALREADY_SET, _) = soon(short).await else { panic!("it was set") };
    world.store.seen();
    let reset = world.reset(1, "holder").await.unwrap();
    assert_eq!(soon(first).await, End::Set(reset + 1));
    assert_eq!(soon(second).await, End::Set(reset + 1));
    assert_eq!(world.store.seen(), ["commit a 2"]);
    // And so does one that comes when all is over.
    let late = world.wait_with(1, "w", 7, asker(), patient(LONG)).await;
    assert_eq!(late, End::Set(reset + 1));
}

#[tokio::test(start_paused = true)]
async fn a_session_has_a_bounded_queue() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let waiting: Vec<_> = (0..WAITERS_PER_SESSION_MAX)
        .map(|n| sent(world.set_waiting(1, &format!("w{n}"), LONG)))
        .collect();
    settle().await;
    let end = world.set_waiting(1, "late", LONG).await;
    assert_eq!(end, End::Full(QueueLimit::Session));
    assert_eq!(world.set(2, "free").await.map(drop), Ok(()));
    drop(waiting);
    settle().await;
    assert_eq!(world.waiters(1).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_too_many_waiting_is_told_so_only_if_it_had_to_wait() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let room = Arc::new(tokio::sync::Semaphore::new(1));
    let asker = || Asker::once(Principal::anonymous());
    let patience = || Patience { wait: LONG, deadline: None, room: Some(Arc::clone(&room)) };
    let waits = sent(world.wait_with(1, "w", 7, asker(), patience()));
    settle().await;
    let full = world.wait_with(1, "x", 7, asker(), patience()).await;
    assert_eq!(full, End::Full(QueueLimit::Connection));
    let End::Set(_) = world.wait_with(2, "x", 7, asker(), patience()).await else {
        panic!("it need not have waited")
    };
    drop(waits);
    settle().await;
    assert_eq!(room.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_over_a_waiting_call_leaves_nobody_waiting() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let waits = sent(world.set_waiting(1, "w", LONG));
    settle().await;
    world.store.next(Op::Commit, "a", Fate::Panic);
    assert_eq!(world.reset(1, "holder").await, Err(UNAVAILABLE));
    assert_eq!(soon(waits).await, End::Refused(UNAVAILABLE, None));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_passes_over_a_call_of_the_successor_that_nobody_waits_for() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    let gone = sent(world.set_waiting(1, "next", LONG));
    let stays = sent(world.set_waiting(1, "next", LONG));
    settle().await;
    let gate = world.store.stall(Op::Commit, "a");
    let busy = sent(world.set(2, "t"));
    gate.reached().await;
    // The transfer is in the inbox before the owner can hear that the first has gone.
    let transfer = TransferContext {
        session: session(1),
        thread: tid("holder"),
        token: None,
        to_thread: tid("next"),
        to_principal: None,
    };
    let transferred = sent(world.call("a", transfer, |token| token.get()));
    drop(gone);
    gate.open();
    busy.await.unwrap();
    assert_eq!(soon(stays).await, End::Set(transferred.await.unwrap()));
}
