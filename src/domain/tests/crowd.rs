//! Random calls of a crowd that waits, repeats itself, dies and comes back, on a server that restarts.
//! What must be true of all that is checked beside the domain, with lists as plain as can be.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::line::{Ask, Line, What};
use super::*;
use crate::domain::call::thread::EndThreads;
use crate::domain::lease::STARTS_FORGIVEN;
use crate::domain::session::SessionView;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_crowd_is_served_in_order_and_loses_nothing_early(ops in ops()) {
        Crowd::run(&ops);
    }
}

/// The property above says little if nobody ever waits, loses or repeats anything.
#[test]
fn a_crowd_meets_everything_that_it_is_about() {
    let mut runner = TestRunner::deterministic();
    let mut met = Met::default();
    for _ in 0..100 {
        let ops = ops().new_tree(&mut runner).unwrap().current();
        let Met { granted, adopted, repeated, expired, forgiven, unforgiven } = Crowd::run(&ops);
        met.granted += granted;
        met.adopted += adopted;
        met.repeated += repeated;
        met.expired += expired;
        met.forgiven += forgiven;
        met.unforgiven += unforgiven;
    }
    let Met { granted, adopted, repeated, expired, forgiven, unforgiven } = met;
    assert!(granted > 60 && adopted > 3 && repeated > 20, "{met:?}");
    assert!(expired > 40 && forgiven > 40 && unforgiven > 3, "{met:?}");
}

/// How often it came to what.
#[derive(Debug, Default)]
struct Met {
    granted: usize,
    adopted: usize,
    repeated: usize,
    expired: usize,
    /// Leases that a start gave their full length, and those that it did not.
    forgiven: usize,
    unforgiven: usize,
}

const CROWD: [Who; 4] = [T1, T2, T3, BOBS_T1];
const POOLS: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];

#[derive(Debug, Clone, Copy)]
enum Op {
    Begin(usize),
    Ask(Ask),
    /// The n-th call that had a request id once more.
    Repeat(usize),
    Step(Step),
    /// The holder of the session lets it go.
    Release(u64),
    /// The holder of the session hands it over.
    HandOver(u64, Who),
    /// Whoever holds the session loses it.
    TakeAway(u64),
    /// The n-th of those who wait.
    Leave(usize),
    Die(usize),
    TimeOut(usize),
    Keep(Who, Duration),
    EndThread(Who),
    Pass(Duration),
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let who = || prop::sample::select(&CROWD[..]);
    let id = || 1..5_u64;
    let ttl = || (1..12_u64).prop_map(seconds);
    let ask = (
        who(),
        prop_oneof![3 => id().prop_map(What::Set), 2 => (0..4_usize).prop_map(|n| What::Claim(POOLS[n]))],
        prop::sample::select(vec![C, C, C, D]),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.4, ttl()),
        prop::bool::weighted(0.3),
    );
    let ask = ask.prop_map(|(who, what, context, wait, lease, named)| {
        Op::Ask(Ask { who, what, context, wait, lease, request: named.then_some(0) })
    });
    let step = prop_oneof![
        (who(), id()).prop_map(|(who, id)| Reset(who, id)),
        (who(), id()).prop_map(|(who, id)| BeginTx(who, id)),
        (who(), id()).prop_map(|(who, id)| RollbackAll(who, id)),
        (who(), id()).prop_map(|(who, id)| Commit(who, id)),
        (who(), id()).prop_map(|(who, id)| End(who, id)),
    ];
    let op = prop_oneof![
        6 => (0..4_usize).prop_map(Op::Begin),
        30 => ask,
        4 => (0..9_usize).prop_map(Op::Repeat),
        8 => step.prop_map(Op::Step),
        14 => id().prop_map(Op::Release),
        8 => (id(), who()).prop_map(|(id, to)| Op::HandOver(id, to)),
        2 => id().prop_map(Op::TakeAway),
        2 => id().prop_map(|id| Op::Step(ForceEnd(id))),
        2 => (0..9_usize).prop_map(Op::Leave),
        2 => (0..9_usize).prop_map(Op::Die),
        2 => (0..9_usize).prop_map(Op::TimeOut),
        6 => (who(), ttl()).prop_map(|(who, ttl)| Op::Keep(who, ttl)),
        2 => who().prop_map(Op::EndThread),
        10 => (1..6_000_u64).prop_map(|ms| Op::Pass(Duration::from_millis(ms))),
        5 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..=100)
}

/// A lease as it is promised, in microseconds served.
#[derive(Debug, Clone, Copy)]
struct Promise {
    ttl: u64,
    /// From when it counts.
    from: u64,
    /// How much later it may end than it could.
    spread: u64,
    /// Starts since it was renewed.
    starts: u8,
    /// Whether its thread ever held something under it: then it outlives a restart.
    kept: bool,
}

struct Crowd {
    line: Line,
    /// Those who wait and are still there, in the order in which they came.
    waiting: Vec<(usize, Ask)>,
    promises: BTreeMap<Owner, Promise>,
    /// Each request with what it was answered when it took effect.
    requests: Vec<(Ask, Option<SessionView>)>,
    asks: BTreeMap<usize, Ask>,
    met: Met,
}

impl Crowd {
    fn run(ops: &[Op]) -> Met {
        let mut line = Line::new(World::ready());
        line.step(|world| [Begin, Begin].map(|step| world.ok(step)));
        let (promises, asks, met) = (BTreeMap::new(), BTreeMap::new(), Met::default());
        let (waiting, requests) = (Vec::new(), Vec::new());
        let mut crowd = Self { line, waiting, promises, requests, asks, met };
        for op in ops {
            crowd.play(*op);
        }
        let (world, mut again) = (&crowd.line.world, SessionTable::default());
        world.changes.iter().for_each(|change| again.apply(change));
        assert_eq!(again, world.instance.table, "history gives the same state once more");
        for change in &world.changes {
            assert!(change.made.len() <= 2);
        }
        crowd.met
    }

    fn play(&mut self, op: Op) {
        let (changes, answers) = (self.line.world.changes.len(), self.line.answers.len());
        let adopts = matches!(op, Op::HandOver(..));
        match op {
            Op::Begin(n) => {
                let begin = BeginSession { labels: labels(POOLS[n]) };
                drop(self.line.step(|world| world.call(T1, &begin)));
            }
            Op::Ask(mut ask) => {
                if ask.request.is_some() {
                    ask.request = Some(self.requests.len());
                    self.requests.push((ask, None));
                }
                self.ask(ask);
            }
            Op::Repeat(nth) => {
                let nth = self.requests.len().checked_sub(nth + 1);
                if let Some((ask, _)) = nth.map(|nth| self.requests[nth].clone()) {
                    self.ask(ask);
                }
            }
            Op::Step(step) => drop(self.line.step(|world| world.play(step))),
            Op::Release(id) | Op::HandOver(id, _) | Op::TakeAway(id) => {
                let session = self.line.world.instance.table.session(sesid(id));
                let Some(binding) = session.and_then(Session::binding) else {
                    return;
                };
                let holder = CROWD.into_iter().find(|who| owner(*who) == binding.owner).unwrap();
                let step = if let Op::HandOver(_, to) = op {
                    // Mostly to somebody who waits for it.
                    let waits = |(_, ask): &&(usize, Ask)| ask.what == What::Set(id);
                    let heir = self.waiting.iter().find(waits).filter(|_| to != T3);
                    Transfer(holder, id, heir.map_or(to, |(_, ask)| ask.who))
                } else if let Op::TakeAway(_) = op {
                    Force(id, binding.token.get())
                } else {
                    Reset(holder, id)
                };
                self.line.step(|world| world.ok(step));
            }
            Op::Leave(nth) | Op::Die(nth) | Op::TimeOut(nth) => {
                let Some((nth, _)) = self.waiting.get(nth).copied() else {
                    return;
                };
                if matches!(op, Op::Die(_)) {
                    self.line.die(nth);
                } else if matches!(op, Op::Leave(_)) {
                    assert!(self.line.leave(nth));
                } else {
                    assert!(self.line.time_out(nth));
                }
                self.waiting.retain(|(other, _)| *other != nth);
            }
            Op::Keep(who, ttl) => {
                self.line.step(|world| world.keep(who, ttl));
                self.promise(owner(who), ttl);
            }
            Op::EndThread(who) => {
                let call = EndThreads { threads: vec![thread_of(who)] };
                self.line.step(|world| world.call(who, &call).unwrap());
                self.promises.remove(&owner(who));
            }
            Op::Pass(time) => {
                self.line.world.pass(time);
                self.line.step(World::expire);
            }
            Op::Restart => self.restart(),
        }
        self.check_losses(changes);
        self.check_answers(answers, adopts);
        self.check_deadlines(changes);
        self.check_nobody_sleeps();
    }

    fn ask(&mut self, ask: Ask) {
        let nth = self.line.ask(ask);
        self.asks.insert(nth, ask);
        if self.line.answer(nth).is_none() {
            self.waiting.push((nth, ask));
        }
    }

    fn promise(&mut self, owner: Owner, ttl: Duration) {
        let ttl = u64::try_from(ttl.as_micros()).unwrap();
        let (from, kept) = (self.line.world.served, false);
        let kept = self.promises.get(&owner).map_or(kept, |promise| promise.kept);
        self.promises.insert(owner, Promise { ttl, from, spread: 0, starts: 0, kept });
    }

    fn restart(&mut self) {
        self.waiting.clear();
        self.line.restart();
        let served = self.line.world.served;
        self.promises.retain(|_, promise| promise.kept);
        for promise in self.promises.values_mut() {
            if promise.starts < STARTS_FORGIVEN {
                promise.from = served;
                self.met.forgiven += 1;
            } else {
                self.met.unforgiven += 1;
            }
            promise.starts += 1;
            promise.spread = promise.ttl / 4;
        }
    }

    /// Who was answered since: each once, in order, and each request always alike.
    fn check_answers(&mut self, from: usize, adopts: bool) {
        let answers = self.line.answers.split_off(from);
        self.line.answers.extend(answers.iter().cloned());
        for (nth, answer) in answers {
            let times = self.line.answers.iter().filter(|(other, _)| *other == nth).count();
            assert_eq!(times, 1, "{nth} is answered once");
            let ask = self.asks[&nth];
            let place = self.waiting.iter().position(|(other, _)| *other == nth);
            let Ok(view) = answer else {
                place.map(|place| self.waiting.remove(place));
                continue;
            };
            if let Some(request) = ask.request {
                let (_, first) = &mut self.requests[request];
                if let Some(first) = first {
                    assert_eq!(*first, view, "a request has one answer");
                    self.met.repeated += 1;
                    place.map(|place| self.waiting.remove(place));
                    continue;
                }
                *first = Some(view.clone());
            }
            if let Some(ttl) = ask.lease {
                self.promise(owner(ask.who), ttl);
            }
            let Some(place) = place else {
                continue;
            };
            let wants = |ask: &Ask| match ask.what {
                What::Set(id) => id == view.session.id.get(),
                What::Claim(keys) => {
                    view.session.labels.contain(&labels(keys))
                        && view.session.transaction_level() == 0
                }
            };
            assert!(wants(&ask), "{ask:?} got {view:?}");
            if adopts {
                let heir = |other: &Ask| {
                    wants(other)
                        && (other.who, other.context) == (ask.who, ask.context)
                        && matches!(other.what, What::Set(_))
                };
                let first = self.waiting.iter().find(|(_, other)| heir(other));
                assert_eq!(
                    first.map(|(nth, _)| *nth),
                    Some(nth),
                    "the oldest call of the successor"
                );
                self.met.adopted += 1;
            } else {
                let overtaken = self.waiting[..place].iter().find(|(_, other)| wants(other));
                assert_eq!(overtaken, None, "{ask:?} overtook somebody");
                self.met.granted += 1;
            }
            self.waiting.remove(place);
        }
    }

    /// Nothing is taken back early.
    fn check_losses(&mut self, from: usize) {
        let world = &self.line.world;
        for change in &world.changes[from..] {
            if let SessionEvent::LeaseEnded { owner } = &change.event {
                self.promises.remove(owner);
            }
            if let SessionEvent::ContextReset { how: HowReset::LeaseExpired, session } =
                &change.event
            {
                let owner = world.holder_before(*session, change.revision);
                let Promise { ttl, from, .. } = self.promises[&owner];
                assert!(world.served >= from + ttl, "{owner:?} loses {session:?} early");
                self.met.expired += 1;
            }
        }
    }

    /// Leases end when they should, and nothing is left when their time is over.
    fn check_deadlines(&mut self, from: usize) {
        let world = &self.line.world;
        let before = world.changes[..from].last().map_or(Revision::ZERO, |last| last.revision);
        let served = world.served;
        for who in CROWD.map(owner) {
            let holds = world.instance.table.held_count(&who) > 0;
            let deadline = world.instance.deadlines.get(&who);
            if let Some(promise) = self.promises.get_mut(&who) {
                promise.kept |= holds;
                match deadline {
                    Some(deadline) => {
                        let end = deadline.end.micros();
                        let latest = promise.from + promise.ttl + promise.spread;
                        assert!((promise.from + promise.ttl..=latest).contains(&end));
                    }
                    None => {
                        assert!(promise.from + promise.ttl <= served);
                        // A call of it may still have been waiting, whose turn has come just now.
                        let mut held = world.instance.table.held(&who, usize::MAX).into_iter();
                        assert!(held.all(|id| world.token(id.get()) > before.get()), "{who:?}");
                        self.promises.remove(&who);
                    }
                }
            } else {
                assert_eq!(deadline, None, "nobody promised {who:?} a lease");
            }
        }
    }

    /// No session is free while somebody who may have it waits.
    fn check_nobody_sleeps(&self) {
        for session in self.line.world.instance.table.after(None) {
            if session.binding().is_some() {
                continue;
            }
            let sleeper = self.waiting.iter().find(|(_, ask)| match ask.what {
                What::Set(id) => id == session.id.get(),
                What::Claim(keys) => {
                    session.transaction().is_none() && session.labels.contain(&labels(keys))
                }
            });
            assert_eq!(sleeper, None, "{session:?} is free");
        }
    }
}

impl World {
    /// Who held a session right before this change.
    fn holder_before(&self, id: SessionId, revision: Revision) -> Owner {
        let before = self.changes.iter().rev().skip_while(|change| change.revision >= revision);
        let taken = before.filter(|change| change.event.session() == Some(id));
        taken
            .map(|change| &change.event)
            .find_map(|event| {
                if let SessionEvent::ContextSet { owner, .. }
                | SessionEvent::ContextTransferred { to: owner, .. } = event
                {
                    Some(owner.clone())
                } else {
                    None
                }
            })
            .expect("somebody held it")
    }
}
