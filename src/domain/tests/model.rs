//! Random calls on an instance and on [`plain`]: the same answers, and the same sessions after them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::plain::{Plain, Row, name};
use super::*;
use crate::domain::instance::TerminateMode;
use crate::domain::lifecycle::Event;
use crate::domain::refusal::Ours;
use crate::domain::session::{Context, TransactionOwner};

proptest! {
    // Cases that once failed become tests with a name; none are kept in files.
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_calls_are_answered_as_the_contract_says(draws in draws()) {
        compare(&draws);
    }
}

/// The property above says little if its calls all fail in the same way.
#[test]
fn random_calls_meet_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeSet::new();
    for _ in 0..200 {
        met.extend(compare(&draws().new_tree(&mut runner).unwrap().current()));
    }
    let expected = [
        INVALID_PARAMETER,
        NOT_IN_TRANSACTION,
        TOO_MANY_ACTIVE_USERS,
        OUT_OF_SESSIONS,
        TRANS_TOO_DEEP,
        INVALID_SESID,
        STOPPED,
        SHARING_VIOLATION,
        ALREADY_SET,
        NOT_SET_BY_THIS_THREAD,
        IN_USE,
        OK,
    ];
    let missed: Vec<_> = expected.into_iter().filter(|code| !met.contains(code)).collect();
    assert!(missed.is_empty(), "answers that no random call met: {missed:?}");
}

/// Something to do, before it is known which sessions there are.
#[derive(Debug, Clone, Copy)]
struct Draw {
    kind: Kind,
    who: Who,
    /// Which session: see [`sesid_of`].
    nth: usize,
    context: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Begin,
    Duplicate,
    Set,
    Reset,
    ResetWithCurrentToken,
    ResetWithOtherToken,
    Transfer,
    TransferWithCurrentToken,
    TransferWithOtherToken,
    CheckCurrentToken,
    CheckOtherToken,
    ForceCurrentToken,
    ForceOtherToken,
    End,
    ForceEnd,
    Get,
    List,
    BeginTx,
    Commit,
    Rollback,
    RollbackAll,
    Stop,
    Resume,
    AskTerminate,
    TerminateAndInit,
}

/// 1 to 120 things to do, the likelier ones named more often.
fn draws() -> impl Strategy<Value = Vec<Draw>> {
    use Kind as K;
    let kind = prop_oneof![
        6 => Just(K::Begin),
        2 => Just(K::Duplicate),
        14 => Just(K::Set),
        8 => Just(K::Reset),
        4 => Just(K::ResetWithCurrentToken),
        3 => Just(K::ResetWithOtherToken),
        4 => Just(K::Transfer),
        2 => Just(K::TransferWithCurrentToken),
        1 => Just(K::TransferWithOtherToken),
        2 => Just(K::CheckCurrentToken),
        1 => Just(K::CheckOtherToken),
        3 => Just(K::ForceCurrentToken),
        1 => Just(K::ForceOtherToken),
        3 => Just(K::End),
        1 => Just(K::ForceEnd),
        1 => Just(K::Get),
        1 => Just(K::List),
        36 => Just(K::BeginTx),
        6 => Just(K::Commit),
        3 => Just(K::Rollback),
        1 => Just(K::RollbackAll),
        2 => Just(K::Stop),
        6 => Just(K::Resume),
        2 => Just(K::AskTerminate),
        1 => Just(K::TerminateAndInit),
    ];
    let who = prop::sample::select(vec![T1, T1, T1, T1, T2, T3, BOBS_T1]);
    let context = prop::sample::select(vec![C, C, C, D, D, 0, u64::MAX]);
    let draw = (kind, who, 0..10_usize, context).prop_map(|(kind, who, nth, context)| Draw {
        kind,
        who,
        nth,
        context,
    });
    prop::collection::vec(draw, 1..=120)
}

/// Does all that was drawn on both sides and compares. The answer tells which codes were met.
fn compare(draws: &[Draw]) -> BTreeSet<i32> {
    let mut met = BTreeSet::new();
    let floor = Floor { revision: Revision::new(40), sesid: 3 };
    let mut world = World::above(floor, 4);
    let mut plain =
        Plain { stopped: false, max_sessions: 4, issued: 3, events: 40, sessions: [].into() };
    for draw in [Kind::Begin, Kind::Begin].map(|kind| Draw { kind, ..FIRST }).iter().chain(draws) {
        match step_of(*draw, &plain) {
            Some(step) => {
                let found = world.play(step);
                met.insert(found.as_ref().map_or_else(|no| no.code, |_| OK));
                assert_eq!(told(found), plain.play(step), "{step:?}");
            }
            None => met.extend(lifecycle(draw.kind, &mut world, &mut plain)),
        }
        compare_state(&world, &plain);
    }
    compare_tokens(&world.changes);
    met
}

const FIRST: Draw = Draw { kind: Kind::Begin, who: T1, nth: 0, context: C };

/// The step to take, or none if it is one of the instance's own.
fn step_of(Draw { kind, who, nth, context }: Draw, plain: &Plain) -> Option<Step> {
    let id = sesid_of(nth, plain);
    let current = plain.sessions.get(&id).and_then(Row::token).unwrap_or(plain.events);
    let to = [T1, T2, T3, BOBS_T1][nth % 4];
    Some(match kind {
        Kind::Begin => Begin,
        Kind::Duplicate => Duplicate(id),
        Kind::Set => Set(who, id, context),
        Kind::Reset => Reset(who, id),
        Kind::ResetWithCurrentToken => ResetWith(who, id, current),
        Kind::ResetWithOtherToken => ResetWith(who, id, current - 1),
        Kind::Transfer => Transfer(who, id, to),
        Kind::TransferWithCurrentToken => TransferWith(who, id, to, current),
        Kind::TransferWithOtherToken => TransferWith(who, id, to, current - 1),
        Kind::CheckCurrentToken => Check(who, id, current),
        Kind::CheckOtherToken => Check(who, id, current - 1),
        Kind::ForceCurrentToken => Force(id, current),
        Kind::ForceOtherToken => Force(id, current - 1),
        Kind::End => End(who, id),
        Kind::ForceEnd => ForceEnd(id),
        Kind::Get => Get(id),
        Kind::List => List,
        Kind::BeginTx => BeginTx(who, id),
        Kind::Commit => Commit(who, id),
        Kind::Rollback => Rollback(who, id),
        Kind::RollbackAll => RollbackAll(who, id),
        Kind::Stop | Kind::Resume | Kind::AskTerminate | Kind::TerminateAndInit => return None,
    })
}

/// 0 is a session that never existed, 1 one below the floor, 2 the newest; others are alive, if any.
fn sesid_of(nth: usize, plain: &Plain) -> u64 {
    let alive = plain.alive();
    match nth {
        0 => plain.issued + 1,
        1 => 1,
        2 => plain.issued,
        _ if alive.is_empty() => plain.issued,
        // The first is likeliest, so that something gets deep.
        _ => alive[nth.saturating_sub(6) % alive.len()],
    }
}

/// Does one of the instance's own steps on both sides; the answer is the code it met, if any.
fn lifecycle(kind: Kind, world: &mut World, plain: &mut Plain) -> Option<i32> {
    let on = |phase: &Phase, event| phase.on(event).unwrap();
    let phase = world.instance.phase.clone();
    match kind {
        Kind::Stop => {
            world.instance.phase = on(&phase, Event::Stop);
            plain.stopped = true;
        }
        Kind::Resume => {
            world.instance.phase = on(&phase, Event::Resume);
            plain.stopped = false;
        }
        Kind::AskTerminate => {
            let found = world.instance.terminate(TerminateMode::Complete, false);
            let blocking = plain.count(Row::in_transaction);
            let code = found.as_ref().map_or_else(|no| no.jet_err().code(), |_| OK);
            assert_eq!(code, if blocking > 0 { TOO_MANY_ACTIVE_USERS } else { OK });
            if let Err(no) = found {
                assert_eq!(no.facts().blocking.count, blocking);
                assert_eq!(no.facts().blocking.first.len(), blocking);
            }
            return Some(code);
        }
        Kind::TerminateAndInit => {
            let phase = world.instance.terminate(TerminateMode::Force, false).unwrap();
            world.end_all();
            let phase = on(&on(&phase, Event::Closed), Event::Initialize);
            world.instance.phase = on(&phase, Event::Opened { stopped: plain.stopped });
            plain.sessions = [].into();
            plain.events += 1;
        }
        Kind::Begin
        | Kind::Duplicate
        | Kind::Set
        | Kind::Reset
        | Kind::ResetWithCurrentToken
        | Kind::ResetWithOtherToken
        | Kind::Transfer
        | Kind::TransferWithCurrentToken
        | Kind::TransferWithOtherToken
        | Kind::CheckCurrentToken
        | Kind::CheckOtherToken
        | Kind::ForceCurrentToken
        | Kind::ForceOtherToken
        | Kind::End
        | Kind::ForceEnd
        | Kind::Get
        | Kind::List
        | Kind::BeginTx
        | Kind::Commit
        | Kind::Rollback
        | Kind::RollbackAll => unreachable!("a step"),
    }
    None
}

fn compare_state(world: &World, plain: &Plain) {
    let table = &world.instance.table;
    assert_eq!(table.after(None).map(sentence).collect::<Vec<_>>(), plain.all());
    assert_eq!(table.len(), plain.sessions.len());
    assert_eq!(table.bound_count(), plain.count(Row::is_bound));
    assert_eq!(table.in_transaction_count(), plain.count(Row::in_transaction));
    let floor = Floor { revision: Revision::new(plain.events), sesid: plain.issued };
    assert_eq!(table.floor(), floor);
}

/// Revisions rise by one, so tokens rise strictly; so do sesids.
fn compare_tokens(changes: &[Change]) {
    let revisions = changes.iter().map(|change| change.revision.get());
    assert!(revisions.eq((41..).take(changes.len())), "each change has the next revision");
    let begun: Vec<_> = changes
        .iter()
        .filter(|change| matches!(change.event, SessionEvent::Began { .. }))
        .filter_map(|change| change.event.session())
        .collect();
    assert!(begun.is_sorted_by(|a, b| a < b), "no sesid comes twice");
}

/// An answer in the words of [`plain`].
fn told(answer: Result<Answer, No>) -> Result<String, String> {
    match answer {
        Ok(Answer::Session(session)) => Ok(sentence(&session)),
        Ok(Answer::Revision(revision)) => Ok(format!("revision {revision}")),
        Ok(Answer::Level(level)) => Ok(format!("level {level}")),
        Ok(Answer::Page(page)) => Ok(page
            .sessions
            .iter()
            .map(|found| sentence(&found.session))
            .collect::<Vec<_>>()
            .join("; ")),
        Ok(Answer::Nothing) => Ok(String::new()),
        Err(No { code, facts }) => {
            let cause = match facts.cause {
                _ if facts.ours == Some(Ours::StaleToken) => " stale".to_owned(),
                Some(cause) => format!(" {}", cause.as_str()),
                None => String::new(),
            };
            Err(format!("{code}{cause}"))
        }
    }
}

/// A session in the words of [`plain`].
fn sentence(session: &Session) -> String {
    let named = |owner: &Owner| {
        let all = [T1, T2, T3, BOBS_T1];
        name(*all.iter().find(|who| super::owner(**who) == *owner).unwrap())
    };
    let binding = match &session.context {
        Context::Set(held) => {
            format!("{} {} {}", held.context.get(), named(&held.owner), held.token)
        }
        Context::Reset => "reset".to_owned(),
        Context::NeverSet => "never set".to_owned(),
    };
    let transaction = match session.transaction() {
        None => "none".to_owned(),
        Some(open) => match open.bound_to() {
            TransactionOwner::Context(word) => format!("{} of {}", open.level(), word.get()),
            TransactionOwner::Thread(owner) => format!("{} of {}", open.level(), named(owner)),
        },
    };
    let Session { id, revision, .. } = session;
    let abandoned = if session.abandoned() { ", abandoned" } else { "" };
    format!("{id} @{revision}: context {binding}, transaction {transaction}{abandoned}")
}
