//! What every backend must mean, as code. A backend's whole test of the trait is one call of
//! [`check`].

use std::future::Future;
use std::time::Duration;

use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::gone::Gone;
use crate::domain::id::{ContextValue, Labels, Owner, Principal, Revision, SessionId, Uid};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::request::{Answer, AnswerKind, Fingerprint, Made, Request};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::{Served, Timestamp};
use crate::store::{Changes, CommitError, History, Journal, NoHistory, Past, Progress, Store};

/// Checks one backend; `fresh` makes an empty store of it each time.
pub(crate) async fn check<S: Store, F: Future<Output = S>>(fresh: impl Fn() -> F) {
    an_empty_store_remembers_nothing(fresh().await).await;
    records_are_remembered_as_last_written(fresh().await).await;
    a_committed_batch_is_read_back(fresh().await).await;
    batches_add_up_in_order(fresh().await).await;
    a_gap_or_a_repetition_is_a_conflict(fresh().await).await;
    a_dropped_journal_keeps_what_it_acknowledged(fresh().await).await;
    instances_do_not_mix(fresh().await).await;
    deleting_raises_the_floor_for_ever(fresh().await).await;
    what_is_kept_of_a_deleted_instance_outlives_it(fresh().await).await;
    a_floor_can_be_raised_and_never_sinks(fresh().await).await;
    numbers_begin_above_the_floor(fresh().await).await;
    replacing_changes_record_and_sessions_together(fresh().await).await;
    the_past_is_told_exactly_or_not_at_all(fresh().await).await;
    leases_losses_and_answers_are_given_back(fresh().await).await;
}

async fn an_empty_store_remembers_nothing(store: impl Store) {
    let catalog = store.load().await.unwrap();
    assert!(catalog.instances.is_empty());
    assert_eq!(catalog.floor, Floor::default());
}

async fn records_are_remembered_as_last_written(store: impl Store) {
    store.create(&record("b")).await.unwrap();
    store.create(&record("a")).await.unwrap();
    let stopped = InstanceRecord { resting: Resting::Stopped, ..record("b") };
    store.update(&stopped).await.unwrap();

    assert_eq!(store.load().await.unwrap().instances, [record("a"), stopped]);
    assert!(store.create(&record("a")).await.is_err(), "a name is used once");
    assert!(store.update(&record("c")).await.is_err(), "only what exists is replaced");
}

async fn a_committed_batch_is_read_back(store: impl Store) {
    let batch = begin_and_set(1, 1);
    let mut journal = created(&store, "a").await;
    journal.commit(&batch).await.unwrap();
    journal.close().await.unwrap();

    assert_eq!(reopened(&store, "a").await.1, fold(&batch));
}

async fn batches_add_up_in_order(store: impl Store) {
    let mut journal = created(&store, "a").await;
    let mut all = Vec::new();
    for n in 0..20 {
        let batch = begin_and_set(2 * n + 1, n + 1);
        journal.commit(&batch).await.unwrap();
        all.extend(batch);
    }
    all.push(change(41, SessionEvent::AllEnded));
    journal.commit(&all[40..]).await.unwrap();
    journal.close().await.unwrap();

    let (_, table) = reopened(&store, "a").await;
    assert_eq!(table, fold(&all));
    assert_eq!(table.floor(), Floor { revision: Revision::new(41), sesid: 20 });
}

async fn a_gap_or_a_repetition_is_a_conflict(store: impl Store) {
    let mut journal = created(&store, "a").await;
    journal.commit(&begin_and_set(1, 1)).await.unwrap();

    for wrong in [1, 2, 4] {
        let refused = journal.commit(&begin_and_set(wrong, 2)).await;
        assert!(
            matches!(refused, Err(CommitError::Conflict { found }) if found == Revision::new(2)),
            "{wrong}: {refused:?}",
        );
        journal = reopened(&store, "a").await.0;
    }
    assert_eq!(reopened(&store, "a").await.1, fold(&begin_and_set(1, 1)));
}

async fn a_dropped_journal_keeps_what_it_acknowledged(store: impl Store) {
    let mut journal = created(&store, "a").await;
    journal.commit(&begin_and_set(1, 1)).await.unwrap();
    drop(journal);

    assert_eq!(reopened(&store, "a").await.1, fold(&begin_and_set(1, 1)));
}

async fn instances_do_not_mix(store: impl Store) {
    let mut a = created(&store, "a").await;
    let mut b = created(&store, "b").await;
    a.commit(&begin_and_set(1, 1)).await.unwrap();
    b.commit(&[began(1, 1)]).await.unwrap();
    a.close().await.unwrap();
    b.close().await.unwrap();

    assert_eq!(reopened(&store, "a").await.1, fold(&begin_and_set(1, 1)));
    assert_eq!(reopened(&store, "b").await.1, fold(&[began(1, 1)]));
}

async fn deleting_raises_the_floor_for_ever(store: impl Store) {
    let mut journal = created(&store, "a").await;
    journal.commit(&begin_and_set(1, 1)).await.unwrap();
    journal.close().await.unwrap();
    store.create(&record("b")).await.unwrap();

    let floor = Floor { revision: Revision::new(2), sesid: 1 };
    assert_eq!(store.delete(&record("a").id, None).await.unwrap(), floor);
    assert_eq!(store.delete(&record("b").id, None).await.unwrap(), floor, "floors never sink");
    let catalog = store.load().await.unwrap();
    assert!(catalog.instances.is_empty());
    assert_eq!(catalog.floor, floor);
    assert!(store.delete(&record("a").id, None).await.is_err(), "it is gone");
}

async fn what_is_kept_of_a_deleted_instance_outlives_it(store: impl Store) {
    let mut kept = Vec::new();
    for (name, uid) in [("a", "1"), ("a", "2"), ("b", "3")] {
        let record = InstanceRecord { uid: Uid::new(uid), ..record(name) };
        store.create(&record).await.unwrap();
        kept.push(gone(&record));
        store.delete(&record.id, kept.last()).await.unwrap();
    }
    // Of this one nothing is kept.
    store.create(&record("a")).await.unwrap();
    store.delete(&record("a").id, None).await.unwrap();
    store.create(&record("a")).await.unwrap();

    assert_eq!(all_gone(&store).await, kept);
    assert!(store.delete(&record("c").id, Some(&kept[0])).await.is_err(), "there is none");
    for _ in 0..2 {
        store.forget(&kept[1]).await.unwrap();
        assert_eq!(all_gone(&store).await, [kept[0].clone(), kept[2].clone()]);
    }
    assert_eq!(store.load().await.unwrap().instances, [record("a")]);
}

/// What is kept of deleted instances, in the order of their uids.
async fn all_gone(store: &impl Store) -> Vec<Gone> {
    let mut gone = store.load().await.unwrap().gone;
    gone.sort_by_key(|gone| gone.record.uid.as_str().to_owned());
    gone
}

/// What is kept of an instance that a request deletes which may come again.
pub(crate) fn gone(record: &InstanceRecord) -> Gone {
    let id = format!("deletes-{}", record.uid.as_str()).parse().unwrap();
    let request = Request { id, body: Fingerprint::new(7) };
    let now = Timestamp::from_micros(5);
    Gone::of(record, &Principal::anonymous(), Some(&request), now).unwrap()
}

async fn a_floor_can_be_raised_and_never_sinks(store: impl Store) {
    let high = Floor { revision: Revision::new(9), sesid: 3 };
    store.raise(high).await.unwrap();
    store.raise(Floor { revision: Revision::new(5), sesid: 5 }).await.unwrap();

    let expected = Floor { revision: Revision::new(9), sesid: 5 };
    assert_eq!(store.load().await.unwrap().floor, expected);
}

async fn replacing_changes_record_and_sessions_together(store: impl Store) {
    assert!(store.replace(&record("a"), SessionTable::default()).await.is_err(), "none is there");
    let mut journal = created(&store, "a").await;
    journal.commit(&begin_and_set(1, 1)).await.unwrap();
    journal.close().await.unwrap();

    let table = fold(&begin_and_set(1, 4));
    let restored = InstanceRecord { uid: Uid::new("decaf"), floor: table.floor(), ..record("a") };
    store.replace(&restored, table.clone()).await.unwrap();

    assert_eq!(store.load().await.unwrap().instances, [restored]);
    let (mut journal, read_back) = reopened(&store, "a").await;
    assert_eq!(read_back, table);
    journal.commit(&[began(3, 5)]).await.unwrap();
    journal.close().await.unwrap();
    assert_eq!(reopened(&store, "a").await.1.len(), 2, "its history goes on");
}

async fn numbers_begin_above_the_floor(store: impl Store) {
    let floor = Floor { revision: Revision::new(7), sesid: 5 };
    store.create(&InstanceRecord { floor, ..record("a") }).await.unwrap();
    let (mut journal, table) = reopened(&store, "a").await;
    assert_eq!(table, SessionTable::above(floor));

    journal.commit(&[began(8, 6)]).await.unwrap();
    journal.close().await.unwrap();
    assert_eq!(
        reopened(&store, "a").await.1.floor(),
        Floor { revision: Revision::new(8), sesid: 6 },
    );
}

async fn the_past_is_told_exactly_or_not_at_all(store: impl Store) {
    let mut journal = created(&store, "a").await;
    let mut all = Vec::new();
    let batch = |n: u64| begin_and_set(2 * n + 1, n + 1);
    for n in 0..20 {
        journal.commit(&batch(n)).await.unwrap();
        all.extend(batch(n));
        journal.settle(&fold(&all));
    }
    let history = journal.history();
    let mut open = check_past(&*history, &all).await;
    if let Some(open) = &mut open {
        assert!(open.next().await.unwrap().is_empty(), "nothing has happened yet");
    }
    for n in 20..25 {
        journal.commit(&batch(n)).await.unwrap();
        all.extend(batch(n));
        journal.settle(&fold(&all));
    }
    if let Some(open) = &mut open {
        assert_eq!(rest(&mut **open).await, &all[40..], "what happens meanwhile is told too");
    }
    journal.close().await.unwrap();
    let (journal, _) = reopened(&store, "a").await;
    check_past(&*journal.history(), &all).await;
}

/// Asks for the past from every revision on. Answers what tells the changes after the last, if the past is
/// kept at all.
async fn check_past(history: &dyn History, all: &[Change]) -> Option<Box<dyn Changes>> {
    let oldest = history.oldest().await.unwrap();
    for (from, before) in (1..).zip(0..all.len()) {
        let from = Revision::new(from);
        match history.since(from).await {
            Ok(Past { table, mut changes }) => {
                assert!(oldest.is_some_and(|oldest| oldest <= from));
                assert_eq!(table, fold(&all[..before]), "the sessions before {from}");
                assert_eq!(rest(&mut *changes).await, &all[before..], "from {from} on");
            }
            Err(NoHistory::Before(first)) => {
                assert!(oldest.is_none_or(|oldest| from < oldest && first == oldest), "{from}");
            }
            Err(error @ NoHistory::Unreadable(_)) => panic!("{error}"),
        }
    }
    let next = Revision::new(all.len() as u64 + 1);
    oldest?;
    Some(history.since(next).await.unwrap().changes)
}

async fn rest(changes: &mut dyn Changes) -> Vec<Change> {
    let mut all = Vec::new();
    loop {
        let some = changes.next().await.unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// So often that every backend which writes its state down from time to time has done so.
async fn leases_losses_and_answers_are_given_back(store: impl Store) {
    let mut journal = created(&store, "a").await;
    let mut table = SessionTable::default();
    for n in 0..60 {
        for batch in [begin_and_set(table.revision().get() + 1, 3 * n + 1).to_vec(), owned(n)] {
            let next = table.revision().next().get();
            let changes: Vec<_> = (next..)
                .zip(batch)
                .map(|(revision, change)| Change { revision: Revision::new(revision), ..change })
                .collect();
            journal.commit(&changes).await.unwrap();
            changes.iter().for_each(|change| table.apply(change));
            journal.settle(&table);
        }
    }
    journal.close().await.unwrap();

    let (mut journal, found) = reopened(&store, "a").await;
    assert_eq!(found, table);
    assert_eq!((found.threads().leases(), found.threads().losses()), (60, 60));
    assert!(found.session(SessionId::new(1).unwrap()).unwrap().abandoned());
    let answer = |n: u32| {
        let id = format!("request-{n}").parse().unwrap();
        let kept = found.retries().find(&Principal::anonymous(), &id, Timestamp::from_micros(3));
        kept.map(|kept| kept.answer.clone())
    };
    for n in 0..60 {
        let Some(Answer::Sessions(begun)) = answer(n) else { panic!("{n}") };
        assert_eq!(begun.views().len(), 2);
    }
    assert_eq!(answer(60), None);

    // The end of all sessions is that of leases, and of nobody's answer.
    let end = change(table.revision().get() + 1, SessionEvent::AllEnded);
    journal.commit(std::slice::from_ref(&end)).await.unwrap();
    table.apply(&end);
    journal.close().await.unwrap();
    let (_, found) = reopened(&store, "a").await;
    assert_eq!(found, table);
    assert_eq!((found.threads().leases(), found.retries().len()), (0, 60));
}

/// A thread comes to have a lease and loses a session, and two sessions begin with one call.
fn owned(n: u64) -> Vec<Change> {
    let thread = format!("thread-{n}").parse().unwrap();
    let owner = Owner::new(Principal::anonymous(), thread);
    let (ttl, since) = (Duration::from_secs(30), Served::from_micros(n));
    let session = |nth| SessionId::new(3 * n + nth).unwrap();
    let began = |nth| SessionEvent::Began { session: session(nth), labels: Labels::default() };
    let mut changes: Vec<_> = [
        SessionEvent::LeaseSet { owner: owner.clone(), ttl, since },
        SessionEvent::ContextTransferred { session: session(1), to: owner },
        SessionEvent::ContextReset { session: session(1), how: HowReset::LeaseExpired },
        began(2),
        began(3),
    ]
    .map(|event| change(0, event))
    .into();
    let id = format!("request-{n}").parse().unwrap();
    let request = Request { id, body: Fingerprint::new(n) };
    let answer = AnswerKind::Sessions(2);
    changes[4].made.push(Made { by: Principal::anonymous(), request, answer });
    changes
}

async fn created<S: Store>(store: &S, id: &str) -> S::Journal {
    store.create(&record(id)).await.unwrap();
    reopened(store, id).await.0
}

/// Opens an instance by the record that the store remembers.
async fn reopened<S: Store>(store: &S, id: &str) -> (S::Journal, SessionTable) {
    let catalog = store.load().await.unwrap();
    let record = catalog.instances.iter().find(|record| record.id.as_str() == id).unwrap();
    let opened = store.open(record, Progress::ignored()).await.unwrap();
    (opened.journal, opened.table)
}

pub(crate) fn record(id: &str) -> InstanceRecord {
    InstanceRecord {
        id: id.parse().unwrap(),
        uid: Uid::new("c0ffee"),
        labels: Labels::new([("zone".to_owned(), "x".to_owned())].into()).unwrap(),
        max_sessions: 10,
        durability: Durability::Flush,
        created: Timestamp::from_micros(1),
        updated: Timestamp::from_micros(2),
        floor: Floor::default(),
        resting: Resting::Created,
        ended: Revision::ZERO,
        created_by: None,
        replays: Default::default(),
    }
}

pub(crate) fn change(revision: u64, event: SessionEvent) -> Change {
    Change {
        revision: Revision::new(revision),
        time: Timestamp::from_micros(3),
        by: Principal::anonymous(),
        event,
        made: Vec::new(),
    }
}

pub(crate) fn began(revision: u64, sesid: u64) -> Change {
    let session = SessionId::new(sesid).unwrap();
    change(revision, SessionEvent::Began { session, labels: Labels::default() })
}

/// Two changes, the first at `revision`.
pub(crate) fn begin_and_set(revision: u64, sesid: u64) -> [Change; 2] {
    let set = SessionEvent::ContextSet {
        session: SessionId::new(sesid).unwrap(),
        owner: Owner::new(Principal::anonymous(), "t".parse().unwrap()),
        context: ContextValue::new(7).unwrap(),
    };
    [began(revision, sesid), change(revision + 1, set)]
}

pub(crate) fn fold(changes: &[Change]) -> SessionTable {
    let mut table = SessionTable::default();
    changes.iter().for_each(|change| table.apply(change));
    table
}
