//! What a log remembers of the past, while it goes on, is cut, damaged and given up.

use std::path::{Path, PathBuf};

use super::SMALL;
use super::forgetful::{ForgetfulDisk, Kept, Random};
use super::server::{changes, record};
use crate::domain::event::Change;
use crate::domain::id::Revision;
use crate::domain::instance::{Durability, InstanceRecord};
use crate::domain::table::{Floor, Retries, SessionTable};
use crate::store::log::compact::{self, Beginning};
use crate::store::log::disk::{Disk, DiskFile};
use crate::store::log::{LogJournal, LogStore, Sizes, Work, segment};
use crate::store::{Changes, Journal, NoHistory, Opened, Past, Progress, Store};

/// Room for a few snapshots beyond those that are needed.
const ROOMY: Sizes = Sizes { history_max: 48 * 1024, ..SMALL };

/// A log that is written to, and everything that it was told.
struct Written {
    disk: ForgetfulDisk,
    record: InstanceRecord,
    sizes: Sizes,
    journal: LogJournal<ForgetfulDisk>,
    table: SessionTable,
    /// What was committed, and the sessions before each change.
    all: Vec<(SessionTable, Change)>,
    random: Random,
}

impl Written {
    async fn new(durability: Durability, sizes: Sizes) -> Self {
        let disk = ForgetfulDisk::new();
        let record = record("flush", durability, Floor::default());
        let store = store(&disk, sizes);
        store.load().await.unwrap();
        store.create(&record).await.unwrap();
        let Opened { journal, table, .. } = store.open(&record, Progress::ignored()).await.unwrap();
        Self { disk, record, sizes, journal, table, all: Vec::new(), random: Random(3) }
    }

    async fn commit(&mut self, batches: usize) {
        for _ in 0..batches {
            let mut table = self.table.clone();
            let batch = changes(&mut self.table, &mut self.random, 5);
            self.journal.commit(&batch).await.unwrap();
            for change in batch {
                self.all.push((without_answers(&table), change.clone()));
                table.apply(&change);
            }
            self.journal.settle(&self.table);
        }
    }

    /// The same log opened again on another disk, or on this one after a crash.
    async fn reopen(&mut self, disk: ForgetfulDisk) -> Revision {
        self.disk = disk;
        let store = store(&self.disk, self.sizes);
        store.load().await.unwrap();
        let opened = store.open(&self.record, Progress::ignored()).await.unwrap();
        (self.journal, self.table) = (opened.journal, opened.table);
        opened.remembered
    }

    async fn oldest(&self) -> u64 {
        self.journal.history().oldest().await.unwrap().expect("something is kept").get()
    }

    /// The past from there on, to its end.
    async fn since(&self, from: u64) -> Result<(SessionTable, Vec<Change>), NoHistory> {
        let Past { table, mut changes } = self.journal.history().since(Revision::new(from)).await?;
        Ok((table, rest(&mut *changes).await?))
    }

    /// Everything that is kept is told as it was, and nothing else is. Of many, some are asked for.
    async fn check(&self) {
        let oldest = self.oldest().await;
        let step = u64::try_from(self.all.len() / 60 + 1).unwrap();
        for (before, change) in &self.all {
            let from = change.revision.get();
            if from % step != 0 && from.abs_diff(oldest) > 3 {
                continue;
            }
            match self.since(from).await {
                Ok((table, told)) => {
                    assert!(from >= oldest, "{from} is told, {oldest} is the oldest");
                    assert_eq!(table, *before, "before {from}");
                    let behind = self.all.iter().map(|(_, change)| change);
                    let behind = behind.filter(|change| change.revision.get() >= from);
                    assert!(told.iter().eq(behind), "from {from} on");
                }
                Err(NoHistory::Before(first)) => {
                    assert!(from < oldest && first.get() == oldest, "{from} {first} {oldest}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn dir(&self) -> PathBuf {
        PathBuf::from("/instances/flush/1")
    }
}

#[tokio::test]
async fn what_is_kept_is_told_and_is_no_more_than_it_may_be() {
    let mut written = Written::new(Durability::Flush, ROOMY).await;
    let mut oldest_before = 0;
    for _ in 0..30 {
        written.commit(10).await;
        let oldest = written.oldest().await;
        assert!(oldest >= oldest_before, "what is gone does not come back");
        oldest_before = oldest;

        let (disk, dir) = (&written.disk, written.dir());
        let names = disk.list(&dir).unwrap();
        let snapshots = compact::snapshots(&dir, &names);
        let size = |path: &Path| disk.open(path).unwrap().size().unwrap();
        let beginnings = compact::beginnings(disk, &dir, &names).unwrap();
        assert!(beginnings.len() >= snapshots.len(), "no snapshot is kept without its segments");
        let Some(older) = snapshots.get(1) else { continue };
        let Some(Beginning::Snapshot { position, path, .. }) = beginnings.get(1) else {
            panic!("two are kept: {beginnings:?}");
        };
        assert_eq!(path, older);
        let firsts: Vec<_> = names.iter().filter_map(|name| segment::first_of(name)).collect();
        let needed = firsts.iter().rposition(|first| *first <= position.sequence + 1).unwrap();
        let history = firsts[..needed].iter().map(|first| size(&dir.join(segment::name(*first))));
        let history =
            history.sum::<u64>() + snapshots[2..].iter().map(|path| size(path)).sum::<u64>();
        assert!(history <= ROOMY.history_max, "{history}");
    }
    assert!(oldest_before > 1, "the beginning has gone");
    let names = written.disk.list(&written.dir()).unwrap();
    assert!(compact::snapshots(&written.dir(), &names).len() > 2, "{names:?}");
    written.check().await;
    let disk = written.disk.clone();
    written.journal.close().await.unwrap();
    let mut written = Written { journal: open(&disk, &written.record).await, ..written };
    written.check().await;
    written.commit(3).await;
    written.check().await;
}

#[tokio::test]
async fn a_log_that_was_never_cut_is_told_from_its_beginning() {
    let mut written = Written::new(Durability::Flush, Sizes::default()).await;
    written.commit(20).await;
    assert_eq!(written.oldest().await, 1);
    written.check().await;
}

/// Everything behind it is deleted and written anew while it is read.
#[tokio::test]
async fn a_reader_of_the_past_goes_on_while_the_log_does() {
    let mut written = Written::new(Durability::Flush, SMALL).await;
    written.commit(40).await;
    let from = written.oldest().await;
    let mut told = Vec::new();
    let Past { mut changes, .. } =
        written.journal.history().since(Revision::new(from)).await.unwrap();
    // Not a frame behind: it stays in the segment that is being written.
    for _ in 0..200 {
        told.extend(rest(&mut *changes).await.unwrap());
        written.commit(1).await;
    }
    told.extend(rest(&mut *changes).await.unwrap());
    let behind = written.all.iter().map(|(_, change)| change);
    assert!(told.iter().eq(behind.skip(usize::try_from(from).unwrap() - 1)));
}

#[tokio::test]
async fn a_reader_that_is_overtaken_is_told_what_is_left() {
    let mut written = Written::new(Durability::Flush, SMALL).await;
    written.commit(40).await;
    let from = Revision::new(written.oldest().await);
    let Past { mut changes, .. } = written.journal.history().since(from).await.unwrap();
    written.commit(200).await;

    let overtaken = rest(&mut *changes).await;

    let oldest = written.oldest().await;
    assert!(
        matches!(overtaken, Err(NoHistory::Before(first)) if first.get() == oldest),
        "{overtaken:?}",
    );
    assert!(matches!(changes.next().await, Err(NoHistory::Unreadable(_))), "and no more");
    written.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_and_lost_is_not_passed_over() {
    let mut written = Written::new(Durability::Lazy, Sizes::default()).await;
    written.commit(4).await;
    let kept = written.table.revision().get();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    written.commit(3).await;
    let answered = written.table.revision().get();

    // The power fails before what was answered last is written.
    let disk = written.disk.image(Kept::Nothing);
    let remembered = written.reopen(disk).await.get();

    let current = written.table.revision().get();
    assert_eq!(remembered, kept);
    assert!(current > answered, "no number comes twice");
    written.all.truncate(usize::try_from(kept).unwrap());
    written.commit(2).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for from in 1..=current + 3 {
        let told = written.since(from).await.map(|(_, told)| told);
        if from <= kept + 1 || from > current {
            let behind = written.all.iter().map(|(_, change)| change);
            let behind = behind.filter(|change| change.revision.get() >= from);
            assert!(told.unwrap().iter().eq(behind), "from {from} on");
        } else {
            assert!(
                matches!(told, Err(NoHistory::Before(first)) if first.get() == current + 1),
                "{from} was lost: {told:?}",
            );
        }
        if from == answered + 5 {
            // Those between are all alike.
            let told = written.since(current).await;
            assert!(matches!(told, Err(NoHistory::Before(_))));
            break;
        }
    }
    for from in current + 1..=written.table.revision().get() {
        assert_eq!(written.since(from).await.unwrap().1[0].revision.get(), from);
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_done_without() {
    let mut written = Written::new(Durability::Flush, ROOMY).await;
    written.commit(60).await;
    let dir = written.dir();
    let names = written.disk.list(&dir).unwrap();
    let middle = &compact::snapshots(&dir, &names)[1];
    let mut bytes = written.disk.files()[middle].clone();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    written.disk.put(middle, &bytes);

    written.check().await;
}

#[tokio::test]
async fn damage_is_not_told_as_history() {
    let mut written = Written::new(Durability::Flush, Sizes::default()).await;
    written.commit(20).await;
    let path = written.dir().join(segment::name(1));
    let mut bytes = written.disk.files()[&path].clone();
    // Within the first frame.
    bytes[segment::BLOCK_BYTES + 50] ^= 1;
    written.disk.put(&path, &bytes);

    let told = written.since(3).await;

    assert!(matches!(told, Err(NoHistory::Unreadable(_) | NoHistory::Before(_))), "{told:?}");
}

#[tokio::test]
async fn what_was_before_a_restore_is_another_history() {
    let mut written = Written::new(Durability::Flush, Sizes::default()).await;
    written.commit(5).await;
    let Written { disk, record, journal, mut table, .. } = written;
    journal.close().await.unwrap();
    table.raise(table.floor().next_epoch().unwrap());
    let restored = InstanceRecord { floor: table.floor(), ..record };
    let store = store(&disk, Sizes::default());
    store.load().await.unwrap();
    store.replace(&restored, table.clone()).await.unwrap();
    let Opened { journal, .. } = store.open(&restored, Progress::ignored()).await.unwrap();
    let history = journal.history();

    let first = table.revision().next();
    assert_eq!(history.oldest().await.unwrap(), Some(first));
    for from in [1, 20, 26, table.revision().get()] {
        let told = history.since(Revision::new(from)).await;
        assert!(matches!(told, Err(NoHistory::Before(oldest)) if oldest == first), "{from}");
    }
    assert_eq!(history.since(first).await.unwrap().table, without_answers(&table));
}

/// The table without what nobody asks the past for.
fn without_answers(table: &SessionTable) -> SessionTable {
    let mut table = table.clone();
    *table.retries_mut() = Retries::default();
    table
}

async fn open(disk: &ForgetfulDisk, record: &InstanceRecord) -> LogJournal<ForgetfulDisk> {
    let store = store(disk, ROOMY);
    store.load().await.unwrap();
    store.open(record, Progress::ignored()).await.unwrap().journal
}

async fn rest(changes: &mut dyn Changes) -> Result<Vec<Change>, NoHistory> {
    let mut all = Vec::new();
    loop {
        let some = changes.next().await?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
    }
}

fn store(disk: &ForgetfulDisk, sizes: Sizes) -> LogStore<ForgetfulDisk> {
    LogStore::new(disk.clone(), Path::new("/"), Work::Inline).with_sizes(sizes)
}
