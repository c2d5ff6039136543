//! A disk in memory that loses, tears and fails on purpose.
//!
//! What was written and not synced is remembered as such, sector by sector, and so are the names that
//! were given and whose directory was not synced. Every write, sync, create, rename, removal and new
//! length is an *operation* and has a number, from 1 on; a [`Plan`] says at which of them something
//! happens. What a power failure leaves is an *image*: a disk of its own, with as much of what was
//! not synced as [`Kept`] says.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::store::log::disk::{Disk, DiskFile};

/// What a disk writes as a whole.
pub(in crate::store::log) const SECTOR: usize = 512;

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

#[derive(Clone)]
struct State {
    /// By their numbers. The root directory is the first.
    nodes: Vec<Node>,
    operations: u64,
    /// How many operations there had been when the plan was made.
    planned: u64,
    plan: Plan,
    dead: bool,
    /// How many bytes the files may have together.
    capacity: u64,
    /// Somebody is called before something gets this name, once.
    before_rename: Option<(PathBuf, Arc<dyn Fn() + Send + Sync>)>,
}

#[derive(Clone)]
enum Node {
    Dir(Dir),
    File(Data),
}

#[derive(Clone, Default)]
struct Dir {
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// By operation; what belongs to one is kept or lost together.
    pending: Vec<(u64, Vec<Entry>)>,
}

/// A name, and the node that it is given to, if any.
type Entry = (String, Option<usize>);

#[derive(Clone, Default)]
struct Data {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(u64, Write)>,
}

#[derive(Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Len(usize),
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
        let data = Data { now: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
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

impl State {
    /// Begins an operation: what is to be done of it, and how it ends.
    fn begin(&mut self) -> io::Result<(Extent, io::Result<()>)> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        self.operations += 1;
        let nth = self.operations - self.planned;
        let device = || io::Error::other("the device failed");
        Ok(match self.plan {
            Plan::CrashAt(at) if at == nth => {
                self.dead = true;
                (Extent::Begun, Err(device()))
            }
            Plan::FailAt(at, how) if at == nth => match how {
                Failure::Device => (Extent::Half, Err(device())),
                Failure::Lying => (Extent::Lost, Err(device())),
                Failure::Full => (Extent::Half, Err(io::ErrorKind::StorageFull.into())),
            },
            Plan::Well | Plan::CrashAt(_) | Plan::FailAt(..) => (Extent::Whole, Ok(())),
        })
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = 0;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let Node::Dir(dir) = &self.nodes[node] else {
                    return Err(io::ErrorKind::NotADirectory.into());
                };
                let name = name.to_str().unwrap();
                node = *dir.now.get(name).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
            }
        }
        Ok(node)
    }

    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let dir = self.find(path.parent().unwrap())?;
        Ok((dir, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn dir(&mut self, node: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[node] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn data(&mut self, node: usize) -> io::Result<&mut Data> {
        match &mut self.nodes[node] {
            Node::File(data) => Ok(data),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Gives and takes names in a directory, all together.
    fn enter(&mut self, dir: usize, entries: Vec<Entry>) -> io::Result<()> {
        let operation = self.operations;
        let dir = self.dir(dir)?;
        entries.iter().for_each(|entry| apply_entry(&mut dir.now, entry));
        dir.pending.push((operation, entries));
        Ok(())
    }

    fn new_node(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (dir, name) = self.parent(path)?;
        if self.dir(dir)?.now.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (extent, end) = self.begin()?;
        let number = self.nodes.len();
        if extent.is_done() {
            self.nodes.push(node);
            self.enter(dir, vec![(name, Some(number))])?;
        }
        end.map(|()| number)
    }

    /// Takes the names of all that is in a directory.
    fn empty(&mut self, node: usize) -> io::Result<()> {
        let names: Vec<_> = self.dir(node)?.now.clone().into_iter().collect();
        for (name, inner) in names {
            if matches!(self.nodes[inner], Node::Dir(_)) {
                self.empty(inner)?;
            }
            self.enter(node, vec![(name, None)])?;
        }
        Ok(())
    }

    fn used(&self, node: usize) -> u64 {
        match &self.nodes[node] {
            Node::File(data) => data.now.len() as u64,
            Node::Dir(dir) => dir.now.values().map(|node| self.used(*node)).sum(),
        }
    }

    fn collect(&self, node: usize, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        match &self.nodes[node] {
            Node::File(data) => drop(files.insert(path.to_owned(), data.now.clone())),
            Node::Dir(dir) => {
                dir.now
                    .iter()
                    .for_each(|(name, node)| self.collect(*node, &path.join(name), files));
            }
        }
    }

    /// Copies what is durable of a node, and what is kept of the rest. Answers the new number.
    fn copy_durable(
        &self,
        node: usize,
        kept: Kept,
        random: &mut Random,
        nodes: &mut Vec<Node>,
    ) -> usize {
        let copy = nodes.len();
        match &self.nodes[node] {
            Node::File(data) => {
                let durable = data.image(kept, random);
                let now = durable.clone();
                nodes.push(Node::File(Data { now, durable, pending: Vec::new() }));
            }
            Node::Dir(dir) => {
                nodes.push(Node::Dir(Dir::default()));
                let mut names = BTreeMap::new();
                for (name, node) in dir.image(kept, random) {
                    names.insert(name, self.copy_durable(node, kept, random, nodes));
                }
                let (now, durable) = (names.clone(), names);
                nodes[copy] = Node::Dir(Dir { now, durable, pending: Vec::new() });
            }
        }
        copy
    }
}

/// How much of an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    /// All of it, unless it is a sync: the power fails meanwhile.
    Begun,
    /// Half of it if it is a write, else nothing.
    Half,
    /// As half, but what was not synced never will be.
    Lost,
}

impl Extent {
    fn is_done(self) -> bool {
        matches!(self, Self::Whole | Self::Begun)
    }
}

fn apply_entry(names: &mut BTreeMap<String, usize>, (name, node): &Entry) {
    match node {
        Some(node) => names.insert(name.clone(), *node),
        None => names.remove(name),
    };
}

impl Dir {
    fn image(&self, kept: Kept, random: &mut Random) -> BTreeMap<String, usize> {
        let count = match kept {
            Kept::Nothing => 0,
            Kept::All => self.pending.len(),
            Kept::Until(last) => self.pending.partition_point(|(operation, _)| *operation <= last),
            Kept::Any(_) => random.below(self.pending.len() + 1),
        };
        let mut names = self.durable.clone();
        let kept = self.pending[..count].iter().flat_map(|(_, entries)| entries);
        kept.for_each(|entry| apply_entry(&mut names, entry));
        names
    }
}

impl Data {
    fn image(&self, kept: Kept, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (operation, write) in &self.pending {
            let sectors = write.sectors();
            let keep = |n: usize, random: &mut Random| match kept {
                Kept::Nothing => false,
                Kept::All => true,
                Kept::Until(last) if *operation == last => n < sectors.len().div_ceil(2),
                Kept::Until(last) => *operation < last,
                Kept::Any(_) => random.below(2) == 1,
            };
            for (n, sector) in sectors.iter().enumerate() {
                if keep(n, random) {
                    sector.apply(&mut bytes);
                }
            }
        }
        bytes
    }

    fn write(&mut self, operation: u64, write: Write) {
        write.apply(&mut self.now);
        self.pending.push((operation, write));
    }
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Bytes(at, written) => {
                bytes.resize(bytes.len().max(at + written.len()), 0);
                bytes[*at..at + written.len()].copy_from_slice(written);
            }
        }
    }

    /// The pieces that are kept or lost as a whole.
    fn sectors(&self) -> Vec<Write> {
        let Self::Bytes(at, bytes) = self else {
            return vec![self.clone()];
        };
        let (mut at, mut bytes, mut sectors) = (*at, bytes.as_slice(), Vec::new());
        while !bytes.is_empty() {
            let size = (SECTOR - at % SECTOR).min(bytes.len());
            sectors.push(Self::Bytes(at, bytes[..size].to_vec()));
            (at, bytes) = (at + size, &bytes[size..]);
        }
        sectors
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
        let node = self.state().new_node(path, Node::File(Data::default()))?;
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
        state.data(self.node)?.write(operation, Write::Bytes(at, bytes[..size].to_vec()));
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

/// Numbers that look random and are the same every time (SplitMix64).
#[derive(Debug, Clone)]
pub(in crate::store::log) struct Random(pub(in crate::store::log) u64);

impl Random {
    pub(in crate::store::log) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(in crate::store::log) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
