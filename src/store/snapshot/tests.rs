//! Snapshots are read as they were written, whatever they hold, and bounded.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Labels, Owner, Principal, Revision, SessionId};
use crate::domain::lease::Lease;
use crate::domain::limits::{
    BACKUP_CHUNK_BYTES_MAX, BATCH_BEGIN_MAX, LABEL_BYTES_MAX, LABELS_MAX, LEASES_MAX,
    OWNERS_LISTED_MAX, PRINCIPAL_BYTES_MAX, REASON_BYTES_MAX, REQUEST_ID_BYTES_MAX,
    THREAD_ID_BYTES_MAX,
};
use crate::domain::request::{Answer, AnswerKind, Fingerprint, Made, Request};
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::table::{Remembered, SessionTable};
use crate::domain::time::Served;
use crate::store::{arbitrary, record};

proptest! {
    #[test]
    fn a_table_is_read_as_it_was_written_in_pieces_of_any_size(
        table in arbitrary::table(),
        taken: (u64, u64),
        sizes in prop::collection::vec(1_usize..3_000, 1..8),
    ) {
        let about = About { taken: record::floor(taken.0, taken.1), ..about() };
        let bytes: Vec<u8> = Encoder::new(about.clone(), table.clone()).flatten().collect();
        let mut decoder = Decoder::new(1_000);
        let mut rest = bytes.as_slice();
        for size in sizes.into_iter().cycle() {
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            decoder.push(piece).unwrap();
            rest = behind;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(decoder.finish(), Ok((about, table)));
    }

    /// A backup, and a snapshot that is taken for one, become the same instance.
    #[test]
    fn a_restored_table_has_sessions_and_leases_and_nobody_repeats_anything(
        mut table in arbitrary::table(),
    ) {
        let next = table.floor().next_epoch().unwrap();
        let mut restored = Vec::new();
        for encoder in [Encoder::backup(about(), table.clone()), Encoder::new(about(), table.clone())] {
            let mut decoder = Decoder::of_backup(1_000);
            for frame in encoder {
                decoder.push(&frame).unwrap();
            }
            let (_, mut read) = decoder.finish().unwrap();
            prop_assert_eq!(read.retries().len(), 0);
            read.restore(next);
            restored.push(read);
        }
        table.restore(next);
        prop_assert_eq!(&restored[0], &table);
        prop_assert_eq!(&restored[1], &table);
        prop_assert_eq!(table.threads().losses(), 0);
        for (_, lease) in table.threads().leases_after(std::ops::Bound::Unbounded) {
            prop_assert_eq!((lease.since, lease.starts), (table.threads().served(), 0));
        }
    }
}

#[test]
fn the_largest_of_everything_fits_into_frames() {
    let mut table = SessionTable::default();
    let by = Principal::new(&"p".repeat(PRINCIPAL_BYTES_MAX));
    for n in 0..40 {
        let thread = |of: &str| {
            let name = format!("{of}{n:0>width$}", width = THREAD_ID_BYTES_MAX - 1);
            Owner::new(by.clone(), name.parse().unwrap())
        };
        let session = table.next_sesid().unwrap();
        let context = ContextValue::new(u64::MAX - 1).unwrap();
        let set = |owner| SessionEvent::ContextSet { session, owner, context };
        let reason = "r".repeat(REASON_BYTES_MAX).parse().unwrap();
        let bound_to = TransactionOwner::Thread(thread("b"));
        let transaction = Transaction::outermost(bound_to);
        apply(&mut table, SessionEvent::Began { session, labels: longest_labels() }, None);
        apply(&mut table, set(thread("a")), None);
        apply(&mut table, SessionEvent::TransactionBegan { session, transaction }, None);
        let how = HowReset::Forced(reason);
        apply(&mut table, SessionEvent::ContextReset { session, how }, None);
        let answer = AnswerKind::Session { waiters: u32::MAX, lease_remaining: None };
        apply(&mut table, set(thread("c")), Some(made(&by, n, answer)));
    }
    let bytes = written(&table);
    assert_eq!(read(&bytes), Ok(table));
}

/// A thousand sessions that one call began are one answer of the size of one session.
#[test]
fn a_remembered_batch_is_small_and_answers_all_of_it() {
    const CALLS: u32 = 3;
    let mut table = SessionTable::default();
    let by = Principal::anonymous();
    for call in 0..CALLS {
        for nth in 1..=BATCH_BEGIN_MAX {
            let session = table.next_sesid().unwrap();
            let event = SessionEvent::Began { session, labels: longest_labels() };
            let last = (nth == BATCH_BEGIN_MAX)
                .then(|| made(&by, call, AnswerKind::Sessions(BATCH_BEGIN_MAX)));
            apply(&mut table, event, last);
        }
        // Nothing of what becomes of them later is in the answer.
        let ended = SessionId::new(u64::from(call) * u64::from(BATCH_BEGIN_MAX) + 1).unwrap();
        apply(&mut table, SessionEvent::Ended { session: ended, forced: None }, None);
    }
    let without = {
        let mut table = table.clone();
        *table.retries_mut() = Default::default();
        written(&table).len()
    };
    let bytes = written(&table);
    assert!(bytes.len() - without < CALLS as usize * 2 * 1024, "{}", bytes.len() - without);

    let table = read(&bytes).unwrap();
    let answers: Vec<_> = table.retries().iter().map(|(_, kept)| &kept.answer).collect();
    for (answer, call) in answers.iter().zip(0..) {
        let Answer::Sessions(begun) = answer else { panic!("{answer:?}") };
        let first = call * u64::from(BATCH_BEGIN_MAX) + 1;
        let views = begun.views();
        let ids: Vec<_> = views.iter().map(|view| view.session.id.get()).collect();
        assert_eq!(ids, (first..first + u64::from(BATCH_BEGIN_MAX)).collect::<Vec<_>>());
        assert!(views.iter().all(|view| view.session.labels == longest_labels()));
        let revisions: Vec<_> = views.iter().map(|view| view.session.revision.get()).collect();
        assert!(revisions.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }
    assert_eq!(answers.len(), CALLS as usize);
}

/// Nothing is held back: what is given out is what has come.
#[test]
fn answers_leave_the_copy_of_a_table_while_they_are_written() {
    let mut table = SessionTable::default();
    let by = Principal::anonymous();
    let request =
        |n: u64| Request { id: format!("{n}").parse().unwrap(), body: Fingerprint::new(n) };
    for n in 0..50_000 {
        let answer = Answer::Revision(Revision::ZERO);
        let remembered = Remembered { request: request(n), time: Timestamp::default(), answer };
        assert!(table.retries_mut().load(&by, remembered));
    }
    let mut encoder = Encoder::new(about(), table.clone());
    let (mut decoder, mut before) = (Decoder::new(0), 0);
    while let Some(frame) = encoder.next() {
        assert!(frame.len() <= BACKUP_CHUNK_BYTES_MAX);
        decoder.push(&frame).unwrap();
        assert!(before <= encoder.percent() && encoder.percent() == decoder.percent());
        before = encoder.percent();
    }
    let (_, found) = decoder.finish().unwrap();
    assert_eq!(found, table);
    let last = found.retries().find(&by, &request(49_999).id, Timestamp::default());
    assert_eq!(last.map(|kept| kept.request.clone()), Some(request(49_999)));
}

#[test]
fn many_threads_are_listed_anew() {
    let mut table = SessionTable::default();
    let owner = |n| Owner::new(Principal::anonymous(), format!("t/{n}").parse().unwrap());
    let lease = Lease { ttl: Duration::from_secs(60), since: Served::from_micros(7), starts: 2 };
    for n in 0..2 * OWNERS_LISTED_MAX {
        table.threads_mut().put_lease(&owner(n), lease);
    }
    assert_eq!(read(&written(&table)), Ok(table));
}

/// What says something impossible is refused, however right its checksums are.
#[test]
fn what_contradicts_itself_is_refused() {
    let by = Principal::anonymous();
    let owner = Owner::new(by.clone(), "t".parse().unwrap());
    let session = SessionId::new(1).unwrap();
    let began = |table: &mut SessionTable| {
        apply(table, SessionEvent::Began { session, labels: Labels::default() }, None);
    };
    let refused = |what: &str, spoil: &dyn Fn(&mut SessionTable)| {
        let mut table = SessionTable::default();
        began(&mut table);
        spoil(&mut table);
        let found = read(&written(&table));
        assert!(
            matches!(
                found,
                Err(NotASnapshot::Damaged { what: Damage::Contradiction | Damage::Payload(_), .. })
            ),
            "{what}: {found:?}"
        );
    };
    let lease = |ttl| Lease { ttl, since: Served::default(), starts: 0 };
    refused("a lease of no length", &|table| {
        table.threads_mut().put_lease(&owner, lease(Duration::ZERO));
    });
    refused("a lease of a year", &|table| {
        table.threads_mut().put_lease(&owner, lease(Duration::from_secs(365 * 86_400)));
    });
    let loss = |token| crate::domain::lease::Loss {
        session,
        cause: crate::domain::lease::LossCause::Forced,
        token: Revision::new(token),
        time: Timestamp::default(),
        told_until: Timestamp::default(),
    };
    refused("a loss under a token that was not issued yet", &|table| {
        assert!(table.threads_mut().put_loss(&owner, loss(2)));
    });
    let remember = |table: &mut SessionTable, answer| {
        let request = Request { id: "r".parse().unwrap(), body: Fingerprint::new(1) };
        let remembered = Remembered { request, time: Timestamp::default(), answer };
        assert!(table.retries_mut().load(&by, remembered));
    };
    refused("an answer from later than the last change", &|table| {
        remember(table, Answer::Revision(Revision::new(2)));
    });
    refused("a level that there is not", &|table| remember(table, Answer::Level(8)));
    refused("sessions that never began", &|table| {
        let begun = crate::domain::request::Begun {
            first: session,
            revision: Revision::new(1),
            count: 2,
            labels: Labels::default(),
            created: Timestamp::default(),
        };
        remember(table, Answer::Sessions(Box::new(begun)));
    });
}

/// What a stranger sends is bounded before it is taken.
#[test]
fn a_backup_with_more_leases_than_there_may_be_is_refused_at_its_beginning() {
    let message = |lease_count| crate::proto::storage::Snapshot {
        format: 2,
        id: "main".into(),
        lease_count,
        ..Default::default()
    };
    let max = LEASES_MAX as u64;
    for (count, taken) in [(max, true), (max + 1, false)] {
        let mut bytes = Vec::new();
        let kind = crate::store::frame::Kind::Snapshot;
        let header = crate::store::frame::Header { kind, sequence: 0, revision: 0, previous: 0 };
        crate::store::frame::write(&mut bytes, SALT, header, |bytes| {
            prost::Message::encode(&message(count), bytes).unwrap();
        });
        assert_eq!(Decoder::of_backup(9).push(&bytes).is_ok(), taken, "{count}");
        assert!(Decoder::new(9).push(&bytes).is_ok(), "our own may have more");
    }
}

fn about() -> About {
    About {
        instance: "main".parse().unwrap(),
        uid: Uid::new("c0ffee"),
        created: Timestamp::from_micros(3),
        position: Position { sequence: 4, checksum: 5 },
        taken: Floor::default(),
    }
}

/// The bytes of a snapshot of which no frame is too long.
fn written(table: &SessionTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in Encoder::new(about(), table.clone()) {
        assert!(frame.len() <= BACKUP_CHUNK_BYTES_MAX, "{}", frame.len());
        bytes.extend_from_slice(&frame);
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<SessionTable, NotASnapshot> {
    let mut decoder = Decoder::new(1_000_000);
    decoder.push(bytes)?;
    decoder.finish().map(|(_, table)| table)
}

fn apply(table: &mut SessionTable, event: SessionEvent, made: Option<Made>) {
    let (revision, by) = (table.revision().next(), Principal::anonymous());
    let change = Change::new(revision, Timestamp::from_micros(3), by, event);
    table.apply(&Change { made: Vec::from_iter(made), ..change });
}

fn made(by: &Principal, n: u32, answer: AnswerKind) -> Made {
    let id = format!("{n:0>width$}", width = REQUEST_ID_BYTES_MAX).parse().unwrap();
    let request = Request { id, body: Fingerprint::new(u64::MAX) };
    Made { by: by.clone(), request, answer }
}

fn longest_labels() -> Labels {
    let label = |n| (format!("{n:0>LABEL_BYTES_MAX$}"), "v".repeat(LABEL_BYTES_MAX));
    Labels::new((0..LABELS_MAX).map(label).collect()).unwrap()
}
