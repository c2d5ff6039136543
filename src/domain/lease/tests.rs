//! Leases and losses by themselves; what a call does with them is among the scripts.

use proptest::prelude::*;

use super::*;
use crate::domain::id::Principal;

/// Leases of 10 s each.
const TTL: Duration = Duration::from_secs(10);

#[test]
fn three_starts_in_a_row_give_a_lease_its_full_length_again() {
    let mut threads = Threads::default();
    threads.set_lease(&owner(1), TTL, at(5));
    for (start, (clock, since)) in [(1, (100, 100)), (2, (200, 200)), (3, (300, 300))] {
        threads.serving_began(at(clock));
        let lease = threads.lease(&owner(1)).unwrap();
        assert_eq!((lease.since, lease.starts), (at(since), start));
    }
    // Time that was served since the third start counts from here on.
    threads.served_until(at(304));
    for start in [4, 5] {
        threads.serving_began(at(304));
        let lease = threads.lease(&owner(1)).unwrap();
        assert_eq!((lease.since, lease.starts), (at(300), start));
    }
    assert_eq!(threads.served(), at(304));

    threads.set_lease(&owner(1), TTL, at(306));
    threads.serving_began(at(310));
    assert_eq!(threads.lease(&owner(1)), Some(Lease { ttl: TTL, since: at(310), starts: 1 }));
}

#[test]
fn a_lease_that_met_very_many_starts_meets_one_more() {
    let mut threads = Threads::default();
    threads.put_lease(&owner(1), Lease { ttl: TTL, since: at(1), starts: u8::MAX });
    threads.serving_began(at(2));
    assert_eq!(threads.lease(&owner(1)), Some(Lease { ttl: TTL, since: at(1), starts: u8::MAX }));
}

#[test]
fn the_clock_never_goes_back_and_is_as_late_as_the_youngest_lease() {
    let mut threads = Threads::default();
    threads.set_lease(&owner(1), TTL, at(7));
    assert_eq!(threads.served(), at(7));
    threads.served_until(at(5));
    assert_eq!(threads.served(), at(7));
    threads.serving_began(at(6));
    assert_eq!(threads.served(), at(7));
    threads.set_lease(&owner(2), TTL, at(6));
    assert_eq!(threads.served(), at(7));
}

#[test]
fn leases_are_counted_once() {
    let mut threads = Threads::default();
    threads.set_lease(&owner(1), TTL, at(1));
    threads.set_lease(&owner(1), 2 * TTL, at(2));
    threads.set_lease(&owner(2), TTL, at(2));
    assert_eq!((threads.leases(), threads.lease(&owner(1)).unwrap().ttl), (2, 2 * TTL));
    for _ in 0..2 {
        threads.end_lease(&owner(1));
        assert_eq!((threads.leases(), threads.get(&owner(1))), (1, None));
    }
    threads.end_lease(&owner(2));
    assert!(threads.is_empty() && threads.leases() == 0);
}

#[test]
fn served_time_is_of_interest_while_a_lease_is_not_lengthened() {
    let mut threads = Threads::default();
    let lease = |ttl, starts| Lease { ttl, since: at(0), starts };
    threads.put_lease(&owner(1), lease(TTL / 2, STARTS_FORGIVEN - 1));
    assert_eq!(threads.shortest_unforgiven(), None);
    threads.put_lease(&owner(2), lease(3 * TTL, STARTS_FORGIVEN));
    threads.put_lease(&owner(3), lease(2 * TTL, STARTS_FORGIVEN + 1));
    assert_eq!(threads.shortest_unforgiven(), Some(2 * TTL));
    threads.set_lease(&owner(3), 2 * TTL, at(1));
    assert_eq!(threads.shortest_unforgiven(), Some(3 * TTL));
}

#[test]
fn a_loss_is_told_for_three_lengths_of_the_lease_or_five_minutes() {
    let told_for = |ttl: Option<u64>| {
        let mut threads = Threads::default();
        if let Some(ttl) = ttl {
            threads.set_lease(&owner(1), Duration::from_secs(ttl), at(0));
        }
        threads.lost(&owner(1), loss(1, 1_000));
        let [loss] = tell(&threads, 1).try_into().unwrap();
        loss.told_until.since(loss.time).as_secs()
    };
    let rows = [(None, 300), (Some(1), 300), (Some(100), 300), (Some(101), 303)];
    for (ttl, expected) in rows.into_iter().chain([(Some(86_400), 259_200)]) {
        assert_eq!(told_for(ttl), expected, "{ttl:?}");
    }
    // A length that nobody can ask for must still be applied.
    let mut threads = Threads::default();
    threads.set_lease(&owner(1), Duration::MAX, at(0));
    threads.lost(&owner(1), loss(1, 1));
    assert_eq!(tell(&threads, 1)[0].told_until, Timestamp::from_micros(i64::MAX));
}

#[test]
fn of_one_thread_the_oldest_loss_goes_when_there_are_too_many() {
    let mut threads = Threads::default();
    let lost = LOSSES_PER_THREAD_MAX as u64 + 3;
    (1..=lost).for_each(|token| threads.lost(&owner(1), loss(token, 1)));
    let tokens: Vec<_> = tell(&threads, 1).iter().map(|loss| loss.token.get()).collect();
    assert_eq!(tokens, (4..=lost).collect::<Vec<_>>());
    let before = threads.clone();
    assert!(!threads.put_loss(&owner(1), loss(9_999, 1)), "so many are never written");
    assert_eq!(threads, before);
}

#[test]
fn of_all_threads_the_oldest_go_when_there_are_too_many() {
    let mut threads = Threads::default();
    let max = LOSSES_MAX as u64;
    (1..=max).for_each(|token| threads.lost(&owner(token % 500), loss(token, 1)));
    assert_eq!((threads.order.len(), tell(&threads, 1)[0].token.get()), (LOSSES_MAX, 1));
    assert!(!threads.put_loss(&owner(999), loss(max + 1, 1)), "so many are never written");
    threads.lost(&owner(7), loss(max + 1, 1));
    let kept: usize = threads.iter().map(|(_, thread)| thread.losses.len()).sum();
    assert_eq!((threads.order.len(), kept), (LOSSES_MAX, LOSSES_MAX));
    assert_eq!(tell(&threads, 1)[0].token.get(), 501);
}

/// One thread loses more than is kept of it, while the oldest of all losses is still told.
#[test]
fn places_of_forgotten_losses_are_bounded() {
    let mut threads = Threads::default();
    threads.set_lease(&owner(1), Duration::from_secs(86_400), at(0));
    threads.lost(&owner(1), loss(1, 1));
    (2..=LOSSES_MAX as u64 + 10).for_each(|token| threads.lost(&owner(2), loss(token, 1)));
    assert!(threads.order.len() <= LOSSES_MAX);
    assert_eq!(tell(&threads, 2).len(), LOSSES_PER_THREAD_MAX);
}

#[test]
fn losses_that_are_told_no_more_go_with_their_threads_as_others_come() {
    let mut threads = Threads::default();
    (1..=40).for_each(|n| threads.lost(&owner(n), loss(n, 1)));
    threads.lost(&owner(100), loss(100, 1 + LOSS_KEPT_SECONDS_MIN));
    assert_eq!(threads.order.len(), 41, "in the last moment in which they are told");
    for (n, left) in (101..=109).zip([38, 35, 32, 29, 26, 23, 20, 17, 14]) {
        threads.lost(&owner(n), loss(n, 2 + LOSS_KEPT_SECONDS_MIN));
        assert_eq!(threads.order.len(), left, "a few go at a time");
    }
    let known: BTreeSet<_> = threads.iter().map(|(owner, _)| owner.clone()).collect();
    assert_eq!(known, (37..=40).chain(100..=109).map(owner).collect());
}

#[test]
fn a_thread_is_known_as_long_as_it_has_a_lease_or_a_loss() {
    let mut threads = Threads::default();
    threads.set_lease(&owner(1), TTL, at(0));
    threads.lost(&owner(1), loss(1, 1));
    threads.end_lease(&owner(1));
    assert_eq!(tell(&threads, 1).len(), 1);
    threads.set_lease(&owner(1), TTL, at(1));
    threads.lost(&owner(2), loss(2, 2 + LOSS_KEPT_SECONDS_MIN));
    assert!(tell(&threads, 1).is_empty());
    assert!(threads.lease(&owner(1)).is_some());
    threads.end_lease(&owner(1));
    assert_eq!(threads.get(&owner(1)), None);
}

/// Also if the wall clock goes back and forth.
#[test]
fn threads_are_read_back_as_they_were() {
    let mut threads = Threads::default();
    for n in 1..=60 {
        threads.set_lease(&owner(n % 7), Duration::from_secs(60 + n), at(n));
        threads.lost(&owner(n % 7), loss(n, (n * 37) % 500));
    }
    threads.end_lease(&owner(3));
    threads.serving_began(at(70));
    threads.served_until(at(75));
    let mut loaded = Threads::default();
    for (owner, thread) in threads.iter() {
        assert!(thread.losses.iter().all(|loss| loaded.put_loss(owner, loss.clone())));
        thread.lease.into_iter().for_each(|lease| loaded.put_lease(owner, lease));
    }
    assert_ne!(loaded, threads, "its clock stands elsewhere");
    loaded.served_until(threads.served());
    assert_eq!(loaded, threads);
}

#[test]
fn a_renewed_lease_is_looked_at_when_it_would_have_ended_and_no_sooner() {
    let mut deadlines = Deadlines::default();
    deadlines.set(&owner(1), TTL, at(10));
    deadlines.set(&owner(1), TTL, at(15));
    assert_eq!(deadlines.first(), Some(at(10)), "a renewal costs one write");
    assert_eq!(deadlines.due(at(9), 9), []);
    assert_eq!(deadlines.first(), Some(at(10)));
    assert_eq!(deadlines.due(at(10), 9), []);
    assert_eq!(deadlines.first(), Some(at(15)));
    assert_eq!(deadlines.due(at(15), 9), [owner(1)]);
    assert_eq!(deadlines.due(at(15), 9), [owner(1)], "it stays until it is removed");
    deadlines.remove(&owner(1));
    assert_eq!((deadlines.due(at(99), 9), deadlines.first(), deadlines.len()), (vec![], None, 0));
}

#[test]
fn a_shorter_lease_ends_when_it_says() {
    let mut deadlines = Deadlines::default();
    deadlines.set(&owner(1), TTL, at(10));
    deadlines.set(&owner(1), TTL / 5, at(3));
    let deadline = deadlines.get(&owner(1)).unwrap();
    assert_eq!((deadline.ttl, deadline.end, deadline.renewed()), (TTL / 5, at(3), at(1)));
    assert_eq!(deadlines.first(), Some(at(3)));
    assert_eq!(deadlines.due(at(3), 9), [owner(1)]);
    deadlines.set(&owner(1), TTL, at(20));
    assert_eq!(deadlines.due(at(19), 9), []);
}

#[test]
fn only_so_many_are_looked_at() {
    let mut deadlines = Deadlines::default();
    (1..=5).for_each(|n| deadlines.set(&owner(n), TTL, at(n)));
    (1..=3).for_each(|n| deadlines.set(&owner(n), TTL, at(n + 20)));
    assert_eq!(deadlines.due(at(9), 2), [], "it met two that were renewed");
    assert_eq!(deadlines.first(), Some(at(3)));
    assert_eq!(deadlines.due(at(9), 2), [owner(4)]);
    assert_eq!(deadlines.due(at(9), 2), [owner(4), owner(5)]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deadlines_are_a_plain_map_of_ends(
        steps in prop::collection::vec((0..4_u8, 0..6_u64, 0..40_u64, 1..4_usize), 1..80),
    ) {
        let (mut deadlines, mut plain) = (Deadlines::default(), BTreeMap::new());
        for (step, n, time, max) in steps {
            match step {
                0 | 1 => {
                    deadlines.set(&owner(n), TTL, at(time));
                    plain.insert(owner(n), at(time));
                }
                2 => {
                    deadlines.remove(&owner(n));
                    plain.remove(&owner(n));
                }
                _ => {
                    let mut found = BTreeSet::new();
                    while deadlines.first().is_some_and(|first| first <= at(time)) {
                        let due = deadlines.due(at(time), max);
                        prop_assert!(due.len() <= max);
                        due.iter().for_each(|owner| deadlines.remove(owner));
                        found.extend(due);
                    }
                    let over = plain.extract_if(.., |_, end| *end <= at(time));
                    prop_assert_eq!(found, over.map(|(owner, _)| owner).collect::<BTreeSet<_>>());
                }
            }
            prop_assert_eq!(deadlines.len(), plain.len());
            prop_assert_eq!(deadlines.queue.len(), plain.len());
            prop_assert!(deadlines.first() <= plain.values().min().copied());
            for (owner, end) in &plain {
                prop_assert_eq!(deadlines.get(owner).map(|deadline| deadline.end), Some(*end));
            }
            let all: Vec<_> = deadlines.after(Bound::Unbounded).cloned().collect();
            prop_assert!(all.iter().eq(plain.keys()));
        }
    }
}

fn owner(n: u64) -> Owner {
    Owner::new(Principal::anonymous(), format!("t{n}").parse().unwrap())
}

/// So many seconds served.
fn at(seconds: u64) -> Served {
    Served::default().after(Duration::from_secs(seconds))
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_secs(seconds))
}

fn loss(token: u64, time: u64) -> Loss {
    Loss {
        session: SessionId::new(1).unwrap(),
        cause: LossCause::LeaseExpired,
        token: Revision::new(token),
        time: seconds(time),
        told_until: seconds(time),
    }
}

/// What the thread is told that it lost.
fn tell(threads: &Threads, n: u64) -> Vec<Loss> {
    threads.get(&owner(n)).into_iter().flat_map(|thread| thread.losses.clone()).collect()
}
