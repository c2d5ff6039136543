//! Sections 3 and 6 of the contract: every call in every phase, and which mistake is told first.

use super::*;
use crate::domain::instance::TerminateMode;
use crate::domain::lifecycle::Event;
use crate::domain::refusal::Retry;

/// Makes every call possible: a session held by T1, one with T1's transaction, one with neither.
const SETUP: [Step; 5] = [Begin, Begin, Begin, Set(T1, 1, C), BeginTx(T1, 2)];

/// A call of every kind that succeeds after [`SETUP`].
const CALLS: [Step; 18] = [
    Set(T1, 3, C),
    BeginTx(T1, 3),
    BeginTx(T1, 2),
    Commit(T1, 2),
    Duplicate(1),
    Begin,
    Reset(T1, 1),
    Rollback(T1, 2),
    RollbackAll(T1, 2),
    End(T1, 3),
    ForceEnd(1),
    ForceEnd(2),
    Get(1),
    List,
    Transfer(T1, 1, T2),
    TransferWith(T1, 1, T2, 4),
    Check(T1, 1, 4),
    Force(1, 4),
];

/// Whether a stopped instance takes the call: the two kinds of rows of section 6's table.
fn stopped_takes(step: Step) -> bool {
    match step {
        Set(..) | BeginTx(..) | Commit(..) | Duplicate(_) | Begin => false,
        Transfer(..) | TransferWith(..) => false,
        Check(..) | Force(..) => true,
        Reset(..) | ResetWith(..) | Rollback(..) | RollbackAll(..) => true,
        End(..) | ForceEnd(_) | Get(_) | List => true,
    }
}

/// The row of section 6's table, in the order of `phases()`.
fn row(step: Step) -> [i32; 8] {
    [
        NOT_INITIALIZED,
        NOT_INITIALIZED,
        OK,
        if stopped_takes(step) { OK } else { STOPPED },
        UNAVAILABLE,
        UNAVAILABLE_DISK_FULL,
        TERM_IN_PROGRESS,
        RESTORE_IN_PROGRESS,
    ]
}

#[test]
fn every_call_answers_as_its_phase_demands() {
    for call in CALLS {
        for (phase, expected) in phases().into_iter().zip(row(call)) {
            let mut world = World::after(&SETUP);
            world.instance.phase = phase.clone();
            assert_eq!(world.code(call), expected, "{call:?} in {phase}");
        }
    }
}

#[test]
fn a_phase_that_refuses_is_told_before_any_other_mistake() {
    let mistakes = [
        Set(T1, 9, 0),
        Set(T1, 9, C),
        Set(T1, 1, 0),
        Set(T2, 1, C),
        BeginTx(T2, 9),
        BeginTx(T2, 2),
        Commit(T2, 9),
        Commit(T2, 2),
        Commit(T1, 3),
        Duplicate(9),
        Reset(T2, 9),
        Reset(T2, 1),
        ResetWith(T2, 1, 77),
        Rollback(T2, 9),
        Rollback(T2, 2),
        RollbackAll(T1, 3),
        End(T2, 9),
        End(T2, 1),
        End(T2, 2),
        ForceEnd(9),
        Get(9),
        Transfer(T2, 9, T1),
        Transfer(T2, 1, T1),
        TransferWith(T1, 1, T1, 77),
        Check(T1, 9, 4),
        Check(T2, 1, 4),
        Force(9, 4),
        Force(1, 77),
    ];
    for mistake in mistakes {
        let mut ready = World::after(&SETUP);
        assert_ne!(ready.code(mistake), OK, "{mistake:?} is a mistake");
        for (phase, expected) in phases().into_iter().zip(row(mistake)) {
            if expected != OK {
                let mut world = World::after(&SETUP);
                world.instance.phase = phase.clone();
                assert_eq!(world.code(mistake), expected, "{mistake:?} in {phase}");
            }
        }
    }
}

#[test]
fn a_full_instance_is_told_after_its_phase() {
    for (phase, expected) in phases().into_iter().zip(row(Begin)) {
        let mut world = World::above(Floor::default(), 1);
        world.ok(Begin);
        world.instance.phase = phase;
        let full = if expected == OK { OUT_OF_SESSIONS } else { expected };
        assert_eq!([world.code(Begin), world.code(Duplicate(1))], [full, full]);
    }
}

#[test]
fn a_missing_session_is_told_before_everything_but_the_phase() {
    for step in [
        Set(T1, 9, 0),
        Set(T1, 9, u64::MAX),
        Set(T1, 9, C),
        Reset(T1, 9),
        ResetWith(T1, 9, 77),
        Duplicate(9),
        End(T1, 9),
        ForceEnd(9),
        Get(9),
        BeginTx(T1, 9),
        Commit(T1, 9),
        Rollback(T1, 9),
        RollbackAll(T1, 9),
        Transfer(T1, 9, T2),
        TransferWith(T1, 9, T2, 77),
        Check(T1, 9, 77),
        Force(9, 77),
    ] {
        assert_eq!(World::after(&SETUP).code(step), INVALID_SESID, "{step:?}");
    }
}

/// Two mistakes in one call: the contract's earlier one is answered.
#[test]
fn of_two_mistakes_the_earlier_check_answers() {
    // A reserved word, and a context that is already set.
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (Set(T1, 1, 0), INVALID_PARAMETER),
        (Set(T2, 1, u64::MAX), INVALID_PARAMETER),
    ]);
    // Seven levels, and another thread's transaction.
    let mut deep = check(&[(Begin, OK)]);
    for _ in 1..=7 {
        deep.ok(BeginTx(T1, 1));
    }
    check_in(deep, &[(BeginTx(T2, 1), TRANS_TOO_DEEP), (Commit(T2, 1), SHARING_VIOLATION)]);
    // A context that is set, and another thread's transaction.
    check(&[(Begin, OK), (BeginTx(T1, 1), OK), (Set(T2, 1, C), OK), (End(T3, 1), IN_USE)]);
    // No transaction, and another thread's context.
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (Commit(T2, 1), NOT_IN_TRANSACTION),
        (Rollback(T2, 1), NOT_IN_TRANSACTION),
        (RollbackAll(T2, 1), NOT_IN_TRANSACTION),
    ]);
    // No source, and no room.
    let full = World::above(Floor::default(), 1);
    check_in(full, &[(Begin, OK), (Duplicate(2), INVALID_SESID), (Duplicate(1), OUT_OF_SESSIONS)]);
}

#[test]
fn a_phase_refusal_names_the_phase_and_whether_it_ends_by_itself() {
    for phase in phases() {
        let mut world = World::after(&SETUP);
        world.instance.phase = phase.clone();
        if let Err(no) = world.play(Begin) {
            let passes = matches!(phase, Phase::Initializing | Phase::Restoring);
            assert_eq!(no.facts.retry, if passes { Retry::Soon } else { Retry::No });
            assert_eq!(no.facts.phase, Some(phase));
        }
    }
}

/// The rows of section 6's table for instance calls, an instance with its columns.
#[test]
fn every_instance_call_answers_as_its_phase_demands() {
    const INIT: [i32; 8] = [
        OK,
        INIT_IN_PROGRESS,
        ALREADY_INITIALIZED,
        ALREADY_INITIALIZED,
        ALREADY_INITIALIZED,
        ALREADY_INITIALIZED,
        TERM_IN_PROGRESS,
        RESTORE_IN_PROGRESS,
    ];
    const STOP: [i32; 8] = [
        NOT_INITIALIZED,
        NOT_INITIALIZED,
        OK,
        OK,
        UNAVAILABLE,
        UNAVAILABLE_DISK_FULL,
        TERM_IN_PROGRESS,
        RESTORE_IN_PROGRESS,
    ];
    let rows = [
        (Event::Initialize, INIT),
        (Event::Restore, INIT),
        (Event::Delete, INIT),
        (Event::Stop, STOP),
        (Event::Resume, STOP),
        (Event::Backup, STOP),
    ];
    for (event, expected) in rows {
        for (phase, expected) in phases().into_iter().zip(expected) {
            let found = phase.on(event.clone()).map_or_else(|no| no.jet_err().code(), |_| OK);
            assert_eq!(found, expected, "{event:?} in {phase}");
        }
    }
}

#[test]
fn terminate_answers_as_its_phase_its_mode_and_open_transactions_demand() {
    // Section 6's row; READY and STOPPED are asked for open transactions.
    let row = |busy| {
        let users = if busy { TOO_MANY_ACTIVE_USERS } else { OK };
        let (term, restore) = (TERM_IN_PROGRESS, RESTORE_IN_PROGRESS);
        [OK, NOT_INITIALIZED, users, users, OK, OK, term, restore]
    };
    for mode in [TerminateMode::Complete, TerminateMode::Abrupt, TerminateMode::Force] {
        for open in [false, true] {
            let expected = row(open && mode != TerminateMode::Force);
            for (phase, expected) in phases().into_iter().zip(expected) {
                let mut world = World::after(&[Begin, Begin, Set(T1, 1, C)]);
                if open {
                    world.ok(BeginTx(T1, 2));
                }
                world.instance.phase = phase.clone();
                let table = world.instance.table.clone();
                let found = world.instance.terminate(mode, false);
                let code = found.as_ref().map_or_else(|no| no.jet_err().code(), |_| OK);
                assert_eq!(code, expected, "{mode:?} in {phase}, open: {open}");
                assert_eq!((&world.instance.phase, &world.instance.table), (&phase, &table));
                if let Ok(next) = found {
                    let created = phase == Phase::Created;
                    assert_eq!(next, if created { Phase::Created } else { Phase::Terminating });
                }
            }
        }
    }
}
