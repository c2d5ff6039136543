//! Whether one session, as it was found, follows from what was told of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Change, Page, Seen, Told, Unknown};
use crate::model::{Act, State};

/// How a session was explained.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Explained {
    /// How many unknown changes were made.
    pub(super) made: u64,
    /// How many acknowledged changes of a LAZY instance were lost, and how old the oldest was.
    pub(super) lost: u64,
    pub(super) lost_age: Duration,
}

/// Between which revisions the moment lies at which a LAZY instance is found.
#[derive(Debug)]
pub(super) struct Moment {
    kept: u64,
    lost: u64,
}

impl Default for Moment {
    fn default() -> Self {
        Self { kept: 0, lost: u64::MAX }
    }
}

impl Moment {
    pub(super) fn check(&self, instance: &str) {
        assert!(
            self.kept < self.lost,
            "NOT A PREFIX: {instance} kept revision {} and lost {}",
            self.kept,
            self.lost,
        );
    }
}

/// Everything that was acknowledged is there, in its order, and of the rest each change wholly or not
/// at all, at a place where it can have been made.
pub(super) fn as_told(page: &Page, found: Option<&Seen>) -> Result<Explained, String> {
    let mut changes: Vec<&Change> = page.changes.iter().collect();
    changes.sort_by_key(|change| change.order);
    let search = |lossy| Search { page, changes: &changes, found, lossy, tried: HashSet::new() };
    if let Some(used) = search(false).from(0, 0, Some(page.base.clone())) {
        return Ok(Explained { made: u64::from(used.count_ones()), ..Explained::default() });
    }
    Err(if search(true).from(0, 0, Some(page.base.clone())).is_some() {
        "AN ACKNOWLEDGED CHANGE IS LOST".to_owned()
    } else {
        "NO ORDER OF THE CALLS LEADS TO WHAT WAS FOUND".to_owned()
    })
}

/// A walk through all orders in which the changes of one session can have been made.
struct Search<'a> {
    page: &'a Page,
    /// What was acknowledged, in its order.
    changes: &'a [&'a Change],
    found: Option<&'a Seen>,
    /// Whether it may end anywhere: only to say more exactly what is wrong.
    lossy: bool,
    tried: HashSet<(usize, u64, Option<State>)>,
}

impl Search<'_> {
    /// Which unknown changes were made, if the state after `done` acknowledged and the `used` unknown
    /// changes leads to what was found.
    fn from(&mut self, mut done: usize, used: u64, mut state: Option<State>) -> Option<u64> {
        let unknown = &self.page.unknown;
        assert!(unknown.len() <= 64, "one open call of each task");
        loop {
            if (done == self.changes.len() || self.lossy) && self.is_found(done, state.as_ref()) {
                return Some(used);
            }
            let may_come =
                |(at, one): &(usize, &Unknown)| used & (1 << at) == 0 && self.earliest(one) <= done;
            let candidates: Vec<usize> =
                unknown.iter().enumerate().filter(may_come).map(|(at, _)| at).collect();
            if !candidates.is_empty() {
                if !self.tried.insert((done, used, state.clone())) {
                    return None;
                }
                for at in candidates {
                    let Unknown { act, by, .. } = unknown[at];
                    let next = state.as_ref().map(|state| state.after(act, by));
                    if let Some(Ok(next)) = next
                        && let Some(found) = self.from(done, used | (1 << at), next)
                    {
                        return Some(found);
                    }
                }
            }
            let next = self.changes.get(done)?;
            state = acknowledged(state.as_ref()?, next)?;
            done += 1;
        }
    }

    /// How many acknowledged changes were made before this one at least: those that were answered
    /// before it was sent.
    fn earliest(&self, one: &Unknown) -> usize {
        let before = |change: &&Change| change.answered_at < one.sent.at;
        self.changes.iter().rposition(before).map_or(0, |at| at + 1)
    }

    /// Whether this is the state that was found.
    fn is_found(&self, done: usize, state: Option<&State>) -> bool {
        let (state, found) = match (state, self.found) {
            (None, None) => return true,
            (Some(state), Some(found)) => (state, found),
            (None, Some(_)) | (Some(_), None) => return false,
        };
        let told = |change: &&Change| match change.told {
            Told::Revision(revision) => revision,
            Told::Level(_) | Told::Nothing => 0,
        };
        let changes = &self.changes[..done];
        let least = changes.iter().map(told).max().unwrap_or_default();
        let read = if self.lossy { 0 } else { self.page.read };
        found.revision >= least.max(self.page.base_revision).max(read)
            && same(state, found, least.max(self.page.base_revision))
    }
}

/// Whether the found state is this one. A token that nobody was told is above all that were.
fn same(state: &State, found: &Seen, told: u64) -> bool {
    let mut state = state.clone();
    if let (Some(bound), Some(is)) = (&mut state.bound, &found.state.bound)
        && bound.token.is_none()
        && is.token.is_some_and(|token| token > told)
    {
        bound.token = is.token;
    }
    state == found.state
}

/// The state after an acknowledged change, if it could be made and its answer was right.
#[expect(clippy::option_option, reason = "no session, and no such change, are two things")]
fn acknowledged(state: &State, change: &Change) -> Option<Option<State>> {
    let mut next = state.after(change.act, change.by).ok()?;
    if let Some(next) = &mut next {
        match (change.act, change.told) {
            (Act::Set(_), Told::Revision(token)) => next.bound.as_mut()?.token = Some(token),
            (_, Told::Level(level)) if level != next.level() => return None,
            (_, Told::Level(_) | Told::Revision(_) | Told::Nothing) => {}
        }
    }
    Some(next)
}

/// The session is as it was at some moment, which is the same for all sessions of its instance. One
/// task alone changes it, and every answer told a revision.
pub(super) fn as_it_was(
    page: &Page,
    found: Option<&Seen>,
    moment: &mut Moment,
    died: Instant,
) -> Result<Explained, String> {
    let mut explained = Explained::default();
    let mut lose = |revision: u64, answered: Instant| {
        moment.lost = moment.lost.min(revision);
        explained.lost += 1;
        explained.lost_age =
            explained.lost_age.max(died.checked_duration_since(answered).unwrap_or_default());
    };
    let Some(found) = found else {
        let begun = page.begun.ok_or("A SESSION OF AN EARLIER START IS GONE")?;
        lose(page.base_revision, begun);
        return Ok(explained);
    };
    let mut state = page.base.clone();
    let mut revision = page.base_revision;
    let mut changes = page.changes.iter();
    while revision < found.revision {
        let Some(change) = changes.next() else {
            // Above all that was told: the open call.
            let unknown = page.unknown.first().ok_or("A CHANGE THAT NOBODY ASKED FOR")?;
            let made = state.after(unknown.act, unknown.by).ok().flatten();
            state = made.ok_or("A CHANGE THAT CANNOT BE MADE")?;
            explained.made = 1;
            revision = found.revision;
            break;
        };
        let Told::Revision(told) = change.told else {
            return Err("the answer tells a revision".to_owned());
        };
        let made = acknowledged(&state, change).ok_or("WHAT WAS ACKNOWLEDGED IS NOT SO")?;
        state = made.ok_or("WHAT WAS ACKNOWLEDGED IS NOT SO")?;
        revision = told;
    }
    if revision != found.revision || !same(&state, found, page.base_revision) {
        return Err("NOT A MOMENT OF THE PAST".to_owned());
    }
    moment.kept = moment.kept.max(revision);
    for change in changes {
        if let Told::Revision(told) = change.told {
            lose(told, change.answered);
        }
    }
    Ok(explained)
}
