//! Frames: the only shape of bytes that is written. Bytes ↔ frame, and nothing about files.
//!
//! ```text
//!  0        4        8        12       16                24                32        36
//!  ├────────┼────────┼────────┼────────┼─────────────────┼─────────────────┼─────────┼─────────╌
//!  │ magic  │ kind   │ length │previous│ sequence        │ revision        │checksum │ payload, zeros
//!  └────────┴────────┴────────┴────────┴─────────────────┴─────────────────┴─────────┴─────────╌
//! ```
//!
//! Little-endian. `length` is that of the payload; zeros fill the frame up to a multiple of eight.
//! `previous` is the checksum of the frame before, so frames cannot be swapped, dropped or repeated.
//! `checksum` is CRC-32C, begun with the salt of the file, over all other bytes of the frame.

use crc32c::crc32c_append;

use crate::domain::limits::FRAME_BYTES_MAX;

/// The first bytes of a frame: "JSF" and the version of this layout.
pub const MAGIC: [u8; 4] = *b"JSF1";

/// The bytes before the payload.
pub const HEADER_BYTES: usize = 36;

/// Frames begin at multiples of this, so a search for frames has few places to look.
pub const ALIGNMENT: usize = 8;

/// The longest payload.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - ALIGNMENT;

/// Where the checksum is: after everything else in the header.
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The beginning of a segment of the log.
    Segment = 1,
    /// Changes that were committed together.
    Changes = 2,
    /// Numbers that are taken.
    Numbers = 3,
    /// The log was closed in good order.
    Seal = 4,
    /// The beginning of a snapshot or a backup.
    Snapshot = 5,
    /// Sessions of a snapshot.
    Sessions = 6,
    /// The end of a snapshot.
    SnapshotEnd = 7,
    /// The record of an instance.
    Instance = 8,
    /// The floor of the directory.
    Floor = 9,
    /// Leases and losses of threads, in a snapshot.
    Threads = 10,
    /// Answers of a snapshot that are kept for retries.
    Answers = 11,
    /// What is kept of an instance that was deleted.
    Gone = 12,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 12] = [
        Self::Segment,
        Self::Changes,
        Self::Numbers,
        Self::Seal,
        Self::Snapshot,
        Self::Sessions,
        Self::SnapshotEnd,
        Self::Instance,
        Self::Floor,
        Self::Threads,
        Self::Answers,
        Self::Gone,
    ];

    /// The kind with this number.
    pub(super) fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Everything in a frame but the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: Kind,
    /// One more than that of the frame before.
    pub sequence: u64,
    /// Of changes, the revision of the first; else the last revision before the frame.
    pub revision: u64,
    /// The checksum of the frame before; 0 for the first.
    pub previous: u32,
}

/// A frame whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it says of itself.
    pub header: Header,
    /// What it holds.
    pub payload: &'a [u8],
    /// Its checksum, which the next frame repeats.
    pub checksum: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAFrame {
    /// They go on behind the end: this many are needed at least.
    #[error("the frame is cut off: it has at least {0} bytes")]
    Incomplete(usize),
    /// The magic, the kind or the length is none that is written.
    #[error("there is no frame here")]
    Foreign,
    /// The checksum is that of other bytes.
    #[error("the checksum is wrong")]
    Checksum,
}

/// How many bytes a frame with a payload of this length takes.
pub const fn frame_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// Adds a frame to `bytes`; `payload` writes what it holds. Answers the checksum.
///
/// # Panics
///
/// If the payload is longer than a frame may be: whoever fills frames bounds them.
pub fn write(
    bytes: &mut Vec<u8>,
    salt: u32,
    header: Header,
    payload: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; HEADER_BYTES]);
    payload(bytes);
    let length = bytes.len() - start - HEADER_BYTES;
    let frame = frame_bytes(length);
    assert!(frame <= FRAME_BYTES_MAX, "a frame is bounded by whoever fills it");
    let length = u32::try_from(length).expect("bounded just before");
    bytes.resize(start + frame, 0);
    let frame = &mut bytes[start..];
    frame[0..4].copy_from_slice(&MAGIC);
    frame[4..8].copy_from_slice(&(header.kind as u32).to_le_bytes());
    frame[8..12].copy_from_slice(&length.to_le_bytes());
    frame[12..16].copy_from_slice(&header.previous.to_le_bytes());
    frame[16..24].copy_from_slice(&header.sequence.to_le_bytes());
    frame[24..32].copy_from_slice(&header.revision.to_le_bytes());
    let checksum = checksum(salt, frame);
    frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// The frame at the beginning of `bytes`, and how many bytes it takes.
pub fn read(bytes: &[u8], salt: u32) -> Result<(Frame<'_>, usize), NotAFrame> {
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        let begins =
            MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) || bytes.starts_with(&MAGIC);
        return Err(if begins { NotAFrame::Incomplete(HEADER_BYTES) } else { NotAFrame::Foreign });
    };
    let length = usize::try_from(u32_at(header, 8)).map_err(|_| NotAFrame::Foreign)?;
    let kind = Kind::of(u32_at(header, 4));
    let (true, Some(kind), true) = (header.starts_with(&MAGIC), kind, length <= PAYLOAD_BYTES_MAX)
    else {
        return Err(NotAFrame::Foreign);
    };
    let size = frame_bytes(length);
    let frame = bytes.get(..size).ok_or(NotAFrame::Incomplete(size))?;
    let found = u32_at(frame, CHECKSUM_AT);
    if found != checksum(salt, frame) {
        return Err(NotAFrame::Checksum);
    }
    let header = Header {
        kind,
        previous: u32_at(frame, 12),
        sequence: u64_at(frame, 16),
        revision: u64_at(frame, 24),
    };
    let payload = &frame[HEADER_BYTES..HEADER_BYTES + length];
    Ok((Frame { header, payload, checksum: found }, size))
}

fn checksum(salt: u32, frame: &[u8]) -> u32 {
    crc32c_append(crc32c_append(salt, &frame[..CHECKSUM_AT]), &frame[HEADER_BYTES..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header { kind: Kind::Changes, sequence: 7, revision: 40, previous: 99 };

    fn framed(salt: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, salt, HEADER, |bytes| bytes.extend_from_slice(payload));
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(salt: u32, payload: Vec<u8>, behind: Vec<u8>) {
            let mut bytes = framed(salt, &payload);
            let size = bytes.len();
            prop_assert_eq!(size % ALIGNMENT, 0);
            bytes.extend_from_slice(&behind);

            let (frame, taken) = read(&bytes, salt).unwrap();

            prop_assert_eq!(frame.header, HEADER);
            prop_assert_eq!(frame.payload, payload.as_slice());
            prop_assert_eq!(taken, size);
        }

        #[test]
        fn no_bytes_make_it_panic(salt: u32, bytes: Vec<u8>) {
            if let Ok((frame, size)) = read(&bytes, salt) {
                prop_assert!(frame.payload.len() <= size && size <= bytes.len());
            }
        }

        #[test]
        fn another_salt_is_another_file(salt: u32, other: u32, payload: Vec<u8>) {
            prop_assume!(salt != other);
            let bytes = framed(salt, &payload);
            prop_assert_eq!(read(&bytes, other), Err(NotAFrame::Checksum));
        }
    }

    #[test]
    fn every_bit_counts() {
        let whole = framed(5, b"thirteen byte");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, 5).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_part_is_incomplete_and_says_how_much_is_needed() {
        let whole = framed(5, b"payload");
        for cut in 0..whole.len() {
            match read(&whole[..cut], 5) {
                Err(NotAFrame::Incomplete(needed)) => {
                    assert!(needed > cut && needed <= whole.len(), "{cut}");
                }
                other => panic!("{cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_read() {
        let mut bytes = framed(5, b"payload");
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&bytes, 5), Err(NotAFrame::Foreign));
    }
}
