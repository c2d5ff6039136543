//! What those who watch sessions are told.

use futures_util::future::join_all;

use crate::domain::call::session::{EndHow, EndSession};
use crate::domain::id::Revision;
use crate::domain::jet_err::JetErr;
use crate::domain::limits::{
    BATCH_CALLS_MAX, WATCH_EVENTS_MAX, WATCH_SNAPSHOTS_MAX, WATCH_STALL_SECONDS_MAX,
};
use crate::domain::refusal::Ours;
use crate::domain::watch::{Cause, WatchRefusal};
use crate::engine::patience::Patience;
use crate::engine::sessions::{SessionWatch, Watched};

use super::scripted::{Fate, Op};
use super::*;

impl World {
    async fn watch(&self, from: u64) -> SessionWatch {
        self.watch_filtered(from, SessionFilter::default()).await
    }

    async fn watch_filtered(&self, from: u64, filter: SessionFilter) -> SessionWatch {
        self.engine.watch_sessions(&name("a"), Revision::new(from), filter).await.unwrap()
    }

    /// Why sessions of `a` cannot be watched from there on.
    async fn unwatchable(&self, from: u64) -> Unanswered<WatchRefusal> {
        let from = Revision::new(from);
        let watch = self.engine.watch_sessions(&name("a"), from, SessionFilter::default()).await;
        watch.expect_err("it cannot be watched")
    }

    fn end(&self, sesid: u64) -> Asked<()> {
        let call = EndSession { session: session(sesid), how: EndHow::By("t".parse().unwrap()) };
        self.call("a", call, |()| ())
    }
}

/// What is told next, in one line.
async fn told(watch: &mut SessionWatch) -> String {
    let watched = soon(watch.next()).await.expect("it goes on").expect("it goes on");
    line(&watched)
}

fn line(watched: &Watched) -> String {
    let held = |session: &Session| match session.binding() {
        Some(binding) => format!("{} held by {}", session.id, binding.owner.thread()),
        None => format!("{} free", session.id),
    };
    match watched {
        Watched::Present(revision, view) => format!("@{revision} {}", held(&view.session)),
        Watched::UpTo(revision) => format!("@{revision}"),
        Watched::Event(told) => {
            let after = held(&told.seen.after.session);
            format!("{} {:?} {after}", told.revision, told.cause)
        }
    }
}

/// How it ends: the JET number and where it can go on.
async fn end(watch: &mut SessionWatch) -> (i32, u64) {
    let refusal = soon(watch.next()).await.expect("it says why").expect_err("it ends");
    assert!(soon(watch.next()).await.is_none(), "nothing comes after the end");
    let resume = refusal.facts().watch.resume.expect("a watch can go on");
    (refusal.jet_err().code(), resume.get())
}

fn assert_silent(watch: &mut SessionWatch) {
    let told = unconstrained(watch.next()).now_or_never();
    assert!(told.is_none(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_first_and_then_what_happens() {
    let world = World::ready().await;
    world.set(2, "t").await.unwrap();
    let mut watch = world.watch(0).await;

    for expected in ["@4 1 free", "@4 2 held by t", "@4 3 free", "@4"] {
        assert_eq!(told(&mut watch).await, expected);
    }
    assert_silent(&mut watch);
    world.set(1, "u").await.unwrap();
    world.reset(2, "t").await.unwrap();
    world.begin_transaction(3, "t").await.unwrap();
    world.reset(1, "u").await.unwrap();
    world.end(1).await.unwrap();
    world.begin_session("a").await.unwrap();
    for expected in [
        "5 Set 1 held by u",
        "6 Reset 2 free",
        "7 TransactionBegan 3 free",
        "8 Reset 1 free",
        "9 Ended(None) 1 free",
        "10 Began 4 free",
    ] {
        assert_eq!(told(&mut watch).await, expected);
    }
    assert_silent(&mut watch);
}

#[tokio::test(start_paused = true)]
async fn an_empty_snapshot_has_an_end_too() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.initialize("a").await.unwrap();

    let mut watch = world.watch(0).await;

    assert_eq!(told(&mut watch).await, "@0");
    world.begin_session("a").await.unwrap();
    assert_eq!(told(&mut watch).await, "1 Began 1 free");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_many_pieces_is_of_one_moment() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.initialize("a").await.unwrap();
    for _ in 0..1_000 {
        world.begin_session("a").await.unwrap();
    }
    let mut watch = world.watch(0).await;
    assert_eq!(told(&mut watch).await, "@1000 1 free");

    // All of it happens after the snapshot, which does not show it.
    for sesid in 1..=1_000 {
        world.set(sesid, "t").await.unwrap();
    }
    for sesid in 2..=1_000 {
        assert_eq!(told(&mut watch).await, format!("@1000 {sesid} free"));
    }
    assert_eq!(told(&mut watch).await, "@1000");
    for sesid in 1..=1_000 {
        assert_eq!(told(&mut watch).await, format!("{} Set {sesid} held by t", 1_000 + sesid));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_at_every_revision() {
    let world = World::ready().await;
    for _ in 0..10 {
        world.set(1, "t").await.unwrap();
        world.reset(1, "t").await.unwrap();
    }
    for from in 4..=24 {
        let mut watch = world.watch(from).await;
        for revision in from..=23 {
            let cause = if revision % 2 == 0 { "Set 1 held by t" } else { "Reset 1 free" };
            assert_eq!(told(&mut watch).await, format!("{revision} {cause}"));
        }
        assert_silent(&mut watch);
    }
    let ahead = world.unwatchable(25).await.facts();
    assert_eq!(ahead.ours, Some(Ours::RevisionNotYet));
    assert_eq!(ahead.watch.current, Some(Revision::new(23)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_it_is_committed_and_nothing_of_what_is_not() {
    let world = World::ready().await;
    let mut watch = world.watch(4).await;
    let gate = world.store.stall_then(Op::Commit, "a", Fate::UnknownWritten(JetErr::DiskIO));
    let mut set = sent(world.set(1, "t"));
    gate.reached().await;

    settle().await;

    assert_silent(&mut watch);
    assert_unanswered(&mut set);
    gate.open();
    assert_eq!(set.await, Err(UNAVAILABLE));
    assert_eq!(end(&mut watch).await, (UNAVAILABLE, 4));
    // It was written after all; who asks for it is told that it is not known here.
    world.terminate("a", TerminateMode::Complete).await.unwrap();
    world.initialize("a").await.unwrap();
    assert_eq!(world.unwatchable(4).await.facts().ours, Some(Ours::RevisionCompacted));
    let mut watch = world.watch(0).await;
    assert_eq!(told(&mut watch).await, "@4 1 held by t");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_an_answer_finds_it_told() {
    let world = World::ready().await;
    let mut watch = world.watch(4).await;
    for round in 0..100 {
        let token = world.set(1, "t").await.unwrap();
        // Not one turn more is needed.
        let next = unconstrained(watch.next()).now_or_never().expect("it is there").unwrap();
        assert_eq!(line(&next.unwrap()), format!("{token} Set 1 held by t"), "{round}");
        world.reset(1, "t").await.unwrap();
        assert!(unconstrained(watch.next()).now_or_never().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_passes_what_matches_before_or_after() {
    let world = World::ready().await;
    let thread = SessionFilter { thread: Some("t".parse().unwrap()), ..SessionFilter::default() };
    let free = SessionFilter { bound: Some(false), ..SessionFilter::default() };
    let (mut of_t, mut of_free) =
        (world.watch_filtered(0, thread).await, world.watch_filtered(4, free).await);
    assert_eq!(told(&mut of_t).await, "@3");

    world.set(1, "t").await.unwrap();
    world.set(2, "u").await.unwrap();
    world.reset(2, "u").await.unwrap();
    world.reset(1, "t").await.unwrap();
    world.set(1, "u").await.unwrap();

    for expected in ["4 Set 1 held by t", "7 Reset 1 free"] {
        assert_eq!(told(&mut of_t).await, expected);
    }
    assert_silent(&mut of_t);
    // Each of them leaves or enters what is free.
    for revision in 4..=8 {
        assert!(told(&mut of_free).await.starts_with(&revision.to_string()));
    }
    // One session in a transaction is bound before and after.
    world.begin_transaction(1, "u").await.unwrap();
    world.begin_session("a").await.unwrap();
    assert_eq!(told(&mut of_free).await, "10 Began 4 free");
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_with_how_far_the_watch_is() {
    let world = World::ready().await;
    let filter = SessionFilter { thread: Some("t".parse().unwrap()), ..SessionFilter::default() };
    let mut watch = world.watch_filtered(4, filter).await;
    world.set(1, "other").await.unwrap();
    assert_silent(&mut watch);

    for _ in 0..3 {
        let before = world.environment.monotonic();
        let next = tokio::time::timeout(Duration::from_secs(61), watch.next()).await;
        assert_eq!(line(&next.unwrap().unwrap().unwrap()), "@4");
        assert_eq!((world.environment.monotonic() - before).as_secs(), 60);
    }
    world.set(2, "t").await.unwrap();
    assert_eq!(told(&mut watch).await, "5 Set 2 held by t");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_phase_is_the_end_of_its_watches() {
    let world = World::ready().await;
    let mut live = world.watch(4).await;
    world.stop("a").await.unwrap();
    world.resume("a").await.unwrap();
    assert_silent(&mut live);
    world.stop("a").await.unwrap();
    let mut late = world.watch(0).await;
    assert_eq!(told(&mut late).await, "@3 1 free");

    world.terminate("a", TerminateMode::Complete).await.unwrap();

    assert_eq!(end(&mut live).await, (TERM_IN_PROGRESS, 4));
    // Of its snapshot some may have been on its way.
    for _ in 0..3 {
        if let Some(Err(refusal)) = soon(late.next()).await {
            assert_eq!(refusal.jet_err().code(), TERM_IN_PROGRESS);
            assert_eq!(refusal.facts().watch.resume.unwrap().get() % 4, 0);
            break;
        }
    }
    assert_eq!(world.unwatchable(0).await.jet_err().code(), NOT_INITIALIZED);
    assert_eq!(world.unwatchable(4).await.jet_err().code(), NOT_INITIALIZED);

    // The sessions that were watched are no more, and nothing joins them to those that come.
    world.initialize("a").await.unwrap();
    let gone = world.unwatchable(4).await.facts();
    assert_eq!(
        (gone.ours, gone.watch.oldest),
        (Some(Ours::RevisionCompacted), Some(Revision::new(5)))
    );
    let mut next = world.watch(5).await;
    assert_silent(&mut next);
    world.begin_session("a").await.unwrap();
    assert_eq!(told(&mut next).await, "5 Began 4 free");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_ends_its_watches() {
    let world = World::ready().await;
    let (mut live, mut fed) = (world.watch(4).await, world.watch(0).await);
    assert_silent(&mut live);

    world.engine.drain();

    assert_eq!(end(&mut live).await, (STOPPED, 4));
    assert_eq!(end(&mut fed).await, (STOPPED, 0), "a snapshot begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_keep_up_is_told_so() {
    let world = World::ready().await;
    let mut stalled = world.watch(4).await;
    world.set(1, "t").await.unwrap();
    assert_eq!(told(&mut stalled).await, "4 Set 1 held by t");
    for _ in 0..=WATCH_EVENTS_MAX / BATCH_CALLS_MAX {
        let begun = (0..BATCH_CALLS_MAX).map(|_| world.begin_session("a"));
        assert!(join_all(begun).await.iter().all(Result::is_ok));
    }

    let refusal = soon(stalled.next()).await.unwrap().unwrap_err();

    let facts = refusal.facts();
    assert_eq!(
        (facts.ours, facts.watch.resume),
        (Some(Ours::WatchTooSlow), Some(Revision::new(5)))
    );
    assert!(soon(stalled.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_stalls_in_a_snapshot_gives_its_turn_to_others() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    world.initialize("a").await.unwrap();
    for _ in 0..2_000 {
        world.begin_session("a").await.unwrap();
    }
    let mut stalled = Vec::new();
    for _ in 0..WATCH_SNAPSHOTS_MAX {
        let mut watch = world.watch(0).await;
        assert_eq!(told(&mut watch).await, "@2000 1 free");
        stalled.push(watch);
    }
    let mut waits = world.watch(0).await;
    settle().await;
    assert_silent(&mut waits);
    let before = world.environment.monotonic();

    assert_eq!(told(&mut waits).await, "@2000 1 free");

    let waited = (world.environment.monotonic() - before).as_secs();
    assert_eq!(waited, WATCH_STALL_SECONDS_MAX);
    for mut watch in stalled {
        let refusal = loop {
            if let Err(refusal) = soon(watch.next()).await.unwrap() {
                break refusal;
            }
        };
        let facts = refusal.facts();
        assert_eq!(facts.ours, Some(Ours::WatchTooSlow));
        assert_eq!(
            facts.watch.resume,
            Some(Revision::ZERO),
            "its snapshot was not told to its end"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_in_a_snapshot_leaves_its_turn() {
    let world = World::ready().await;
    for _ in 0..10 * WATCH_SNAPSHOTS_MAX {
        drop(world.watch(0).await);
    }
    let mut watch = world.watch(0).await;
    assert_eq!(told(&mut watch).await, "@3 1 free");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_watches_of_which_a_hundred_stall_are_told_everything() {
    const ROUNDS: u64 = 200;
    let world = World::ready().await;
    let mut stalled = Vec::new();
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let mut watch = world.watch(4).await;
        if n % 10 == 0 {
            stalled.push(watch);
            continue;
        }
        readers.spawn(async move {
            let mut told = Vec::new();
            while told.len() < 2 * usize::try_from(ROUNDS).unwrap() {
                match soon(watch.next()).await.unwrap().unwrap() {
                    Watched::Event(event) => told.push(event.revision.get()),
                    other @ (Watched::Present(..) | Watched::UpTo(_)) => panic!("{other:?}"),
                }
            }
            told
        });
    }
    for _ in 0..ROUNDS {
        world.set(1, "t").await.unwrap();
        world.reset(1, "t").await.unwrap();
    }
    let all: Vec<_> = (4..4 + 2 * ROUNDS).collect();
    for told in readers.join_all().await {
        assert_eq!(told, all);
    }
    // What is kept is kept once, however many have not read it.
    let handle = world.engine.handle::<Failure>(&name("a")).unwrap();
    let (events, bytes) = handle.ring.kept();
    assert_eq!(events, all.len() + 3);
    assert_eq!(world.engine.shared.watches.budget.used(), bytes);
    for mut watch in stalled {
        assert_eq!(told(&mut watch).await, "4 Set 1 held by t");
    }
}

#[tokio::test(start_paused = true)]
async fn leases_and_waiters_are_shown_as_they_are_now() {
    const TTL: Duration = Duration::from_secs(30);
    let world = World::ready().await;
    let mut live = world.watch(4).await;
    let set = SetContext::new(session(1), "t".parse().unwrap(), 7);
    let leased = SetContext { lease: Some(TTL), ..set };
    world.call("a", leased, drop).await.unwrap();
    let waiting = SetContext { wait: true, ..SetContext::new(session(1), "u".parse().unwrap(), 7) };
    let patience = Patience { wait: 2 * TTL, deadline: None, room: None };
    let engine = world.engine.clone();
    let waits = tokio::spawn(async move {
        let nobody = Asker::once(Principal::anonymous());
        soon(engine.ask_patiently(&name("a"), nobody, waiting, patience)).await
    });
    settle().await;
    tokio::time::advance(TTL / 3).await;

    let mut watch = world.watch(0).await;

    let Watched::Present(_, view) = soon(watch.next()).await.unwrap().unwrap() else {
        panic!("session 1 is there");
    };
    let lease = view.lease.expect("its holder has a lease");
    assert_eq!((view.waiters, lease.ttl), (1, TTL));
    assert!(lease.remaining <= TTL - TTL / 3, "{lease:?}");
    // Nobody renews it, and whoever waits gets the session.
    let mut causes = Vec::new();
    while causes.len() < 3 {
        if let Watched::Event(told) = soon(live.next()).await.unwrap().unwrap() {
            let lease = told.seen.after.lease.map(|lease| lease.ttl);
            causes.push((told.cause.clone(), told.by.is_some(), lease));
        }
    }
    let expected = [
        (Cause::Set, true, Some(TTL)),
        (Cause::LeaseExpired, false, None),
        (Cause::Set, true, None),
    ];
    assert_eq!(causes, expected);
    assert!(waits.await.unwrap().is_ok());
}
