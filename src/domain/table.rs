//! The sessions of an instance: the fold of its changes.
//!
//! Sessions change in `fold` and nowhere else. A table decides nothing.
//!
//! A table is made for a million sessions, and for being copied while it is in use: a copy shares
//! every page until one of the two changes it.
//!
//! - `fold`: what each change makes true
//! - [`Floor`]: where numbers begin, and their epochs
//! - `page`: sessions in the order of their numbers, 64 numbers to a page
//! - `owners`: one handle for all sessions of an owner
//! - `index`: who holds what, and what is free
//! - [`Retries`]: answers kept for retries

mod floor;
mod fold;
mod index;
mod owners;
mod page;
mod retries;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::domain::event::Change;
use crate::domain::id::{Labels, Owner, Principal, Revision, SessionId};
use crate::domain::lease::Threads;
use crate::domain::session::Session;

use floor::Issued;
use index::Index;
use owners::Owners;
use page::Page;

pub use floor::Floor;
pub use retries::{Remembered, Retries};

/// All sessions of an instance, and how far its history goes.
///
/// A clone costs a pointer for every 64 sessions. It is whole and stays as it is, whatever becomes of
/// the original, so another thread can read it at leisure; the first change of a page that both have
/// copies that page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionTable {
    /// By [`Page::of`]; none is empty.
    pages: BTreeMap<u64, Arc<Page>>,
    revision: Revision,
    issued: Issued,
    len: usize,
    bound: usize,
    in_transaction: usize,
    /// Whether the last change ended all sessions.
    terminated: bool,
    owners: Owners,
    index: Index,
    threads: Arc<Threads>,
    retries: Retries,
}

/// All that a table remembers beside its numbers.
#[derive(Debug)]
pub struct Parts<Sessions, Answers> {
    /// The sessions.
    pub sessions: Sessions,
    /// What is remembered of threads.
    pub threads: Arc<Threads>,
    /// The answers that are kept for retries.
    pub answers: Answers,
}

impl SessionTable {
    /// No sessions, numbers beginning above `floor`.
    pub fn above(floor: Floor) -> Self {
        Self::loading(floor, Vec::new())
    }

    /// A table to be read back with [`load`](Self::load), from what [`floor`](Self::floor) and
    /// [`issued`](Self::issued) said of it.
    pub fn loading(floor: Floor, issued: Vec<u64>) -> Self {
        let issued = Issued::new(issued, floor.sesid);
        Self { revision: floor.revision, issued, ..Self::default() }
    }

    /// The handle that sessions of this owner share. [`load`](Self::load) takes sessions as they are,
    /// so whoever reads many of one owner asks once.
    pub fn share(&mut self, owner: &Owner) -> Owner {
        self.owners.shared(owner)
    }

    /// Takes a remembered session. Answers false and takes nothing if it cannot be one of this table:
    /// if it is not above the one before, its number was never issued, or it or its token comes from
    /// later than the last change.
    #[must_use = "a session that is refused shows that what was remembered is damaged"]
    pub fn load(&mut self, session: Session) -> bool {
        let known = self.issued.contains(session.id.get())
            && session.revision <= self.revision
            && session.binding().is_none_or(|binding| binding.token <= self.revision)
            && session.lost().is_none_or(|lost| lost.token <= self.revision);
        let last = self.pages.last_key_value().and_then(|(_, page)| page.last());
        if !known || last.is_some_and(|last| last.id >= session.id) {
            return false;
        }
        self.count(&session);
        let number = Page::of(session.id.get());
        let last = self.pages.last_entry().filter(|last| *last.key() == number);
        match last.and_then(|last| Arc::get_mut(last.into_mut())) {
            Some(page) => page.fill(session),
            None => {
                if let Some(full) =
                    self.pages.last_entry().and_then(|last| Arc::get_mut(last.into_mut()))
                {
                    full.trim();
                }
                self.pages.insert(number, Arc::new(Page::filled_with(session)));
            }
        }
        true
    }

    /// A copy of the sessions and of nothing else, for somebody who only shows them: what is kept of
    /// threads and for retries is not copied when it changes because of this one.
    #[must_use]
    pub fn sessions_alone(&self) -> Self {
        let Self { pages, revision, len, bound, in_transaction, .. } = self;
        Self {
            pages: pages.clone(),
            revision: *revision,
            len: *len,
            bound: *bound,
            in_transaction: *in_transaction,
            ..Self::default()
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The last numbers used.
    pub fn floor(&self) -> Floor {
        Floor { revision: self.revision, sesid: self.issued.last() }
    }

    /// The highest sesid of each earlier epoch in which there was one, ascending. That of the present
    /// epoch is in [`floor`](Self::floor).
    pub fn issued(&self) -> &[u64] {
        self.issued.earlier()
    }

    /// Goes on above `floor`, as a restored instance does. Numbers never sink and sessions stay. Whether
    /// a terminate ended the epoch before is history in the next.
    pub fn raise(&mut self, floor: Floor) {
        self.terminated &= floor.epoch() <= self.floor().epoch();
        self.revision = self.revision.max(floor.revision);
        self.issued.raise(floor.sesid);
    }

    /// The session with this number.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.pages.get(&Page::of(id.get()))?.get(id)
    }

    /// Whether a session with this number ever began: here, or below the floor in the same epoch.
    pub fn ever_began(&self, id: SessionId) -> bool {
        self.issued.contains(id.get())
    }

    /// The session that began last, if it still exists.
    pub fn newest(&self) -> Option<&Session> {
        SessionId::new(self.issued.last()).and_then(|id| self.session(id))
    }

    /// The number of the next session, unless all numbers of the epoch are used up.
    pub fn next_sesid(&self) -> Option<SessionId> {
        self.issued.next()
    }

    /// Whether the numbers up to this one are still of the present epoch.
    pub fn has_sesids_up_to(&self, last: u64) -> bool {
        self.issued.reaches(last)
    }

    /// Sessions after `after`, or all, in the order of their numbers.
    pub fn after(&self, after: Option<SessionId>) -> impl Iterator<Item = &Session> {
        let after = after.map_or(0, SessionId::get);
        self.pages.range(Page::of(after)..).flat_map(move |(_, page)| page.above(after))
    }

    /// All that the table remembers, to be written down by whoever has a copy of it.
    ///
    /// Sessions come in the order of their numbers and answers with the oldest of each principal first,
    /// and both let go of each page before the next: what only the copy still had is given back on the
    /// way.
    pub fn into_parts(
        self,
    ) -> Parts<impl Iterator<Item = Session>, impl Iterator<Item = (Principal, Remembered)>> {
        let pages = self.pages.into_values();
        Parts {
            sessions: pages.flat_map(|page| Arc::unwrap_or_clone(page).into_sessions()),
            threads: self.threads,
            answers: self.retries.into_answers(),
        }
    }

    /// Becomes what a restored instance begins with, above `floor`. Nobody repeats here what was asked
    /// elsewhere, or is told what was lost there, and every lease counts as renewed.
    pub fn restore(&mut self, floor: Floor) {
        self.retries = Retries::default();
        self.threads_mut().restore();
        self.raise(floor);
    }

    /// Makes sure that there is an index. Whoever goes on with a copy, instead of writing it down, asks for
    /// one: without it each question below looks at every session.
    pub fn ensure_index(&mut self) {
        if self.index.is_known() {
            return;
        }
        let mut index = Index::default();
        for session in self.after(None) {
            index.began(&session.labels);
            index.add(session);
        }
        self.index = index;
    }

    /// Whether there is an index.
    #[cfg(test)]
    pub(crate) fn has_index(&self) -> bool {
        self.index.is_known()
    }

    /// How many sessions a thread holds.
    pub fn held_count(&self, owner: &Owner) -> usize {
        self.index.held(owner).map_or_else(|| self.scan(owner).count(), BTreeSet::len)
    }

    /// Up to `max` sessions that a thread holds, in the order of their numbers.
    pub fn held(&self, owner: &Owner, max: usize) -> Vec<SessionId> {
        match self.index.held(owner) {
            Some(held) => held.iter().take(max).copied().collect(),
            None => self.scan(owner).take(max).collect(),
        }
    }

    /// Threads after `after` that hold something, in order.
    pub fn holders(&self, after: Bound<&Owner>, max: usize) -> Vec<Owner> {
        match self.index.holders(after) {
            Some(holders) => holders.take(max).cloned().collect(),
            None => {
                let holders = self.after(None).filter_map(Session::binding);
                let holders: BTreeSet<_> = holders.map(|held| held.owner.clone()).collect();
                holders.range::<Owner, _>((after, Bound::Unbounded)).take(max).cloned().collect()
            }
        }
    }

    /// How many sessions have all these labels, and the one of them that has been free longest, without
    /// context and at level 0.
    pub fn pool(&self, wanted: &Labels) -> (usize, Option<SessionId>) {
        self.index.pool(wanted).unwrap_or_else(|| {
            let pool = || self.after(None).filter(|session| session.labels.contain(wanted));
            let free = pool().filter(|session| index::is_free(session));
            (pool().count(), free.min_by_key(|free| free.revision).map(|free| free.id))
        })
    }

    fn scan(&self, owner: &Owner) -> impl Iterator<Item = SessionId> {
        let holds = move |session: &&Session| {
            session.binding().is_some_and(|binding| binding.owner == *owner)
        };
        self.after(None).filter(holds).map(|session| session.id)
    }

    /// What is remembered of threads.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// What is remembered of threads, while a table is read back.
    pub fn threads_mut(&mut self) -> &mut Threads {
        Arc::make_mut(&mut self.threads)
    }

    /// The answers that are kept for retries.
    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    /// The answers that are kept for retries, while a table is read back.
    pub fn retries_mut(&mut self) -> &mut Retries {
        &mut self.retries
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many have a context set.
    pub fn bound_count(&self) -> usize {
        self.bound
    }

    /// How many have an open transaction.
    pub fn in_transaction_count(&self) -> usize {
        self.in_transaction
    }

    /// Whether the last change was the end of all sessions, by a terminate.
    pub fn terminated(&self) -> bool {
        self.terminated
    }

    /// Puts a session in its place.
    fn put(&mut self, session: Session) {
        self.count(&session);
        let page = self.pages.entry(Page::of(session.id.get())).or_default();
        drop(Arc::make_mut(page).insert(session));
    }

    /// Takes a session out, and its page with the last one.
    fn take(&mut self, id: SessionId) -> Option<Session> {
        let Entry::Occupied(mut entry) = self.pages.entry(Page::of(id.get())) else {
            return None;
        };
        entry.get().get(id)?;
        let page = Arc::make_mut(entry.get_mut());
        let ended = page.remove(id)?;
        if page.is_empty() {
            entry.remove();
        }
        self.discount(&ended);
        Some(ended)
    }

    /// Changes one session and keeps counts and index right.
    fn touch(&mut self, id: SessionId, change: &Change, edit: impl FnOnce(&mut Session)) {
        let Some(session) = to_change(&mut self.pages, id) else {
            return;
        };
        self.index.remove(session);
        let before = (session.binding().is_some(), session.transaction().is_some());
        edit(session);
        session.revision = change.revision;
        let after = (session.binding().is_some(), session.transaction().is_some());
        self.index.add(session);
        self.bound = self.bound + usize::from(after.0) - usize::from(before.0);
        self.in_transaction = self.in_transaction + usize::from(after.1) - usize::from(before.1);
    }

    /// Takes a session that is new into counts and index.
    fn count(&mut self, session: &Session) {
        self.index.began(&session.labels);
        self.index.add(session);
        self.len += 1;
        self.bound += usize::from(session.binding().is_some());
        self.in_transaction += usize::from(session.transaction().is_some());
    }

    /// Takes a session that is no more out of counts and index.
    fn discount(&mut self, session: &Session) {
        self.index.remove(session);
        self.index.ended(&session.labels);
        self.len -= 1;
        self.bound -= usize::from(session.binding().is_some());
        self.in_transaction -= usize::from(session.transaction().is_some());
    }
}

/// The session with this number, on a page that is nobody else's.
fn to_change(pages: &mut BTreeMap<u64, Arc<Page>>, id: SessionId) -> Option<&mut Session> {
    let page = pages.get_mut(&Page::of(id.get()))?;
    // Asked first, so that a page is not copied for a session that it does not have.
    page.get(id)?;
    Arc::make_mut(page).get_mut(id)
}
