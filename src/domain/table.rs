//! The sessions of an instance: the fold of its changes.
//!
//! This is the only place where sessions change. It decides nothing.
//!
//! A table is made for a million sessions, and for being copied while it is in use: a copy shares
//! every page until one of the two changes it.
//!
//! - [`Floor`]: where numbers begin, and their epochs
//! - `page`: sessions in the order of their numbers, 64 numbers to a page
//! - `owners`: one handle for all sessions of an owner

mod floor;
mod owners;
mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::{Owner, Revision, SessionId};
use crate::domain::session::{Binding, Context, Session, Transaction};

use floor::Issued;
use owners::Owners;
use page::Page;

pub use floor::Floor;

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
            && session.binding().is_none_or(|binding| binding.token <= self.revision);
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

    /// Sessions after `after`, or all, in the order of their numbers.
    pub fn after(&self, after: Option<SessionId>) -> impl Iterator<Item = &Session> {
        let after = after.map_or(0, SessionId::get);
        self.pages.range(Page::of(after)..).flat_map(move |(_, page)| page.above(after))
    }

    /// All sessions in the order of their numbers, letting go of each page before the next: whoever
    /// writes a copy down gives back what only the copy still had, on the way.
    pub fn into_sessions(self) -> impl Iterator<Item = Session> {
        self.pages.into_values().flat_map(|page| Arc::unwrap_or_clone(page).into_sessions())
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

    /// Makes `change` true. Total: a change of a session that does not exist changes only the revision.
    pub fn apply(&mut self, change: &Change) {
        self.revision = change.revision;
        self.terminated = false;
        match &change.event {
            SessionEvent::Began { session: id, labels } => {
                self.issued.raise(id.get());
                self.put(Session::new(*id, labels.clone(), change.time, change.revision));
            }
            SessionEvent::ContextSet { session, owner, context } => {
                let owner = self.owners.shared(owner);
                self.touch(*session, change, |session| {
                    session.context = Context::Set(Binding {
                        context: *context,
                        owner,
                        token: change.revision,
                        since: change.time,
                    });
                });
            }
            SessionEvent::ContextReset { session } => {
                self.touch(*session, change, |session| session.context = Context::Reset);
            }
            SessionEvent::TransactionBegan { session, transaction } => {
                let transaction = self.shared(transaction);
                self.touch(*session, change, |session| session.set_transaction(Some(transaction)));
            }
            SessionEvent::TransactionCommitted { session, left }
            | SessionEvent::TransactionRolledBack { session, left } => {
                let left = left.as_ref().map(|left| self.shared(left));
                self.touch(*session, change, |session| session.set_transaction(left));
            }
            SessionEvent::Ended { session, forced: _ } => self.take(*session),
            SessionEvent::AllEnded => {
                let issued = std::mem::take(&mut self.issued);
                let revision = change.revision;
                *self = Self { revision, issued, terminated: true, ..Self::default() };
            }
        }
    }

    /// Puts a session in its place.
    fn put(&mut self, session: Session) {
        self.count(&session);
        let page = self.pages.entry(Page::of(session.id.get())).or_default();
        if let Some(replaced) = Arc::make_mut(page).insert(session) {
            self.discount(&replaced);
        }
    }

    /// Takes a session out, and its page with the last one.
    fn take(&mut self, id: SessionId) {
        let Entry::Occupied(mut entry) = self.pages.entry(Page::of(id.get())) else {
            return;
        };
        if entry.get().get(id).is_none() {
            return;
        }
        let page = Arc::make_mut(entry.get_mut());
        let ended = page.remove(id);
        if page.is_empty() {
            entry.remove();
        }
        if let Some(ended) = ended {
            self.discount(&ended);
        }
    }

    /// Changes one session and keeps the counts right.
    fn touch(&mut self, id: SessionId, change: &Change, edit: impl FnOnce(&mut Session)) {
        let Some(session) = to_change(&mut self.pages, id) else {
            return;
        };
        let before = (session.binding().is_some(), session.transaction().is_some());
        edit(session);
        session.revision = change.revision;
        let after = (session.binding().is_some(), session.transaction().is_some());
        self.bound = self.bound + usize::from(after.0) - usize::from(before.0);
        self.in_transaction = self.in_transaction + usize::from(after.1) - usize::from(before.1);
    }

    /// Takes a session that is new into the counts.
    fn count(&mut self, session: &Session) {
        self.len += 1;
        self.bound += usize::from(session.binding().is_some());
        self.in_transaction += usize::from(session.transaction().is_some());
    }

    /// Takes a session that is no more out of the counts.
    fn discount(&mut self, session: &Session) {
        self.len -= 1;
        self.bound -= usize::from(session.binding().is_some());
        self.in_transaction -= usize::from(session.transaction().is_some());
    }

    /// The transaction, under the handle by which its owner is known.
    fn shared(&mut self, transaction: &Transaction) -> Transaction {
        let mut transaction = transaction.clone();
        if let Some(owner) = transaction.owner_mut() {
            *owner = self.owners.shared(owner);
        }
        transaction
    }
}

/// The session with this number, on a page that is nobody else's.
fn to_change(pages: &mut BTreeMap<u64, Arc<Page>>, id: SessionId) -> Option<&mut Session> {
    let page = pages.get_mut(&Page::of(id.get()))?;
    // Asked first, so that a page is not copied for a session that it does not have.
    page.get(id)?;
    Arc::make_mut(page).get_mut(id)
}
