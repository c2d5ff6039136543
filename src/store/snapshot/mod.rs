//! All that is known of an instance as of one revision, as a row of frames: what the log keeps as
//! snapshots, and what a backup is made of.
//!
//! ```text
//! ┌──────────┬─────────┬╌ ╌┬──────────┬──────────┬╌ ╌┬─────────┬╌ ╌┬─────┐
//! │ snapshot │ threads │   │ sessions │ sessions │   │ answers │   │ end │
//! └──────────┴─────────┴╌ ╌┴──────────┴──────────┴╌ ╌┴─────────┴╌ ╌┴─────┘
//! ```
//!
//! Frames are numbered from 0 and chained, and the first one tells how much of everything there is:
//! nothing can be lost, added or exchanged unseen. Neither side holds more than one frame beside the
//! table.
//!
//! - `encode`: a table → frames
//! - `decode`: frames → a table, and what is wrong with those that are none; `reading` is what has been
//!   read so far
//! - `session`, `thread`, `answer`: what frames are filled with ↔ messages
//! - `owners`: the list of threads that all of them refer to

mod answer;
mod decode;
mod encode;
mod owners;
mod reading;
mod session;
#[cfg(test)]
mod tests;
mod thread;

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
