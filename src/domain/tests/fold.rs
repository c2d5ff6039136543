//! Random histories, also ones that no instance would write: applying a change is total.

use proptest::prelude::*;

use super::*;
use crate::domain::id::ContextValue;
use crate::domain::session::{Transaction, TransactionOwner};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_change_can_be_applied_and_touches_only_its_session(history in history()) {
        let mut table = SessionTable::default();
        for change in &history {
            let before = table.clone();
            table.apply(change);
            prop_assert_eq!(table.revision(), change.revision);
            prop_assert!(table.floor().sesid >= before.floor().sesid, "no sesid becomes new again");
            let named = named(&change.event);
            for id in (1..=IDS).map(sesid) {
                let others = named.is_some_and(|named| named != id);
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
    fn counts_equal_a_recount_after_any_change(history in history()) {
        let mut table = SessionTable::default();
        for change in &history {
            table.apply(change);
            let sessions = || table.after(None);
            prop_assert_eq!(table.len(), sessions().count());
            prop_assert_eq!(table.bound_count(), sessions().filter(|s| s.binding().is_some()).count());
            let open = sessions().filter(|s| s.transaction.is_some()).count();
            prop_assert_eq!(table.in_transaction_count(), open);
        }
    }
}

/// Sessions in a random history.
const IDS: u64 = 5;

fn history() -> impl Strategy<Value = Vec<Change>> {
    let change =
        (any::<u64>(), any::<i64>(), event()).prop_map(|(revision, micros, event)| Change {
            revision: Revision::new(revision),
            time: Timestamp::from_micros(micros),
            by: principal(T1),
            event,
        });
    prop::collection::vec(change, 1..=40)
}

fn event() -> impl Strategy<Value = SessionEvent> {
    let id = || (1..=IDS).prop_map(sesid);
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
    let forced = prop::option::of(Just("its host is gone".parse().unwrap()));
    prop_oneof![
        4 => id().prop_map(|session| SessionEvent::Began { session, labels: Labels::default() }),
        4 => (id(), owner(), context()).prop_map(|(session, owner, context)| {
            SessionEvent::ContextSet { session, owner, context }
        }),
        2 => id().prop_map(|session| SessionEvent::ContextReset { session }),
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
    ]
}

/// The session of an event, unless it is about all.
fn named(event: &SessionEvent) -> Option<SessionId> {
    match event {
        SessionEvent::Began { session, .. }
        | SessionEvent::ContextSet { session, .. }
        | SessionEvent::ContextReset { session }
        | SessionEvent::TransactionBegan { session, .. }
        | SessionEvent::TransactionCommitted { session, .. }
        | SessionEvent::TransactionRolledBack { session, .. }
        | SessionEvent::Ended { session, .. } => Some(*session),
        SessionEvent::AllEnded => None,
    }
}

fn begins(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::Began { .. })
}
