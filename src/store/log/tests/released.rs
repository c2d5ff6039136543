//! Directories that releases wrote open for ever after.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use prost::Message;

use super::SMALL;
use super::forgetful::Random;
use super::server::{changes, record};
use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{ContextValue, Labels, Owner, Principal, SessionId};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::lease::Lease;
use crate::domain::limits::LOG_FORMAT;
use crate::domain::request::{Answer, AnswerKind, Fingerprint, Made, Request};
use crate::domain::session::{Context, TransactionOwner};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::{Served, Timestamp};
use crate::proto::storage as pb;
use crate::store::arbitrary::released;
use crate::store::frame;
use crate::store::log::disk::RealDisk;
use crate::store::log::{LogStore, Work};
use crate::store::snapshot::SALT;
use crate::store::{Journal, Progress, Store};

/// Set to write the directory of this format anew, on purpose.
const WRITE: &str = "JET_SESSION_WRITE_FIXTURE";

#[tokio::test(start_paused = true)]
async fn a_directory_of_every_format_opens_with_all_that_it_tells() {
    if std::env::var_os(WRITE).is_some() {
        let kept = released(LOG_FORMAT);
        write(&kept.join("data")).await;
        fs::write(kept.join("expected.txt"), read(&kept.join("data")).await).unwrap();
    }
    for format in 1..=LOG_FORMAT {
        let kept = released(format);
        let expected = fs::read_to_string(kept.join("expected.txt")).unwrap();
        assert_eq!(read(&kept.join("data")).await, expected, "format {format}");
    }
}

/// A release that knows nothing of leases would drop them without a word: it must refuse instead.
#[test]
fn what_is_written_now_says_so() {
    let newest = released(LOG_FORMAT).join("data/instances/long/1");
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(newest).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => {
                let (frame, _) = frame::read(&bytes, 0).unwrap();
                pb::Segment::decode(frame.payload).unwrap().format
            }
            Some("snap") => {
                let (frame, _) = frame::read(&bytes, SALT).unwrap();
                pb::Snapshot::decode(frame.payload).unwrap().format
            }
            _ => continue,
        };
        *kinds.entry(format).or_insert(0) += 1;
    }
    assert_eq!(kinds.into_keys().collect::<Vec<_>>(), [LOG_FORMAT]);
}

/// A log that an older release began goes on as one of the newest format.
#[tokio::test(start_paused = true)]
async fn a_log_of_format_1_goes_on_and_keeps_what_only_format_2_can() {
    let dir = tempfile::tempdir().unwrap();
    copy(&released(1).join("data"), dir.path());
    let store = LogStore::new(RealDisk, dir.path(), Work::Inline).with_sizes(SMALL);
    let catalog = store.load().await.unwrap();
    for record in &catalog.instances {
        let opened = store.open(record, Progress::ignored()).await.unwrap();
        let (mut journal, mut table, mut random) = (opened.journal, opened.table, Random(9));
        for _ in 0..20 {
            journal.commit(&changes(&mut table, &mut random, 9)).await.unwrap();
            journal.settle(&table);
        }
        assert!(!table.retries().is_empty() && !table.threads().is_empty());
        journal.close().await.unwrap();
        let opened = store.open(record, Progress::ignored()).await.unwrap();
        assert_eq!(opened.table, table, "{}", record.id);
    }
}

/// Everything that a copy of the directory tells of.
async fn read(kept: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    copy(kept, dir.path());
    let store = LogStore::new(RealDisk, dir.path(), Work::Inline);
    let catalog = store.load().await.unwrap();
    assert!(catalog.damaged.is_empty(), "{:?}", catalog.damaged);
    let mut text = format!("floor {} {}\n", catalog.floor.revision, catalog.floor.sesid);
    for record in &catalog.instances {
        let opened = store.open(record, Progress::ignored()).await.unwrap();
        describe(record, &opened.table, &mut text);
    }
    text
}

fn describe(record: &InstanceRecord, table: &SessionTable, text: &mut String) {
    let InstanceRecord {
        id,
        uid,
        labels,
        max_sessions,
        durability,
        created,
        updated,
        floor,
        resting,
        ended,
        created_by: _,
        replays: _,
    } = record;
    let labels: Vec<_> = labels.iter().collect();
    writeln!(
        text,
        "\ninstance {id} uid {} labels {labels:?} max {max_sessions} {durability:?} {resting:?} \
         created {} updated {} floor {} {} ended {ended}\nrevision {} sesid {} issued {:?}",
        uid.as_str(),
        created.micros(),
        updated.micros(),
        floor.revision,
        floor.sesid,
        table.revision(),
        table.floor().sesid,
        table.issued(),
    )
    .unwrap();
    describe_sessions(table, text);
    describe_threads(table, text);
    for (by, kept) in table.retries().iter() {
        let (request, time) = (&kept.request, kept.time.micros());
        let answer = match &kept.answer {
            Answer::Session(view) => {
                format!(
                    "session {} waiters {} lease {:?}",
                    view.session.id, view.waiters, view.lease
                )
            }
            Answer::Sessions(begun) => {
                format!("{} sessions from {} at {}", begun.count, begun.first, begun.revision)
            }
            Answer::Revision(revision) => format!("revision {revision}"),
            Answer::Level(level) => format!("level {level}"),
            Answer::Done => "done".to_owned(),
        };
        let body = request.body.get();
        writeln!(text, "answer to {by} {} {body:#x} at {time}: {answer}", request.id).unwrap();
    }
}

fn describe_threads(table: &SessionTable, text: &mut String) {
    let threads = table.threads();
    if threads.served() > Served::default() {
        writeln!(text, "served {}", threads.served().micros()).unwrap();
    }
    for (owner, lease) in threads.leases_after(Bound::Unbounded) {
        let Lease { ttl, since, starts } = lease;
        writeln!(
            text,
            "lease of {}/{} {ttl:?} since {} starts {starts}",
            owner.principal(),
            owner.thread(),
            since.micros(),
        )
        .unwrap();
    }
    for (owner, loss) in threads.losses_from(0).flatten() {
        writeln!(
            text,
            "loss of {}/{} session {} {:?} token {} at {} told until {}",
            owner.principal(),
            owner.thread(),
            loss.session,
            loss.cause,
            loss.token,
            loss.time.micros(),
            loss.told_until.micros(),
        )
        .unwrap();
    }
}

fn describe_sessions(table: &SessionTable, text: &mut String) {
    for session in table.after(None) {
        let labels: Vec<_> = session.labels.iter().collect();
        let context = match &session.context {
            Context::NeverSet => "never set".to_owned(),
            Context::Reset => "reset".to_owned(),
            Context::Set(binding) => format!(
                "{:#x} by {}/{} token {} since {}",
                binding.context.get(),
                binding.owner.principal(),
                binding.owner.thread(),
                binding.token,
                binding.since.micros(),
            ),
        };
        let transaction = session.transaction().map_or("none".to_owned(), |open| {
            let bound_to = match open.bound_to() {
                TransactionOwner::Context(word) => format!("{:#x}", word.get()),
                TransactionOwner::Thread(owner) => {
                    format!("{}/{}", owner.principal(), owner.thread())
                }
            };
            format!("level {} of {bound_to}", open.level())
        });
        writeln!(
            text,
            "session {} created {} revision {} labels {labels:?} context {context} \
             transaction {transaction}",
            session.id,
            session.created.micros(),
            session.revision,
        )
        .unwrap();
        if let Some(lost) = session.lost() {
            writeln!(
                text,
                "  lost by {}/{} token {} {:?} by {} at {}",
                lost.owner.principal(),
                lost.owner.thread(),
                lost.token,
                lost.how,
                lost.by,
                lost.time.micros(),
            )
            .unwrap();
        }
        if session.abandoned() {
            writeln!(text, "  abandoned").unwrap();
        }
    }
}

/// Writes the directory: see the README beside it.
async fn write(dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    fs::create_dir_all(dir).unwrap();
    let store = LogStore::new(RealDisk, dir, Work::Inline).with_sizes(SMALL);
    store.load().await.unwrap();
    store.raise(Floor { sesid: 100, ..Floor::default() }).await.unwrap();
    for (name, durability, batches, sealed) in [
        ("sealed", Durability::Flush, 2, true),
        ("long", Durability::Flush, 14, true),
        ("torn", Durability::Flush, 5, false),
        ("lazy", Durability::Lazy, 3, false),
    ] {
        let floor = Floor { sesid: 100, ..Floor::default() };
        let resting = if name == "sealed" { Resting::Stopped } else { Resting::Ready };
        let record = InstanceRecord { resting, ..record(name, durability, floor) };
        store.create(&record).await.unwrap();
        let opened = store.open(&record, Progress::ignored()).await.unwrap();
        let (mut journal, mut table, mut random) = (opened.journal, opened.table, Random(5));
        for _ in 0..batches {
            journal.commit(&changes(&mut table, &mut random, 12)).await.unwrap();
            journal.settle(&table);
        }
        journal.commit(&memorable(&mut table)).await.unwrap();
        if name == "long" {
            // So much that a snapshot is taken of what is memorable.
            let session = |nth| table.floor().sesid + nth;
            let label = |nth| (format!("label {nth}"), "words".repeat(12));
            let labels = Labels::new((0..8).map(label).collect()).unwrap();
            let began = |nth| SessionEvent::Began {
                session: SessionId::new(session(nth)).unwrap(),
                labels: labels.clone(),
            };
            let events = (1..=20).map(began).collect();
            let batch = made_true(&mut table.clone(), events);
            journal.commit(&batch).await.unwrap();
            batch.iter().for_each(|change| table.apply(change));
            journal.settle(&table);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if sealed {
            journal.close().await.unwrap();
        }
    }
    let names = fs::read_dir(dir.join("instances/torn/1")).unwrap();
    let paths = names.map(|entry| entry.unwrap().path());
    let path = paths.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(8);
    // Half of an append: the beginning of a frame that was there before.
    bytes.copy_within(4_096..4_096 + 100, end);
    fs::write(path, bytes).unwrap();
}

/// One of everything that format 2 can tell and format 1 cannot.
fn memorable(table: &mut SessionTable) -> Vec<Change> {
    let first = table.floor().sesid + 1;
    let session = |nth| SessionId::new(first + nth).unwrap();
    let owner = |name: &str| Owner::new(Principal::anonymous(), name.parse().unwrap());
    let context = ContextValue::new(42).unwrap();
    let set =
        |nth, name| SessionEvent::ContextSet { session: session(nth), owner: owner(name), context };
    let reset = |nth, how| SessionEvent::ContextReset { session: session(nth), how };
    let served = |more| table.threads().served().after(Duration::from_secs(more));
    let forced = || "it hung".parse().unwrap();
    let (ttl, since) = (Duration::from_millis(1_500), served(1));
    let mut events: Vec<_> = (0..6)
        .map(|nth| SessionEvent::Began { session: session(nth), labels: Labels::default() })
        .collect();
    events.extend((0..5).map(|nth| set(nth, "memorable")));
    events.extend([
        SessionEvent::LeaseSet { owner: owner("memorable"), ttl, since },
        SessionEvent::LeaseSet { owner: owner("ended"), ttl, since },
        SessionEvent::LeaseEnded { owner: owner("ended") },
        SessionEvent::ServingBegan { at: served(2) },
        SessionEvent::ServedUntil { at: served(3) },
        reset(0, HowReset::LeaseExpired),
        reset(1, HowReset::Forced(forced())),
        SessionEvent::ContextTransferred { session: session(2), to: owner("successor") },
        SessionEvent::Ended { session: session(3), forced: Some(forced()) },
        reset(4, HowReset::ByHolder),
        set(5, "memorable"),
    ]);
    let mut changes = made_true(&mut table.clone(), events);
    let answer = |waiters| AnswerKind::Session {
        waiters,
        lease_remaining: Some(Duration::from_millis(700)),
    };
    for (nth, by, id, answer) in [
        (5, "anonymous", "six sessions", AnswerKind::Sessions(6)),
        (17, "anonymous", "forced", AnswerKind::Revision),
        (18, "anonymous", "transferred", AnswerKind::Revision),
        (18, "somebody", "succeeded", answer(1)),
        (19, "anonymous", "ended", AnswerKind::Done),
        (20, "anonymous", "reset", AnswerKind::Level),
        (21, "anonymous", "123e4567-e89b-12d3-a456-426614174000", answer(2)),
    ] {
        let id = id.replace(' ', "-").parse().unwrap();
        let request = Request { id, body: Fingerprint::new(0xC0_FFEE) };
        changes[nth].made.push(Made { by: Principal::new(by), request, answer });
    }
    changes.iter().for_each(|change| table.apply(change));
    changes
}

/// Changes with these events, behind the last one of the table.
fn made_true(table: &mut SessionTable, events: Vec<SessionEvent>) -> Vec<Change> {
    let change = |event| {
        let by = Principal::anonymous();
        let change = Change::new(table.revision().next(), Timestamp::from_micros(3), by, event);
        table.apply(&change);
        change
    };
    events.into_iter().map(change).collect()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
