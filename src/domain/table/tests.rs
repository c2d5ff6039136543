//! Pages from outside: their edges, their copies, and what is shared.

use super::*;
use crate::domain::event::{HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Labels, Owner, Principal};
use crate::domain::session::TransactionOwner;
use crate::domain::session::{Binding, Context, Transaction};
use crate::domain::time::Timestamp;

#[test]
fn sessions_at_the_edges_of_pages_are_found_and_listed() {
    let mut table = began(200);
    let edges = [1, 62, 63, 64, 65, 127, 128, 129, 191, 192, 200];
    for id in edges.map(sesid) {
        assert_eq!(table.session(id).map(|session| session.id), Some(id));
        let next: Vec<_> = numbers(table.after(Some(id))).collect();
        assert_eq!(next, (id.get() + 1..=200).collect::<Vec<_>>());
    }
    assert!(table.session(sesid(201)).is_none());
    for id in edges.map(sesid) {
        apply(&mut table, SessionEvent::Ended { session: id, forced: None });
        assert!(table.session(id).is_none());
    }
    assert_eq!(table.len(), 200 - edges.len());
    let left: Vec<_> = (1..=200).filter(|id| !edges.contains(id)).collect();
    assert_eq!(numbers(table.after(None)).collect::<Vec<_>>(), left);
}

#[test]
fn a_page_goes_with_its_last_session() {
    let mut table = began(200);
    assert_eq!(table.pages.len(), 4);
    for id in (64..=127).map(sesid) {
        apply(&mut table, SessionEvent::Ended { session: id, forced: None });
    }
    assert_eq!(table.pages.len(), 3);
    assert_eq!(numbers(table.after(Some(sesid(63)))).next(), Some(128));
    apply(&mut table, SessionEvent::AllEnded);
    assert!(table.pages.is_empty() && table.is_empty());
}

#[test]
fn a_copy_and_its_original_change_apart() {
    let mut table = began(200);
    let (before, mut copy) = (listed(&table), table.clone());

    apply(&mut table, set(70, owner("one")));
    apply(&mut table, SessionEvent::Ended { session: sesid(71), forced: None });
    apply(&mut table, SessionEvent::Began { session: sesid(201), labels: Labels::default() });
    assert_eq!(listed(&copy), before);
    assert_eq!((copy.len(), copy.bound_count(), copy.floor().sesid), (200, 0, 200));

    let after = listed(&table);
    apply(&mut copy, set(72, owner("two")));
    apply(&mut copy, SessionEvent::AllEnded);
    assert_eq!(listed(&table), after);
    assert_eq!((table.len(), table.bound_count(), table.floor().sesid), (200, 1, 201));
}

#[test]
fn only_pages_that_change_are_copied() {
    let mut table = began(200);
    let copy = table.clone();
    apply(&mut table, set(70, owner("one")));
    apply(&mut table, set(201, owner("one")));
    let shared = |page: &u64| Arc::ptr_eq(&table.pages[page], &copy.pages[page]);
    assert_eq!((0..4).map(|page| shared(&page)).collect::<Vec<_>>(), [true, false, true, true]);
}

/// Compiles only if a copy can be given to another thread.
#[test]
fn a_copy_can_be_read_on_another_thread() {
    fn any_thread<T: Send + Sync + 'static>(_: T) {}
    any_thread(began(1).clone());
}

#[test]
fn sessions_of_one_owner_share_its_handle() {
    let mut table = began(2);
    apply(&mut table, set(1, owner("one")));
    let transaction = Transaction::outermost(TransactionOwner::Thread(owner("one")));
    apply(&mut table, SessionEvent::TransactionBegan { session: sesid(2), transaction });
    let bound = table.session(sesid(1)).unwrap().binding().unwrap();
    let open = table.session(sesid(2)).unwrap().transaction().unwrap();
    let TransactionOwner::Thread(owner) = open.bound_to() else {
        panic!("bound to a word: {open:?}");
    };
    assert!(owner.shares(&bound.owner));
}

#[test]
fn owners_that_came_and_went_leave_the_table_small() {
    let mut table = began(1);
    for n in 0..10_000 {
        apply(&mut table, set(1, owner(&format!("worker/{n}"))));
        apply(
            &mut table,
            SessionEvent::ContextReset { session: sesid(1), how: HowReset::ByHolder },
        );
    }
    assert!(table.owners.len() <= crate::domain::limits::UNUSED_OWNERS_MIN);
}

#[test]
fn a_raised_table_goes_on_in_the_next_epoch_and_knows_who_ended_in_the_last() {
    let mut table = began(3);
    apply(&mut table, set(2, owner("one")));
    let (before, floor) = (listed(&table), table.floor());
    let next = floor.next_epoch().unwrap();

    table.raise(next);
    assert_eq!((table.floor(), table.issued()), (next, [3].as_slice()));
    assert_eq!(listed(&table), before);
    assert_eq!((table.len(), table.bound_count()), (3, 1));
    assert!(table.newest().is_none());

    table.raise(floor);
    assert_eq!(table.floor(), next, "numbers never sink");

    let first = (1 << 48) + 1;
    assert_eq!(table.next_sesid(), Some(sesid(first)));
    apply(&mut table, SessionEvent::Began { session: sesid(first), labels: Labels::default() });
    assert_eq!(table.newest().unwrap().revision.get(), (1 << 48) + 1);
    assert_eq!(numbers(table.after(None)).collect::<Vec<_>>(), [1, 2, 3, first]);
    apply(&mut table, SessionEvent::AllEnded);
    for (id, expected) in [(3, true), (4, false), (1 << 48, false), (first, true)] {
        assert_eq!(table.ever_began(sesid(id)), expected, "{id:x}");
    }
    assert!(!table.ever_began(sesid(first + 1)));
}

#[test]
fn epochs_without_a_session_leave_nothing_behind() {
    let mut table = SessionTable::default();
    for _ in 0..3 {
        table.raise(table.floor().next_epoch().unwrap());
    }
    assert_eq!((table.floor().epoch(), table.issued()), (3, [].as_slice()));
}

#[test]
fn a_new_table_knows_what_ended_below_its_floor_in_that_epoch_alone() {
    let at = |sesid| SessionTable::above(Floor { revision: Revision::new(2), sesid });
    assert!(at(1).ever_began(sesid(1)) && !at(1).ever_began(sesid(2)));
    let later = at((2 << 48) | 5);
    assert!(later.ever_began(sesid((2 << 48) | 5)) && !later.ever_began(sesid((2 << 48) | 6)));
    assert!(!later.ever_began(sesid(1)) && !later.ever_began(sesid((1 << 48) | 1)));
}

#[test]
fn only_a_new_epoch_forgets_that_a_terminate_came_last() {
    let mut table = began(3);
    apply(&mut table, SessionEvent::AllEnded);
    let floor = table.floor();
    table.raise(Floor { sesid: floor.sesid + 1_000, ..floor });
    assert!(table.terminated(), "numbers were only skipped");

    table.raise(table.floor().next_epoch().unwrap());

    assert!(!table.terminated(), "it is a restored instance");
}

#[test]
fn a_table_is_read_back_as_it_was() {
    let mut table = began(200);
    for id in [1, 63, 64, 199] {
        apply(&mut table, set(id, owner("one")));
    }
    let transaction = Transaction::outermost(TransactionOwner::Thread(owner("one")));
    apply(&mut table, SessionEvent::TransactionBegan { session: sesid(65), transaction });
    (70..150).map(sesid).for_each(|session| {
        apply(&mut table, SessionEvent::Ended { session, forced: None });
    });
    table.raise(table.floor().next_epoch().unwrap());
    let session = table.next_sesid().unwrap();
    apply(&mut table, SessionEvent::Began { session, labels: Labels::default() });

    let mut loaded = SessionTable::loading(table.floor(), table.issued().to_vec());
    for session in table.after(None) {
        // As a store does it: its own handles are exchanged for those that the table shares.
        let mut session = session.clone();
        if let Context::Set(binding) = &mut session.context {
            binding.owner = loaded.share(&owner("one"));
        }
        assert!(loaded.load(session));
    }
    assert_eq!(loaded, table);
    let held = |id| &loaded.session(sesid(id)).unwrap().binding().unwrap().owner;
    assert!(held(1).shares(held(199)));
    assert_eq!(loaded.owners.len(), 1);
}

#[test]
fn a_session_that_the_table_cannot_have_is_not_loaded() {
    let floor = Floor { revision: Revision::new((1 << 48) + 9), sesid: (1 << 48) + 5 };
    let mut table = SessionTable::loading(floor, vec![7]);
    let session = |id, revision| {
        let revision = Revision::new(revision);
        Session::new(sesid(id), Labels::default(), Timestamp::default(), revision)
    };
    let held = |token| {
        let mut held = session(6, 1);
        held.context = Context::Set(Binding {
            context: ContextValue::new(7).unwrap(),
            owner: owner("one"),
            token: Revision::new(token),
            since: Timestamp::default(),
        });
        held
    };
    let (later, last) = (floor.revision.get() + 1, floor.sesid);
    assert!(table.load(session(5, 1)));
    for (refused, why) in [
        (session(5, 1), "it is there"),
        (session(4, 1), "it is not above the one before"),
        (session(8, 1), "it was not issued in its epoch"),
        (session(1 << 48, 1), "nobody has the number where an epoch begins"),
        (session(last + 1, 1), "it was not issued yet"),
        (session(2 << 48, 1), "it is of a later epoch"),
        (session(6, later), "nothing happened at its revision yet"),
        (held(later), "its token was not issued yet"),
    ] {
        let before = table.clone();
        assert!(!table.load(refused), "{why}");
        assert_eq!(table, before, "{why}");
    }
    assert!(table.load(held(later - 1)));
    assert!(table.load(session(last, later - 1)));
    assert_eq!((table.len(), table.bound_count()), (3, 1));
}

#[test]
fn sessions_are_given_away_page_by_page_and_shared_ones_stay() {
    let table = began(200);
    let expected = listed(&table);
    let copy = table.clone();
    let mut sessions = copy.into_parts().sessions;
    assert_eq!(sessions.next().as_ref(), expected.first());
    assert!(sessions.eq(expected[1..].iter().cloned()));
    assert_eq!(listed(&table), expected);
    // Nobody else has the pages any more, so the table gives up its own.
    assert!(table.pages.values().all(|page| Arc::strong_count(page) == 1));
    assert!(table.into_parts().sessions.eq(expected));
}

/// A table in which these many sessions began.
fn began(sessions: u64) -> SessionTable {
    let mut table = SessionTable::default();
    for session in (1..=sessions).map(sesid) {
        apply(&mut table, SessionEvent::Began { session, labels: Labels::default() });
    }
    table
}

fn apply(table: &mut SessionTable, event: SessionEvent) {
    let revision = table.revision().next();
    let by = Principal::anonymous();
    table.apply(&Change::new(revision, Timestamp::default(), by, event));
}

fn set(session: u64, owner: Owner) -> SessionEvent {
    let context = ContextValue::new(7).unwrap();
    SessionEvent::ContextSet { session: sesid(session), owner, context }
}

fn owner(thread: &str) -> Owner {
    Owner::new(Principal::anonymous(), thread.parse().unwrap())
}

fn sesid(id: u64) -> SessionId {
    SessionId::new(id).unwrap()
}

fn listed(table: &SessionTable) -> Vec<Session> {
    table.after(None).cloned().collect()
}

fn numbers<'a>(sessions: impl Iterator<Item = &'a Session>) -> impl Iterator<Item = u64> {
    sessions.map(|session| session.id.get())
}

#[test]
fn a_copy_that_goes_on_gets_an_index_of_its_own() {
    let mut table = SessionTable::default();
    for id in 1..=3 {
        let labels = Labels::default();
        apply(&mut table, SessionEvent::Began { session: sesid(id), labels });
    }
    apply(&mut table, set(2, owner("one")));
    let mut copy = table.clone();
    assert!(table.has_index() && !copy.has_index());
    copy.ensure_index();
    assert!(copy.has_index());
    for table in [&mut table, &mut copy] {
        apply(table, set(1, owner("one")));
        assert_eq!(table.held(&owner("one"), 9), [sesid(1), sesid(2)]);
        assert_eq!(table.pool(&Labels::default()), (3, Some(sesid(3))));
    }
}
