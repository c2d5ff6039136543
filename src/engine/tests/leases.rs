//! Leases, under a clock that the test moves.

use crate::domain::call::thread::{EndThreads, Ending, KeepAlive, Kept};
use crate::domain::id::ThreadId;
use crate::domain::lease::LossCause;
use crate::domain::limits::{EXPIRIES_AT_ONCE, LEASE_GRACE_MS};

use super::scripted::{Fate, Op};
use super::*;

impl World {
    fn set_leased(&self, sesid: u64, thread: &str, ttl: Duration) -> Asked<u64> {
        let call =
            SetContext { lease: Some(ttl), ..SetContext::new(session(sesid), tid(thread), 7) };
        self.call("a", call, |view| token(&view.session).unwrap())
    }

    fn keep(&self, threads: &[&str], ttl: Duration) -> Asked<Vec<Kept>> {
        let threads = threads.iter().map(|thread| tid(thread)).collect();
        self.call("a", KeepAlive { threads, ttl, include_held: true }, |kept| kept)
    }

    async fn bound(&self, sesid: u64) -> bool {
        self.get("a", sesid).await.unwrap().binding().is_some()
    }

    /// Waits until nobody holds the session any more; answers how long that took.
    async fn until_free(&self, sesid: u64) -> Duration {
        let began = self.environment.monotonic();
        while self.bound(sesid).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.environment.monotonic() - began
    }
}

fn tid(thread: &str) -> ThreadId {
    thread.parse().unwrap()
}

const TTL: Duration = Duration::from_secs(10);

/// A lease never ends before its time, and not long after it.
fn in_time(took: Duration, ttl: Duration) -> bool {
    took >= ttl && took <= ttl + Duration::from_secs(2)
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_in_time_and_gives_back_what_its_thread_held() {
    let world = World::ready().await;
    let token = world.set_leased(1, "t", TTL).await.unwrap();
    world.set(2, "t").await.unwrap();
    world.set(3, "other").await.unwrap();
    let took = world.until_free(1).await;
    assert!(in_time(took, TTL), "{took:?}");
    assert!(!world.bound(2).await, "all that the thread holds is under its lease");
    assert!(world.bound(3).await);
    assert!(world.get("a", 1).await.unwrap().abandoned());
    let kept = world.keep(&["t"], TTL).await.unwrap().remove(0);
    assert_eq!((kept.held_count, kept.lost.len()), (0, 2));
    assert_eq!((kept.lost[0].token.get(), kept.lost[0].cause), (token, LossCause::LeaseExpired));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_goes_on() {
    let world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    world.store.seen();
    for _ in 0..20 {
        tokio::time::sleep(TTL - Duration::from_secs(1)).await;
        let kept = world.keep(&["t"], TTL).await.unwrap().remove(0);
        assert_eq!((kept.remaining, kept.held_count), (TTL, 1));
    }
    assert!(world.store.seen().is_empty(), "renewals are not written");
    let took = world.until_free(1).await;
    assert!(in_time(took, TTL), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_at_the_last_moment_counts() {
    let world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    // The lease has ended, and the renewal was in a socket that nobody had read.
    tokio::time::sleep(TTL + Duration::from_millis(LEASE_GRACE_MS / 2)).await;
    world.keep(&["t"], TTL).await.unwrap();
    tokio::time::sleep(TTL - Duration::from_secs(1)).await;
    assert!(world.bound(1).await);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_process_takes_what_has_arrived_before_it_takes_anything_away() {
    let world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    // Time passes and nothing runs: what the owner sees when its process was stopped for an hour.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    world.keep(&["t"], TTL).await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    assert!(world.bound(1).await);
    let took = world.until_free(1).await;
    assert!(in_time(took + TTL / 2, TTL), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_gives_every_lease_its_full_length() {
    let mut world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    for start in 1..=3 {
        tokio::time::sleep(TTL - Duration::from_secs(1)).await;
        world = world.restarted().await;
        world.until("a", "READY").await;
        assert!(world.bound(1).await, "start {start}");
    }
    // The fourth does not: what was served in the third counts, as far as it was recorded.
    tokio::time::sleep(TTL - Duration::from_secs(1)).await;
    world = world.restarted().await;
    world.until("a", "READY").await;
    let took = world.until_free(1).await;
    assert!(took < TTL / 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_makes_all_starts_good() {
    let mut world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    for start in 1..=10 {
        tokio::time::sleep(TTL - Duration::from_secs(1)).await;
        world = world.restarted().await;
        world.until("a", "READY").await;
        assert!(world.bound(1).await, "start {start}");
        world.keep(&["t"], TTL).await.unwrap();
    }
    let took = world.until_free(1).await;
    assert!(in_time(took, TTL), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_came_before_anything_was_held_covers_what_comes() {
    let world = World::ready().await;
    world.store.seen();
    world.keep(&["t"], TTL).await.unwrap();
    assert!(world.store.seen().is_empty(), "a thread that holds nothing has nothing to remember");
    tokio::time::sleep(TTL / 2).await;
    world.set(1, "t").await.unwrap();
    let took = world.until_free(1).await + TTL / 2;
    assert!(in_time(took, TTL), "setting renews nothing: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_takes_back_too() {
    let world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    world.stop("a").await.unwrap();
    let took = world.until_free(1).await;
    assert!(in_time(took, TTL), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn threads_that_end_let_everything_go() {
    let world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    world.set(2, "t").await.unwrap();
    let call = EndThreads { threads: vec![tid("t")] };
    assert_eq!(world.call("a", call, |ending| ending).await, Ok(Ending::Ended));
    assert!(!world.bound(1).await && !world.bound(2).await);
    assert!(!world.get("a", 1).await.unwrap().abandoned());
    world.set(1, "t").await.unwrap();
    tokio::time::sleep(10 * TTL).await;
    assert!(world.bound(1).await, "it has no lease any more");
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_is_handed_to_those_who_wait() {
    let world = World::ready().await;
    world.set_leased(1, "t", TTL).await.unwrap();
    let (engine, wait) = (world.engine.clone(), Duration::from_secs(3_600));
    let call = SetContext { wait: true, ..SetContext::new(session(1), tid("w"), 7) };
    let patience = crate::engine::patience::Patience { wait, deadline: None, room: None };
    let asker = Asker::once(Principal::anonymous());
    let began = world.environment.monotonic();
    let granted = engine.ask_patiently(&name("a"), asker, call, patience).await.unwrap();
    let took = world.environment.monotonic() - began;
    assert!(in_time(took, TTL), "{took:?}");
    assert!(granted.session.abandoned(), "the next one is told");
}

#[tokio::test(start_paused = true)]
async fn many_that_end_together_leave_calls_their_turn() {
    let world = World::ready().await;
    let many = 4 * EXPIRIES_AT_ONCE as u64;
    let mut sessions = Vec::new();
    for n in 0..many {
        let sesid = world.begin_session("a").await.unwrap();
        world.set_leased(sesid, &format!("t{n}"), TTL).await.unwrap();
        sessions.push(sesid);
    }
    world.store.seen();
    // The first batch of them stands at the store, and a call comes.
    let gate = world.store.stall(Op::Commit, "a");
    gate.reached().await;
    let call = sent(world.set(1, "caller"));
    gate.open();
    call.await.unwrap();
    let left = world.sessions("a").await.unwrap();
    let bound = left.iter().filter(|session| session.binding().is_some()).count();
    assert!(bound > EXPIRIES_AT_ONCE, "the call came in between: {bound} are left");
    for sesid in sessions {
        world.until_free(sesid).await;
    }
    let batches = world.store.seen();
    let of = |line: &String| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    assert!(batches.iter().map(of).max().unwrap() <= EXPIRIES_AT_ONCE + 2, "{batches:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_of_an_expiry_fails_the_instance_and_loses_nothing() {
    let world = World::ready().await;
    let token = world.set_leased(1, "t", TTL).await.unwrap();
    let full = crate::domain::jet_err::JetErr::LogWriteFail;
    world.store.next(Op::Commit, "a", Fate::UnknownLost(full));
    world.until("a", "FAILED").await;
    world.terminate("a", TerminateMode::Force).await.unwrap();
    world.initialize("a").await.unwrap();
    let found = world.get("a", 1).await.unwrap();
    assert_eq!(found.binding().map(|binding| binding.token.get()), Some(token));
    let took = world.until_free(1).await;
    assert!(took >= TTL, "a full length again: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_while_its_thread_waits_covers_what_the_thread_is_granted() {
    let world = World::ready().await;
    world.set(1, "holder").await.unwrap();
    world.keep(&["t"], TTL).await.unwrap();
    let engine = world.engine.clone();
    let mut waits: BoxFuture<'static, _> = Box::pin(async move {
        let call = SetContext { wait: true, ..SetContext::new(session(1), tid("t"), 7) };
        let wait = Duration::from_secs(3_600);
        let patience = crate::engine::patience::Patience { wait, deadline: None, room: None };
        engine.ask_patiently(&name("a"), Asker::once(Principal::anonymous()), call, patience).await
    });
    assert_unanswered(&mut waits);
    tokio::time::sleep(3 * TTL).await;
    world.reset(1, "holder").await.unwrap();
    let granted = soon(waits).await.unwrap();
    assert_eq!(granted.lease.map(|lease| lease.remaining), Some(TTL));
    let took = world.until_free(1).await;
    assert!(in_time(took, TTL), "{took:?}");
}
