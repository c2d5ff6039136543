//! Random histories, also ones that no instance would write: applying a change is total.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::domain::id::ContextValue;
use crate::domain::lease::Thread;
use crate::domain::request::{AnswerKind, Made};
use crate::domain::session::{Binding, Context, HowLost, Lost, Transaction, TransactionOwner};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_change_can_be_applied_and_touches_only_its_session(history in history(&IDS)) {
        let mut table = SessionTable::default();
        for change in &history {
            let before = table.clone();
            table.apply(change);
            prop_assert_eq!(table.revision(), change.revision);
            prop_assert!(table.floor().sesid >= before.floor().sesid, "no sesid becomes new again");
            let named = named(&change.event);
            for id in IDS.map(sesid) {
                let others = named != Some(id) && change.event != SessionEvent::AllEnded;
                let missing = before.session(id).is_none() && !begins(&change.event);
                if others || missing {
                    prop_assert_eq!(table.session(id), before.session(id));
                } else if let Some(session) = table.session(id) {
                    prop_assert_eq!(session.revision, change.revision);
                }
            }
        }
    }

    #[test]
    fn counts_equal_a_recount_after_any_change(history in history(&IDS)) {
        let mut table = SessionTable::default();
        for change in &history {
            table.apply(change);
            let sessions = || table.after(None);
            prop_assert_eq!(table.len(), sessions().count());
            prop_assert_eq!(table.bound_count(), sessions().filter(|s| s.binding().is_some()).count());
            let open = sessions().filter(|s| s.transaction().is_some()).count();
            prop_assert_eq!(table.in_transaction_count(), open);
        }
    }

    #[test]
    fn threads_are_counted_and_answers_kept_whatever_happened(history in history(&IDS)) {
        let (mut table, mut again) = (SessionTable::default(), SessionTable::default());
        for change in &history {
            let before = table.retries().len();
            table.apply(change);
            let threads = table.threads();
            let leases = threads.iter().filter(|(_, thread)| thread.lease.is_some()).count();
            prop_assert_eq!(threads.leases(), leases);
            let nothing = |thread: &Thread| thread.lease.is_none() && thread.losses.is_empty();
            prop_assert!(!threads.iter().any(|(_, thread)| nothing(thread)));
            prop_assert!(table.retries().len() <= before + change.made.len());
            prop_assert_eq!(table.retries().len(), table.retries().iter().count());
        }
        history.iter().for_each(|change| again.apply(change));
        prop_assert_eq!(table, again);
    }

    #[test]
    fn a_copy_answers_as_the_original_although_it_has_no_index(history in history(&IDS)) {
        let mut table = SessionTable::default();
        for change in &history {
            table.apply(change);
            let copy = table.clone();
            for owner in [owner(T1), owner(T2), owner(BOBS_T1)] {
                prop_assert_eq!(table.held_count(&owner), copy.held_count(&owner));
                prop_assert_eq!(table.held(&owner, 2), copy.held(&owner, 2));
                let after = Bound::Excluded(&owner);
                prop_assert_eq!(table.holders(after, 9), copy.holders(after, 9));
            }
            for pool in POOLS {
                let ((size, free), slowly) = (table.pool(&labels(pool)), copy.pool(&labels(pool)));
                prop_assert_eq!(size, slowly.0);
                // Revisions come twice in such a history, so that two may be free equally long.
                let since = |id: Option<SessionId>| id.map(|id| table.session(id).unwrap().revision);
                prop_assert_eq!(since(free), since(slowly.1));
            }
        }
    }

    #[test]
    fn a_table_and_its_copies_are_what_a_plain_map_would_be(
        history in history(&[1, 62, 63, 64, 65, 66, 127, 128, 1_000]),
        copied_every in 1_usize..8,
    ) {
        let (mut table, mut plain) = (SessionTable::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for (nth, change) in history.iter().enumerate() {
            if nth % copied_every == 0 {
                copies.push((table.clone(), plain.clone()));
            }
            table.apply(change);
            apply_plainly(&mut plain, change);
        }
        copies.push((table, plain));
        for (table, plain) in copies {
            prop_assert!(table.after(None).eq(plain.values()));
            prop_assert_eq!(table.len(), plain.len());
            prop_assert_eq!(table.bound_count(), plain.values().filter(|s| s.binding().is_some()).count());
            for after in (1..=130).map(sesid) {
                prop_assert_eq!(table.session(after), plain.get(&after));
                let rest = plain.range((Bound::Excluded(after), Bound::Unbounded));
                prop_assert!(table.after(Some(after)).eq(rest.map(|(_, session)| session)));
            }
        }
    }
}

/// The same fold on a map of sessions and nothing else.
fn apply_plainly(sessions: &mut BTreeMap<SessionId, Session>, change: &Change) {
    let Change { revision, time, .. } = change;
    let mut edit = |id: &SessionId, edit: &dyn Fn(&mut Session)| {
        if let Some(session) = sessions.get_mut(id) {
            edit(session);
            session.revision = *revision;
        }
    };
    match &change.event {
        SessionEvent::Began { session, labels } => {
            sessions.insert(*session, Session::new(*session, labels.clone(), *time, *revision));
        }
        SessionEvent::ContextSet { session, owner, context } => edit(session, &|session| {
            session.context = Context::Set(Binding {
                context: *context,
                owner: owner.clone(),
                token: *revision,
                since: *time,
            });
        }),
        SessionEvent::ContextReset { session, how } => edit(session, &|session| {
            let lost = match (how, session.binding()) {
                (HowReset::ByHolder, _) => {
                    session.set_lost(None);
                    session.set_abandoned(session.abandoned() && session.transaction().is_some());
                    None
                }
                (_, None) => None,
                (HowReset::LeaseExpired, Some(held)) => Some((held.clone(), HowLost::LeaseExpired)),
                (HowReset::Forced(reason), Some(held)) => {
                    Some((held.clone(), HowLost::Forced(reason.clone())))
                }
            };
            if let Some((Binding { owner, token, .. }, how)) = lost {
                let (by, time) = (change.by.clone(), *time);
                session.set_lost(Some(Lost { owner, token, how, by, time }));
                session.set_abandoned(true);
            }
            session.context = Context::Reset;
        }),
        SessionEvent::TransactionBegan { session, transaction } => edit(session, &|session| {
            session.set_transaction(Some(transaction.clone()));
        }),
        SessionEvent::TransactionCommitted { session, left }
        | SessionEvent::TransactionRolledBack { session, left } => edit(session, &|session| {
            session.set_abandoned(session.abandoned() && left.is_some());
            session.set_transaction(left.clone());
        }),
        SessionEvent::Ended { session, forced: _ } => {
            sessions.remove(session);
        }
        SessionEvent::ContextTransferred { session, to } => edit(session, &|session| {
            if let Context::Set(binding) = &mut session.context {
                let owner = std::mem::replace(&mut binding.owner, to.clone());
                let token = std::mem::replace(&mut binding.token, *revision);
                binding.since = *time;
                let (by, how, time) = (change.by.clone(), HowLost::Transferred, *time);
                session.set_lost(Some(Lost { owner, token, how, by, time }));
            }
        }),
        SessionEvent::AllEnded => sessions.clear(),
        SessionEvent::LeaseSet { .. }
        | SessionEvent::LeaseEnded { .. }
        | SessionEvent::ServingBegan { .. }
        | SessionEvent::ServedUntil { .. } => {}
    }
}

/// Sessions in a random history.
const IDS: [u64; 5] = [1, 2, 3, 4, 5];

fn history(ids: &'static [u64]) -> impl Strategy<Value = Vec<Change>> {
    let change = (0..50_u64, any::<i64>(), event(ids), made()).prop_map(
        |(revision, micros, event, made)| Change {
            revision: Revision::new(revision),
            time: Timestamp::from_micros(micros),
            by: principal(T1),
            event,
            made,
        },
    );
    prop::collection::vec(change, 1..=40)
}

const POOLS: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];

/// Requests that a change was the effect of: none, or up to two.
fn made() -> impl Strategy<Value = Vec<Made>> {
    let answer = prop_oneof![
        (any::<u32>(), prop::option::of((0..99_u64).prop_map(seconds))).prop_map(
            |(waiters, lease_remaining)| AnswerKind::Session { waiters, lease_remaining }
        ),
        any::<u32>().prop_map(AnswerKind::Sessions),
        Just(AnswerKind::Revision),
        Just(AnswerKind::Level),
        Just(AnswerKind::Done),
    ];
    let by = prop::sample::select(vec![principal(T1), principal(BOBS_T1)]);
    let made = (by, 0..5_u64, answer).prop_map(|(by, n, answer)| {
        let request = Request { id: n.to_string().parse().unwrap(), body: Fingerprint::new(n) };
        Made { by, request, answer }
    });
    prop::collection::vec(made, 0..=2)
}

fn event(ids: &'static [u64]) -> impl Strategy<Value = SessionEvent> {
    let id = || prop::sample::select(ids).prop_map(sesid);
    let context = || (1..u64::MAX).prop_map(|word| ContextValue::new(word).unwrap());
    let owner = || prop::sample::select(vec![owner(T1), owner(T2), owner(BOBS_T1)]);
    let transaction = move || {
        let bound_to = prop_oneof![
            context().prop_map(TransactionOwner::Context),
            owner().prop_map(TransactionOwner::Thread),
        ];
        (1..=7_u8, bound_to).prop_map(|(level, to)| Transaction::at_level(level, to).unwrap())
    };
    let left = move || prop::option::of(transaction());
    let served = || any::<u64>().prop_map(Served::from_micros);
    let how = prop_oneof![
        Just(HowReset::ByHolder),
        Just(HowReset::LeaseExpired),
        Just(HowReset::Forced("its host is gone".parse().unwrap())),
    ];
    let forced = prop::option::of(Just("its host is gone".parse().unwrap()));
    prop_oneof![
        4 => (id(), prop::sample::select(&POOLS[..])).prop_map(|(session, keys)| {
            SessionEvent::Began { session, labels: labels(keys) }
        }),
        4 => (id(), owner(), context()).prop_map(|(session, owner, context)| {
            SessionEvent::ContextSet { session, owner, context }
        }),
        4 => (id(), how).prop_map(|(session, how)| SessionEvent::ContextReset { session, how }),
        2 => (id(), owner()).prop_map(|(session, to)| {
            SessionEvent::ContextTransferred { session, to }
        }),
        4 => (id(), transaction()).prop_map(|(session, transaction)| {
            SessionEvent::TransactionBegan { session, transaction }
        }),
        2 => (id(), left()).prop_map(|(session, left)| {
            SessionEvent::TransactionCommitted { session, left }
        }),
        2 => (id(), left()).prop_map(|(session, left)| {
            SessionEvent::TransactionRolledBack { session, left }
        }),
        2 => (id(), forced).prop_map(|(session, forced)| SessionEvent::Ended { session, forced }),
        1 => Just(SessionEvent::AllEnded),
        3 => (owner(), any::<Duration>(), served()).prop_map(|(owner, ttl, since)| {
            SessionEvent::LeaseSet { owner, ttl, since }
        }),
        1 => owner().prop_map(|owner| SessionEvent::LeaseEnded { owner }),
        1 => served().prop_map(|at| SessionEvent::ServingBegan { at }),
        1 => served().prop_map(|at| SessionEvent::ServedUntil { at }),
    ]
}

/// The session of an event, unless it is about all.
fn named(event: &SessionEvent) -> Option<SessionId> {
    event.session()
}

fn begins(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::Began { .. })
}
