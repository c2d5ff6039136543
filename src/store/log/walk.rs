//! Walks a whole log from a point in it, segment by segment, and changes nothing.

use std::path::{Path, PathBuf};

use crate::domain::id::{Revision, Uid};
use crate::domain::table::{Floor, SessionTable};
use crate::store::frame::{Frame, Kind, NotAFrame};
use crate::store::log::disk::{Disk, DiskFile};
use crate::store::log::fault::Fault;
use crate::store::log::scan::{Cursor, End, Reason, Scan};
use crate::store::log::segment::{self, About, BLOCK_BYTES};
use crate::store::record;

/// Where a walk ended without finding damage.
#[derive(Debug)]
pub(super) struct Walked {
    /// What it has seen.
    pub(super) cursor: Cursor,
    /// The last segment, if there is one.
    pub(super) last: Option<Last>,
}

/// The last segment of a log.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) path: PathBuf,
    pub(super) about: About,
    /// Behind its last frame.
    pub(super) at: u64,
    /// Behind the last byte of a torn append, if there is one.
    pub(super) torn_until: Option<u64>,
}

/// Gives every frame behind `from` to `visit`, together with what the log had taken before it. `read`
/// is told how many bytes have been walked.
pub(super) fn walk<D: Disk>(
    disk: &D,
    dir: &Path,
    uid: &Uid,
    from: Cursor,
    mut visit: impl FnMut(&Frame<'_>, Cursor) -> Result<(), Reason>,
    mut read: impl FnMut(u64),
) -> Result<Walked, Fault> {
    let names = disk.list(dir).map_err(Fault::io(dir))?;
    let firsts = needed(&names, from);
    let mut cursor = from;
    let mut last: Option<Last> = None;
    let mut before = 0;
    for first in firsts {
        let path = dir.join(segment::name(first));
        let damaged = |at, reason| Fault::Segment { path: path.clone(), at, reason };
        let file = disk.open(&path).map_err(Fault::io(&path))?;
        let about = read_about(&file, &path, uid)?;
        if about.first() != first {
            return Err(damaged(0, Reason::OutOfPlace));
        }
        if let Some(last) = last.as_ref().filter(|last| last.torn_until.is_some()) {
            // Another segment was begun, so everything in this one had been synced.
            let reason = Reason::Frame(NotAFrame::Foreign);
            return Err(Fault::Segment { path: last.path.clone(), at: last.at, reason });
        }
        if last.is_some() || about.first() == from.position.sequence + 1 {
            joins(&about, &cursor).map_err(|reason| damaged(0, reason))?;
        } else if about.first() > from.position.sequence + 1 {
            return Err(damaged(0, Reason::Missing));
        }
        // The log may have been sealed before this segment was begun.
        let begin = Cursor { sealed: false, ..about.cursor() };
        let mut scan = Scan::new(&file, &about, begin).map_err(Fault::io(&path))?;
        let end = loop {
            let seen = scan.cursor();
            let at = scan.at();
            let frame = match scan.step().map_err(Fault::io(&path))? {
                Ok(frame) => frame,
                Err(end) => break end,
            };
            if frame.header.sequence > from.position.sequence {
                visit(&frame, seen).map_err(|reason| damaged(at, reason))?;
            } else if frame.header.sequence == from.position.sequence
                && frame.checksum != from.position.checksum
            {
                return Err(damaged(at, Reason::OutOfPlace));
            }
            read(before + scan.at());
        };
        cursor = scan.cursor();
        let at = scan.at();
        let torn_until = match end {
            End::Clean => None,
            End::Torn { until } => Some(until),
            End::Corrupt(reason) => return Err(damaged(at, reason)),
        };
        before += file.size().map_err(Fault::io(&path))?;
        last = Some(Last { path, about, at, torn_until });
    }
    if cursor.position.sequence < from.position.sequence
        || (last.is_none() && from.position.sequence > 0)
    {
        // What the walk was to begin behind is not there, so neither is what may have followed it.
        let (path, at) = last.map_or((dir.to_owned(), 0), |last| (last.path, last.at));
        return Err(Fault::Segment { path, at, reason: Reason::Missing });
    }
    Ok(Walked { cursor, last })
}

/// Whether a segment goes on where the log has come to.
pub(super) fn joins(about: &About, cursor: &Cursor) -> Result<(), Reason> {
    let behind_taken = cursor.taken.revision.max(cursor.revision);
    let numbers = (about.revision == cursor.revision || about.revision == behind_taken)
        && about.taken == cursor.taken;
    if about.before == cursor.position && numbers {
        Ok(())
    } else if about.before.sequence > cursor.position.sequence {
        Err(Reason::Missing)
    } else {
        Err(Reason::OutOfPlace)
    }
}

/// The first sequences of the segments that hold what is behind `from`.
pub(super) fn needed(names: &[String], from: Cursor) -> Vec<u64> {
    let firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    let next = from.position.sequence + 1;
    let begin = firsts.iter().rposition(|first| *first <= next).unwrap_or(0);
    firsts[begin..].to_vec()
}

/// What the segment in this file says of itself.
pub(super) fn read_about(file: &impl DiskFile, path: &Path, uid: &Uid) -> Result<About, Fault> {
    let block = read_block(file, path)?;
    let damaged = |reason| Fault::Segment { path: path.to_owned(), at: 0, reason };
    segment::read_block(&block, uid).map_err(damaged)
}

/// The block that this file begins with, or as much of it as there is.
pub(super) fn read_block(file: &impl DiskFile, path: &Path) -> Result<Vec<u8>, Fault> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut filled = 0;
    while filled < BLOCK_BYTES {
        let read = file.read_at(&mut block[filled..], filled as u64).map_err(Fault::io(path))?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    block.truncate(filled);
    Ok(block)
}

/// Makes the changes of a frame true in a table.
pub(super) fn replay(
    frame: &Frame<'_>,
    taken: Floor,
    table: &mut SessionTable,
) -> Result<(), Reason> {
    let first = match frame.header.kind {
        Kind::Changes => frame.header.revision.checked_sub(1).ok_or(Reason::OutOfPlace)?,
        Kind::Numbers
        | Kind::Seal
        | Kind::Segment
        | Kind::Snapshot
        | Kind::Sessions
        | Kind::SnapshotEnd
        | Kind::Threads
        | Kind::Answers
        | Kind::Instance
        | Kind::Floor
        | Kind::Gone => frame.header.revision,
    };
    if first != table.revision().get() {
        // Numbering went on behind all numbers that were taken.
        table.raise(taken);
    }
    if frame.header.kind == Kind::Changes {
        let first = Revision::new(frame.header.revision);
        let changes =
            record::read_changes(frame.payload, first).map_err(|_| Reason::Undecodable)?;
        changes.iter().for_each(|change| table.apply(change));
    }
    Ok(())
}
