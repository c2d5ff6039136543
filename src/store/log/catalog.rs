//! What a data directory knows beside the logs: the records of the instances, what is kept of those that were
//! deleted, and the floor.
//!
//! ```text
//! DIR/floor                       numbers that no instance may use again
//! DIR/instances/main/instance     the record of `main`, and which generation of its log is in force
//! DIR/instances/main/1/           that log
//! DIR/instances/old.UID.deleted/gone  who created and deleted `old`, for when they ask again
//! ```
//!
//! Each of these files is one frame. It is replaced as a whole: written aside, synced, renamed.
//!
//! - `deleted`: deletions, and what is kept of deleted instances

mod deleted;

use std::path::{Path, PathBuf};

use crate::domain::gone::Gone;
use crate::domain::id::InstanceId;
use crate::domain::instance::InstanceRecord;
use crate::domain::limits::RECORD_BYTES_MAX;
use crate::domain::table::{Floor, SessionTable};
use crate::store::frame::{self, Header, Kind};
use crate::store::log::compact;
use crate::store::log::disk::{Disk, DiskFile, remove_if_there};
use crate::store::log::fault::Fault;
use crate::store::log::writer::UNFINISHED;
use crate::store::record;
use crate::store::snapshot::{About, Position};

pub(super) const INSTANCES: &str = "instances";
pub(super) const RECORD: &str = "instance";
/// The generation of a log that was not restored.
pub(super) const FIRST_GENERATION: u64 = 1;
pub(super) const FLOOR: &str = "floor";
/// How the name of an instance's directory ends until it is whole.
pub(super) const NEW: &str = ".new";

pub(super) use deleted::{DELETED, GONE};

/// The data directory.
#[derive(Debug, Clone)]
pub(super) struct Files<D> {
    pub(super) disk: D,
    pub(super) root: PathBuf,
}

/// All that a directory remembers.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Records, each with the generation of its log.
    pub(super) instances: Vec<(InstanceRecord, u64)>,
    pub(super) damaged: Vec<(InstanceId, Fault)>,
    pub(super) gone: Vec<Gone>,
    pub(super) floor: Floor,
}

impl<D: Disk> Files<D> {
    pub(super) fn new(disk: D, root: &Path) -> Self {
        Self { disk, root: root.to_owned() }
    }

    pub(super) fn instances(&self) -> PathBuf {
        self.root.join(INSTANCES)
    }

    pub(super) fn instance(&self, id: &InstanceId) -> PathBuf {
        self.instances().join(id.as_str())
    }

    /// The directory of a generation of an instance's log.
    pub(super) fn log(&self, id: &InstanceId, generation: u64) -> PathBuf {
        self.instance(id).join(generation.to_string())
    }

    /// Reads everything, and removes what a crash left unfinished. Makes the directory one of ours if
    /// it is empty.
    pub(super) fn load(&self) -> Result<Contents, Fault> {
        let Self { disk, root } = self;
        let dir = self.instances();
        let names = disk.list(root).map_err(Fault::io(root))?;
        // The floor comes first: where there are instances there is one.
        if !names.iter().any(|name| name == FLOOR || name == INSTANCES) {
            self.write_floor(Floor::default())?;
        }
        if !names.iter().any(|name| name == INSTANCES) {
            disk.create_dir(&dir).map_err(Fault::io(&dir))?;
        }
        // What a process left that was killed may be in memory only: here, and in each directory that
        // is read below. Nothing is built on it before it is durable.
        disk.sync_dir(root).map_err(Fault::io(root))?;
        disk.sync_dir(&dir).map_err(Fault::io(&dir))?;
        let mut contents = Contents { floor: self.read_floor()?, ..Contents::default() };
        for name in disk.list(&dir).map_err(Fault::io(&dir))? {
            let path = dir.join(&name);
            if name.ends_with(NEW) {
                disk.remove_dir(&path).map_err(Fault::io(&path))?;
                continue;
            }
            if name.ends_with(DELETED) {
                contents.gone.extend(self.finish_deletion(&path)?);
                continue;
            }
            let Ok(id) = name.parse::<InstanceId>() else {
                tracing::warn!(path = %path.display(), "this is no instance; it is left alone");
                continue;
            };
            let synced = disk.sync_dir(&path).map_err(Fault::io(&path));
            match synced.and_then(|()| self.read_record(&id)) {
                Ok(found) => contents.instances.push(found),
                Err(fault) => contents.damaged.push((id, fault)),
            }
        }
        Ok(contents)
    }

    /// The record of an instance, and the generation of its log.
    pub(super) fn read_record(&self, id: &InstanceId) -> Result<(InstanceRecord, u64), Fault> {
        let path = self.instance(id).join(RECORD);
        let payload = self.read_file(&path, Kind::Instance)?;
        let damaged = |what: String| Fault::Record { path: path.clone(), what };
        let (record, generation) =
            record::read_instance(&payload).map_err(|error| damaged(error.to_string()))?;
        if record.id != *id {
            return Err(damaged(format!("it is the record of {}", record.id)));
        }
        Ok((record, generation))
    }

    /// Makes the directory of a new instance.
    pub(super) fn create(&self, record: &InstanceRecord, generation: u64) -> Result<(), Fault> {
        let Self { disk, .. } = self;
        let dir = self.instance(&record.id);
        let new = self.instances().join(format!("{}{NEW}", record.id));
        // A creation that failed half-way may have left one.
        self.remove_dir_if_there(&new)?;
        disk.create_dir(&new).map_err(Fault::io(&new))?;
        let log = new.join(generation.to_string());
        disk.create_dir(&log).map_err(Fault::io(&log))?;
        self.write_record_in(&new, record, generation)?;
        disk.rename(&new, &dir).map_err(Fault::io(&dir))?;
        disk.sync_dir(&self.instances()).map_err(Fault::io(&dir))
    }

    /// Replaces the record of an instance.
    pub(super) fn update(&self, record: &InstanceRecord, generation: u64) -> Result<(), Fault> {
        self.write_record_in(&self.instance(&record.id), record, generation)
    }

    /// Lays a new log beside the old one, and then names it in the record: both or neither.
    pub(super) fn replace(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
        generation: u64,
    ) -> Result<(), Fault> {
        self.lay_log(record, table, generation)?;
        self.update(record, generation)?;
        self.remove_other_logs(&record.id, generation);
        Ok(())
    }

    /// Makes a log that begins with these sessions. It counts once the record names it.
    pub(super) fn lay_log(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
        generation: u64,
    ) -> Result<(), Fault> {
        let Self { disk, .. } = self;
        let (dir, log) = (self.instance(&record.id), self.log(&record.id, generation));
        self.remove_dir_if_there(&log)?;
        disk.create_dir(&log).map_err(Fault::io(&log))?;
        let about = About {
            instance: record.id.clone(),
            uid: record.uid.clone(),
            created: record.updated,
            position: Position::default(),
            taken: Floor::default(),
        };
        compact::write_snapshot(disk, &log, about, table, &false.into())?;
        // A record must never outlive the directory that it names.
        disk.sync_dir(&dir).map_err(Fault::io(&dir))
    }

    /// Removes every log of an instance but the one in force.
    pub(super) fn remove_other_logs(&self, id: &InstanceId, generation: u64) {
        let dir = self.instance(id);
        let names = self.disk.list(&dir).unwrap_or_default();
        let is_other = |name: &str| name.parse().is_ok_and(|other: u64| other != generation);
        let mut others = names.iter().filter(|name| is_other(name)).peekable();
        if others.peek().is_none() {
            return;
        }
        // They are in force until a record that names another one is durable.
        let removed = self
            .disk
            .sync_dir(&dir)
            .and_then(|()| others.try_for_each(|name| self.disk.remove_dir(&dir.join(name))));
        if let Err(error) = removed {
            // It takes room and does no harm; the next opening tries again.
            tracing::warn!(instance = %id, %error, "an old log stays");
        }
    }

    /// The highest generation that an instance has a log of.
    pub(super) fn newest_log(&self, id: &InstanceId) -> Result<u64, Fault> {
        let dir = self.instance(id);
        let names = self.disk.list(&dir).map_err(Fault::io(&dir))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(FIRST_GENERATION))
    }

    /// Replaces the floor.
    pub(super) fn write_floor(&self, floor: Floor) -> Result<(), Fault> {
        let mut payload = Vec::new();
        record::write_floor(floor, &mut payload);
        self.write_file(&self.root, FLOOR, Kind::Floor, &payload)
    }

    pub(super) fn read_floor(&self) -> Result<Floor, Fault> {
        let path = self.root.join(FLOOR);
        let payload = self.read_file(&path, Kind::Floor)?;
        record::read_floor(&payload)
            .map_err(|error| Fault::Record { path, what: error.to_string() })
    }

    fn write_record_in(
        &self,
        dir: &Path,
        record: &InstanceRecord,
        generation: u64,
    ) -> Result<(), Fault> {
        let mut payload = Vec::new();
        record::write_instance(record, generation, &mut payload);
        self.write_file(dir, RECORD, Kind::Instance, &payload)
    }

    fn write_file(&self, dir: &Path, name: &str, kind: Kind, payload: &[u8]) -> Result<(), Fault> {
        let Self { disk, .. } = self;
        let path = dir.join(name);
        let unfinished = dir.join(format!("{name}{UNFINISHED}"));
        let mut bytes = Vec::new();
        let header = Header { kind, sequence: 0, revision: 0, previous: 0 };
        frame::write(&mut bytes, 0, header, |bytes| bytes.extend_from_slice(payload));
        let write = || {
            remove_if_there(disk, &unfinished)?;
            let mut file = disk.create(&unfinished)?;
            file.write_all_at(&bytes, 0)?;
            file.sync()?;
            disk.rename(&unfinished, &path)?;
            disk.sync_dir(dir)
        };
        write().map_err(Fault::io(&path))
    }

    /// The payload of a file that is one frame.
    fn read_file(&self, path: &Path, kind: Kind) -> Result<Vec<u8>, Fault> {
        let file = self.disk.open(path).map_err(Fault::io(path))?;
        let mut bytes = vec![0; RECORD_BYTES_MAX + 1];
        let mut filled = 0;
        while filled < bytes.len() {
            let read =
                file.read_at(&mut bytes[filled..], filled as u64).map_err(Fault::io(path))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        let bytes = &bytes[..filled];
        let damaged = |what: &str| Fault::Record { path: path.to_owned(), what: what.to_owned() };
        let (frame, size) = frame::read(bytes, 0).map_err(|error| damaged(&error.to_string()))?;
        if frame.header.kind != kind || size != bytes.len() {
            return Err(damaged("it holds something else"));
        }
        Ok(frame.payload.to_vec())
    }

    fn remove_dir_if_there(&self, dir: &Path) -> Result<(), Fault> {
        match self.disk.remove_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(Fault::io(dir)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Revision;
    use crate::store::log::disk::RealDisk;

    #[test]
    fn a_floor_outlives_the_folder_of_instances() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(RealDisk, dir.path());
        files.load().unwrap();
        let floor = Floor { revision: Revision::new(40), sesid: 7 };
        files.write_floor(floor).unwrap();
        std::fs::remove_dir(dir.path().join(INSTANCES)).unwrap();

        assert_eq!(files.load().unwrap().floor, floor);
    }
}
