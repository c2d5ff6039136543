//! "Waiting", "Transfer" and "Claim" of the fine print: who gets what, and who is told what.

use super::line::{Ask, Line};
use super::*;
use crate::domain::limits::RETRY_AFTER_MS_MIN;
use crate::domain::refusal::{Facts, Retry};

/// Two sessions of the pool `a` that T1 holds.
fn held() -> Line {
    let mut world = World::ready();
    for id in [1, 2] {
        let begin = BeginSession { labels: labels(&["a"]) };
        world.call(T1, &begin).unwrap();
        world.ok(Set(T1, id, C));
    }
    Line::new(world)
}

/// The session that a call got.
fn got(line: &Line, nth: usize) -> Option<u64> {
    line.answer(nth).map(|answer| answer.as_ref().unwrap().session.id.get())
}

fn refused(line: &Line, nth: usize) -> (i32, Facts) {
    let no = line.answer(nth).expect("it is answered").clone().unwrap_err();
    (no.code, *no.facts)
}

#[test]
fn one_release_wakes_one_and_in_order() {
    let mut line = held();
    let [a, b, c] = [T2, T3, BOBS_T1].map(|who| line.ask(Ask::set(who, 1)));
    assert_eq!(line.waiting(), [a, b, c]);
    assert_eq!(line.world.session(Get(1)).binding().unwrap().owner, owner(T1));
    for (holder, next, left) in [(T1, a, vec![b, c]), (T2, b, vec![c]), (T3, c, vec![])] {
        line.step(|world| world.ok(Reset(holder, 1)));
        assert_eq!((got(&line, next), line.waiting()), (Some(1), left));
    }
    assert_eq!(line.answers.len(), 3);
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let mut line = held();
    let first = line.ask(Ask::set(T2, 1));
    line.step(|world| world.ok(Reset(T1, 1)));
    let late = line.ask(Ask { wait: false, ..Ask::set(T3, 1) });
    assert_eq!((got(&line, first), refused(&line, late).0), (Some(1), ALREADY_SET));
}

#[test]
fn whoever_has_gone_is_passed_over() {
    let mut line = held();
    let [a, b, c] = [T2, T3, BOBS_T1].map(|who| line.ask(Ask::set(who, 1)));
    line.die(a);
    assert!(line.leave(b));
    line.step(|world| world.ok(Reset(T1, 1)));
    assert_eq!((got(&line, c), line.waiting()), (Some(1), vec![]));
    assert!(line.answer(a).is_none() && line.answer(b).is_none());
}

#[test]
fn a_released_session_goes_to_the_oldest_of_its_own_line_and_of_claims() {
    for claim_first in [true, false] {
        let mut line = held();
        let (set, claim) = (Ask::set(T2, 2), Ask::claim(T3, &["a"]));
        let (first, second) = if claim_first { (claim, set) } else { (set, claim) };
        let (first, second) = (line.ask(first), line.ask(second));
        line.step(|world| world.ok(Reset(T1, 2)));
        assert_eq!((got(&line, first), line.waiting()), (Some(2), vec![second]));
    }
}

#[test]
fn a_claim_that_waits_takes_a_session_when_its_transaction_is_over() {
    let mut line = held();
    line.step(|world| world.ok(BeginTx(T1, 1)));
    let claim = line.ask(Ask::claim(T2, &["a"]));
    line.step(|world| world.ok(Reset(T1, 1)));
    assert_eq!(line.waiting(), [claim], "it is in mid hand-over");
    // A Set for that very session is not kept from it by the claim.
    let set = line.ask(Ask::set(T3, 1));
    assert_eq!(got(&line, set), Some(1));
    line.step(|world| world.ok(Reset(T3, 1)));
    line.step(|world| world.ok(Set(T3, 1, C)));
    line.step(|world| world.ok(Commit(T3, 1)));
    assert_eq!(line.waiting(), [claim]);
    line.step(|world| world.ok(Reset(T3, 1)));
    assert_eq!(got(&line, claim), Some(1));
}

#[test]
fn a_transaction_that_ends_on_a_free_session_gives_it_to_a_claim() {
    for end in [Commit(T1, 3), Rollback(T1, 3), RollbackAll(T1, 3)] {
        let mut line = held();
        let begin = BeginSession { labels: labels(&["a"]) };
        line.step(|world| world.call(T1, &begin).unwrap());
        line.step(|world| world.ok(BeginTx(T1, 3)));
        let claim = line.ask(Ask::claim(T2, &["a"]));
        assert_eq!(line.waiting(), [claim]);
        line.step(|world| world.ok(end));
        assert_eq!(got(&line, claim), Some(3), "{end:?}");
    }
}

#[test]
fn a_session_that_begins_goes_to_a_claim_that_waits() {
    let mut line = held();
    let claims = [T2, T3].map(|who| line.ask(Ask::claim(who, &["a"])));
    let begin = BeginSession { labels: labels(&["a", "b"]) };
    line.step(|world| world.call(T1, &begin).unwrap());
    assert_eq!((got(&line, claims[0]), line.waiting()), (Some(3), vec![claims[1]]));
}

#[test]
fn what_expiry_force_and_the_end_of_a_thread_free_is_handed_on() {
    let expire: fn(&mut World) = |world| {
        world.keep(T1, seconds(5));
        world.pass(seconds(5));
        world.expire();
    };
    let force: fn(&mut World) = |world| {
        world.ok(Force(1, 2));
        world.ok(Force(2, 4));
    };
    for free in [expire, force] {
        let mut line = held();
        let (set, claim) = (line.ask(Ask::set(T2, 1)), line.ask(Ask::claim(T3, &["a"])));
        line.step(free);
        assert_eq!((got(&line, set), got(&line, claim)), (Some(1), Some(2)));
        let view = line.answer(set).unwrap().as_ref().unwrap();
        assert!(view.session.abandoned(), "the next owner is told");
    }
}

#[test]
fn the_end_of_a_session_tells_those_who_wait_for_it() {
    let mut line = held();
    let (set, claim) = (line.ask(Ask::set(T2, 1)), line.ask(Ask::claim(T3, &["a"])));
    line.step(|world| world.ok(ForceEnd(1)));
    assert_eq!((refused(&line, set).0, line.waiting()), (INVALID_SESID, vec![claim]));
    line.step(|world| world.ok(ForceEnd(2)));
    let (code, facts) = refused(&line, claim);
    assert_eq!((code, facts.pool_size), (ALREADY_SET, Some(0)));
    assert!(line.waiting().is_empty());
}

#[test]
fn who_waits_in_vain_is_told_what_others_are_told() {
    let mut line = held();
    let claims = [T2, T3].map(|who| line.ask(Ask::claim(who, &["a"])));
    let sets = [T2, T3].map(|who| line.ask(Ask::set(who, 1)));
    line.world.pass(seconds(3));
    assert!(line.time_out(sets[0]) && line.time_out(claims[0]));
    let (code, facts) = refused(&line, sets[0]);
    let holder = facts.holder.unwrap();
    assert_eq!((code, holder.owner, holder.token.get()), (ALREADY_SET, Some(owner(T1)), 2));
    assert!(holder.held_for >= seconds(3));
    assert_eq!((facts.queue_length, facts.retry), (Some(1), Retry::No), "without itself");
    let (code, facts) = refused(&line, claims[0]);
    assert_eq!((code, facts.queue_length, facts.pool_size), (ALREADY_SET, Some(1), Some(2)));
    assert!(!line.time_out(sets[0]), "it is answered once");
}

#[test]
fn a_pool_of_which_there_is_no_session_is_not_waited_for() {
    let mut line = held();
    let claim = line.ask(Ask::claim(T2, &["b"]));
    assert_eq!(refused(&line, claim).1.pool_size, Some(0));
    let reserved = line.ask(Ask { context: 0, ..Ask::set(T2, 1) });
    assert_eq!(refused(&line, reserved).0, INVALID_PARAMETER);
}

#[test]
fn whoever_waits_is_seen_on_the_session() {
    let mut line = held();
    [T2, T3].into_iter().for_each(|who| _ = line.ask(Ask::set(who, 1)));
    line.ask(Ask::claim(BOBS_T1, &["a"]));
    let waiters = |line: &Line, id| {
        let table = &line.world.instance.table;
        let session = table.session(sesid(id)).unwrap().clone();
        line.world.instance.view(session, Served::default()).waiters
    };
    assert_eq!((waiters(&line, 1), waiters(&line, 2)), (2, 0));
    line.step(|world| world.ok(Reset(T1, 1)));
    assert_eq!(waiters(&line, 1), 1);
    assert_eq!(line.answers[0].1.as_ref().unwrap().waiters, 1);
}

/// `RetryInfo` of −1912: when the holder's lease ends, if it has one, also if others wait.
#[test]
fn the_end_of_the_holders_lease_is_when_to_try_again() {
    let mut line = held();
    let retry = |line: &mut Line| {
        let nth = line.ask(Ask { wait: false, ..Ask::set(T2, 1) });
        let facts = refused(line, nth).1;
        (facts.retry, facts.holder.unwrap().lease_remaining)
    };
    assert_eq!(retry(&mut line), (Retry::No, None));
    line.world.keep(T1, seconds(5));
    assert_eq!(retry(&mut line), (Retry::After(seconds(5)), Some(seconds(5))));
    line.ask(Ask::set(T3, 1));
    line.world.pass(seconds(2));
    assert_eq!(retry(&mut line), (Retry::After(seconds(3)), Some(seconds(3))));
    line.world.pass(seconds(4));
    let soon = Duration::from_millis(RETRY_AFTER_MS_MIN);
    assert_eq!(retry(&mut line), (Retry::After(soon), Some(Duration::ZERO)));
}

#[test]
fn a_transfer_passes_the_line_and_answers_the_successor_that_waits() {
    let mut line = held();
    let other = line.ask(Ask::set(T3, 1));
    let differs = line.ask(Ask { context: D, ..Ask::set(T2, 1) });
    let [same, again] = [0, 1].map(|_| line.ask(Ask::set(T2, 1)));
    let token = line.step(|world| world.ok(Transfer(T1, 1, T2)));
    let view = line.answer(same).unwrap().clone().unwrap();
    let binding = view.session.binding().unwrap();
    assert_eq!(Answer::Revision(binding.token), token);
    assert_eq!(binding.owner, owner(T2));
    let (code, facts) = refused(&line, differs);
    assert_eq!(
        (code, facts.holder.and_then(|holder| holder.owner)),
        (ALREADY_SET, Some(owner(T2)))
    );
    assert_eq!(line.waiting(), [other, again], "others keep their places");
    line.step(|world| world.ok(Reset(T2, 1)));
    assert_eq!(got(&line, other), Some(1));
}

#[test]
fn the_lease_of_a_waiting_call_begins_when_it_gets_the_session() {
    let lease = Some(seconds(8));
    for transfer in [true, false] {
        let mut line = held();
        let set = line.ask(Ask { lease, ..Ask::set(T2, 1) });
        assert!(line.world.instance.deadlines.is_empty());
        line.world.pass(seconds(3));
        line.step(|world| world.ok(if transfer { Transfer(T1, 1, T2) } else { Reset(T1, 1) }));
        let view = line.answer(set).unwrap().clone().unwrap();
        assert_eq!(view.lease.map(|lease| lease.remaining), lease);
        line.world.pass(seconds(8));
        assert_eq!(line.step(World::expire), 2);
        assert!(line.world.instance.table.session(sesid(1)).unwrap().abandoned());
    }
}

#[test]
fn twins_have_one_effect_and_both_get_its_answer() {
    for transfer in [true, false] {
        let mut line = held();
        let ask = Ask { request: Some(7), ..Ask::set(T2, 1) };
        let [a, b] = [ask; 2].map(|ask| line.ask(ask));
        let other = line.ask(Ask::set(T3, 1));
        line.step(|world| world.ok(if transfer { Transfer(T1, 1, T2) } else { Reset(T1, 1) }));
        assert_eq!(line.waiting(), [other]);
        let answers = [a, b].map(|nth| line.answer(nth).unwrap().clone().unwrap());
        assert_eq!(answers[0], answers[1]);
        let late = line.ask(ask);
        assert_eq!(line.answer(late).unwrap(), &Ok(answers[0].clone()));
        let made: usize = line.world.changes.iter().map(|change| change.made.len()).sum();
        assert_eq!(made, 1);
    }
}

#[test]
fn of_two_waiting_twins_one_leaving_does_not_end_the_other() {
    let mut line = held();
    let ask = Ask { request: Some(7), ..Ask::set(T2, 1) };
    let [a, b] = [ask; 2].map(|ask| line.ask(ask));
    assert!(line.leave(a));
    line.step(|world| world.ok(Reset(T1, 1)));
    assert_eq!((line.answer(a), got(&line, b)), (None, Some(1)));
}

/// A transfer with a request of its own to a successor that waits with one.
#[test]
fn one_change_answers_two_requests() {
    let mut line = held();
    let set = line.ask(Ask { request: Some(7), ..Ask::set(BOBS_T1, 1) });
    let token = line.step(|world| world.named("transfer", 1).ok(Transfer(T1, 1, BOBS_T1)));
    let change = line.world.changes.last().unwrap();
    let by: Vec<_> = change.made.iter().map(|made| made.by.clone()).collect();
    assert_eq!(by, [principal(T1), principal(BOBS_T1)]);
    line.step(|world| world.ok(ForceEnd(1)));
    assert_eq!(line.step(|world| world.named("transfer", 1).ok(Transfer(T1, 1, BOBS_T1))), token);
    let again = line.ask(Ask { request: Some(7), ..Ask::set(BOBS_T1, 1) });
    assert_eq!(line.answer(again), line.answer(set));
}
