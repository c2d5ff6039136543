//! Directories that releases wrote open for ever after.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::SMALL;
use super::forgetful::Random;
use super::server::{changes, record};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::session::{Context, TransactionOwner};
use crate::domain::table::{Floor, SessionTable};
use crate::store::arbitrary::released;
use crate::store::log::disk::RealDisk;
use crate::store::log::{LogStore, Work};
use crate::store::{Journal, Progress, Store};

/// Set to write the directory of this format anew, on purpose.
const WRITE: &str = "JET_SESSION_WRITE_FIXTURE";

#[tokio::test(start_paused = true)]
async fn a_directory_of_format_1_opens_with_all_its_sessions() {
    let kept = released(1);
    if std::env::var_os(WRITE).is_some() {
        write(&kept.join("data")).await;
        fs::write(kept.join("expected.txt"), read(&kept.join("data")).await).unwrap();
    }
    assert_eq!(
        read(&kept.join("data")).await,
        fs::read_to_string(kept.join("expected.txt")).unwrap()
    );
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
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
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
