//! Pools: "Claim" of the fine print, and many sessions at once.

use super::*;
use crate::domain::call::pool::{BatchBeginSessions, ClaimContext};
use crate::domain::limits::BATCH_BEGIN_MAX;
use crate::domain::refusal::Retry;
use crate::domain::session::SessionView;

impl World {
    fn begin_all(&mut self, count: u32, keys: &[&str]) -> Result<Vec<SessionView>, No> {
        self.call(T1, &BatchBeginSessions { count, labels: labels(keys) })
    }

    /// Claims a session of the pool; answers its number, or why there is none.
    pub(super) fn claim(&mut self, who: Who, keys: &[&str]) -> Result<u64, No> {
        let claim = ClaimContext {
            labels: labels(keys),
            thread: thread_of(who),
            context: C,
            wait: false,
            lease: None,
        };
        let view = self.call(who, &claim)?;
        let binding = view.session.binding().unwrap();
        assert_eq!((&binding.owner, binding.context.get()), (&owner(who), C));
        assert!(view.session.labels.contain(&labels(keys)));
        Ok(view.session.id.get())
    }

    fn refused_claim(&mut self, keys: &[&str]) -> (i32, Option<usize>, Option<usize>) {
        let no = self.claim(T3, keys).unwrap_err();
        assert_eq!(no.facts.retry, Retry::No);
        (no.code, no.facts.pool_size, no.facts.queue_length)
    }
}

#[test]
fn many_sessions_begin_at_once_or_none_does() {
    let mut world = World::above(Floor { revision: Revision::new(9), sesid: 4 }, 5);
    let begun = world.begin_all(3, &["a"]).unwrap();
    let numbers: Vec<_> = begun.iter().map(|view| view.session.id.get()).collect();
    let revisions: Vec<_> = begun.iter().map(|view| view.session.revision.get()).collect();
    assert_eq!((numbers, revisions), (vec![5, 6, 7], vec![10, 11, 12]));
    assert!(begun.iter().all(|view| view.session.labels == labels(&["a"])));
    assert_eq!(world.begin_all(3, &[]).unwrap_err().code, OUT_OF_SESSIONS);
    assert_eq!(world.begin_all(u32::MAX, &[]).unwrap_err().code, OUT_OF_SESSIONS);
    assert_eq!(world.instance.table.len(), 3);
    assert_eq!(world.begin_all(2, &[]).unwrap().len(), 2);
    assert_eq!(world.begin_all(1, &[]).unwrap_err().code, OUT_OF_SESSIONS);
    // Gaps leave the numbers that begin next to each other.
    world.ok(End(T1, 6));
    world.ok(End(T1, 9));
    let numbers = world.begin_all(2, &[]).unwrap().into_iter().map(|view| view.session.id.get());
    assert_eq!(numbers.collect::<Vec<_>>(), [10, 11]);
}

#[test]
fn a_batch_does_not_reach_into_the_next_epoch() {
    let end = (1 << 48) - 1;
    let mut world = World::above(Floor { revision: Revision::new(9), sesid: end - 2 }, 5);
    assert_eq!(world.begin_all(3, &[]).unwrap_err().code, OUT_OF_SESSIONS);
    assert_eq!(world.begin_all(2, &[]).unwrap()[1].session.id.get(), end);
    assert_eq!(world.begin_all(1, &[]).unwrap_err().code, OUT_OF_SESSIONS);
}

#[test]
fn as_many_as_one_call_may_begin_can_be_claimed_one_by_one() {
    let mut world = World::above(Floor::default(), BATCH_BEGIN_MAX);
    world.begin_all(BATCH_BEGIN_MAX, &["a"]).unwrap();
    for id in 1..=u64::from(BATCH_BEGIN_MAX) {
        assert_eq!(world.claim(T1, &["a"]), Ok(id));
    }
    assert_eq!(world.refused_claim(&["a"]).1, Some(BATCH_BEGIN_MAX as usize));
}

#[test]
fn a_claim_takes_the_session_that_has_been_free_longest() {
    let mut world = World::ready();
    world.begin_all(3, &["a"]).unwrap();
    assert_eq!(world.claim(T1, &["a"]), Ok(1));
    assert_eq!(world.claim(T2, &["a"]), Ok(2));
    world.ok(Reset(T2, 2));
    world.ok(Reset(T1, 1));
    let claimed = [(); 3].map(|()| world.claim(T1, &["a"]).unwrap());
    assert_eq!(claimed, [3, 2, 1]);
    // However it became free.
    world.ok(Force(1, world.token(1)));
    world.keep(T1, seconds(5));
    world.pass(seconds(5));
    world.expire();
    let claimed = [(); 3].map(|()| world.claim(T2, &["a"]).unwrap());
    assert_eq!(claimed, [1, 2, 3]);
}

#[test]
fn a_claim_takes_no_session_with_an_open_transaction() {
    let mut world = World::ready();
    world.begin_all(2, &[]).unwrap();
    world.ok(BeginTx(T1, 1));
    assert_eq!(world.claim(T2, &[]), Ok(2));
    assert_eq!(world.refused_claim(&[]), (ALREADY_SET, Some(2), Some(0)));
    world.ok(BeginTx(T1, 1));
    world.ok(Rollback(T1, 1));
    assert_eq!(world.refused_claim(&[]).1, Some(2), "one level is left");
    world.ok(Commit(T1, 1));
    assert_eq!(world.claim(T2, &[]), Ok(1));
}

#[test]
fn all_labels_of_a_claim_must_match() {
    let mut world = World::ready();
    world.begin_all(1, &["b"]).unwrap();
    world.begin_all(1, &["a", "b"]).unwrap();
    world.begin_all(1, &["a"]).unwrap();
    world.begin_all(1, &[]).unwrap();
    assert_eq!(world.claim(T1, &["a", "b"]), Ok(2));
    assert_eq!(world.refused_claim(&["a", "b"]), (ALREADY_SET, Some(1), Some(0)));
    assert_eq!(world.claim(T1, &["a"]), Ok(3));
    assert_eq!(world.refused_claim(&["a"]), (ALREADY_SET, Some(2), Some(0)));
    assert_eq!(world.claim(T1, &[]), Ok(1));
    assert_eq!(world.claim(T1, &[]), Ok(4));
    assert_eq!(world.refused_claim(&[]), (ALREADY_SET, Some(4), Some(0)));
    world.ok(Reset(T1, 2));
    assert_eq!(world.claim(T1, &["b"]), Ok(2));
}

#[test]
fn a_pool_that_nobody_began_has_no_session() {
    let mut world = World::after(&[Begin]);
    assert_eq!(world.refused_claim(&["a"]), (ALREADY_SET, Some(0), Some(0)));
    world.begin_all(1, &["a"]).unwrap();
    world.ok(End(T1, 2));
    assert_eq!(world.refused_claim(&["a"]), (ALREADY_SET, Some(0), Some(0)));
    world.end_all();
    assert_eq!(world.refused_claim(&[]).1, Some(0));
}

#[test]
fn a_claim_judges_its_word_and_the_phase_first() {
    let mut world = World::after(&[]);
    let claim = |context| ClaimContext {
        labels: Labels::default(),
        thread: thread_of(T1),
        context,
        wait: true,
        lease: None,
    };
    for context in [0, u64::MAX] {
        let no = world.call(T1, &claim(context)).unwrap_err();
        let field = no.facts.field.map(|(name, _)| name);
        assert_eq!((no.code, field), (INVALID_PARAMETER, Some("context")));
    }
    world.instance.phase = Phase::Stopped;
    assert_eq!(world.call(T1, &claim(0)).unwrap_err().code, STOPPED);
    assert_eq!(world.begin_all(1, &[]).unwrap_err().code, STOPPED);
}

impl World {
    /// The token in force.
    pub(super) fn token(&self, id: u64) -> u64 {
        let session = self.instance.table.session(sesid(id)).unwrap();
        session.binding().unwrap().token.get()
    }
}
