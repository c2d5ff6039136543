//! Walks the frames of a segment, changes nothing, and says how the segment ends.
//!
//! A segment ends in zeros ([`End::Clean`]), or in something that is no frame. That is a *torn tail*,
//! the rest of an append that nobody was told had succeeded, if nothing valid follows it; if anything
//! does, it is *corruption*: something that was acknowledged is damaged. After a seal nothing is
//! appended, so whatever follows one is corruption too.

use std::io;
use std::ops::Range;

use crate::domain::id::Revision;
use crate::domain::table::Floor;
use crate::store::frame::{self, ALIGNMENT, Frame, HEADER_BYTES, Kind, MAGIC, NotAFrame};
use crate::store::log::disk::DiskFile;
use crate::store::log::segment::{About, BLOCK_BYTES};
use crate::store::record;
use crate::store::snapshot::Position;

/// How much is read at a time.
const WINDOW_BYTES: usize = 256 * 1024;

/// What a walk through a log has seen so far: where it stands, and what may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The last frame.
    pub position: Position,
    /// The last revision.
    pub revision: Revision,
    /// Numbers that are taken: numbering goes on behind the last revision or behind these.
    pub taken: Floor,
    /// Whether the last frame is a seal.
    pub sealed: bool,
}

/// How a segment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// In zeros, or with the file.
    Clean,
    /// In bytes that are the rest of an append: from where the segment ended to the last of them.
    Torn {
        /// The last of them is before this byte.
        until: u64,
    },
    /// In damage.
    Corrupt(Reason),
}

/// Why a log cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A frame is damaged.
    #[error(transparent)]
    Frame(#[from] NotAFrame),
    /// A whole frame is not the one that belongs here.
    #[error("a frame is out of place")]
    OutOfPlace,
    /// The payload of a whole frame says nothing sensible.
    #[error("a frame holds nothing that this release understands")]
    Undecodable,
    /// It is of another instance.
    #[error("it is part of the log of another instance")]
    Foreign,
    /// It was written by a later release.
    #[error("its format is {0}, which is newer than this release")]
    Newer(u32),
    /// Something follows the seal.
    #[error("something follows its seal")]
    BehindSeal,
    /// A part of the log is not there.
    #[error("the part before it is missing")]
    Missing,
}

/// A walk through one segment.
#[derive(Debug)]
pub struct Scan<'f, F> {
    file: &'f F,
    salt: u32,
    len: u64,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    cursor: Cursor,
}

/// A whole frame in the window.
struct Found {
    header: frame::Header,
    checksum: u32,
    payload: Range<usize>,
    size: usize,
}

impl<'f, F: DiskFile> Scan<'f, F> {
    /// Walks a segment that begins like this. The cursor is that of the log before it.
    pub fn new(file: &'f F, about: &About, cursor: Cursor) -> io::Result<Self> {
        let len = file.size()?;
        Ok(Self {
            file,
            salt: about.salt,
            len,
            at: BLOCK_BYTES as u64,
            window: Vec::new(),
            window_at: 0,
            cursor,
        })
    }

    /// Where the walk stands: behind the last frame that it saw.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What the walk has seen.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Goes on with a walk that stood here, in a segment that somebody is writing.
    pub(super) fn from(file: &'f F, about: &About, cursor: Cursor, at: u64) -> io::Result<Self> {
        Ok(Self { at, ..Self::new(file, about, cursor)? })
    }

    /// The next frame, or how the segment ends. After an end the answer stays the same.
    pub fn step(&mut self) -> io::Result<Result<Frame<'_>, End>> {
        let found = match self.frame_at(self.at)? {
            Ok(found) => found,
            Err(bad) => return Ok(Err(self.end(bad)?)),
        };
        Ok(self.pass(found).map_err(End::Corrupt))
    }

    /// The next frame if it is there and whole. What else is there is not judged: somebody may be writing
    /// it.
    pub(super) fn step_if_whole(&mut self) -> io::Result<Result<Option<Frame<'_>>, Reason>> {
        match self.frame_at(self.at)? {
            Ok(found) => Ok(self.pass(found).map(Some)),
            Err(_) => Ok(Ok(None)),
        }
    }

    /// Takes a whole frame for the next one, if it is.
    fn pass(&mut self, found: Found) -> Result<Frame<'_>, Reason> {
        let Found { header, checksum, payload, size } = found;
        let cursor = self.follows(&header, &self.window[payload.clone()])?;
        let position = Position { sequence: header.sequence, checksum };
        self.cursor = Cursor { position, ..cursor };
        self.at += size as u64;
        Ok(Frame { header, payload: &self.window[payload], checksum })
    }

    /// Whether a frame belongs behind those before it, and what has been seen then.
    fn follows(&self, header: &frame::Header, payload: &[u8]) -> Result<Cursor, Reason> {
        let Cursor { position, revision, taken, .. } = self.cursor;
        if header.sequence != position.sequence + 1 || header.previous != position.checksum {
            return Err(Reason::OutOfPlace);
        }
        // Numbering goes on behind the last revision, or behind all that were taken.
        let goes_on =
            |last: u64| last == revision.get() || last == taken.revision.get().max(revision.get());
        let mut cursor = Cursor { sealed: false, ..self.cursor };
        match header.kind {
            Kind::Changes => {
                let last = header.revision.checked_sub(1).ok_or(Reason::OutOfPlace)?;
                if !goes_on(last) {
                    return Err(Reason::OutOfPlace);
                }
                let count = record::count_changes(payload).map_err(|_| Reason::Undecodable)?;
                let last = last.checked_add(count).ok_or(Reason::OutOfPlace)?;
                cursor.revision = Revision::new(last);
            }
            Kind::Numbers => {
                if !goes_on(header.revision) {
                    return Err(Reason::OutOfPlace);
                }
                let taken = record::read_numbers(payload).map_err(|_| Reason::Undecodable)?;
                cursor.revision = Revision::new(header.revision);
                cursor.taken = cursor.taken.max(taken);
            }
            Kind::Seal => {
                if !goes_on(header.revision) {
                    return Err(Reason::OutOfPlace);
                }
                cursor.revision = Revision::new(header.revision);
                cursor.sealed = true;
            }
            Kind::Segment
            | Kind::Snapshot
            | Kind::Sessions
            | Kind::SnapshotEnd
            | Kind::Threads
            | Kind::Answers
            | Kind::Instance
            | Kind::Floor
            | Kind::Gone => return Err(Reason::OutOfPlace),
        }
        Ok(cursor)
    }

    /// Judges what is behind the last frame.
    fn end(&mut self, bad: NotAFrame) -> io::Result<End> {
        let Some(until) = self.last_byte()? else {
            return Ok(End::Clean);
        };
        if self.cursor.sealed {
            return Ok(End::Corrupt(Reason::BehindSeal));
        }
        if self.later_frame()?.is_some() {
            return Ok(End::Corrupt(Reason::Frame(bad)));
        }
        Ok(End::Torn { until })
    }

    /// Behind the last byte from here on that is not zero.
    fn last_byte(&mut self) -> io::Result<Option<u64>> {
        let mut last = None;
        let mut at = self.at;
        while at < self.len {
            let chunk = self.bytes(at, 1)?;
            let Some(position) = chunk.iter().rposition(|byte| *byte != 0) else {
                at += chunk.len() as u64;
                continue;
            };
            last = Some(at + position as u64 + 1);
            at += chunk.len() as u64;
        }
        Ok(last)
    }

    /// Goes on behind damage, with the next whole frame that comes later in the log. Answers whether
    /// there is one: what was between is lost.
    pub(super) fn skip_damage(&mut self) -> io::Result<bool> {
        let Position { sequence, checksum } = self.cursor.position;
        let here = self.frame_at(self.at)?.ok().map(|found| (self.at, found.header));
        let here = here.filter(|(_, header)| {
            // One that cannot be understood where it belongs is damage itself.
            header.sequence > sequence + 1
                || (header.sequence == sequence + 1 && header.previous != checksum)
        });
        let next = match here {
            Some(here) => Some(here),
            None => self.later_frame()?,
        };
        let Some((at, header)) = next else {
            return Ok(false);
        };
        let before =
            Position { sequence: header.sequence.saturating_sub(1), checksum: header.previous };
        let revision = header.revision.saturating_sub(u64::from(header.kind == Kind::Changes));
        self.at = at;
        self.cursor.position = before;
        self.cursor.revision = Revision::new(revision);
        self.cursor.sealed = false;
        Ok(true)
    }

    /// Numbers that are known to have been taken, in a part that was skipped.
    pub(super) fn knows(&mut self, taken: Floor) {
        self.cursor.taken = self.cursor.taken.max(taken);
    }

    /// The first frame behind here that comes later in the log, and where it is.
    fn later_frame(&mut self) -> io::Result<Option<(u64, frame::Header)>> {
        let last = self.cursor.position.sequence;
        let mut at = self.at + ALIGNMENT as u64;
        while at < self.len {
            let chunk = self.bytes(at, HEADER_BYTES)?;
            let found = chunk.chunks(ALIGNMENT).position(|bytes| bytes.starts_with(&MAGIC));
            let Some(found) = found else {
                at += (chunk.len() as u64).next_multiple_of(ALIGNMENT as u64);
                continue;
            };
            at += (found * ALIGNMENT) as u64;
            if let Ok(found) = self.frame_at(at)?
                && found.header.sequence > last
            {
                return Ok(Some((at, found.header)));
            }
            at += ALIGNMENT as u64;
        }
        Ok(None)
    }

    /// The frame that begins here.
    fn frame_at(&mut self, at: u64) -> io::Result<Result<Found, NotAFrame>> {
        let salt = self.salt;
        let whole = |bytes: &[u8]| {
            let (frame, size) = frame::read(bytes, salt)?;
            Ok((frame.header, frame.checksum, frame.payload.len(), size))
        };
        let mut found = whole(self.bytes(at, HEADER_BYTES)?);
        if let Err(NotAFrame::Incomplete(needed)) = found {
            found = whole(self.bytes(at, needed)?);
        }
        let from = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(0) + HEADER_BYTES;
        Ok(found.map(|(header, checksum, length, size)| Found {
            header,
            checksum,
            payload: from..from + length,
            size,
        }))
    }

    /// What is in the file from `at` on: at least `needed` bytes, unless it ends before.
    fn bytes(&mut self, at: u64, needed: usize) -> io::Result<&[u8]> {
        let there = self.window_at..self.window_at + self.window.len() as u64;
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let needed = needed.min(left);
        if !(there.start <= at && at + needed as u64 <= there.end && needed > 0) {
            let size = needed.max(WINDOW_BYTES).min(left);
            self.window.resize(size, 0);
            self.window_at = at;
            let mut filled = 0;
            while filled < size {
                let read = self.file.read_at(&mut self.window[filled..], at + filled as u64)?;
                if read == 0 {
                    // Somebody makes it shorter meanwhile. Waiting for the rest would take for ever.
                    self.window.clear();
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                filled += read;
            }
        }
        let from = usize::try_from(at - self.window_at).unwrap_or(0).min(self.window.len());
        Ok(&self.window[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Uid;

    /// A file that ends before it says so.
    #[derive(Debug)]
    struct Shrinking;

    impl DiskFile for Shrinking {
        fn size(&self) -> io::Result<u64> {
            Ok(3 * BLOCK_BYTES as u64)
        }

        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
            let size = bytes.len().min(2 * BLOCK_BYTES - usize::try_from(offset).unwrap());
            bytes[..size].fill(0);
            Ok(size)
        }

        fn write_all_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn set_len(&mut self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn a_file_that_becomes_shorter_meanwhile_is_an_error() {
        let about = About::behind(&Cursor::default(), &Uid::new("c0ffee"));
        let mut scan = Scan::new(&Shrinking, &about, about.cursor()).unwrap();
        for _ in 0..2 {
            assert_eq!(scan.step().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
