//! Recovery: from the files of a log to the sessions they tell of, and to a log that can go on.
//!
//! The newest snapshot that can be read is loaded, and what the log says since then is applied. A torn
//! tail is cut, and a copy of it kept. Anything else that is not right is a [`Fault`], and nothing is
//! changed then: an operator decides.
//!
//! A log may have been written by a process that was killed, or whose last sync failed; the last frame
//! that is read may then be in the system's memory and not on the disk. So it is written anew and synced
//! before anything is served: a seal in its place, anything else with its segment.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::instance::InstanceRecord;
use crate::domain::table::SessionTable;
use crate::store::Progress;
use crate::store::frame;
use crate::store::log::compact;
use crate::store::log::disk::{Disk, DiskFile};
use crate::store::log::fault::Fault;
use crate::store::log::scan::{Cursor, Reason};
use crate::store::log::segment::{self, BLOCK_BYTES};
use crate::store::log::walk::{Last, Walked, replay, walk};
use crate::store::log::writer::{NEXT, UNFINISHED};

/// How the name of a snapshot goes on that cannot be read.
pub(super) const UNREADABLE: &str = ".unreadable";

/// What a log tells of.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) table: SessionTable,
    pub(super) cursor: Cursor,
    /// The bytes that were replayed: how much a snapshot would save.
    pub(super) replayed: u64,
    /// The size of the newest snapshot.
    pub(super) snapshot_bytes: u64,
    /// Snapshots that cannot be read, newer than the one that was.
    unreadable: Vec<PathBuf>,
    last: Option<Last>,
}

/// Reads a log and changes nothing.
pub(super) fn read<D: Disk>(
    disk: &D,
    dir: &Path,
    record: &InstanceRecord,
    progress: &Progress,
) -> Result<Recovered, Fault> {
    let names = disk.list(dir).map_err(Fault::io(dir))?;
    let mut meter = Meter::new(disk, dir, &names, progress);
    let (mut table, unreadable, from) = begin(disk, dir, &names, record, &mut meter)?;
    let snapshot_bytes = meter.begin_log();
    let mut replayed = 0;
    let Walked { cursor, last } = walk(
        disk,
        dir,
        &record.uid,
        from,
        |frame, seen| {
            replayed += frame.payload.len() as u64;
            replay(frame, seen.taken, &mut table)
        },
        |read| meter.read(read),
    )?;
    Ok(Recovered { table, cursor, replayed, snapshot_bytes, unreadable, last })
}

/// Makes a log that was read ready to go on.
pub(super) fn mend<D: Disk>(disk: &D, dir: &Path, recovered: &mut Recovered) -> Result<(), Fault> {
    for name in disk.list(dir).map_err(Fault::io(dir))? {
        if name.ends_with(UNFINISHED) || name == NEXT {
            let path = dir.join(name);
            disk.remove(&path).map_err(Fault::io(&path))?;
        }
    }
    for path in &recovered.unreadable {
        // Out of the way, so that it does not count as one of the two that are kept.
        let mut aside = path.clone().into_os_string();
        aside.push(UNREADABLE);
        disk.rename(path, Path::new(&aside)).map_err(Fault::io(path))?;
    }
    if recovered.cursor.sealed {
        return recovered.last.as_ref().map_or(Ok(()), |last| write_seal_anew(disk, last));
    }
    if let Some(last) = &recovered.last {
        write_anew(disk, dir, last)?;
    }
    let Recovered { table, cursor, .. } = recovered;
    if cursor.taken.revision > table.revision() {
        // Answers may have been given that were never synced: their numbers must not come twice.
        table.raise(cursor.taken);
        cursor.revision = table.revision();
    }
    Ok(())
}

/// Where replaying begins: the newest snapshot that can be read, or the beginning of the log.
fn begin<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[String],
    record: &InstanceRecord,
    meter: &mut Meter<'_>,
) -> Result<(SessionTable, Vec<PathBuf>, Cursor), Fault> {
    let mut unreadable = None;
    let mut passed_over = Vec::new();
    for path in compact::snapshots(dir, names) {
        match compact::read_snapshot(disk, &path, |read| meter.read(read)) {
            Ok((about, table)) if about.uid == record.uid => {
                let cursor = Cursor {
                    position: about.position,
                    revision: table.revision(),
                    taken: about.taken,
                    sealed: about.position.sequence == 0,
                };
                return Ok((table, passed_over, cursor));
            }
            Ok(_) => {
                passed_over.push(path.clone());
                let error = crate::store::snapshot::NotASnapshot::Foreign;
                unreadable.get_or_insert(Fault::Snapshot { path, error });
            }
            Err(fault @ Fault::Io { .. }) => return Err(fault),
            Err(fault) => {
                // The older snapshot and the log since then tell the same.
                tracing::warn!(
                    instance = %record.id,
                    snapshot = %path.display(),
                    cause = crate::store::with_causes(&fault),
                    "a snapshot cannot be read; an older one is tried",
                );
                passed_over.push(path);
                unreadable.get_or_insert(fault);
            }
        }
    }
    let beginning = Cursor { revision: record.floor.revision, sealed: true, ..Cursor::default() };
    match unreadable {
        // Without a snapshot everything must still be in the log.
        Some(fault) if compact::was_restored(dir) || !names.contains(&segment::name(1)) => {
            Err(fault)
        }
        None if compact::was_restored(dir) => {
            Err(Fault::Segment { path: dir.to_owned(), at: 0, reason: Reason::Missing })
        }
        Some(_) | None => Ok((SessionTable::above(record.floor), passed_over, beginning)),
    }
}

/// Writes the frames of the last segment to a new file and syncs it. Keeps what is cut off.
fn write_anew<D: Disk>(disk: &D, dir: &Path, last: &Last) -> Result<(), Fault> {
    let Last { path, about, at, torn_until } = last;
    if let Some(until) = torn_until {
        let kept = torn_copy(dir, about.first(), *at);
        tracing::warn!(
            segment = %path.display(),
            from = at,
            until,
            copy = %kept.display(),
            "an append was torn and has been cut off; it was never acknowledged",
        );
        copy(disk, path, *at..*until, &kept)?;
        disk.sync_dir(dir).map_err(Fault::io(dir))?;
    }
    if *at == BLOCK_BYTES as u64 {
        // It has no frame, and the next segment takes its name and its place. Until then its name says
        // that the log goes on behind a seal, if there is one before it.
        return disk.sync_dir(dir).map_err(Fault::io(dir));
    }
    copy(disk, path, 0..*at, path)?;
    disk.sync_dir(dir).map_err(Fault::io(dir))
}

/// Writes the seal that a log ends in once more. In its place, because the same bytes over the same
/// bytes tear nothing, and everything before it was synced before it was written.
fn write_seal_anew<D: Disk>(disk: &D, last: &Last) -> Result<(), Fault> {
    const SEAL_BYTES: usize = frame::frame_bytes(0);
    let write = || {
        let mut file = disk.open(&last.path)?;
        let (mut seal, at) = ([0; SEAL_BYTES], last.at - SEAL_BYTES as u64);
        let mut filled = 0;
        while filled < SEAL_BYTES {
            match file.read_at(&mut seal[filled..], at + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        file.write_all_at(&seal, at)?;
        file.sync()
    };
    write().map_err(Fault::io(&last.path))
}

/// Where a torn tail is kept.
fn torn_copy(dir: &Path, first: u64, at: u64) -> PathBuf {
    dir.join(format!("{first:020}-{at}.torn"))
}

/// Copies a part of a file into a new one, which is synced before it gets its name.
pub(super) fn copy<D: Disk>(
    disk: &D,
    from: &Path,
    part: std::ops::Range<u64>,
    to: &Path,
) -> Result<(), Fault> {
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let source = disk.open(from).map_err(Fault::io(from))?;
    let mut bytes = vec![0; 256 * 1024];
    let mut at = part.start;
    let mut target = disk.create(&unfinished).map_err(Fault::io(&unfinished))?;
    while at < part.end {
        let size = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(bytes.len());
        let read = source.read_at(&mut bytes[..size], at).map_err(Fault::io(from))?;
        if read == 0 {
            break;
        }
        target.write_all_at(&bytes[..read], at - part.start).map_err(Fault::io(&unfinished))?;
        at += read as u64;
    }
    target.sync().map_err(Fault::io(&unfinished))?;
    disk.rename(&unfinished, to).map_err(Fault::io(to))
}

/// Tells how much of all that will be read has been.
struct Meter<'a> {
    progress: &'a Progress,
    total: u64,
    before: u64,
    seen: u64,
    told: u8,
}

impl<'a> Meter<'a> {
    fn new<D: Disk>(disk: &D, dir: &Path, names: &[String], progress: &'a Progress) -> Self {
        let size = |path: PathBuf| disk.open(&path).and_then(|file| file.size()).unwrap_or(0);
        let snapshot = compact::snapshots(dir, names).into_iter().next().map_or(0, size);
        let log = names.iter().filter(|name| name.ends_with(".log"));
        let total = snapshot + log.map(|name| size(dir.join(name))).sum::<u64>();
        Self { progress, total, before: 0, seen: 0, told: 0 }
    }

    /// So many bytes of the part have been read.
    fn read(&mut self, bytes: u64) {
        self.seen = bytes;
        let percent = ((self.before + bytes) * 100).checked_div(self.total).unwrap_or(100);
        let percent = u8::try_from(percent.min(100)).unwrap_or(100);
        if percent > self.told {
            self.told = percent;
            self.progress.report(percent);
        }
    }

    /// The snapshot has been read; answers its size.
    fn begin_log(&mut self) -> u64 {
        self.before = self.seen;
        self.before
    }
}
