//! The largest batch that can be decided fits into a frame, also one of a queue.

use std::time::Duration;

use super::server::record;
use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Labels, Owner, Principal, Revision, SessionId};
use crate::domain::instance::Durability;
use crate::domain::limits::{
    BATCH_BEGIN_MAX, BATCH_CHANGES_MAX, CALL_CHANGES_MAX, CHANGE_BYTES_MAX, LABEL_BYTES_MAX,
    LABELS_MAX, LAZY_BYTES_MAX, LAZY_SYNC_MS_MAX, PRINCIPAL_BYTES_MAX, REASON_BYTES_MAX,
    REQUEST_ID_BYTES_MAX, THREAD_ID_BYTES_MAX, TRANSACTION_LEVEL_MAX,
};
use crate::domain::request::{AnswerKind, Fingerprint, Made, Request};
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::{Served, Timestamp};
use crate::store::log::disk::RealDisk;
use crate::store::log::{LogStore, Work};
use crate::store::{Journal, Opened, Progress, Store, record};

#[test]
fn no_change_is_larger_than_a_change_may_be() {
    let session = SessionId::new(u64::MAX).unwrap();
    let (owner, reason) = (owner(), "r".repeat(REASON_BYTES_MAX).parse().ok());
    let context = ContextValue::new(u64::MAX - 1).unwrap();
    let bound_to = TransactionOwner::Thread(owner.clone());
    let transaction = Transaction::at_level(TRANSACTION_LEVEL_MAX, bound_to).unwrap();
    let (since, ttl) = (Served::from_micros(u64::MAX), Duration::from_micros(u64::MAX));
    let forced = HowReset::Forced(reason.clone().unwrap());
    for (event, requests) in [
        (SessionEvent::Began { session, labels: labels() }, 1),
        (SessionEvent::ContextSet { session, owner: owner.clone(), context }, 1),
        (SessionEvent::ContextReset { session, how: forced }, 1),
        (SessionEvent::ContextTransferred { session, to: owner.clone() }, 2),
        (SessionEvent::TransactionBegan { session, transaction }, 1),
        (SessionEvent::Ended { session, forced: reason }, 1),
        (SessionEvent::LeaseSet { owner, ttl, since }, 1),
    ] {
        let change = Change { made: vec![made(); requests], ..change(u64::MAX, event) };
        let mut bytes = Vec::new();
        record::write_changes(&[change], &mut bytes);
        assert!(bytes.len() <= CHANGE_BYTES_MAX, "{}", bytes.len());
    }
}

/// As many changes as make a batch just not full, a call that begins a thousand sessions, and those who
/// waited for them; all names, and eight labels, as long as they may be.
fn largest_batch(first: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut next = first..;
    let mut happen = |event| changes.push(change(next.next().unwrap(), event));
    let begun = BATCH_CHANGES_MAX as u64 - 1 + u64::from(BATCH_BEGIN_MAX);
    let sessions = (first..first + begun).filter_map(SessionId::new);
    for session in sessions.clone() {
        happen(SessionEvent::Began { session, labels: labels() });
    }
    let (ttl, since) = (Duration::from_secs(86_400), Served::default());
    for session in sessions.take(BATCH_BEGIN_MAX as usize) {
        let context = ContextValue::new(u64::MAX - 1).unwrap();
        happen(SessionEvent::ContextSet { session, owner: owner(), context });
        happen(SessionEvent::LeaseSet { owner: owner(), ttl, since });
    }
    assert_eq!(changes.len(), BATCH_CHANGES_MAX - 1 + CALL_CHANGES_MAX);
    // Every call of it can be made again.
    changes.iter_mut().for_each(|change| change.made.push(made()));
    changes
}

#[tokio::test(start_paused = true)]
async fn the_largest_batch_is_kept_whole() {
    for durability in [Durability::Flush, Durability::Lazy] {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::new(RealDisk, dir.path(), Work::Inline);
        store.load().await.unwrap();
        let record = record("flush", durability, Floor::default());
        store.create(&record).await.unwrap();
        let Opened { mut journal, mut table, .. } =
            store.open(&record, Progress::ignored()).await.unwrap();
        // Something waits for its late sync, as much as may wait, when the largest batch comes.
        let mut batches = vec![Vec::new(), Vec::new()];
        let mut bytes = Vec::new();
        for change in largest_batch(1) {
            if bytes.len() + CHANGE_BYTES_MAX > LAZY_BYTES_MAX {
                break;
            }
            record::write_changes(std::slice::from_ref(&change), &mut bytes);
            batches[0].push(change);
        }
        batches[1] = largest_batch(batches[0].len() as u64 + 1);
        for batch in &batches {
            journal.commit(batch).await.unwrap();
            batch.iter().for_each(|change| table.apply(change));
        }
        tokio::time::sleep(Duration::from_millis(LAZY_SYNC_MS_MAX)).await;
        drop(journal);

        let Opened { table: found, .. } = store.open(&record, Progress::ignored()).await.unwrap();
        assert!(remembered(&found) == remembered(&table), "{durability:?}");
    }
}

/// After an unclean end a LAZY instance goes on with other numbers.
fn remembered(table: &SessionTable) -> impl PartialEq + '_ {
    (table.after(None).collect::<Vec<_>>(), table.threads(), table.retries())
}

fn change(revision: u64, event: SessionEvent) -> Change {
    let by = Principal::new(&"p".repeat(PRINCIPAL_BYTES_MAX));
    Change::new(Revision::new(revision), Timestamp::from_micros(-1), by, event)
}

fn made() -> Made {
    let id = "i".repeat(REQUEST_ID_BYTES_MAX).parse().unwrap();
    Made {
        by: Principal::new(&"q".repeat(PRINCIPAL_BYTES_MAX)),
        request: Request { id, body: Fingerprint::new(u64::MAX) },
        answer: AnswerKind::Session {
            waiters: u32::MAX,
            lease_remaining: Some(Duration::from_micros(u64::MAX)),
        },
    }
}

fn owner() -> Owner {
    let thread = "t".repeat(THREAD_ID_BYTES_MAX).parse().unwrap();
    Owner::new(Principal::new(&"o".repeat(PRINCIPAL_BYTES_MAX)), thread)
}

fn labels() -> Labels {
    let label = |n| (format!("{n:0>LABEL_BYTES_MAX$}"), "v".repeat(LABEL_BYTES_MAX));
    Labels::new((0..LABELS_MAX).map(label).collect()).unwrap()
}
