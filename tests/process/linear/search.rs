//! Is there an order of all operations of one session that explains every answer?
//!
//! The search of Wing and Gong with the memory of Lowe: an operation may come next if none that is still
//! to come was answered before it was asked for, and if its answer is right in the state that has been
//! reached. A configuration that has been tried is not tried again.
//!
//! What keeps it small: changes whose revision is known have only one order. An answer that changes
//! nothing and is right now costs nothing to place now. So there is a choice only of when a
//! lease ends, and of when, if ever, something was made whose answer is not known.

use std::collections::HashSet;

use super::contract::State;
use super::history::{Nanos, Operation};
use super::order::place;
use super::{What, Wrong};

/// Configurations of one session that are tried at most: some 100 times what honest histories need,
/// and a few seconds.
pub(crate) const CONFIGURATIONS_MAX: usize = 500_000;

/// What has been placed, and what that led to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    state: State,
    /// How many of the changes whose revision is known are placed.
    known: usize,
    /// Answered operations, by their place in time.
    placed: Placed,
    /// Those without an answer that are taken to have been made.
    made: Vec<usize>,
    /// All that comes next comes after this: something that is placed was asked for then, or a lease
    /// ended.
    now: Nanos,
}

/// A set of numbers: all below `end` but a few.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Placed {
    end: usize,
    missing: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Known,
    Answered(usize),
    Expires,
    Unknown(usize),
}

struct Session<'a> {
    /// Answered, in the order in which they were asked for.
    answered: Vec<&'a Operation>,
    /// The changes among them whose revision is known, in its order.
    known: Vec<(u64, usize)>,
    unknown: Vec<&'a Operation>,
}

struct Choice {
    from: Configuration,
    /// What has not been tried yet, the best last, and what is being tried.
    steps: Vec<Step>,
    tries: Option<Step>,
}

/// An order that explains all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Explanation {
    /// How many configurations were tried to find it.
    pub(crate) configurations: usize,
    /// How many leases end in it.
    pub(crate) expired: usize,
}

pub(crate) fn explains(session: &[Operation]) -> Result<Explanation, Wrong> {
    explains_within(session, CONFIGURATIONS_MAX)
}

pub(crate) fn explains_within(session: &[Operation], most: usize) -> Result<Explanation, Wrong> {
    let session = Session::of(session);
    let mut tried = HashSet::new();
    let mut furthest: Option<Configuration> = None;
    let mut choices: Vec<Choice> = Vec::new();
    let mut next = Some(session.nothing_placed());
    loop {
        if let Some(mut configuration) = next.take() {
            let horizon = session.place_what_costs_nothing(&mut configuration);
            if configuration.placed.count() == session.answered.len() {
                let path = choices.iter().filter_map(|choice| choice.tries);
                return Ok(Explanation {
                    configurations: tried.len() + 1,
                    expired: path.filter(|step| matches!(step, Step::Expires)).count(),
                });
            }
            if tried.len() == most {
                return Err(Wrong {
                    what: What::GaveUp,
                    explained: format!("no answer after {most} configurations"),
                });
            }
            if tried.insert(configuration.clone()) {
                let count = configuration.placed.count();
                if furthest.as_ref().is_none_or(|furthest| furthest.placed.count() < count) {
                    furthest = Some(configuration.clone());
                }
                let steps = session.steps(&configuration, horizon);
                choices.push(Choice { from: configuration, steps, tries: None });
            }
        }
        let Some(choice) = choices.last_mut() else { break };
        choice.tries = choice.steps.pop();
        match choice.tries {
            Some(step) => next = session.after(&choice.from, step),
            None => drop(choices.pop()),
        }
    }
    let furthest = furthest.expect("at least the beginning was tried");
    Err(Wrong { what: What::NoOrder, explained: session.explain(&furthest) })
}

impl<'a> Session<'a> {
    fn of(session: &'a [Operation]) -> Self {
        let mut answered: Vec<_> = session.iter().filter(|one| !one.is_unknown()).collect();
        answered.sort_by_key(|one| (one.invoked, one.returned));
        let known = answered.iter().enumerate();
        let known = known.filter_map(|(at, made)| Some((place(made)?, at)));
        let mut known: Vec<_> = known.collect();
        known.sort_unstable();
        let known = known.into_iter().map(|((revision, _), at)| (revision, at)).collect();
        let mut unknown: Vec<_> = session.iter().filter(|one| one.is_unknown()).collect();
        unknown.sort_by_key(|one| one.returned);
        Self { answered, known, unknown }
    }

    fn nothing_placed(&self) -> Configuration {
        let state = State::default();
        Configuration { state, known: 0, placed: Placed::default(), made: Vec::new(), now: 0 }
    }

    /// The revision of the next change that is known.
    fn ceiling(&self, configuration: &Configuration) -> u64 {
        self.known.get(configuration.known).map_or(u64::MAX, |(revision, _)| *revision)
    }

    /// Whatever comes next must have been asked for by then: when the first answer came among those that
    /// are still to be placed.
    fn horizon(&self, placed: &Placed) -> Nanos {
        let mut horizon = Nanos::MAX;
        for at in placed.others(self.answered.len()) {
            let one = self.answered[at];
            if one.invoked > horizon {
                break;
            }
            horizon = horizon.min(one.returned);
        }
        horizon
    }

    /// Those that may come next: asked for within the horizon, and not placed.
    fn next(&self, placed: &Placed, horizon: Nanos) -> impl Iterator<Item = usize> {
        let in_time = move |at: &usize| self.answered[*at].invoked <= horizon;
        placed.others(self.answered.len()).take_while(in_time)
    }

    /// Those that change nothing and are right now.
    fn free(&self, configuration: &Configuration, horizon: Nanos) -> impl Iterator<Item = usize> {
        let (state, ceiling) = (configuration.state, self.ceiling(configuration));
        self.next(&configuration.placed, horizon).filter(move |at| {
            let one = self.answered[*at];
            one.revision().is_none() && state.after(one, ceiling) == Some(state)
        })
    }

    /// What has no answer and may still be made: those before the first can no longer be.
    fn first_open(&self, configuration: &Configuration) -> usize {
        self.unknown.partition_point(|one| one.returned < configuration.now)
    }

    /// Places every answer that is right now and changes nothing: whatever else there is to come, it
    /// could not be placed better. One that comes too late for something that has no answer waits, as
    /// that must be decided first. Tells the horizon after that.
    fn place_what_costs_nothing(&self, configuration: &mut Configuration) -> Nanos {
        loop {
            let horizon = self.horizon(&configuration.placed);
            let open = self.unknown.get(self.first_open(configuration));
            let decided = open.map_or(Nanos::MAX, |one| one.returned);
            let free = self.free(configuration, horizon.min(decided));
            let free: Vec<_> = free.collect();
            if free.is_empty() {
                return horizon;
            }
            for at in free {
                configuration.placed.insert(at);
                configuration.now = configuration.now.max(self.answered[at].invoked);
            }
        }
    }

    /// What may come next, the most likely last.
    fn steps(&self, configuration: &Configuration, horizon: Nanos) -> Vec<Step> {
        let ceiling = self.ceiling(configuration);
        let state = &configuration.state;
        let mut steps = Vec::new();
        for (at, one) in self.unknown.iter().enumerate().skip(self.first_open(configuration)) {
            let open = one.invoked <= horizon && !configuration.made.contains(&at);
            if open && state.after_unknown(one, ceiling).is_some() {
                steps.push(Step::Unknown(at));
            }
        }
        if state.expiry().is_some_and(|(earliest, _)| earliest <= horizon) {
            steps.push(Step::Expires);
        }
        for at in self.next(&configuration.placed, horizon) {
            let one = self.answered[at];
            let next = state.after(one, ceiling);
            if one.revision().is_none() && next.is_some_and(|next| next != *state) {
                steps.push(Step::Answered(at));
            }
        }
        // Of those that wait for a decision, the first makes it as well as any.
        steps.extend(self.free(configuration, horizon).next().map(Step::Answered));
        if let Some((_, at)) = self.known.get(configuration.known) {
            let one = self.answered[*at];
            if one.invoked <= horizon && state.after(one, ceiling).is_some() {
                steps.push(Step::Known);
            }
        }
        steps
    }

    fn after(&self, from: &Configuration, step: Step) -> Option<Configuration> {
        let ceiling = self.ceiling(from);
        let mut next = from.clone();
        let (state, since) = match step {
            Step::Known => {
                let (_, at) = self.known[from.known];
                next.known += 1;
                next.placed.insert(at);
                (from.state.after(self.answered[at], ceiling)?, self.answered[at].invoked)
            }
            Step::Answered(at) => {
                next.placed.insert(at);
                (from.state.after(self.answered[at], ceiling)?, self.answered[at].invoked)
            }
            Step::Expires => {
                let (earliest, free) = from.state.expiry()?;
                (free, earliest)
            }
            Step::Unknown(at) => {
                let place = next.made.partition_point(|made| *made < at);
                next.made.insert(place, at);
                (from.state.after_unknown(self.unknown[at], ceiling)?, self.unknown[at].invoked)
            }
        };
        next.state = state;
        next.now = from.now.max(since);
        Some(next)
    }

    /// The furthest that any order went, and what it could not go past.
    fn explain(&self, furthest: &Configuration) -> String {
        const SHOWN: usize = 8;
        let horizon = self.horizon(&furthest.placed);
        let mut stuck: Vec<_> =
            self.next(&furthest.placed, horizon).map(|at| self.answered[at]).collect();
        stuck.sort_by_key(|one| one.returned);
        let stuck: Vec<_> = stuck.iter().take(SHOWN).map(|one| format!("  {one}")).collect();
        format!(
            "after {} of {} answers, the session is {}, and none of these can be next, nor any of {} \
             operations without an answer help:\n{}",
            furthest.placed.count(),
            self.answered.len(),
            furthest.state,
            self.unknown.len(),
            stuck.join("\n"),
        )
    }
}

impl Placed {
    fn insert(&mut self, at: usize) {
        if at >= self.end {
            self.missing.extend(self.end..at);
            self.end = at + 1;
        } else if let Ok(place) = self.missing.binary_search(&at) {
            self.missing.remove(place);
        }
    }

    /// The numbers below `all` that are not in it, rising.
    fn others(&self, all: usize) -> impl Iterator<Item = usize> {
        self.missing.iter().copied().chain(self.end..all)
    }

    fn count(&self) -> usize {
        self.end - self.missing.len()
    }
}
