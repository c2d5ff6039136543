//! Reads snapshots and segments to their ends, and compares what they tell.

use std::path::{Path, PathBuf};

use crate::domain::id::{Revision, Uid};
use crate::domain::table::{Floor, SessionTable};
use crate::store::frame::{Kind, NotAFrame};
use crate::store::log::compact;
use crate::store::log::disk::Disk;
use crate::store::log::fault::Fault;
use crate::store::log::scan::{Cursor, End, Reason, Scan};
use crate::store::log::walk::{joins, read_about, replay, walk};
use crate::store::record;
use crate::store::snapshot::{About, NotASnapshot};

/// Reads a snapshot to its end.
pub(super) fn snapshot(
    disk: &impl Disk,
    path: &Path,
    uid: &Uid,
) -> Result<(About, SessionTable), Fault> {
    let (about, table) = compact::read_snapshot(disk, path, |_| ())?;
    let named = path.file_name().and_then(|name| compact::revision_of(name.to_str()?));
    if about.uid != *uid || named != Some(table.revision()) {
        return Err(Fault::Snapshot { path: path.to_owned(), error: NotASnapshot::Foreign });
    }
    Ok((about, table))
}

/// Reads a segment to its end. Answers what it holds, and where the log is behind it.
pub(super) fn segment<D: Disk>(
    disk: &D,
    path: &Path,
    first: u64,
    uid: &Uid,
    before: Option<Cursor>,
    is_last: bool,
) -> Result<(String, Cursor), Fault> {
    let damaged = |at, reason| Fault::Segment { path: path.to_owned(), at, reason };
    let file = disk.open(path).map_err(Fault::io(path))?;
    let about = read_about(&file, path, uid)?;
    if about.first() != first {
        return Err(damaged(0, Reason::OutOfPlace));
    }
    if let Some(before) = before {
        joins(&about, &before).map_err(|reason| damaged(0, reason))?;
    }
    let begin = Cursor { sealed: false, ..about.cursor() };
    let mut scan = Scan::new(&file, &about, begin).map_err(Fault::io(path))?;
    let (mut frames, mut changes) = (0_u64, 0_u64);
    let end = loop {
        let at = scan.at();
        match scan.step().map_err(Fault::io(path))? {
            Ok(frame) => {
                frames += 1;
                if frame.header.kind == Kind::Changes {
                    let first = Revision::new(frame.header.revision);
                    let read = record::read_changes(frame.payload, first);
                    let read = read.map_err(|_| damaged(at, Reason::Undecodable))?;
                    changes += read.len() as u64;
                }
            }
            Err(end) => break end,
        }
    };
    let (cursor, at) = (scan.cursor(), scan.at());
    let mut what = format!("{frames} frames with {changes} changes");
    if frames > 0 {
        what.push_str(&format!(", up to revision {}", cursor.revision));
    }
    match end {
        End::Clean if cursor.sealed => what.push_str(", sealed"),
        End::Clean => {}
        End::Torn { until } if is_last => what.push_str(&format!(
            "; bytes {at} to {until} are of an append that was never acknowledged, and the next \
             start cuts them off"
        )),
        // Another segment was begun, so everything in this one had been synced.
        End::Torn { .. } => return Err(damaged(at, Reason::Frame(NotAFrame::Foreign))),
        End::Corrupt(reason) => return Err(damaged(at, reason)),
    }
    Ok((what, cursor))
}

/// Replays the log from as far back as it goes. Answers which snapshots hold something else.
pub(super) fn compare<D: Disk>(
    disk: &D,
    dir: &Path,
    uid: &Uid,
    firsts: &[u64],
    snapshots: &[(PathBuf, About)],
    floor: Option<Floor>,
) -> Result<Vec<(PathBuf, String)>, Fault> {
    let from_log = snapshots.iter().all(|(_, about)| about.position.sequence > 0);
    let (mut table, from, later) = match (floor, snapshots) {
        (Some(floor), _) if from_log && firsts.first() == Some(&1) => {
            let from = Cursor { revision: floor.revision, sealed: true, ..Cursor::default() };
            (SessionTable::above(floor), from, snapshots)
        }
        (_, [(oldest, _), later @ ..]) => {
            let (about, table) = compact::read_snapshot(disk, oldest, |_| ())?;
            let from = Cursor {
                position: about.position,
                revision: table.revision(),
                taken: about.taken,
                sealed: about.position.sequence == 0,
            };
            (table, from, later)
        }
        (_, []) => return Ok(Vec::new()),
    };
    let mut differ = Vec::new();
    let mut later = later.iter().peekable();
    let walked = walk(
        disk,
        dir,
        uid,
        from,
        |frame, seen| {
            replay(frame, seen.taken, &mut table)?;
            while let Some((path, about)) =
                later.next_if(|(_, about)| about.position.sequence == frame.header.sequence)
            {
                let same = compact::read_snapshot(disk, path, |_| ()).is_ok_and(|(_, held)| {
                    let mut table = table.clone();
                    if held.revision() != table.revision() {
                        table.raise(about.taken);
                    }
                    about.position.checksum == frame.checksum && tell_the_same(&held, &table)
                });
                if !same {
                    let what = "it holds other sessions than the log tells of at its revision";
                    differ.push((path.clone(), what.to_owned()));
                }
            }
            Ok(())
        },
        |_| (),
    );
    match walked {
        // Damage before the newest snapshot has been told, and nothing behind it can be compared.
        Ok(_) | Err(Fault::Segment { .. }) => Ok(differ),
        Err(fault) => Err(fault),
    }
}

/// Whether two tables hold the same, as far as snapshots tell.
fn tell_the_same(one: &SessionTable, other: &SessionTable) -> bool {
    one.floor() == other.floor()
        && one.issued() == other.issued()
        && one.after(None).eq(other.after(None))
}
