//! Section 4: SetSessionContext and ResetSessionContext.

use super::*;
use crate::domain::id::ContextValue;
use crate::domain::refusal::{Cause, Holder, Ours};
use crate::domain::session::{Binding, Context, TransactionOwner};

#[test]
fn a_set_records_word_thread_token_and_time() {
    let mut world = World::after(&[Begin, Begin]);
    let session = world.session(Set(T1, 2, C));
    let set = world.changes.last().unwrap();
    let expected = Binding {
        context: ContextValue::new(C).unwrap(),
        owner: owner(T1),
        token: set.revision,
        since: set.time,
    };
    assert_eq!(session.context, Context::Set(expected));
    assert_eq!((session.revision, session.transaction().is_none()), (set.revision, true));
    assert_eq!(world.session(Get(1)).context, Context::NeverSet);
}

#[test]
fn any_context_that_is_set_refuses_another() {
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (Set(T1, 1, C), ALREADY_SET),
        (Set(T1, 1, D), ALREADY_SET),
        (Set(T2, 1, C), ALREADY_SET),
        (Set(BOBS_T1, 1, C), ALREADY_SET),
        // Not counted: one reset is enough, and a second one too many.
        (Reset(T1, 1), OK),
        (Reset(T1, 1), NOT_SET_BY_THIS_THREAD),
        (Set(T2, 1, C), OK),
    ]);
}

#[test]
fn a_refused_set_names_the_holder() {
    let mut world = World::after(&[Begin, Set(T1, 1, C), Get(1), Get(1)]);
    let no = world.no(Set(T2, 1, D));
    assert_eq!(no.facts.holder, Some(holder(&world, T1, 3)));
}

#[test]
fn two_words_are_reserved_and_no_others() {
    for (word, expected) in [
        (0, INVALID_PARAMETER),
        (u64::MAX, INVALID_PARAMETER),
        (1, OK),
        (0xFFFF_FFFF, OK),
        (1 << 63, OK),
        (u64::MAX - 1, OK),
    ] {
        check(&[(Begin, OK), (Set(T1, 1, word), expected)]);
    }
    let no = World::after(&[Begin]).no(Set(T1, 1, 0));
    assert_eq!(no.facts.field.map(|(name, _)| name), Some("context"));
}

#[test]
fn only_the_thread_that_set_a_context_resets_it() {
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (Reset(T2, 1), NOT_SET_BY_THIS_THREAD),
        (Reset(BOBS_T1, 1), NOT_SET_BY_THIS_THREAD),
        (Reset(T1, 1), OK),
    ]);
    check(&[
        (Begin, OK),
        (Set(BOBS_T1, 1, C), OK),
        (Reset(T1, 1), NOT_SET_BY_THIS_THREAD),
        (Reset(BOBS_T1, 1), OK),
    ]);
}

#[test]
fn a_refused_reset_tells_its_cause() {
    let mut world = World::after(&[Begin]);
    let never = world.no(Reset(T1, 1)).facts;
    assert_eq!((never.cause, never.holder, never.ours), (Some(Cause::NeverSet), None, None));

    world.ok(Set(T1, 1, C));
    let other = world.no(Reset(T2, 1)).facts;
    assert_eq!((other.cause, other.ours), (Some(Cause::HeldByOther), None));
    assert_eq!(other.holder, Some(holder(&world, T1, 1)));

    world.ok(Reset(T1, 1));
    let again = world.no(Reset(T1, 1)).facts;
    assert_eq!((again.cause, again.holder), (Some(Cause::AlreadyReset), None));
}

#[test]
fn a_reset_answers_the_revision_of_its_event() {
    let mut world = World::after(&[Begin, Set(T1, 1, C)]);
    let answer = world.ok(Reset(T1, 1));
    assert_eq!(answer, Answer::Revision(Revision::new(3)));
    assert_eq!(world.session(Get(1)).revision, Revision::new(3));
    assert_eq!(world.session(Get(1)).context, Context::Reset);
}

/// "Tokens" of the fine print: who resets × which token is shown.
#[test]
fn a_token_is_compared_with_the_one_in_force() {
    const STALE: &str = "stale";
    const OTHERS: [u64; 3] = [1, 3, 1_000];
    // The binding of session 1 has token 2; the second world had it.
    let bound = [Begin, Set(T1, 1, C), Begin];
    let unbound = [Begin, Set(T1, 1, C), Begin, Reset(T1, 1)];
    let rows: [(&[Step], Who, [&str; 3]); 5] = [
        (&bound, T1, ["ok", "ok", STALE]),
        (&bound, T2, ["held_by_other", "held_by_other", STALE]),
        (&bound, BOBS_T1, ["held_by_other", "held_by_other", STALE]),
        (&unbound, T1, ["already_reset", STALE, STALE]),
        (&unbound, T2, ["already_reset", STALE, STALE]),
    ];
    let answer = |script, step| match World::after(script).play(step) {
        Ok(_) => "ok",
        Err(no) => {
            assert_eq!(no.code, NOT_SET_BY_THIS_THREAD);
            if no.facts.ours == Some(Ours::StaleToken) {
                STALE
            } else {
                no.facts.cause.unwrap().as_str()
            }
        }
    };
    for (script, who, [without, current, other]) in rows {
        assert_eq!(answer(script, Reset(who, 1)), without, "{who:?} without a token");
        assert_eq!(answer(script, ResetWith(who, 1, 2)), current, "{who:?} with token 2");
        for token in OTHERS {
            assert_eq!(answer(script, ResetWith(who, 1, token)), other, "{who:?} with {token}");
        }
    }
    // Session 2 never had a binding.
    assert_eq!(answer(&bound, Reset(T1, 2)), "never_set");
    assert_eq!(answer(&bound, ResetWith(T1, 2, 2)), STALE);
}

#[test]
fn a_token_of_an_earlier_binding_of_the_same_thread_is_stale() {
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (Reset(T1, 1), OK),
        (Set(T1, 1, C), OK),
        (ResetWith(T1, 1, 2), NOT_SET_BY_THIS_THREAD),
        (ResetWith(T1, 1, 4), OK),
    ]);
}

#[test]
fn sessions_share_words_and_threads_hold_many_sessions() {
    check(&[
        (Begin, OK),
        (Begin, OK),
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (Set(T1, 2, C), OK),
        (Set(T2, 3, C), OK),
        // Each is let go by its own.
        (Reset(T1, 3), NOT_SET_BY_THIS_THREAD),
        (Reset(T1, 1), OK),
        (Set(T2, 2, D), ALREADY_SET),
        (Reset(T2, 3), OK),
        (Reset(T1, 2), OK),
    ]);
}

#[test]
fn a_context_set_in_an_open_transaction_does_not_rebind_it() {
    let mut world = check(&[
        (Begin, OK),
        (BeginTx(T1, 1), OK),
        (Set(T2, 1, C), OK),
        (BeginTx(T2, 1), SHARING_VIOLATION),
        (Commit(T2, 1), SHARING_VIOLATION),
        (BeginTx(T1, 1), OK),
        (Commit(T1, 1), OK),
    ]);
    assert_eq!(transaction_owner(&mut world), TransactionOwner::Thread(owner(T1)));
}

#[test]
fn a_context_reset_in_an_open_transaction_leaves_it_bound_to_the_word() {
    let mut world =
        check(&[(Begin, OK), (Set(T1, 1, C), OK), (BeginTx(T1, 1), OK), (Reset(T1, 1), OK)]);
    let word = TransactionOwner::Context(ContextValue::new(C).unwrap());
    assert_eq!(transaction_owner(&mut world), word);
    world.ok(Set(T2, 1, D));
    assert_eq!(transaction_owner(&mut world), word);
    assert_eq!(world.session(Get(1)).transaction_level(), 1);
}

fn holder(world: &World, who: Who, held_micros: u64) -> Holder {
    let set = world.changes.iter().rfind(|c| matches!(c.event, SessionEvent::ContextSet { .. }));
    Holder {
        owner: Some(owner(who)),
        token: set.unwrap().revision,
        held_for: std::time::Duration::from_micros(held_micros),
        lease_remaining: None,
    }
}

fn transaction_owner(world: &mut World) -> TransactionOwner {
    world.session(Get(1)).transaction().unwrap().bound_to().clone()
}
