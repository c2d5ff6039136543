//! The check itself: histories that are right pass, and histories that are wrong are found.

mod made_up;

use super::history::{Act, Nanos, Operation, Outcome, Refusal, Thread, Unset};
use super::{What, check, search};

const A: Thread = 1;
const B: Thread = 2;
const C: Thread = 3;

const SET: Act = Act::Set { wait: false, lease: None };
const WAIT: Act = Act::Set { wait: true, lease: None };

fn reset(token: u64) -> Act {
    Act::Reset { token }
}

fn held(holder: Thread, token: u64) -> Outcome {
    Outcome::Refused(Refusal::AlreadySet { holder, token })
}

/// One operation of session 1.
fn op(by: Thread, act: Act, time: (Nanos, Nanos), outcome: Outcome) -> Operation {
    Operation { session: 1, by, act, invoked: time.0, returned: time.1, outcome }
}

/// One whose answer never came.
fn lost(by: Thread, act: Act, invoked: Nanos) -> Operation {
    op(by, act, (invoked, Nanos::MAX), Outcome::Unknown)
}

fn finds(history: &[Operation]) -> Option<What> {
    check(history).err().map(|wrong| wrong.what)
}

use Outcome::{Made, Ok as Done, Saw};

#[test]
fn one_after_the_other_is_right() {
    let history = [
        op(A, SET, (0, 1), Made(10)),
        op(B, SET, (2, 3), held(A, 10)),
        op(B, reset(0), (4, 5), Outcome::Refused(Refusal::NotSetByThisThread(Unset::HeldByOther))),
        op(A, reset(10), (6, 7), Made(11)),
        op(A, reset(10), (8, 9), Outcome::Refused(Refusal::StaleToken)),
        op(B, SET, (10, 11), Made(12)),
        op(
            C,
            Act::Check { token: 12 },
            (12, 13),
            Outcome::Refused(Refusal::NotSetByThisThread(Unset::HeldByOther)),
        ),
        op(B, Act::Check { token: 12 }, (12, 13), Done),
        op(B, Act::Transfer { to: C, token: 12, leased: false }, (14, 15), Made(13)),
        op(A, Act::ForceReset { token: 13 }, (16, 17), Made(14)),
        op(B, Act::End, (18, 19), Done),
        op(A, SET, (20, 21), Outcome::Refused(Refusal::Ended)),
    ];
    assert_eq!(finds(&history), None);
}

#[test]
fn two_grants_at_once_are_wrong() {
    let history = [
        op(A, SET, (0, 10), Made(10)),
        op(B, SET, (0, 10), Made(11)),
        op(A, reset(10), (20, 30), Made(12)),
    ];
    assert_eq!(finds(&history), Some(What::DoesNotFollow));
}

#[test]
fn two_grants_are_wrong_although_a_call_without_an_answer_was_there() {
    let grants = [
        op(A, SET, (0, 10), Made(10)),
        op(B, SET, (0, 10), Made(11)),
        op(A, reset(10), (20, 30), Made(12)),
    ];
    for (token, invoked, found) in [(10, 11, What::DoesNotFollow), (9, 5, What::NoOrder)] {
        let history = [grants[0], grants[1], grants[2], lost(A, reset(token), invoked)];
        assert_eq!(finds(&history), Some(found), "{token} at {invoked}");
    }
}

#[test]
fn a_refusal_fits_what_it_says() {
    let held = op(A, SET, (0, 1), Made(10));
    let freed = op(A, Act::ForceReset { token: 10 }, (4, 5), Made(11));
    let not_set = |unset| Outcome::Refused(Refusal::NotSetByThisThread(unset));
    for (by, act, refused, while_held, while_free) in [
        (A, Act::End, Outcome::Refused(Refusal::InUse), true, false),
        (A, Act::End, Outcome::Refused(Refusal::Ended), false, false),
        (B, SET, Outcome::Refused(Refusal::NotSaid), true, true),
        (A, reset(0), not_set(Unset::TakenAway), false, true),
        (A, reset(0), not_set(Unset::Free), false, true),
        (B, reset(0), not_set(Unset::Free), false, true),
        (B, reset(0), not_set(Unset::HeldByOther), true, false),
        (B, reset(10), not_set(Unset::HeldByOther), true, false),
        (A, reset(10), not_set(Unset::Free), false, false),
        (A, reset(9), Outcome::Refused(Refusal::StaleToken), true, true),
        (A, reset(10), Outcome::Refused(Refusal::StaleToken), false, true),
        (A, reset(0), Outcome::Refused(Refusal::StaleToken), false, false),
    ] {
        for (time, right) in [((2, 3), while_held), ((6, 7), while_free)] {
            let one = op(by, act, time, refused);
            assert_eq!(finds(&[held, one, freed]).is_none(), right, "{one}");
        }
    }
}

#[test]
fn a_token_that_comes_twice_is_wrong() {
    let history = [
        op(A, SET, (0, 1), Made(10)),
        op(A, reset(10), (2, 3), Made(11)),
        op(B, SET, (4, 5), Made(10)),
    ];
    assert_eq!(finds(&history), Some(What::RevisionTwice));
}

#[test]
fn revisions_rise_over_all_sessions() {
    let elsewhere = Operation { session: 2, ..op(A, SET, (0, 1), Made(10)) };
    assert_eq!(finds(&[elsewhere, op(B, SET, (1, 2), Made(9))]), None);
    assert_eq!(finds(&[elsewhere, op(B, SET, (2, 3), Made(9))]), Some(What::OutOfOrder));
}

#[test]
fn a_refusal_may_be_of_any_moment_of_its_call_and_no_other() {
    let holds = [op(A, SET, (10, 11), Made(10)), op(A, reset(10), (20, 21), Made(11))];
    for (time, right) in
        [((0, 10), true), ((0, 9), false), ((15, 16), true), ((21, 30), true), ((22, 30), false)]
    {
        let history = [holds[0], holds[1], op(B, SET, time, held(A, 10))];
        assert_eq!(finds(&history).is_none(), right, "{time:?}");
    }
}

#[test]
fn what_is_seen_has_to_be_so() {
    let set = op(A, SET, (10, 11), Made(10));
    for (seen, right) in
        [(Some((A, 10)), true), (None, false), (Some((B, 10)), false), (Some((A, 9)), false)]
    {
        assert_eq!(
            finds(&[set, op(B, Act::Look, (12, 13), Saw(seen))]).is_none(),
            right,
            "{seen:?}"
        );
    }
}

#[test]
fn a_lost_set_was_made_later_or_never() {
    let set = lost(A, SET, 10);
    assert_eq!(finds(&[set, op(B, SET, (20, 21), Made(5))]), None);
    let late = [
        set,
        op(B, SET, (20, 21), Made(5)),
        op(B, reset(5), (30, 31), Made(6)),
        op(B, SET, (40, 41), held(A, 7)),
    ];
    assert_eq!(finds(&late), None);
    // Once is all.
    let twice = [
        late[0],
        late[1],
        late[2],
        late[3],
        op(B, Act::ForceReset { token: 7 }, (50, 51), Made(8)),
        op(B, SET, (60, 61), held(A, 9)),
    ];
    assert_eq!(finds(&twice), Some(What::NoOrder));
    // Not before it was asked for.
    assert_eq!(finds(&[set, op(B, SET, (0, 9), held(A, 7))]), Some(What::NoOrder));
}

#[test]
fn what_was_lost_with_its_server_was_made_before_that_died() {
    for (died, right) in [(19, false), (20, true)] {
        let set = op(A, SET, (10, died), Outcome::Unknown);
        let freed = op(B, Act::Look, (20, 21), Saw(None));
        let held = op(B, Act::Look, (22, 23), Saw(Some((A, 5))));
        assert_eq!(finds(&[set, freed, held]).is_none(), right, "{died}");
    }
}

#[test]
fn an_answer_that_fits_two_states_may_be_of_the_later() {
    // The refusal fits before and after the lost Reset, which is made before its server died.
    let lost = op(A, reset(10), (10, 20), Outcome::Unknown);
    let refused = op(B, reset(9), (30, 31), Outcome::Refused(Refusal::StaleToken));
    let history =
        [op(A, SET, (0, 1), Made(10)), lost, refused, op(C, Act::Look, (40, 41), Saw(None))];
    assert_eq!(finds(&history), None);
}

#[test]
fn a_lost_reset_explains_the_next_grant_and_only_under_its_token() {
    for (token, right) in [(10, true), (0, true), (9, false)] {
        let history =
            [op(A, SET, (0, 1), Made(10)), lost(A, reset(token), 2), op(B, SET, (3, 4), Made(12))];
        assert_eq!(finds(&history).is_none(), right, "{token}");
    }
}

#[test]
fn a_reset_that_was_answered_and_not_made_is_wrong() {
    let history = [
        op(A, SET, (0, 1), Made(10)),
        op(A, reset(10), (2, 3), Made(11)),
        op(B, SET, (4, 5), held(A, 10)),
    ];
    assert_eq!(finds(&history), Some(What::NoOrder));
}

#[test]
fn the_token_of_a_lost_set_lies_between_what_is_known() {
    for (token, right) in [(4, false), (5, false), (6, true), (8, true), (9, false)] {
        let history = [
            op(B, SET, (0, 1), Made(4)),
            op(B, reset(4), (2, 3), Made(5)),
            lost(A, SET, 4),
            op(B, Act::Look, (5, 6), Saw(Some((A, token)))),
            op(A, reset(0), (7, 8), Made(9)),
        ];
        assert_eq!(finds(&history).is_none(), right, "{token}");
    }
}

#[test]
fn a_transfer_answers_a_successor_that_waits() {
    let transfer = Act::Transfer { to: B, token: 10, leased: false };
    let held = op(A, SET, (0, 1), Made(10));
    for (made, right) in [
        (op(A, transfer, (4, 6), Made(11)), true),
        (lost(A, transfer, 4), true),
        (lost(A, Act::Transfer { to: C, token: 10, leased: false }, 4), false),
        (op(A, reset(10), (4, 6), Made(11)), false),
    ] {
        let waited = [held, op(B, WAIT, (2, 6), Made(11)), made];
        assert_eq!(finds(&waited).is_none(), right, "{made}");
        // Who did not wait was not answered so.
        let at_once = [held, op(B, SET, (2, 6), Made(11)), made];
        assert!(finds(&at_once).is_some(), "{made}");
    }
}

#[test]
fn a_lease_ends_not_before_its_time() {
    let ttl = 100;
    let set = op(A, Act::Set { wait: false, lease: Some(ttl) }, (0, 10), Made(10));
    let next = |returned| op(B, SET, (returned - 5, returned), Made(12));
    assert_eq!(finds(&[set, next(99)]), Some(What::NoOrder));
    assert_eq!(finds(&[set, next(100)]), None);
    let kept = op(A, Act::KeepAlive { ttl }, (50, 60), Done);
    assert_eq!(finds(&[set, kept, next(149)]), Some(What::NoOrder));
    assert_eq!(finds(&[set, kept, next(150)]), None);
    // A renewal whose answer was lost is no promise.
    assert_eq!(finds(&[set, lost(A, kept.act, 50), next(149)]), None);
}

#[test]
fn a_search_without_an_end_gives_up_and_says_so() {
    // Each of these may have been made before any of the others, or not.
    let mut history: Vec<_> = (10..20).map(|thread| lost(thread, SET, 1)).collect();
    history.extend((10..20).map(|thread| lost(thread, reset(0), 1)));
    history.push(op(B, Act::Look, (2, 3), Saw(Some((C, 5)))));
    let wrong = search::explains_within(&history, 1_000).unwrap_err();
    assert_eq!(wrong.what, What::GaveUp);
}
