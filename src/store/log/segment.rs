//! Segments: the files that a log is cut into. This file alone knows their names and how they begin.
//!
//! A segment is named by the sequence of its first frame. Its first block holds one frame that says
//! whose log this is and where in it the segment belongs; no append ever writes into that block again.

use crc32c::{crc32c, crc32c_append};
use prost::Message;

use crate::domain::id::{Revision, Uid};
use crate::domain::limits::LOG_FORMAT;
use crate::domain::table::Floor;
use crate::proto::storage as pb;
use crate::store::frame::{self, Header, Kind, NotAFrame};
use crate::store::log::scan::{Cursor, Reason};
use crate::store::record;
use crate::store::snapshot::Position;

/// The bytes before the first frame: a block of the disk, so that tearing an append spares it.
pub const BLOCK_BYTES: usize = 4_096;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The frame before the first one here.
    pub before: Position,
    /// The last revision before the first frame here.
    pub revision: Revision,
    /// Numbers that were taken before it.
    pub taken: Floor,
    /// What every checksum here begins with.
    pub salt: u32,
}

impl About {
    /// The segment that begins behind all that the cursor has seen, of the instance with this uid.
    pub fn behind(cursor: &Cursor, uid: &Uid) -> Self {
        let Cursor { position: before, revision, taken, sealed: _ } = *cursor;
        Self { before, revision, taken, salt: salt(uid, before.sequence + 1) }
    }

    /// What a walk has seen that begins here.
    pub fn cursor(&self) -> Cursor {
        let Self { before: position, revision, taken, salt: _ } = *self;
        Cursor { position, revision, taken, sealed: false }
    }

    /// The sequence of the first frame.
    pub fn first(&self) -> u64 {
        self.before.sequence + 1
    }
}

/// What every checksum begins with in the segment of this instance whose first frame has this sequence.
pub(super) fn salt(uid: &Uid, first: u64) -> u32 {
    crc32c_append(crc32c(uid.as_str().as_bytes()), &first.to_le_bytes())
}

/// The name of the segment whose first frame has this sequence.
pub fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The sequence of the first frame of the segment with this name.
pub fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// The block that a segment begins with.
pub fn write_block(about: &About, uid: &Uid) -> Vec<u8> {
    let message = pb::Segment {
        format: LOG_FORMAT,
        uid: uid.as_str().to_owned(),
        salt: about.salt,
        taken_revision: about.taken.revision.get(),
        taken_sesid: about.taken.sesid,
    };
    let header = Header {
        kind: Kind::Segment,
        sequence: about.first(),
        revision: about.revision.get(),
        previous: about.before.checksum,
    };
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    frame::write(&mut block, 0, header, |bytes| {
        message.encode(bytes).expect("a Vec takes everything");
    });
    assert!(block.len() <= BLOCK_BYTES, "a uid is short");
    block.resize(BLOCK_BYTES, 0);
    block
}

/// Reads the block of a segment of the instance with this uid, if the block is one.
pub fn read_block(block: &[u8], uid: &Uid) -> Result<About, Reason> {
    match read_any_block(block)? {
        (about, of) if of == *uid => Ok(about),
        _ => Err(Reason::Foreign),
    }
}

/// Reads the block of a segment, and of which instance it is.
pub(super) fn read_any_block(block: &[u8]) -> Result<(About, Uid), Reason> {
    let (frame, size) = frame::read(block, 0)?;
    let message = pb::Segment::decode(frame.payload).map_err(|_| Reason::Undecodable)?;
    let Some(sequence) = frame.header.sequence.checked_sub(1) else {
        return Err(Reason::OutOfPlace);
    };
    if frame.header.kind != Kind::Segment || message.format == 0 {
        return Err(Reason::OutOfPlace);
    }
    if message.format > LOG_FORMAT {
        return Err(Reason::Newer(message.format));
    }
    if block[size..].iter().any(|byte| *byte != 0) {
        return Err(Reason::OutOfPlace);
    }
    if block.len() != BLOCK_BYTES {
        return Err(Reason::Frame(NotAFrame::Incomplete(BLOCK_BYTES)));
    }
    let before = Position { sequence, checksum: frame.header.previous };
    let about = About {
        before,
        revision: Revision::new(frame.header.revision),
        taken: record::floor(message.taken_revision, message.taken_sesid),
        salt: message.salt,
    };
    Ok((about, Uid::new(&message.uid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_the_log_goes_on() {
        assert!(name(9) < name(10));
        assert_eq!(first_of(&name(4_711)), Some(4_711));
        for other in ["1.log", "0000000000000000000x.log", "spare", "+0000000000000000001.log"] {
            assert_eq!(first_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_bit_of_the_block_counts() {
        let uid = Uid::new("c0ffee");
        let cursor = Cursor {
            position: Position { sequence: 6, checksum: 99 },
            revision: Revision::new(40),
            ..Cursor::default()
        };
        let about = About::behind(&cursor, &uid);
        assert_eq!(about.cursor(), cursor);
        let block = write_block(&about, &uid);
        assert_eq!(block.len(), BLOCK_BYTES);
        assert_eq!(read_block(&block, &uid), Ok(about));
        assert_eq!(read_block(&block, &Uid::new("decaf")), Err(Reason::Foreign));
        for bit in 0..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_block(&flipped, &uid).is_err(), "bit {bit}");
        }
    }
}
