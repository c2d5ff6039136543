//! All sessions of an instance as of one revision, as a row of frames: what the log keeps as
//! snapshots, and what a backup is made of.
//!
//! ```text
//! ┌──────────┬──────────┬──────────┬───╌ ╌───┬──────────┬─────┐
//! │ snapshot │ sessions │ sessions │          │ sessions │ end │
//! └──────────┴──────────┴──────────┴───╌ ╌───┴──────────┴─────┘
//! ```
//!
//! Frames are numbered from 0 and chained, and the last one tells how many sessions there are: nothing
//! can be lost, added or exchanged unseen. Neither side holds more than one frame beside the sessions.
//!
//! - `encode`: sessions → frames
//! - `decode`: frames → sessions, and what is wrong with those that are none

mod decode;
mod encode;

use crate::domain::id::{InstanceId, Uid};
use crate::domain::table::Floor;
use crate::domain::time::Timestamp;

pub use decode::{Chain, Damage, Decoder, NotASnapshot};
pub use encode::Encoder;

/// Every checksum of a snapshot begins with this. Which instance it is of is told by its first frame.
pub(in crate::store) const SALT: u32 = 0x534E_4150;

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The instance that it is of.
    pub instance: InstanceId,
    /// The uid which that had.
    pub uid: Uid,
    /// When it was begun.
    pub created: Timestamp,
    /// The last frame of the log that it holds; zeros if it is of no log.
    pub position: Position,
    /// Numbers that were taken then, whether or not they had been used; zeros if it is of no log.
    pub taken: Floor,
}

/// A frame of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Its number.
    pub sequence: u64,
    /// Its checksum.
    pub checksum: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{arbitrary, record};

    proptest! {
        #[test]
        fn a_table_is_read_as_it_was_written_in_pieces_of_any_size(
            table in arbitrary::table(),
            taken: (u64, u64),
            sizes in prop::collection::vec(1_usize..3_000, 1..8),
        ) {
            let about = About {
                instance: "main".parse().unwrap(),
                uid: Uid::new("c0ffee"),
                created: Timestamp::from_micros(3),
                position: Position { sequence: 4, checksum: 5 },
                taken: record::floor(taken.0, taken.1),
            };
            let bytes: Vec<u8> = Encoder::new(about.clone(), table.clone()).flatten().collect();
            let mut decoder = Decoder::new(1_000);
            let mut rest = bytes.as_slice();
            for size in sizes.into_iter().cycle() {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                decoder.push(piece).unwrap();
                rest = behind;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(decoder.finish(), Ok((about, table)));
        }
    }
}
