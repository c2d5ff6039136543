//! Section 4: BeginTransaction, CommitTransaction, RollbackTransaction.

use super::*;
use crate::domain::id::ContextValue;
use crate::domain::session::TransactionOwner;

#[test]
fn seven_levels_are_fine_and_the_eighth_is_too_deep() {
    for setup in [&[Begin][..], &[Begin, Set(T1, 1, C)]] {
        let mut world = World::after(setup);
        for level in 1..=7 {
            assert_eq!(world.ok(BeginTx(T1, 1)), Answer::Level(level));
        }
        assert_eq!(world.code(BeginTx(T1, 1)), TRANS_TOO_DEEP);
        for level in (0..=6).rev() {
            assert_eq!(world.ok(Commit(T1, 1)), Answer::Level(level));
        }
        assert_eq!(world.code(Commit(T1, 1)), NOT_IN_TRANSACTION);
    }
}

#[test]
fn a_level_that_does_not_exist_is_no_transaction() {
    use crate::domain::session::Transaction;
    let at = |level| Transaction::at_level(level, TransactionOwner::Thread(owner(T1)));
    assert!(at(0).is_none() && at(8).is_none() && at(u8::MAX).is_none());
    assert_eq!((1..=7).map(|level| at(level).unwrap().level()).sum::<u8>(), 28);
}

#[test]
fn without_a_transaction_there_is_nothing_to_end() {
    check(&[
        (Begin, OK),
        (Commit(T1, 1), NOT_IN_TRANSACTION),
        (Rollback(T1, 1), NOT_IN_TRANSACTION),
        (RollbackAll(T1, 1), NOT_IN_TRANSACTION),
        (BeginTx(T1, 1), OK),
        (Commit(T1, 1), OK),
        (Commit(T1, 1), NOT_IN_TRANSACTION),
    ]);
}

#[test]
fn a_rollback_ends_one_level_or_all() {
    let mut world = World::after(&[Begin, BeginTx(T1, 1), BeginTx(T1, 1), BeginTx(T1, 1)]);
    assert_eq!(world.ok(Rollback(T1, 1)), Answer::Level(2));
    assert_eq!(world.ok(RollbackAll(T1, 1)), Answer::Level(0));
    assert_eq!(world.session(Get(1)).transaction(), None);
    world.ok(BeginTx(T1, 1));
    assert_eq!(world.ok(Rollback(T1, 1)), Answer::Level(0));
    world.ok(BeginTx(T1, 1));
    assert_eq!(world.ok(RollbackAll(T1, 1)), Answer::Level(0));
}

#[test]
fn commit_and_rollback_make_different_events() {
    let mut world = World::after(&[Begin]);
    for (end, committed) in [(Commit(T1, 1), true), (Rollback(T1, 1), false)] {
        world.ok(BeginTx(T1, 1));
        world.ok(end);
        let session = sesid(1);
        let expected = if committed {
            SessionEvent::TransactionCommitted { session, left: None }
        } else {
            SessionEvent::TransactionRolledBack { session, left: None }
        };
        assert_eq!(world.changes.last().unwrap().event, expected);
    }
}

#[test]
fn the_outermost_level_asks_for_no_owner_and_binds_to_the_word_that_is_set() {
    let word = TransactionOwner::Context(ContextValue::new(C).unwrap());
    for who in [T1, T2, BOBS_T1] {
        let mut world = World::after(&[Begin, Set(T1, 1, C), BeginTx(who, 1)]);
        assert_eq!(bound_to(&mut world), word);
        let mut world = World::after(&[Begin, Set(T1, 1, C), Reset(T1, 1), BeginTx(who, 1)]);
        assert_eq!(bound_to(&mut world), TransactionOwner::Thread(owner(who)));
    }
}

#[test]
fn level_0_forgets_to_whom_the_transaction_belonged() {
    for end in [Commit(T1, 1), Rollback(T1, 1), RollbackAll(T1, 1)] {
        let mut world = World::after(&[Begin, BeginTx(T1, 1), end, BeginTx(T2, 1)]);
        assert_eq!(bound_to(&mut world), TransactionOwner::Thread(owner(T2)));
        let mut world = World::after(&[
            Begin,
            Set(T1, 1, C),
            BeginTx(T1, 1),
            end,
            Reset(T1, 1),
            BeginTx(T2, 1),
        ]);
        assert_eq!(bound_to(&mut world), TransactionOwner::Thread(owner(T2)));
    }
}

#[test]
fn transaction_calls_never_touch_the_context() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    let context = world.session(Get(1)).context;
    for step in [
        BeginTx(T1, 1),
        BeginTx(T1, 1),
        BeginTx(T1, 1),
        Commit(T1, 1),
        Rollback(T1, 1),
        RollbackAll(T1, 1),
    ] {
        world.ok(step);
        assert_eq!(world.session(Get(1)).context, context, "{step:?}");
    }
}

#[test]
fn every_deeper_call_is_tested_for_ownership() {
    for owner_test in [BeginTx(T2, 1), Commit(T2, 1), Rollback(T2, 1), RollbackAll(T2, 1)] {
        check(&[(Begin, OK), (BeginTx(T1, 1), OK), (owner_test, SHARING_VIOLATION)]);
        check(&[
            (Begin, OK),
            (Set(T1, 1, C), OK),
            (BeginTx(T2, 1), OK),
            (owner_test, SHARING_VIOLATION),
        ]);
    }
}

#[test]
fn another_principals_thread_of_the_same_name_is_another_thread() {
    for step in
        [BeginTx(BOBS_T1, 1), Commit(BOBS_T1, 1), Rollback(BOBS_T1, 1), RollbackAll(BOBS_T1, 1)]
    {
        check(&[(Begin, OK), (BeginTx(T1, 1), OK), (step, SHARING_VIOLATION)]);
        check(&[(Begin, OK), (Set(T1, 1, C), OK), (BeginTx(T1, 1), OK), (step, SHARING_VIOLATION)]);
    }
}

fn bound_to(world: &mut World) -> TransactionOwner {
    world.session(Get(1)).transaction().unwrap().bound_to().clone()
}
