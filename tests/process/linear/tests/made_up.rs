//! Histories that are made up: a plain session is asked one thing at a time, and what it answers is
//! stretched until it overlaps.

use proptest::prelude::*;

use super::{A, Done, Made, SET, Saw, finds, held, op, reset};
use crate::linear::contract::State;
use crate::linear::history::{Act, Nanos, Operation, Outcome, Refusal, Thread, Unset};
use crate::linear::{What, check};

/// What a thread does next, and how long before and after its moment it asks and is answered.
#[derive(Debug, Clone, Copy)]
struct Idea {
    by: Thread,
    kind: u8,
    other: Thread,
    before: Nanos,
    after: Nanos,
}

/// A grant and its reset, and then anything: there is always something to plant a fault in.
fn ideas() -> impl Strategy<Value = Vec<Idea>> {
    let idea = (1_u32..5, 0_u8..14, 1_u32..5, 0_u64..60, 0_u64..60);
    let idea =
        idea.prop_map(|(by, kind, other, before, after)| Idea { by, kind, other, before, after });
    prop::collection::vec(idea, 0..80).prop_map(|ideas| {
        let first = |kind| Idea { by: A, kind, other: A, before: 1, after: 1 };
        [first(0), first(6)].into_iter().chain(ideas).collect()
    })
}

/// The answers of a plain session that is asked one thing at a time, each at a moment of its own. Each
/// operation is stretched around its moment, so that they overlap.
fn history(ideas: &[Idea]) -> Vec<Operation> {
    let mut holder: Option<(Thread, u64)> = None;
    let mut revision = 0;
    let mut history = Vec::new();
    for (idea, moment) in ideas.iter().zip((100..).step_by(10)) {
        let &Idea { by, kind, other, before, after } = idea;
        let current = holder.map_or(0, |(_, token)| token);
        let mine = holder.is_some_and(|(thread, _)| thread == by);
        let not_mine = |token: u64| match holder {
            None if token == 0 => Refusal::NotSetByThisThread(Unset::Free),
            Some((_, current)) if token == 0 || token == current => {
                Refusal::NotSetByThisThread(Unset::HeldByOther)
            }
            Some(_) | None => Refusal::StaleToken,
        };
        let (act, outcome) = match kind {
            0..5 => (
                SET,
                match holder {
                    None => {
                        revision += 3;
                        holder = Some((by, revision));
                        Made(revision)
                    }
                    Some((holder, token)) => held(holder, token),
                },
            ),
            5..9 => {
                let token = if kind == 5 { 0 } else { current };
                (
                    reset(token),
                    if mine {
                        revision += 3;
                        holder = None;
                        Made(revision)
                    } else {
                        Outcome::Refused(not_mine(token))
                    },
                )
            }
            9 => (reset(1), Outcome::Refused(Refusal::StaleToken)),
            10 => (
                Act::Transfer { to: other, token: current, leased: false },
                if mine {
                    revision += 3;
                    holder = Some((other, revision));
                    Made(revision)
                } else {
                    Outcome::Refused(not_mine(current))
                },
            ),
            11 if holder.is_some() => {
                revision += 3;
                holder = None;
                (Act::ForceReset { token: current }, Made(revision))
            }
            12 if mine => (Act::Check { token: current }, Done),
            _ => (Act::Look, Saw(holder)),
        };
        history.push(op(by, act, (moment - before, moment + after), outcome));
    }
    history
}

/// The answer is lost: of what was made as of what was refused. If its server died with it, it is known
/// until when it can have been made.
fn lose(history: &mut [Operation], which: &[(prop::sample::Index, bool)]) {
    for (index, died) in which {
        let one = &mut history[index.index(history.len())];
        one.outcome = Outcome::Unknown;
        if !died {
            one.returned = Nanos::MAX;
        }
    }
}

fn changes(history: &[Operation]) -> Vec<usize> {
    (0..history.len()).filter(|at| history[*at].revision().is_some()).collect()
}

proptest! {
    #[test]
    fn whatever_overlaps_is_explained(ideas in ideas()) {
        let history = history(&ideas);
        let checked = check(&history).map_err(|wrong| TestCaseError::fail(wrong.to_string()))?;
        prop_assert_eq!(checked.operations, history.len());
    }

    #[test]
    fn whatever_is_lost_is_explained(
        ideas in ideas(),
        which in prop::collection::vec(any::<(prop::sample::Index, bool)>(), 0..12),
    ) {
        let mut history = history(&ideas);
        lose(&mut history, &which);
        check(&history).map_err(|wrong| TestCaseError::fail(wrong.to_string()))?;
    }

    #[test]
    fn a_planted_double_grant_is_found(ideas in ideas(), which: prop::sample::Index) {
        let mut history = history(&ideas);
        let grants = changes(&history);
        let grants: Vec<_> = grants.into_iter().filter(|at| history[*at].act == SET).collect();
        let grant = history[*which.get(&grants)];
        // While it holds, somebody else is told that he does; nobody but the holder lets go.
        let token = grant.revision().unwrap() + 1;
        history.push(op(9, SET, (grant.invoked, grant.returned), Made(token)));
        prop_assert_eq!(finds(&history), Some(What::DoesNotFollow));
    }

    #[test]
    fn a_token_out_of_order_is_found(ideas in ideas(), which: prop::sample::Index) {
        let mut history = history(&ideas);
        let changes = changes(&history);
        let pairs = changes.iter().flat_map(|one| changes.iter().map(move |other| (*one, *other)));
        let apart = pairs.filter(|(one, other)| history[*one].returned < history[*other].invoked);
        let (one, other) = *which.get(&apart.collect::<Vec<_>>());
        let outcome = history[one].outcome;
        history[one].outcome = history[other].outcome;
        history[other].outcome = outcome;
        prop_assert_eq!(finds(&history), Some(What::OutOfOrder));
    }

    #[test]
    fn a_reset_that_was_not_made_is_found(ideas in ideas(), which: prop::sample::Index) {
        let mut history = history(&ideas);
        let made = changes(&history);
        let resets: Vec<_> =
            made.into_iter().filter(|at| matches!(history[*at].act, Act::Reset { .. })).collect();
        // Somebody sees afterwards that the holder still holds.
        let reset = *which.get(&resets);
        let holder = history[..reset].iter().rev().find_map(|one| {
            let thread = if let Act::Transfer { to, .. } = one.act { to } else { one.by };
            Some((thread, one.revision()?))
        });
        let late = history.iter().map(|one| one.returned).max().unwrap() + 1;
        history.truncate(reset + 1);
        history.push(op(9, Act::Look, (late, late + 1), Saw(holder)));
        prop_assert_eq!(finds(&history), Some(What::NoOrder));
    }

    #[test]
    fn an_answer_from_the_past_is_found(ideas in ideas(), which: prop::sample::Index) {
        let mut history = history(&ideas);
        let changes = changes(&history);
        let change = *which.get(&changes);
        let before = history[..change].iter().fold(State::default(), |state, one| {
            state.after(one, u64::MAX).unwrap()
        });
        let (thread, seen) = match before.holder() {
            Some((holder, token)) => (holder, Some((holder, token))),
            None => (9, None),
        };
        history.truncate(change + 1);
        let late = history.iter().map(|one| one.returned).max().unwrap() + 1;
        history.push(op(thread, Act::Look, (late, late + 1), Saw(seen)));
        prop_assert_eq!(finds(&history), Some(What::NoOrder));
    }
}
