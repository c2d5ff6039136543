//! "Retries" of the fine print.

use super::*;
use crate::domain::call::context::SetContext;
use crate::domain::call::pool::BatchBeginSessions;
use crate::domain::call::session::GetSession;
use crate::domain::call::thread::KeepAlive;
use crate::domain::limits::RETRY_WINDOW_SECONDS;
use crate::domain::refusal::Ours;

/// Every call that changes something: the second time it has the same answer and no effect.
#[test]
fn a_request_has_one_effect_and_one_answer() {
    let script = [Begin, Begin, Set(T1, 1, C), BeginTx(T1, 1)];
    for step in [
        Begin,
        Duplicate(1),
        Set(T1, 2, C),
        Reset(T1, 1),
        ResetWith(T1, 1, 3),
        Transfer(T1, 1, T2),
        End(T1, 2),
        ForceEnd(1),
        BeginTx(T1, 1),
        Commit(T1, 1),
        RollbackAll(T1, 1),
    ] {
        let mut world = World::after(&script);
        let first = world.named("r", 1).ok(step);
        let changes = world.changes.clone();
        for _ in 0..2 {
            assert_eq!(world.named("r", 1).ok(step), first, "{step:?}");
        }
        // Whatever has become of the effect since.
        world.play(ForceEnd(1)).ok();
        world.play(ForceEnd(2)).ok();
        let changes = [changes, world.changes[world.changes.len() - 2..].to_vec()].concat();
        assert_eq!(world.named("r", 1).ok(step), first, "{step:?}");
        assert!(changes.ends_with(&world.changes[world.changes.len() - 2..]));
    }
}

#[test]
fn a_batch_and_a_lease_are_answered_again_as_they_were() {
    let mut world = World::ready();
    let begin = BatchBeginSessions { count: 3, labels: labels(&["a"]) };
    let begun = world.named("b", 1).call(T1, &begin).unwrap();
    let call =
        SetContext { lease: Some(seconds(8)), ..SetContext::new(sesid(2), thread_of(T1), C) };
    let set = world.named("s", 1).call(T1, &call).unwrap();
    assert_eq!(set.lease.map(|lease| lease.remaining), Some(seconds(8)));
    world.pass(seconds(3));
    world.ok(ForceEnd(2));
    world.ok(Set(T2, 1, D));
    assert_eq!(world.named("b", 1).call(T1, &begin), Ok(begun));
    assert_eq!(world.named("s", 1).call(T1, &call), Ok(set));
}

#[test]
fn the_same_id_with_another_body_or_method_is_refused_and_changes_nothing() {
    let mut world = World::after(&[Begin, Begin]);
    world.named("r", 1).ok(Set(T1, 1, C));
    for (body, step) in [(2, Set(T1, 2, C)), (1, Reset(T1, 1)), (2, Reset(T1, 1)), (1, End(T1, 2))]
    {
        let no = world.named("r", body).no(step);
        assert_eq!((no.code, no.facts.ours), (INVALID_PARAMETER, Some(Ours::RequestIdReused)));
        assert_eq!(no.facts.field.map(|(name, _)| name), Some("request_id"));
    }
    // Another principal's is another one.
    world.named("r", 2).ok(Set(BOBS_T1, 2, C));
}

#[test]
fn a_refused_call_is_decided_afresh() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    assert_eq!(world.named("r", 1).no(Set(T2, 1, D)).code, ALREADY_SET);
    world.ok(Reset(T1, 1));
    let session = world.named("r", 1).session(Set(T2, 1, D));
    assert_eq!(session.binding().unwrap().owner, owner(T2));
    // Nor is the id taken by it.
    assert_eq!(world.named("q", 1).no(Set(T2, 1, D)).code, ALREADY_SET);
    world.named("q", 2).ok(Reset(T2, 1));
}

#[test]
fn what_changes_nothing_is_not_remembered() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    world.named("r", 1).ok(Get(1));
    world.named("r", 1).ok(Check(T1, 1, 2));
    let keep = KeepAlive { threads: vec![thread_of(T1)], ttl: seconds(8), include_held: false };
    world.named("r", 1).call(T1, &keep).unwrap();
    assert!(world.instance.table.retries().is_empty());
    assert!(world.changes.iter().all(|change| change.made.is_empty()));

    // Not either with a change of somebody else in the batch.
    let mut batch = Batch { changes: world.changes.clone(), ..Batch::default() };
    let stamp = world.named("r", 1).stamp(T1);
    world.instance.call(&GetSession { session: sesid(1) }, &stamp, &mut batch).unwrap();
    assert_eq!(batch.changes, world.changes);
    assert!(world.instance.table.retries().is_empty());
}

#[test]
fn the_phase_is_judged_before_what_is_remembered_but_for_the_stop() {
    let answers = [
        (NOT_INITIALIZED, Phase::Created),
        (NOT_INITIALIZED, Phase::Initializing),
        (OK, Phase::Ready),
        (OK, Phase::Stopped),
        (UNAVAILABLE, phases()[4].clone()),
        (UNAVAILABLE_DISK_FULL, phases()[5].clone()),
        (TERM_IN_PROGRESS, Phase::Terminating),
        (RESTORE_IN_PROGRESS, Phase::Restoring),
    ];
    let mut world = World::after(&[Begin]);
    world.named("r", 1).ok(Set(T1, 1, C));
    for (expected, phase) in answers {
        world.instance.phase = phase;
        assert_eq!(world.named("r", 1).code(Set(T1, 1, C)), expected, "{:?}", world.instance.phase);
    }
    world.instance.phase = Phase::Stopped;
    assert_eq!(world.named("r", 2).code(Set(T1, 1, C)), INVALID_PARAMETER);
    assert_eq!(world.named("q", 1).code(Set(T1, 1, C)), STOPPED);
}

#[test]
fn answers_outlive_a_terminate_and_not_a_quarter_of_an_hour() {
    let mut world = World::after(&[Begin]);
    let first = world.named("r", 1).ok(Set(T1, 1, C));
    world.end_all();
    world.pass(seconds(RETRY_WINDOW_SECONDS - 1));
    assert_eq!(world.named("r", 1).ok(Set(T1, 1, C)), first);
    world.pass(seconds(2));
    assert_eq!(world.named("r", 1).code(Set(T1, 1, C)), INVALID_SESID);
    world.ok(Begin);
    world.named("r", 7).ok(Set(T1, 2, C));
}

#[test]
fn a_request_is_remembered_by_the_last_of_its_changes() {
    let mut world = World::after(&[Begin]);
    let call =
        SetContext { lease: Some(seconds(8)), ..SetContext::new(sesid(1), thread_of(T1), C) };
    world.named("r", 1).call(T1, &call).unwrap();
    let made: Vec<_> = world.changes.iter().map(|change| change.made.len()).collect();
    assert_eq!(made, [0, 0, 1]);
    assert_eq!(world.changes[2].made[0].by, principal(T1));
}
