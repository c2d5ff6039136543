//! ListSessions: pages, filters, and how far one page looks.

use super::*;
use crate::domain::id::ContextValue;
use crate::domain::limits::LIST_SCAN_MAX;

#[test]
fn pages_give_every_session_once_in_order() {
    for (total, count, expected) in [
        (0, 10, &[&[][..]][..]),
        (3, 10, &[&[1, 2, 3]]),
        (3, 3, &[&[1, 2, 3]]),
        (3, 2, &[&[1, 2], &[3]]),
        (3, 1, &[&[1], &[2], &[3]]),
    ] {
        let mut world = World::after(&vec![Begin; total]);
        let pages = pages(&mut world, &SessionFilter::default(), count);
        assert_eq!(pages, expected, "{total} in pages of {count}");
    }
}

#[test]
fn a_page_goes_on_after_a_session_that_has_ended_meanwhile() {
    let mut world = World::after(&[Begin, Begin, Begin, Begin, ForceEnd(2)]);
    let page = list(&mut world, &SessionFilter::default(), Some(sesid(2)), 1);
    assert_eq!((ids(&page), page.next_after), (vec![3], Some(sesid(3))));
}

#[test]
fn a_filter_lets_through_what_meets_all_its_conditions() {
    let mut world = World::ready();
    for pool in ["a", "a", "b", "b", "b"] {
        world.call(T1, &BeginSession { labels: labels(&[("pool", pool)]) }).unwrap();
    }
    for step in [Set(T1, 1, C), Set(BOBS_T1, 3, C), Set(T2, 4, C), Set(T1, 5, C), Reset(T1, 5)] {
        world.ok(step);
    }
    let filter = |bound, who: Option<Who>, wanted: &[(&str, &str)]| SessionFilter {
        bound,
        thread: who.map(thread_of),
        labels: labels(wanted),
    };
    for (filter, expected) in [
        (filter(None, None, &[]), &[1, 2, 3, 4, 5][..]),
        (filter(Some(true), None, &[]), &[1, 3, 4]),
        (filter(Some(false), None, &[]), &[2, 5]),
        (filter(None, Some(T1), &[]), &[1, 3]),
        (filter(Some(true), Some(T2), &[]), &[4]),
        (filter(Some(false), Some(T1), &[]), &[]),
        (filter(None, None, &[("pool", "b")]), &[3, 4, 5]),
        (filter(Some(true), Some(T1), &[("pool", "a")]), &[1]),
        (filter(None, None, &[("pool", "b"), ("zone", "x")]), &[]),
    ] {
        assert_eq!(pages(&mut world, &filter, 100).concat(), expected, "{filter:?}");
        assert_eq!(pages(&mut world, &filter, 1).concat(), expected, "{filter:?}, one by one");
    }
}

#[test]
fn one_page_looks_at_a_bounded_number_of_sessions() {
    let last = u64::try_from(LIST_SCAN_MAX).unwrap() + 1;
    let mut world = World::ready();
    for id in 1..=last {
        let session = sesid(id);
        grow(&mut world, SessionEvent::Began { session, labels: Labels::default() });
    }
    let (session, context) = (sesid(last), ContextValue::new(C).unwrap());
    grow(&mut world, SessionEvent::ContextSet { session, owner: owner(T1), context });

    let bound = SessionFilter { bound: Some(true), ..SessionFilter::default() };
    let first = list(&mut world, &bound, None, 10);
    assert_eq!((ids(&first), first.next_after), (vec![], Some(sesid(last - 1))));
    let second = list(&mut world, &bound, first.next_after, 10);
    assert_eq!((ids(&second), second.next_after), (vec![last], None));
    // From the second session on all others are within one page's reach.
    let all = list(&mut world, &bound, Some(sesid(1)), 10);
    assert_eq!((ids(&all), all.next_after), (vec![last], None));
}

fn list(
    world: &mut World,
    filter: &SessionFilter,
    after: Option<SessionId>,
    count: usize,
) -> SessionPage {
    world.call(T1, &ListSessions { filter: filter.clone(), after, count }).unwrap()
}

/// All pages, one after the other.
fn pages(world: &mut World, filter: &SessionFilter, count: usize) -> Vec<Vec<u64>> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = list(world, filter, after, count);
        assert!(page.sessions.len() <= count);
        pages.push(ids(&page));
        if page.next_after.is_none() {
            return pages;
        }
        assert!(page.next_after > after, "pages go forward");
        after = page.next_after;
    }
}

fn ids(page: &SessionPage) -> Vec<u64> {
    page.sessions.iter().map(|found| found.session.id.get()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()).unwrap()
}

/// Applies an event without the checks of `World::call`, which look at the whole table each time.
fn grow(world: &mut World, event: SessionEvent) {
    let revision = world.instance.table.revision().next();
    let change = Change::new(revision, Timestamp::default(), principal(T1), event);
    world.instance.table.apply(&change);
    world.folded.apply(&change);
}
