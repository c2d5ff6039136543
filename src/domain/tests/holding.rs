//! Handing over, asking and taking away: "Tokens", "Transfer" and "Details" of the fine print.

use super::step::GUARD;
use super::*;
use crate::domain::refusal::{Cause, Losing, Ours};
use crate::domain::session::{HowLost, Lost};

/// A ready instance in which T1 held session 1 under token 3 and session 2 under token 4.
const HELD: [Step; 4] = [Begin, Begin, Set(T1, 1, C), Set(T1, 2, D)];

/// Who asks × which token is shown (0, the one in force or the last one, another one) for a session that
/// is held, was reset, or was never set.
#[test]
fn the_token_table_of_the_fine_print() {
    const STALE: &str = "stale";
    let (held, was_reset) = (HELD.to_vec(), [&HELD[..], &[Reset(T1, 1)]].concat());
    let never = vec![Begin];
    let (shown, other) = (3, 2);
    let reset =
        |who| move |token| if token == 0 { Reset(who, 1) } else { ResetWith(who, 1, token) };
    let transfer = |who| {
        move |token| match token {
            0 => Transfer(who, 1, T3),
            token => TransferWith(who, 1, T3, token),
        }
    };
    for (script, who, expected) in [
        (&held, T1, ["ok", "ok", STALE]),
        (&held, T2, ["held_by_other", "held_by_other", STALE]),
        (&held, BOBS_T1, ["held_by_other", "held_by_other", STALE]),
        (&was_reset, T1, ["already_reset", STALE, STALE]),
        (&was_reset, T2, ["already_reset", STALE, STALE]),
        (&never, T1, ["never_set", STALE, STALE]),
    ] {
        for (token, expected) in [0, shown, other].into_iter().zip(expected) {
            assert_eq!(told(script, reset(who)(token)), expected, "reset by {who:?} with {token}");
            let found = told(script, transfer(who)(token));
            assert_eq!(found, expected, "transfer by {who:?} with {token}");
            // A check needs a token, and asks for no principal.
            if token != 0 {
                let expected = if who == BOBS_T1 && token == shown { "ok" } else { expected };
                let found = told(script, Check(who, 1, token));
                assert_eq!(found, expected, "check of {who:?} with {token}");
            }
        }
    }
    for (script, expected) in [
        (&held, ["ok", STALE]),
        (&was_reset, ["already_reset", "already_reset"]),
        (&never, ["never_set", "never_set"]),
    ] {
        let found = [shown, other].map(|token| told(script, Force(1, token)));
        assert_eq!(found, expected, "force after {script:?}");
    }
}

/// What a refusal says: it is its cause, or that the token is stale.
fn told(script: &[Step], step: Step) -> &'static str {
    match World::after(script).play(step) {
        Ok(_) => "ok",
        Err(no) => {
            assert_eq!(no.code, NOT_SET_BY_THIS_THREAD);
            match no.facts.ours {
                None => no.facts.cause.unwrap().as_str(),
                Some(ours) => {
                    assert_eq!(ours, Ours::StaleToken);
                    "stale"
                }
            }
        }
    }
}

#[test]
fn a_transfer_leaves_no_free_moment_and_gives_a_new_token() {
    let mut world = World::after(&HELD);
    let answer = world.ok(Transfer(T1, 1, T2));
    assert_eq!(answer, Answer::Revision(Revision::new(5)));
    let session = world.session(Get(1));
    let binding = session.binding().unwrap();
    assert_eq!((binding.context.get(), binding.token.get()), (C, 5));
    assert_eq!((&binding.owner, binding.since), (&owner(T2), world.changes[4].time));
    assert!(!session.abandoned());
    check_in(
        world,
        &[
            (Check(T2, 1, 5), OK),
            (Check(T1, 1, 3), NOT_SET_BY_THIS_THREAD),
            (ResetWith(T1, 1, 3), NOT_SET_BY_THIS_THREAD),
            (Reset(T1, 1), NOT_SET_BY_THIS_THREAD),
            (Set(T3, 1, C), ALREADY_SET),
            (ResetWith(T2, 1, 5), OK),
        ],
    );
}

#[test]
fn a_transaction_goes_on_with_the_word_under_the_successor() {
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (BeginTx(T1, 1), OK),
        (Transfer(T1, 1, BOBS_T1), OK),
        (Commit(T1, 1), SHARING_VIOLATION),
        (Commit(BOBS_T1, 1), OK),
        (Reset(T1, 1), NOT_SET_BY_THIS_THREAD),
        (Reset(BOBS_T1, 1), OK),
    ]);
}

#[test]
fn a_transfer_to_oneself_gives_a_new_token() {
    let mut world = World::after(&HELD);
    assert_eq!(world.ok(Transfer(T1, 1, T1)), Answer::Revision(Revision::new(5)));
    let stale = world.no(ResetWith(T1, 1, 3)).facts;
    assert_eq!((stale.ours, stale.cause), (Some(Ours::StaleToken), None));
    assert_eq!(stale.holder.unwrap().token.get(), 5);
    world.ok(Reset(T1, 1));
    assert_eq!(world.no(Reset(T1, 1)).facts.cause, Some(Cause::AlreadyReset));
}

#[test]
fn sessions_that_do_not_exist_come_before_tokens() {
    let world = || World::after(&[Begin, Set(T1, 1, C), Begin, End(T1, 2)]);
    for (id, cause) in [(2, Cause::Ended), (3, Cause::NeverExisted)] {
        for step in [Transfer(T1, id, T2), Check(T1, id, 2), Force(id, 2)] {
            let no = world().no(step);
            assert_eq!((no.code, no.facts.cause), (INVALID_SESID, Some(cause)), "{step:?}");
        }
    }
}

#[test]
fn a_stopped_instance_lets_ask_and_take_away_but_not_hand_over() {
    let mut world = World::after(&HELD);
    world.instance.phase = Phase::Stopped;
    check_in(
        world,
        &[
            (Transfer(T1, 1, T2), STOPPED),
            (Transfer(T2, 9, T2), STOPPED),
            (Check(T1, 1, 3), OK),
            (Force(1, 3), OK),
        ],
    );
}

#[test]
fn a_check_shows_the_session_and_changes_nothing() {
    let mut world = World::after(&HELD);
    let before = world.changes.len();
    let session = world.session(Check(BOBS_T1, 1, 3));
    assert_eq!(session, world.session(Get(1)));
    assert_eq!(world.changes.len(), before);
}

/// By whom and how each of the three was done to T1, who comes back.
#[test]
fn the_last_holder_is_told_how_it_lost_a_session() {
    let transfer: fn(&mut World) = |world| drop(world.ok(Transfer(T1, 1, T2)));
    let force: fn(&mut World) = |world| drop(world.ok(Force(1, 3)));
    let expire: fn(&mut World) = |world| {
        world.keep(T1, seconds(5));
        world.pass(seconds(5));
        world.expire();
    };
    let reason = "its host is gone".parse().unwrap();
    for (lose, cause, how, by) in [
        (transfer, Cause::Transferred, HowLost::Transferred, T1),
        (force, Cause::Forced, HowLost::Forced(reason), GUARD),
        (expire, Cause::LeaseExpired, HowLost::LeaseExpired, NOBODY),
    ] {
        let mut world = World::after(&HELD);
        lose(&mut world);
        let time =
            world.changes.iter().rfind(|it| it.event.session() == Some(sesid(1))).unwrap().time;
        let token = Revision::new(3);
        let lost = Lost { owner: owner(T1), token, how: how.clone(), by: principal(by), time };
        let lost = Losing::from(&lost);
        let told = |world: &mut World, step| {
            let facts = world.no(step).facts;
            (facts.cause, facts.lost, facts.holder.and_then(|holder| holder.owner))
        };
        let holder = (cause == Cause::Transferred).then(|| owner(T2));
        for step in [Reset(T1, 1), Transfer(T1, 1, T3), ResetWith(T1, 1, 3), Check(T1, 1, 3)] {
            let expected = (Some(cause), Some(lost.clone()), holder.clone());
            assert_eq!(told(&mut world, step), expected, "{step:?}");
        }
        // Nobody else is told, not even a thread of the same name.
        for step in [Reset(T3, 1), Reset(BOBS_T1, 1)] {
            let expected = if holder.is_some() { Cause::HeldByOther } else { Cause::AlreadyReset };
            assert_eq!(told(&mut world, step), (Some(expected), None, holder.clone()));
        }
        // It is still told while the next one holds the session, and no more when that lets it go.
        if holder.is_none() {
            world.ok(Set(T2, 1, D));
        }
        let expected = (Some(cause), Some(lost), Some(owner(T2)));
        assert_eq!(told(&mut world, Reset(T1, 1)), expected);
        world.ok(Reset(T2, 1));
        assert_eq!(told(&mut world, Reset(T1, 1)), (Some(Cause::AlreadyReset), None, None));
    }
}

#[test]
fn one_last_holder_is_kept() {
    let mut world = World::after(&[Begin, Set(T1, 1, C), Force(1, 2), Set(T2, 1, C), Force(1, 4)]);
    assert_eq!(world.no(Reset(T2, 1)).facts.cause, Some(Cause::Forced));
    assert_eq!(world.no(Reset(T1, 1)).facts.cause, Some(Cause::AlreadyReset));
}

#[test]
fn a_refused_force_shows_who_holds_the_session_now() {
    let mut world = World::after(&[Begin, Set(T1, 1, C), Transfer(T1, 1, T2)]);
    let no = world.no(Force(1, 2)).facts;
    assert_eq!(no.ours, Some(Ours::StaleToken));
    let holder = no.holder.unwrap();
    assert_eq!((holder.owner, holder.token.get()), (Some(owner(T2)), 3));
    world.ok(Force(1, 3));
    // The operator is not the one who lost it.
    let no = world.no(Force(1, 3)).facts;
    assert_eq!((no.ours, no.cause, no.lost), (None, Some(Cause::AlreadyReset), None));
}

#[test]
fn a_session_is_abandoned_until_it_is_in_order_again() {
    let abandoned = |script: &[Step]| World::after(script).session(Get(1)).abandoned();
    let forced = [Begin, Set(T1, 1, C), Force(1, 2)];
    let in_transaction = [Begin, Set(T1, 1, C), BeginTx(T1, 1), Force(1, 2)];
    for (before, then, expected) in [
        (&forced[..], &[][..], true),
        (&forced, &[Set(T2, 1, D)], true),
        (&forced, &[Set(T2, 1, D), Transfer(T2, 1, T3)], true),
        (&forced, &[Set(T2, 1, D), Reset(T2, 1)], false),
        (&forced, &[Set(T2, 1, D), BeginTx(T2, 1), Commit(T2, 1)], false),
        (&in_transaction, &[], true),
        (&in_transaction, &[Set(T2, 1, C), Reset(T2, 1)], true),
        (&in_transaction, &[Set(T2, 1, C), BeginTx(T2, 1), Rollback(T2, 1)], true),
        (&in_transaction, &[Set(T2, 1, C), Rollback(T2, 1)], false),
        (&in_transaction, &[Set(T2, 1, C), Commit(T2, 1)], false),
        (&in_transaction, &[Set(T2, 1, C), BeginTx(T2, 1), RollbackAll(T2, 1)], false),
    ] {
        let script = [before, then].concat();
        assert_eq!(abandoned(&script), expected, "{script:?}");
    }
    // The next owner is told in the answer of its Set.
    assert!(World::after(&forced).session(Set(T2, 1, D)).abandoned());
    assert!(
        !World::after(&[Begin, Set(T1, 1, C), Transfer(T1, 1, T2)]).session(Get(1)).abandoned()
    );
}

#[test]
fn a_session_that_is_ended_by_force_is_lost_by_its_holder() {
    let mut world = World::after(&HELD);
    world.ok(ForceEnd(1));
    let lost = world.lost(T1);
    assert_eq!(lost, [(1, crate::domain::lease::LossCause::Ended, 3)]);
    world.ok(Reset(T1, 2));
    world.ok(ForceEnd(2));
    assert_eq!(world.lost(T1), lost, "nobody held it");
}
