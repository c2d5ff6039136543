//! A disk in memory that loses, tears and fails on purpose.
//!
//! What was written and not synced is remembered as such, sector by sector, and so are the names that
//! were given and whose directory was not synced. Every write, sync, create, rename, removal and new
//! length is an *operation* and has a number, from 1 on; a [`Plan`] says at which of them something
//! happens. What a power failure leaves is an *image*: a disk of its own, with as much of what was
//! not synced as [`Kept`] says.

mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::store::log::disk::{Disk, DiskFile};

use state::{Data, Dir, Extent, Node, State, Write};

pub(in crate::store::log) use state::Random;

/// What a disk writes as a whole.
pub(super) const SECTOR: usize = 512;

/// When something happens, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store::log) enum Plan {
    /// Nothing ever does.
    #[default]
    Well,
    /// The power fails in this operation: it may have begun, and nothing works any more.
    CrashAt(u64),
    /// This operation fails, and all others do not.
    FailAt(u64, Failure),
}

/// How an operation fails. Of a write, the first half has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::log) enum Failure {
    /// With an error of the device. What was to be synced may yet be.
    Device,
    /// With an error of the device; what was to be synced stays readable and never reaches the disk,
    /// although the next sync goes well. That is how Linux treats a failed one.
    Lying,
    /// For lack of room.
    Full,
}

/// How much a power failure leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::log) enum Kept {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// What was done up to this operation; of a longer write, the sectors in the first half.
    Until(u64),
    /// Any sectors, and in each directory the names up to any operation, as this seed decides.
    Any(u64),
}

/// The disk. A clone is the same one.
#[derive(Clone)]
pub(in crate::store::log) struct ForgetfulDisk(Arc<Mutex<State>>);

/// An open file of it.
#[derive(Clone)]
pub(in crate::store::log) struct ForgetfulFile {
    disk: ForgetfulDisk,
    node: usize,
}

impl ForgetfulDisk {
    /// An empty disk with all the room in the world.
    pub(in crate::store::log) fn new() -> Self {
        Self::of(vec![Node::Dir(Dir::default())])
    }

    fn of(nodes: Vec<Node>) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes,
            operations: 0,
            planned: 0,
            plan: Plan::Well,
            dead: false,
            capacity: u64::MAX,
            before_rename: None,
            spoils: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What will happen from now on: in a plan operations are counted from here.
    pub(in crate::store::log) fn plan(&self, plan: Plan) {
        let mut state = self.state();
        state.plan = plan;
        state.planned = state.operations;
    }

    /// How many operations there have been.
    pub(in crate::store::log) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the device has failed, as planned.
    pub(in crate::store::log) fn has_failed(&self) -> bool {
        let state = self.state();
        match state.plan {
            Plan::FailAt(at, Failure::Device | Failure::Lying) => {
                state.operations - state.planned >= at
            }
            Plan::FailAt(_, Failure::Full) | Plan::Well | Plan::CrashAt(_) => false,
        }
    }

    /// How many bytes all files may still grow by together, from now on.
    pub(in crate::store::log) fn leave_room(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity = state.used(0).saturating_add(bytes);
    }

    /// Calls this before a file gets this name, once.
    pub(in crate::store::log) fn before_rename_to(
        &self,
        path: &Path,
        call: impl Fn() + Send + Sync + 'static,
    ) {
        self.state().before_rename = Some((path.to_owned(), Arc::new(call)));
    }

    /// Stores with one wrong bit whatever is written to new files whose names end like this.
    pub(in crate::store::log) fn spoil(&self, ending: &'static str) {
        self.state().spoils = Some(ending);
    }

    /// What the power failing now leaves.
    pub(in crate::store::log) fn image(&self, kept: Kept) -> Self {
        let state = self.state();
        let mut random = Random(match kept {
            Kept::Any(seed) => seed,
            Kept::Nothing | Kept::All | Kept::Until(_) => 0,
        });
        let mut nodes = Vec::new();
        state.copy_durable(0, kept, &mut random, &mut nodes);
        Self::of(nodes)
    }

    /// What the process being killed now leaves: everything, though not synced.
    pub(in crate::store::log) fn after_kill(&self) -> Self {
        let state = self.state().clone();
        Self(Arc::new(Mutex::new(State { plan: Plan::Well, dead: false, ..state })))
    }

    /// All files as they are read now.
    pub(in crate::store::log) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.state().collect(0, Path::new("/"), &mut files);
        files
    }

    /// Puts this into a file, for good.
    pub(in crate::store::log) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let node = state.nodes.len();
        let (now, durable) = (bytes.to_vec(), bytes.to_vec());
        let data = Data { now, durable, ..Data::default() };
        state.nodes.push(Node::File(data));
        let (dir, name) = state.parent(path).unwrap();
        let dir = state.dir(dir).unwrap();
        dir.now.insert(name.clone(), node);
        dir.durable.insert(name, node);
    }

    /// Takes a file away, for good.
    pub(in crate::store::log) fn take(&self, path: &Path) {
        let mut state = self.state();
        let (dir, name) = state.parent(path).unwrap();
        let dir = state.dir(dir).unwrap();
        dir.now.remove(&name).unwrap();
        dir.durable.remove(&name);
    }
}

impl fmt::Debug for ForgetfulDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForgetfulDisk")
    }
}

impl fmt::Debug for ForgetfulFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForgetfulFile {}", self.node)
    }
}

impl Disk for ForgetfulDisk {
    type File = ForgetfulFile;

    fn create(&self, path: &Path) -> io::Result<ForgetfulFile> {
        let spoils = self.state().spoils;
        let spoiled = spoils.is_some_and(|ending| path.to_str().unwrap().ends_with(ending));
        let data = Data { spoiled, ..Data::default() };
        let node = self.state().new_node(path, Node::File(data))?;
        Ok(ForgetfulFile { disk: self.clone(), node })
    }

    fn open(&self, path: &Path) -> io::Result<ForgetfulFile> {
        let node = self.state().find(path)?;
        self.state().data(node)?;
        Ok(ForgetfulFile { disk: self.clone(), node })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        let dir = state.find(dir)?;
        Ok(state.dir(dir)?.now.keys().cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let call = self.state().before_rename.take_if(|(path, _)| path == to);
        if let Some((_, call)) = call {
            call();
        }
        let mut state = self.state();
        let node = state.find(from)?;
        let ((dir, old), (other, new)) = (state.parent(from)?, state.parent(to)?);
        assert_eq!(dir, other, "nothing is moved between directories");
        let replaced = state.dir(dir)?.now.get(&new).copied();
        if replaced.is_some_and(|node| matches!(state.nodes[node], Node::Dir(_))) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (extent, end) = state.begin()?;
        if extent.is_done() {
            state.enter(dir, vec![(old, None), (new, Some(node))])?;
        }
        end
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(path)?;
        state.data(node)?;
        let (dir, name) = state.parent(path)?;
        let (extent, end) = state.begin()?;
        if extent.is_done() {
            state.enter(dir, vec![(name, None)])?;
        }
        end
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state().new_node(path, Node::Dir(Dir::default())).map(drop)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(path)?;
        let (dir, name) = state.parent(path)?;
        let (extent, end) = state.begin()?;
        if extent.is_done() {
            state.empty(node)?;
            state.enter(dir, vec![(name, None)])?;
        }
        end
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(dir)?;
        let (extent, end) = state.begin()?;
        let dir = state.dir(node)?;
        if extent == Extent::Whole {
            dir.durable = dir.now.clone();
            dir.pending.clear();
        }
        end
    }
}

impl DiskFile for ForgetfulFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().data(self.node)?.now.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let now = &state.data(self.node)?.now;
        let from = usize::try_from(offset).unwrap().min(now.len());
        let size = bytes.len().min(now.len() - from);
        bytes[..size].copy_from_slice(&now[from..from + size]);
        Ok(size)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let (extent, mut end) = state.begin()?;
        let at = usize::try_from(offset).unwrap();
        let len = state.data(self.node)?.now.len();
        let growth = ((at + bytes.len()).saturating_sub(len)) as u64;
        let mut size = if extent.is_done() { bytes.len() } else { bytes.len() / 2 };
        if growth > 0 && state.used(0) + growth > state.capacity {
            size = 0;
            end = end.and(Err(io::ErrorKind::StorageFull.into()));
        }
        let operation = state.operations;
        let mut bytes = bytes[..size].to_vec();
        let data = state.data(self.node)?;
        if data.spoiled {
            bytes[size / 2] ^= 1;
        }
        data.write(operation, Write::Bytes(at, bytes));
        end
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let (extent, end) = state.begin()?;
        let operation = state.operations;
        if extent.is_done() {
            let len = usize::try_from(len).unwrap();
            state.data(self.node)?.write(operation, Write::Len(len));
        }
        end
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let (extent, end) = state.begin()?;
        let Data { durable, pending, .. } = state.data(self.node)?;
        match extent {
            Extent::Whole => pending.drain(..).for_each(|(_, write)| write.apply(durable)),
            Extent::Lost => pending.clear(),
            Extent::Begun | Extent::Half => {}
        }
        end
    }
}
