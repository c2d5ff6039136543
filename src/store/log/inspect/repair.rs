//! A log that can be opened again, after an operator has accepted what is lost.
//!
//! A repaired instance gets a new log in a generation of its own, as by a restore: it begins with a
//! snapshot of the sessions that could be kept. The old log is put aside, whole. Numbering goes on in
//! an epoch that the directory has never come to, so no token and no sesid that was given out in the
//! lost part comes twice.
//!
//! Each step is durable before the next, and after each of them either the old refusal stands or the
//! repair is done; a repair that was interrupted is begun again.

use std::path::{Path, PathBuf};

use crate::domain::id::{InstanceId, Labels};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::limits::{EPOCHS_SKIPPED, SESSIONS_DEFAULT};
use crate::domain::replay::Replays;
use crate::domain::table::{Floor, SessionTable};
use crate::store::Progress;
use crate::store::log::catalog::{FLOOR, Files, RECORD};
use crate::store::log::disk::{Disk, DiskFile, remove_if_there};
use crate::store::log::fault::Fault;
use crate::store::log::recover;
use crate::store::log::writer::UNFINISHED;

use super::salvage::{Base, Salvage, room_for, salvage};
use super::{DAMAGED, Inspection, Place, nobody};

/// Something that a server refuses to open, and what a repair makes of it.
#[derive(Debug)]
pub struct Plan {
    /// The instance; nothing if it is the floor of the directory.
    pub instance: Option<InstanceId>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What is kept, in sentences.
    pub kept: Vec<String>,
    /// What is lost, in sentences.
    pub lost: Vec<String>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Floor(Floor),
    Instance(Box<Rebuilt>),
}

#[derive(Debug)]
struct Rebuilt {
    record: InstanceRecord,
    record_is_new: bool,
    table: SessionTable,
    used: Floor,
    from: PathBuf,
    aside: bool,
}

/// What a repair did.
#[derive(Debug)]
pub struct Done {
    /// Where what was damaged is kept, from the data directory on.
    pub aside: Vec<PathBuf>,
    /// Where numbers go on.
    pub floor: Floor,
}

impl<D: Disk> Inspection<D> {
    /// What has to be done about the floor of the directory, if anything has.
    pub fn plan_floor(&self) -> Result<Option<Plan>, Fault> {
        let fault = match self.files.read_floor() {
            Ok(_) => return Ok(None),
            Err(fault) if fault.is_damage() => fault,
            Err(fault) => return Err(fault),
        };
        let mut used = Floor::default();
        for id in self.instances()? {
            used = used.max(self.used(&id)?);
        }
        let mut floor = used;
        for _ in 0..EPOCHS_SKIPPED {
            floor = floor.next_epoch().ok_or_else(|| self.no_epoch())?;
        }
        let kept = format!(
            "the numbers of all instances here; the floor is raised {EPOCHS_SKIPPED} epochs above \
             them, to {}",
            floor.revision
        );
        let lost = format!(
            "how far deleted instances had come: only if there were more than {EPOCHS_SKIPPED} \
             restores and repairs of instances that are deleted now could one of their tokens come \
             again"
        );
        Ok(Some(Plan {
            instance: None,
            faults: vec![fault],
            kept: vec![kept],
            lost: vec![lost],
            work: Work::Floor(floor),
        }))
    }

    /// What has to be done about an instance, if anything has.
    pub fn plan(&self, id: &InstanceId) -> Result<Option<Plan>, Fault> {
        let Place { dir, generation, record, uid, aside } = self.locate(id)?;
        let disk = &self.files.disk;
        let mut faults = Vec::new();
        if let Ok(record) = &record
            && !aside
        {
            match recover::read(disk, &dir, record, &Progress::ignored()) {
                Ok(_) => return Ok(None),
                Err(fault) if fault.is_damage() => {}
                Err(fault) => return Err(fault),
            }
        }
        let path = self.files.instance(id).join(RECORD);
        let uid = uid.ok_or_else(|| nobody(&path))?;
        let floor = record.as_ref().ok().map(|record| record.floor);
        let saved = salvage(disk, &dir, generation, &uid, floor)?;
        let kept = kept(&saved, self);
        let mut lost = lost(&saved);
        let used = saved.table.floor().max(saved.taken).max(floor.unwrap_or_default());
        let record_is_new = record.is_err();
        let (ended, terminated) = (saved.table.revision(), saved.table.terminated());
        let record = match record {
            // The new log does not tell that a terminate is to be finished.
            Ok(record) if terminated && ended > record.ended => {
                InstanceRecord { resting: Resting::Created, ended, ..record }
            }
            Ok(record) => record,
            Err(fault) => {
                faults.push(fault);
                let record = InstanceRecord {
                    id: id.clone(),
                    uid,
                    labels: Labels::default(),
                    max_sessions: room_for(&saved.table, SESSIONS_DEFAULT),
                    durability: Durability::Flush,
                    created: saved.created,
                    updated: saved.created,
                    floor: Floor::default(),
                    resting: if terminated { Resting::Created } else { Resting::Ready },
                    ended,
                    created_by: None,
                    replays: Replays::default(),
                };
                lost.push(format!(
                    "the record: labels are empty, at most {} sessions, FLUSH, and the instance \
                     comes back {}",
                    record.max_sessions,
                    if terminated { "created" } else { "ready" },
                ));
                record
            }
        };
        faults.extend(saved.faults);
        let table = saved.table;
        let rebuilt = Rebuilt { record, record_is_new, table, used, from: dir, aside };
        let work = Work::Instance(Box::new(rebuilt));
        Ok(Some(Plan { instance: Some(id.clone()), faults, kept, lost, work }))
    }

    /// Does it. The floor comes before the instances.
    pub fn repair(&self, plan: Plan) -> Result<Done, Fault> {
        match plan.work {
            Work::Floor(floor) => self.repair_floor(floor),
            Work::Instance(rebuilt) => self.repair_instance(*rebuilt),
        }
    }

    fn repair_floor(&self, floor: Floor) -> Result<Done, Fault> {
        let Files { root, .. } = &self.files;
        let aside = self.copy_aside(root, FLOOR)?;
        self.files.write_floor(floor)?;
        Ok(Done { aside: aside.into_iter().map(|path| self.shown(&path)).collect(), floor })
    }

    fn repair_instance(&self, rebuilt: Rebuilt) -> Result<Done, Fault> {
        let Rebuilt { mut record, record_is_new, mut table, used, from, aside } = rebuilt;
        let files = &self.files;
        let home = files.instance(&record.id);
        let used = used.max(files.read_floor()?);
        let floor = used.next_epoch().ok_or_else(|| self.no_epoch())?;
        // From here on the epoch is taken, whatever becomes of the rest.
        files.write_floor(floor)?;
        table.raise(floor);
        record.floor = floor;
        let generation = self.newest_generation(&home)? + 1;
        files.lay_log(&record, table, generation)?;
        let mut kept = Vec::new();
        if record_is_new {
            kept.extend(self.copy_aside(&home, RECORD)?);
        }
        if aside {
            kept.push(from);
        } else if let Some(moved) = self.move_aside(&home, &from)? {
            kept.push(moved);
        }
        // From here on the log in force is not there, until the record names the new one.
        files.update(&record, generation)?;
        Ok(Done { aside: kept.iter().map(|path| self.shown(path)).collect(), floor })
    }

    /// A floor above every number that an instance is known to have used.
    fn used(&self, id: &InstanceId) -> Result<Floor, Fault> {
        let Place { dir, generation, record, uid, .. } = match self.locate(id) {
            Err(fault) if fault.is_damage() => return Ok(Floor::default()),
            place => place?,
        };
        let Some(uid) = uid else {
            return Ok(Floor::default());
        };
        let floor = record.ok().map(|record| record.floor);
        let saved = salvage(&self.files.disk, &dir, generation, &uid, floor)?;
        Ok(saved.table.floor().max(saved.taken).max(floor.unwrap_or_default()))
    }

    fn no_epoch(&self) -> Fault {
        let what = "all epochs of this directory are used up".to_owned();
        Fault::Record { path: self.files.root.join(FLOOR), what }
    }

    /// The highest generation that there ever was, also of logs that were put aside.
    fn newest_generation(&self, home: &Path) -> Result<u64, Fault> {
        let names = self.files.disk.list(home).map_err(Fault::io(home))?;
        let generation = |name: &String| name.split('.').next()?.parse::<u64>().ok();
        Ok(names.iter().filter_map(generation).max().unwrap_or(0))
    }

    /// Copies a file beside itself. It stays where it is until it is replaced.
    fn copy_aside(&self, dir: &Path, name: &str) -> Result<Option<PathBuf>, Fault> {
        let Files { disk, .. } = &self.files;
        let path = dir.join(name);
        let size = match disk.open(&path).and_then(|file| file.size()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            size => size.map_err(Fault::io(&path))?,
        };
        let name = self.free_name(dir, name)?;
        let (kept, unfinished) = (dir.join(&name), dir.join(format!("{name}{UNFINISHED}")));
        remove_if_there(disk, &unfinished).map_err(Fault::io(&unfinished))?;
        recover::copy(disk, &path, 0..size, &kept)?;
        disk.sync_dir(dir).map_err(Fault::io(dir))?;
        Ok(Some(kept))
    }

    /// Gives the log in force another name.
    fn move_aside(&self, home: &Path, log: &Path) -> Result<Option<PathBuf>, Fault> {
        let Files { disk, .. } = &self.files;
        let name = log.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = disk.list(home).map_err(Fault::io(home))?;
        if !names.iter().any(|found| found == name) {
            return Ok(None);
        }
        let kept = home.join(self.free_name(home, name)?);
        disk.rename(log, &kept).map_err(Fault::io(&kept))?;
        disk.sync_dir(home).map_err(Fault::io(home))?;
        Ok(Some(kept))
    }

    /// `NAME.damaged`, or with a number if there is one from an earlier repair.
    fn free_name(&self, dir: &Path, name: &str) -> Result<String, Fault> {
        let names = self.files.disk.list(dir).map_err(Fault::io(dir))?;
        let first = std::iter::once(format!("{name}{DAMAGED}"));
        let further = (2_u64..).map(|n| format!("{name}{DAMAGED}-{n}"));
        let free = first.chain(further).find(|wanted| !names.contains(wanted));
        Ok(free.expect("a directory has fewer names than there are numbers"))
    }
}

fn kept<D: Disk>(saved: &Salvage, inspection: &Inspection<D>) -> Vec<String> {
    let table = &saved.table;
    let rests_on = match &saved.base {
        Base::Snapshot(path) => {
            format!("{} and the log behind it", inspection.shown(path).display())
        }
        Base::Beginning => "the log from its beginning".to_owned(),
        Base::Middle => "what is left of the log, without its beginning".to_owned(),
    };
    vec![format!(
        "{} sessions, {} of them bound, as of revision {}, from {rests_on}",
        table.len(),
        table.bound_count(),
        table.revision(),
    )]
}

fn lost(saved: &Salvage) -> Vec<String> {
    let mut lost = Vec::new();
    if saved.base == Base::Middle {
        lost.push("every session that began before the oldest segment that is left".to_owned());
    }
    let next = saved.table.revision().next();
    lost.push(if saved.lost.frames == 0 {
        format!("whatever was acknowledged from revision {next} on; no whole frame is left of it")
    } else if saved.lost.changes == 0 {
        format!(
            "whatever was acknowledged from revision {next} on in damaged places; the {} whole \
             frames behind them hold no changes",
            saved.lost.frames
        )
    } else {
        format!(
            "revisions {next} to {}: {} changes in {} whole frames behind the damage, and what was \
             in damaged places",
            saved.lost.last, saved.lost.changes, saved.lost.frames
        )
    });
    lost
}
