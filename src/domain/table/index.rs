//! Who holds what, and what is free: found without looking at every session.
//!
//! An index says nothing that the sessions do not say. A copy of a table is made without one and looks
//! at every session instead, which is right and slow; copies are written down, not asked.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use crate::domain::id::{Labels, Owner, Revision, SessionId};
use crate::domain::session::Session;

/// Who holds what, and what is free.
pub(super) struct Index(Option<Known>);

#[derive(Default)]
struct Known {
    held: BTreeMap<Owner, BTreeSet<SessionId>>,
    pools: BTreeMap<Labels, Pool>,
}

/// The sessions of exactly these labels.
#[derive(Default)]
struct Pool {
    len: usize,
    /// Those that are free at level 0, by the last event that touched them: the one that freed them.
    free: BTreeSet<(Revision, SessionId)>,
}

impl Default for Index {
    fn default() -> Self {
        Self(Some(Known::default()))
    }
}

impl Index {
    /// Whether it is kept.
    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// A session is there from now on, or is as it is from now on.
    pub(super) fn add(&mut self, session: &Session) {
        let Some(known) = &mut self.0 else {
            return;
        };
        if let Some(binding) = session.binding() {
            known.held.entry(binding.owner.clone()).or_default().insert(session.id);
        } else if is_free(session) {
            let pool = known.pools.entry(session.labels.clone()).or_default();
            pool.free.insert((session.revision, session.id));
        }
    }

    /// The session is not as it was.
    pub(super) fn remove(&mut self, session: &Session) {
        let Some(known) = &mut self.0 else {
            return;
        };
        if let Some(binding) = session.binding() {
            if let Entry::Occupied(mut held) = known.held.entry(binding.owner.clone()) {
                held.get_mut().remove(&session.id);
                if held.get().is_empty() {
                    held.remove();
                }
            }
        } else if is_free(session)
            && let Some(pool) = known.pools.get_mut(&session.labels)
        {
            pool.free.remove(&(session.revision, session.id));
        }
    }

    /// One session more has these labels.
    pub(super) fn began(&mut self, labels: &Labels) {
        if let Some(known) = &mut self.0 {
            known.pools.entry(labels.clone()).or_default().len += 1;
        }
    }

    /// One session fewer has these labels.
    pub(super) fn ended(&mut self, labels: &Labels) {
        if let Some(known) = &mut self.0
            && let Entry::Occupied(mut pool) = known.pools.entry(labels.clone())
        {
            pool.get_mut().len -= 1;
            if pool.get().len == 0 {
                pool.remove();
            }
        }
    }

    /// What a thread holds, in order; nothing if there is no index.
    pub(super) fn held(&self, owner: &Owner) -> Option<&BTreeSet<SessionId>> {
        static NOTHING: BTreeSet<SessionId> = BTreeSet::new();
        Some(self.0.as_ref()?.held.get(owner).unwrap_or(&NOTHING))
    }

    /// Threads after `after` that hold something, in order; nothing if there is no index.
    pub(super) fn holders(&self, after: Bound<&Owner>) -> Option<impl Iterator<Item = &Owner>> {
        let range = self.0.as_ref()?.held.range::<Owner, _>((after, Bound::Unbounded));
        Some(range.map(|(owner, _)| owner))
    }

    /// How many sessions have all these labels, and the one of them that has been free at level 0
    /// longest; nothing if there is no index.
    pub(super) fn pool(&self, wanted: &Labels) -> Option<(usize, Option<SessionId>)> {
        let pools = self.0.as_ref()?.pools.iter().filter(|(labels, _)| labels.contain(wanted));
        let (mut len, mut first) = (0, None);
        for (_, pool) in pools {
            len += pool.len;
            first = match (first, pool.free.first().copied()) {
                (Some(first), Some(other)) => Some(std::cmp::min(first, other)),
                (first, other) => first.or(other),
            };
        }
        Some((len, first.map(|(_, session)| session)))
    }
}

/// Whether a claim may take it.
pub(super) fn is_free(session: &Session) -> bool {
    session.binding().is_none() && session.transaction().is_none()
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Index {}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index")
    }
}
