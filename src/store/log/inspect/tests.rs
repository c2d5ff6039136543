//! What is found in directories that a store has written, and what becomes of damaged ones.

mod gone;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;

use super::verify::{Checked, Verdict};
use super::*;
use crate::domain::event::Change;
use crate::domain::id::Revision;
use crate::domain::table::{Floor, SessionTable};
use crate::store::conformance::{begin_and_set, fold, record};
use crate::store::log::disk::{ReadOnlyDisk, RealDisk};

use crate::store::log::segment::BLOCK_BYTES;
use crate::store::log::{LogStore, Work, recover};
use crate::store::snapshot::About;
use crate::store::{Journal, Progress, Store, StoreError};

use super::dump::Entry;

const LOG: &str = "instances/a/1";
const FIRST: &str = "instances/a/1/00000000000000000001.log";
const SECOND: &str = "instances/a/1/00000000000000000005.log";
const THIRD: &str = "instances/a/1/00000000000000000009.log";
const OLDER: &str = "instances/a/1/00000000000000000006.snap";
const NEWER: &str = "instances/a/1/00000000000000000012.snap";
const RECORD_OF_A: &str = "instances/a/instance";

/// A directory with an instance `a`, and what was committed to it.
struct Made {
    dir: TempDir,
    all: Vec<Change>,
}

/// An instance whose log has three segments of three batches and a seal each; the last one only if it
/// is wanted. Behind the first and the second there is a snapshot.
async fn made(sealed: bool) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::new(RealDisk, dir.path(), Work::Inline);
    store.load().await.unwrap();
    store.create(&record("a")).await.unwrap();
    let mut all = Vec::new();
    for n in 0..9 {
        let mut journal = store.open(&record("a"), Progress::ignored()).await.unwrap().journal;
        for batch in 3 * n..3 * n + 3 {
            let changes = begin_and_set(2 * batch + 1, batch + 1);
            journal.commit(&changes).await.unwrap();
            all.extend(changes);
        }
        if n == 2 {
            if sealed {
                journal.close().await.unwrap();
            }
            break;
        }
        journal.close().await.unwrap();
        write_snapshot(&dir.path().join(LOG));
    }
    Made { dir, all }
}

/// Writes the snapshot that a server would write now.
fn write_snapshot(dir: &Path) {
    let now = recover::read(&RealDisk, dir, &record("a"), &Progress::ignored()).unwrap();
    let about = About {
        instance: record("a").id,
        uid: record("a").uid,
        created: record("a").created,
        position: now.cursor.position,
        taken: now.cursor.taken,
    };
    compact::write_snapshot(&RealDisk, dir, about, now.table, &false.into()).unwrap();
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn flip(&self, name: &str, at: usize) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        bytes[at] ^= 0x10;
        fs::write(self.path(name), bytes).unwrap();
    }

    fn looked_at(&self) -> Inspection<ReadOnlyDisk> {
        Inspection::new(ReadOnlyDisk, self.dir.path()).unwrap()
    }

    fn verified(&self) -> Vec<Checked> {
        self.looked_at().verify(None).unwrap()
    }

    /// What a server finds.
    async fn opened(&self) -> Result<SessionTable, StoreError> {
        let store = LogStore::new(RealDisk, self.dir.path(), Work::Inline);
        let mut catalog = store.load().await?;
        if let Some((_, error)) = catalog.damaged.pop() {
            return Err(error);
        }
        let opened = store.open(&catalog.instances[0], Progress::ignored()).await?;
        Ok(opened.table)
    }

    /// A copy on which anything can be tried.
    fn copy(&self) -> Made {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files(self.dir.path()) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Made { dir, all: self.all.clone() }
    }

    /// Repairs everything, and answers what is kept.
    async fn repaired(&self) -> SessionTable {
        repair_all(RealDisk, self.dir.path()).unwrap();
        let left = self.verified();
        assert_eq!(refused(&left), Vec::<&Checked>::new());
        self.opened().await.unwrap()
    }

    /// Checks that a table is what was true at this revision, in an epoch of its own.
    fn is_as_of(&self, table: &SessionTable, revision: usize) {
        let expected = fold(&self.all[..revision]);
        assert!(table.after(None).eq(expected.after(None)), "{table:?}");
        assert!(table.floor().epoch() > 0, "{:?}", table.floor());
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn gather(root: &Path, dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(root, &path, into);
            } else {
                let bytes = fs::read(&path).unwrap();
                into.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    let mut all = BTreeMap::new();
    gather(dir, dir, &mut all);
    all
}

fn refused(checked: &[Checked]) -> Vec<&Checked> {
    checked.iter().filter(|file| matches!(file.verdict, Verdict::Refused(_))).collect()
}

fn unsound(checked: &[Checked]) -> Vec<&Checked> {
    checked.iter().filter(|file| !matches!(file.verdict, Verdict::Sound(_))).collect()
}

/// Repairs the floor and every instance, as the command does.
fn repair_all<D: Disk>(disk: D, dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let directory = Inspection::new(disk, dir)?;
    let mut aside = Vec::new();
    if let Some(plan) = directory.plan_floor()? {
        aside.extend(directory.repair(plan)?.aside);
    }
    for id in directory.instances()? {
        if let Some(plan) = directory.plan(&id)? {
            aside.extend(directory.repair(plan)?.aside);
        }
    }
    Ok(aside)
}

#[tokio::test]
async fn verifying_a_whole_directory_finds_everything_sound_and_changes_nothing() {
    for sealed in [true, false] {
        let made = made(sealed).await;
        let before = files(made.dir.path());

        let checked = made.verified();

        assert_eq!(unsound(&checked), Vec::<&Checked>::new());
        let named: Vec<_> = checked.iter().map(|file| file.path.clone()).collect();
        assert!(before.keys().all(|path| named.contains(path)), "{named:?}");
        assert_eq!(files(made.dir.path()), before);
        assert_eq!(repair_all(ReadOnlyDisk, made.dir.path()).unwrap(), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn a_server_opens_exactly_what_was_not_refused() {
    for sealed in [true, false] {
        let made = made(sealed).await;
        let whole = made.opened_copy().await.unwrap();
        for (name, bytes) in files(made.dir.path()) {
            let name = name.to_str().unwrap().to_owned();
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            for at in (0..end).step_by(if end > 1_000 { 263 } else { 41 }) {
                let damaged = made.copy();
                damaged.flip(&name, at);

                let checked = damaged.verified();
                let opened = damaged.opened().await;

                assert_eq!(refused(&checked).is_empty(), opened.is_ok(), "{name} {at} {checked:?}");
                // The last frame of a log that was not sealed looks like a torn append.
                let torn = !sealed && name == THIRD && at > BLOCK_BYTES;
                assert!(torn || !unsound(&checked).is_empty(), "{name} at {at}");
                if let Ok(table) = opened {
                    assert!(torn || table == whole, "{name} at {at}");
                }
            }
        }
    }
}

#[tokio::test]
async fn everything_that_can_be_damaged_can_be_repaired() {
    let made = made(true).await;
    for (name, bytes) in files(made.dir.path()) {
        let name = name.to_str().unwrap().to_owned();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for at in (0..end).step_by(if end > 1_000 { 619 } else { 67 }) {
            let damaged = made.copy();
            damaged.flip(&name, at);
            if damaged.copy().opened().await.is_ok() {
                continue;
            }
            let table = damaged.repaired().await;

            let bound = table.len();
            let expected = fold(&made.all[..2 * bound]);
            assert!(table.after(None).eq(expected.after(None)), "{name} at {at}: {table:?}");
            if name == "floor" {
                continue;
            }
            assert!(bound >= 6, "both snapshots are whole: {name} at {at}");
            assert!(table.floor().epoch() > 0, "{name} at {at}");
        }
    }
}

#[tokio::test]
async fn a_log_is_cut_at_the_first_damage_and_put_aside() {
    let made = made(true).await;
    made.flip(THIRD, BLOCK_BYTES + 150);
    let before = files(made.dir.path());
    let plan = made.looked_at().plan(&record("a").id).unwrap().unwrap();
    expect_test::expect![[r#"
        [
            "7 sessions, 7 of them bound, as of revision 14, from instances/a/1/00000000000000000012.snap and the log behind it",
        ]
        [
            "revisions 15 to 18: 2 changes in 2 whole frames behind the damage, and what was in damaged places",
        ]"#]].assert_eq(&format!("{:#?}\n{:#?}", plan.kept, plan.lost));

    let table = made.repaired().await;

    made.is_as_of(&table, 14);
    for (path, bytes) in before {
        let Ok(rest) = path.strip_prefix(LOG) else { continue };
        let kept = fs::read(made.path("instances/a/1.damaged").join(rest)).unwrap();
        assert_eq!(kept, bytes, "{rest:?}");
    }
    let floor = Floor { revision: Revision::new(1 << 48), sesid: 1 << 48 };
    assert_eq!(table.floor(), floor);
    assert_eq!(made.looked_at().files.read_floor().unwrap(), floor);
}

#[tokio::test]
async fn damage_right_behind_the_newest_snapshot_leaves_the_snapshot() {
    let made = made(true).await;
    made.flip(SECOND, BLOCK_BYTES + 10);
    fs::remove_file(made.path(NEWER)).unwrap();
    assert!(made.copy().opened().await.is_err());
    let table = made.repaired().await;
    made.is_as_of(&table, 6);

    let made = self::made(true).await;
    fs::remove_file(made.path(NEWER)).unwrap();
    fs::remove_file(made.path(SECOND)).unwrap();
    let table = made.repaired().await;
    made.is_as_of(&table, 6);
}

#[tokio::test]
async fn frames_behind_a_snapshot_are_kept_though_those_before_it_are_damaged() {
    let made = made(true).await;
    let store = LogStore::new(RealDisk, made.dir.path(), Work::Inline);
    store.load().await.unwrap();
    let mut journal = store.open(&record("a"), Progress::ignored()).await.unwrap().journal;
    let (first, second) = (begin_and_set(19, 10), begin_and_set(21, 11));
    journal.commit(&first).await.unwrap();
    write_snapshot(&made.path(LOG));
    journal.commit(&second).await.unwrap();
    drop(journal);
    made.flip("instances/a/1/00000000000000000013.log", BLOCK_BYTES + 10);
    assert!(made.copy().opened().await.is_err());

    let table = made.repaired().await;

    let all: Vec<_> = made.all.iter().cloned().chain(first).chain(second).collect();
    assert!(table.after(None).eq(fold(&all).after(None)), "{table:?}");
}

#[tokio::test]
async fn without_any_snapshot_or_beginning_only_later_sessions_are_kept() {
    let made = made(true).await;
    for name in [OLDER, NEWER, FIRST] {
        fs::remove_file(made.path(name)).unwrap();
    }
    assert!(made.opened().await.is_err());

    let table = made.repaired().await;

    assert_eq!(table.len(), 6);
    assert!(table.after(None).eq(fold(&made.all).after(None).skip(3)));
}

#[tokio::test]
async fn a_restored_log_rests_on_the_snapshot_that_it_began_with() {
    let made = made(true).await;
    let store = LogStore::new(RealDisk, made.dir.path(), Work::Inline);
    store.load().await.unwrap();
    store.replace(&record("a"), fold(&made.all)).await.unwrap();
    for n in [10, 11] {
        let mut journal = store.open(&record("a"), Progress::ignored()).await.unwrap().journal;
        journal.commit(&begin_and_set(2 * n - 1, n)).await.unwrap();
        journal.close().await.unwrap();
        write_snapshot(&made.path("instances/a/2"));
    }
    let whole = made.copy();
    fs::remove_file(whole.path("instances/a/2/00000000000000000018.snap")).unwrap();
    assert_eq!(unsound(&whole.verified()), Vec::<&Checked>::new(), "there are later ones");

    for revision in [18, 20, 22] {
        fs::remove_file(made.path(&format!("instances/a/2/{revision:020}.snap"))).unwrap();
    }
    assert!(made.copy().opened().await.is_err());
    assert_eq!(refused(&made.verified()).len(), 1);
    let table = made.repaired().await;
    let sessions: Vec<u64> = table.after(None).map(|session| session.id.get()).collect();
    assert_eq!(sessions, [10, 11], "those that began since");
}

#[tokio::test]
async fn a_lost_record_is_made_anew() {
    for damage in ["flip", "remove"] {
        let made = made(true).await;
        match damage {
            "flip" => made.flip(RECORD_OF_A, 40),
            _ => fs::remove_file(made.path(RECORD_OF_A)).unwrap(),
        }
        let table = made.repaired().await;

        made.is_as_of(&table, 18);
        let (record, generation) = made.looked_at().files.read_record(&record("a").id).unwrap();
        assert_eq!((record.uid.as_str(), generation), ("c0ffee", 2));
        assert_eq!(made.path("instances/a/instance.damaged").exists(), damage == "flip");
    }
}

#[tokio::test]
async fn a_lost_floor_is_set_above_everything() {
    let made = made(true).await;
    fs::remove_file(made.path("floor")).unwrap();
    assert!(made.opened().await.is_err());

    let table = made.repaired().await;

    assert_eq!(table, fold(&made.all));
    assert_eq!(made.looked_at().files.read_floor().unwrap().epoch(), 1_024);
}

#[tokio::test]
async fn what_a_later_release_wrote_is_not_repaired() {
    let made = made(true).await;
    let newer = crate::domain::limits::LOG_FORMAT + 1;
    let payload = prost::Message::encode_to_vec(&crate::proto::storage::Segment {
        format: newer,
        uid: "c0ffee".to_owned(),
        ..Default::default()
    });
    let header = crate::store::frame::Header {
        kind: crate::store::frame::Kind::Segment,
        sequence: 9,
        revision: 12,
        previous: 0,
    };
    let mut block = Vec::new();
    crate::store::frame::write(&mut block, 0, header, |bytes| bytes.extend_from_slice(&payload));
    block.resize(BLOCK_BYTES, 0);
    fs::write(made.path(THIRD), block).unwrap();
    let before = files(made.dir.path());

    let refused = repair_all(RealDisk, made.dir.path()).unwrap_err();

    assert!(refused.to_string().contains("cannot be trusted"), "{refused}");
    assert_eq!(files(made.dir.path()), before);
}

#[tokio::test]
async fn a_repair_that_is_interrupted_anywhere_can_be_run_again() {
    let made = made(true).await;
    made.flip(THIRD, BLOCK_BYTES + 150);
    made.flip("floor", 5);
    for with_record in [false, true] {
        for steps in 0.. {
            let damaged = made.copy();
            if with_record {
                damaged.flip(RECORD_OF_A, 40);
            }
            let failing = FailingDisk { left: Arc::new(AtomicI64::new(steps)) };
            let outcome = repair_all(failing, damaged.dir.path());

            // Refused as before, or served as repaired; never anything else.
            if let Ok(table) = damaged.copy().opened().await {
                damaged.is_as_of(&table, 14);
            } else {
                assert!(outcome.is_err(), "step {steps}");
                assert!(!refused(&damaged.verified()).is_empty(), "step {steps}");
            }
            let table = damaged.repaired().await;
            damaged.is_as_of(&table, 14);
            let kept = files(damaged.dir.path()).into_keys().any(|path| {
                path.starts_with("instances/a/1.damaged") && path.ends_with(&THIRD[LOG.len() + 1..])
            });
            assert!(kept, "step {steps}");
            if outcome.is_ok() {
                assert!(steps > 10, "{steps}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_dump_tells_what_was_committed_up_to_the_damage() {
    let made = made(false).await;
    let told = |made: &Made, from: u64| {
        let mut changes = Vec::new();
        let outcome: Result<(), Fault> =
            made.looked_at().dump(&record("a").id, Revision::new(from), |_, entry| {
                if let Entry::Change(change) = entry {
                    changes.push((*change).clone());
                }
                Ok(())
            });
        (changes, outcome)
    };
    for from in 0..=19_u64 {
        let (changes, outcome) = told(&made, from);
        assert!(outcome.is_ok());
        let skipped = usize::try_from(from.saturating_sub(1)).unwrap().min(18);
        assert_eq!(changes, made.all[skipped..], "{from}");
    }
    made.flip(SECOND, BLOCK_BYTES + 150);

    let (changes, outcome) = told(&made, 0);

    assert_eq!(changes, made.all[..8]);
    let fault = outcome.unwrap_err();
    assert_eq!((fault.path(), fault.at()), (made.path(SECOND).as_path(), Some(4_200)));
    assert_eq!(told(&made, 13).0, made.all[12..], "what is behind the damage can be asked for");
}

#[tokio::test]
async fn a_snapshot_that_tells_something_else_than_the_log_is_found() {
    let made = made(true).await;
    let dir = made.path(LOG);
    let (about, table) = compact::read_snapshot(&RealDisk, &made.path(NEWER), |_| ()).unwrap();
    fs::remove_file(made.path(NEWER)).unwrap();
    let mut other = SessionTable::above(table.floor());
    other.raise(table.floor());
    compact::write_snapshot(&RealDisk, &dir, about, other, &false.into()).unwrap();

    let checked = made.verified();

    let found = refused(&checked);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, PathBuf::from(NEWER));
}

#[tokio::test]
async fn leftovers_are_named() {
    let made = made(true).await;
    let left = [
        "floor.tmp",
        "notes",
        "instances/b.new/x",
        "instances/b.deleted/x",
        "instances/a/gone",
        "instances/a/2/x",
        "instances/a/instance.damaged",
        "instances/a/1/spare.tmp",
        "instances/a/1/00000000000000000001-4096.torn",
    ];
    for name in left {
        fs::create_dir_all(made.path(name).parent().unwrap()).unwrap();
        fs::write(made.path(name), b"x").unwrap();
    }
    let checked = made.verified();

    let found: Vec<String> = checked
        .iter()
        .filter(|file| matches!(file.verdict, Verdict::Leftover(_)))
        .map(|file| file.path.display().to_string())
        .collect();
    for name in left {
        assert!(found.iter().any(|path| name.starts_with(path.as_str())), "{name}: {found:?}");
    }
    assert_eq!(found.len(), left.len());
    assert_eq!(refused(&checked), Vec::<&Checked>::new());
}

impl Made {
    async fn opened_copy(&self) -> Result<SessionTable, StoreError> {
        self.copy().opened().await
    }
}

/// A disk that changes so many things and then nothing more.
#[derive(Debug, Clone)]
struct FailingDisk {
    left: Arc<AtomicI64>,
}

#[derive(Debug)]
struct FailingFile {
    file: fs::File,
    left: Arc<AtomicI64>,
}

fn step(left: &AtomicI64) -> io::Result<()> {
    if left.fetch_sub(1, Ordering::Relaxed) > 0 { Ok(()) } else { Err(io::Error::other("stop")) }
}

impl FailingDisk {
    fn file(&self, file: fs::File) -> FailingFile {
        FailingFile { file, left: Arc::clone(&self.left) }
    }
}

impl Disk for FailingDisk {
    type File = FailingFile;

    fn create(&self, path: &Path) -> io::Result<FailingFile> {
        step(&self.left)?;
        Ok(self.file(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<FailingFile> {
        Ok(self.file(RealDisk.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        step(&self.left)?;
        RealDisk.sync_dir(dir)
    }
}

impl crate::store::log::disk::DiskFile for FailingFile {
    fn size(&self) -> io::Result<u64> {
        crate::store::log::disk::DiskFile::size(&self.file)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        crate::store::log::disk::DiskFile::read_at(&self.file, bytes, offset)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        step(&self.left)?;
        crate::store::log::disk::DiskFile::write_all_at(&mut self.file, bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        step(&self.left)?;
        crate::store::log::disk::DiskFile::set_len(&mut self.file, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        step(&self.left)?;
        crate::store::log::disk::DiskFile::sync(&mut self.file)
    }
}
