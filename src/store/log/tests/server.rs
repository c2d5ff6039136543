//! A server that does as it is told, keeps a ledger of what it acknowledged, and is found out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;

use super::SMALL;
use super::forgetful::{ForgetfulDisk, Random};
use super::ledger::{Found, Instance, World};
use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::gone::Gone;
use crate::domain::id::{ContextValue, Labels, Owner, Principal, Revision, SessionId, Uid};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::jet_err::JetErr;
use crate::domain::limits::LAZY_SYNC_MS_MAX;
use crate::domain::request::{AnswerKind, Fingerprint, Made, Request};
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::store::log::{LogJournal, LogStore, Sizes, Work};
use crate::store::{Journal, Opened, Progress, Store, StoreError, conformance};

/// Something to do, for the instance of this name where it has one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Create(&'static str, Durability),
    Open(&'static str),
    /// So many changes, and an occasion for spares and snapshots.
    Commit(&'static str, usize),
    Rest(&'static str, Resting),
    Close(&'static str),
    /// The journal is dropped, as by a crash.
    Drop(&'static str),
    /// Its present sessions are restored into it, in an epoch of their own.
    Replace(&'static str),
    /// It is deleted by a request that may come again.
    Delete(&'static str),
    /// It is deleted, and nobody can ask for that again.
    DeleteForGood(&'static str),
    Raise(u64),
    /// As long as a late sync may take.
    Wait,
    /// The store is given up and loaded again.
    Restart,
}

/// The server.
pub(super) struct Server {
    pub(super) disk: ForgetfulDisk,
    store: LogStore<ForgetfulDisk>,
    sizes: Sizes,
    journals: BTreeMap<&'static str, (LogJournal<ForgetfulDisk>, SessionTable)>,
    /// What was acknowledged.
    pub(super) world: World,
    /// What else may be true after a step that failed.
    pub(super) perhaps: Option<World>,
    /// The code of the commit that failed.
    pub(super) refused: Option<JetErr>,
    random: Random,
}

/// Why a step failed.
#[derive(Debug)]
pub(super) struct Failed;

impl From<StoreError> for Failed {
    fn from(_: StoreError) -> Self {
        Self
    }
}

impl Server {
    /// A server on this disk that has not loaded anything yet.
    pub(super) fn new(disk: &ForgetfulDisk, seed: u64) -> Self {
        Self::sized(disk, seed, SMALL)
    }

    /// The same with logs of these sizes.
    pub(super) fn sized(disk: &ForgetfulDisk, seed: u64, sizes: Sizes) -> Self {
        Self {
            disk: disk.clone(),
            store: store(disk, sizes),
            sizes,
            journals: BTreeMap::new(),
            world: World::default(),
            perhaps: None,
            refused: None,
            random: Random(seed),
        }
    }

    /// Does all of it, or as much as does not fail.
    pub(super) async fn run(&mut self, steps: &[Step]) -> Result<(), Failed> {
        for step in steps {
            self.step(*step).await?;
        }
        Ok(())
    }

    pub(super) async fn step(&mut self, step: Step) -> Result<(), Failed> {
        match step {
            Step::Create(name, durability) => self.create(name, durability).await,
            Step::Open(name) => self.open(name).await,
            Step::Commit(name, changes) => self.commit(name, changes).await,
            Step::Rest(name, resting) => {
                let record =
                    InstanceRecord { resting, ..self.world.instances[name].record.clone() };
                self.maybe(|world| world.instances.get_mut(name).unwrap().record = record.clone());
                self.store.update(&record).await?;
                self.done()
            }
            Step::Close(name) => {
                self.journals.remove(name).unwrap().0.close().await?;
                self.world.instances.get_mut(name).unwrap().durable();
                Ok(())
            }
            Step::Drop(name) => {
                drop(self.journals.remove(name).unwrap());
                Ok(())
            }
            Step::Replace(name) => self.replace(name).await,
            Step::Delete(name) => {
                let kept = conformance::gone(&self.world.instances[name].record);
                self.delete(name, Some(kept)).await
            }
            Step::DeleteForGood(name) => self.delete(name, None).await,
            Step::Raise(sesid) => {
                let floor = Floor { sesid, ..self.world.floor };
                self.maybe(|_| ());
                self.store.raise(floor).await?;
                self.world.floor = self.world.floor.max(floor);
                self.done()
            }
            Step::Wait => {
                tokio::time::sleep(Duration::from_millis(LAZY_SYNC_MS_MAX)).await;
                for (name, (journal, _)) in &mut self.journals {
                    if journal.failed().now_or_never().is_some() {
                        return Err(Failed);
                    }
                    self.world.instances.get_mut(*name).unwrap().durable();
                }
                Ok(())
            }
            Step::Restart => {
                self.journals.clear();
                self.store = store(&self.disk, self.sizes);
                let catalog = self.store.load().await?;
                if catalog.damaged.is_empty() { Ok(()) } else { Err(Failed) }
            }
        }
    }

    /// What will be true if the step that begins now succeeds.
    fn maybe(&mut self, becomes: impl FnOnce(&mut World)) {
        let mut world = self.world.clone();
        becomes(&mut world);
        self.perhaps = Some(world);
    }

    /// The step has succeeded.
    fn done(&mut self) -> Result<(), Failed> {
        let floor = self.world.floor;
        self.world = self.perhaps.take().unwrap();
        self.world.floor = self.world.floor.max(floor);
        Ok(())
    }

    async fn create(&mut self, name: &'static str, durability: Durability) -> Result<(), Failed> {
        let record = record(name, durability, self.world.floor);
        let table = SessionTable::above(record.floor);
        let instance = Instance::new(record.clone(), table);
        self.maybe(|world| drop(world.instances.insert(name.to_owned(), instance)));
        self.store.create(&record).await?;
        self.done()
    }

    async fn open(&mut self, name: &'static str) -> Result<(), Failed> {
        let record = self.world.instances[name].record.clone();
        let Opened { journal, table, .. } = self.store.open(&record, Progress::ignored()).await?;
        let instance = self.world.instances.get_mut(name).unwrap();
        instance.check(&table).unwrap_or_else(|what| panic!("{name}: {what}"));
        *instance = instance.settled(&table);
        self.journals.insert(name, (journal, table));
        Ok(())
    }

    async fn commit(&mut self, name: &'static str, count: usize) -> Result<(), Failed> {
        // Removing what nobody needs any more may have failed without harm.
        let failed_before = self.disk.has_failed();
        let (mut journal, mut table) = self.journals.remove(name).unwrap();
        let changes = changes(&mut table, &mut self.random, count);
        self.maybe(|world| world.instances.get_mut(name).unwrap().answered(&table));
        let committed = journal.commit(&changes).await;
        if let Err(error) = committed {
            self.refused = Some(error.jet_err());
            assert_latched(&mut journal, &mut table, &mut self.random).await;
            return Err(Failed);
        }
        self.done()?;
        journal.settle(&table);
        if self.disk.has_failed() && !failed_before {
            let failed = journal.failed().now_or_never();
            assert!(failed.is_some(), "the device failed beside a commit, and nobody was told");
            assert_latched(&mut journal, &mut table, &mut self.random).await;
            return Err(Failed);
        }
        self.journals.insert(name, (journal, table));
        Ok(())
    }

    async fn delete(&mut self, name: &'static str, kept: Option<Gone>) -> Result<(), Failed> {
        let told = self.world.instances[name].told;
        self.maybe(|world| {
            let deleted = world.instances.remove(name).unwrap().record;
            let uid = deleted.uid.as_str().to_owned();
            world.gone.extend(kept.clone().map(|gone| (uid, gone)));
        });
        let id = name.parse().unwrap();
        let floor = self.store.delete(&id, kept.as_ref()).await?;
        self.done()?;
        assert_eq!(floor.max(told).max(self.world.floor), floor, "the floor of {name}");
        self.world.floor = floor;
        Ok(())
    }

    async fn replace(&mut self, name: &'static str) -> Result<(), Failed> {
        let before = &self.world.instances[name];
        let mut table = before.newest().clone();
        table.raise(before.told.max(self.world.floor).next_epoch().unwrap());
        let uid = Uid::new(&format!("{}-again", before.record.uid.as_str()));
        let record = InstanceRecord { uid, floor: table.floor(), ..before.record.clone() };
        let instance = Instance::new(record.clone(), table.clone());
        self.maybe(|world| drop(world.instances.insert(name.to_owned(), instance)));
        self.store.replace(&record, table).await?;
        self.done()
    }
}

/// Reads a whole directory as a server does that starts on it, leaving every journal open.
pub(super) async fn recover(disk: &ForgetfulDisk) -> Result<(Server, Found), StoreError> {
    let mut server = Server::new(disk, 7);
    let mut catalog = server.store.load().await?;
    if let Some((_, error)) = catalog.damaged.pop() {
        return Err(error);
    }
    let gone = |gone: Gone| (gone.record.uid.as_str().to_owned(), gone);
    let gone = catalog.gone.into_iter().map(gone).collect();
    let mut found = Found { floor: catalog.floor, gone, ..Found::default() };
    for record in catalog.instances {
        let Opened { journal, table, .. } = server.store.open(&record, Progress::ignored()).await?;
        let name = *NAMES.iter().find(|name| record.id.as_str() == **name).unwrap();
        found.instances.insert(name.to_owned(), (record, table.clone()));
        server.journals.insert(name, (journal, table));
    }
    Ok((server, found))
}

/// Recovers, and checks that what is found is what one of these worlds demands.
pub(super) async fn recover_one_of(disk: &ForgetfulDisk, worlds: &[&World]) -> Server {
    let (mut server, found) = match recover(disk).await {
        Ok(recovered) => recovered,
        Err(error) => panic!("{}", crate::store::with_causes(&error)),
    };
    let checked: Vec<_> = worlds.iter().map(|world| world.check(&found)).collect();
    let Some(right) = checked.iter().position(Result::is_ok) else {
        panic!("{checked:#?}");
    };
    server.world = worlds[right].settled(&found);
    server
}

/// The names that instances may have.
pub(super) const NAMES: [&str; 3] = ["flush", "lazy", "other"];

impl Server {
    /// Takes what was found for what there is.
    pub(super) fn adopt(&mut self, found: &Found) {
        self.world.floor = found.floor;
        self.world.gone = found.gone.clone();
        for (name, (record, table)) in &found.instances {
            let instance = Instance::new(record.clone(), table.clone());
            self.world.instances.insert(name.clone(), instance);
        }
    }

    /// The journal of an instance that is open.
    pub(super) fn journal(&mut self, name: &str) -> &mut LogJournal<ForgetfulDisk> {
        &mut self.journals.get_mut(name).unwrap().0
    }

    /// The instances that are open.
    pub(super) fn open_names(&self) -> Vec<&'static str> {
        self.journals.keys().copied().collect()
    }

    /// The worlds that may be found after this one ends.
    pub(super) fn worlds(&self) -> Vec<&World> {
        [&self.world].into_iter().chain(&self.perhaps).collect()
    }
}

/// A journal that has failed acknowledges nothing more.
async fn assert_latched(
    journal: &mut LogJournal<ForgetfulDisk>,
    table: &mut SessionTable,
    random: &mut Random,
) {
    for _ in 0..3 {
        let changes = changes(table, random, 1);
        assert!(journal.commit(&changes).await.is_err(), "an Ok after an error");
    }
}

fn store(disk: &ForgetfulDisk, sizes: Sizes) -> LogStore<ForgetfulDisk> {
    LogStore::new(disk.clone(), Path::new("/"), Work::Inline).with_sizes(sizes)
}

pub(super) fn record(name: &str, durability: Durability, floor: Floor) -> InstanceRecord {
    InstanceRecord {
        id: name.parse().unwrap(),
        uid: Uid::new(&format!("uid-of-{name}")),
        labels: Labels::default(),
        max_sessions: 1_000,
        durability,
        created: Timestamp::from_micros(1),
        updated: Timestamp::from_micros(2),
        floor,
        resting: Resting::Ready,
        ended: Revision::ZERO,
        created_by: None,
        replays: Default::default(),
    }
}

/// What so many calls change, of every kind sooner or later, which is made true in the table. Some calls
/// can be made again, and are remembered by what they changed.
pub(super) fn changes(table: &mut SessionTable, random: &mut Random, calls: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..calls {
        let mut events = events(table, random);
        let (count, last) = (events.len(), events.pop());
        let mut happen = |event, made| {
            let by = Principal::anonymous();
            let change = Change::new(table.revision().next(), Timestamp::from_micros(3), by, event);
            let change = Change { made, ..change };
            table.apply(&change);
            changes.push(change);
        };
        events.into_iter().for_each(|event| happen(event, Vec::new()));
        happen(last.unwrap(), made(random, count));
    }
    changes
}

/// The requests that the last of so many changes answers.
fn made(random: &mut Random, changes: usize) -> Vec<Made> {
    let answer = match random.below(20) {
        _ if changes > 1 => AnswerKind::Sessions(u32::try_from(changes).unwrap()),
        0 => AnswerKind::Session {
            waiters: 3,
            lease_remaining: Some(Duration::from_micros(random.next() >> 40)),
        },
        1 => AnswerKind::Session { waiters: 0, lease_remaining: None },
        2 => AnswerKind::Revision,
        3 => AnswerKind::Level,
        4 => AnswerKind::Done,
        _ => return Vec::new(),
    };
    // A name that comes again stands for the last call that had it.
    let id = format!("request-{}", random.below(50)).parse().unwrap();
    let request = Request { id, body: Fingerprint::new(random.next()) };
    let by = Principal::new(["anonymous", "somebody"][random.below(2)]);
    vec![Made { by, request, answer }]
}

fn events(table: &SessionTable, random: &mut Random) -> Vec<SessionEvent> {
    let there: Vec<SessionId> = table.after(None).map(|session| session.id).collect();
    let kind = random.below(16);
    if there.is_empty() || kind < 3 {
        // At times more than a LAZY instance takes numbers at a time.
        let count = if random.below(16) == 0 { SMALL.taken_numbers + 1 } else { 1 };
        let label = |n| (format!("label {n}"), "some words that take room ".repeat(2));
        let labels = if count > 1 { 0 } else { random.below(4) };
        let labels = Labels::new((0..labels).map(label).collect()).unwrap();
        let first = table.next_sesid().unwrap().get();
        let began = |session| SessionEvent::Began { session, labels: labels.clone() };
        return (first..first + count).filter_map(SessionId::new).map(began).collect();
    }
    let session = there[random.below(there.len())];
    let thread = format!("thread-{}", random.below(3));
    let owner = Owner::new(Principal::anonymous(), thread.parse().unwrap());
    let left = match random.below(2) {
        0 => None,
        _ => Some(Transaction::outermost(TransactionOwner::Thread(owner.clone()))),
    };
    let served = table.threads().served().after(Duration::from_micros(random.next() >> 40));
    vec![match kind {
        3 | 4 => SessionEvent::ContextSet {
            session,
            owner,
            context: ContextValue::new(random.next() >> 1 | 1).unwrap(),
        },
        5 => {
            let how = match random.below(3) {
                0 => HowReset::ByHolder,
                1 => HowReset::LeaseExpired,
                _ => HowReset::Forced("it hung".parse().unwrap()),
            };
            SessionEvent::ContextReset { session, how }
        }
        6 => SessionEvent::TransactionBegan {
            session,
            transaction: Transaction::outermost(TransactionOwner::Thread(owner)),
        },
        7 => SessionEvent::TransactionCommitted { session, left },
        8 => SessionEvent::TransactionRolledBack { session, left },
        9 => SessionEvent::ContextTransferred { session, to: owner },
        10 | 11 => SessionEvent::LeaseSet {
            owner,
            ttl: Duration::from_secs(1 + random.next() % 60),
            since: served,
        },
        12 => SessionEvent::LeaseEnded { owner },
        13 if random.below(2) == 0 => SessionEvent::ServingBegan { at: served },
        13 => SessionEvent::ServedUntil { at: served },
        _ if random.below(8) == 0 => SessionEvent::AllEnded,
        _ => {
            let forced = (random.below(3) == 0).then(|| "it hung".parse().unwrap());
            SessionEvent::Ended { session, forced }
        }
    }]
}
