//! "Leases" of the fine print, and the calls on threads.

use super::*;
use crate::domain::call::context::SetContext;
use crate::domain::call::pool::ClaimContext;
use crate::domain::call::thread::{EndThreads, Ending, GetThread, KeepAlive, Kept, ListThreads};
use crate::domain::lease::{Lease, LossCause};
use crate::domain::limits::{EXPIRIES_AT_ONCE, LEASES_MAX, STAGGER_SECONDS_MAX};
use crate::domain::queue::{Awaited, Waiter};
use crate::domain::refusal::{Ours, Quota, Retry};
use crate::domain::session::{LeaseView, SessionView};

/// How long a lease in these scripts is, unless it says otherwise.
const TTL: Duration = seconds(8);

impl World {
    /// Renews the lease of a thread.
    pub(super) fn keep(&mut self, who: Who, ttl: Duration) -> Kept {
        let [kept] = self.keep_all(who, &[who], ttl).try_into().unwrap();
        kept
    }

    fn keep_all(&mut self, by: Who, threads: &[Who], ttl: Duration) -> Vec<Kept> {
        let threads = threads.iter().map(|who| thread_of(*who)).collect();
        self.call(by, &KeepAlive { threads, ttl, include_held: true }).unwrap()
    }

    pub(super) fn set_for(&mut self, who: Who, id: u64, ttl: Option<Duration>) -> SessionView {
        let call = SetContext { lease: ttl, ..SetContext::new(sesid(id), thread_of(who), C) };
        self.call(who, &call).unwrap()
    }

    fn end_threads(&mut self, by: Who, threads: &[Who]) -> Ending {
        let threads = threads.iter().map(|who| thread_of(*who)).collect();
        self.call(by, &EndThreads { threads }).unwrap()
    }

    /// What a thread is told that it lost: session, cause, token.
    pub(super) fn lost(&mut self, who: Who) -> Vec<(u64, LossCause, u64)> {
        let lost = self.keep(who, seconds(1)).lost;
        lost.into_iter().map(|it| (it.session.get(), it.cause, it.token.get())).collect()
    }

    fn lease(&self, who: Who) -> Option<Lease> {
        self.instance.table.threads().lease(&owner(who))
    }

    /// When the lease of a thread ends, in microseconds served.
    fn end(&self, who: Who) -> Option<u64> {
        self.instance.deadlines.get(&owner(who)).map(|deadline| deadline.end.micros())
    }

    fn holds(&self, who: Who) -> Vec<u64> {
        let held = self.instance.table.held(&owner(who), 100);
        held.into_iter().map(SessionId::get).collect()
    }

    /// The events so far, after the first `from`.
    fn events(&self, from: usize) -> Vec<&SessionEvent> {
        self.changes[from..].iter().map(|change| &change.event).collect()
    }
}

#[test]
fn a_thread_without_a_lease_lives_for_ever() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    world.pass(Duration::from_hours(24 * 365));
    assert_eq!(world.expire(), 0);
    assert_eq!((world.holds(T1), world.session(Get(1)).abandoned()), (vec![1], false));
}

#[test]
fn a_lease_takes_back_all_that_its_thread_holds_and_nothing_earlier() {
    let mut world = World::after(&[Begin, Begin, Begin, Set(T1, 1, C), Set(T2, 2, C)]);
    let view = world.set_for(T1, 3, Some(TTL));
    assert_eq!(view.lease, Some(LeaseView { ttl: TTL, remaining: TTL }));
    world.pass(TTL - Duration::from_micros(1));
    assert_eq!(world.expire(), 0);
    world.pass(Duration::from_micros(1));
    let before = world.changes.len();

    assert_eq!(world.expire(), 3);

    let reset = |id| SessionEvent::ContextReset { session: sesid(id), how: HowReset::LeaseExpired };
    let ended = SessionEvent::LeaseEnded { owner: owner(T1) };
    assert_eq!(world.events(before), [&reset(1), &reset(3), &ended], "the lease ends last");
    assert_eq!((world.holds(T1), world.holds(T2)), (vec![], vec![2]));
    for (id, abandoned) in [(1, true), (2, false), (3, true)] {
        assert_eq!(world.session(Get(id)).abandoned(), abandoned);
    }
    assert_eq!((world.lease(T1), world.end(T1)), (None, None));
    let expired = LossCause::LeaseExpired;
    assert_eq!(world.lost(T1), [(1, expired, 4), (3, expired, 7)]);
    assert_eq!(world.lost(T1).len(), 2, "it is told again: a reply may be lost");
    world.pass(seconds(300));
    assert_eq!(world.lost(T1), []);
}

#[test]
fn a_renewal_costs_no_change_and_counts_from_when_it_came() {
    let mut world = World::after(&[Begin]);
    world.set_for(T1, 1, Some(TTL));
    let before = world.changes.len();
    for _ in 0..5 {
        world.pass(TTL / 2);
        let kept = world.keep(T1, TTL);
        assert_eq!((kept.remaining, kept.held_count, kept.held), (TTL, 1, vec![sesid(1)]));
        assert_eq!(world.expire(), 0);
    }
    assert_eq!(world.changes.len(), before);
    assert_eq!(world.end(T1), Some(world.served + 8_000_000));
    world.pass(TTL);
    assert_eq!(world.expire(), 2);
}

/// A Set says how long (or not) × what lease the thread has: what is recorded and when it ends.
#[test]
fn a_set_falls_under_the_lease_of_its_thread_or_makes_one() {
    let none: fn(&mut World) = |_| {};
    let volatile: fn(&mut World) = |world| drop(world.keep(T1, TTL));
    let recorded: fn(&mut World) = |world| drop(world.set_for(T1, 2, Some(TTL)));
    let (end, renewed, other) = (8, 10, 22);
    for (had, wanted, expected_end, recorded_now) in [
        (none, None, None, None),
        (none, Some(TTL), Some(renewed), Some((TTL, 2))),
        // That it has a lease was nobody's business; now it is, from its last renewal on.
        (volatile, None, Some(end), Some((TTL, 0))),
        (volatile, Some(TTL), Some(renewed), Some((TTL, 2))),
        (volatile, Some(seconds(20)), Some(other), Some((seconds(20), 2))),
        (recorded, None, Some(end), None),
        (recorded, Some(TTL), Some(renewed), None),
        (recorded, Some(seconds(20)), Some(other), Some((seconds(20), 2))),
    ] {
        let mut world = World::after(&[Begin, Begin]);
        had(&mut world);
        world.pass(seconds(2));
        let before = world.changes.len();
        let view = world.set_for(T1, 1, wanted);
        let set = world.events(before).into_iter().find_map(|event| {
            if let SessionEvent::LeaseSet { ttl, since, .. } = event {
                Some((*ttl, since.micros() / 1_000_000))
            } else {
                None
            }
        });
        assert_eq!(set, recorded_now, "{wanted:?}");
        assert_eq!(world.end(T1), expected_end.map(|end| end * 1_000_000), "{wanted:?}");
        let remaining = expected_end.map(|end| seconds(end - 2));
        assert_eq!(view.lease.map(|lease| lease.remaining), remaining);
        assert_eq!(world.lease(T1).is_some(), expected_end.is_some(), "a holder's is recorded");
    }
}

#[test]
fn a_claim_falls_under_a_lease_as_a_set_does() {
    let mut world = World::after(&[Begin]);
    let claim = ClaimContext {
        labels: Labels::default(),
        thread: thread_of(T1),
        context: C,
        wait: false,
        lease: Some(TTL),
    };
    let view = world.call(T1, &claim).unwrap();
    assert_eq!(view.lease, Some(LeaseView { ttl: TTL, remaining: TTL }));
    world.pass(TTL);
    assert_eq!((world.expire(), world.holds(T1)), (2, vec![]));
}

#[test]
fn a_lease_is_recorded_where_its_thread_holds_something_and_stays_recorded() {
    let mut world = World::after(&[Begin]);
    world.keep(T1, TTL);
    assert_eq!((world.lease(T1), world.changes.len()), (None, 1));
    world.ok(Set(T1, 1, C));
    let lease = Lease { ttl: TTL, since: Served::default(), starts: 0 };
    assert_eq!(world.lease(T1), Some(lease));
    world.ok(Reset(T1, 1));
    assert_eq!(world.lease(T1), Some(lease), "it held something");
    world.pass(TTL);
    assert_eq!((world.expire(), world.lease(T1)), (1, None));

    // Held without one, then kept alive.
    world.ok(Set(T1, 1, C));
    world.keep(T1, TTL);
    assert_eq!(world.lease(T1).map(|lease| lease.ttl), Some(TTL));
}

#[test]
fn a_volatile_lease_ends_without_a_change() {
    let mut world = World::after(&[Begin]);
    world.keep(T1, TTL);
    world.pass(TTL);
    assert_eq!((world.expire(), world.end(T1)), (0, None));
}

#[test]
fn a_thread_that_is_named_twice_has_one_lease_and_two_answers() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    let before = world.changes.len();
    let kept = world.keep_all(T1, &[T1, T2, T1], TTL);
    assert_eq!(world.changes.len(), before + 1);
    let threads: Vec<_> = kept.iter().map(|kept| kept.thread.as_str()).collect();
    assert_eq!(threads, ["t1", "t2", "t1"]);
    assert_eq!((&kept[0], kept[1].held_count), (&kept[2], 0));
    assert_eq!(world.instance.deadlines.len(), 2);
}

#[test]
fn leases_are_of_the_callers_threads() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    world.keep_all(BOBS_T1, &[T1], TTL);
    assert_eq!((world.end(T1), world.end(BOBS_T1).is_some()), (None, true));
    assert_eq!(world.end_threads(BOBS_T1, &[T1]), Ending::Ended);
    assert_eq!((world.holds(T1), world.end(BOBS_T1)), (vec![1], None));
}

#[test]
fn leases_are_renewed_and_end_in_a_stopped_instance_too() {
    let mut world = World::after(&[Begin, Begin]);
    world.set_for(T1, 1, Some(TTL));
    world.set_for(T2, 2, Some(TTL));
    world.instance.phase = Phase::Stopped;
    world.pass(TTL / 2);
    world.keep(T1, TTL);
    world.pass(TTL / 2);
    world.expire();
    assert_eq!((world.holds(T1), world.holds(T2)), (vec![1], vec![]));
    assert_eq!(world.end_threads(T1, &[T1]), Ending::Ended);
    assert!(world.holds(T1).is_empty());
}

#[test]
fn only_so_many_threads_have_a_lease() {
    let mut world = World::after(&[Begin, Begin]);
    world.set_for(T1, 1, Some(TTL));
    let crowd = |n: usize| Owner::new(principal(T1), format!("crowd/{n}").parse().unwrap());
    let deadlines = &mut world.instance.deadlines;
    (1..LEASES_MAX).for_each(|n| deadlines.set(&crowd(n), TTL, Served::from_micros(1)));
    assert_eq!(deadlines.len(), LEASES_MAX);

    let keep = |who| KeepAlive { threads: vec![thread_of(who)], ttl: TTL, include_held: false };
    let set = SetContext { lease: Some(TTL), ..SetContext::new(sesid(2), thread_of(T2), C) };
    let claim = ClaimContext {
        labels: Labels::default(),
        thread: thread_of(T2),
        context: C,
        wait: true,
        lease: Some(TTL),
    };
    let stamp = world.stamp(T2);
    // Decided, not made: making copies of so many takes its time.
    let facts = [
        keep(T2).decide(&world.instance, &stamp).unwrap_err().facts(),
        set.decide(&world.instance, &stamp).unwrap_err().facts(),
        claim.decide(&world.instance, &stamp).unwrap_err().facts(),
    ];
    for facts in facts {
        assert_eq!((facts.ours, facts.retry), (Some(Ours::TooManyLeases), Retry::Soon));
        assert_eq!(facts.quota, Some(Quota::Leases(LEASES_MAX)));
    }
    let without = SetContext { lease: None, ..set.clone() };
    assert!(without.decide(&world.instance, &stamp).is_ok());
    assert!(keep(T1).decide(&world.instance, &stamp).is_ok(), "who has one may renew it");
    world.instance.deadlines.remove(&crowd(1));
    assert!(keep(T2).decide(&world.instance, &stamp).is_ok());
    assert!(set.decide(&world.instance, &stamp).is_ok());
}

#[test]
fn a_successor_with_a_lease_falls_under_it_and_one_without_is_free_of_it() {
    let mut world = World::after(&[Begin, Begin]);
    world.set_for(T1, 1, Some(TTL));
    world.set_for(T1, 2, None);
    world.keep(T2, seconds(20));
    world.ok(Transfer(T1, 1, T2));
    world.ok(Transfer(T1, 2, T3));
    assert_eq!(world.lease(T2).map(|lease| lease.ttl), Some(seconds(20)));
    world.pass(TTL);
    world.expire();
    assert_eq!((world.holds(T2), world.holds(T3)), (vec![1], vec![2]));
    world.pass(seconds(12));
    world.expire();
    assert_eq!((world.holds(T2), world.holds(T3)), (vec![], vec![2]));
    assert_eq!(world.lost(T1), [], "what was handed over was not lost");
}

/// Three starts give every lease its full length, the fourth does not.
#[test]
fn a_server_that_keeps_dying_gives_full_lengths_three_times() {
    let mut world = World::after(&[Begin]);
    world.set_for(T1, 1, Some(TTL));
    for _ in 0..3 {
        world.pass(TTL - seconds(1));
        assert_eq!(world.expire(), 0);
        world.restart();
        assert_eq!(world.end(T1), Some(world.served + 8_000_000));
    }
    world.pass(seconds(3));
    world.record_served();
    world.pass(seconds(2));
    for _ in 0..2 {
        world.restart();
        assert_eq!(world.end(T1), Some(world.served + 5_000_000), "three of eight are used up");
    }
    world.pass(seconds(5));
    assert_eq!((world.expire(), world.holds(T1)), (2, vec![]));
}

#[test]
fn a_renewal_after_a_start_is_recorded_once_and_starts_count_anew() {
    let mut world = World::after(&[Begin]);
    world.set_for(T1, 1, Some(TTL));
    for _ in 0..4 {
        world.restart();
    }
    world.pass(seconds(2));
    let before = world.changes.len();
    world.keep(T1, TTL);
    world.keep(T1, TTL);
    assert_eq!(world.changes.len(), before + 1);
    let lease = world.lease(T1).unwrap();
    assert_eq!((lease.since.micros(), lease.starts), (world.served, 0));
    world.restart();
    assert_eq!(world.end(T1), Some(world.served + 8_000_000));
    // A Set that says how long renews as well; one that says nothing does not.
    let before = world.changes.len();
    world.ok(Reset(T1, 1));
    world.set_for(T1, 1, None);
    assert_eq!((world.lease(T1).unwrap().starts, world.changes.len()), (1, before + 2));
    world.ok(Reset(T1, 1));
    world.set_for(T1, 1, Some(TTL));
    assert_eq!((world.lease(T1).unwrap().starts, world.changes.len()), (0, before + 5));
}

#[test]
fn a_start_without_leases_records_nothing() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    world.keep(T2, TTL);
    let before = world.changes.len();
    world.restart();
    assert_eq!((world.changes.len(), world.instance.deadlines.len()), (before, 0));
}

#[test]
fn after_a_start_leases_end_one_after_the_other_within_a_bound() {
    for (ttl, bound) in [(seconds(8), seconds(2)), (seconds(86_400), seconds(STAGGER_SECONDS_MAX))]
    {
        let mut world = World::after(&[Begin, Begin, Begin, Begin]);
        for (who, id) in [(T1, 1), (T2, 2), (T3, 3), (BOBS_T1, 4)] {
            world.set_for(who, id, Some(ttl));
        }
        world.pass(seconds(1));
        world.restart();
        let ends: Vec<_> = [T1, T2, T3, BOBS_T1]
            .map(|who| Duration::from_micros(world.end(who).unwrap() - world.served) - ttl)
            .to_vec();
        let expected: Vec<_> = (0..4).map(|nth| bound * nth / 4).collect();
        assert_eq!(ends, expected);
    }
}

#[test]
fn many_sessions_are_taken_back_in_turns() {
    let mut world = World::after(&[Begin; 10]);
    for id in 1..=7 {
        world.set_for(T1, id, Some(TTL));
    }
    for (who, id) in [(T2, 8), (T3, 9), (BOBS_T1, 10)] {
        world.set_for(who, id, Some(TTL));
    }
    world.pass(TTL);
    let mut turns = Vec::new();
    while world.instance.deadlines.first().is_some_and(|first| first.micros() <= world.served) {
        turns.push(world.expire_some(3));
        assert!(turns.len() < 20, "it comes to an end");
    }
    assert!(turns.iter().all(|changes| *changes <= 4), "{turns:?}");
    assert_eq!(turns.iter().sum::<usize>(), 14, "ten sessions and four leases");
    assert_eq!(world.instance.table.bound_count(), 0);
    // What was not taken back yet can still be let go, and a renewal saves it.
    let mut world = World::after(&[Begin; 3]);
    (1..=3).for_each(|id| drop(world.set_for(T1, id, Some(TTL))));
    world.pass(TTL);
    assert_eq!((world.expire_some(1), world.holds(T1)), (1, vec![2, 3]));
    world.ok(Reset(T1, 2));
    let kept = world.keep(T1, TTL);
    assert_eq!((kept.held, kept.lost.len()), (vec![sesid(3)], 1));
    assert_eq!((world.expire(), world.holds(T1)), (0, vec![3]));
}

#[test]
fn a_thread_that_holds_nothing_counts_as_a_change_like_others() {
    let mut world = World::after(&[Begin]);
    for who in [T1, T2, T3, BOBS_T1] {
        world.set_for(who, 1, Some(TTL));
        world.ok(Reset(who, 1));
    }
    world.pass(TTL);
    assert_eq!((world.expire_some(2), world.expire_some(9)), (2, 2));

    // T1 comes first and takes the whole turn.
    let mut world = World::after(&[Begin, Begin]);
    for who in [T2, T3] {
        world.set_for(who, 1, Some(TTL));
        world.ok(Reset(who, 1));
    }
    [1, 2].into_iter().for_each(|id| drop(world.set_for(T1, id, Some(TTL))));
    world.pass(TTL);
    assert_eq!((world.expire_some(3), world.expire_some(3)), (3, 2));
}

#[test]
fn ended_threads_hold_nothing_and_have_no_lease() {
    let mut world = World::after(&[Begin, Begin, Begin, Set(T1, 1, C), BeginTx(T1, 1)]);
    world.set_for(T2, 2, Some(TTL));
    world.keep(T3, TTL);
    let before = world.changes.len();
    assert_eq!(world.end_threads(T1, &[T2, T1, T3, T2]), Ending::Ended);
    let reset = |id| SessionEvent::ContextReset { session: sesid(id), how: HowReset::ByHolder };
    let ended = SessionEvent::LeaseEnded { owner: owner(T2) };
    assert_eq!(world.events(before), [&reset(1), &reset(2), &ended]);
    assert!(world.instance.deadlines.is_empty());
    let session = world.session(Get(1));
    assert_eq!((session.abandoned(), session.transaction_level()), (false, 1), "a clean exit");
    assert_eq!((world.lost(T1), world.lost(T2)), (vec![], vec![]));
    assert_eq!(world.end_threads(T1, &[T1, T2]), Ending::Ended);
}

#[test]
fn so_many_sessions_are_let_go_at_a_time() {
    let more = EXPIRIES_AT_ONCE as u64 + 5;
    let mut world = World::ready();
    (1..=more).for_each(|_| drop(world.ok(Begin)));
    (1..=more).for_each(|id| drop(world.ok(Set(T1, id, C))));
    world.keep(T1, TTL);
    let before = world.changes.len();
    assert_eq!(world.end_threads(T1, &[T1]), Ending::More);
    assert_eq!(world.changes.len() - before, EXPIRIES_AT_ONCE);
    assert!(world.lease(T1).is_some(), "it ends with the last");
    assert_eq!(world.end_threads(T1, &[T1]), Ending::Ended);
    assert_eq!((world.holds(T1), world.lease(T1), world.end(T1)), (vec![], None, None));
}

#[test]
fn a_thread_is_shown_with_what_it_holds_and_waits_for() {
    let mut world = World::after(&[Begin, Begin, Set(T1, 2, C), Set(T1, 1, C)]);
    world.keep(T1, TTL);
    world.pass(seconds(3));
    let awaited = [Awaited::Session(sesid(2)), Awaited::Pool(labels(&["a"]))];
    for awaited in awaited.clone() {
        let waiter = Waiter { owner: owner(T1), context: C, lease: None, awaited };
        world.instance.queue.join(waiter);
    }
    let shown = world.call(T1, &GetThread { thread: thread_of(T1) }).unwrap();
    assert_eq!((shown.owner, shown.held_count), (owner(T1), 2));
    assert_eq!(shown.held, [sesid(1), sesid(2)]);
    assert_eq!(shown.lease, Some(LeaseView { ttl: TTL, remaining: TTL - seconds(3) }));
    assert_eq!(shown.waiting_for, awaited);

    let unknown = world.call(T1, &GetThread { thread: thread_of(T3) }).unwrap();
    assert_eq!((unknown.owner, unknown.held_count, unknown.lease), (owner(T3), 0, None));
    assert!(unknown.held.is_empty() && unknown.waiting_for.is_empty());
}

#[test]
fn threads_of_all_principals_are_listed_once_in_pages() {
    let mut world = World::after(&[Begin, Set(T2, 1, C)]);
    world.keep(T2, TTL);
    world.keep(BOBS_T1, TTL);
    let awaited = Awaited::Session(sesid(1));
    let waiter = Waiter { owner: owner(T1), context: C, lease: None, awaited };
    world.instance.queue.join(waiter);
    for count in 1..=4 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = world.call(T1, &ListThreads { after: after.clone(), count }).unwrap();
            assert!(page.len() <= count);
            found.extend(page.iter().map(|thread| thread.owner.clone()));
            match page.last() {
                Some(last) => after = Some(last.owner.clone()),
                None => break,
            }
        }
        assert_eq!(found, [T1, T2, BOBS_T1].map(owner), "{count} to a page");
    }
}

#[test]
fn an_instance_that_begins_to_serve_finds_what_threads_hold_without_looking_at_all_sessions() {
    let world = World::after(&[Begin, Set(T1, 1, C)]);
    let mut copy = world.instance.clone();
    assert!(!copy.table.has_index(), "a copy comes without one, as from the store in memory");
    copy.begin_serving();
    assert!(copy.table.has_index());
}
