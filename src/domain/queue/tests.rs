//! Who is first, and that nothing is left of those who go.

use proptest::prelude::*;

use super::*;
use crate::domain::id::Principal;

#[test]
fn of_those_who_wait_for_a_session_or_its_pool_the_first_to_come_is_first() {
    let mut queue = Queue::default();
    let (a, ab) = (labels(&["a"]), labels(&["a", "b"]));
    let pool_ab = queue.join(waiter(1, Awaited::Pool(ab.clone())));
    let session = queue.join(waiter(2, session(7)));
    let pool_a = queue.join(waiter(3, Awaited::Pool(a.clone())));
    let any = queue.join(waiter(4, Awaited::Pool(Labels::default())));
    let other = queue.join(waiter(5, self::session(8)));
    let first =
        |queue: &Queue, id, labels: &Labels, at_level_0| queue.first(sesid(id), labels, at_level_0);
    assert_eq!(first(&queue, 7, &ab, true), Some(pool_ab));
    assert_eq!(first(&queue, 7, &a, true), Some(session), "it is not of the pool a, b");
    assert_eq!(first(&queue, 7, &ab, false), Some(session), "a claim takes no open transaction");
    assert_eq!(first(&queue, 9, &ab, false), None);
    assert_eq!(first(&queue, 8, &a, true), Some(pool_a));
    assert_eq!(first(&queue, 8, &labels(&["b"]), true), Some(any));
    for ticket in [pool_ab, session, pool_a, any] {
        assert_eq!(first(&queue, 7, &ab, true), Some(ticket));
        queue.leave(ticket);
    }
    assert_eq!(first(&queue, 7, &ab, true), None);
    assert_eq!(first(&queue, 8, &ab, true), Some(other));
}

#[test]
fn a_place_is_given_up_once_and_never_given_again() {
    let mut queue = Queue::default();
    let ticket = queue.join(waiter(1, session(7)));
    assert_eq!(queue.waiter(ticket), Some(&waiter(1, session(7))));
    assert_eq!(queue.leave(ticket), Some(waiter(1, session(7))));
    assert_eq!((queue.leave(ticket), queue.waiter(ticket)), (None, None));
    assert!(queue.is_empty());
    assert!(queue.join(waiter(1, session(7))) > ticket);
}

#[test]
fn so_many_wait_for_a_session_or_for_a_pool_and_no_more() {
    let mut queue = Queue::default();
    let pool = || Awaited::Pool(labels(&["a"]));
    for (awaited, max, full) in [
        (session(7), WAITERS_PER_SESSION_MAX, QueueLimit::Session),
        (pool(), WAITERS_PER_POOL_MAX, QueueLimit::Pool),
    ] {
        for _ in 1..max {
            queue.join(waiter(1, awaited.clone()));
        }
        assert_eq!(queue.room_for(&awaited), Ok(()));
        let last = queue.join(waiter(1, awaited.clone()));
        assert_eq!((queue.len_of(&awaited), queue.room_for(&awaited)), (max, Err(full)));
        queue.leave(last);
        assert_eq!(queue.room_for(&awaited), Ok(()));
    }
    assert_eq!(queue.room_for(&session(8)), Ok(()));
    assert_eq!(queue.room_for(&Awaited::Pool(Labels::default())), Ok(()));
    assert_eq!(queue.waiting_for(sesid(7)) as usize, WAITERS_PER_SESSION_MAX - 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_is_a_plain_list_of_those_who_wait(
        steps in prop::collection::vec((0..3_u8, 0..3_u64, 0..5_usize, 0..20_usize), 1..60),
    ) {
        let awaited = [
            session(7),
            session(8),
            Awaited::Pool(Labels::default()),
            Awaited::Pool(labels(&["a"])),
            Awaited::Pool(labels(&["a", "b"])),
        ];
        let mut queue = Queue::default();
        let mut plain: Vec<(Ticket, Waiter)> = Vec::new();
        for (step, owner, what, nth) in steps {
            if step == 0 && !plain.is_empty() {
                let (ticket, waiter) = plain.remove(nth % plain.len());
                prop_assert_eq!(queue.leave(ticket), Some(waiter));
            } else {
                let waiter = waiter(owner, awaited[what].clone());
                plain.push((queue.join(waiter.clone()), waiter));
            }
            prop_assert!(plain.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!((queue.len(), queue.is_empty()), (plain.len(), plain.is_empty()));
            for awaited in &awaited {
                let count = plain.iter().filter(|(_, waiter)| waiter.awaited == *awaited).count();
                prop_assert_eq!(queue.len_of(awaited), count);
            }
            for owner in (0..3).map(self::owner) {
                let of = plain.iter().map(|(_, waiter)| waiter).filter(|of| of.owner == owner);
                prop_assert!(queue.of_thread(&owner).eq(of));
            }
            let threads: BTreeSet<_> = plain.iter().map(|(_, waiter)| &waiter.owner).collect();
            prop_assert!(queue.after(Bound::Unbounded).eq(threads));
            for (id, of) in [(7, labels(&["a", "b"])), (8, labels(&["a"])), (9, labels(&[]))] {
                let own = |waiter: &Waiter| waiter.awaited == session(id);
                let listed = plain.iter().filter(|(_, waiter)| own(waiter));
                prop_assert!(queue.of_session(sesid(id)).eq(listed.map(|(t, w)| (*t, w))));
                for at_level_0 in [true, false] {
                    let first = plain.iter().find(|(_, waiter)| match &waiter.awaited {
                        Awaited::Session(_) => own(waiter),
                        Awaited::Pool(wanted) => at_level_0 && of.contain(wanted),
                    });
                    let found = queue.first(sesid(id), &of, at_level_0);
                    prop_assert_eq!(found, first.map(|(ticket, _)| *ticket));
                }
            }
            let small = |labels: &Labels| labels.iter().count() < 2;
            let found: BTreeSet<_> = queue.of_pools(small).into_iter().collect();
            let waits = plain.iter().filter(|(_, waiter)| match &waiter.awaited {
                Awaited::Session(_) => false,
                Awaited::Pool(labels) => small(labels),
            });
            prop_assert_eq!(found, waits.map(|(ticket, _)| *ticket).collect::<BTreeSet<_>>());
        }
        plain.iter().for_each(|(ticket, _)| drop(queue.leave(*ticket)));
        let Queue { next: _, waiters, sessions, pools, owners } = queue;
        prop_assert!(waiters.is_empty() && sessions.is_empty());
        prop_assert!(pools.is_empty() && owners.is_empty());
    }
}

fn waiter(n: u64, awaited: Awaited) -> Waiter {
    Waiter { owner: owner(n), context: 7, lease: None, awaited }
}

fn session(id: u64) -> Awaited {
    Awaited::Session(sesid(id))
}

fn owner(n: u64) -> Owner {
    Owner::new(Principal::anonymous(), format!("t{n}").parse().unwrap())
}

fn sesid(id: u64) -> SessionId {
    SessionId::new(id).unwrap()
}

fn labels(keys: &[&str]) -> Labels {
    Labels::new(keys.iter().map(|key| ((*key).to_owned(), String::new())).collect()).unwrap()
}
