//! What can be kept of a damaged log.
//!
//! The newest snapshot that can be read, and what follows it up to the first damage. Whole frames
//! behind that are only counted: what they changed rests on what is lost. Damage before the snapshot
//! is history and costs no session.

use std::path::{Path, PathBuf};

use crate::domain::id::{Revision, Uid};
use crate::domain::limits::SESSIONS_MAX;
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::store::frame::{Frame, Kind, NotAFrame};
use crate::store::log::compact;
use crate::store::log::disk::Disk;
use crate::store::log::fault::Fault;
use crate::store::log::scan::{Cursor, End, Reason, Scan};
use crate::store::log::segment::{self, About};
use crate::store::log::walk::{joins, needed, read_about, replay};
use crate::store::record;
use crate::store::snapshot::{NotASnapshot, Position};

/// What can be kept, and what is in the way of the rest.
#[derive(Debug)]
pub(super) struct Salvage {
    pub(super) table: SessionTable,
    pub(super) base: Base,
    /// What the snapshot says of when it was begun.
    pub(super) created: Timestamp,
    pub(super) taken: Floor,
    pub(super) faults: Vec<Fault>,
    pub(super) lost: Lost,
}

/// On what the sessions rest that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// On a snapshot.
    Snapshot(PathBuf),
    /// On the whole log.
    Beginning,
    /// On a log whose beginning is lost: sessions that began before are lost too.
    Middle,
}

/// What is whole and cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lost {
    /// How many frames.
    pub(super) frames: u64,
    /// How many changes are in them.
    pub(super) changes: u64,
    /// The highest revision among these.
    pub(super) last: Revision,
}

/// Reads what can be read.
pub(super) fn salvage<D: Disk>(
    disk: &D,
    dir: &Path,
    uid: &Uid,
    floor: Option<Floor>,
) -> Result<Salvage, Fault> {
    let mut faults = Vec::new();
    let names = match disk.list(dir).map_err(Fault::io(dir)) {
        Ok(names) => names,
        Err(fault) => {
            keep_going(&mut faults, fault)?;
            Vec::new()
        }
    };
    let Begun { mut table, from, base, created } =
        begin(disk, dir, &names, uid, floor, &mut faults)?;
    let firsts = needed(&names, from);
    let mut walk = Walk { disk, dir, uid, from, cursor: from, faults };
    let stopped = walk.follow(&firsts, &mut table)?;
    let Walk { cursor, mut faults, .. } = walk;
    let mut lost = Lost::default();
    if let Some(stopped) = stopped {
        for first in &firsts[stopped..] {
            count(disk, dir, uid, *first, cursor.position.sequence, &mut lost)?;
        }
    } else if cursor.position.sequence < from.position.sequence {
        // The frame that the snapshot rests on is gone, and perhaps some behind it.
        let path = firsts.last().map_or(dir.to_owned(), |first| dir.join(segment::name(*first)));
        faults.push(Fault::Segment { path, at: 0, reason: Reason::Missing });
    }
    let taken = cursor.taken.max(from.taken);
    Ok(Salvage { table, base, created, taken, faults, lost })
}

/// Takes note of damage; anything else ends it.
fn keep_going(faults: &mut Vec<Fault>, fault: Fault) -> Result<(), Fault> {
    if !fault.is_damage() {
        return Err(fault);
    }
    faults.push(fault);
    Ok(())
}

struct Begun {
    table: SessionTable,
    from: Cursor,
    base: Base,
    created: Timestamp,
}

fn begin<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[String],
    uid: &Uid,
    floor: Option<Floor>,
    faults: &mut Vec<Fault>,
) -> Result<Begun, Fault> {
    for path in compact::snapshots(dir, names) {
        match compact::read_snapshot(disk, &path, |_| ()) {
            Ok((about, table)) if about.uid == *uid => {
                let from = Cursor {
                    position: about.position,
                    revision: table.revision(),
                    taken: about.taken,
                    sealed: about.position.sequence == 0,
                };
                let (base, created) = (Base::Snapshot(path), about.created);
                return Ok(Begun { table, from, base, created });
            }
            Ok(_) => faults.push(Fault::Snapshot { path, error: NotASnapshot::Foreign }),
            Err(fault) => keep_going(faults, fault)?,
        }
    }
    let had_snapshots = !faults.is_empty();
    let created = Timestamp::default();
    let first = names.iter().find_map(|name| segment::first_of(name));
    let above = |floor: Floor, base| {
        let from = Cursor { revision: floor.revision, sealed: true, ..Cursor::default() };
        Begun { table: SessionTable::above(floor), from, base, created }
    };
    let Some(first) = first else {
        let base = if had_snapshots { Base::Middle } else { Base::Beginning };
        return Ok(above(floor.unwrap_or_default(), base));
    };
    if let Some(floor) = floor.filter(|_| first == 1) {
        return Ok(above(floor, Base::Beginning));
    }
    let base = if first == 1 { Base::Beginning } else { Base::Middle };
    let path = dir.join(segment::name(first));
    if base == Base::Middle {
        faults.push(Fault::Segment { path: path.clone(), at: 0, reason: Reason::Missing });
    }
    let file = disk.open(&path).map_err(Fault::io(&path))?;
    match read_about(&file, &path, uid) {
        Ok(about) => {
            let floor = Floor { revision: about.revision, sesid: 0 };
            let from = Cursor { sealed: about.first() == 1, ..about.cursor() };
            Ok(Begun { table: SessionTable::above(floor), from, base, created })
        }
        // It is met again when the log is followed.
        Err(fault) if fault.is_damage() => Ok(above(floor.unwrap_or_default(), base)),
        Err(fault) => Err(fault),
    }
}

/// A walk that takes what it can get.
struct Walk<'a, D> {
    disk: &'a D,
    dir: &'a Path,
    uid: &'a Uid,
    from: Cursor,
    cursor: Cursor,
    faults: Vec<Fault>,
}

impl<D: Disk> Walk<'_, D> {
    /// Applies what follows, up to the first damage. Answers in which of the segments that is.
    fn follow(&mut self, firsts: &[u64], table: &mut SessionTable) -> Result<Option<usize>, Fault> {
        for (n, first) in firsts.iter().enumerate() {
            let (begins, last) = (n == 0, n + 1 == firsts.len());
            let followed = self.segment(*first, begins, last, table);
            if let Err(fault) = followed {
                keep_going(&mut self.faults, fault)?;
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    fn segment(
        &mut self,
        first: u64,
        begins: bool,
        is_last: bool,
        table: &mut SessionTable,
    ) -> Result<(), Fault> {
        let Self { disk, dir, uid, from, .. } = *self;
        let path = dir.join(segment::name(first));
        let damaged = |at, reason| Fault::Segment { path: path.clone(), at, reason };
        let file = disk.open(&path).map_err(Fault::io(&path))?;
        let about = read_about(&file, &path, uid)?;
        if about.first() != first {
            return Err(damaged(0, Reason::OutOfPlace));
        }
        let wanted = from.position.sequence + 1;
        if !begins || first == wanted {
            joins(&about, &self.cursor).map_err(|reason| damaged(0, reason))?;
        } else if first > wanted {
            return Err(damaged(0, Reason::Missing));
        }
        let begin = Cursor { sealed: false, ..about.cursor() };
        let mut scan = Scan::new(&file, &about, begin).map_err(Fault::io(&path))?;
        loop {
            let (seen, at) = (scan.cursor(), scan.at());
            let end = match scan.step().map_err(Fault::io(&path))? {
                Ok(frame) => {
                    let Frame { header, checksum, .. } = frame;
                    if header.sequence > from.position.sequence {
                        replay(&frame, seen.taken, table).map_err(|reason| damaged(at, reason))?;
                        self.cursor = scan.cursor();
                    } else if header.sequence == from.position.sequence
                        && checksum != from.position.checksum
                    {
                        return Err(damaged(at, Reason::OutOfPlace));
                    }
                    continue;
                }
                Err(end) => end,
            };
            let reason = match end {
                End::Clean => break,
                End::Torn { .. } if is_last => break,
                End::Torn { .. } => Reason::Frame(NotAFrame::Foreign),
                End::Corrupt(reason) => reason,
            };
            let before_base = seen.position.sequence < from.position.sequence;
            if !before_base || !scan.skip_damage().map_err(Fault::io(&path))? {
                return Err(damaged(at, reason));
            }
            let Position { sequence, .. } = scan.cursor().position;
            if sequence > from.position.sequence
                || (sequence == from.position.sequence && scan.cursor().position != from.position)
            {
                return Err(damaged(at, reason));
            }
            // Only history is lost: the log goes on at, or before, what is known.
            scan.knows(from.taken);
            self.faults.push(damaged(at, reason));
        }
        self.cursor = scan.cursor();
        Ok(())
    }
}

/// Counts the whole frames of a segment that come after this sequence.
fn count<D: Disk>(
    disk: &D,
    dir: &Path,
    uid: &Uid,
    first: u64,
    after: u64,
    lost: &mut Lost,
) -> Result<(), Fault> {
    let path = dir.join(segment::name(first));
    let file = match disk.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(Fault::io(&path))?,
    };
    let about = read_about(&file, &path, uid).unwrap_or(About {
        before: Position { sequence: first.saturating_sub(1), checksum: 0 },
        revision: Revision::default(),
        taken: Floor::default(),
        salt: segment::salt(uid, first),
    });
    let begin = Cursor { sealed: false, ..about.cursor() };
    let mut scan = Scan::new(&file, &about, begin).map_err(Fault::io(&path))?;
    loop {
        match scan.step().map_err(Fault::io(&path))? {
            Ok(frame) if frame.header.sequence > after => {
                lost.frames += 1;
                if frame.header.kind == Kind::Changes {
                    let count = record::count_changes(frame.payload).unwrap_or(0);
                    lost.changes += count;
                    let last = frame.header.revision.saturating_add(count.saturating_sub(1));
                    lost.last = lost.last.max(Revision::new(last));
                }
            }
            Ok(_) => {}
            Err(End::Clean) => return Ok(()),
            Err(End::Torn { .. } | End::Corrupt(_)) => {
                if !scan.skip_damage().map_err(Fault::io(&path))? {
                    return Ok(());
                }
            }
        }
    }
}

/// As many sessions as an instance whose record is lost may have: as many as it had, at least.
pub(super) fn room_for(table: &SessionTable, usual: u32) -> u32 {
    u32::try_from(table.len()).unwrap_or(SESSIONS_MAX).max(usual)
}
