//! What a disk that forgets has in mind: nodes, their names and their bytes, now and for good.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Failure, Kept, Plan, SECTOR};

#[derive(Clone)]
pub(super) struct State {
    /// By their numbers. The root directory is the first.
    pub(super) nodes: Vec<Node>,
    pub(super) operations: u64,
    /// How many operations there had been when the plan was made.
    pub(super) planned: u64,
    pub(super) plan: Plan,
    pub(super) dead: bool,
    /// How many bytes the files may have together.
    pub(super) capacity: u64,
    /// Somebody is called before something gets this name, once.
    pub(super) before_rename: Option<(PathBuf, Arc<dyn Fn() + Send + Sync>)>,
    /// One bit is wrong of whatever is written to files that are created under such names.
    pub(super) spoils: Option<&'static str>,
}

#[derive(Clone)]
pub(super) enum Node {
    Dir(Dir),
    File(Data),
}

#[derive(Clone, Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<String, usize>,
    pub(super) durable: BTreeMap<String, usize>,
    /// By operation; what belongs to one is kept or lost together.
    pub(super) pending: Vec<(u64, Vec<Entry>)>,
}

/// A name, and the node that it is given to, if any.
pub(super) type Entry = (String, Option<usize>);

#[derive(Clone, Default)]
pub(super) struct Data {
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<(u64, Write)>,
    pub(super) spoiled: bool,
}

#[derive(Clone)]
pub(super) enum Write {
    Bytes(usize, Vec<u8>),
    Len(usize),
}

impl State {
    /// Begins an operation: what is to be done of it, and how it ends.
    pub(super) fn begin(&mut self) -> io::Result<(Extent, io::Result<()>)> {
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

    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
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

    pub(super) fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let dir = self.find(path.parent().unwrap())?;
        Ok((dir, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    pub(super) fn dir(&mut self, node: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[node] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn data(&mut self, node: usize) -> io::Result<&mut Data> {
        match &mut self.nodes[node] {
            Node::File(data) => Ok(data),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Gives and takes names in a directory, all together.
    pub(super) fn enter(&mut self, dir: usize, entries: Vec<Entry>) -> io::Result<()> {
        let operation = self.operations;
        let dir = self.dir(dir)?;
        entries.iter().for_each(|entry| apply_entry(&mut dir.now, entry));
        dir.pending.push((operation, entries));
        Ok(())
    }

    pub(super) fn new_node(&mut self, path: &Path, node: Node) -> io::Result<usize> {
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
    pub(super) fn empty(&mut self, node: usize) -> io::Result<()> {
        let names: Vec<_> = self.dir(node)?.now.clone().into_iter().collect();
        for (name, inner) in names {
            if matches!(self.nodes[inner], Node::Dir(_)) {
                self.empty(inner)?;
            }
            self.enter(node, vec![(name, None)])?;
        }
        Ok(())
    }

    pub(super) fn used(&self, node: usize) -> u64 {
        match &self.nodes[node] {
            Node::File(data) => data.now.len() as u64,
            Node::Dir(dir) => dir.now.values().map(|node| self.used(*node)).sum(),
        }
    }

    pub(super) fn collect(&self, node: usize, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
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
    pub(super) fn copy_durable(
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
                nodes.push(Node::File(Data { now, durable, ..Data::default() }));
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
pub(super) enum Extent {
    Whole,
    /// All of it, unless it is a sync: the power fails meanwhile.
    Begun,
    /// Half of it if it is a write, else nothing.
    Half,
    /// As half, but what was not synced never will be.
    Lost,
}

impl Extent {
    pub(super) fn is_done(self) -> bool {
        matches!(self, Self::Whole | Self::Begun)
    }
}

pub(super) fn apply_entry(names: &mut BTreeMap<String, usize>, (name, node): &Entry) {
    match node {
        Some(node) => names.insert(name.clone(), *node),
        None => names.remove(name),
    };
}

impl Dir {
    pub(super) fn image(&self, kept: Kept, random: &mut Random) -> BTreeMap<String, usize> {
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
    pub(super) fn image(&self, kept: Kept, random: &mut Random) -> Vec<u8> {
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

    pub(super) fn write(&mut self, operation: u64, write: Write) {
        write.apply(&mut self.now);
        self.pending.push((operation, write));
    }
}

impl Write {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Bytes(at, written) => {
                bytes.resize(bytes.len().max(at + written.len()), 0);
                bytes[*at..at + written.len()].copy_from_slice(written);
            }
        }
    }

    /// The pieces that are kept or lost as a whole.
    pub(super) fn sectors(&self) -> Vec<Write> {
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
