//! A page: the sessions among 64 consecutive numbers.
//!
//! Pages are what copies of a table share. A page is copied when one of the two changes it, so it is
//! small enough to be copied within a call and large enough that a table has few of them.

use crate::domain::id::SessionId;
use crate::domain::session::Session;

/// Numbers to a page: as many as there are bits in [`Page::present`].
const NUMBERS: usize = u64::BITS as usize;

/// Room of a page that begins to fill.
const ROOM_MIN: usize = 4;

/// The sessions of one page in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Page {
    /// Which numbers have a session: bit n is the n-th number of the page. The bits below it say
    /// where the session is.
    present: u64,
    sessions: Vec<Session>,
}

impl Page {
    /// A page that begins with this session and is filled in order: room for all is made at once.
    pub(super) fn filled_with(session: Session) -> Self {
        let mut page = Self { present: 0, sessions: Vec::with_capacity(NUMBERS) };
        page.fill(session);
        page
    }

    /// Adds a session whose number is above all that are here.
    pub(super) fn fill(&mut self, session: Session) {
        self.present |= bit(session.id);
        self.sessions.push(session);
    }

    /// Gives back the room that filling did not need.
    pub(super) fn trim(&mut self) {
        self.sessions.shrink_to_fit();
    }

    /// The page that a sesid is on.
    pub(super) const fn of(sesid: u64) -> u64 {
        sesid / NUMBERS as u64
    }

    /// The session with this number, which is one of the page.
    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.place(id).ok().map(|place| &self.sessions[place])
    }

    /// The session with this number, to be changed.
    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.place(id).ok().map(|place| &mut self.sessions[place])
    }

    /// Puts a session in its place, and gives back the one it replaces.
    pub(super) fn insert(&mut self, session: Session) -> Option<Session> {
        match self.place(session.id) {
            Ok(place) => Some(std::mem::replace(&mut self.sessions[place], session)),
            Err(place) => {
                self.make_room();
                self.present |= bit(session.id);
                self.sessions.insert(place, session);
                None
            }
        }
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let place = self.place(id).ok()?;
        self.present &= !bit(id);
        let session = self.sessions.remove(place);
        // A quarter is left: half of the room goes, so that no call is followed by another move soon.
        if self.sessions.len() <= self.sessions.capacity() / 4 {
            self.sessions.shrink_to((self.sessions.len() * 2).max(ROOM_MIN));
        }
        Some(session)
    }

    /// Whether there is no session.
    pub(super) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// The sessions with numbers above `sesid`, whichever page that is of.
    pub(super) fn above(&self, sesid: u64) -> &[Session] {
        let from = self.sessions.partition_point(|session| session.id.get() <= sesid);
        &self.sessions[from..]
    }

    /// The last session.
    pub(super) fn last(&self) -> Option<&Session> {
        self.sessions.last()
    }

    /// All sessions.
    pub(super) fn into_sessions(self) -> Vec<Session> {
        self.sessions
    }

    /// Where the session with this number is, or where it would be.
    fn place(&self, id: SessionId) -> Result<usize, usize> {
        let bit = bit(id);
        let place = (self.present & (bit - 1)).count_ones() as usize;
        if self.present & bit == 0 { Err(place) } else { Ok(place) }
    }

    /// Room for one session more. It doubles, but not past the numbers of the page: a full page has
    /// no room to spare.
    fn make_room(&mut self) {
        let len = self.sessions.len();
        if len == self.sessions.capacity() {
            self.sessions.reserve_exact(len.max(ROOM_MIN).min(NUMBERS - len));
        }
    }
}

/// The bit of a number in its page.
const fn bit(id: SessionId) -> u64 {
    1 << (id.get() % NUMBERS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{Labels, Revision};
    use crate::domain::time::Timestamp;

    #[test]
    fn numbers_63_and_64_are_on_different_pages() {
        assert_eq!([1, 63, 64, 65, 127, 128].map(Page::of), [0, 0, 1, 1, 1, 2]);
        assert_eq!(Page::of(u64::MAX), u64::MAX / 64);
    }

    #[test]
    fn a_full_page_has_no_room_to_spare() {
        for order in [64..128, 64..100] {
            let mut page = Page::default();
            for sesid in order.clone() {
                assert_eq!(page.insert(session(sesid)), None);
            }
            // A copy has no room at all, so the doubling begins at an odd size.
            let mut page = page.clone();
            for sesid in order.end..128 {
                assert_eq!(page.insert(session(sesid)), None);
            }
            assert_eq!((page.sessions.len(), page.sessions.capacity()), (64, 64));
        }
    }

    #[test]
    fn a_page_is_in_order_whatever_the_order_of_insertion() {
        let mut page = Page::default();
        for n in 0..64_u64 {
            page.insert(session(64 + (n * 37) % 64));
        }
        let found: Vec<_> = page.above(0).iter().map(|session| session.id.get()).collect();
        assert_eq!(found, (64..128).collect::<Vec<_>>());
        assert!((64..128).all(|sesid| page.get(id(sesid)).unwrap().id == id(sesid)));
    }

    #[test]
    fn a_page_that_empties_gives_its_room_back() {
        let mut page = Page::default();
        (64..128).for_each(|sesid| assert!(page.insert(session(sesid)).is_none()));
        for sesid in 64..127 {
            assert_eq!(page.remove(id(sesid)), Some(session(sesid)));
            assert_eq!(page.remove(id(sesid)), None);
            assert_eq!(page.get(id(sesid)), None);
        }
        assert_eq!(page.sessions, [session(127)]);
        assert!(page.sessions.capacity() <= ROOM_MIN, "{}", page.sessions.capacity());
        page.remove(id(127));
        assert!(page.is_empty());
    }

    #[test]
    fn a_session_put_twice_replaces_itself() {
        let mut page = Page::default();
        page.insert(session(70));
        let mut later = session(70);
        later.revision = Revision::new(2);
        assert_eq!(page.insert(later.clone()), Some(session(70)));
        assert_eq!(page.sessions, [later]);
    }

    fn id(sesid: u64) -> SessionId {
        SessionId::new(sesid).unwrap()
    }

    fn session(sesid: u64) -> Session {
        Session::new(id(sesid), Labels::default(), Timestamp::default(), Revision::new(1))
    }
}
