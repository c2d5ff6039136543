//! Section 4: BeginSession, DuplicateSession, EndSession.

use super::*;
use crate::domain::refusal::{Cause, Quota};
use crate::domain::session::Context;

#[test]
fn a_new_session_has_its_labels_level_0_and_no_context() {
    let mut world = World::ready();
    let labels = Labels::new([("pool".to_owned(), "a".to_owned())].into()).unwrap();
    let session = world.call(T1, &BeginSession { labels: labels.clone() }).unwrap().session;
    let (created, revision) = (Timestamp::from_micros(1), Revision::new(1));
    assert_eq!(session, Session::new(sesid(1), labels, created, revision));
    assert_eq!((session.transaction_level(), session.binding()), (0, None));
}

#[test]
fn a_duplicate_inherits_nothing() {
    let mut world = World::ready();
    let labels = Labels::new([("pool".to_owned(), "a".to_owned())].into()).unwrap();
    world.call(T1, &BeginSession { labels }).unwrap();
    for step in [Set(T1, 1, C), BeginTx(T1, 1), BeginTx(T1, 1)] {
        world.ok(step);
    }
    let source = world.session(Get(1));
    let duplicate = world.session(Duplicate(1));
    assert_eq!((duplicate.id, &duplicate.labels), (sesid(2), &Labels::default()));
    assert_eq!((&duplicate.context, duplicate.transaction()), (&Context::NeverSet, None));
    assert_eq!(world.session(Get(1)), source, "the source is as it was");
}

#[test]
fn a_session_whose_context_is_set_is_in_use_by_its_holder_too() {
    let mut world = check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (End(T1, 1), IN_USE),
        (End(T2, 1), IN_USE),
        (BeginTx(T1, 1), OK),
        (End(T1, 1), IN_USE),
        (End(T2, 1), IN_USE),
    ]);
    assert_eq!(world.no(End(T2, 1)).facts.holder.unwrap().owner, Some(owner(T1)));
    check_in(world, &[(Commit(T1, 1), OK), (Reset(T1, 1), OK), (End(T2, 1), OK)]);
}

#[test]
fn a_transaction_bound_to_a_thread_is_ended_by_that_thread() {
    check(&[
        (Begin, OK),
        (BeginTx(T1, 1), OK),
        (End(T2, 1), SHARING_VIOLATION),
        (End(BOBS_T1, 1), SHARING_VIOLATION),
        (End(T1, 1), OK),
    ]);
    // That a context came and went makes no difference.
    check(&[
        (Begin, OK),
        (BeginTx(T1, 1), OK),
        (Set(T2, 1, C), OK),
        (Reset(T2, 1), OK),
        (End(T2, 1), SHARING_VIOLATION),
        (End(T1, 1), OK),
    ]);
}

#[test]
fn a_transaction_bound_to_a_context_is_ended_by_whoever_asks_after_the_reset() {
    for who in [T1, T2, BOBS_T1] {
        check(&[
            (Begin, OK),
            (Set(T1, 1, C), OK),
            (BeginTx(T1, 1), OK),
            (Reset(T1, 1), OK),
            (End(who, 1), OK),
        ]);
    }
}

#[test]
fn force_ends_whatever_holds_a_session() {
    let world = check(&[
        (Begin, OK),
        (Begin, OK),
        (Begin, OK),
        (BeginTx(T2, 1), OK),
        (Set(T2, 2, C), OK),
        (BeginTx(T3, 2), OK),
        (ForceEnd(1), OK),
        (ForceEnd(2), OK),
        (ForceEnd(3), OK),
        (ForceEnd(3), INVALID_SESID),
    ]);
    let table = &world.instance.table;
    assert_eq!((table.len(), table.bound_count(), table.in_transaction_count()), (0, 0, 0));
    let SessionEvent::Ended { forced: Some(reason), .. } = &world.changes.last().unwrap().event
    else {
        panic!("the end is forced")
    };
    assert_eq!(reason.as_str(), "its host is gone");
}

#[test]
fn an_end_without_force_gives_no_reason() {
    let world = check(&[(Begin, OK), (End(T1, 1), OK)]);
    let ended = SessionEvent::Ended { session: sesid(1), forced: None };
    assert_eq!(world.changes.last().unwrap().event, ended);
}

#[test]
fn an_ended_session_is_told_from_one_that_never_existed() {
    let mut world = World::above(Floor { revision: Revision::new(70), sesid: 5 }, 10);
    world.ok(Begin);
    world.ok(End(T1, 6));
    for (id, cause) in [
        (1, Cause::Ended),
        (5, Cause::Ended),
        (6, Cause::Ended),
        (7, Cause::NeverExisted),
        (u64::MAX, Cause::NeverExisted),
    ] {
        for step in
            [Get(id), End(T1, id), ForceEnd(id), Set(T1, id, C), Reset(T1, id), Duplicate(id)]
        {
            let no = world.no(step);
            assert_eq!((no.code, no.facts.cause), (INVALID_SESID, Some(cause)), "{step:?}");
        }
    }
}

#[test]
fn a_sesid_is_never_used_again() {
    let mut world = World::after(&[Begin, Begin]);
    world.ok(End(T1, 2));
    assert_eq!(world.session(Begin).id, sesid(3));
    world.ok(ForceEnd(3));
    assert_eq!(world.session(Duplicate(1)).id, sesid(4));
    world.end_all();
    assert!(world.instance.table.is_empty());
    for gone in 1..=4 {
        assert_eq!(world.no(Get(gone)).facts.cause, Some(Cause::Ended));
    }
    assert_eq!(world.session(Begin).id, sesid(5));
}

#[test]
fn numbers_begin_above_the_floor_and_go_on_after_an_end_of_all() {
    let mut world = World::above(Floor { revision: Revision::new(70), sesid: 5 }, 10);
    let session = world.session(Begin);
    assert_eq!((session.id, session.revision), (sesid(6), Revision::new(71)));
    let token = world.session(Set(T1, 6, C)).binding().unwrap().token;
    assert_eq!(token, Revision::new(72));
    world.end_all();
    let after = Floor { revision: Revision::new(73), sesid: 6 };
    assert_eq!(world.instance.table.floor(), after);
    world.ok(Begin);
    assert!(world.session(Set(T1, 7, C)).binding().unwrap().token > token);
}

#[test]
fn a_floor_is_above_both_it_is_made_of() {
    let floor = |revision, sesid| Floor { revision: Revision::new(revision), sesid };
    assert_eq!(floor(3, 9).max(floor(7, 2)), floor(7, 9));
    assert_eq!(floor(7, 2).max(floor(3, 9)), floor(7, 9));
}

#[test]
fn a_full_instance_takes_no_session_until_one_ends() {
    let mut world = World::above(Floor::default(), 2);
    world.ok(Begin);
    world.ok(Duplicate(1));
    for step in [Begin, Duplicate(1), Duplicate(2)] {
        let no = world.no(step);
        assert_eq!((no.code, no.facts.quota), (OUT_OF_SESSIONS, Some(Quota::Sessions(2))));
    }
    check_in(
        world,
        &[
            (End(T1, 1), OK),
            (Duplicate(2), OK),
            (Begin, OUT_OF_SESSIONS),
            (ForceEnd(3), OK),
            (Begin, OK),
        ],
    );
}

#[test]
fn a_limit_below_what_is_there_ends_nothing_and_lets_nothing_begin() {
    let mut world = World::after(&[Begin, Begin, Begin]);
    world.instance.record.max_sessions = 2;
    let script = [
        (Begin, OUT_OF_SESSIONS),
        (End(T1, 1), OK),
        (Begin, OUT_OF_SESSIONS),
        (Set(T1, 2, C), OK),
        (End(T1, 3), OK),
        (Begin, OK),
    ];
    check_in(world, &script);
}

#[test]
fn no_session_begins_when_all_numbers_are_used() {
    let mut world = World::above(Floor { revision: Revision::ZERO, sesid: u64::MAX - 1 }, 10);
    assert_eq!(world.session(Begin).id, sesid(u64::MAX));
    check_in(world, &[(Begin, OUT_OF_SESSIONS), (End(T1, u64::MAX), OK), (Begin, OUT_OF_SESSIONS)]);
}
