//! Any commands at all lead to the same on this store as on the plainest one, with the power failing in
//! between.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::SMALL;
use super::forgetful::{ForgetfulDisk, Kept, Random};
use super::server::{NAMES, changes, record};
use crate::domain::gone::Gone;
use crate::domain::id::Uid;
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::table::{Floor, SessionTable};
use crate::store::log::{LogStore, Work};
use crate::store::memory::MemoryStore;
use crate::store::{Journal, Opened, Progress, Store, conformance};

/// Something to do with an instance. What is not possible is left out.
#[derive(Debug, Clone, Copy)]
enum Command {
    Create,
    Open,
    Commit(usize),
    Rest(Resting),
    Close,
    Drop,
    Replace,
    Delete,
    Raise(u64),
    /// The power fails, and so much is kept.
    Crash(Kept),
}

/// A store, and what is open of it.
struct Driven<S: Store> {
    store: S,
    journals: BTreeMap<&'static str, (S::Journal, SessionTable)>,
    records: BTreeMap<&'static str, InstanceRecord>,
    floor: Floor,
    created: u64,
    random: Random,
}

impl<S: Store> Driven<S> {
    async fn new(store: S) -> Self {
        store.load().await.unwrap();
        let (journals, records) = (BTreeMap::new(), BTreeMap::new());
        Self { store, journals, records, floor: Floor::default(), created: 0, random: Random(3) }
    }

    async fn act(&mut self, name: &'static str, command: Command) {
        let exists = self.records.get(name).cloned();
        let opened = self.journals.remove(name);
        match (command, exists, opened) {
            (Command::Create, None, _) => {
                self.created += 1;
                let uid = Uid::new(&format!("uid-{}", self.created));
                let record = InstanceRecord { uid, ..record(name, Durability::Flush, self.floor) };
                self.store.create(&record).await.unwrap();
                self.records.insert(name, record);
            }
            (Command::Open, Some(record), None) => {
                let opened = self.store.open(&record, Progress::ignored()).await.unwrap();
                let Opened { journal, table, .. } = opened;
                self.journals.insert(name, (journal, table));
            }
            (Command::Commit(count), _, Some((mut journal, mut table))) => {
                let changes = changes(&mut table, &mut self.random, count);
                journal.commit(&changes).await.unwrap();
                journal.settle(&table);
                self.journals.insert(name, (journal, table));
            }
            (Command::Rest(resting), Some(record), opened) => {
                let record = InstanceRecord { resting, ..record };
                self.store.update(&record).await.unwrap();
                self.records.insert(name, record);
                self.journals.extend(opened.map(|opened| (name, opened)));
            }
            (Command::Close, _, Some((journal, _))) => journal.close().await.unwrap(),
            (Command::Drop, _, Some(opened)) => drop(opened),
            (Command::Replace, Some(record), None) => {
                let Opened { journal, mut table, .. } =
                    self.store.open(&record, Progress::ignored()).await.unwrap();
                journal.close().await.unwrap();
                table.raise(table.floor().max(self.floor).next_epoch().unwrap());
                let uid = Uid::new(&format!("{}+", record.uid.as_str()));
                let record = InstanceRecord { uid, floor: table.floor(), ..record };
                self.store.replace(&record, table).await.unwrap();
                self.records.insert(name, record);
            }
            (Command::Delete, Some(record), None) => {
                let kept = self.random.below(4).gt(&0).then(|| conformance::gone(&record));
                self.floor = self.store.delete(&record.id, kept.as_ref()).await.unwrap();
                self.records.remove(name);
            }
            (Command::Raise(sesid), _, opened) => {
                let floor = Floor { sesid, ..self.floor };
                self.store.raise(floor).await.unwrap();
                self.floor = self.floor.max(floor);
                self.journals.extend(opened.map(|opened| (name, opened)));
            }
            (Command::Crash(_), ..) => self.journals.clear(),
            (_, _, opened) => self.journals.extend(opened.map(|opened| (name, opened))),
        }
    }

    /// All that is remembered; every journal is dropped.
    async fn remembered(&mut self) -> (Floor, Vec<Gone>, Vec<(InstanceRecord, SessionTable)>) {
        self.journals.clear();
        let mut catalog = self.store.load().await.unwrap();
        assert!(catalog.damaged.is_empty());
        catalog.gone.sort_by_key(|gone| gone.record.uid.as_str().to_owned());
        let mut all = Vec::new();
        for record in catalog.instances {
            let opened = self.store.open(&record, Progress::ignored()).await.unwrap();
            all.push((record, opened.table));
        }
        (catalog.floor, catalog.gone, all)
    }
}

async fn compare(commands: Vec<(&'static str, Command)>) {
    let log = |disk| LogStore::new(disk, Path::new("/"), Work::Inline).with_sizes(SMALL);
    let mut disk = ForgetfulDisk::new();
    let mut driven = Driven::new(log(disk.clone())).await;
    let mut plain = Driven::new(MemoryStore::default()).await;
    for (name, command) in commands {
        driven.act(name, command).await;
        plain.act(name, command).await;
        if let Command::Crash(kept) = command {
            disk = disk.image(kept);
            driven.store = log(disk.clone());
            assert_eq!(driven.remembered().await, plain.remembered().await);
        }
    }
    assert_eq!(driven.remembered().await, plain.remembered().await);
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => Just(Command::Create),
        4 => Just(Command::Open),
        12 => (1_usize..16).prop_map(Command::Commit),
        1 => prop_oneof![Just(Resting::Ready), Just(Resting::Stopped)].prop_map(Command::Rest),
        2 => Just(Command::Close),
        1 => Just(Command::Drop),
        1 => Just(Command::Replace),
        1 => Just(Command::Delete),
        1 => (1_u64..100).prop_map(Command::Raise),
        2 => any::<u64>().prop_map(|seed| Command::Crash(Kept::Any(seed))),
        1 => Just(Command::Crash(Kept::Nothing)),
    ]
}

proptest! {
    #[test]
    fn any_commands_lead_to_what_the_plainest_store_remembers(
        commands in prop::collection::vec((prop::sample::select(NAMES.to_vec()), command()), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(commands));
    }
}
