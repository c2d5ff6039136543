//! What a log remembers of the past: for those who watch and were not told everything.
//!
//! Changes alone do not say what a session was, so the past begins at a snapshot, or at the beginning of
//! the log, and is folded from there. It is read while the log goes on, a bounded piece at a time, and
//! holds nothing of the log: a segment that is deleted meanwhile stays readable while it is open, and one
//! that is gone is told as what it is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::event::Change;
use crate::domain::id::{Revision, Uid};
use crate::domain::limits::{HISTORY_READ_BYTES, LAZY_SYNC_MS_MAX};
use crate::domain::table::{Floor, Retries, SessionTable};
use crate::store::frame::{Frame, Kind};
use crate::store::log::compact::{self, Beginning};
use crate::store::log::disk::Disk;
use crate::store::log::fault::Fault;
use crate::store::log::scan::{Cursor, Reason, Scan};
use crate::store::log::segment::{self, About, BLOCK_BYTES};
use crate::store::log::walk::{joins, needed, read_about};
use crate::store::log::work::Work;
use crate::store::{Changes, History, NoHistory, Past, record};

/// How often what was answered is waited for that is not in the log yet, each time as long as that may
/// take.
const WAITS_MAX: usize = 50;

const DOING: &str = "reading what a log remembers of the past";

/// The past of one log.
#[derive(Debug)]
pub(super) struct LogHistory<D>(pub(super) Arc<Log<D>>);

/// Where a log is.
#[derive(Debug)]
pub(super) struct Log<D> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    pub(super) uid: Uid,
    /// Where its numbers began.
    pub(super) floor: Floor,
    pub(super) work: Work,
}

/// What a log remembers from some revision on.
struct Remembered<D: Disk> {
    log: Arc<Log<D>>,
    /// Gone while it is being read, and for good after an error.
    reader: Option<Reader<D>>,
    /// What was read first.
    first: Vec<Change>,
}

/// Reads the frames of a log while somebody appends to it.
struct Reader<D: Disk> {
    log: Arc<Log<D>>,
    /// What has been read.
    cursor: Cursor,
    segment: Option<Segment<D::File>>,
}

struct Segment<F> {
    file: F,
    path: PathBuf,
    about: About,
    /// What has been walked of it.
    cursor: Cursor,
    at: u64,
}

impl<D: Disk> History for LogHistory<D> {
    fn oldest(&self) -> BoxFuture<'_, Result<Option<Revision>, NoHistory>> {
        Box::pin(async {
            let log = Arc::clone(&self.0);
            let oldest = self.0.work.run(move || log.oldest()).await;
            oldest.map_err(|fault| NoHistory::Unreadable(fault.while_doing(DOING)))
        })
    }

    fn since(&self, from: Revision) -> BoxFuture<'_, Result<Past, NoHistory>> {
        Box::pin(async move {
            let log = Arc::clone(&self.0);
            let mut begun = self.0.work.run(move || log.begin(from)).await?;
            for _ in 0..WAITS_MAX {
                let (again, found) = self.0.work.run(move || begun.find(from)).await;
                if let Some(first) = found? {
                    let Begun { reader, table } = again;
                    let log = Arc::clone(&self.0);
                    let changes = Remembered { log, reader: Some(reader), first };
                    return Ok(Past { table, changes: Box::new(changes) });
                }
                begun = again;
                tokio::time::sleep(Duration::from_millis(LAZY_SYNC_MS_MAX)).await;
            }
            Err(NoHistory::Before(from.next()))
        })
    }
}

impl<D: Disk> Changes for Remembered<D> {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, NoHistory>> {
        Box::pin(async {
            if !self.first.is_empty() {
                return Ok(std::mem::take(&mut self.first));
            }
            let Some(mut reader) = self.reader.take() else {
                let error = io::Error::other("an earlier read failed or was given up");
                let fault = Fault::Io { path: self.log.dir.clone(), error };
                return Err(NoHistory::Unreadable(fault.while_doing(DOING)));
            };
            let (reader, read) = self
                .log
                .work
                .run(move || {
                    let mut changes = Vec::new();
                    let read = reader.read(HISTORY_READ_BYTES, |frame, _| {
                        changes.extend(changes_of(frame)?);
                        Ok(Then::GoOn)
                    });
                    let read = read.map(|()| changes);
                    (reader, read)
                })
                .await;
            match read {
                Ok(changes) => {
                    self.reader = Some(reader);
                    Ok(changes)
                }
                Err(fault) => Err(self.log.not_kept(fault)),
            }
        })
    }
}

impl<D: Disk> Log<D> {
    /// The first change that is kept together with the sessions before it.
    fn oldest(&self) -> Result<Option<Revision>, Fault> {
        let Self { disk, dir, floor, .. } = self;
        let names = disk.list(dir).map_err(Fault::io(dir))?;
        let mut oldest = None;
        for beginning in compact::beginnings(disk, dir, &names)? {
            oldest = Some(match beginning {
                Beginning::Log => floor.revision.next(),
                Beginning::Snapshot { revision, .. } => revision.next(),
            });
        }
        Ok(oldest)
    }

    /// The newest beginning that is not behind this change.
    fn begin(self: Arc<Self>, from: Revision) -> Result<Begun<D>, NoHistory> {
        let Self { disk, dir, floor, .. } = &*self;
        let names = disk.list(dir).map_err(|error| self.not_kept(Fault::io(dir)(error)))?;
        let beginnings = compact::beginnings(disk, dir, &names);
        for beginning in beginnings.map_err(|fault| self.not_kept(fault))? {
            let (table, cursor) = match beginning {
                Beginning::Log if floor.revision < from => {
                    let revision = floor.revision;
                    (SessionTable::above(*floor), Cursor { revision, ..Cursor::default() })
                }
                Beginning::Snapshot { revision, path, .. } if revision < from => {
                    match compact::read_snapshot(disk, &path, |_| ()) {
                        Ok((about, table)) if about.uid == self.uid => {
                            let (position, taken) = (about.position, about.taken);
                            (lean(table), Cursor { position, revision, taken, sealed: false })
                        }
                        Err(fault @ Fault::Io { .. }) => return Err(self.not_kept(fault)),
                        // The one before and the log since then tell the same.
                        Ok(_) | Err(_) => continue,
                    }
                }
                Beginning::Log | Beginning::Snapshot { .. } => continue,
            };
            let reader = Reader { log: Arc::clone(&self), cursor, segment: None };
            return Ok(Begun { reader, table });
        }
        Err(self.before(from))
    }

    /// Why something cannot be read: what is not there any more is not kept.
    fn not_kept(&self, fault: Fault) -> NoHistory {
        let gone = match &fault {
            Fault::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
            Fault::Segment { reason, .. } => *reason == Reason::Missing,
            Fault::Snapshot { .. } | Fault::Record { .. } => false,
        };
        match self.oldest() {
            Ok(Some(oldest)) if gone => NoHistory::Before(oldest),
            Ok(_) | Err(_) => NoHistory::Unreadable(fault.while_doing(DOING)),
        }
    }

    /// What is not kept begins before this.
    fn before(&self, from: Revision) -> NoHistory {
        match self.oldest() {
            Ok(oldest) => NoHistory::Before(oldest.unwrap_or(from.next())),
            Err(fault) => NoHistory::Unreadable(fault.while_doing(DOING)),
        }
    }
}

/// A table without what nobody asks the past for.
fn lean(mut table: SessionTable) -> SessionTable {
    *table.retries_mut() = Retries::default();
    // A copy has no index.
    table.clone()
}

/// The past before the change that is looked for.
struct Begun<D: Disk> {
    reader: Reader<D>,
    table: SessionTable,
}

impl<D: Disk> Begun<D> {
    /// Goes on to right before a change. Answers the first changes from it on, or nothing if the log does
    /// not go as far yet.
    fn find(mut self, from: Revision) -> (Self, Result<Option<Vec<Change>>, NoHistory>) {
        let Self { reader, table } = &mut self;
        let (mut first, mut lost_until) = (Vec::new(), None);
        let read = reader.read(usize::MAX, |frame, seen| {
            if table.revision().next() == from {
                // What comes next is behind numbers that were left out.
                first = changes_of(frame)?;
                return Ok(Then::Stop);
            }
            if before(frame)? != table.revision().get() {
                table.raise(seen.taken);
                if table.revision() >= from {
                    lost_until = Some(table.revision());
                    return Ok(Then::Stop);
                }
            }
            for mut change in changes_of(frame)? {
                if change.revision < from {
                    change.made = Vec::new();
                    table.apply(&change);
                } else {
                    first.push(change);
                }
            }
            Ok(if first.is_empty() { Then::GoOn } else { Then::Stop })
        });
        let found = match (read, lost_until) {
            (Err(fault), _) => Err(reader.log.not_kept(fault)),
            // What was told there was lost before it was durable.
            (Ok(()), Some(lost)) => Err(NoHistory::Before(lost.next())),
            (Ok(()), None) => Ok((table.revision().next() == from).then_some(first)),
        };
        (self, found)
    }
}

/// Whether a reader goes on after a frame.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    /// This frame was the last that is wanted for now.
    Stop,
}

/// What is behind the part of a log that was read.
enum Behind {
    /// No other segment.
    Nothing,
    /// The segment with the next frame.
    Next,
    /// A segment with a later one.
    Later,
}

impl<D: Disk> Reader<D> {
    /// Gives the frames behind what has been read to `visit`, with what the log had taken before each,
    /// until there is no whole one more, about so many bytes have been read, or `visit` has enough.
    fn read(
        &mut self,
        bytes: usize,
        mut visit: impl FnMut(&Frame<'_>, Cursor) -> Result<Then, Reason>,
    ) -> Result<(), Fault> {
        let mut read = 0;
        // The last frame of a segment that is seen to be followed by another one.
        let mut followed = None;
        while let Some(mut segment) = self.segment()? {
            let Segment { file, path, about, cursor, at } = &mut segment;
            let damaged = |at, reason| Fault::Segment { path: path.clone(), at, reason };
            let mut scan = Scan::from(file, about, *cursor, *at).map_err(Fault::io(path))?;
            let mut enough = false;
            while !enough {
                let (seen, here) = (scan.cursor(), scan.at());
                let step = scan.step_if_whole().map_err(Fault::io(path))?;
                let Some(frame) = step.map_err(|reason| damaged(here, reason))? else {
                    break;
                };
                read += frame.payload.len();
                let before = self.cursor.position;
                if frame.header.sequence > before.sequence {
                    let then = visit(&frame, seen).map_err(|reason| damaged(here, reason))?;
                    enough = then == Then::Stop || read >= bytes;
                } else if frame.header.sequence == before.sequence
                    && frame.checksum != before.checksum
                {
                    return Err(damaged(here, Reason::OutOfPlace));
                }
                if scan.cursor().position.sequence >= before.sequence {
                    self.cursor = scan.cursor();
                }
            }
            (*cursor, *at) = (scan.cursor(), scan.at());
            let (last, missing) = (self.cursor.position, damaged(*at, Reason::Missing));
            let behind = if enough { Behind::Nothing } else { self.behind(about.first())? };
            match behind {
                Behind::Next => {}
                Behind::Nothing => {
                    self.segment = Some(segment);
                    return Ok(());
                }
                Behind::Later if followed == Some(last) => return Err(missing),
                Behind::Later => {
                    // What is between may have been written since it was looked for.
                    followed = Some(last);
                    self.segment = Some(segment);
                }
            }
        }
        Ok(())
    }

    /// What goes on behind what has been read of the segment that begins with this frame. Another one is
    /// begun only when it has been written to its end.
    fn behind(&self, first: u64) -> Result<Behind, Fault> {
        let next = self.cursor.position.sequence + 1;
        let Log { disk, dir, .. } = &*self.log;
        let names = disk.list(dir).map_err(Fault::io(dir))?;
        let mut later = names.iter().filter_map(|name| segment::first_of(name));
        Ok(match later.find(|later| *later > first && *later >= next) {
            None => Behind::Nothing,
            Some(later) if later == next => Behind::Next,
            Some(_) => Behind::Later,
        })
    }

    /// The segment with the next frame; nothing if the log has none yet.
    fn segment(&mut self) -> Result<Option<Segment<D::File>>, Fault> {
        if let Some(segment) = self.segment.take() {
            return Ok(Some(segment));
        }
        let Log { disk, dir, uid, .. } = &*self.log;
        let names = disk.list(dir).map_err(Fault::io(dir))?;
        let Some(first) = needed(&names, self.cursor).first().copied() else {
            return Ok(None);
        };
        let path = dir.join(segment::name(first));
        let damaged = |reason| Fault::Segment { path: path.clone(), at: 0, reason };
        let file = disk.open(&path).map_err(Fault::io(&path))?;
        let about = read_about(&file, &path, uid)?;
        let next = self.cursor.position.sequence + 1;
        if about.first() == next {
            joins(&about, &self.cursor).map_err(damaged)?;
        } else if about.first() > next {
            return Err(damaged(Reason::Missing));
        }
        let cursor = Cursor { sealed: false, ..about.cursor() };
        Ok(Some(Segment { file, path, about, cursor, at: BLOCK_BYTES as u64 }))
    }
}

/// The changes of a frame.
fn changes_of(frame: &Frame<'_>) -> Result<Vec<Change>, Reason> {
    if frame.header.kind != Kind::Changes {
        return Ok(Vec::new());
    }
    let first = Revision::new(frame.header.revision);
    record::read_changes(frame.payload, first).map_err(|_| Reason::Undecodable)
}

/// The last revision before a frame.
fn before(frame: &Frame<'_>) -> Result<u64, Reason> {
    match frame.header.kind {
        Kind::Changes => frame.header.revision.checked_sub(1).ok_or(Reason::OutOfPlace),
        Kind::Numbers
        | Kind::Seal
        | Kind::Segment
        | Kind::Snapshot
        | Kind::Sessions
        | Kind::Threads
        | Kind::Answers
        | Kind::SnapshotEnd
        | Kind::Instance
        | Kind::Floor
        | Kind::Gone => Ok(frame.header.revision),
    }
}
