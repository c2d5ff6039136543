//! Section 5: CreateInstance and TerminateInstance; stops and starts as sessions see them.

use super::*;
use crate::domain::backup::RestoreRefusal;
use crate::domain::instance::{TerminateMode, create};
use crate::domain::lifecycle::Event;
use crate::domain::refusal::{Blocking, Quota};

#[test]
fn create_looks_at_the_limit_before_the_name() {
    for (count, max, taken, expected) in [
        (0, 1, false, OK),
        (1, 2, true, NAME_IN_USE),
        (1, 1, false, TOO_MANY_INSTANCES),
        (1, 1, true, TOO_MANY_INSTANCES),
        (2, 1, true, TOO_MANY_INSTANCES),
        (0, 0, false, TOO_MANY_INSTANCES),
    ] {
        let result = create(count, max, taken);
        let found = result.as_ref().map_or_else(|no| no.jet_err().code(), |()| OK);
        assert_eq!(found, expected, "{count} of {max}, taken: {taken}");
        if let Err(no) = result {
            let full = expected == TOO_MANY_INSTANCES;
            assert_eq!(no.facts().quota, full.then_some(Quota::Instances(max)));
        }
    }
}

#[test]
fn a_terminate_names_ten_blocking_sessions_and_counts_all() {
    // The odd of 25 sessions have transactions; others have contexts, which block nothing.
    let mut world = World::ready();
    for id in 1..=25 {
        world.ok(Begin);
        world.ok(if id % 2 == 1 { BeginTx(T1, id) } else { Set(T1, id, C) });
    }
    for mode in [TerminateMode::Complete, TerminateMode::Abrupt] {
        let no = world.instance.terminate(mode, false).unwrap_err();
        let first = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19].map(sesid).to_vec();
        assert_eq!(no.facts().blocking, Blocking { count: 13, first });
    }
}

#[test]
fn a_terminate_is_blocked_until_the_last_transaction_has_ended() {
    let mut world = World::after(&[Begin, Begin, Begin, Begin]);
    for step in [BeginTx(T1, 1), BeginTx(T1, 2), BeginTx(T1, 2), BeginTx(T1, 3), BeginTx(T1, 4)] {
        world.ok(step);
    }
    for (step, blocking) in [
        (Commit(T1, 2), &[1, 2, 3, 4][..]),
        (Commit(T1, 1), &[2, 3, 4]),
        (Rollback(T1, 2), &[3, 4]),
        (ForceEnd(3), &[4]),
    ] {
        world.ok(step);
        let first: Vec<_> = blocking.iter().copied().map(sesid).collect();
        let no = world.instance.terminate(TerminateMode::Complete, false).unwrap_err();
        assert_eq!(no.facts().blocking, Blocking { count: first.len(), first });
    }
    world.ok(End(T1, 4));
    assert_eq!(world.instance.terminate(TerminateMode::Complete, false), Ok(Phase::Terminating));
}

#[test]
fn sessions_at_level_0_block_no_terminate_whatever_their_context() {
    let world = World::after(&[Begin, Begin, Set(T1, 1, C)]);
    for mode in [TerminateMode::Complete, TerminateMode::Abrupt, TerminateMode::Force] {
        assert_eq!(world.instance.terminate(mode, false), Ok(Phase::Terminating));
    }
}

#[test]
fn after_a_stop_owners_let_go_and_nobody_takes() {
    let mut world = World::after(&[
        Begin,
        Begin,
        Begin,
        Set(T1, 1, C),
        BeginTx(T1, 1),
        BeginTx(T1, 1),
        BeginTx(T1, 2),
    ]);
    world.instance.phase = world.instance.phase.on(Event::Stop).unwrap();
    let mut world = check_in(
        world,
        &[
            (Set(T2, 3, C), STOPPED),
            (BeginTx(T1, 1), STOPPED),
            (Commit(T1, 1), STOPPED),
            (Rollback(T2, 1), SHARING_VIOLATION),
            (Rollback(T1, 1), OK),
            (RollbackAll(T1, 1), OK),
            (Reset(T1, 1), OK),
            (Set(T1, 1, C), STOPPED),
            (End(T1, 2), OK),
            (Duplicate(3), STOPPED),
        ],
    );
    world.instance.phase = world.instance.phase.on(Event::Resume).unwrap();
    check_in(world, &[(Set(T1, 1, C), OK), (Duplicate(3), OK)]);
}

#[test]
fn an_instance_that_is_created_has_no_sessions_and_answers_none() {
    let record = World::ready().instance.record;
    let floor = Floor { revision: Revision::new(3), sesid: 4 };
    let created = Instance::created(InstanceRecord { floor, ..record });
    assert_eq!(created.phase, Phase::Created);
    assert_eq!((created.table.len(), created.table.floor()), (0, floor));
}

#[test]
fn a_backup_is_taken_where_the_phase_allows_it_and_one_at_a_time() {
    let (ready, running) = (&[OK, BACKUP_IN_PROGRESS], [false, true]);
    for phase in phases() {
        let mut world = World::ready();
        world.instance.phase = phase.clone();
        let found = running.map(|running| {
            world.instance.backup(running).map_or_else(|no| no.jet_err().code(), |()| OK)
        });
        match phase.on(Event::Backup) {
            Ok(_) => assert_eq!(found, *ready, "{phase}"),
            Err(no) => assert_eq!(found, [no.jet_err().code(); 2], "{phase}"),
        }
    }
}

#[test]
fn a_backup_that_runs_is_told_before_open_transactions_and_only_to_a_complete_terminate() {
    use TerminateMode::{Abrupt, Complete, Force};
    for in_transaction in [false, true] {
        for (mode, running) in
            [Complete, Abrupt, Force].into_iter().flat_map(|m| [(m, false), (m, true)])
        {
            let mut world = World::after(&[Begin]);
            if in_transaction {
                world.ok(BeginTx(T1, 1));
            }
            let expected = match (mode, running, in_transaction) {
                (Complete, true, _) => BACKUP_IN_PROGRESS,
                (Complete | Abrupt, _, true) => TOO_MANY_ACTIVE_USERS,
                (Complete, false, false) | (Abrupt, _, false) | (Force, _, _) => OK,
            };
            let found = world.instance.terminate(mode, running);
            let found = found.map_or_else(|no| no.jet_err().code(), |_| OK);
            assert_eq!(found, expected, "{mode:?}, {running}, {in_transaction}");
        }
    }
}

#[test]
fn each_reason_not_to_restore_has_a_code_of_its_own() {
    let failure = |error| {
        RestoreRefusal::Unavailable(Failure {
            error,
            cause: "first".into(),
            time: Timestamp::from_micros(1),
        })
    };
    for (refusal, expected) in [
        (RestoreRefusal::Foreign("x".into()), -615),
        (RestoreRefusal::Newer("x".into()), -514),
        (RestoreRefusal::Damaged("x".into()), -573),
        (RestoreRefusal::TooManySessions { found: 3, max: 2 }, OUT_OF_SESSIONS),
        (RestoreRefusal::NoNumbersLeft, -519),
        (failure(JetErr::DiskIO), UNAVAILABLE),
        (failure(JetErr::DiskFull), UNAVAILABLE_DISK_FULL),
    ] {
        assert_eq!(refusal.jet_err().code(), expected, "{refusal:?}");
        let facts = refusal.facts();
        assert!(facts.detail.is_some() && facts.phase.is_none(), "the instance has not failed");
    }
}
