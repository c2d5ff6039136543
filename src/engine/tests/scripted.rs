//! A store that does on purpose what disks and networks do by bad luck.
//!
//! It remembers in memory. A script says what becomes of each thing that it is asked, in order; what
//! is not in the script goes well. It writes down what it was asked, and complains when an engine
//! breaks the promises that a store relies on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::domain::event::Change;
use crate::domain::gone::Gone;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::instance::InstanceRecord;
use crate::domain::jet_err::JetErr;
use crate::domain::table::{Floor, SessionTable};
use crate::store::memory::{MemoryJournal, MemoryStore};
use crate::store::{
    Catalog, CommitError, History, Journal, Opened, Progress, Store, StoreError, conformance,
};

/// What a store is asked to do for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Create,
    Update,
    Delete,
    Open,
    Replace,
    Commit,
    MakeRoom,
    Close,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes well.
    Pass,
    /// Nothing is written, and the store says so.
    Unavailable(JetErr),
    /// It is written, but the store cannot say so.
    UnknownWritten(JetErr),
    /// It is not written, and the store cannot say so.
    UnknownLost(JetErr),
    /// Someone else has written.
    Conflict,
    /// The store has a bug.
    Panic,
}

/// Where the store waits until the test lets it go on.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<(Semaphore, Semaphore)>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// Waits until the store stands here.
    pub(super) async fn reached(&self) {
        self.0.0.acquire().await.unwrap().forget();
    }

    /// Lets the store go on.
    pub(super) fn open(&self) {
        self.0.1.add_permits(1);
    }

    pub(super) async fn pass(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }
}

/// A clone is the same store, as two processes can share a disk one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct ScriptedStore {
    memory: Arc<MemoryStore>,
    script: Arc<Mutex<Script>>,
    late: Arc<Notify>,
}

/// Where to wait, if anywhere, and what becomes of it then; the next first.
type Fates = VecDeque<(Option<Gate>, Fate)>;

#[derive(Debug, Default)]
struct Script {
    fates: BTreeMap<(Op, String), Fates>,
    seen: Vec<String>,
    open: BTreeSet<InstanceId>,
    misuse: Vec<String>,
    /// Instances whose journals have no room left but their reserve.
    full: BTreeSet<String>,
    /// What fails beside a commit.
    late: BTreeMap<String, JetErr>,
    /// Instances whose record cannot be read.
    damaged: BTreeMap<InstanceId, JetErr>,
    /// How the next raise of the floor fails.
    raise: Option<JetErr>,
    /// The revisions at which journals were offered a state.
    settled: Vec<u64>,
}

impl ScriptedStore {
    /// The next `op` of the instance that is not in the script yet ends so.
    pub(super) fn next(&self, op: Op, id: &str, fate: Fate) {
        self.script(op, id, None, fate);
    }

    /// The next `op` of the instance waits.
    pub(super) fn stall(&self, op: Op, id: &str) -> Gate {
        self.stall_then(op, id, Fate::Pass)
    }

    /// The next `op` of the instance waits and then ends so.
    pub(super) fn stall_then(&self, op: Op, id: &str, fate: Fate) -> Gate {
        let gate = Gate::new();
        self.script(op, id, Some(gate.clone()), fate);
        gate
    }

    fn script(&self, op: Op, id: &str, gate: Option<Gate>, fate: Fate) {
        lock(&self.script).fates.entry((op, id.to_owned())).or_default().push_back((gate, fate));
    }

    /// The journal of the instance has no room left but its reserve, or has some again.
    pub(super) fn set_full(&self, id: &str, full: bool) {
        let mut script = lock(&self.script);
        if full {
            script.full.insert(id.to_owned());
        } else {
            script.full.remove(id);
        }
    }

    /// Something beside a commit fails: a late sync, a snapshot.
    pub(super) fn fail_late(&self, id: &str, error: JetErr) {
        lock(&self.script).late.insert(id.to_owned(), error);
        self.late.notify_waiters();
    }

    /// The floor cannot be raised the next time.
    pub(super) fn fail_raise(&self, error: JetErr) {
        lock(&self.script).raise = Some(error);
    }

    /// The sessions that are remembered of the instance, whose journal is closed.
    pub(super) async fn remembered(&self, id: &str) -> SessionTable {
        let catalog = self.memory.load().await.unwrap();
        let record = catalog.instances.iter().find(|record| record.id.as_str() == id).unwrap();
        self.memory.open(record, Progress::ignored()).await.unwrap().table
    }

    /// The record of the instance can no longer be read.
    pub(super) fn damage(&self, id: &str, error: JetErr) {
        lock(&self.script).damaged.insert(id.parse().unwrap(), error);
    }

    /// The revisions at which journals were offered a state since this was asked last.
    pub(super) fn settled(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.script).settled)
    }

    /// What the store was asked since this was asked last, as in `commit a 2`. A commit tells the
    /// number of its changes, an update the phase in which the instance would come back.
    pub(super) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.script).seen)
    }

    /// Instances whose journals are open.
    pub(super) fn open_journals(&self) -> usize {
        lock(&self.script).open.len()
    }

    /// Promises that the engine broke.
    pub(super) fn misuse(&self) -> Vec<String> {
        lock(&self.script).misuse.clone()
    }

    /// Writes down what is asked and waits for the fate that the script has for it.
    async fn fate(&self, op: Op, id: &InstanceId, asked: String) -> Fate {
        let (gate, fate) = {
            let mut script = lock(&self.script);
            script.seen.push(asked);
            let fates = script.fates.get_mut(&(op, id.as_str().to_owned()));
            fates.and_then(Fates::pop_front).unwrap_or((None, Fate::Pass))
        };
        if let Some(gate) = gate {
            gate.pass().await;
        }
        fate
    }

    /// Does `work` as far as its fate lets it.
    async fn act<T>(
        &self,
        op: Op,
        id: &InstanceId,
        asked: String,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.fate(op, id, asked).await {
            Fate::Pass => work.await,
            Fate::Unavailable(error) | Fate::UnknownLost(error) => Err(trouble(error)),
            Fate::UnknownWritten(error) => {
                work.await?;
                Err(trouble(error))
            }
            Fate::Conflict => unreachable!("only a commit can conflict"),
            Fate::Panic => panic!("scripted panic"),
        }
    }
}

impl Store for ScriptedStore {
    type Journal = ScriptedJournal;

    async fn load(&self) -> Result<Catalog, StoreError> {
        let mut catalog = self.memory.load().await?;
        for (id, error) in &lock(&self.script).damaged {
            catalog.instances.retain(|record| record.id != *id);
            catalog.damaged.push((id.clone(), trouble(*error)));
        }
        Ok(catalog)
    }

    async fn create(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let asked = format!("create {}", record.id);
        self.act(Op::Create, &record.id, asked, self.memory.create(record)).await
    }

    async fn update(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        let asked = format!("update {} {:?}", record.id, record.resting);
        self.act(Op::Update, &record.id, asked, self.memory.update(record)).await
    }

    async fn delete(&self, id: &InstanceId, kept: Option<&Gone>) -> Result<Floor, StoreError> {
        {
            let mut script = lock(&self.script);
            if script.open.contains(id) {
                script.misuse.push(format!("{id} was deleted while its journal was open"));
            }
        }
        let asked = format!("delete {id}");
        let floor = self.act(Op::Delete, id, asked, self.memory.delete(id, kept)).await?;
        lock(&self.script).damaged.remove(id);
        Ok(floor)
    }

    async fn forget(&self, gone: &Gone) -> Result<(), StoreError> {
        lock(&self.script).seen.push(format!("forget {}", gone.record.id));
        self.memory.forget(gone).await
    }

    async fn raise(&self, floor: Floor) -> Result<(), StoreError> {
        lock(&self.script).seen.push(format!("raise {}", floor.epoch()));
        let fate = lock(&self.script).raise.take();
        if let Some(error) = fate {
            return Err(trouble(error));
        }
        self.memory.raise(floor).await
    }

    async fn replace(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
    ) -> Result<(), StoreError> {
        let asked = format!("replace {} {:?}", record.id, record.resting);
        let replaced = self.memory.replace(record, table);
        self.act(Op::Replace, &record.id, asked, replaced).await?;
        lock(&self.script).damaged.remove(&record.id);
        Ok(())
    }

    async fn open(
        &self,
        record: &InstanceRecord,
        progress: Progress,
    ) -> Result<Opened<ScriptedJournal>, StoreError> {
        let id = record.id.clone();
        let asked = format!("open {id}");
        let open = async {
            let damaged = lock(&self.script).damaged.get(&id).copied();
            match damaged {
                Some(error) => Err(trouble(error)),
                None => self.memory.open(record, progress).await,
            }
        };
        let opened = self.act(Op::Open, &id, asked, open).await?;
        let mut script = lock(&self.script);
        if !script.open.insert(id.clone()) {
            script.misuse.push(format!("two journals of {id} were open at a time"));
        }
        drop(script);
        let journal = ScriptedJournal {
            id,
            store: self.clone(),
            memory: Some(opened.journal),
            broken: false,
        };
        let (table, remembered) = (opened.table, opened.remembered);
        Ok(Opened { journal, table, remembered })
    }
}

/// The journal of one instance.
#[derive(Debug)]
pub(super) struct ScriptedJournal {
    id: InstanceId,
    store: ScriptedStore,
    /// Gone when it is closed.
    memory: Option<MemoryJournal>,
    broken: bool,
}

impl Journal for ScriptedJournal {
    async fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        if self.broken || changes.is_empty() {
            let misuse = format!("{} committed after an error, or nothing", self.id);
            lock(&self.store.script).misuse.push(misuse);
        }
        let asked = format!("commit {} {}", self.id, changes.len());
        // Until it has gone well it has not.
        self.broken = true;
        let fate = self.store.fate(Op::Commit, &self.id, asked).await;
        let memory = self.memory.as_mut().expect("it is not closed");
        match fate {
            Fate::Pass => memory.commit(changes).await?,
            Fate::Unavailable(error) => return Err(CommitError::Unavailable(trouble(error))),
            Fate::UnknownWritten(error) => {
                memory.commit(changes).await?;
                return Err(CommitError::Unknown(trouble(error)));
            }
            Fate::UnknownLost(error) => return Err(CommitError::Unknown(trouble(error))),
            Fate::Conflict => return Err(CommitError::Conflict { found: Revision::new(4711) }),
            Fate::Panic => panic!("scripted panic"),
        }
        self.broken = false;
        Ok(())
    }

    fn settle(&mut self, table: &SessionTable) {
        lock(&self.store.script).settled.push(table.revision().get());
    }

    fn history(&self) -> Box<dyn History> {
        self.memory.as_ref().expect("it is not closed").history()
    }

    fn has_room(&self) -> bool {
        !lock(&self.store.script).full.contains(self.id.as_str())
    }

    async fn make_room(&mut self) -> Result<(), StoreError> {
        let id = self.id.clone();
        let made = async { Ok(()) };
        self.store.act(Op::MakeRoom, &id, format!("make room {id}"), made).await?;
        self.store.set_full(id.as_str(), false);
        Ok(())
    }

    async fn failed(&mut self) -> CommitError {
        loop {
            let late = self.store.late.notified();
            let error = lock(&self.store.script).late.remove(self.id.as_str());
            if let Some(error) = error {
                return CommitError::Unknown(trouble(error));
            }
            late.await;
        }
    }

    async fn close(mut self) -> Result<(), StoreError> {
        let memory = self.memory.take().expect("it is not closed");
        lock(&self.store.script).open.remove(&self.id);
        let asked = format!("close {}", self.id);
        let store = self.store.clone();
        store.act(Op::Close, &self.id.clone(), asked, memory.close()).await
    }
}

/// A journal that is not closed is written down too.
impl Drop for ScriptedJournal {
    fn drop(&mut self) {
        if self.memory.is_some() {
            let mut script = lock(&self.store.script);
            script.open.remove(&self.id);
            script.seen.push(format!("drop {}", self.id));
        }
    }
}

fn trouble(error: JetErr) -> StoreError {
    StoreError { error, doing: "following the script", cause: "it says so".into() }
}

/// A panicking store leaves its script whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::test]
async fn without_a_script_it_is_a_store_like_any_other() {
    conformance::check(|| async { ScriptedStore::default() }).await;
}
