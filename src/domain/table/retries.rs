//! Answers kept for retries: a window of them for each principal.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::id::Principal;
use crate::domain::limits::{RETRY_ANSWERS_MAX, RETRY_WINDOW_SECONDS};
use crate::domain::request::{Answer, Request, RequestId};
use crate::domain::time::Timestamp;

/// Answers to a chunk: what a copy of the table shares with the original, and what is copied when the
/// last chunk of either grows.
const CHUNK: usize = 128;

/// A remembered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// To which request.
    pub request: Request,
    /// When it took effect.
    pub time: Timestamp,
    /// What was answered.
    pub answer: Answer,
}

/// The answers of all principals.
#[derive(Debug, Clone, Default)]
pub struct Retries {
    /// None is empty.
    windows: BTreeMap<Principal, Window>,
    /// When the oldest answer of each principal took effect, to find those that have become too old.
    oldest: BTreeSet<(Timestamp, Principal)>,
}

impl Retries {
    /// The answer to this request of a principal, if it is not too old at `now`.
    pub fn find(&self, by: &Principal, id: &RequestId, now: Timestamp) -> Option<&Remembered> {
        self.windows.get(by)?.find(id).filter(|found| !too_old(found.time, now))
    }

    /// Keeps an answer. The oldest of its principal goes if there are too many. A few that have become
    /// too old go as well, whosever they are: more than come in, and never very many.
    pub fn remember(&mut self, by: &Principal, remembered: Remembered) {
        for _ in 0..4 {
            let oldest = self.oldest.first().filter(|(time, _)| too_old(*time, remembered.time));
            let Some((_, whose)) = oldest.cloned() else {
                break;
            };
            self.pop(&whose);
        }
        self.push(by, remembered);
    }

    /// Takes an answer as it was remembered, after all older ones of its principal. Answers false and takes
    /// nothing if that has as many as are kept.
    #[must_use = "an answer that is refused shows that what was remembered is damaged"]
    pub fn load(&mut self, by: &Principal, remembered: Remembered) -> bool {
        let fits = self.windows.get(by).is_none_or(|window| window.len < RETRY_ANSWERS_MAX);
        if fits {
            self.push(by, remembered);
        }
        fits
    }

    fn push(&mut self, by: &Principal, remembered: Remembered) {
        let time = remembered.time;
        let window = self.windows.entry(by.clone()).or_default();
        window.push(remembered);
        match window.len {
            1 => drop(self.oldest.insert((time, by.clone()))),
            ..=RETRY_ANSWERS_MAX => {}
            _ => self.pop(by),
        }
    }

    /// Drops the oldest answer of a principal.
    fn pop(&mut self, by: &Principal) {
        let Some(window) = self.windows.get_mut(by) else {
            return;
        };
        if let Some(first) = window.first() {
            self.oldest.remove(&(first.time, by.clone()));
        }
        window.pop();
        match window.first() {
            Some(next) => drop(self.oldest.insert((next.time, by.clone()))),
            None => drop(self.windows.remove(by)),
        }
    }

    /// Everything that is kept, by principal, the oldest first, letting go of each chunk before the next.
    pub(super) fn into_answers(self) -> impl Iterator<Item = (Principal, Remembered)> {
        self.windows.into_iter().flat_map(|(by, window)| {
            let chunks = window.chunks.into_iter();
            let answers = chunks.flat_map(Arc::unwrap_or_clone).skip(window.gone);
            answers.map(move |answer| (by.clone(), answer))
        })
    }

    /// Everything that is kept, by principal, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Principal, &Remembered)> {
        self.windows.iter().flat_map(|(by, window)| window.iter().map(move |kept| (by, kept)))
    }

    /// When the oldest answer that is kept took effect.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.oldest.first().map(|(time, _)| *time)
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.windows.values().map(|window| window.len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Equal is what keeps the same answers, whatever went before them.
impl PartialEq for Retries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Retries {}

/// Whether what took effect at this time is not answered again.
fn too_old(time: Timestamp, now: Timestamp) -> bool {
    now.since(time) > Duration::from_secs(RETRY_WINDOW_SECONDS)
}

/// The answers of one principal, the oldest first. Where its chunks begin and end says nothing.
#[derive(Clone, Default)]
struct Window {
    chunks: VecDeque<Arc<Vec<Remembered>>>,
    /// How many of the first chunk are gone.
    gone: usize,
    len: usize,
    places: Places,
}

impl Window {
    fn push(&mut self, remembered: Remembered) {
        if self.chunks.back().is_none_or(|last| last.len() >= CHUNK) {
            self.chunks.push_back(Arc::new(Vec::new()));
        }
        if let Some(last) = self.chunks.back_mut() {
            let last = Arc::make_mut(last);
            // Grows by little: most of a million answers are in chunks that are full.
            last.push(remembered);
        }
        self.len += 1;
        self.index();
    }

    /// Keeps the index in step with the answer that came last.
    fn index(&mut self) {
        let Places::Known { first, places } = &mut self.places else {
            let mut places = HashMap::with_capacity(self.len);
            for (kept, place) in self.iter().zip(0_u64..) {
                places.insert(kept.request.id.clone(), place);
            }
            self.places = Places::Known { first: 0, places };
            return;
        };
        let last = self.chunks.back().and_then(|last| last.last());
        if let Some(last) = last {
            places.insert(last.request.id.clone(), *first + self.len as u64 - 1);
        }
    }

    fn pop(&mut self) {
        let oldest = self.chunks.front().and_then(|chunk| chunk.get(self.gone));
        let Some(oldest) = oldest else {
            return;
        };
        if let Places::Known { first, places } = &mut self.places {
            let id = &oldest.request.id;
            // A younger answer may have the id by now.
            if places.get(id) == Some(first) {
                places.remove(id);
            }
            *first += 1;
            if places.capacity() > 1_024 && places.len() < places.capacity() / 4 {
                places.shrink_to(2 * places.len());
            }
        }
        self.gone += 1;
        self.len -= 1;
        if self.chunks.front().is_some_and(|first| first.len() == self.gone) {
            self.chunks.pop_front();
            self.gone = 0;
        }
    }

    fn first(&self) -> Option<&Remembered> {
        self.chunks.front()?.get(self.gone)
    }

    fn find(&self, id: &RequestId) -> Option<&Remembered> {
        match &self.places {
            Places::Known { first, places } => {
                let nth = places.get(id)?.checked_sub(*first)?;
                let place = usize::try_from(nth).ok()? + self.gone;
                self.chunks.get(place / CHUNK)?.get(place % CHUNK)
            }
            Places::Unknown => self.iter().filter(|kept| kept.request.id == *id).last(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).skip(self.gone)
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Window {}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Where each answer is, as its number among all that ever came. A copy is made without it.
#[derive(Default)]
enum Places {
    #[default]
    Unknown,
    Known {
        /// The number of the first that is left.
        first: u64,
        places: HashMap<RequestId, u64>,
    },
}

impl Clone for Places {
    fn clone(&self) -> Self {
        Self::Unknown
    }
}
