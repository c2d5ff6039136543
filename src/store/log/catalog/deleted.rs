//! Deletions, and what is kept of deleted instances.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::gone::Gone;
use crate::domain::id::InstanceId;
use crate::domain::instance::InstanceRecord;
use crate::store::frame::Kind;
use crate::store::log::catalog::Files;
use crate::store::log::disk::Disk;
use crate::store::log::fault::Fault;
use crate::store::record;

/// What is kept of a deleted instance.
pub(in crate::store::log) const GONE: &str = "gone";
/// How the name of an instance's directory ends from when it is deleted on.
pub(in crate::store::log) const DELETED: &str = ".deleted";

impl<D: Disk> Files<D> {
    /// Forgets an instance, but for what is to be kept. Its files go as well as they can; the rest goes
    /// with the next start.
    ///
    /// What is kept is written beside the record, and counts from when the directory has the name of a
    /// deleted one: that is the moment at which the instance is gone.
    pub(in crate::store::log) fn delete(
        &self,
        id: &InstanceId,
        kept: Option<&Gone>,
    ) -> Result<(), Fault> {
        let dir = self.instance(id);
        let deleted = match kept {
            Some(gone) => {
                let mut payload = Vec::new();
                record::write_gone(gone, &mut payload);
                self.write_file(&dir, GONE, Kind::Gone, &payload)?;
                self.gone(gone)
            }
            None => {
                self.remove_stale(&dir)?;
                self.instances().join(format!("{id}{DELETED}"))
            }
        };
        self.remove_dir_if_there(&deleted)?;
        self.disk.rename(&dir, &deleted).map_err(Fault::io(&dir))?;
        self.disk.sync_dir(&self.instances()).map_err(Fault::io(&dir))?;
        let removed = match kept {
            Some(_) => self.remove_all_but_gone(&deleted),
            None => self.disk.remove_dir(&deleted),
        };
        if let Err(error) = removed {
            tracing::warn!(instance = %id, %error, "the files of a deleted instance stay for now");
        }
        Ok(())
    }

    /// Removes what a deletion that failed, or was cut off, wanted to keep of an instance.
    fn remove_stale(&self, dir: &Path) -> Result<(), Fault> {
        let Self { disk, .. } = self;
        if disk.list(dir).map_err(Fault::io(dir))?.iter().any(|name| name == GONE) {
            disk.remove(&dir.join(GONE)).map_err(Fault::io(dir))?;
            disk.sync_dir(dir).map_err(Fault::io(dir))?;
        }
        Ok(())
    }

    /// The directory that holds what is kept of a deleted instance.
    fn gone(&self, gone: &Gone) -> PathBuf {
        let Gone { record: InstanceRecord { id, uid, .. }, .. } = gone;
        // A uid is text that any file may hold, and no path.
        let uid: String =
            uid.as_str().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        self.instances().join(format!("{id}.{uid}{DELETED}"))
    }

    /// Removes what is left of a deleted instance, and answers what is kept of it.
    ///
    /// If that cannot be read it is passed over: the instance is gone either way, and that somebody's retry
    /// is refused for want of it is no reason to serve nobody.
    pub(super) fn finish_deletion(&self, dir: &Path) -> Result<Option<Gone>, Fault> {
        let Self { disk, .. } = self;
        match self.read_gone(dir) {
            Ok(gone) => {
                self.remove_all_but_gone(dir).map_err(Fault::io(dir))?;
                Ok(Some(gone))
            }
            Err(fault) if fault.is_damage() => {
                if !matches!(fault, Fault::Io { .. }) {
                    let cause = crate::store::with_causes(&fault);
                    tracing::warn!(cause, "what was kept of a deleted instance is lost");
                }
                disk.remove_dir(dir).map_err(Fault::io(dir))?;
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    fn remove_all_but_gone(&self, dir: &Path) -> io::Result<()> {
        let Self { disk, .. } = self;
        for name in disk.list(dir)?.iter().filter(|name| *name != GONE) {
            let path = dir.join(name);
            // Whether it is a file or a directory, only the disk knows.
            disk.remove(&path).or_else(|_| disk.remove_dir(&path))?;
        }
        Ok(())
    }

    /// What is kept of the deleted instance that had this directory.
    pub(in crate::store::log) fn read_gone(&self, dir: &Path) -> Result<Gone, Fault> {
        let path = dir.join(GONE);
        let payload = self.read_file(&path, Kind::Gone)?;
        record::read_gone(&payload).map_err(|error| Fault::Record { path, what: error.to_string() })
    }

    /// Removes what is kept of a deleted instance.
    pub(in crate::store::log) fn forget(&self, gone: &Gone) -> Result<(), Fault> {
        self.remove_dir_if_there(&self.gone(gone))
    }
}
