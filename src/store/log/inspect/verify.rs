//! Reads every byte of a data directory and says of each file what it holds, or what is wrong.
//!
//! The judgement is the server's own: `recover::read` decides whether an instance will be opened.
//! Beside it everything is read that the server would not need today: history, the older snapshot,
//! files that wait to be used. And the log is replayed from as far back as it goes, which must give
//! exactly what each later snapshot holds.

use std::path::{Path, PathBuf};

use crate::domain::id::{InstanceId, Uid};
use crate::domain::instance::InstanceRecord;
use crate::domain::jet_err::JetErr;
use crate::store::Progress;
use crate::store::log::catalog::{
    DELETED, FIRST_GENERATION, FLOOR, Files, GONE, INSTANCES, NEW, RECORD,
};
use crate::store::log::compact;
use crate::store::log::disk::{Disk, DiskFile};
use crate::store::log::fault::Fault;
use crate::store::log::recover::{self, UNREADABLE};
use crate::store::log::segment::{BLOCK_BYTES, first_of, name as segment_name};
use crate::store::log::writer::{NEXT, RESERVE, SPARE, UNFINISHED};

use super::read::{compare, segment, snapshot};
use super::{DAMAGED, Inspection, Place, nobody};

/// A file, or a directory that is only named, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its path, from the data directory on.
    pub path: PathBuf,
    /// How long it is; nothing of a directory.
    pub bytes: Option<u64>,
    /// What was found.
    pub verdict: Verdict,
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is whole, and holds this.
    Sound(String),
    /// It is not part of what is remembered, for this reason.
    Leftover(String),
    /// It is damaged, and nothing needs it today.
    Spoilt(Trouble),
    /// It is damaged, and a server will refuse it.
    Refused(Trouble),
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What a server calls it.
    pub error: JetErr,
    /// From which byte on, if that is known.
    pub at: Option<u64>,
    /// What is wrong.
    pub reason: String,
    /// What an operator can do.
    pub advice: &'static str,
}

const REPAIR: &str = "put back a copy, or see what `jet-session log repair` would keep and lose";
const SYSTEM: &str = "look at the disk, and at who may read the file";
const UPGRADE: &str = "use the release that wrote it";
const NOTHING: &str = "nothing: it is replaced in time";
const REMOVE: &str = "remove it: the server makes a new one";
const KEEP: &str = "keep a copy of the directory and report it: one of the two is wrong";

impl Trouble {
    fn needed(fault: &Fault) -> Self {
        let advice = match fault {
            _ if fault.is_damage() => REPAIR,
            Fault::Io { .. } => SYSTEM,
            Fault::Segment { .. } | Fault::Snapshot { .. } | Fault::Record { .. } => UPGRADE,
        };
        Self { advice, ..Self::unneeded(fault) }
    }

    fn unneeded(fault: &Fault) -> Self {
        let (error, at, reason) = (fault.jet_err(), fault.at(), fault.reason());
        Self { error, at, reason, advice: NOTHING }
    }
}

/// Gathers what is found, file by file.
struct Report<'a, D: Disk> {
    inspection: &'a Inspection<D>,
    checked: Vec<Checked>,
}

impl<D: Disk> Inspection<D> {
    /// Reads everything, or everything of one instance. Nothing is changed.
    pub fn verify(&self, only: Option<&InstanceId>) -> Result<Vec<Checked>, Fault> {
        let mut report = Report { inspection: self, checked: Vec::new() };
        let chosen = self.chosen(only)?;
        report.root(only.is_none())?;
        for id in chosen {
            report.instance(&id)?;
        }
        Ok(report.checked)
    }
}

impl<D: Disk> Report<'_, D> {
    fn files(&self) -> &Files<D> {
        &self.inspection.files
    }

    fn add(&mut self, path: &Path, verdict: Verdict) {
        let size = self.files().disk.open(path).and_then(|file| file.size());
        let path = self.inspection.shown(path);
        self.checked.push(Checked { path, bytes: size.ok(), verdict });
    }

    fn add_dir(&mut self, path: &Path, verdict: Verdict) {
        let path = self.inspection.shown(path);
        self.checked.push(Checked { path, bytes: None, verdict });
    }

    /// What is beside the instances.
    fn root(&mut self, all: bool) -> Result<(), Fault> {
        let (root, dir) = (self.files().root.clone(), self.files().instances());
        let floor = match self.files().read_floor() {
            Ok(floor) => Verdict::Sound(format!(
                "no number up to revision {} and session {} is new again",
                floor.revision, floor.sesid
            )),
            Err(fault) => Verdict::Refused(Trouble::needed(&fault)),
        };
        self.add(&root.join(FLOOR), floor);
        if !all {
            return Ok(());
        }
        for name in self.files().disk.list(&root).map_err(Fault::io(&root))? {
            if ![FLOOR, INSTANCES, "lock"].contains(&name.as_str()) {
                self.add(&root.join(&name), leftover(&name));
            }
        }
        let names = self.files().disk.list(&dir).unwrap_or_default();
        for name in names.iter().filter(|name| name.parse::<InstanceId>().is_err()) {
            if name.ends_with(DELETED) && self.gone(&dir.join(name)) {
                continue;
            }
            let why = if name.ends_with(NEW) || name.ends_with(DELETED) {
                "a creation or deletion was interrupted; the next start removes it"
            } else {
                "no instance can have this name; it is left alone"
            };
            self.add_dir(&dir.join(name), Verdict::Leftover(why.to_owned()));
        }
        Ok(())
    }

    /// The directory of a deleted instance, if anything is kept of that.
    fn gone(&mut self, dir: &Path) -> bool {
        let names = self.files().disk.list(dir).unwrap_or_default();
        if !names.iter().any(|name| name == GONE) {
            return false;
        }
        let verdict = match self.files().read_gone(dir) {
            Ok(gone) => Verdict::Sound(format!(
                "instances/{} was deleted; who asked for it can ask again for a while",
                gone.record.id
            )),
            Err(fault) => Verdict::Spoilt(Trouble::unneeded(&fault)),
        };
        self.add(&dir.join(GONE), verdict);
        for name in names.iter().filter(|name| *name != GONE) {
            let why = "a deletion was interrupted; the next start removes it".to_owned();
            self.add_dir(&dir.join(name), Verdict::Leftover(why));
        }
        true
    }

    fn instance(&mut self, id: &InstanceId) -> Result<(), Fault> {
        let home = self.files().instance(id);
        let path = home.join(RECORD);
        let Place { dir, generation, record, uid, aside } = match self.inspection.locate(id) {
            Ok(place) => place,
            Err(fault) => {
                self.add(&path, Verdict::Refused(Trouble::needed(&fault)));
                return Ok(());
            }
        };
        let verdict = match &record {
            Ok(record) => Verdict::Sound(format!(
                "instances/{id}, uid {}, its numbers above revision {}",
                record.uid.as_str(),
                record.floor.revision
            )),
            Err(fault) => Verdict::Refused(Trouble::needed(fault)),
        };
        self.add(&path, verdict);
        for name in self.files().disk.list(&home).map_err(Fault::io(&home))? {
            let path = home.join(&name);
            if name == RECORD || path == dir {
                continue;
            }
            match name.parse::<u64>() {
                Ok(_) => {
                    let why = "a log that is not in force; the next start removes it";
                    self.add_dir(&path, Verdict::Leftover(why.to_owned()));
                }
                Err(_) if name.contains(DAMAGED) => self.add_dir(&path, leftover(&name)),
                Err(_) => self.add(&path, leftover(&name)),
            }
        }
        if aside {
            let why = "a repair was interrupted here".to_owned();
            let (error, at) = (JetErr::MissingLogFile, None);
            let trouble = Trouble { error, at, reason: why, advice: REPAIR };
            self.add_dir(&dir, Verdict::Refused(trouble));
            return Ok(());
        }
        let Some(uid) = uid else {
            self.add_dir(&dir, Verdict::Refused(Trouble::needed(&nobody(&dir))));
            return Ok(());
        };
        self.log(&dir, generation, record.ok().as_ref(), &uid)
    }

    /// A whole log.
    fn log(
        &mut self,
        dir: &Path,
        generation: u64,
        record: Option<&InstanceRecord>,
        uid: &Uid,
    ) -> Result<(), Fault> {
        let disk = self.files().disk.clone();
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(error) => {
                let fault = Fault::io(dir)(error);
                self.add_dir(dir, Verdict::Refused(Trouble::needed(&fault)));
                return Ok(());
            }
        };
        // What a server will say. Without a record it says nothing of the log.
        let opened = record.map(|record| recover::read(&disk, dir, record, &Progress::ignored()));
        let refusal = opened.and_then(Result::err);
        let verdict = |fault: &Fault| match &refusal {
            Some(refusal) if refusal.path() == fault.path() => {
                Verdict::Refused(Trouble::needed(fault))
            }
            Some(_) | None => Verdict::Spoilt(Trouble::unneeded(fault)),
        };
        let first = self.checked.len();
        let mut snapshots = Vec::new();
        for path in compact::snapshots(dir, &names).into_iter().rev() {
            match snapshot(&disk, &path, uid) {
                Ok((about, table)) => {
                    let what =
                        format!("{} sessions as of revision {}", table.len(), table.revision());
                    self.add(&path, Verdict::Sound(what));
                    snapshots.push((path, about));
                }
                Err(fault) => self.add(&path, verdict(&fault)),
            }
        }
        let mut before = None;
        let firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
        for (n, first) in firsts.iter().enumerate() {
            let path = dir.join(segment_name(*first));
            let is_last = n + 1 == firsts.len();
            match segment(&disk, &path, *first, uid, before, is_last) {
                Ok((what, cursor)) => {
                    self.add(&path, Verdict::Sound(what));
                    before = Some(cursor);
                }
                Err(fault) => {
                    self.add(&path, verdict(&fault));
                    before = None;
                }
            }
        }
        for name in &names {
            let path = dir.join(name);
            if first_of(name).is_some() || compact::revision_of(name).is_some() {
                continue;
            }
            let found = match name.as_str() {
                SPARE | RESERVE => zeros(&disk, &path, name == SPARE)?,
                other => leftover(other),
            };
            self.add(&path, found);
        }
        if let Some(refusal) = refusal {
            let shown = self.inspection.shown(refusal.path());
            let told = self.checked[first..]
                .iter()
                .any(|it| it.path == shown && matches!(it.verdict, Verdict::Refused(_)));
            let verdict = Verdict::Refused(Trouble::needed(&refusal));
            if refusal.path() == dir {
                self.add_dir(dir, verdict);
            } else if !told {
                self.add(refusal.path(), verdict);
            }
            return Ok(());
        }
        // A log that was restored begins with a snapshot, and replaying it with that or a later one.
        let floor = record.map(|record| record.floor).filter(|_| generation == FIRST_GENERATION);
        for (path, reason) in compare(&disk, dir, uid, &firsts, &snapshots, floor)? {
            let (error, at) = (JetErr::LogFileCorrupt, None);
            self.add(&path, Verdict::Refused(Trouble { error, at, reason, advice: KEEP }));
        }
        Ok(())
    }
}

/// A file that waits to become a segment. One that is about to already begins like one.
fn zeros<D: Disk>(disk: &D, path: &Path, spare: bool) -> Result<Verdict, Fault> {
    let file = disk.open(path).map_err(Fault::io(path))?;
    let mut bytes = vec![0; 64 * 1024];
    let mut at = BLOCK_BYTES as u64;
    loop {
        let read = file.read_at(&mut bytes, at).map_err(Fault::io(path))?;
        if read == 0 {
            break;
        }
        if let Some(position) = bytes[..read].iter().position(|byte| *byte != 0) {
            return Ok(Verdict::Spoilt(Trouble {
                error: JetErr::LogFileCorrupt,
                at: Some(at + position as u64),
                reason: "there should be zeros only".to_owned(),
                advice: REMOVE,
            }));
        }
        at += read as u64;
    }
    let what = if spare { "zeros for the next segment" } else { "zeros for when the disk is full" };
    Ok(Verdict::Sound(what.to_owned()))
}

/// A file that is not part of what is remembered, by its name.
fn leftover(name: &str) -> Verdict {
    let why = if name == GONE {
        "a deletion was interrupted, and the instance is there; it can be removed"
    } else if name.ends_with(UNFINISHED) || name == NEXT {
        "it was never finished; it is removed in time"
    } else if name.ends_with(UNREADABLE) {
        "a snapshot that could not be read; it can be removed"
    } else if name.ends_with(".torn") {
        "a copy of an append that was cut off; it can be removed"
    } else if name.contains(DAMAGED) {
        "put aside by a repair; it can be removed"
    } else {
        "not made by a server; it is left alone"
    };
    Verdict::Leftover(why.to_owned())
}
