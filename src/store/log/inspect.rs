//! A data directory as an operator sees it while no server has it: verified, shown, repaired.
//!
//! Verifying and showing only read, and work on a [`ReadOnlyDisk`]. Repairing is the one way past a
//! refusal: it keeps what can be read, says what is lost, and puts aside whatever it replaces.
//! Whoever uses this holds the [`DirLock`].
//!
//! - [`verify`]: what each file holds, and whether a server will open it
//! - [`dump`]: what happened, event by event
//! - `salvage`: what can be kept of a damaged log
//! - [`repair`]: a log that can be opened again
//!
//! [`ReadOnlyDisk`]: crate::store::log::disk::ReadOnlyDisk
//! [`DirLock`]: crate::store::log::lock::DirLock

pub mod dump;
pub mod repair;
mod salvage;
pub mod verify;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::id::{InstanceId, Uid};
use crate::domain::instance::InstanceRecord;
use crate::store::log::catalog::{FLOOR, Files, INSTANCES};
use crate::store::log::compact;
use crate::store::log::disk::Disk;
use crate::store::log::fault::Fault;
use crate::store::log::{segment, walk};

/// How the names of files and directories end that a repair has put aside.
const DAMAGED: &str = ".damaged";

/// A data directory that no server has.
#[derive(Debug)]
pub struct Inspection<D: Disk> {
    files: Files<D>,
}

/// Where the log of an instance is, and what tells whose it is.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// Its record, or why there is none.
    record: Result<InstanceRecord, Fault>,
    /// Found in the log if the record does not tell.
    uid: Option<Uid>,
    /// Whether a repair has put the log aside and was interrupted then.
    aside: bool,
}

impl<D: Disk> Inspection<D> {
    /// The data directory at this path, if it is one.
    pub fn new(disk: D, dir: &Path) -> Result<Self, Fault> {
        let names = disk.list(dir).map_err(Fault::io(dir))?;
        if !names.iter().any(|name| name == INSTANCES || name == FLOOR) {
            let what = "it is no data directory of jet-session".to_owned();
            return Err(Fault::Record { path: dir.to_owned(), what });
        }
        Ok(Self { files: Files::new(disk, dir) })
    }

    /// The instances that it has, by their names.
    pub fn instances(&self) -> Result<Vec<InstanceId>, Fault> {
        let dir = self.files.instances();
        let names = match self.files.disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(Fault::io(&dir))?,
        };
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Those that are meant: all, or the one, which must be there.
    fn chosen(&self, only: Option<&InstanceId>) -> Result<Vec<InstanceId>, Fault> {
        let mut all = self.instances()?;
        if let Some(only) = only {
            all.retain(|id| id == only);
            if all.is_empty() {
                let path = self.files.instance(only);
                return Err(Fault::Io { path, error: io::ErrorKind::NotFound.into() });
            }
        }
        Ok(all)
    }

    /// Finds the log of an instance, also if its record is damaged.
    fn locate(&self, id: &InstanceId) -> Result<Place, Fault> {
        let Files { disk, .. } = &self.files;
        let home = self.files.instance(id);
        let names = disk.list(&home).map_err(Fault::io(&home))?;
        let there = |name: &str| names.iter().any(|found| found == name);
        match self.files.read_record(id) {
            Ok((record, generation)) => {
                let name = generation.to_string();
                let moved = format!("{name}{DAMAGED}");
                let aside = !there(&name) && there(&moved);
                let dir = home.join(if aside { &moved } else { &name });
                let uid = Some(record.uid.clone());
                Ok(Place { dir, record: Ok(record), uid, aside })
            }
            Err(fault) if fault.is_damage() => {
                // If there are several, a restore or a repair was under way; the oldest is the one
                // that was in force before.
                let generations = names.iter().filter_map(|name| name.parse::<u64>().ok());
                let Some(generation) = generations.min() else {
                    return Err(fault);
                };
                let dir = home.join(generation.to_string());
                let uid = uid_in(disk, &dir)?;
                Ok(Place { dir, record: Err(fault), uid, aside: false })
            }
            Err(fault) => Err(fault),
        }
    }

    /// A path as it is shown: from the data directory on.
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.files.root).unwrap_or(path).to_owned()
    }
}

/// Whose log it is, by the newest snapshot or the first segment that tells.
fn uid_in(disk: &impl Disk, dir: &Path) -> Result<Option<Uid>, Fault> {
    let names = disk.list(dir).map_err(Fault::io(dir))?;
    for path in compact::snapshots(dir, &names) {
        if let Ok(about) = compact::about(disk, &path) {
            return Ok(Some(about.uid));
        }
    }
    for name in names.iter().filter(|name| segment::first_of(name).is_some()) {
        let path = dir.join(name);
        let file = disk.open(&path).map_err(Fault::io(&path))?;
        if let Ok((_, uid)) = segment::read_any_block(&walk::read_block(&file, &path)?) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// Who wrote the log of which nothing tells the uid.
fn nobody(path: &Path) -> Fault {
    let what = "neither it nor its log tells whose log it is".to_owned();
    Fault::Record { path: path.to_owned(), what }
}
