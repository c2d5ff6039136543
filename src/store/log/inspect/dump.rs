//! What happened to an instance, frame by frame, as its log tells it.

use crate::domain::event::Change;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::table::Floor;
use crate::store::frame::{Kind, NotAFrame};
use crate::store::log::disk::Disk;
use crate::store::log::fault::Fault;
use crate::store::log::scan::{Cursor, End, Reason, Scan};
use crate::store::log::segment::{self, About};
use crate::store::log::walk::{joins, read_about};
use crate::store::record;

use super::{Inspection, nobody};

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The sequence of the segment's first frame, which is its name.
    pub segment: u64,
    /// The first byte of the frame.
    pub byte: u64,
    /// The sequence of the frame.
    pub sequence: u64,
}

/// Something that a log tells.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A segment begins, of which these revisions come before.
    Segment(Revision),
    /// Something happened to a session, or to all.
    Change(&'a Change),
    /// Numbers are taken up to these.
    Numbers(Floor),
    /// The log was closed in good order.
    Seal,
    /// The rest of an append that was never acknowledged, up to this byte.
    Torn(u64),
}

impl<D: Disk> Inspection<D> {
    /// Tells what is in the log of an instance, beginning with the change of this revision. Ends at
    /// the first damage; everything before has been told then. Holds one frame at a time.
    pub fn dump<E: From<Fault>>(
        &self,
        id: &InstanceId,
        from: Revision,
        mut tell: impl FnMut(At, &Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = self.locate(id)?;
        let (disk, dir) = (&self.files.disk, &place.dir);
        let uid = place.uid.ok_or_else(|| nobody(dir))?;
        let names = disk.list(dir).map_err(Fault::io(dir))?;
        let firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
        let open = |first: u64| -> Result<(D::File, About), Fault> {
            let path = dir.join(segment::name(first));
            let file = disk.open(&path).map_err(Fault::io(&path))?;
            let about = read_about(&file, &path, &uid)?;
            Ok((file, about))
        };
        // A segment that begins at or behind the wanted revision has nothing before it.
        let begin = firsts
            .iter()
            .rposition(|first| open(*first).is_ok_and(|(_, about)| about.revision < from));
        let firsts = &firsts[begin.unwrap_or(0)..];
        let mut before: Option<Cursor> = None;
        for (n, first) in firsts.iter().enumerate() {
            let path = dir.join(segment::name(*first));
            let damaged = |at, reason| Fault::Segment { path: path.clone(), at, reason };
            let (file, about) = open(*first)?;
            if about.first() != *first {
                return Err(damaged(0, Reason::OutOfPlace).into());
            }
            if let Some(before) = before {
                joins(&about, &before).map_err(|reason| damaged(0, reason))?;
            }
            let at = At { segment: *first, byte: 0, sequence: about.first() };
            tell(at, &Entry::Segment(about.revision))?;
            let begin = Cursor { sealed: false, ..about.cursor() };
            let mut scan = Scan::new(&file, &about, begin).map_err(Fault::io(&path))?;
            let end = loop {
                let byte = scan.at();
                let frame = match scan.step().map_err(Fault::io(&path))? {
                    Ok(frame) => frame,
                    Err(end) => break end,
                };
                let at = At { segment: *first, byte, sequence: frame.header.sequence };
                let bad = |_| damaged(byte, Reason::Undecodable);
                match frame.header.kind {
                    Kind::Changes => {
                        let first = Revision::new(frame.header.revision);
                        let changes = record::read_changes(frame.payload, first).map_err(bad)?;
                        for change in changes.iter().filter(|change| change.revision >= from) {
                            tell(at, &Entry::Change(change))?;
                        }
                    }
                    Kind::Numbers => {
                        let taken = record::read_numbers(frame.payload).map_err(bad)?;
                        tell(at, &Entry::Numbers(taken))?;
                    }
                    Kind::Seal => tell(at, &Entry::Seal)?,
                    Kind::Segment
                    | Kind::Snapshot
                    | Kind::Sessions
                    | Kind::SnapshotEnd
                    | Kind::Threads
                    | Kind::Answers
                    | Kind::Instance
                    | Kind::Floor
                    | Kind::Gone => return Err(damaged(byte, Reason::OutOfPlace).into()),
                }
            };
            match end {
                End::Clean => {}
                End::Torn { until } if n + 1 == firsts.len() => {
                    let sequence = scan.cursor().position.sequence + 1;
                    let at = At { segment: *first, byte: scan.at(), sequence };
                    tell(at, &Entry::Torn(until))?;
                }
                // Another segment was begun, so everything in this one had been synced.
                End::Torn { .. } => {
                    let reason = Reason::Frame(NotAFrame::Foreign);
                    return Err(damaged(scan.at(), reason).into());
                }
                End::Corrupt(reason) => return Err(damaged(scan.at(), reason).into()),
            }
            before = Some(scan.cursor());
        }
        Ok(())
    }
}
